/* Fathom's packet depth: forwards packets of known flows, opens flows for services it knows, and passes everything
 * else up the stack. Whatever it cannot serve it passes up too, and counts why.
 *
 *   frame -> parse -> flow known? --yes--> rewrite or encapsulate, count, send
 *                        | no
 *                     service? --no--> XDP_PASS
 *                        | yes
 *                     lists, rates, SYN challenge -> choose -> remember -> (as above)
 *
 * User space (crates/packet) owns every table; the program owns flows and counters. */
#include "decap.h"
#include "icmp.h"

#ifdef FATHOM_BENCH
#include "bench.h"
#endif

GLOBAL int read_fragment(struct packet *p)
{
	if (!p)
		return 0;
	struct fragment_key key = { .id = p->fragment_id, .proto = p->proto };
	copy_addr(key.saddr, p->saddr);
	copy_addr(key.daddr, p->daddr);
	struct fragment_ports *ports = map_lookup(&fragments, &key);
	if (!ports)
		return 0;
	p->sport = ports->sport;
	p->dport = ports->dport;
	return 1;
}

GLOBAL int remember_fragment(struct packet *p)
{
	if (!p)
		return 0;
	struct fragment_key key = { .id = p->fragment_id, .proto = p->proto };
	struct fragment_ports ports = { .sport = p->sport, .dport = p->dport };
	copy_addr(key.saddr, p->saddr);
	copy_addr(key.daddr, p->daddr);
	return (int)map_update(&fragments, &key, &ports, UPDATE_ANY);
}

/* Ports and flags. Returns 0 if the transport header contradicts itself or the packet. */
INLINE int read_transport(struct packet *p, void *l4, void *end, u32 room)
{
	if (p->proto == PROTO_TCP) {
		struct tcp *tcp = l4;
		if ((void *)(tcp + 1) > end || tcp->doff < 5 || tcp->doff * 4u > room)
			return 0;
		p->tcp_flags = tcp->flags;
		p->sport = tcp->sport;
		p->dport = tcp->dport;
		return 1;
	}
	struct udp *udp = l4;
	if ((void *)(udp + 1) > end)
		return 0;
	u32 length = BE16(udp->length);
	/* RFC 768: the length counts its own header; only the first fragment's exceeds what is here. */
	if (length < 8 || (length > room && !p->fragment))
		return 0;
	p->sport = udp->sport;
	p->dport = udp->dport;
	return 1;
}

INLINE int send(struct xdp_md *ctx, struct packet *p, struct flow *f, struct target *t, int v6)
{
	u32 service = f->service;

	if (unlikely(p->fragment)) {
		if (p->fragment == FRAGMENT_FIRST)
			remember_fragment(p);
		count(service, REASON_FRAGMENT);
	}
	struct target_counters *c = counters_of(f->target);
	if (unlikely(!c))
		return XDP_PASS;
	if (f->kind == FLOW_REVERSE) {
		struct service *s = map_lookup(&services, &service);
		if (!s)
			return XDP_PASS;
		c->packets_out++;
		c->bytes_out += p->length;
		return rewrite(ctx, p, service, t->flags & TARGET_PARTIAL, (const u32 *)s->addr, f->addr, s->port, f->port, f->smac,
			       f->dmac, f->ifindex, v6);
	}
	c->packets_in++;
	c->bytes_in += p->length;
	if (f->kind == FLOW_FORWARD) {
		if (t->mtu && unlikely(p->length > t->mtu))
			return too_big(ctx, p, service, t->mtu);
		return rewrite(ctx, p, service, t->flags & TARGET_PARTIAL, f->addr, (const u32 *)t->addr, f->port, t->port, t->smac,
			       t->dmac, t->ifindex, v6);
	}
	return send_direct(ctx, p, service, t, f->kind, v6);
}

INLINE int forward(struct xdp_md *ctx, struct packet *p, int v6)
{
	struct flow *f = 0;
	struct target *t = 0;
	int verdict = 0;

	if (unlikely(p->proto == (v6 ? PROTO_ICMPV6 : PROTO_ICMP))) {
		verdict = v6 ? icmp6(ctx, p) : icmp4(ctx, p);
		if (verdict >= 0)
			return verdict;
	} else {
		u64 now = coarse_ns();
		f = find_flow(p->saddr, p->daddr, p->sport, p->dport, p->proto, v6);
		if (likely(f)) {
			t = map_lookup(&targets, &f->target);
			if (unlikely(!t))
				return XDP_PASS;
			int lost = t->generation != f->generation || (!(t->flags & TARGET_USABLE) && f->kind != FLOW_REVERSE);
			if (unlikely(lost)) {
				if (f->kind == FLOW_REVERSE)
					return XDP_PASS;
				p->moved = p->reopen = 1;
				f = 0;
			} else if (unlikely(p->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST)) && track(p, f, now)) {
				p->reopen = 1;
				f = 0;
			} else if (unlikely(now - f->last > SECOND) && refresh(ctx, p, f, now)) {
				p->reopen = 1;
				f = 0;
			}
		}
		if (unlikely(!f)) {
			verdict = open_flow(ctx, p, now);
			if (verdict >= 0)
				return verdict;
		}
	}
	if (unlikely(!f)) {
		struct scratch *x = scratch_memory();
		if (!x)
			return XDP_PASS;
		f = &x->forward;
		t = map_lookup(&targets, &f->target);
		if (!t)
			return XDP_PASS;
	}
	return send(ctx, p, f, t, v6);
}

INLINE int ip4(struct xdp_md *ctx, u32 l3)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv4 *ip = data + l3;
	struct packet p = { .l3 = l3 };

	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	p.saddr[0] = ip->saddr;
	p.daddr[0] = ip->daddr;
	p.proto = ip->proto;
	p.length = BE16(ip->length);
	if (p.proto != PROTO_TCP && p.proto != PROTO_UDP && p.proto != PROTO_ICMP)
		return XDP_PASS;
	u32 header = ip->ihl * 4;
	if (unlikely(ip->version != 4 || header < 20 || p.length < header || (void *)ip + p.length > end))
		return malformed(&p);
	p.l4 = l3 + header;
	u32 fragment = ip->fragment & BE16(0x3fff);
	if (unlikely(fragment)) {
		p.fragment = fragment & BE16(0x1fff) ? FRAGMENT_LATER : FRAGMENT_FIRST;
		p.fragment_id = ip->id;
	}
	if (unlikely(p.fragment == FRAGMENT_LATER)) {
		if (!read_fragment(&p))
			return pass(&p, REASON_FRAGMENT_UNKNOWN);
	} else if (likely(p.proto != PROTO_ICMP) && unlikely(!read_transport(&p, (void *)ip + header, end, p.length - header))) {
		return malformed(&p);
	}
	return forward(ctx, &p, 0);
}

INLINE int ip6(struct xdp_md *ctx, u32 l3)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6 *ip = data + l3;
	struct packet p = { .l3 = l3, .v6 = 1 };

	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	copy_addr(p.saddr, ip->saddr);
	copy_addr(p.daddr, ip->daddr);
	p.proto = ip->next;
	u32 payload = BE16(ip->payload), header = sizeof(*ip);
	p.length = payload + header;
	if (unlikely(payload > 0xffff - header || (*(u8 *)ip >> 4) != 6 || (void *)(ip + 1) + payload > end))
		return malformed(&p);
	if (unlikely(p.proto == PROTO_FRAGMENT)) {
		struct ipv6_fragment *fragment = (void *)(ip + 1);
		if ((void *)(fragment + 1) > end || payload < sizeof(*fragment))
			return malformed(&p);
		p.proto = fragment->next;
		p.fragment_id = fragment->id;
		header += sizeof(*fragment);
		/* RFC 6946: an "atomic" fragment is the whole packet. */
		if (fragment->offset & BE16(0xfff8))
			p.fragment = FRAGMENT_LATER;
		else if (fragment->offset & BE16(1))
			p.fragment = FRAGMENT_FIRST;
	}
	p.l4 = l3 + header;
	if (unlikely(p.proto != PROTO_TCP && p.proto != PROTO_UDP && p.proto != PROTO_ICMPV6))
		return pass(&p, REASON_UNSUPPORTED);
	if (unlikely(p.fragment == FRAGMENT_LATER)) {
		if (!read_fragment(&p))
			return pass(&p, REASON_FRAGMENT_UNKNOWN);
	} else if (likely(p.proto != PROTO_ICMPV6) && unlikely(!read_transport(&p, (void *)ip + header, end, p.length - header))) {
		return malformed(&p);
	}
	return forward(ctx, &p, 1);
}

SEC("xdp")
int fathom(struct xdp_md *ctx)
{
#ifdef FATHOM_BENCH
	int verdict = bench_prepare(ctx);
	if (verdict >= 0)
		return verdict;
#endif
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	u32 l3 = sizeof(*eth);

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	u16 type = eth->proto;
	for (int i = 0; i < 2; i++) {
		if (likely(type != ETH_VLAN && type != ETH_QINQ))
			break;
		struct vlan *vlan = data + l3;
		if ((void *)(vlan + 1) > end)
			return XDP_PASS;
		type = vlan->proto;
		l3 += sizeof(*vlan);
	}
	if (likely(type == ETH_IPV4))
		return ip4(ctx, l3);
	if (type == ETH_IPV6)
		return ip6(ctx, l3);
	return XDP_PASS;
}

/* On the peer of a veth: makes it take what is sent to it natively (a peer without NAPI drops it). */
SEC("xdp")
int fathom_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

char license_[] SEC("license") = "Dual MIT/GPL";
