/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tells the proxy where a connection or datagram was meant to go and who sent it, as an answer to
 * getsockopt(SOL_IPV6, 80), the option that netfilter calls IP6T_SO_ORIGINAL_DST. The answer is a
 * sockaddr_in6: address and port as the program asked (IPv4 as v4-mapped), flowinfo and scope id the
 * lower and upper half of the workload's cgroup id. For datagrams the proxy asks on a socket that it
 * connected to the sender.
 *
 * Hook: cgroup/getsockopt, on the proxy's cgroup alone. Returns: 1 always.
 * Absent: the proxy learns of no origin and answers nobody.
 */
#include "mesh.h"

struct answer {
	__u16 family;
	__u16 port;
	__u32 flowinfo;
	struct sv_address address;
	__u32 scope_id;
};

static __always_inline struct sv_address peer_of(struct bpf_sock *socket)
{
	struct sv_address six;
	__u32 four = *(volatile __u32 *)&socket->dst_ip4;

	six.word[0] = *(volatile __u32 *)&socket->dst_ip6[0];
	six.word[1] = *(volatile __u32 *)&socket->dst_ip6[1];
	six.word[2] = *(volatile __u32 *)&socket->dst_ip6[2];
	six.word[3] = *(volatile __u32 *)&socket->dst_ip6[3];
	return socket->family == AF_INET ? mapped(four) : six;
}

static __always_inline int fill(struct bpf_sockopt *ctx, const struct sv_address *peer, __u16 port,
				__u64 cgroup)
{
	struct answer *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end)
		return 1;
	answer->family = AF_INET6;
	answer->port = port;
	answer->flowinfo = cgroup;
	answer->address = *peer;
	answer->scope_id = cgroup >> 32;
	/* Two stores: the verifier refuses the one wide store that the compiler would make of them. */
	*(volatile __s32 *)&ctx->optlen = sizeof(*answer);
	*(volatile __s32 *)&ctx->retval = 0;
	return 1;
}

SEC("cgroup/getsockopt")
int sv_original_destination(struct bpf_sockopt *ctx)
{
	struct sv_flow_key key = { .protocol = IPPROTO_UDP };
	struct bpf_sock *socket = ctx->sk;
	struct sv_socket *record;
	struct sv_flow *flow;

	if (ctx->level != SOL_IPV6 || ctx->optname != SO_ORIGINAL_DST || !socket)
		return 1;
	if (socket->protocol == IPPROTO_TCP) {
		record = bpf_sk_storage_get(&sockets, socket, 0, 0);
		if (!record || !(record->flags & SV_ACCEPTED))
			return 1;
		return fill(ctx, &record->peer, record->peer_port, record->cgroup);
	}
	key.client = peer_of(socket);
	key.client_port = socket->dst_port;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return 1;
	return fill(ctx, &flow->peer, flow->peer_port, flow->cgroup);
}
