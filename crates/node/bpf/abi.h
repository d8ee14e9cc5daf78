/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What kernel programs and the agent share, and all they share. `src/sys/abi.rs` mirrors this file
 * with size and offset assertions; a test compares both with the BTF of the built objects.
 *
 * Conventions: addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2);
 * ports are in network order; a service's id is its virtual IPv4 address in host order; a workload's
 * id is the id of its cgroup. Structures used as keys have no implicit padding.
 */
#ifndef SELVEDGE_ABI_H
#define SELVEDGE_ABI_H

/* Version of every layout below; part of the pin path. Any change here is a new number. */
#define SV_LAYOUT 5

#define SV_REASONS 16
#define SV_HISTOGRAM_BUCKETS 64

struct sv_address {
	__u32 word[4];
};

/* --- intent: written by the agent, read by the programs ------------------------------------- */

struct sv_config {
	__u32 network;       /* inode of the network namespace that local endpoints live in */
	__u32 virtual_net;   /* first virtual address, network order */
	__u32 virtual_mask;  /* its mask, network order */
	__u16 private_first; /* first private port, host order */
	__u16 private_count; /* how many there are */
	__u16 resolver_port; /* port of the mesh's resolver, network order; 0 = none */
	__u16 proxy_port;    /* port at which the proxy takes connections, network order; 0 = none */
};

struct sv_service_key {
	struct sv_address address;
	__u16 port;    /* port and protocol 0: the service itself, which has no endpoints */
	__u8 protocol;
	__u8 pad;
};

#define SV_SERVICE_LIMITED 1  /* it has an entry in `limits` */
#define SV_SERVICE_DETAILED 2 /* bytes, connect time and open connections are counted */
#define SV_SERVICE_PROXIED 4  /* through the proxy while that is there; TCP ports alone */
#define SV_SERVICE_PROXY_ONLY 8 /* ... and refused while it is not */

struct sv_service {
	__u32 id;
	__u32 endpoints; /* slots 0 .. endpoints-1 of this version exist */
	__u8 version;    /* of its endpoint set: a new set is written beside the old, then switched to */
	__u8 flags;
	__u16 pad;
};

struct sv_endpoint_key {
	__u32 service;
	__u32 slot;
	__u16 port;
	__u8 protocol;
	__u8 version;
};

/*
 * One slot of the alias table (M. D. Vose, "A linear algorithm for generating random numbers with a
 * given distribution", 1991): a slot is drawn evenly, then kept if a random 32-bit number is at most
 * `threshold`, else `alias` is taken.
 */
struct sv_endpoint {
	__u64 cgroup; /* the workload; 0 = outside, then `address` says where */
	struct sv_address address;
	__u32 threshold;
	__u32 alias;
	__u16 port; /* the port asked for, for a workload; the real one outside */
	__u16 pad[3];
};

#define SV_WORKLOAD_SHARED_PORTS 1 /* replicas may bind the same port */
#define SV_WORKLOAD_RESOLVER 2     /* its look-ups are led to the mesh's resolver */
#define SV_WORKLOAD_PUBLISHED 4    /* its listeners are kept at hand for callers outside */

struct sv_workload {
	__u32 service;
	__u32 flags;
};

struct sv_published_key {
	__u16 port; /* network order */
	__u8 protocol;
	__u8 pad;
};

struct sv_published {
	struct sv_service_key service; /* all zero: a Gateway's, of which the proxy alone knows more */
};

/*
 * The proxy names a workload of this host by an address: this /64, which is discarded wherever it goes
 * (RFC 6666, here 100::/64), then the workload's id in network order. `Place::upstream_address` in
 * crates/model/src/service.rs makes it.
 */
#define SV_UPSTREAM_PREFIX 0x0100000000000000ULL /* upper half of the address, host order */
/*
 * ... and an IPv4 endpoint outside of a service with a connection limit by 100:0:0:1::/64, which nobody
 * forwards either (RFC 9780), then the service's id and the endpoint's address.
 */
#define SV_UPSTREAM_OUTSIDE 0x0100000000000001ULL

/* --- what the programs keep ------------------------------------------------------------------ */

struct sv_listener_key {
	__u64 cgroup;
	__u16 port; /* as the program asked */
	__u8 protocol;
	__u8 ipv6; /* in `published_listeners`: the socket's family; else 0 */
	__u8 pad[4];
};

struct sv_listener {
	__u64 claimed_ns;  /* bpf_ktime_get_ns of the claim; says when an unconfirmed one has died */
	__u32 holders;     /* sockets bound to it */
	__u32 listening4;  /* of these, how many take IPv4 connections or datagrams */
	__u32 listening6;
	__u32 address4;    /* network order; 0 = any */
	struct sv_address address6;
	__u16 actual; /* the port the kernel has, network order */
	__u16 pad[3];
};

struct sv_owner_key {
	__u16 port; /* the port the kernel has, network order */
	__u8 protocol;
	__u8 pad;
};

struct sv_owner {
	__u64 cgroup;
	__u16 asked; /* network order */
	__u16 pad[3];
};

#define SV_ROUTED 1   /* connect() was led elsewhere: `peer` is what the program asked for */
#define SV_RESOLVER 2 /* ... namely to the mesh's resolver */
#define SV_SYN 4      /* a SYN has left and its connection's end is asked for: the state callback sees it */
#define SV_ACCEPTED 8 /* `peer` is what the caller asked for, `cgroup` who it is; so too, on the
		       * resolver's sockets, of the datagram read last */
#define SV_DETAILED 16
#define SV_PROXIED 32 /* as SV_RESOLVER, to where the proxy takes connections to services */
#define SV_TOLD 64    /* ... and the proxy has accepted it, and knows whose it is */
#define SV_SETTLED 128 /* led to an endpoint whose real port is also a published one: `settled` says so */

/* Per socket (sk_storage). */
struct sv_socket {
	struct sv_address peer;
	__u64 cgroup;      /* who connects */
	__u64 started_ns;  /* of the attempt */
	__u32 source;      /* service ids of the edge */
	__u32 destination;
	__u32 flags;
	__u32 slot;        /* service whose connection slot is held; exchanged to 0 when given back */
	__u32 attempt;     /* 1 while a connect has neither succeeded nor been counted as failed */
	__u32 open;        /* 1 while counted as open */
	__u16 peer_port;
	__u16 asked;       /* port asked for in bind(), 0 = none */
	__u32 bound;       /* 1 once a bind is confirmed; exchanged to 0 when given back */
	__u32 listening;   /* 4 | 6 bits below; exchanged to 0 when given back */
	__u32 pad;
};
#define SV_LISTENING4 1
#define SV_LISTENING6 2

struct sv_datagram_key {
	__u64 cookie;
	struct sv_address address; /* towards `services`: what was asked; back: where it was led */
	__u16 port;
	__u16 back;
	__u32 pad;
};

struct sv_datagram {
	struct sv_address address;
	__u64 cgroup; /* of the endpoint, to notice its end; 0 = outside */
	__u16 port;
	__u16 asked;
	__u32 pad;
};

/* Who made a connection to the proxy that was closed before the proxy accepted it. */
struct sv_departed_key {
	__u32 address4; /* of the caller's end, network order */
	__u16 port;     /* network order */
	__u16 pad;
};

struct sv_departed {
	struct sv_address peer; /* these three as in struct sv_socket */
	__u64 cgroup;
	__u32 next; /* sequence number that the caller expected next */
	__u16 peer_port;
	__u16 pad;
};

/* A connection of this host that has been led to its endpoint. */
struct sv_settled_key {
	__u16 from; /* ports in network order */
	__u16 to;
};

struct sv_in_flight {
	__u32 now;
	__u32 highest;
};

struct sv_edge_key {
	__u32 source; /* 0 = not a workload */
	__u32 destination;
};

struct sv_edge {
	__u64 connections; /* attempts that were led to an endpoint, or to the proxy */
	__u64 failures;    /* of these, how many were never established */
	__u64 bypassed;    /* of these, how many went directly because the proxy was away */
	__u64 refused[SV_REASONS];
};

/* Only for services with detailed counters. */
struct sv_edge_detail {
	__u64 opened;
	__u64 closed;
	__u64 bytes_sent;
	__u64 bytes_received;
	__u64 connect_ns;
	__u64 connect_time[SV_HISTOGRAM_BUCKETS]; /* bucket i: 2^i <= ns < 2^(i+1) */
};

/* Indices of `counters`. */
enum sv_counter {
	SV_EDGES_FULL,         /* connections of an edge that found no room in `edges` */
	SV_LISTENERS_FULL,     /* binds that found no room in `listeners` or `owners` */
	SV_RECORDS_FAILED,     /* sockets for which no record could be allocated: passed on unrouted */
	SV_EVENTS_LOST,        /* events that found the ring full */
	SV_RESOLVER_LED,       /* look-ups led to the mesh's resolver */
	SV_RESOLVER_BYPASSED,  /* look-ups let go their own way because the resolver was away */
	SV_NAMES_HELD_BACK,    /* queries for mesh names dropped while the resolver was away */
	SV_PRIVATE_DROPPED,    /* packets from off the host to private ports */
	SV_CLAIMS_EXPIRED,     /* binds that were claimed and never confirmed */
	SV_MULTIPATH_REFUSED,
	SV_PUBLISHED_LED,      /* connections from outside led to a replica */
	SV_PUBLISHED_UNSERVED, /* ... for which no replica listened */
	SV_DETAILS_FULL,       /* events of an edge that found no room in `edge_details` */
	SV_PUBLISHED_FULL,     /* listeners that found no room in `published_listeners` */
	SV_UPSTREAM_UNSERVED,  /* connections of the proxy to workloads that do not listen */
	SV_UPSTREAM_LIMITED,   /* ..., or to endpoints outside, refused at their service's connection limit */
	SV_GATEWAY_LED,        /* connections from outside to ports of Gateways, led to the proxy */
	SV_GATEWAY_REFUSED,    /* ... refused because it was away */
	SV_COUNTERS,
};

/* Said by pinned.bpf.c of one connection. */
struct sv_pinned {
	__u64 age_ns;
	__u32 service;
	__u16 port; /* of the service, network order */
	__u16 pad;
};

#define SV_EVENT_LISTENING 1
#define SV_EVENT_GONE 2

struct sv_event {
	__u64 cgroup;
	__u16 asked;  /* network order */
	__u16 actual; /* network order */
	__u8 kind;
	__u8 protocol;
	__u8 pad[2];
};

#endif
