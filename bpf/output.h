/* How a packet leaves: rewritten, by MAC, or inside another header; and "too big" back to its sender. */
#ifndef FATHOM_OUTPUT_H
#define FATHOM_OUTPUT_H

#include "packet.h"

INLINE int leave(struct xdp_md *ctx, u32 ifindex)
{
	if (ifindex == ctx->ingress_ifindex && !(config.flags & CONFIG_REDIRECT_SELF))
		return XDP_TX;
	return (int)redirect(ifindex, 0);
}

INLINE int expired(u32 service)
{
	count(service, REASON_TTL_EXPIRED);
	return XDP_DROP;
}

/* Before the frame's start moves by `headers`: an Ethernet header with its tags, addresses swapped, for the new start. */
INLINE int answer_ethernet(struct xdp_md *ctx, int l3, int headers)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *to = data, *from = data + headers;

	if (data + headers + 22 > end)
		return 0;
	struct eth old = *from;
	u32 tag = *(u32 *)(from + 1), second = *(u32 *)((void *)(from + 1) + 4);
	copy_mac(to->dst, old.src);
	copy_mac(to->src, old.dst);
	to->proto = old.proto;
	if (l3 > 14)
		*(u32 *)(to + 1) = tag;
	if (l3 > 18)
		*(u32 *)((void *)(to + 1) + 4) = second;
	return 1;
}

/* "Too big" to the sender: RFC 792 type 3 code 4 with the MTU of RFC 1191; RFC 4443 3.2.
 * The frame is cut to what is quoted, and the new headers are put before it. */
GLOBAL int too_big(struct xdp_md *ctx, struct packet *p, u32 service, u32 mtu)
{
	if (!p)
		return XDP_DROP;
	int v6 = p->v6, l3 = L3(p);
	int quote = v6 ? 48 : 28, headers = v6 ? 48 : 28;
	int size = l3 + p->length;

	count(service, REASON_TOO_BIG);
	/* A frame may be padded or end with its IP packet; cutting `size` leaves at least the quote either way. */
	if (p->length <= quote || adjust_tail(ctx, l3 + quote - size) || adjust_head(ctx, -headers))
		return XDP_DROP;
	if (!answer_ethernet(ctx, l3, headers))
		return XDP_DROP;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (v6) {
		struct ipv6 *ip = data + l3;
		struct icmp *icmp = (void *)(ip + 1);
		if ((void *)(icmp + 1) + 48 > end)
			return XDP_DROP;
		ip->head = BE32(0x60000000);
		ip->payload = BE16(8 + 48);
		ip->next = PROTO_ICMPV6;
		ip->hops = 64;
		copy_addr(ip->saddr, p->daddr);
		copy_addr(ip->daddr, p->saddr);
		icmp->type = 2;
		icmp->code = 0;
		icmp->check = 0;
		icmp->rest = BE32(mtu);
		u64 sum = pseudo(p->daddr, p->saddr, 8 + 48, PROTO_ICMPV6, 1);
		icmp->check = (u16)~fold(sum + (u32)csum_diff(0, 0, icmp, 56, 0));
	} else {
		struct ipv4 *ip = data + l3;
		struct icmp *icmp = (void *)(ip + 1);
		if ((void *)(icmp + 1) + 28 > end)
			return XDP_DROP;
		*(u16 *)ip = 0x45;
		ip->length = BE16(20 + 8 + 28);
		ip->id = 0;
		ip->fragment = 0;
		ip->ttl = 64;
		ip->proto = PROTO_ICMP;
		ip->check = 0;
		ip->saddr = p->daddr[0];
		ip->daddr = p->saddr[0];
		ip->check = (u16)~fold((u32)csum_diff(0, 0, ip, 20, 0));
		icmp->type = 3;
		icmp->code = 4;
		icmp->check = 0;
		icmp->rest = BE32(mtu & 0xffff);
		icmp->check = (u16)~fold((u32)csum_diff(0, 0, icmp, 36, 0));
	}
	return leave(ctx, ctx->ingress_ifindex);
}

/* One hop less. 0 = it ends here. */
INLINE int hop(void *ip, int v6)
{
	if (v6) {
		struct ipv6 *h = ip;
		if (h->hops <= 1)
			return 0;
		h->hops--;
		return 1;
	}
	struct ipv4 *h = ip;
	if (h->ttl <= 1)
		return 0;
	h->ttl--;
	/* The 16-bit word with the TTL in its low byte became one less: ~m + m' is 0xfffe whatever m was. */
	h->check = adjusted(h->check, 0xfffe);
	return 1;
}

/* Whether a checksum that looks like a bare pseudo header's sum is one (a device is still to sum the segment) and not a
 * finished sum that happens to look so, as one in 65,536 does: finished, the segment adds up. */
GLOBAL int unfinished(struct xdp_md *ctx, struct packet *p)
{
	if (!p)
		return 0;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u32 length = p->length - (L4(p) - L3(p));
	void *at = data + L4(p);
	u64 sum;

	if (length > 1500) /* no wire carries this: a device is to cut it up, and to sum the parts */
		return 1;
	if (p->v6)
		sum = pseudo(p->saddr, p->daddr, length, p->proto, 1);
	else
		sum = pseudo(p->saddr, p->daddr, length, p->proto, 0);
	for (int i = 0; i < 375 && length >= 4; i++, length -= 4, at += 4) {
		KEEP(at);
		if (at + 4 > end)
			return 0;
		sum += *(u32 *)at;
	}
	KEEP(at);
	if (length >= 2) {
		if (at + 2 > end)
			return 0;
		sum += *(u16 *)at;
		at += 2;
	}
	KEEP(at);
	if (length & 1) {
		if (at + 1 > end)
			return 0;
		sum += *(u8 *)at;
	}
	return fold(sum) != 0xffff;
}

/* New addresses and ports, checksums, one hop less, new MACs. */
INLINE int rewrite(struct xdp_md *ctx, struct packet *p, u32 service, int partial, const u32 *saddr, const u32 *daddr, u16 sport,
		   u16 dport, const u8 *smac, const u8 *dmac, u32 ifindex, int v6)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	void *ip = data + L3(p);
	void *l4 = data + L4(p);
	u64 delta = change_addr(p->saddr, saddr, v6) + change_addr(p->daddr, daddr, v6);

	if (unlikely(partial) && p->fragment != FRAGMENT_LATER) {
		u16 *sum = l4 + (p->proto == PROTO_TCP ? 16 : 6);
		if ((void *)(sum + 1) > end)
			return XDP_PASS;
		u32 length = p->length - (L4(p) - L3(p));
		partial = *sum == fold(pseudo(p->saddr, p->daddr, length, p->proto, v6)) && unfinished(ctx, p);
	}
	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (v6) {
		struct ipv6 *h = ip;
		if ((void *)(h + 1) > end)
			return XDP_PASS;
		if (unlikely(!hop(h, 1)))
			return expired(service);
		copy_addr(h->saddr, saddr);
		copy_addr(h->daddr, daddr);
	} else {
		struct ipv4 *h = ip;
		if ((void *)(h + 1) > end)
			return XDP_PASS;
		if (unlikely(h->ttl <= 1))
			return expired(service);
		h->ttl--;
		h->check = adjusted(h->check, delta + 0xfffe);
		h->saddr = saddr[0];
		h->daddr = daddr[0];
	}
	if (likely(p->fragment != FRAGMENT_LATER)) {
		u64 ports = change(ports_of(p->sport, p->dport), ports_of(sport, dport));
		u16 *check;
		if (p->proto == PROTO_TCP) {
			struct tcp *tcp = l4;
			if ((void *)(tcp + 1) > end)
				return XDP_PASS;
			*(u32 *)tcp = ports_of(sport, dport);
			check = &tcp->check;
		} else {
			struct udp *udp = l4;
			if ((void *)(udp + 1) > end)
				return XDP_PASS;
			*(u32 *)udp = ports_of(sport, dport);
			check = &udp->check;
		}
		u16 old = *check;
		if (unlikely(partial)) {
			/* The field holds the pseudo header's sum, not a complement; ports are not in it. */
			*check = fold(old + delta);
		} else if (p->proto == PROTO_TCP || old) {
			/* RFC 768: zero means "none"; a sum that comes out as zero is sent as ones. */
			u16 sum = adjusted(old, delta + ports);
			*check = p->proto == PROTO_UDP && !sum ? 0xffff : sum;
		}
	}
	copy_mac(eth->dst, dmac);
	copy_mac(eth->src, smac);
	return leave(ctx, ifindex);
}

/* The frame as it is, to another MAC. */
INLINE int send_by_mac(struct xdp_md *ctx, struct packet *p, u32 service, const struct target *t, int v6)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	void *ip = data + L3(p);

	if ((void *)(eth + 1) > end || ip + (v6 ? sizeof(struct ipv6) : sizeof(struct ipv4)) > end)
		return XDP_PASS;
	if (unlikely(!hop(ip, v6)))
		return expired(service);
	copy_mac(eth->dst, t->dmac);
	copy_mac(eth->src, t->smac);
	return leave(ctx, t->ifindex);
}

/* Inside an outer IP header, and with `gue` a UDP header (GUE variant 1: the inner packet follows at once,
 * draft-ietf-intarea-gue-09 4; the source port carries the flow, so that routers and receivers can spread). */
INLINE int encapsulate(struct xdp_md *ctx, struct packet *p, u32 service, const struct target *t, int gue, int v6)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int outer6 = !!(t->flags & TARGET_V6);
	int added = (outer6 ? 40 : 20) + (gue ? 8 : 0);
	int l3 = L3(p);
	void *ip = data + l3;
	u32 entropy = p->saddr[0] ^ p->saddr[3] ^ ports_of(p->sport, p->dport);
	u32 tag = 0, second = 0;
	u8 tos = 0;

	if (unlikely(p->length + added > t->mtu))
		return too_big(ctx, p, service, t->mtu - added);
	if (data + 22 > end || ip + (v6 ? sizeof(struct ipv6) : sizeof(struct ipv4)) > end)
		return XDP_PASS;
	if (unlikely(!hop(ip, v6)))
		return expired(service);
	if (!v6)
		tos = ((struct ipv4 *)ip)->tos;
	if (unlikely(l3 > 14)) {
		tag = *(u32 *)(data + 12);
		second = *(u32 *)(data + 16);
	}
	if (unlikely(adjust_head(ctx, -added))) {
		count(service, REASON_INTERNAL);
		return XDP_PASS;
	}
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + 22 > end)
		return XDP_DROP;
	struct eth *eth = data;
	copy_mac(eth->dst, t->dmac);
	copy_mac(eth->src, t->smac);
	u16 type = outer6 ? ETH_IPV6 : ETH_IPV4;
	if (likely(l3 == 14)) {
		eth->proto = type;
	} else if (l3 == 18) {
		*(u32 *)(data + 12) = tag;
		*(u16 *)(data + 16) = type;
	} else {
		*(u32 *)(data + 12) = tag;
		*(u32 *)(data + 16) = second;
		*(u16 *)(data + 20) = type;
	}

	u8 inner = v6 ? PROTO_IPV6 : PROTO_IPIP, proto = gue ? PROTO_UDP : inner;
	struct udp *udp;
	ip = data + l3;
	entropy ^= entropy >> 16;
	if (outer6) {
		struct ipv6 *h = ip;
		udp = (void *)(h + 1);
		if ((void *)(udp + 1) > end)
			return XDP_DROP;
		h->head = BE32(0x60000000 | (entropy & 0xfffff));
		h->payload = BE16(p->length + (gue ? 8 : 0));
		h->next = proto;
		h->hops = 64;
		copy_addr(h->saddr, (const u32 *)t->outer);
		copy_addr(h->daddr, (const u32 *)t->addr);
	} else {
		struct ipv4 *h = ip;
		udp = (void *)(h + 1);
		if ((void *)(udp + 1) > end)
			return XDP_DROP;
		u16 length = BE16(p->length + added), first = (u16)(0x45 | tos << 8), life = (u16)(64 | proto << 8);
		u32 saddr = *(const u32 *)t->outer, daddr = *(const u32 *)t->addr;
		*(u16 *)h = first;
		h->length = length;
		h->id = 0;
		h->fragment = BE16(0x4000); /* RFC 2003 3.1; what would not fit was answered above */
		*(u16 *)&h->ttl = life;
		h->saddr = saddr;
		h->daddr = daddr;
		h->check = (u16)~fold((u64)first + length + BE16(0x4000) + life + saddr + daddr);
	}
	if (gue) {
		udp->sport = BE16(0x8000 | (entropy & 0x3fff));
		udp->dport = BE16(LIMIT_GUE_PORT);
		udp->length = BE16(p->length + 8);
		udp->check = 0; /* RFC 6935: a tunnel may, over IPv6 too */
	}
	return leave(ctx, t->ifindex);
}

/* Sent on whole to the server of a flow whose replies Fathom does not see. */
INLINE int send_direct(struct xdp_md *ctx, struct packet *p, u32 service, const struct target *t, u8 kind, int v6)
{
	if (kind == FLOW_DIRECT)
		return send_by_mac(ctx, p, service, t, v6);
	return encapsulate(ctx, p, service, t, kind == FLOW_DIRECT + 2, v6);
}

#endif
