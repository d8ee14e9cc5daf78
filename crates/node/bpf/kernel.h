/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The few kernel structures the programs look into, with only the fields they read. libbpf relocates
 * the offsets to the running kernel (CO-RE), so no generated vmlinux.h is needed.
 */
#ifndef SELVEDGE_KERNEL_H
#define SELVEDGE_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define SOL_SOCKET 1
#define SO_REUSEADDR 2
#define SO_REUSEPORT 15
#define SOL_IPV6 41
#define SO_ORIGINAL_DST 80
#define TCP_ESTABLISHED 1
#define TCP_LISTEN 10
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE 7
#define TCP_LAST_ACK 9
#define TCP_CLOSING 11

#define EPERM 1
#define EACCES 13
#define EADDRINUSE 98
#define EPROTONOSUPPORT 93
#define ECONNREFUSED 111
#define EDQUOT 122
#define CAP_NET_BIND_SERVICE 10

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[];
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_address {
	__u32 word[4];
};

struct sock_common {
	union {
		struct {
			__u32 skc_daddr;
			__u32 skc_rcv_saddr;
		};
	};
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_reuse : 4;
	unsigned char skc_reuseport : 1;
	unsigned char skc_ipv6only : 1;
	possible_net_t skc_net;
	struct sock_address skc_v6_rcv_saddr;
	unsigned long skc_flags;
};

struct sock {
	struct sock_common __sk_common;
	struct sock_cgroup_data sk_cgrp_data;
};

enum sock_flags {
	SOCK_DONE = 1,
};

/* 64 bits: a number since Linux 6.3, two halves before. */
struct capabilities {
	int bits;
};

struct tcp_sock {
	__u32 rcv_nxt;
	__u32 snd_nxt;
};

struct cred {
	struct capabilities cap_effective;
};

struct task_struct {
	const struct cred *cred;
};

#pragma clang attribute pop

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif
