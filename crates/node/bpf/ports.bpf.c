/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One port, many replicas. The first replica to bind a port keeps it if nobody listens there; every
 * other gets a private port, one per {replica, protocol, asked port}, shared by all sockets that the
 * replica binds to it (SO_REUSEPORT groups, an IPv4 and an IPv6-only pair). Programs see the port
 * they asked for.
 *
 * A published UDP port is the exception: replicas have it themselves, as one SO_REUSEPORT group over
 * which the kernel spreads callers. An answer leaves from the port its socket is bound to, and a
 * caller outside the mesh takes it from the port it asked only. Linux lets sockets of one user share.
 *
 * A claim is made in bind, before the kernel tries, and confirmed in post_bind, after it succeeded;
 * a claim that is not confirmed within CLAIM_LIFE_NS belonged to a bind that failed and is dead. The
 * last holder's release gives the port back.
 *
 * Hooks: cgroup/bind4, bind6, post_bind4, post_bind6, getsockname4, getsockname6, sock_release.
 * Returns: 1 = go on, 0 = refuse with the errno set by bpf_set_retval.
 * Absent: the second replica to bind a port gets EADDRINUSE, and no endpoint is seen to listen.
 */
#include "mesh.h"

#define PRIVILEGED_PORTS 1024

/* Whether somebody listens on the port, on the wildcard or loopback address of either family. */
static __always_inline bool listened_on(struct bpf_sock_addr *ctx, __u16 port, __u8 protocol)
{
	struct bpf_sock_tuple four = {};
	struct bpf_sock_tuple six = {};
	struct bpf_sock *found;

	four.ipv4.daddr = LOOPBACK4;
	four.ipv4.dport = port;
	six.ipv6.daddr[3] = LOOPBACK6;
	six.ipv6.dport = port;
	if (protocol == IPPROTO_TCP)
		found = bpf_sk_lookup_tcp(ctx, &four, sizeof(four.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		found = bpf_sk_lookup_udp(ctx, &four, sizeof(four.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (found) {
		bpf_sk_release(found);
		return true;
	}
	if (protocol == IPPROTO_TCP)
		found = bpf_sk_lookup_tcp(ctx, &six, sizeof(six.ipv6), BPF_F_CURRENT_NETNS, 0);
	else
		found = bpf_sk_lookup_udp(ctx, &six, sizeof(six.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return false;
	bpf_sk_release(found);
	return true;
}

/* Makes `port` belong to {cgroup, asked}, unless somebody owns it. */
static __always_inline bool own(__u16 port, __u8 protocol, __u64 cgroup, __u16 asked)
{
	struct sv_owner_key key = { .port = port, .protocol = protocol };
	struct sv_owner owner = { .cgroup = cgroup, .asked = asked };

	return !bpf_map_update_elem(&owners, &key, &owner, BPF_NOEXIST);
}

static __always_inline void disown(__u16 port, __u8 protocol)
{
	struct sv_owner_key key = { .port = port, .protocol = protocol };

	bpf_map_delete_elem(&owners, &key);
}

/* Drops an owner whose claim has died: its bind failed, or its replica was killed in between. */
static __always_inline void bury(__u16 port, __u8 protocol)
{
	struct sv_owner_key key = { .port = port, .protocol = protocol };
	struct sv_owner *owner = bpf_map_lookup_elem(&owners, &key);
	struct sv_listener_key held = { .protocol = protocol };
	struct sv_listener *listener;

	if (!owner)
		return;
	held.cgroup = owner->cgroup;
	held.port = owner->asked;
	listener = bpf_map_lookup_elem(&listeners, &held);
	if (listener && !dead_claim(listener))
		return;
	if (listener) {
		bpf_map_delete_elem(&listeners, &held);
		count(SV_CLAIMS_EXPIRED);
	}
	bpf_map_delete_elem(&owners, &key);
}

struct search {
	struct bpf_sock_addr *ctx;
	__u64 cgroup;
	__u32 first, count, start;
	__u16 asked, found;
	__u8 protocol;
};

static long try_private(__u32 index, void *context)
{
	struct search *s = context;
	__u16 port;

	if (!s->count)
		return 1;
	port = bpf_htons(s->first + (s->start + index) % s->count);
	if (!own(port, s->protocol, s->cgroup, s->asked)) {
		bury(port, s->protocol);
		if (!own(port, s->protocol, s->cgroup, s->asked))
			return 0;
	}
	if (listened_on(s->ctx, port, s->protocol)) {
		disown(port, s->protocol);
		return 0;
	}
	s->found = port;
	return 1;
}

/* The publication that makes a port one that replicas share. */
static __always_inline struct sv_published *shared_port(__u16 port, __u8 protocol)
{
	struct sv_published_key key = { .port = port, .protocol = IPPROTO_UDP };

	return protocol == IPPROTO_UDP ? bpf_map_lookup_elem(&published, &key) : 0;
}

static __always_inline bool shares(__u32 service, __u16 port, __u8 protocol)
{
	struct sv_published *shared = shared_port(port, protocol);

	return shared && bpf_ntohl(shared->service.address.word[3]) == service;
}

static __always_inline bool is_owned(__u16 port, __u8 protocol)
{
	struct sv_owner_key key = { .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&owners, &key);
}

/* The real port if it is free or shared with us, else a private one; 0 when none was free. */
static __always_inline __u16 pick(struct bpf_sock_addr *ctx, const struct sv_config *cfg,
				  __u64 cgroup, __u32 service, __u16 asked, __u8 protocol)
{
	__u32 zero = 0;
	__u32 *next = bpf_map_lookup_elem(&next_private, &zero);
	struct search s = { .ctx = ctx,
			    .cgroup = cgroup,
			    .first = cfg->private_first,
			    .count = cfg->private_count,
			    .asked = asked,
			    .protocol = protocol };

	bury(asked, protocol);
	if (shared_port(asked, protocol)) {
		/* One that bound it before it was published has it alone until it ends. */
		if (shares(service, asked, protocol) && !is_owned(asked, protocol))
			return asked;
	} else if (own(asked, protocol, cgroup, asked)) {
		if (!listened_on(ctx, asked, protocol))
			return asked;
		disown(asked, protocol);
	}
	if (!next)
		return 0;
	s.start = __sync_fetch_and_add(next, 1);
	bpf_loop(cfg->private_count, try_private, &s, 0);
	return s.found;
}

/* The port that {cgroup, asked} has or now gets; 0 when there is none. */
static __always_inline __u16 claim(struct bpf_sock_addr *ctx, const struct sv_config *cfg,
				   const struct caller *caller, __u16 asked, __u8 protocol)
{
	struct sv_listener_key key = { .cgroup = caller->cgroup, .port = asked, .protocol = protocol };
	struct sv_listener *listener = bpf_map_lookup_elem(&listeners, &key);
	struct sv_listener fresh = {};

	if (listener) {
		if (!dead_claim(listener))
			return listener->actual;
		disown(listener->actual, protocol);
		bpf_map_delete_elem(&listeners, &key);
		count(SV_CLAIMS_EXPIRED);
	}
	fresh.claimed_ns = bpf_ktime_get_ns();
	fresh.actual = pick(ctx, cfg, caller->cgroup, caller->service, asked, protocol);
	if (!fresh.actual)
		return 0;
	if (!bpf_map_update_elem(&listeners, &key, &fresh, BPF_NOEXIST))
		return fresh.actual;
	/* Another socket of this replica was quicker: its port is ours too. */
	disown(fresh.actual, protocol);
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (listener)
		return listener->actual;
	count(SV_LISTENERS_FULL);
	return 0;
}

static __always_inline bool may_bind_privileged(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	const struct cred *cred = BPF_CORE_READ(task, cred);
	__u64 capabilities = 0;

	bpf_core_read(&capabilities, sizeof(capabilities), &cred->cap_effective);
	return capabilities >> CAP_NET_BIND_SERVICE & 1;
}

static __always_inline int bind_port(struct bpf_sock_addr *ctx)
{
	const struct sv_config *cfg = configuration();
	struct bpf_sock *socket = ctx->sk;
	__u16 asked = ctx->user_port;
	__u8 protocol = ctx->protocol;
	struct sv_socket *record;
	struct caller caller;
	__u16 port;
	int one = 1;

	if (!cfg || !socket || !asked || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return 1;
	if (!at_home(cfg, kernel_socket(socket)))
		return 1;
	caller = caller_of(kernel_socket(socket));
	if (!caller.cgroup)
		return 1;
	record = bpf_sk_storage_get(&sockets, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!record) {
		count(SV_RECORDS_FAILED);
		return 1;
	}
	record->cgroup = caller.cgroup;
	record->source = caller.service;
	record->asked = asked;
	if (!(caller.flags & SV_WORKLOAD_SHARED_PORTS))
		return 1;
	if (bpf_ntohs(asked) < PRIVILEGED_PORTS && !may_bind_privileged()) {
		count_refusal(caller.service, caller.service, PRIVILEGED_PORT);
		record->asked = 0;
		bpf_set_retval(-EACCES);
		return 0;
	}
	port = claim(ctx, cfg, &caller, asked, protocol);
	if (!port) {
		count_refusal(caller.service, caller.service, PORTS_EXHAUSTED);
		record->asked = 0;
		bpf_set_retval(-EADDRINUSE);
		return 0;
	}
	/* The port may have been another replica's a moment ago: TIME_WAIT must not block it. TCP only:
	 * on UDP the option would let another user share the port and take datagrams; SO_REUSEPORT lets
	 * nobody but the same user do so. */
	if (protocol == IPPROTO_TCP)
		bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	else if (port == asked && shares(caller.service, asked, protocol))
		bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	ctx->user_port = port;
	return 1;
}

SEC("cgroup/bind4")
int sv_bind4(struct bpf_sock_addr *ctx)
{
	return bind_port(ctx);
}

SEC("cgroup/bind6")
int sv_bind6(struct bpf_sock_addr *ctx)
{
	return bind_port(ctx);
}

static __always_inline bool only6(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_ipv6only);
}

/* The bind has succeeded: the claim is confirmed, and a UDP socket takes datagrams from now on. */
static __always_inline int confirm(struct bpf_sock *socket, const struct sv_address *address)
{
	struct sv_listener fresh = { .holders = 1 };
	struct sv_listener_key key = {};
	struct sv_listener *listener;
	struct sv_socket *record;

	record = bpf_sk_storage_get(&sockets, socket, 0, 0);
	if (!record || !record->asked || record->bound)
		return 1;
	key.cgroup = record->cgroup;
	key.port = record->asked;
	key.protocol = socket->protocol;
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (listener) {
		__sync_fetch_and_add(&listener->holders, 1);
	} else {
		/* Ports kept as asked have no claim; and a shared one's may have been given back by
		 * the last other holder between our bind and now. */
		fresh.claimed_ns = bpf_ktime_get_ns();
		fresh.actual = bpf_htons(socket->src_port);
		if (bpf_map_update_elem(&listeners, &key, &fresh, BPF_NOEXIST)) {
			listener = bpf_map_lookup_elem(&listeners, &key);
			if (!listener) {
				count(SV_LISTENERS_FULL);
				return 1;
			}
			__sync_fetch_and_add(&listener->holders, 1);
		}
		own(fresh.actual, key.protocol, record->cgroup, record->asked);
	}
	record->bound = 1;
	if (key.protocol == IPPROTO_UDP)
		start_listening(record, IPPROTO_UDP, address,
				socket->family == AF_INET6 && only6(kernel_socket(socket)));
	return 1;
}

SEC("cgroup/post_bind4")
int sv_post_bind4(struct bpf_sock *ctx)
{
	struct sv_address address = mapped(ctx->src_ip4);

	return confirm(ctx, &address);
}

SEC("cgroup/post_bind6")
int sv_post_bind6(struct bpf_sock *ctx)
{
	struct sv_address address;

	address.word[0] = ctx->src_ip6[0];
	address.word[1] = ctx->src_ip6[1];
	address.word[2] = ctx->src_ip6[2];
	address.word[3] = ctx->src_ip6[3];
	return confirm(ctx, &address);
}

/* The port as asked, for listeners and for what they accepted: both have the private port. */
static __always_inline __u16 asked_for(__u16 port, __u8 protocol)
{
	struct sv_owner_key key = { .port = port, .protocol = protocol };
	struct sv_owner *owner = bpf_map_lookup_elem(&owners, &key);

	return owner ? owner->asked : port;
}

SEC("cgroup/getsockname4")
int sv_getsockname4(struct bpf_sock_addr *ctx)
{
	ctx->user_port = asked_for(ctx->user_port, ctx->protocol);
	return 1;
}

SEC("cgroup/getsockname6")
int sv_getsockname6(struct bpf_sock_addr *ctx)
{
	ctx->user_port = asked_for(ctx->user_port, ctx->protocol);
	return 1;
}

/*
 * The kernel drops the socket of a caller that has hung up while the other end has not, and keeps its
 * addresses alone. The proxy, which may not have accepted the connection yet, is still to learn whose
 * it was (bpf/origin.bpf.c), and gets what was sent.
 */
static __always_inline void leave_word(const struct sv_socket *record, struct sock *sk)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	struct sv_departed_key key = {};
	struct sv_departed word = {};

	if (state != TCP_ESTABLISHED && state != TCP_FIN_WAIT1 && state != TCP_FIN_WAIT2)
		return;
	/* The connection is over IPv4, whichever the socket's family. */
	key.address4 = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	key.port = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));
	word.peer = record->peer;
	word.peer_port = record->peer_port;
	word.cgroup = record->cgroup;
	word.next = BPF_CORE_READ((struct tcp_sock *)sk, rcv_nxt);
	bpf_map_update_elem(&departed, &key, &word, BPF_ANY);
}

/* The last reference to a socket is closed, by the program or by its death. */
SEC("cgroup/sock_release")
int sv_sock_release(struct bpf_sock *ctx)
{
	struct sv_socket *record = bpf_sk_storage_get(&sockets, ctx, 0, 0);
	struct sv_listener_key key = {};
	struct sv_listener *listener;

	if (!record)
		return 1;
	if (record->flags & SV_PROXIED && !(record->flags & SV_TOLD))
		leave_word(record, kernel_socket(ctx));
	settle_attempt(record);
	/* Once a SYN has left, the connection may outlive its socket: the state callback sees the end. */
	if (!(record->flags & SV_SYN))
		give_back_slot(record);
	stop_listening(record, ctx->protocol);
	if (!record->bound || !__sync_lock_test_and_set(&record->bound, 0))
		return 1;
	key.cgroup = record->cgroup;
	key.port = record->asked;
	key.protocol = ctx->protocol;
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener || __sync_fetch_and_add(&listener->holders, -1) != 1)
		return 1;
	disown(listener->actual, key.protocol);
	bpf_map_delete_elem(&listeners, &key);
	return 1;
}
