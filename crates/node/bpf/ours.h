/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether the proxy is there, which means that a socket of ours has its port: it carries a mark in
 * `ours` that only the agent can put. A stranger who binds the port of a dead mesh gets nothing.
 *
 * The agent holds the sockets too. So while a proxy that has ended is started again it still counts as
 * there, and what is led to it waits in the sockets' queues; when it stays away the agent closes them
 * (crates/node/src/supervise.rs).
 */
#ifndef SELVEDGE_OURS_H
#define SELVEDGE_OURS_H

#include "mesh.h"

static __always_inline bool marked(struct bpf_sock *socket)
{
	bool is_ours;

	if (!socket)
		return false;
	is_ours = bpf_sk_storage_get(&ours, socket, 0, 0);
	bpf_sk_release(socket);
	return is_ours;
}

/* Whether a socket of ours has the port on the loopback address of this family, over the caller's
 * protocol and in the caller's network namespace. */
static __always_inline bool ours_has(struct bpf_sock_addr *ctx, __u16 port, bool ipv6)
{
	struct bpf_sock_tuple tuple = {};

	if (ipv6) {
		tuple.ipv6.daddr[3] = LOOPBACK6;
		tuple.ipv6.dport = port;
		if (ctx->protocol == IPPROTO_TCP)
			return marked(bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6),
							BPF_F_CURRENT_NETNS, 0));
		return marked(bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0));
	}
	tuple.ipv4.daddr = LOOPBACK4;
	tuple.ipv4.dport = port;
	if (ctx->protocol == IPPROTO_TCP)
		return marked(bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0));
	return marked(bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0));
}

#endif
