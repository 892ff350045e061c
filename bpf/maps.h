/* The maps. Sizes here are placeholders: user space sets max_entries when it loads the object.
 *
 * Tables that user space writes and counters that it reads are mmap-able arrays: a change is a store and a scrape is
 * a load, with no system call per entry. Counters are one array of CPUs x slots, because per-CPU arrays cannot be
 * mapped. */
#ifndef FATHOM_MAPS_H
#define FATHOM_MAPS_H

#include "kernel.h"

#include "fathom.h"

const volatile struct config config = {};

#define TABLE(name_, value_)                 \
	struct {                             \
		UINT(type, MAP_ARRAY);       \
		UINT(max_entries, 1);        \
		UINT(map_flags, F_MMAPABLE); \
		TYPE(key, u32);              \
		TYPE(value, value_);         \
	} name_ SEC(".maps")

#define LRU(name_, key_, value_)             \
	struct {                             \
		UINT(type, MAP_LRU_HASH);    \
		UINT(max_entries, 1024);     \
		TYPE(key, key_);             \
		TYPE(value, value_);         \
	} name_ SEC(".maps")

#define PREFIXES(name_)                         \
	struct {                                \
		UINT(type, MAP_LPM_TRIE);       \
		UINT(max_entries, 1);           \
		UINT(map_flags, F_NO_PREALLOC); \
		TYPE(key, struct prefix_key);   \
		TYPE(value, u32);               \
	} name_ SEC(".maps")

TABLE(services, struct service);
TABLE(targets, struct target);
TABLE(own, struct own);
TABLE(tables, struct table_pair); /* Maglev tables, one after the other; an entry is an index in `targets` */
TABLE(syns, struct syn_window);
TABLE(service_counters, struct service_counters);
TABLE(target_counters, struct target_counters);

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1);
	TYPE(key, struct vip_key);
	TYPE(value, u32);
} vips SEC(".maps");

LRU(flows4, struct flow_key4, struct flow);
LRU(flows6, struct flow_key6, struct flow);
LRU(fragments, struct fragment_key, struct fragment_ports);
LRU(rates, struct source_key, u64);
LRU(affinity, struct source_key, struct remembered);
LRU(trusted, struct source_key, u32); /* sources that answered a SYN challenge, and until which window */
PREFIXES(allow);
PREFIXES(deny);

struct {
	UINT(type, MAP_RINGBUF);
	UINT(max_entries, 4096);
} samples SEC(".maps");

/* What is too big for the stack, 512 bytes for all functions together: both directions of a flow about to be opened, and
 * keys. */
struct scratch {
	struct flow forward, reverse;
	struct flow_key6 key6;
	struct flow_key4 key4;
	struct vip_key vip;
	u32 pad;
	struct source_key source;
	struct prefix_key prefix;
	struct quoted {
		u32 saddr[4], daddr[4];
		u16 sport, dport;
		u16 l3, l4;
		u32 proto;
		/* What takes the place of the outer and the quoted addresses, and where the error goes. */
		u32 outer_saddr[4], outer_daddr[4], inner_saddr[4], inner_daddr[4];
		u16 inner_sport, inner_dport;
		u32 ifindex;
		u8 smac[6], dmac[6];
	} quoted;
};
struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct scratch);
} scratches SEC(".maps");

/* CPU x slot; the program is never interrupted by itself on a CPU, so plain additions do. */
INLINE void count(u32 service, u32 reason)
{
	u32 i = cpu_number() * config.services + service;
	struct service_counters *c = map_lookup(&service_counters, &i);
	if (c)
		c->by_reason[reason & (REASONS - 1)]++;
}

INLINE struct scratch *scratch_memory(void)
{
	u32 zero = 0;
	return map_lookup(&scratches, &zero);
}

INLINE struct target_counters *counters_of(u32 target)
{
	u32 i = cpu_number() * config.targets + target;
	return map_lookup(&target_counters, &i);
}

#endif
