/* What is known of a packet, where flows are kept, and the arithmetic of checksums. */
#ifndef FATHOM_PACKET_H
#define FATHOM_PACKET_H

#include "maps.h"

struct packet {
	u32 saddr[4], daddr[4];
	u16 sport, dport;
	u16 l3, l4; /* offsets from the frame's start */
	u16 length; /* of the IP packet */
	u8 proto, tcp_flags;
	u8 v6, fragment;
	u8 reopen; /* the flow's entry is to be replaced */
	u8 moved; /* ... because its server is gone or down */
	u32 fragment_id;
};

#define FRAGMENT_FIRST 1
#define FRAGMENT_LATER 2

/* Masks: the verifier forgets what an offset can be once it was stored in two bytes, and gives a packet pointer
 * no range if its offset could pass 65,535. */
#define L3(p) ((p)->l3 & 0x1f)
#define L4(p) ((p)->l4 & 0xff)

INLINE u16 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)((sum & 0xffff) + (sum >> 16));
}

/* RFC 1624: HC' = ~(~HC + ~m + m'); `delta` is the sum of all ~m + m'. */
INLINE u16 adjusted(u16 check, u64 delta)
{
	return (u16)~fold((u16)~check + delta);
}

INLINE u64 change(u32 from, u32 to)
{
	return (u64)(u32)~from + to;
}

INLINE u64 change_addr(const u32 *from, const u32 *to, int v6)
{
	u64 sum = change(from[0], to[0]);
	if (v6)
		sum += change(from[1], to[1]) + change(from[2], to[2]) + change(from[3], to[3]);
	return sum;
}

/* Sum of the pseudo header (RFC 9293 3.1, RFC 8200 8.1). */
INLINE u64 pseudo(const u32 *saddr, const u32 *daddr, u32 length, u8 proto, int v6)
{
	u64 sum = (u64)saddr[0] + daddr[0] + BE32(length) + BE32((u32)proto);
	if (v6)
		sum += (u64)saddr[1] + saddr[2] + saddr[3] + daddr[1] + daddr[2] + daddr[3];
	return sum;
}

INLINE u32 ports_of(u16 sport, u16 dport)
{
	return (u32)sport | (u32)dport << 16;
}

INLINE void copy_addr(u32 *to, const u32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

INLINE void copy_mac(u8 *to, const u8 *from)
{
	__builtin_memcpy(to, from, 6);
}

INLINE void key4(struct flow_key4 *k, const u32 *saddr, const u32 *daddr, u16 sport, u16 dport, u8 proto)
{
	k->saddr = saddr[0];
	k->daddr = daddr[0];
	k->sport = sport;
	k->dport = dport;
	k->proto = proto;
}

INLINE void key6(struct flow_key6 *k, const u32 *saddr, const u32 *daddr, u16 sport, u16 dport, u8 proto)
{
	copy_addr(k->saddr, saddr);
	copy_addr(k->daddr, daddr);
	k->sport = sport;
	k->dport = dport;
	k->proto = proto;
}

INLINE struct flow *find_flow(const u32 *saddr, const u32 *daddr, u16 sport, u16 dport, u8 proto, int v6)
{
	if (v6) {
		struct flow_key6 key;
		key6(&key, saddr, daddr, sport, dport, proto);
		return map_lookup(&flows6, &key);
	}
	struct flow_key4 key;
	key4(&key, saddr, daddr, sport, dport, proto);
	return map_lookup(&flows4, &key);
}

/* The same where speed matters less than the stack: the key lies in scratch memory. */
INLINE struct flow *look_up(struct scratch *x, const u32 *saddr, const u32 *daddr, u16 sport, u16 dport, u8 proto, int v6)
{
	if (v6) {
		key6(&x->key6, saddr, daddr, sport, dport, proto);
		return map_lookup(&flows6, &x->key6);
	}
	key4(&x->key4, saddr, daddr, sport, dport, proto);
	return map_lookup(&flows4, &x->key4);
}

INLINE long enter(struct scratch *x, const u32 *saddr, const u32 *daddr, u16 sport, u16 dport, u8 proto, int v6,
		  const struct flow *flow, u64 how)
{
	if (v6) {
		key6(&x->key6, saddr, daddr, sport, dport, proto);
		return map_update(&flows6, &x->key6, flow, how);
	}
	key4(&x->key4, saddr, daddr, sport, dport, proto);
	return map_update(&flows4, &x->key4, flow, how);
}

INLINE void forget(struct scratch *x, const u32 *saddr, const u32 *daddr, u16 sport, u16 dport, u8 proto, int v6)
{
	if (v6) {
		key6(&x->key6, saddr, daddr, sport, dport, proto);
		map_delete(&flows6, &x->key6);
		return;
	}
	key4(&x->key4, saddr, daddr, sport, dport, proto);
	map_delete(&flows4, &x->key4);
}

/* A service at this address, whatever the port; 0 = the address is not ours. */
GLOBAL u32 ours(struct packet *p)
{
	struct vip_key key = {};
	if (!p)
		return 0;
	copy_addr((u32 *)key.addr, p->daddr);
	u32 *service = map_lookup(&vips, &key);
	return service ? *service : 0;
}

/* Counted if it was meant for us, and passed up. */
GLOBAL int pass(struct packet *p, u32 reason)
{
	u32 service = p ? ours(p) : 0;
	if (service)
		count(service, reason);
	return XDP_PASS;
}

/* Counted and dropped if it was meant for us; others' malformed packets are the kernel's to judge. */
GLOBAL int malformed(struct packet *p)
{
	u32 service = p ? ours(p) : 0;
	if (!service)
		return XDP_PASS;
	count(service, REASON_MALFORMED);
	return XDP_DROP;
}

#endif
