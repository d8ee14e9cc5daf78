/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Name look-ups of workloads are led to the mesh's resolver while it is there, and go where the
 * program sent them while it is not: the mesh away never takes foreign names along. Queries for mesh
 * names are held back then, since an answer from elsewhere would outlive the outage in caches.
 *
 * Hooks: cgroup/connect4, connect6, sendmsg4, sendmsg6, recvmsg4, recvmsg6 (getpeername is that of
 * connect.bpf.c), cgroup_skb/egress.
 * Returns: sock_addr hooks 1 always; egress 1 = let go, 2 = drop quietly.
 * Absent: programs resolve names as if there were no mesh.
 */
#include "ours.h"

#define DNS_PORT bpf_htons(53)
#define DNS_HEADER 12
#define LONGEST_NAME 255

/*
 * The resolver's port if this look-up is to be led there, else 0. The server that the program meant
 * is noted on the socket. A DNS server that is itself a service of the mesh is reached as one.
 */
static __always_inline __u16 lead(struct bpf_sock_addr *ctx, const struct sv_address *server)
{
	struct sv_service_key key = { .address = *server, .port = DNS_PORT, .protocol = ctx->protocol };
	const struct sv_config *cfg = configuration();
	struct bpf_sock *socket = ctx->sk;
	struct sv_socket *record;
	struct caller caller;

	if (!cfg || !cfg->resolver_port || !socket)
		return 0;
	caller = caller_of(kernel_socket(socket));
	if (!(caller.flags & SV_WORKLOAD_RESOLVER) || bpf_map_lookup_elem(&services, &key))
		return 0;
	if (!ours_has(ctx, cfg->resolver_port, !is_mapped(server))) {
		count(SV_RESOLVER_BYPASSED);
		return 0;
	}
	record = bpf_sk_storage_get(&sockets, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!record) {
		count(SV_RECORDS_FAILED);
		return 0;
	}
	forget(record);
	record->peer = *server;
	record->peer_port = DNS_PORT;
	record->cgroup = caller.cgroup;
	record->source = caller.service;
	record->destination = 0;
	record->flags = SV_ROUTED | SV_RESOLVER;
	count(SV_RESOLVER_LED);
	return cfg->resolver_port;
}

static __always_inline int lead4(struct bpf_sock_addr *ctx)
{
	struct sv_address server;
	__u16 port;

	if (ctx->user_port != DNS_PORT)
		return 1;
	server = mapped(ctx->user_ip4);
	port = lead(ctx, &server);
	if (!port)
		return 1;
	ctx->user_ip4 = LOOPBACK4;
	ctx->user_port = port;
	return 1;
}

static __always_inline int lead6(struct bpf_sock_addr *ctx)
{
	struct sv_address server;
	__u16 port;

	if (ctx->user_port != DNS_PORT)
		return 1;
	server = user_address6(ctx);
	port = lead(ctx, &server);
	if (!port)
		return 1;
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = is_mapped(&server) ? V4_MAPPED : 0;
	ctx->user_ip6[3] = is_mapped(&server) ? LOOPBACK4 : LOOPBACK6;
	ctx->user_port = port;
	return 1;
}

SEC("cgroup/connect4")
int sv_resolve_connect4(struct bpf_sock_addr *ctx)
{
	return lead4(ctx);
}

SEC("cgroup/connect6")
int sv_resolve_connect6(struct bpf_sock_addr *ctx)
{
	return lead6(ctx);
}

SEC("cgroup/sendmsg4")
int sv_resolve_send4(struct bpf_sock_addr *ctx)
{
	return lead4(ctx);
}

SEC("cgroup/sendmsg6")
int sv_resolve_send6(struct bpf_sock_addr *ctx)
{
	return lead6(ctx);
}

/* An answer from the resolver seems to come from the server that was asked last. */
static __always_inline struct sv_socket *asked_server(struct bpf_sock_addr *ctx)
{
	const struct sv_config *cfg = configuration();
	struct bpf_sock *socket = ctx->sk;
	struct sv_socket *record;

	if (!cfg || !socket || ctx->user_port != cfg->resolver_port)
		return 0;
	record = bpf_sk_storage_get(&sockets, socket, 0, 0);
	return record && record->flags & SV_RESOLVER ? record : 0;
}

SEC("cgroup/recvmsg4")
int sv_resolve_receive4(struct bpf_sock_addr *ctx)
{
	struct sv_socket *record = asked_server(ctx);

	if (record && ctx->user_ip4 == LOOPBACK4) {
		ctx->user_ip4 = record->peer.word[3];
		ctx->user_port = record->peer_port;
	}
	return 1;
}

SEC("cgroup/recvmsg6")
int sv_resolve_receive6(struct bpf_sock_addr *ctx)
{
	struct sv_socket *record = asked_server(ctx);

	if (record) {
		set_user6(ctx, &record->peer, record->peer_port);
	}
	return 1;
}

/* Where the transport header of a packet starts. Extension headers do not stand before a query. */
static __always_inline __u32 transport_of(struct __sk_buff *skb)
{
	__u8 first = 0;

	bpf_skb_load_bytes(skb, 0, &first, 1);
	return first >> 4 == 4 ? (first & 15) * 4 : 40;
}

struct name {
	__u8 bytes[LONGEST_NAME + 1];
	__u64 hash;
	__u32 length;
	bool whole;
};

/* FNV-1a over the name in wire form, lower case, without the root's zero byte; as `name_hash` in
 * crates/node/src/intent.rs. Lengths are below 'A' and so unchanged by lowering. */
static long hash_byte(__u32 index, void *context)
{
	struct name *name = context;
	__u8 byte;

	if (index >= LONGEST_NAME || index >= name->length)
		return 1;
	byte = name->bytes[index];
	if (!byte) {
		name->whole = true;
		return 1;
	}
	if (byte >= 'A' && byte <= 'Z')
		byte += 'a' - 'A';
	name->hash = (name->hash ^ byte) * 0x100000001b3ULL;
	return 0;
}

static __always_inline bool asks_for_mesh_name(struct __sk_buff *skb, __u32 question)
{
	struct name name = { .hash = 0xcbf29ce484222325ULL };
	__u64 left;

	if (skb->len <= question)
		return false;
	left = skb->len - question;
	if (left > LONGEST_NAME)
		left = LONGEST_NAME;
	name.length = left;
	/* Linux 6.1's verifier forgets what the comparisons say: 1 .. 256 by arithmetic that it follows,
	 * kept from the compiler, which knows that nothing changes. */
	asm volatile("" : "+r"(left));
	left = ((left - 1) & LONGEST_NAME) + 1;
	if (bpf_skb_load_bytes(skb, question, name.bytes, left))
		return false;
	bpf_loop(LONGEST_NAME, hash_byte, &name, 0);
	return name.whole && bpf_map_lookup_elem(&mesh_names, &name.hash);
}

SEC("cgroup_skb/egress")
int sv_resolve_egress(struct __sk_buff *skb)
{
	struct bpf_sock *socket = skb->sk;
	struct sv_socket *record;
	__u32 transport, question;
	__u16 ports[2];
	__u8 offset;

	/* Every packet of every workload comes here: most go by the port they are connected to. */
	if (!socket || (socket->dst_port && socket->dst_port != DNS_PORT))
		return 1;
	socket = bpf_sk_fullsock(socket);
	if (!socket)
		return 1;
	if (socket->protocol != IPPROTO_TCP && socket->protocol != IPPROTO_UDP)
		return 1;
	transport = transport_of(skb);
	if (bpf_skb_load_bytes(skb, transport, ports, sizeof(ports)) || ports[1] != DNS_PORT)
		return 1;
	record = bpf_sk_storage_get(&sockets, socket, 0, 0);
	if (record && record->destination)
		return 1; /* a DNS server that is a service */
	question = transport + 8 + DNS_HEADER;
	if (socket->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, transport + 12, &offset, 1))
			return 1;
		/* Two bytes of length stand before a message on TCP (RFC 1035, 4.2.2). */
		question = transport + (offset >> 4) * 4 + 2 + DNS_HEADER;
	}
	if (!asks_for_mesh_name(skb, question))
		return 1;
	count(SV_NAMES_HELD_BACK);
	return 2;
}
