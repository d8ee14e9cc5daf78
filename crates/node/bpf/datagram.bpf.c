/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services over UDP for sockets that do not connect: each datagram to a virtual address goes to the
 * endpoint that this socket was given for it, and answers seem to come from the virtual address.
 *
 * A datagram to the port that its own program asked for goes to the port that it got.
 *
 * Hooks: cgroup/sendmsg4, sendmsg6, recvmsg4, recvmsg6. (An IPv6 socket that sends to a v4-mapped
 * address runs sendmsg4 on the way out and recvmsg6 on the way back.)
 * Returns: 1 = go on, 0 = refuse with the errno set by bpf_set_retval.
 * Absent: datagrams to virtual addresses get ECONNREFUSED; connected UDP sockets still work.
 */
#include "route.h"

/* Notes both directions of {socket, asked} <-> {socket, led to}. */
static __always_inline void note(__u64 cookie, const struct sv_service_key *asked,
				 const struct destination *to)
{
	struct sv_datagram_key out = { .cookie = cookie, .address = asked->address, .port = asked->port };
	struct sv_datagram_key back = {
		.cookie = cookie, .address = to->address, .port = to->port, .back = 1
	};
	struct sv_datagram there = { .address = to->address,
				     .cgroup = to->cgroup,
				     .port = to->port,
				     .asked = to->asked };
	struct sv_datagram here = { .address = asked->address, .port = asked->port };

	bpf_map_update_elem(&datagrams, &out, &there, BPF_ANY);
	bpf_map_update_elem(&datagrams, &back, &here, BPF_ANY);
}

/* Whether the workload still has the port that was noted, so that nobody else gets its datagrams. */
static __always_inline bool still_there(const struct sv_datagram *noted)
{
	struct sv_listener_key key = { .cgroup = noted->cgroup,
				       .port = noted->asked,
				       .protocol = IPPROTO_UDP };
	struct sv_listener *listener;

	if (!noted->cgroup)
		return true;
	listener = bpf_map_lookup_elem(&listeners, &key);
	return listener && listener->actual == noted->port;
}

static __always_inline int refuse(__u32 source, __u32 destination, __u32 reason)
{
	count_refusal(source, destination, reason);
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

/* To its own program, from which the answer comes as from the port asked for. */
static __always_inline bool route_to_self(struct bpf_sock_addr *ctx, const struct caller *caller,
					  const struct request *ask, struct destination *to)
{
	struct sv_service_key asked = ask->key;

	if (!to_own_port(caller, ask, to))
		return false;
	/* What is sent to "any" goes to the loopback address. */
	if (!asked.address.word[3])
		asked.address.word[3] = is_mapped(&asked.address) ? LOOPBACK4 : LOOPBACK6;
	to->address = asked.address;
	note(bpf_get_socket_cookie(ctx), &asked, to);
	/* Whatever the address in 127/8, a socket that is bound to none of them answers from the first. */
	if (is_mapped(&asked.address) && asked.address.word[3] != LOOPBACK4) {
		struct destination first = *to;

		asked.address.word[3] = LOOPBACK4;
		first.address = asked.address;
		note(bpf_get_socket_cookie(ctx), &asked, &first);
	}
	return true;
}

static __always_inline int route(struct bpf_sock_addr *ctx, const struct request *ask,
				 struct destination *to, bool *led)
{
	const struct sv_config *cfg = configuration();
	struct bpf_sock *socket = ctx->sk;
	struct sv_datagram_key noted_key = {};
	struct sv_datagram *noted;
	struct sv_service *service;
	struct choice choice = {};
	struct sv_edge *edge;
	struct caller caller;
	__u64 cookie;
	bool virtual;

	*led = false;
	if (!cfg || !socket)
		return 1;
	service = bpf_map_lookup_elem(&services, &ask->key);
	virtual = in_virtual_range(cfg, &ask->key.address);
	if (!service && !virtual && !is_self(&ask->key.address))
		return 1;
	if (!service) {
		caller = caller_of(kernel_socket(socket));
		if (virtual)
			return refuse_unserved(caller.service, &ask->key.address);
		*led = route_to_self(ctx, &caller, ask, to);
		return 1;
	}
	cookie = bpf_get_socket_cookie(ctx);
	noted_key.cookie = cookie;
	noted_key.address = ask->key.address;
	noted_key.port = ask->key.port;
	noted = bpf_map_lookup_elem(&datagrams, &noted_key);
	if (noted && still_there(noted)) {
		to->address = noted->address;
		to->port = noted->port;
		*led = true;
		return 1;
	}
	caller = caller_of(kernel_socket(socket));
	if (!at_home(cfg, kernel_socket(socket)))
		return refuse(caller.service, service->id, NETWORK_NAMESPACE);
	choice.key.service = service->id;
	choice.key.port = ask->key.port;
	choice.key.protocol = IPPROTO_UDP;
	choice.key.version = service->version;
	choice.to = to;
	/* An unconnected IPv6 socket cannot send from a v4-mapped to a plain IPv6 address. */
	choice.ipv6_socket = false;
	if (!choose(service, &choice))
		return refuse(caller.service, service->id, choice.reason);
	note(cookie, &ask->key, to);
	edge = edge_of(caller.service, service->id);
	if (edge)
		__sync_fetch_and_add(&edge->connections, 1);
	*led = true;
	return 1;
}

SEC("cgroup/sendmsg4")
int sv_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct request ask = { .key = { .address = mapped(ctx->user_ip4),
					.port = ctx->user_port,
					.protocol = IPPROTO_UDP } };
	struct destination to = {};
	bool led;
	int verdict = route(ctx, &ask, &to, &led);

	if (led) {
		ctx->user_ip4 = to.address.word[3];
		ctx->user_port = to.port;
	}
	return verdict;
}

SEC("cgroup/sendmsg6")
int sv_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct request ask = { .key = { .address = user_address6(ctx),
					.port = ctx->user_port,
					.protocol = IPPROTO_UDP } };
	struct destination to = {};
	bool led;
	int verdict = route(ctx, &ask, &to, &led);

	if (led)
		set_user6(ctx, &to.address, to.port);
	return verdict;
}

/* Whom the datagram just read seems to come from, if that is not who sent it. */
static __always_inline bool sender(struct bpf_sock_addr *ctx, const struct sv_address *address,
				   struct destination *from)
{
	struct sv_datagram_key key = { .address = *address, .port = ctx->user_port, .back = 1 };
	struct bpf_sock *socket = ctx->sk;
	struct sv_datagram *noted;
	struct sv_socket *record;

	if (!socket)
		return false;
	/* A connected socket hears its peer only. */
	if (socket->dst_port) {
		record = bpf_sk_storage_get(&sockets, socket, 0, 0);
		if (!record || !(record->flags & SV_ROUTED))
			return false;
		from->address = record->peer;
		from->port = record->peer_port;
		return true;
	}
	key.cookie = bpf_get_socket_cookie(ctx);
	noted = bpf_map_lookup_elem(&datagrams, &key);
	if (!noted)
		return false;
	from->address = noted->address;
	from->port = noted->port;
	return true;
}

SEC("cgroup/recvmsg4")
int sv_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct sv_address address = mapped(ctx->user_ip4);
	struct destination from = {};

	if (sender(ctx, &address, &from)) {
		ctx->user_ip4 = from.address.word[3];
		ctx->user_port = from.port;
	}
	return 1;
}

SEC("cgroup/recvmsg6")
int sv_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct destination from = {};
	struct sv_address address;

	address = user_address6(ctx);
	if (sender(ctx, &address, &from)) {
		set_user6(ctx, &from.address, from.port);
	}
	return 1;
}
