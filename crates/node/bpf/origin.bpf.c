/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tells the proxy where a connection or datagram was meant to go and who sent it.
 *
 * The caller's own socket knows both, and is on this host: it is found by its addresses and its
 * record copied. Of a connection that is done as it is accepted, since the kernel asks for the
 * peer's name then; of a datagram as it is read. So only who is served by the proxy pays for being
 * known to it. A caller of a service that has hung up before has left word in `departed`.
 *
 * A datagram over IPv4 on an IPv6 socket brings the answer along, in its sender's address, where there
 * is room for it. Others are asked for with getsockopt(SOL_IPV6, 80), the option that netfilter calls
 * IP6T_SO_ORIGINAL_DST; on a socket for datagrams the answer is about the one that was read last. It
 * is a sockaddr_in6: address and port as the program asked (IPv4 as v4-mapped), flowinfo and scope id
 * the lower and upper half of the workload's cgroup id.
 *
 * Hooks: cgroup/recvmsg4, recvmsg6, getpeername4, getpeername6, getsockopt, on the proxy's cgroup
 * alone. Returns: 1 always.
 * Absent: the proxy learns of no origin and answers nobody; no connection to a service is led to it.
 */
#include "mesh.h"

struct answer {
	__u16 family;
	__u16 port;
	__u32 flowinfo;
	struct sv_address address;
	__u32 scope_id;
};

static __always_inline int fill(struct bpf_sockopt *ctx, const struct sv_address *peer, __u16 port,
				__u64 cgroup)
{
	struct answer *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end)
		return 1;
	answer->family = AF_INET6;
	answer->port = port;
	answer->flowinfo = cgroup;
	answer->address = *peer;
	answer->scope_id = cgroup >> 32;
	/* Two stores: the verifier refuses the one wide store that the compiler would make of them. */
	*(volatile __s32 *)&ctx->optlen = sizeof(*answer);
	*(volatile __s32 *)&ctx->retval = 0;
	return 1;
}

/* What the sender's socket says, if it was led to the proxy; puts `flags` on it and gives it back. */
static __always_inline struct sv_socket record_of(struct bpf_sock *sender, __u32 flags)
{
	struct sv_socket *record, copy = {};

	record = bpf_sk_storage_get(&sockets, sender, 0, 0);
	if (record && record->flags & (SV_RESOLVER | SV_PROXIED)) {
		copy.peer = record->peer;
		copy.peer_port = record->peer_port;
		copy.cgroup = record->cgroup;
		copy.flags = SV_ACCEPTED;
		record->flags |= flags;
	}
	bpf_sk_release(sender);
	return copy;
}

static __always_inline void keep(struct bpf_sock *socket, const struct sv_socket *sender)
{
	struct sv_socket *record;

	record = bpf_sk_storage_get(&sockets, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!record) {
		count(SV_RECORDS_FAILED);
		return;
	}
	record->peer = sender->peer;
	record->peer_port = sender->peer_port;
	record->cgroup = sender->cgroup;
	record->flags = sender->flags;
}

/* Keeps nothing where the sender's socket says nothing, so that no datagram is taken for the one
 * before it. */
static __always_inline int note_sender(struct bpf_sock_addr *ctx, struct bpf_sock *sender)
{
	struct sv_socket copy = {};

	if (sender)
		copy = record_of(sender, 0);
	if (ctx->sk)
		keep(ctx->sk, &copy);
	return 1;
}

SEC("cgroup/recvmsg4")
int sv_origin_receive4(struct bpf_sock_addr *ctx)
{
	const struct sv_config *cfg = configuration();
	struct bpf_sock_tuple tuple = {};

	if (!cfg)
		return 1;
	tuple.ipv4.saddr = LOOPBACK4;
	tuple.ipv4.sport = cfg->resolver_port;
	tuple.ipv4.daddr = ctx->user_ip4;
	tuple.ipv4.dport = ctx->user_port;
	return note_sender(ctx, bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4),
						  BPF_F_CURRENT_NETNS, 0));
}

/*
 * A datagram over IPv4 on an IPv6 socket: its sender's address has 16 bytes, of which IPv4 needs 4.
 * The workload's cgroup id and the server take the place of the others, so that nobody has to ask.
 * Otherwise the address stays v4-mapped, which begins like cgroup 0: no such cgroup exists. Then it
 * has to be asked: the sender may have no record, or one about an IPv6 server, which has no room here,
 * since it asks servers of both families from one socket and asked that one last.
 */
static __always_inline int tell_sender(struct bpf_sock_addr *ctx, __u16 resolver_port)
{
	struct bpf_sock_tuple tuple = {};
	struct sv_socket copy = {};
	struct bpf_sock *sender;

	tuple.ipv4.saddr = LOOPBACK4;
	tuple.ipv4.sport = resolver_port;
	tuple.ipv4.daddr = ctx->user_ip6[3];
	tuple.ipv4.dport = ctx->user_port;
	sender = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (sender)
		copy = record_of(sender, 0);
	if (copy.flags && is_mapped(&copy.peer)) {
		ctx->user_ip6[0] = copy.cgroup;
		ctx->user_ip6[1] = copy.cgroup >> 32;
		ctx->user_ip6[2] = copy.peer.word[3];
	} else if (ctx->sk) {
		keep(ctx->sk, &copy);
	}
	return 1;
}

/* Whether datagrams over IPv4 are this socket's. */
static __always_inline bool is_for_ipv4(struct bpf_sock *socket)
{
	struct sv_address own = {};

	if (!socket)
		return false;
	own.word[0] = socket->src_ip6[0];
	own.word[1] = socket->src_ip6[1];
	own.word[2] = socket->src_ip6[2];
	own.word[3] = socket->src_ip6[3];
	return is_mapped(&own);
}

SEC("cgroup/recvmsg6")
int sv_origin_receive6(struct bpf_sock_addr *ctx)
{
	const struct sv_config *cfg = configuration();
	struct sv_address address = user_address6(ctx);
	struct bpf_sock_tuple tuple = {};

	if (!cfg)
		return 1;
	if (is_mapped(&address))
		return tell_sender(ctx, cfg->resolver_port);
	/* Where routes make v4-mapped addresses local, as those for a transparent proxy do, IPv6 gets
	 * there too, with an address that says what its sender likes: that is nobody's. */
	if (is_for_ipv4(ctx->sk)) {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		return note_sender(ctx, 0);
	}
	tuple.ipv6.saddr[3] = LOOPBACK6;
	tuple.ipv6.sport = cfg->resolver_port;
	tuple.ipv6.daddr[0] = address.word[0];
	tuple.ipv6.daddr[1] = address.word[1];
	tuple.ipv6.daddr[2] = address.word[2];
	tuple.ipv6.daddr[3] = address.word[3];
	tuple.ipv6.dport = ctx->user_port;
	return note_sender(ctx, bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6),
						  BPF_F_CURRENT_NETNS, 0));
}

static __always_inline __u32 next_to_receive(struct bpf_sock *socket)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(socket);

	return tcp ? tcp->rcv_nxt : 0;
}

static __always_inline __u32 next_to_send(struct bpf_sock *socket)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(socket);

	return tcp ? tcp->snd_nxt : 0;
}

/*
 * Whether the caller's end still has to be found for this connection: once, as it is accepted. Later
 * the caller may be gone and its port another's.
 */
static __always_inline bool is_unknown(struct bpf_sock_addr *ctx)
{
	return ctx->sk && ctx->protocol == IPPROTO_TCP && !bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
}

/*
 * The socket at the other end's address may be that of a later connection, while this one waited to
 * be accepted. It is this one's if it expects the byte that this end sends next: the acceptor has
 * sent nothing yet, and the kernel chooses where its numbers start (RFC 6528).
 */
static __always_inline bool note_caller(struct bpf_sock_addr *ctx, struct bpf_sock *caller)
{
	struct sv_socket copy;
	bool same;

	if (!caller)
		return false;
	same = ctx->sk && next_to_receive(caller) == next_to_send(ctx->sk);
	copy = record_of(caller, same ? SV_TOLD : 0);
	if (!same || !copy.flags)
		return false;
	keep(ctx->sk, &copy);
	return true;
}

/* A caller that has hung up has left word (bpf/ports.bpf.c), which is told from others' in the same way. */
static __always_inline void note_departed(struct bpf_sock_addr *ctx)
{
	struct sv_departed_key key = { .address4 = ctx->user_ip4, .port = ctx->user_port };
	struct sv_departed *word = bpf_map_lookup_elem(&departed, &key);
	struct sv_socket copy = { .flags = SV_ACCEPTED };

	if (!word || !ctx->sk || word->next != next_to_send(ctx->sk))
		return;
	copy.peer = word->peer;
	copy.peer_port = word->peer_port;
	copy.cgroup = word->cgroup;
	keep(ctx->sk, &copy);
	bpf_map_delete_elem(&departed, &key);
}

SEC("cgroup/getpeername4")
int sv_origin_accept4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_tuple tuple = {};

	if (!is_unknown(ctx))
		return 1;
	tuple.ipv4.saddr = ctx->sk->src_ip4;
	tuple.ipv4.sport = bpf_htons(ctx->sk->src_port);
	tuple.ipv4.daddr = ctx->user_ip4;
	tuple.ipv4.dport = ctx->user_port;
	if (!note_caller(ctx, bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)))
		note_departed(ctx);
	return 1;
}

SEC("cgroup/getpeername6")
int sv_origin_accept6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_tuple tuple = {};

	if (!is_unknown(ctx))
		return 1;
	tuple.ipv6.saddr[0] = ctx->sk->src_ip6[0];
	tuple.ipv6.saddr[1] = ctx->sk->src_ip6[1];
	tuple.ipv6.saddr[2] = ctx->sk->src_ip6[2];
	tuple.ipv6.saddr[3] = ctx->sk->src_ip6[3];
	tuple.ipv6.sport = bpf_htons(ctx->sk->src_port);
	tuple.ipv6.daddr[0] = ctx->user_ip6[0];
	tuple.ipv6.daddr[1] = ctx->user_ip6[1];
	tuple.ipv6.daddr[2] = ctx->user_ip6[2];
	tuple.ipv6.daddr[3] = ctx->user_ip6[3];
	tuple.ipv6.dport = ctx->user_port;
	note_caller(ctx, bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0));
	return 1;
}

SEC("cgroup/getsockopt")
int sv_original_destination(struct bpf_sockopt *ctx)
{
	struct bpf_sock *socket = ctx->sk;
	struct sv_socket *record;

	if (ctx->level != SOL_IPV6 || ctx->optname != SO_ORIGINAL_DST || !socket)
		return 1;
	record = bpf_sk_storage_get(&sockets, socket, 0, 0);
	if (!record || !(record->flags & SV_ACCEPTED))
		return 1;
	return fill(ctx, &record->peer, record->peer_port, record->cgroup);
}
