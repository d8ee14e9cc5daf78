/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * TCP's own events: who listens, which connects succeed, when a connection ends.
 *
 * Hook: sockops, on the proxy's cgroup too, whose own connections hold slots. State changes are asked for
 * only on listeners and on connections that hold a slot, are counted in detail or go to a real port that
 * is published too, since they cost a callback each.
 * Returns: 1 always.
 * Absent: no TCP endpoint is seen to listen, so that services have no endpoints.
 */
#include "mesh.h"

static __always_inline struct sv_socket *record_of(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *socket = ctx->sk;

	return socket ? bpf_sk_storage_get(&sockets, socket, 0, 0) : 0;
}

/* Every field is read before one is chosen: the verifier does not let a context pointer be chosen
 * first and read through afterwards. */
#define READ(field) (*(volatile __u32 *)&ctx->field)
static __always_inline struct sv_address local_address(struct bpf_sock_ops *ctx)
{
	struct sv_address six;
	__u32 family = READ(family);
	__u32 four = READ(local_ip4);

	six.word[0] = READ(local_ip6[0]);
	six.word[1] = READ(local_ip6[1]);
	six.word[2] = READ(local_ip6[2]);
	six.word[3] = READ(local_ip6[3]);
	return family == AF_INET ? mapped(four) : six;
}

/* A listener of a published service is kept where callers from outside can be led to it. */
static __always_inline void keep_at_hand(struct bpf_sock_ops *ctx, const struct sv_socket *record,
					 struct bpf_sock *socket)
{
	struct sv_listener_key key = { .cgroup = record->cgroup,
				       .port = record->asked,
				       .protocol = IPPROTO_TCP };
	struct sv_workload *workload = bpf_map_lookup_elem(&workloads, &record->cgroup);

	if (!workload || !(workload->flags & SV_WORKLOAD_PUBLISHED))
		return;
	key.ipv6 = socket->family == AF_INET6;
	if (bpf_sock_hash_update(ctx, &published_listeners, &key, BPF_ANY))
		count(SV_PUBLISHED_FULL);
}

static __always_inline void on_listen(struct bpf_sock_ops *ctx)
{
	struct sv_socket *record = record_of(ctx);
	struct sv_address address;
	struct bpf_sock *socket;
	bool only6;

	if (!record || !record->bound)
		return;
	address = local_address(ctx);
	socket = ctx->sk;
	if (!socket)
		return;
	only6 = ctx->family == AF_INET6 &&
		BPF_CORE_READ_BITFIELD_PROBED(kernel_socket(socket), __sk_common.skc_ipv6only);
	start_listening(record, IPPROTO_TCP, &address, only6);
	keep_at_hand(ctx, record, socket);
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Of the two the kernel gives the remote one in network order, as the last two of four bytes. */
static __always_inline struct sv_settled_key ports_of(struct bpf_sock_ops *ctx)
{
	return (struct sv_settled_key){ .from = bpf_htons(ctx->local_port),
					.to = bpf_htons(bpf_ntohl(ctx->remote_port)) };
}

static __always_inline void on_connect(struct bpf_sock_ops *ctx)
{
	struct sv_socket *record = record_of(ctx);
	struct sv_settled_key ports;
	__u8 one = 1;

	if (!record || !(record->slot || record->flags & (SV_DETAILED | SV_SETTLED)))
		return;
	if (record->flags & SV_SETTLED) {
		ports = ports_of(ctx);
		bpf_map_update_elem(&settled, &ports, &one, BPF_ANY);
	}
	record->flags |= SV_SYN;
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void on_established(struct bpf_sock_ops *ctx)
{
	struct sv_socket *record = record_of(ctx);
	struct sv_edge_detail *detail;
	__u64 took;
	__u32 bucket = 0;
	int step;

	if (!record)
		return;
	record->attempt = 0;
	if (!(record->flags & SV_DETAILED))
		return;
	detail = detail_of(record);
	if (!detail)
		return;
	took = bpf_ktime_get_ns() - record->started_ns;
	__sync_fetch_and_add(&detail->opened, 1);
	__sync_fetch_and_add(&detail->connect_ns, took);
	record->open = 1;
	for (step = 32; step; step >>= 1)
		if (took >> step) {
			took >>= step;
			bucket += step;
		}
	__sync_fetch_and_add(&detail->connect_time[bucket & (SV_HISTOGRAM_BUCKETS - 1)], 1);
}

/* An accepted socket inherits what was asked for on its listener, and is not one. */
static __always_inline void on_accepted(struct bpf_sock_ops *ctx)
{
	if (ctx->bpf_sock_ops_cb_flags)
		bpf_sock_ops_cb_flags_set(ctx, 0);
}

/*
 * Payload alone: the kernel counts a SYN and a FIN of ours that were acknowledged as a byte each, and
 * a FIN that came in (tcp_snd_una_update, tcp_rcv_nxt_update). A FIN of ours is acknowledged in the
 * states behind FIN-WAIT-1 and, unless a reset ends it, LAST-ACK (RFC 9293, section 3.3.2).
 */
static __always_inline void count_bytes(struct bpf_sock_ops *ctx, struct sv_edge_detail *detail,
					__u32 from)
{
	__u64 sent = ctx->bytes_acked, received = ctx->bytes_received, done;
	bool fin = from == TCP_FIN_WAIT2 || from == TCP_CLOSING || from == TCP_LAST_ACK;

	sent -= sent > fin ? 1 + fin : sent;
	done = 1ULL << bpf_core_enum_value(enum sock_flags, SOCK_DONE);
	if (received && ctx->sk && BPF_CORE_READ(kernel_socket(ctx->sk), __sk_common.skc_flags) & done)
		received--;
	__sync_fetch_and_add(&detail->bytes_sent, sent);
	__sync_fetch_and_add(&detail->bytes_received, received);
}

static __always_inline void on_state(struct bpf_sock_ops *ctx, __u32 from, __u32 to)
{
	struct sv_edge_detail *detail;
	struct sv_settled_key ports;
	struct sv_socket *record;

	if (to != TCP_CLOSE)
		return;
	record = record_of(ctx);
	if (!record)
		return;
	if (from == TCP_LISTEN) {
		stop_listening(record, IPPROTO_TCP);
		return;
	}
	settle_attempt(record);
	give_back_slot(record);
	if (record->flags & SV_SETTLED) {
		ports = ports_of(ctx);
		bpf_map_delete_elem(&settled, &ports);
	}
	if (!record->open || !__sync_lock_test_and_set(&record->open, 0))
		return;
	detail = detail_of(record);
	if (!detail)
		return;
	__sync_fetch_and_add(&detail->closed, 1);
	count_bytes(ctx, detail, from);
}

SEC("sockops")
int sv_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		on_listen(ctx);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_established(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_accepted(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		on_state(ctx, ctx->args[0], ctx->args[1]);
		break;
	}
	return 1;
}
