/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What several programs need: addresses, who calls, counting, giving back. */
#ifndef SELVEDGE_MESH_H
#define SELVEDGE_MESH_H

#include "maps.h"

#define V4_MAPPED bpf_htonl(0x0000ffff)
#define LOOPBACK4 bpf_htonl(0x7f000001)
#define LOOPBACK6 bpf_htonl(1)

/* Reason numbers: crates/model/src/reason.rs. */
enum sv_reason {
	NO_SUCH_PORT = 1,
	NO_ENDPOINT = 2,
	CONNECTION_LIMIT = 3,
	ADDRESS_FAMILY = 4,
	NETWORK_NAMESPACE = 5,
	NO_SUCH_SERVICE = 6,
	RESOLVER_AWAY = 7,
	PRIVILEGED_PORT = 8,
	PORTS_EXHAUSTED = 9,
	PRIVATE_PORT = 10,
	MULTIPATH = 11,
	PROXY_AWAY = 12,
};

static __always_inline struct sv_address mapped(__u32 address4)
{
	return (struct sv_address){ .word = { 0, 0, V4_MAPPED, address4 } };
}

static __always_inline bool is_mapped(const struct sv_address *a)
{
	return a->word[0] == 0 && a->word[1] == 0 && a->word[2] == V4_MAPPED;
}

/* ::1 or :: */
static __always_inline bool is_self6(const struct sv_address *a)
{
	return a->word[0] == 0 && a->word[1] == 0 && a->word[2] == 0 &&
	       (a->word[3] == LOOPBACK6 || a->word[3] == 0);
}

/* 127/8 and 0.0.0.0, v4-mapped or not, ::1 and ::, all of which reach this host and only it. */
static __always_inline bool is_self(const struct sv_address *a)
{
	if (is_mapped(a))
		return a->word[3] == 0 || (a->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return is_self6(a);
}

static __always_inline bool same_address(const struct sv_address *a, const struct sv_address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static __always_inline struct sv_address user_address6(struct bpf_sock_addr *ctx)
{
	struct sv_address address;

	address.word[0] = ctx->user_ip6[0];
	address.word[1] = ctx->user_ip6[1];
	address.word[2] = ctx->user_ip6[2];
	address.word[3] = ctx->user_ip6[3];
	return address;
}

static __always_inline void set_user6(struct bpf_sock_addr *ctx, const struct sv_address *address,
				      __u16 port)
{
	ctx->user_ip6[0] = address->word[0];
	ctx->user_ip6[1] = address->word[1];
	ctx->user_ip6[2] = address->word[2];
	ctx->user_ip6[3] = address->word[3];
	ctx->user_port = port;
}

static __always_inline const struct sv_config *configuration(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

/* The publication of a TCP port of this host. */
static __always_inline struct sv_published *published_tcp(__u16 port)
{
	struct sv_published_key key = { .port = port, .protocol = IPPROTO_TCP };

	return bpf_map_lookup_elem(&published, &key);
}

static __always_inline void count(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/*
 * The kernel's own pointer behind a context's socket. Contexts of these program types have typed
 * socket pointers that the verifier lets no one read through; read the pointer's value out of the
 * stack slot that holds it and what comes out is a plain address for bpf_probe_read_kernel.
 * bpf_rdonly_cast would say this better, but Linux 6.1 lacks it.
 */
static __always_inline struct sock *kernel_socket(void *pointer)
{
	void *volatile slot = pointer;
	struct sock *sk = 0;

	bpf_probe_read_kernel(&sk, sizeof(sk), (const void *)&slot);
	return sk;
}

/* Whether the socket is in the network namespace that local endpoints live in. */
static __always_inline bool at_home(const struct sv_config *cfg, struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) == cfg->network;
}

struct caller {
	__u64 cgroup;  /* the workload; 0 = none */
	__u32 service;
	__u32 flags;
};

#define CGROUP_DEPTH 8

/*
 * Whose socket this is: the workload whose cgroup the socket was made in, or the nearest one above.
 * A socket keeps the cgroup it was made in, so the socket is asked and not the current task.
 */
static __always_inline struct caller caller_of(struct sock *sk)
{
	struct caller caller = {};
	struct sv_workload *workload;
	struct cgroup *cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	__u64 id = BPF_CORE_READ(cgroup, kn, id);
	int level, up;

	workload = bpf_map_lookup_elem(&workloads, &id);
	if (!workload) {
		level = BPF_CORE_READ(cgroup, level);
		for (up = 1; up < CGROUP_DEPTH; up++) {
			struct cgroup *ancestor = 0;

			if (up >= level)
				return caller;
			BPF_CORE_READ_INTO(&ancestor, cgroup, ancestors[level - up]);
			id = BPF_CORE_READ(ancestor, kn, id);
			workload = bpf_map_lookup_elem(&workloads, &id);
			if (workload)
				break;
		}
		if (!workload)
			return caller;
	}
	caller.cgroup = id;
	caller.service = workload->service;
	caller.flags = workload->flags;
	return caller;
}

/* The edge's counters, made at first use; none where the map is full, and then that is counted. */
static __always_inline struct sv_edge *edge_of(__u32 source, __u32 destination)
{
	static const struct sv_edge empty;
	struct sv_edge_key key = { .source = source, .destination = destination };
	struct sv_edge *edge = bpf_map_lookup_elem(&edges, &key);

	if (edge)
		return edge;
	bpf_map_update_elem(&edges, &key, &empty, BPF_NOEXIST);
	edge = bpf_map_lookup_elem(&edges, &key);
	if (!edge)
		count(SV_EDGES_FULL);
	return edge;
}

static __always_inline void count_refusal(__u32 source, __u32 destination, __u32 reason)
{
	struct sv_edge *edge = edge_of(source, destination);

	if (edge)
		__sync_fetch_and_add(&edge->refused[reason & (SV_REASONS - 1)], 1);
}

static __always_inline struct sv_edge_detail *detail_of(const struct sv_socket *record)
{
	static const struct sv_edge_detail empty;
	struct sv_edge_key key = { .source = record->source, .destination = record->destination };
	struct sv_edge_detail *detail = bpf_map_lookup_elem(&edge_details, &key);

	if (detail)
		return detail;
	bpf_map_update_elem(&edge_details, &key, &empty, BPF_NOEXIST);
	detail = bpf_map_lookup_elem(&edge_details, &key);
	if (!detail)
		count(SV_DETAILS_FULL);
	return detail;
}

/* An attempt that is over and was never established is a failure, counted once. */
static __always_inline void settle_attempt(struct sv_socket *record)
{
	struct sv_edge *edge;

	if (!record->attempt || !__sync_lock_test_and_set(&record->attempt, 0))
		return;
	edge = edge_of(record->source, record->destination);
	if (edge)
		__sync_fetch_and_add(&edge->failures, 1);
}

static __always_inline void give_back_slot(struct sv_socket *record)
{
	struct sv_in_flight *in;
	__u32 service;

	if (!record->slot)
		return;
	service = __sync_lock_test_and_set(&record->slot, 0);
	if (!service)
		return;
	in = bpf_map_lookup_elem(&in_flight, &service);
	if (in)
		__sync_fetch_and_add(&in->now, -1);
}

/* A socket that is connected anew: what its last attempt left is settled first. */
static __always_inline void forget(struct sv_socket *record)
{
	settle_attempt(record);
	give_back_slot(record);
	record->flags = 0;
}

static __always_inline void tell(__u8 kind, __u64 cgroup, __u16 asked, __u16 actual, __u8 protocol)
{
	struct sv_event event = {
		.cgroup = cgroup,
		.asked = asked,
		.actual = actual,
		.kind = kind,
		.protocol = protocol,
	};

	if (bpf_ringbuf_output(&events, &event, sizeof(event), 0))
		count(SV_EVENTS_LOST);
}

#define CLAIM_LIFE_NS 100000000ULL

/* Whether a port was claimed for a bind that failed: bpf/ports.bpf.c. */
static __always_inline bool dead_claim(const struct sv_listener *listener)
{
	return !listener->holders && bpf_ktime_get_ns() - listener->claimed_ns > CLAIM_LIFE_NS;
}

/* One socket fewer listens. The entry itself goes with its last holder. */
static __always_inline void stop_listening(struct sv_socket *record, __u8 protocol)
{
	struct sv_listener_key key = {
		.cgroup = record->cgroup, .port = record->asked, .protocol = protocol
	};
	struct sv_listener *listener;
	__u32 was;

	if (!record->listening)
		return;
	was = __sync_lock_test_and_set(&record->listening, 0);
	if (!was)
		return;
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener)
		return;
	if (was & SV_LISTENING4)
		__sync_fetch_and_add(&listener->listening4, -1);
	if (was & SV_LISTENING6)
		__sync_fetch_and_add(&listener->listening6, -1);
	if (!listener->listening4 && !listener->listening6)
		tell(SV_EVENT_GONE, record->cgroup, record->asked, listener->actual, protocol);
}

/* Notes that a socket listens on `address`, of an IPv4, an IPv6-only or a dual-stack socket. */
static __always_inline void start_listening(struct sv_socket *record, __u8 protocol,
					    const struct sv_address *address, bool only6)
{
	struct sv_listener_key key = {
		.cgroup = record->cgroup, .port = record->asked, .protocol = protocol
	};
	struct sv_listener *listener = bpf_map_lookup_elem(&listeners, &key);
	__u32 now = 0;

	if (!listener || record->listening)
		return;
	if (is_mapped(address)) {
		now = SV_LISTENING4;
		listener->address4 = address->word[3];
	} else {
		now = SV_LISTENING6;
		listener->address6 = *address;
		if (!only6 && !address->word[0] && !address->word[1] && !address->word[2] &&
		    !address->word[3]) {
			now |= SV_LISTENING4;
			listener->address4 = 0;
		}
	}
	record->listening = now;
	if (now & SV_LISTENING4)
		__sync_fetch_and_add(&listener->listening4, 1);
	if (now & SV_LISTENING6)
		__sync_fetch_and_add(&listener->listening6, 1);
	tell(SV_EVENT_LISTENING, record->cgroup, record->asked, listener->actual, protocol);
}

#endif
