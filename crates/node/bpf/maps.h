/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every map, once. All objects include this file and share the maps through their pins, so that a
 * restarted agent finds what the programs know. Sizes are bounds; what happens at each is said in
 * docs/kernel-maps.md and counted in `counters`.
 */
#ifndef SELVEDGE_MAPS_H
#define SELVEDGE_MAPS_H

#include "kernel.h"

#define MAP(name, map_type, key_type, value_type, entries, map_flags_value)                        \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
		__uint(max_entries, entries);                                                      \
		__uint(map_flags, map_flags_value);                                                \
	} name SEC(".maps")

#define ON_DEMAND BPF_F_NO_PREALLOC

/* Intent, written by the agent alone. */
MAP(config, BPF_MAP_TYPE_ARRAY, __u32, struct sv_config, 1, 0);
MAP(generation, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1, 0);
MAP(services, BPF_MAP_TYPE_HASH, struct sv_service_key, struct sv_service, 65536, ON_DEMAND);
MAP(endpoints, BPF_MAP_TYPE_HASH, struct sv_endpoint_key, struct sv_endpoint, 262144, ON_DEMAND);
MAP(workloads, BPF_MAP_TYPE_HASH, __u64, struct sv_workload, 65536, ON_DEMAND);
MAP(limits, BPF_MAP_TYPE_HASH, __u32, __u32, 65536, ON_DEMAND);
MAP(mesh_names, BPF_MAP_TYPE_HASH, __u64, __u8, 262144, ON_DEMAND);
MAP(published, BPF_MAP_TYPE_HASH, struct sv_published_key, struct sv_published, 1024, ON_DEMAND);

/* Liveness and state, written by the programs alone. */
MAP(listeners, BPF_MAP_TYPE_HASH, struct sv_listener_key, struct sv_listener, 65536, ON_DEMAND);
MAP(owners, BPF_MAP_TYPE_HASH, struct sv_owner_key, struct sv_owner, 65536, ON_DEMAND);
MAP(in_flight, BPF_MAP_TYPE_HASH, __u32, struct sv_in_flight, 65536, ON_DEMAND);
MAP(datagrams, BPF_MAP_TYPE_LRU_HASH, struct sv_datagram_key, struct sv_datagram, 16384, 0);
MAP(departed, BPF_MAP_TYPE_LRU_HASH, struct sv_departed_key, struct sv_departed, 4096, 0);
MAP(settled, BPF_MAP_TYPE_LRU_HASH, struct sv_settled_key, __u8, 4096, 0);
MAP(next_private, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);

/* Counters. */
MAP(edges, BPF_MAP_TYPE_PERCPU_HASH, struct sv_edge_key, struct sv_edge, 65536, ON_DEMAND);
MAP(edge_details, BPF_MAP_TYPE_PERCPU_HASH, struct sv_edge_key, struct sv_edge_detail, 16384, ON_DEMAND);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, SV_COUNTERS, 0);

/* Per socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sv_socket);
} sockets SEC(".maps");

/* On the proxy's listening sockets, put there by the agent: a socket without it is not ours,
 * whatever port it has. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} ours SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} events SEC(".maps");

/* Listening sockets of workloads of published services; the kernel removes what closes. */
MAP(published_listeners, BPF_MAP_TYPE_SOCKHASH, struct sv_listener_key, __u64, 16384, 0);

/* Where the proxy takes connections from outside: one socket of its group, put there by the agent. The
 * kernel removes what closes, so that none is there while the proxy is away. */
MAP(outside_listener, BPF_MAP_TYPE_SOCKMAP, __u32, __u64, 1, 0);

#endif
