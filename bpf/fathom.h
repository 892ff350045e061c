/* Written by `cargo xtask bpf` from crates/wire/src/packet.rs: change it there. */
#ifndef FATHOM_H
#define FATHOM_H

#define LAYOUT 1u
#define REASONS 32u

#define REASON_NEW_FLOW 0u
#define REASON_NO_SERVER 1u
#define REASON_NO_FLOW 2u
#define REASON_LOCAL 3u
#define REASON_MALFORMED 4u
#define REASON_DENIED 5u
#define REASON_NOT_ALLOWED 6u
#define REASON_RATE_LIMITED 7u
#define REASON_COOKIE_SENT 8u
#define REASON_COOKIE_ACCEPTED 9u
#define REASON_PORTS_EXHAUSTED 10u
#define REASON_TTL_EXPIRED 11u
#define REASON_TOO_BIG 12u
#define REASON_FRAGMENT_UNKNOWN 13u
#define REASON_FRAGMENT 14u
#define REASON_ICMP_ERROR 15u
#define REASON_ICMP_OTHER 16u
#define REASON_INTERNAL 17u
#define REASON_MOVED 18u
#define REASON_UNSUPPORTED 19u
#define REASON_AFFINITY 20u
#define REASON_SYN 21u

#define FORWARD_NAT 0u
#define FORWARD_DSR_MAC 1u
#define FORWARD_DSR_IPIP 2u
#define FORWARD_DSR_GUE 3u

#define SERVICE_PRESERVE_SOURCE 1u
#define SERVICE_HASH_SOURCE 2u
#define SERVICE_ALLOW 4u
#define SERVICE_DENY 8u

#define TARGET_USABLE 1u
#define TARGET_V6 2u
#define TARGET_NEW 4u
#define TARGET_PARTIAL 8u

#define FLOW_FORWARD 1u
#define FLOW_REVERSE 2u
#define FLOW_DIRECT 3u

#define STATE_FIN_CLIENT 1u
#define STATE_FIN_SERVER 2u
#define STATE_RST 4u

#define CONFIG_REDIRECT_SELF 1u

#define LIMIT_OWN_ADDRESSES 256u
#define LIMIT_PORT_TRIES 24u
#define LIMIT_GUE_PORT 6080u

struct vip_key {
	u8 addr[16];
	u16 port;
	u8 proto;
	u8 pad;
};
_Static_assert(__builtin_offsetof(struct vip_key, addr) == 0, "vip_key.addr");
_Static_assert(__builtin_offsetof(struct vip_key, port) == 16, "vip_key.port");
_Static_assert(__builtin_offsetof(struct vip_key, proto) == 18, "vip_key.proto");
_Static_assert(__builtin_offsetof(struct vip_key, pad) == 19, "vip_key.pad");
_Static_assert(sizeof(struct vip_key) == 20, "vip_key");

struct service {
	u64 owner;
	u64 rate_interval;
	u64 rate_burst;
	u64 affinity_ttl;
	u64 udp_idle;
	u8 addr[16];
	u16 port;
	u8 proto;
	u8 forward;
	u32 flags;
	u32 table;
	u32 table_size;
	u32 listener;
	u32 syn_limit;
	u32 sample;
	u32 pad[11];
};
_Static_assert(__builtin_offsetof(struct service, owner) == 0, "service.owner");
_Static_assert(__builtin_offsetof(struct service, rate_interval) == 8, "service.rate_interval");
_Static_assert(__builtin_offsetof(struct service, rate_burst) == 16, "service.rate_burst");
_Static_assert(__builtin_offsetof(struct service, affinity_ttl) == 24, "service.affinity_ttl");
_Static_assert(__builtin_offsetof(struct service, udp_idle) == 32, "service.udp_idle");
_Static_assert(__builtin_offsetof(struct service, addr) == 40, "service.addr");
_Static_assert(__builtin_offsetof(struct service, port) == 56, "service.port");
_Static_assert(__builtin_offsetof(struct service, proto) == 58, "service.proto");
_Static_assert(__builtin_offsetof(struct service, forward) == 59, "service.forward");
_Static_assert(__builtin_offsetof(struct service, flags) == 60, "service.flags");
_Static_assert(__builtin_offsetof(struct service, table) == 64, "service.table");
_Static_assert(__builtin_offsetof(struct service, table_size) == 68, "service.table_size");
_Static_assert(__builtin_offsetof(struct service, listener) == 72, "service.listener");
_Static_assert(__builtin_offsetof(struct service, syn_limit) == 76, "service.syn_limit");
_Static_assert(__builtin_offsetof(struct service, sample) == 80, "service.sample");
_Static_assert(__builtin_offsetof(struct service, pad) == 84, "service.pad");
_Static_assert(sizeof(struct service) == 128, "service");

struct target {
	u64 owner;
	u8 addr[16];
	u8 outer[16];
	u16 port;
	u16 flags;
	u16 generation;
	u16 own_first;
	u16 own_count;
	u8 dmac[6];
	u8 smac[6];
	u16 mtu;
	u32 ifindex;
	u32 pad[15];
};
_Static_assert(__builtin_offsetof(struct target, owner) == 0, "target.owner");
_Static_assert(__builtin_offsetof(struct target, addr) == 8, "target.addr");
_Static_assert(__builtin_offsetof(struct target, outer) == 24, "target.outer");
_Static_assert(__builtin_offsetof(struct target, port) == 40, "target.port");
_Static_assert(__builtin_offsetof(struct target, flags) == 42, "target.flags");
_Static_assert(__builtin_offsetof(struct target, generation) == 44, "target.generation");
_Static_assert(__builtin_offsetof(struct target, own_first) == 46, "target.own_first");
_Static_assert(__builtin_offsetof(struct target, own_count) == 48, "target.own_count");
_Static_assert(__builtin_offsetof(struct target, dmac) == 50, "target.dmac");
_Static_assert(__builtin_offsetof(struct target, smac) == 56, "target.smac");
_Static_assert(__builtin_offsetof(struct target, mtu) == 62, "target.mtu");
_Static_assert(__builtin_offsetof(struct target, ifindex) == 64, "target.ifindex");
_Static_assert(__builtin_offsetof(struct target, pad) == 68, "target.pad");
_Static_assert(sizeof(struct target) == 128, "target");

struct table_pair {
	u32 target[2];
};
_Static_assert(__builtin_offsetof(struct table_pair, target) == 0, "table_pair.target");
_Static_assert(sizeof(struct table_pair) == 8, "table_pair");

struct own {
	u8 addr[16];
	u16 port_low;
	u16 ports;
	u32 pad;
};
_Static_assert(__builtin_offsetof(struct own, addr) == 0, "own.addr");
_Static_assert(__builtin_offsetof(struct own, port_low) == 16, "own.port_low");
_Static_assert(__builtin_offsetof(struct own, ports) == 18, "own.ports");
_Static_assert(__builtin_offsetof(struct own, pad) == 20, "own.pad");
_Static_assert(sizeof(struct own) == 24, "own");

struct flow_key4 {
	u32 saddr;
	u32 daddr;
	u16 sport;
	u16 dport;
	u32 proto;
};
_Static_assert(__builtin_offsetof(struct flow_key4, saddr) == 0, "flow_key4.saddr");
_Static_assert(__builtin_offsetof(struct flow_key4, daddr) == 4, "flow_key4.daddr");
_Static_assert(__builtin_offsetof(struct flow_key4, sport) == 8, "flow_key4.sport");
_Static_assert(__builtin_offsetof(struct flow_key4, dport) == 10, "flow_key4.dport");
_Static_assert(__builtin_offsetof(struct flow_key4, proto) == 12, "flow_key4.proto");
_Static_assert(sizeof(struct flow_key4) == 16, "flow_key4");

struct flow_key6 {
	u32 saddr[4];
	u32 daddr[4];
	u16 sport;
	u16 dport;
	u32 proto;
};
_Static_assert(__builtin_offsetof(struct flow_key6, saddr) == 0, "flow_key6.saddr");
_Static_assert(__builtin_offsetof(struct flow_key6, daddr) == 16, "flow_key6.daddr");
_Static_assert(__builtin_offsetof(struct flow_key6, sport) == 32, "flow_key6.sport");
_Static_assert(__builtin_offsetof(struct flow_key6, dport) == 34, "flow_key6.dport");
_Static_assert(__builtin_offsetof(struct flow_key6, proto) == 36, "flow_key6.proto");
_Static_assert(sizeof(struct flow_key6) == 40, "flow_key6");

struct flow {
	u64 last;
	u64 begun;
	u32 addr[4];
	u16 port;
	u16 generation;
	u32 target;
	u32 service;
	u32 ifindex;
	u8 dmac[6];
	u8 smac[6];
	u8 kind;
	u8 state;
	u16 pad;
};
_Static_assert(__builtin_offsetof(struct flow, last) == 0, "flow.last");
_Static_assert(__builtin_offsetof(struct flow, begun) == 8, "flow.begun");
_Static_assert(__builtin_offsetof(struct flow, addr) == 16, "flow.addr");
_Static_assert(__builtin_offsetof(struct flow, port) == 32, "flow.port");
_Static_assert(__builtin_offsetof(struct flow, generation) == 34, "flow.generation");
_Static_assert(__builtin_offsetof(struct flow, target) == 36, "flow.target");
_Static_assert(__builtin_offsetof(struct flow, service) == 40, "flow.service");
_Static_assert(__builtin_offsetof(struct flow, ifindex) == 44, "flow.ifindex");
_Static_assert(__builtin_offsetof(struct flow, dmac) == 48, "flow.dmac");
_Static_assert(__builtin_offsetof(struct flow, smac) == 54, "flow.smac");
_Static_assert(__builtin_offsetof(struct flow, kind) == 60, "flow.kind");
_Static_assert(__builtin_offsetof(struct flow, state) == 61, "flow.state");
_Static_assert(__builtin_offsetof(struct flow, pad) == 62, "flow.pad");
_Static_assert(sizeof(struct flow) == 64, "flow");

struct fragment_key {
	u32 saddr[4];
	u32 daddr[4];
	u32 id;
	u32 proto;
};
_Static_assert(__builtin_offsetof(struct fragment_key, saddr) == 0, "fragment_key.saddr");
_Static_assert(__builtin_offsetof(struct fragment_key, daddr) == 16, "fragment_key.daddr");
_Static_assert(__builtin_offsetof(struct fragment_key, id) == 32, "fragment_key.id");
_Static_assert(__builtin_offsetof(struct fragment_key, proto) == 36, "fragment_key.proto");
_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key");

struct fragment_ports {
	u16 sport;
	u16 dport;
};
_Static_assert(__builtin_offsetof(struct fragment_ports, sport) == 0, "fragment_ports.sport");
_Static_assert(__builtin_offsetof(struct fragment_ports, dport) == 2, "fragment_ports.dport");
_Static_assert(sizeof(struct fragment_ports) == 4, "fragment_ports");

struct source_key {
	u32 addr[4];
	u32 listener;
};
_Static_assert(__builtin_offsetof(struct source_key, addr) == 0, "source_key.addr");
_Static_assert(__builtin_offsetof(struct source_key, listener) == 16, "source_key.listener");
_Static_assert(sizeof(struct source_key) == 20, "source_key");

struct remembered {
	u64 last;
	u32 target;
	u32 generation;
};
_Static_assert(__builtin_offsetof(struct remembered, last) == 0, "remembered.last");
_Static_assert(__builtin_offsetof(struct remembered, target) == 8, "remembered.target");
_Static_assert(__builtin_offsetof(struct remembered, generation) == 12, "remembered.generation");
_Static_assert(sizeof(struct remembered) == 16, "remembered");

struct prefix_key {
	u32 bits;
	u32 listener;
	u32 addr[4];
};
_Static_assert(__builtin_offsetof(struct prefix_key, bits) == 0, "prefix_key.bits");
_Static_assert(__builtin_offsetof(struct prefix_key, listener) == 4, "prefix_key.listener");
_Static_assert(__builtin_offsetof(struct prefix_key, addr) == 8, "prefix_key.addr");
_Static_assert(sizeof(struct prefix_key) == 24, "prefix_key");

struct syn_window {
	u32 window;
	u32 count;
	u32 hot;
	u32 pad;
};
_Static_assert(__builtin_offsetof(struct syn_window, window) == 0, "syn_window.window");
_Static_assert(__builtin_offsetof(struct syn_window, count) == 4, "syn_window.count");
_Static_assert(__builtin_offsetof(struct syn_window, hot) == 8, "syn_window.hot");
_Static_assert(__builtin_offsetof(struct syn_window, pad) == 12, "syn_window.pad");
_Static_assert(sizeof(struct syn_window) == 16, "syn_window");

struct target_counters {
	u64 packets_in;
	u64 bytes_in;
	u64 packets_out;
	u64 bytes_out;
	u64 flows;
	u64 failed;
	u64 cursor;
	u64 pad;
};
_Static_assert(__builtin_offsetof(struct target_counters, packets_in) == 0, "target_counters.packets_in");
_Static_assert(__builtin_offsetof(struct target_counters, bytes_in) == 8, "target_counters.bytes_in");
_Static_assert(__builtin_offsetof(struct target_counters, packets_out) == 16, "target_counters.packets_out");
_Static_assert(__builtin_offsetof(struct target_counters, bytes_out) == 24, "target_counters.bytes_out");
_Static_assert(__builtin_offsetof(struct target_counters, flows) == 32, "target_counters.flows");
_Static_assert(__builtin_offsetof(struct target_counters, failed) == 40, "target_counters.failed");
_Static_assert(__builtin_offsetof(struct target_counters, cursor) == 48, "target_counters.cursor");
_Static_assert(__builtin_offsetof(struct target_counters, pad) == 56, "target_counters.pad");
_Static_assert(sizeof(struct target_counters) == 64, "target_counters");

struct service_counters {
	u64 by_reason[32];
};
_Static_assert(__builtin_offsetof(struct service_counters, by_reason) == 0, "service_counters.by_reason");
_Static_assert(sizeof(struct service_counters) == 256, "service_counters");

struct sample {
	u64 at;
	u32 client[4];
	u16 client_port;
	u16 own_port;
	u32 service;
	u32 target;
	u32 reason;
};
_Static_assert(__builtin_offsetof(struct sample, at) == 0, "sample.at");
_Static_assert(__builtin_offsetof(struct sample, client) == 8, "sample.client");
_Static_assert(__builtin_offsetof(struct sample, client_port) == 24, "sample.client_port");
_Static_assert(__builtin_offsetof(struct sample, own_port) == 26, "sample.own_port");
_Static_assert(__builtin_offsetof(struct sample, service) == 28, "sample.service");
_Static_assert(__builtin_offsetof(struct sample, target) == 32, "sample.target");
_Static_assert(__builtin_offsetof(struct sample, reason) == 36, "sample.reason");
_Static_assert(sizeof(struct sample) == 40, "sample");

struct config {
	u64 secret[2];
	u32 flags;
	u32 services;
	u32 targets;
	u32 trust;
};
_Static_assert(__builtin_offsetof(struct config, secret) == 0, "config.secret");
_Static_assert(__builtin_offsetof(struct config, flags) == 16, "config.flags");
_Static_assert(__builtin_offsetof(struct config, services) == 20, "config.services");
_Static_assert(__builtin_offsetof(struct config, targets) == 24, "config.targets");
_Static_assert(__builtin_offsetof(struct config, trust) == 28, "config.trust");
_Static_assert(sizeof(struct config) == 32, "config");

#endif
