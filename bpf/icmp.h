/* ICMP errors: read what they quote, find its flow, and send them on to whom they concern.
 *
 * An error about a packet Fathom sent to a server quotes Fathom's address and comes back as one about the client's
 * own packet; an error about a server's packet to a client goes to that server. */
#ifndef FATHOM_ICMP_H
#define FATHOM_ICMP_H

#include "flow.h"

INLINE int is_error(u8 type, int v6)
{
	/* RFC 4443 2.1: errors are below 128. RFC 792: unreachable, time exceeded, parameter problem. */
	return v6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
}

/* The quoted packet's addresses and ports, turned round: the key of the flow it belongs to. */
INLINE int read_quoted(struct xdp_md *ctx, struct packet *p, struct quoted *q, int v6)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u32 l3 = L4(p) + sizeof(struct icmp), l4;

	if (v6) {
		struct ipv6 *h = data + l3;
		if ((void *)(h + 1) > end || (*(u8 *)h >> 4) != 6)
			return 0;
		q->proto = h->next;
		copy_addr(q->saddr, h->daddr);
		copy_addr(q->daddr, h->saddr);
		l4 = l3 + sizeof(*h);
	} else {
		struct ipv4 *h = data + l3;
		/* A later fragment quotes no ports. */
		if ((void *)(h + 1) > end || h->version != 4 || h->ihl < 5 || (h->fragment & BE16(0x1fff)))
			return 0;
		q->proto = h->proto;
		q->saddr[0] = h->daddr;
		q->daddr[0] = h->saddr;
		l4 = l3 + h->ihl * 4;
	}
	if (q->proto != PROTO_TCP && q->proto != PROTO_UDP)
		return 0;
	u16 *ports = data + (l4 & 0x1ff);
	if ((void *)(ports + 2) > end)
		return 0;
	q->sport = ports[1];
	q->dport = ports[0];
	q->l3 = (u16)l3;
	q->l4 = (u16)l4;
	return 1;
}

/* Outer addresses and the quoted packet's, with every checksum that covers them. */
INLINE int rewrite_error(struct xdp_md *ctx, struct packet *p, u32 service, int v6)
{
	struct scratch *x = scratch_memory();
	if (!p || !x)
		return XDP_PASS;
	struct quoted *q = &x->quoted;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	void *ip = data + L3(p);
	struct icmp *icmp = data + L4(p);
	void *inner = data + (q->l3 & 0x1ff);
	u16 *ports = data + (q->l4 & 0x1ff);

	if ((void *)(eth + 1) > end || (void *)(icmp + 1) > end || (void *)(ports + 2) > end)
		return XDP_PASS;
	u64 outer = change_addr(p->saddr, q->outer_saddr, v6) + change_addr(p->daddr, q->outer_daddr, v6);
	u64 within = change_addr(q->daddr, q->inner_saddr, v6) + change_addr(q->saddr, q->inner_daddr, v6);
	u64 delta = change(ports_of(q->dport, q->sport), ports_of(q->inner_sport, q->inner_dport));
	/* Read the addresses again below: kept, they would fill the stack. */
	asm volatile("" : "+r"(outer), "+r"(within) : : "memory");
	if (v6) {
		struct ipv6 *h = ip, *i = inner;
		if ((void *)(h + 1) > end || (void *)(i + 1) > end)
			return XDP_PASS;
		if (!hop(h, 1))
			return expired(service);
		delta += outer + within; /* ICMPv6 sums the pseudo header too (RFC 4443 2.3) */
		copy_addr(h->saddr, q->outer_saddr);
		copy_addr(h->daddr, q->outer_daddr);
		copy_addr(i->saddr, q->inner_saddr);
		copy_addr(i->daddr, q->inner_daddr);
	} else {
		struct ipv4 *h = ip, *i = inner;
		if ((void *)(h + 1) > end || (void *)(i + 1) > end)
			return XDP_PASS;
		if (h->ttl <= 1)
			return expired(service);
		h->ttl--;
		h->check = adjusted(h->check, outer + 0xfffe);
		h->saddr = q->outer_saddr[0];
		h->daddr = q->outer_daddr[0];
		/* The quoted header's own checksum takes up what its addresses change: the ICMP sum sees only the ports. */
		i->check = adjusted(i->check, within);
		i->saddr = q->inner_saddr[0];
		i->daddr = q->inner_daddr[0];
	}
	*(u32 *)ports = ports_of(q->inner_sport, q->inner_dport);
	icmp->check = adjusted(icmp->check, delta);
	copy_mac(eth->dst, q->dmac);
	copy_mac(eth->src, q->smac);
	return leave(ctx, q->ifindex);
}

GLOBAL int rewrite_error4(struct xdp_md *ctx, struct packet *p, u32 service)
{
	return rewrite_error(ctx, p, service, 0);
}

GLOBAL int rewrite_error6(struct xdp_md *ctx, struct packet *p, u32 service)
{
	return rewrite_error(ctx, p, service, 1);
}

/* An XDP action; or -1 with the flow in scratch memory, when the packet is to be sent to that flow's server whole. */
INLINE int handle_icmp(struct xdp_md *ctx, struct packet *p, int v6)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct icmp *icmp = data + L4(p);
	struct scratch *x = scratch_memory();

	if (!x)
		return XDP_PASS;
	struct quoted *q = &x->quoted;
	if ((void *)(icmp + 1) > end)
		return malformed(p);
	if (!is_error(icmp->type, v6)) /* echo is the kernel's to answer: the address is this machine's */
		return XDP_PASS;
	if (p->fragment || !read_quoted(ctx, p, q, v6))
		return pass(p, REASON_ICMP_OTHER);
	struct flow *f = look_up(x, q->saddr, q->daddr, q->sport, q->dport, (u8)q->proto, v6);
	if (!f)
		return pass(p, REASON_ICMP_OTHER);
	u32 service = f->service;
	struct target *t = map_lookup(&targets, &f->target);
	struct service *s = map_lookup(&services, &service);
	if (!t || !s || t->generation != f->generation)
		return pass(p, REASON_ICMP_OTHER);
	count(service, REASON_ICMP_ERROR);
	if (f->kind == FLOW_REVERSE) {
		copy_addr(q->outer_saddr, (const u32 *)s->addr);
		copy_addr(q->outer_daddr, f->addr);
		copy_addr(q->inner_saddr, f->addr);
		copy_addr(q->inner_daddr, (const u32 *)s->addr);
		q->inner_sport = f->port;
		q->inner_dport = s->port;
		q->ifindex = f->ifindex;
		copy_mac(q->smac, f->smac);
		copy_mac(q->dmac, f->dmac);
	} else if (f->kind == FLOW_FORWARD) {
		copy_addr(q->outer_saddr, p->saddr);
		copy_addr(q->outer_daddr, (const u32 *)t->addr);
		copy_addr(q->inner_saddr, (const u32 *)t->addr);
		copy_addr(q->inner_daddr, f->addr);
		q->inner_sport = t->port;
		q->inner_dport = f->port;
		q->ifindex = t->ifindex;
		copy_mac(q->smac, t->smac);
		copy_mac(q->dmac, t->dmac);
	} else {
		x->forward = *f;
		return -1;
	}
	return v6 ? rewrite_error6(ctx, p, service) : rewrite_error4(ctx, p, service);
}

GLOBAL int icmp4(struct xdp_md *ctx, struct packet *p)
{
	return p ? handle_icmp(ctx, p, 0) : XDP_PASS;
}

GLOBAL int icmp6(struct xdp_md *ctx, struct packet *p)
{
	return p ? handle_icmp(ctx, p, 1) : XDP_PASS;
}

#endif
