/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The direct path, and where the proxy's begins. connect() to a service's virtual address goes straight
 * to one of its endpoints, or to the proxy where the service says so; the program keeps seeing the
 * address it asked for.
 *
 * A service that needs the proxy goes without while that is away (bpf/ours.h), or refuses, as it says.
 * Connections led to the proxy hold no slot of their service's limit: those that the proxy makes for
 * them do (bpf/upstream.bpf.c).
 *
 * Hooks: cgroup/connect4, connect6 (TCP, and UDP sockets that connect), getpeername4, getpeername6.
 * Returns: 1 = go on, 0 = refuse with the errno set by bpf_set_retval.
 * Absent: virtual addresses answer ECONNREFUSED, since nothing listens on them.
 */
#include "ours.h"
#include "route.h"

static __always_inline int refuse(__u32 source, __u32 destination, __u32 reason)
{
	count_refusal(source, destination, reason);
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

/* Whether the proxy takes the connection; if so, `to` says where. IPv6 sockets reach it v4-mapped, as
 * they do the virtual address. */
static __always_inline bool to_proxy(struct bpf_sock_addr *ctx, const struct sv_config *cfg,
				     struct destination *to)
{
	if (!cfg->proxy_port || !ours_has(ctx, cfg->proxy_port, false))
		return false;
	to->address = mapped(LOOPBACK4);
	to->port = cfg->proxy_port;
	return true;
}

/* Finds where a connection to the service goes: gives 0, or the reason to refuse it. */
static __always_inline __u32 to_service(struct bpf_sock_addr *ctx, const struct sv_config *cfg,
					const struct sv_service *service, const struct request *ask,
					struct destination *to, bool *proxied)
{
	struct choice choice = { .key = { .service = service->id,
					  .port = ask->key.port,
					  .protocol = ask->key.protocol,
					  .version = service->version },
				 .to = to,
				 .ipv6_socket = ask->ipv6_socket };

	if (service->flags & SV_SERVICE_PROXIED) {
		*proxied = to_proxy(ctx, cfg, to);
		if (*proxied)
			return 0;
		if (service->flags & SV_SERVICE_PROXY_ONLY)
			return PROXY_AWAY;
	}
	return choose(service, &choice) ? 0 : choice.reason;
}

/* Notes that the record's socket goes to the service, at `port`, and counts it; false where its connection
 * limit is reached. */
static __always_inline bool admit(struct sv_socket *record, const struct sv_service *service,
				  __u8 protocol, __u16 port, bool proxied)
{
	struct sv_edge *edge;

	if (protocol == IPPROTO_TCP && published_tcp(port))
		record->flags |= SV_SETTLED;
	if (proxied)
		record->flags |= SV_PROXIED;
	else if (service->flags & SV_SERVICE_LIMITED && protocol == IPPROTO_TCP &&
		 !take_slot(record, service->id))
		return false;
	record->destination = service->id;
	if (service->flags & SV_SERVICE_DETAILED) {
		record->flags |= SV_DETAILED;
		record->started_ns = bpf_ktime_get_ns();
	} else {
		/* For pinned.bpf.c, which needs it to a few milliseconds only: no clock is read. */
		record->started_ns = bpf_ktime_get_coarse_ns();
	}
	record->attempt = protocol == IPPROTO_TCP;
	edge = edge_of(record->source, service->id);
	if (!edge)
		return true;
	__sync_fetch_and_add(&edge->connections, 1);
	if (service->flags & SV_SERVICE_PROXIED && !proxied)
		__sync_fetch_and_add(&edge->bypassed, 1);
	return true;
}

/* Gives 1 and a filled `to` with `*led` set, 1 to go on untouched, or 0 = refused. */
static __always_inline int route(struct bpf_sock_addr *ctx, const struct request *ask,
				 struct destination *to, bool *led)
{
	const struct sv_config *cfg = configuration();
	struct bpf_sock *socket = ctx->sk;
	struct sv_service *service;
	struct sv_socket *record;
	struct caller caller;
	bool proxied = false;
	bool virtual;
	__u32 reason;

	*led = false;
	if (!cfg || !socket)
		return 1;
	record = bpf_sk_storage_get(&sockets, socket, 0, 0);
	if (record) {
		/* Led to the resolver a moment ago: resolver.bpf.c runs before this program. */
		if (record->flags & SV_RESOLVER && ask->key.port == cfg->resolver_port)
			return 1;
		forget(record);
	}
	service = bpf_map_lookup_elem(&services, &ask->key);
	virtual = in_virtual_range(cfg, &ask->key.address);
	if (!service && !virtual && !is_self(&ask->key.address))
		return 1;

	/* The C library connects UDP sockets, of which it sends nothing, to find out which addresses can be
	 * reached (RFC 6724 sorting). It is told yes; what is sent all the same finds nobody on port 0. */
	if (!service && virtual && ask->key.protocol == IPPROTO_UDP) {
		to->address = ask->key.address;
		*led = true;
		return 1;
	}
	caller = caller_of(kernel_socket(socket));
	if (!service) {
		if (virtual)
			return refuse_unserved(caller.service, &ask->key.address);
		if (!to_own_port(&caller, ask, to))
			return 1;
	} else {
		if (!at_home(cfg, kernel_socket(socket)))
			return refuse(caller.service, service->id, NETWORK_NAMESPACE);
		reason = to_service(ctx, cfg, service, ask, to, &proxied);
		if (reason)
			return refuse(caller.service, service->id, reason);
	}

	record = bpf_sk_storage_get(&sockets, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!record) {
		count(SV_RECORDS_FAILED);
		if (service)
			bpf_set_retval(-ECONNREFUSED);
		return !service;
	}
	record->peer = ask->key.address;
	record->peer_port = ask->key.port;
	record->cgroup = caller.cgroup;
	record->source = caller.service;
	record->destination = 0;
	record->flags = SV_ROUTED;
	if (service && !admit(record, service, ask->key.protocol, to->port, proxied)) {
		record->flags = 0;
		return refuse(caller.service, service->id, CONNECTION_LIMIT);
	}
	*led = true;
	return 1;
}

SEC("cgroup/connect4")
int sv_connect4(struct bpf_sock_addr *ctx)
{
	struct request ask = { .key = { .address = mapped(ctx->user_ip4),
					.port = ctx->user_port,
					.protocol = ctx->protocol } };
	struct destination to = {};
	bool led;
	int verdict = route(ctx, &ask, &to, &led);

	if (led) {
		ctx->user_ip4 = is_mapped(&to.address) ? to.address.word[3] : LOOPBACK4;
		ctx->user_port = to.port;
	}
	return verdict;
}

SEC("cgroup/connect6")
int sv_connect6(struct bpf_sock_addr *ctx)
{
	struct request ask = { .ipv6_socket = true };
	struct destination to = {};
	int verdict;
	bool led;

	ask.key.address = user_address6(ctx);
	ask.key.port = ctx->user_port;
	ask.key.protocol = ctx->protocol;
	verdict = route(ctx, &ask, &to, &led);
	if (led) {
		set_user6(ctx, &to.address, to.port);
	}
	return verdict;
}

static __always_inline struct sv_socket *routed(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *socket = ctx->sk;
	struct sv_socket *record;

	if (!socket)
		return 0;
	record = bpf_sk_storage_get(&sockets, socket, 0, 0);
	return record && record->flags & SV_ROUTED ? record : 0;
}

SEC("cgroup/getpeername4")
int sv_getpeername4(struct bpf_sock_addr *ctx)
{
	struct sv_socket *record = routed(ctx);

	if (record) {
		ctx->user_ip4 = record->peer.word[3];
		ctx->user_port = record->peer_port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int sv_getpeername6(struct bpf_sock_addr *ctx)
{
	struct sv_socket *record = routed(ctx);

	if (record) {
		set_user6(ctx, &record->peer, record->peer_port);
	}
	return 1;
}
