/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Multipath TCP is refused, and programs fall back to TCP (Go's net.Listen does; RFC 8684, 4): the
 * kernel runs the address hooks on the subflow but asks for names on the parent, so that programs
 * would see private ports and replaced addresses.
 *
 * Hook: cgroup/sock_create. Returns: 1 = go on, 0 = EPROTONOSUPPORT.
 * Absent: multipath sockets work, and see the addresses they were led to.
 */
#include "mesh.h"

SEC("cgroup/sock_create")
int sv_sock_create(struct bpf_sock *ctx)
{
	if (ctx->protocol != IPPROTO_MPTCP)
		return 1;
	count(SV_MULTIPATH_REFUSED);
	bpf_set_retval(-EPROTONOSUPPORT);
	return 0;
}
