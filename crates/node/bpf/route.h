/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From what a program asked for to where it goes: shared by connect (streams) and sendmsg (datagrams). */
#ifndef SELVEDGE_ROUTE_H
#define SELVEDGE_ROUTE_H

#include "mesh.h"

struct destination {
	struct sv_address address;
	__u64 cgroup; /* of the workload; 0 = outside */
	__u16 port;
	__u16 asked; /* of the workload: the port its program asked for */
};

/* A choice in progress; `reason` says why nothing was found so far. */
struct choice {
	struct sv_endpoint_key key;
	struct destination *to;
	__u32 first;
	__u32 endpoints;
	__u32 reason;
	bool ipv6_socket;
	bool backwards;
	bool found;
};

/*
 * Where a workload listens, in a form that a socket of this family can reach: IPv4 first, since a
 * virtual address is IPv4; an IPv6 socket may also go to a listener that has IPv6 only.
 */
static __always_inline bool reach_listener(const struct sv_listener *listener, bool ipv6_socket,
					   struct destination *to)
{
	to->port = listener->actual;
	if (listener->listening4) {
		to->address = mapped(listener->address4 ?: LOOPBACK4);
		return true;
	}
	if (!ipv6_socket)
		return false;
	to->address = listener->address6;
	if (is_self6(&to->address))
		to->address.word[3] = LOOPBACK6;
	return true;
}

/* Whether the endpoint takes connections at this moment; if so, `to` says where. */
static __always_inline bool alive(const struct sv_endpoint *endpoint, struct choice *choice)
{
	struct sv_listener_key key = { .cgroup = endpoint->cgroup,
				       .port = endpoint->port,
				       .protocol = choice->key.protocol };
	struct destination *to = choice->to;
	struct sv_listener *listener;

	to->cgroup = endpoint->cgroup;
	if (!endpoint->cgroup) {
		to->address = endpoint->address;
		to->port = endpoint->port;
		if (choice->ipv6_socket || is_mapped(&to->address))
			return true;
		choice->reason = ADDRESS_FAMILY;
		return false;
	}
	to->asked = endpoint->port;
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener || (!listener->listening4 && !listener->listening6))
		return false;
	if (reach_listener(listener, choice->ipv6_socket, to))
		return true;
	choice->reason = ADDRESS_FAMILY;
	return false;
}

static long try_in_turn(__u32 index, void *context)
{
	struct choice *choice = context;
	struct sv_endpoint *endpoint;

	choice->key.slot = choice->first + (choice->backwards ? choice->endpoints - index : index);
	if (choice->key.slot >= choice->endpoints)
		choice->key.slot -= choice->endpoints;
	endpoint = bpf_map_lookup_elem(&endpoints, &choice->key);
	if (!endpoint || !alive(endpoint, choice))
		return 0;
	choice->found = true;
	return 1;
}

#define DRAWS 8

/*
 * Chooses an endpoint that is alive, by weight. A dead one is answered by another draw, so that its
 * share is spread over all others by their weights; when `DRAWS` draws met only dead ones, all are
 * tried in turn, from a random place and either way, so that one living endpoint is always found.
 */
static __always_inline bool choose(const struct sv_service *service, struct choice *choice)
{
	struct sv_endpoint *endpoint;
	int draw;

	choice->reason = NO_ENDPOINT;
	choice->found = false;
	if (!service->endpoints)
		return false;
	for (draw = 0; draw < DRAWS; draw++) {
		choice->key.slot = ((__u64)bpf_get_prandom_u32() * service->endpoints) >> 32;
		endpoint = bpf_map_lookup_elem(&endpoints, &choice->key);
		if (endpoint && endpoint->threshold != ~0U &&
		    bpf_get_prandom_u32() > endpoint->threshold) {
			choice->key.slot = endpoint->alias;
			endpoint = bpf_map_lookup_elem(&endpoints, &choice->key);
		}
		if (endpoint && alive(endpoint, choice))
			return true;
		if (service->endpoints == 1)
			return false;
	}
	choice->first = ((__u64)bpf_get_prandom_u32() * service->endpoints) >> 32;
	choice->backwards = bpf_get_prandom_u32() & 1;
	choice->endpoints = service->endpoints;
	bpf_loop(service->endpoints, try_in_turn, choice, 0);
	return choice->found;
}

/* What a program asks for. */
struct request {
	struct sv_service_key key;
	bool ipv6_socket;
};

/* Whoever calls the port it asked to listen on means itself, whatever port it got. */
static __always_inline bool to_own_port(const struct caller *caller, const struct request *ask,
					struct destination *to)
{
	struct sv_listener_key key = { .cgroup = caller->cgroup,
				       .port = ask->key.port,
				       .protocol = ask->key.protocol };
	struct sv_listener *listener;

	if (!caller->cgroup)
		return false;
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener || listener->actual == ask->key.port)
		return false;
	to->address = ask->key.address;
	to->port = listener->actual;
	return true;
}

static __always_inline bool in_virtual_range(const struct sv_config *cfg, const struct sv_address *a)
{
	return is_mapped(a) && cfg->virtual_mask && (a->word[3] & cfg->virtual_mask) == cfg->virtual_net;
}

/*
 * Refuses what is asked of a virtual address that serves no such port. Only addresses of services
 * have an edge of their own: there are as many others as the range is wide, and one program that
 * tries them all must not use up the room of everybody's edges.
 */
static __always_inline int refuse_unserved(__u32 source, const struct sv_address *address)
{
	struct sv_service_key key = { .address = *address };
	struct sv_service *any = bpf_map_lookup_elem(&services, &key);

	count_refusal(source, any ? any->id : 0, any ? NO_SUCH_PORT : NO_SUCH_SERVICE);
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

/*
 * Takes one of the service's connection slots for the socket, exactly: never more than the limit are
 * held, however many processors try. False when none is free; a service without a limit has no slots,
 * and none is held then. The rounds are bounded for the verifier; a caller that loses all of them to
 * others is refused as if the limit were reached, never let through.
 */
static __always_inline bool take_slot(struct sv_socket *record, __u32 service)
{
	__u32 *limit = bpf_map_lookup_elem(&limits, &service);
	struct sv_in_flight *in;
	__u32 now, seen;
	int round;

	if (!limit)
		return true;
	in = bpf_map_lookup_elem(&in_flight, &service);
	if (!in) {
		struct sv_in_flight none = {};

		bpf_map_update_elem(&in_flight, &service, &none, BPF_NOEXIST);
		in = bpf_map_lookup_elem(&in_flight, &service);
		if (!in)
			return false;
	}
	for (round = 0; round < 16; round++) {
		now = *(volatile __u32 *)&in->now;
		if (now >= *limit)
			return false;
		seen = __sync_val_compare_and_swap(&in->now, now, now + 1);
		if (seen == now) {
			if (now + 1 > in->highest)
				in->highest = now + 1;
			record->slot = service;
			return true;
		}
	}
	return false;
}

#endif
