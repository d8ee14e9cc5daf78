/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What comes from off the host. The private ports of replicas answer nobody there, so that no rule
 * of the host's firewall about the port asked for is dodged; published TCP ports reach every replica, or
 * the proxy where their service needs it, as the ports of Gateways do. The proxy knows by the port what was
 * meant, so that the connection needs no record. (Replicas have a published UDP port themselves:
 * ports.bpf.c.)
 *
 * A replica may really have a published port. Whoever the mesh has led there is not led once more: `settled`
 * knows the connection.
 *
 * Hook: sk_lookup, in the node's network namespace. Returns: SK_PASS or SK_DROP (RST, or ICMP port
 * unreachable).
 * Absent: private ports are reachable wherever the program's address is, and nothing is published, nor do
 * Gateways serve.
 */
#include "route.h"

/* The interface 0 is no packet's: a look-up by another program asks whether a socket is there. */
#define LOOPBACK_INTERFACE 1

struct publication {
	struct bpf_sk_lookup *ctx;
	struct sv_endpoint_key key;
	__u32 first;
	__u32 endpoints;
	bool assigned;
};

/* Hands the packet to the endpoint's listener, where it has one. */
static __always_inline bool assign(struct bpf_sk_lookup *ctx, const struct sv_endpoint *endpoint)
{
	struct sv_listener_key key = { .cgroup = endpoint->cgroup,
				       .port = endpoint->port,
				       .protocol = IPPROTO_TCP };
	struct bpf_sock *listener;
	long failed;

	/* The two families' listeners of a replica stand side by side: bpf/sockops.bpf.c. */
	key.ipv6 = ctx->family == AF_INET6;
	listener = bpf_map_lookup_elem(&published_listeners, &key);
	if (!listener) {
		key.ipv6 = !key.ipv6;
		listener = bpf_map_lookup_elem(&published_listeners, &key);
		if (!listener)
			return false;
	}
	failed = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	return !failed;
}

static long assign_in_turn(__u32 index, void *context)
{
	struct publication *to = context;
	struct sv_endpoint *endpoint;

	to->key.slot = to->first + index;
	if (to->key.slot >= to->endpoints)
		to->key.slot -= to->endpoints;
	endpoint = bpf_map_lookup_elem(&endpoints, &to->key);
	if (!endpoint || !endpoint->cgroup || !assign(to->ctx, endpoint))
		return 0;
	to->assigned = true;
	return 1;
}

/* Hands the packet to the proxy, where that is there. Of its sockets, one per thread, the kernel chooses
 * (SO_REUSEPORT). */
static __always_inline bool lead_to_proxy(struct bpf_sk_lookup *ctx)
{
	struct bpf_sock *listener;
	__u32 zero = 0;
	long failed;

	listener = bpf_map_lookup_elem(&outside_listener, &zero);
	if (!listener)
		return false;
	failed = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	return !failed;
}

/* Whether this is a connection of this host that has been led to its endpoint. */
static __always_inline bool is_settled(struct bpf_sk_lookup *ctx, __u16 port)
{
	struct sv_settled_key key = { .from = ctx->remote_port, .to = port };

	return ctx->ingress_ifindex == LOOPBACK_INTERFACE && bpf_map_lookup_elem(&settled, &key);
}

/* On the edge of callers that are no workloads, as connect.bpf.c counts those of others. */
static __always_inline void count_connection(const struct sv_service *service, bool bypassed)
{
	struct sv_edge *edge = edge_of(0, service->id);

	if (!edge)
		return;
	__sync_fetch_and_add(&edge->connections, 1);
	if (bypassed)
		__sync_fetch_and_add(&edge->bypassed, 1);
}

/* Leads a connection to a Gateway's port to the proxy; nothing else serves it. */
static __always_inline int lead_to_gateway(struct bpf_sk_lookup *ctx)
{
	bool led = lead_to_proxy(ctx);

	count(led ? SV_GATEWAY_LED : SV_GATEWAY_REFUSED);
	return led ? SK_PASS : SK_DROP;
}

/* Leads a connection to a published port to the proxy or a replica, wherever it comes from. */
static __always_inline int lead(struct bpf_sk_lookup *ctx, const struct sv_published *published_port)
{
	struct sv_service *service = bpf_map_lookup_elem(&services, &published_port->service);
	struct publication to = { .ctx = ctx };

	if (service && service->flags & SV_SERVICE_PROXIED) {
		if (lead_to_proxy(ctx)) {
			count_connection(service, false);
			return SK_PASS;
		}
		if (service->flags & SV_SERVICE_PROXY_ONLY) {
			count_refusal(0, service->id, PROXY_AWAY);
			return SK_DROP;
		}
		count_connection(service, true);
	}
	if (service && service->endpoints) {
		to.key.service = service->id;
		to.key.port = published_port->service.port;
		to.key.protocol = IPPROTO_TCP;
		to.key.version = service->version;
		to.endpoints = service->endpoints;
		to.first = ((__u64)bpf_get_prandom_u32() * service->endpoints) >> 32;
		bpf_loop(service->endpoints, assign_in_turn, &to, 0);
		if (to.assigned) {
			count(SV_PUBLISHED_LED);
			return SK_PASS;
		}
	}
	count(SV_PUBLISHED_UNSERVED);
	return SK_DROP;
}

/*
 * Whether a replica holds the port in place of the one it asked for. The number alone does not say:
 * programs outside the mesh may have ports among the private ones.
 */
static __always_inline bool is_private(__u16 port, __u8 protocol)
{
	struct sv_owner_key key = { .port = port, .protocol = protocol };
	struct sv_owner *owner = bpf_map_lookup_elem(&owners, &key);
	struct sv_listener_key held = { .protocol = protocol };
	struct sv_listener *listener;

	if (!owner || owner->asked == port)
		return false;
	held.cgroup = owner->cgroup;
	held.port = owner->asked;
	listener = bpf_map_lookup_elem(&listeners, &held);
	return listener && listener->actual == port && !dead_claim(listener);
}

SEC("sk_lookup")
int sv_inbound(struct bpf_sk_lookup *ctx)
{
	struct sv_published *published_port;
	__u16 port = bpf_htons(ctx->local_port);

	if (ctx->protocol == IPPROTO_TCP) {
		published_port = published_tcp(port);
		if (published_port && !is_settled(ctx, port))
			return published_port->service.port ? lead(ctx, published_port) :
							       lead_to_gateway(ctx);
	}
	if (ctx->ingress_ifindex <= LOOPBACK_INTERFACE || !is_private(port, ctx->protocol))
		return SK_PASS;
	count(SV_PRIVATE_DROPPED);
	return SK_DROP;
}
