/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections that go straight to an endpoint though their service's port goes through the proxy: they
 * are from before, or from while the proxy was away. Run by the agent when somebody asks, by reading the
 * iterator; nothing is kept for it on the way of a connection but when it began. Each is one sv_pinned.
 *
 * Hook: iter/bpf_sk_storage_map, over `sockets`. Returns: 0 = go on.
 * Absent: status does not say which connections these are.
 */
#include "mesh.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

#pragma clang attribute pop

struct bpf_map;

struct bpf_iter__bpf_sk_storage_map {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct bpf_map *, map);
	__bpf_md_ptr(struct sock *, sk);
	__bpf_md_ptr(struct sv_socket *, value);
};

SEC("iter/bpf_sk_storage_map")
int sv_pinned(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sv_service_key key = { .protocol = IPPROTO_TCP };
	struct sv_socket *record = ctx->value;
	struct sock *socket = ctx->sk;
	struct sv_pinned pinned = {};
	struct sv_service *service;

	if (!socket || !record)
		return 0;
	if (!(record->flags & SV_ROUTED) || record->flags & (SV_RESOLVER | SV_PROXIED) ||
	    BPF_CORE_READ(socket, __sk_common.skc_state) != TCP_ESTABLISHED)
		return 0;
	key.address = record->peer;
	key.port = record->peer_port;
	service = bpf_map_lookup_elem(&services, &key);
	if (!service || !(service->flags & SV_SERVICE_PROXIED) || service->id != record->destination)
		return 0;
	pinned.age_ns = bpf_ktime_get_ns() - record->started_ns;
	pinned.service = service->id;
	pinned.port = record->peer_port;
	bpf_seq_write(ctx->meta->seq, &pinned, sizeof(pinned));
	return 0;
}

