/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The proxy's own connections to endpoints. Where a workload of this host really listens, and whether it
 * does, the kernel alone knows. So the proxy connects an IPv6 socket to an address that says which
 * workload it means (SV_UPSTREAM_PREFIX), at the port that the workload asked for, and is led to where
 * that one listens. The slot of the connection limit is taken here, of the workload's service, since the
 * program that called the proxy holds none. Where an endpoint outside has a service with a limit, the
 * address says which (SV_UPSTREAM_OUTSIDE). The edge was counted when the program connected.
 *
 * Whoever connects elsewhere from the proxy's cgroup is left alone, and nobody outside it comes here.
 *
 * Hooks: cgroup/connect6, sock_release, on the proxy's cgroup alone; sockops.bpf.c, which is attached
 * there too, sees the connection's end.
 * Returns: 1 = go on, 0 = refuse with the errno set by bpf_set_retval: ECONNREFUSED where nothing of
 * this host listens, EDQUOT where the limit is reached.
 * Absent: such an address leads nowhere; the agent leads no connection to the proxy then.
 */
#include "route.h"

static __always_inline int refuse(__u32 counter, int error)
{
	count(counter);
	bpf_set_retval(-error);
	return 0;
}

/* False where the limit is reached, or no record could be had that is needed. */
static __always_inline bool admit(struct bpf_sock *socket, __u32 service, __u16 port)
{
	struct sv_socket *record = bpf_sk_storage_get(&sockets, socket, 0, 0);
	bool is_published = published_tcp(port);

	if (record)
		forget(record);
	if (!is_published && !bpf_map_lookup_elem(&limits, &service))
		return true;
	if (!record)
		record = bpf_sk_storage_get(&sockets, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!record) {
		count(SV_RECORDS_FAILED);
		return false;
	}
	/* It would be led back to the proxy. */
	if (is_published)
		record->flags |= SV_SETTLED;
	return take_slot(record, service);
}

static __always_inline int lead(struct bpf_sock_addr *ctx, struct bpf_sock *socket, __u32 service,
				const struct destination *to)
{
	if (!admit(socket, service, to->port))
		return refuse(SV_UPSTREAM_LIMITED, EDQUOT);
	set_user6(ctx, &to->address, to->port);
	return 1;
}

SEC("cgroup/connect6")
int sv_upstream_connect6(struct bpf_sock_addr *ctx)
{
	struct sv_listener_key key = { .port = ctx->user_port, .protocol = IPPROTO_TCP };
	struct sv_address asked = user_address6(ctx);
	struct bpf_sock *socket = ctx->sk;
	struct destination to = {};
	struct sv_workload *workload;
	struct sv_listener *listener;

	if (!socket || ctx->protocol != IPPROTO_TCP ||
	    asked.word[0] != bpf_htonl(SV_UPSTREAM_PREFIX >> 32))
		return 1;
	if (asked.word[1] == bpf_htonl((__u32)SV_UPSTREAM_OUTSIDE)) {
		to.address = mapped(asked.word[3]);
		to.port = key.port;
		return lead(ctx, socket, bpf_ntohl(asked.word[2]), &to);
	}
	if (asked.word[1] != bpf_htonl((__u32)SV_UPSTREAM_PREFIX))
		return 1;
	key.cgroup = (__u64)bpf_ntohl(asked.word[2]) << 32 | bpf_ntohl(asked.word[3]);
	workload = bpf_map_lookup_elem(&workloads, &key.cgroup);
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!workload || !listener || (!listener->listening4 && !listener->listening6))
		return refuse(SV_UPSTREAM_UNSERVED, ECONNREFUSED);
	reach_listener(listener, true, &to);
	return lead(ctx, socket, workload->service, &to);
}

/* As in ports.bpf.c: once a SYN has left, the state callback sees the end. */
SEC("cgroup/sock_release")
int sv_upstream_release(struct bpf_sock *ctx)
{
	struct sv_socket *record = bpf_sk_storage_get(&sockets, ctx, 0, 0);

	if (record && !(record->flags & SV_SYN))
		give_back_slot(record);
	return 1;
}
