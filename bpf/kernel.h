/* The kernel's side of the contract, as far as the program uses it: types, helpers, map kinds.
 *
 * Written out instead of included, so that the object depends on no header of the machine that builds it
 * and its bytes (BTF included) are the same everywhere. Sources: include/uapi/linux/{bpf,if_ether,ip,ipv6,
 * tcp,udp,icmp,icmpv6}.h. */
#ifndef FATHOM_KERNEL_H
#define FATHOM_KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
/* A function the verifier checks by itself, once, instead of at each call with everything the caller knows: without it
 * the program is past the verifier's patience. Its pointer arguments may be null as far as the verifier knows. */
#define GLOBAL __attribute__((noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* Keeps the compiler from doing arithmetic on the frame's end instead of on `pointer`, which the verifier forbids. */
#define KEEP(pointer) asm volatile("" : "+r"(pointer))
#define BE16(x) ((u16)__builtin_bswap16(x))
#define BE32(x) ((u32)__builtin_bswap32(x))

/* BTF-defined maps: aya reads these field types. */
#define UINT(name, value) int(*name)[value]
#define TYPE(name, value) value *name

#define MAP_HASH 1
#define MAP_ARRAY 2
#define MAP_PERCPU_ARRAY 6
#define MAP_LRU_HASH 9
#define MAP_LPM_TRIE 11
#define MAP_RINGBUF 27
#define F_NO_PREALLOC 1
#define F_MMAPABLE 1024
#define UPDATE_ANY 0
#define UPDATE_NOEXIST 1
#define EEXIST 17

#define XDP_ABORTED 0
#define XDP_DROP 1
#define XDP_PASS 2
#define XDP_TX 3

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static u32 (*random_u32)(void) = (void *)7;
static u32 (*cpu_number)(void) = (void *)8;
static long (*redirect)(u32 ifindex, u64 flags) = (void *)23;
static s64 (*csum_diff)(const void *from, u32 from_size, const void *to, u32 to_size, u32 seed) = (void *)28;
static long (*adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;
static long (*adjust_tail)(struct xdp_md *ctx, int delta) = (void *)65;
static void *(*ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*ringbuf_submit)(void *data, u64 flags) = (void *)132;
/* Exact to a tick (1-10 ms) and a fifth of the price of the exact clock. */
static u64 (*coarse_ns)(void) = (void *)160;

struct sock_tuple4 {
	u32 saddr, daddr;
	u16 sport, dport;
};
struct sock_tuple6 {
	u32 saddr[4], daddr[4];
	u16 sport, dport;
};
/* struct bpf_sock */
struct bpf_sock {
	u32 bound_dev_if, family, type, protocol, mark, priority;
	u32 src_ip4, src_ip6[4], src_port;
	u16 dst_port, pad;
	u32 dst_ip4, dst_ip6[4], state;
	int rx_queue_mapping;
};
static struct bpf_sock *(*socket_lookup)(void *ctx, const void *tuple, u32 size, u64 netns, u64 flags) = (void *)99;
static long (*socket_release)(void *sk) = (void *)86;
#define TCP_LISTEN 10

#define ETH_IPV4 BE16(0x0800)
#define ETH_IPV6 BE16(0x86dd)
#define ETH_VLAN BE16(0x8100)
#define ETH_QINQ BE16(0x88a8)

struct eth {
	u8 dst[6], src[6];
	u16 proto;
};
struct vlan {
	u16 tag, proto;
};
struct ipv4 {
	u8 ihl : 4, version : 4;
	u8 tos;
	u16 length, id, fragment;
	u8 ttl, proto;
	u16 check;
	u32 saddr, daddr;
};
struct ipv6 {
	u32 head; /* version, traffic class, flow label */
	u16 payload;
	u8 next, hops;
	u32 saddr[4], daddr[4];
};
struct ipv6_fragment {
	u8 next, reserved;
	u16 offset; /* 13 bits of offset, 2 reserved, 1 more */
	u32 id;
};
struct tcp {
	u16 sport, dport;
	u32 seq, ack;
	u8 reserved : 4, doff : 4;
	u8 flags;
	u16 window, check, urgent;
};
struct udp {
	u16 sport, dport, length, check;
};
struct icmp {
	u8 type, code;
	u16 check;
	u32 rest; /* of "too big": the MTU (ICMPv6), or 16 unused bits and the MTU (ICMP) */
};

#define PROTO_ICMP 1
#define PROTO_IPIP 4
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_IPV6 41
#define PROTO_FRAGMENT 44
#define PROTO_ICMPV6 58

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#endif
