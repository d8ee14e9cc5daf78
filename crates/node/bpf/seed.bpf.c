/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Listeners that were there before their cgroup joined the mesh or their service was published: each
 * gets what bind and listen would have noted. Run by the agent, by reading the iterators once, when
 * either happens.
 *
 * Hooks: iter/tcp, iter/udp. Returns: 0 = go on.
 * Absent: programs of a joined cgroup become endpoints only when they are started anew.
 */
#include "mesh.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct udp_sock;

#pragma clang attribute pop

struct bpf_iter__tcp {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct sock_common *, sk_common);
	__u32 uid;
};

struct bpf_iter__udp {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct udp_sock *, udp_sk);
	__u32 uid;
	int bucket;
};

static __always_inline void seed(void *socket, __u8 protocol)
{
	struct sock_common *common = socket;
	struct sock *sk = socket;
	const struct sv_config *cfg = configuration();
	struct sv_listener_key key = { .protocol = protocol };
	struct sv_listener fresh = { .holders = 1 };
	struct sv_address address = {};
	struct sv_listener *listener;
	struct sv_socket *record;
	struct caller caller;
	__u16 port = BPF_CORE_READ(common, skc_num);

	if (!cfg || !port || !at_home(cfg, sk))
		return;
	caller = caller_of(sk);
	if (!caller.cgroup || caller.flags & SV_WORKLOAD_SHARED_PORTS)
		return;
	record = bpf_sk_storage_get(&sockets, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!record || record->bound)
		return;
	record->cgroup = caller.cgroup;
	record->source = caller.service;
	record->asked = bpf_htons(port);
	record->bound = 1;
	key.cgroup = caller.cgroup;
	key.port = record->asked;
	fresh.claimed_ns = bpf_ktime_get_ns();
	fresh.actual = record->asked;
	if (bpf_map_update_elem(&listeners, &key, &fresh, BPF_NOEXIST)) {
		listener = bpf_map_lookup_elem(&listeners, &key);
		if (!listener) {
			count(SV_LISTENERS_FULL);
			return;
		}
		__sync_fetch_and_add(&listener->holders, 1);
	}
	if (BPF_CORE_READ(common, skc_family) == AF_INET)
		address = mapped(BPF_CORE_READ(common, skc_rcv_saddr));
	else
		bpf_core_read(&address, sizeof(address), &common->skc_v6_rcv_saddr);
	start_listening(record, protocol, &address,
			BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_ipv6only));
}

/* A listener of a service that has been published since it began to listen. */
static __always_inline void keep_at_hand(struct tcp_sock *socket)
{
	struct sv_listener_key key = { .protocol = IPPROTO_TCP };
	struct sock_common *common = (void *)socket;
	struct sv_socket *record = bpf_sk_storage_get(&sockets, socket, 0, 0);
	struct sv_workload *workload;

	if (!record || !record->listening)
		return;
	workload = bpf_map_lookup_elem(&workloads, &record->cgroup);
	if (!workload || !(workload->flags & SV_WORKLOAD_PUBLISHED))
		return;
	key.cgroup = record->cgroup;
	key.port = record->asked;
	key.ipv6 = BPF_CORE_READ(common, skc_family) == AF_INET6;
	if (bpf_map_update_elem(&published_listeners, &key, socket, BPF_ANY))
		count(SV_PUBLISHED_FULL);
}

SEC("iter/tcp")
int sv_seed_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *socket;

	if (!common || BPF_CORE_READ(common, skc_state) != TCP_LISTEN)
		return 0;
	socket = bpf_skc_to_tcp_sock(common);
	if (!socket)
		return 0;
	seed(socket, IPPROTO_TCP);
	keep_at_hand(socket);
	return 0;
}

SEC("iter/udp")
int sv_seed_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *socket = ctx->udp_sk;
	struct sock_common *bound = (void *)socket;

	/* A connected socket, a client's as a rule, serves nobody else. */
	if (socket && !BPF_CORE_READ(bound, skc_daddr))
		seed(socket, IPPROTO_UDP);
	return 0;
}
