/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tells the proxy where a connection or datagram was meant to go and who sent it, as an answer to
 * getsockopt(SOL_IPV6, 80), the option that netfilter calls IP6T_SO_ORIGINAL_DST. The answer is a
 * sockaddr_in6: address and port as the program asked (IPv4 as v4-mapped), flowinfo and scope id the
 * lower and upper half of the workload's cgroup id. On a socket for datagrams it is about the one
 * that was read last: as it is read, the sender's own socket is found and its record copied.
 *
 * Hooks: cgroup/recvmsg4, recvmsg6, getsockopt, on the proxy's cgroup alone. Returns: 1 always.
 * Absent: the proxy learns of no origin and answers nobody.
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

/* Keeps on the reading socket what the sender's socket says; nothing where it says nothing, so that
 * no datagram is taken for the one before it. */
static __always_inline int note_sender(struct bpf_sock_addr *ctx, struct bpf_sock *sender)
{
	struct sv_socket *from = 0, *record;
	struct bpf_sock *socket = ctx->sk;
	struct sv_socket copy = {};

	if (sender) {
		from = bpf_sk_storage_get(&sockets, sender, 0, 0);
		if (from && from->flags & SV_RESOLVER) {
			copy.peer = from->peer;
			copy.peer_port = from->peer_port;
			copy.cgroup = from->cgroup;
			copy.flags = SV_ACCEPTED;
		}
		bpf_sk_release(sender);
	}
	if (!socket)
		return 1;
	record = bpf_sk_storage_get(&sockets, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!record) {
		count(SV_RECORDS_FAILED);
		return 1;
	}
	record->peer = copy.peer;
	record->peer_port = copy.peer_port;
	record->cgroup = copy.cgroup;
	record->flags = copy.flags;
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

SEC("cgroup/recvmsg6")
int sv_origin_receive6(struct bpf_sock_addr *ctx)
{
	const struct sv_config *cfg = configuration();
	struct bpf_sock_tuple tuple = {};

	if (!cfg)
		return 1;
	tuple.ipv6.saddr[3] = LOOPBACK6;
	tuple.ipv6.sport = cfg->resolver_port;
	tuple.ipv6.daddr[0] = ctx->user_ip6[0];
	tuple.ipv6.daddr[1] = ctx->user_ip6[1];
	tuple.ipv6.daddr[2] = ctx->user_ip6[2];
	tuple.ipv6.daddr[3] = ctx->user_ip6[3];
	tuple.ipv6.dport = ctx->user_port;
	return note_sender(ctx, bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6),
						  BPF_F_CURRENT_NETNS, 0));
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
