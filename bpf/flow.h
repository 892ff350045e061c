/* Opening flows, following what TCP says of them, keeping both directions alive. */
#ifndef FATHOM_FLOW_H
#define FATHOM_FLOW_H

#include "protect.h"

#define SECOND 1000000000ull
#define CLOSED_FOR (2 * SECOND) /* before a closed flow's port may be used again */
#define SILENT_FOR (3600 * SECOND) /* before an open TCP flow's may be */
#define REOPEN_AFTER (60 * SECOND) /* of silence: a SYN is a new connection, whatever was */

INLINE int closed(u8 state)
{
	return (state & STATE_RST) || (state & (STATE_FIN_CLIENT | STATE_FIN_SERVER)) == (STATE_FIN_CLIENT | STATE_FIN_SERVER);
}

/* The entry of the other direction. */
INLINE struct flow *mate_of(struct scratch *x, const struct flow *f, u8 proto, int v6)
{
	if (f->kind == FLOW_FORWARD) {
		struct target *t = map_lookup(&targets, &f->target);
		if (!t || t->generation != f->generation)
			return 0;
		return look_up(x, (const u32 *)t->addr, f->addr, t->port, f->port, proto, v6);
	}
	struct service *s = map_lookup(&services, &f->service);
	if (!s)
		return 0;
	return look_up(x, f->addr, (const u32 *)s->addr, f->port, s->port, proto, v6);
}

/* FIN, RST and SYN on a known flow. Returns whether the flow is to be opened anew. */
GLOBAL int track(struct packet *p, struct flow *f, u64 now)
{
	struct scratch *x = scratch_memory();
	u8 said = 0;

	if (!p || !f || !x)
		return 0;
	if (p->tcp_flags & TCP_SYN) {
		if (p->tcp_flags & TCP_ACK || f->kind == FLOW_REVERSE)
			return 0;
		/* Without sight of the server a FIN from the client is all there is to know. */
		if (closed(f->state) || now - f->last > REOPEN_AFTER || (f->kind != FLOW_FORWARD && f->state))
			return 1;
		return 0;
	}
	if (p->tcp_flags & TCP_FIN)
		said |= f->kind == FLOW_REVERSE ? STATE_FIN_SERVER : STATE_FIN_CLIENT;
	if (p->tcp_flags & TCP_RST)
		said |= STATE_RST;
	if ((f->state & said) == said)
		return 0;
	f->state |= said;
	if (f->kind == FLOW_FORWARD || f->kind == FLOW_REVERSE) {
		struct flow *mate = mate_of(x, f, p->proto, p->v6);
		if (mate)
			mate->state |= said;
	}
	return 0;
}

/* The reverse entry of a flow seen in the forward direction. */
INLINE void describe_client(struct flow *r, struct xdp_md *ctx, struct packet *p)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;

	copy_addr(r->addr, p->saddr);
	r->port = p->sport;
	r->ifindex = ctx->ingress_ifindex;
	if ((void *)(eth + 1) <= end) {
		copy_mac(r->dmac, eth->src);
		copy_mac(r->smac, eth->dst);
	}
}

/* Once a second and flow: the time of its last packet; that the other direction is still there (the kernel evicts
 * what seems idle, and one-way traffic makes one direction seem so); where the client's next hop is now.
 * Returns whether the flow is to be opened anew. */
GLOBAL int refresh(struct xdp_md *ctx, struct packet *p, struct flow *f, u64 now)
{
	struct scratch *x = scratch_memory();

	if (!p || !f || !x)
		return 0;
	if (p->proto == PROTO_UDP && f->kind != FLOW_REVERSE) {
		struct service *s = map_lookup(&services, &f->service);
		if (s && now - f->last > s->udp_idle)
			return 1;
	}
	f->last = now;
	if (f->kind != FLOW_FORWARD && f->kind != FLOW_REVERSE)
		return 0;
	struct flow *mate = mate_of(x, f, p->proto, p->v6);
	if (f->kind == FLOW_REVERSE)
		return 0;
	if (mate) {
		if (mate->kind == FLOW_REVERSE && mate->port == p->sport)
			describe_client(mate, ctx, p);
		return 0;
	}
	struct target *t = map_lookup(&targets, &f->target);
	if (!t)
		return 0;
	x->reverse = *f;
	x->reverse.kind = FLOW_REVERSE;
	describe_client(&x->reverse, ctx, p);
	enter(x, (const u32 *)t->addr, f->addr, t->port, f->port, p->proto, p->v6, &x->reverse, UPDATE_NOEXIST);
	return 0;
}

/* The choice among a service's table: the same on every machine with the same table (choice_hash in
 * crates/wire/src/packet.rs). */
INLINE u64 mix(u64 h, u64 word)
{
	h = (h ^ word) * 0xff51afd7ed558ccdull;
	return h ^ h >> 32;
}

GLOBAL u32 choice_hash(struct packet *p, u32 source_only)
{
	u64 h = 0x9e3779b97f4a7c15ull;
	if (!p)
		return 0;
	h = mix(h, (u64)p->saddr[0] | (u64)p->saddr[1] << 32);
	h = mix(h, (u64)p->saddr[2] | (u64)p->saddr[3] << 32);
	if (!source_only) {
		h = mix(h, (u64)p->daddr[0] | (u64)p->daddr[1] << 32);
		h = mix(h, (u64)p->daddr[2] | (u64)p->daddr[3] << 32);
		h = mix(h, (u64)ports_of(p->sport, p->dport) | (u64)p->proto << 32);
	}
	return (u32)mix(h, 0x2545f4914f6cdd1dull);
}

/* A free port towards the server on one of Fathom's addresses: entered in the reverse direction first, because that
 * is where two flows could meet. Every CPU walks the ports in its own stretch, so a port rests for as long as possible.
 * 0 = all that were tried are in use. */
GLOBAL int take_port(struct packet *p, struct service *s, struct target *t, u64 now)
{
	struct scratch *scratch = scratch_memory();
	if (!p || !s || !t || !scratch)
		return 0;
	struct flow *f = &scratch->forward, *r = &scratch->reverse;
	struct target_counters *c = counters_of(r->target);
	u32 cpu = cpu_number(), keep = s->flags & SERVICE_PRESERVE_SOURCE;
	int v6 = p->v6;

	if (!c)
		return 0;
	for (u32 i = 0; i < LIMIT_PORT_TRIES; i++) {
		u32 *addr = f->addr;
		u16 port;
		if (keep) {
			/* The client's own port first; another only when the client uses it towards another service on the same server. */
			copy_addr(addr, p->saddr);
			port = i ? BE16(1024 + (c->cursor++ * 7919 + cpu) % 64512) : p->sport;
		} else {
			u64 n = c->cursor++;
			u32 count = t->own_count ? t->own_count : 1;
			u32 index = t->own_first + (u32)n % count;
			struct own *o = map_lookup(&own, &index);
			if (!o || !o->ports)
				return 0;
			copy_addr(addr, (const u32 *)o->addr);
			port = BE16(o->port_low + ((u32)n / count + cpu * 4099) % o->ports);
		}
		f->port = port;
		long refused = enter(scratch, (const u32 *)t->addr, addr, t->port, port, p->proto, v6, r, UPDATE_NOEXIST);
		if (!refused)
			return 1;
		if (refused != -EEXIST)
			return 0;
		struct flow *held = look_up(scratch, (const u32 *)t->addr, addr, t->port, port, p->proto, v6);
		if (!held)
			continue;
		u64 silent = now - held->last;
		u64 bound = closed(held->state) ? CLOSED_FOR : p->proto == PROTO_UDP ? s->udp_idle : SILENT_FOR;
		int same_client = held->port == p->sport && held->addr[0] == p->saddr[0] && held->addr[3] == p->saddr[3];
		if (silent > bound || (same_client && held->service == r->service)) {
			*held = *r;
			return 1;
		}
	}
	return 0;
}

INLINE void log_flow(struct packet *p, const struct service *s, const struct flow *f, u64 now, u32 reason)
{
	if (!s->sample || random_u32() % s->sample)
		return;
	struct sample *e = ringbuf_reserve(&samples, sizeof(*e), 0);
	if (!e)
		return;
	e->at = now;
	copy_addr(e->client, p->saddr);
	e->client_port = p->sport;
	e->own_port = f->kind == FLOW_FORWARD ? f->port : 0;
	e->service = f->service;
	e->target = f->target;
	e->reason = reason;
	ringbuf_submit(e, 0);
}

/* The index of a server that may be used, by memory or by table; 0 = none (slot 0 is never given). */
GLOBAL u32 choose(struct packet *p, struct service *s, u32 service, u64 now)
{
	if (!p || !s)
		return 0;
	struct source_key who = { .listener = s->listener };
	struct target *t;
	u32 chosen = 0;

	copy_addr(who.addr, p->saddr);
	if (s->affinity_ttl) {
		struct remembered *r = map_lookup(&affinity, &who);
		if (r && now - r->last < s->affinity_ttl) {
			chosen = r->target;
			t = map_lookup(&targets, &chosen);
			if (t && t->generation == (u16)r->generation && (t->flags & (TARGET_USABLE | TARGET_NEW)) == (TARGET_USABLE | TARGET_NEW)) {
				r->last = now;
				count(service, REASON_AFFINITY);
				return chosen;
			}
		}
	}
	/* One load: user space may be putting another table in its place. */
	u64 place = *(volatile u64 *)&s->table;
	u32 size = place >> 32;
	if (!size)
		return 0;
	u32 n = choice_hash(p, s->flags & SERVICE_HASH_SOURCE) % size;
	u32 pair = (u32)place + n / 2;
	struct table_pair *entry = map_lookup(&tables, &pair);
	if (!entry)
		return 0;
	chosen = entry->target[n & 1];
	t = map_lookup(&targets, &chosen);
	if (!t || !(t->flags & TARGET_USABLE))
		return 0;
	if (s->affinity_ttl) {
		struct remembered r = { .last = now, .target = chosen, .generation = t->generation };
		map_update(&affinity, &who, &r, UPDATE_ANY);
	}
	return chosen;
}

GLOBAL int local_socket(struct xdp_md *ctx, struct packet *p)
{
	struct bpf_sock *sk;

	if (!p)
		return 0;

	if (p->v6) {
		struct sock_tuple6 t = { .sport = p->sport, .dport = p->dport };
		copy_addr(t.saddr, p->saddr);
		copy_addr(t.daddr, p->daddr);
		sk = socket_lookup(ctx, &t, sizeof(t), (u64)-1, 0);
	} else {
		struct sock_tuple4 t = { .saddr = p->saddr[0], .daddr = p->daddr[0], .sport = p->sport, .dport = p->dport };
		sk = socket_lookup(ctx, &t, sizeof(t), (u64)-1, 0);
	}
	if (!sk)
		return 0;
	u32 state = sk->state;
	socket_release(sk);
	return state != TCP_LISTEN;
}

/* A packet of no known flow (or whose flow is to be replaced). Returns an XDP action, or -1 with the new flow in
 * `scratches`. */
GLOBAL int open_flow(struct xdp_md *ctx, struct packet *p, u64 now)
{
	if (!p)
		return XDP_PASS;
	struct scratch *scratch = scratch_memory();
	if (!scratch)
		return XDP_PASS;
	copy_addr((u32 *)scratch->vip.addr, p->daddr);
	scratch->vip.port = p->dport;
	scratch->vip.proto = p->proto;
	u32 *found = map_lookup(&vips, &scratch->vip);
	if (!found)
		return XDP_PASS;
	u32 service = *found;
	struct service *s = map_lookup(&services, &service);
	if (!s)
		return XDP_PASS;
	u32 syn = p->proto == PROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	if (p->proto == PROTO_TCP && !syn) {
		/* RFC 9293 3.10.7: no segment has SYN with FIN or RST, or no flag at all. */
		if (!(p->tcp_flags & 0x3f) || ((p->tcp_flags & TCP_SYN) && (p->tcp_flags & (TCP_FIN | TCP_RST))))
			return malformed(p);
		if (p->tcp_flags & TCP_RST && s->syn_limit && challenge_answered(ctx, p, now)) {
			count(service, REASON_COOKIE_ACCEPTED);
			return XDP_DROP;
		}
		if (!p->moved) {
			if (local_socket(ctx, p)) {
				count(service, REASON_LOCAL);
				return XDP_PASS;
			}
			/* With replies seen, every flow is known; without, another machine of the fleet may have opened it. */
			if (s->forward == FORWARD_NAT) {
				count(service, REASON_NO_FLOW);
				return XDP_PASS;
			}
		}
	}
	if (s->flags & SERVICE_DENY && listed(scratch, &deny, p, s->listener)) {
		count(service, REASON_DENIED);
		return XDP_DROP;
	}
	if (s->flags & SERVICE_ALLOW && !listed(scratch, &allow, p, s->listener)) {
		count(service, REASON_NOT_ALLOWED);
		return XDP_DROP;
	}
	if (s->rate_interval && too_fast(p, s, now)) {
		count(service, REASON_RATE_LIMITED);
		return XDP_DROP;
	}
	if (syn) {
		count(service, REASON_SYN);
		if (s->syn_limit && flooded(service, s->syn_limit, now) && !is_trusted(scratch, p, now))
			return send_challenge(ctx, p, service, now);
	}
	u32 chosen = choose(p, s, service, now);
	struct target *t = map_lookup(&targets, &chosen);
	if (!chosen || !t) {
		count(service, REASON_NO_SERVER);
		return XDP_PASS;
	}
	struct flow *f = &scratch->forward, *r = &scratch->reverse;
	*f = (struct flow){ .last = now, .begun = now, .generation = t->generation, .target = chosen, .service = service };
	u64 how = UPDATE_NOEXIST;
	if (p->reopen) {
		struct flow *old = look_up(scratch, p->saddr, p->daddr, p->sport, p->dport, p->proto, p->v6);
		if (old && old->kind == FLOW_FORWARD) {
			struct target *was = map_lookup(&targets, &old->target);
			if (was && was->generation == old->generation)
				forget(scratch, (const u32 *)was->addr, old->addr, was->port, old->port, p->proto, p->v6);
		}
		how = UPDATE_ANY;
	}
	if (s->forward == FORWARD_NAT) {
		f->kind = FLOW_FORWARD;
		*r = *f;
		r->kind = FLOW_REVERSE;
		describe_client(r, ctx, p);
		if (!take_port(p, s, t, now)) {
			count(service, REASON_PORTS_EXHAUSTED);
			struct target_counters *c = counters_of(chosen);
			if (c)
				c->failed++;
			return XDP_PASS;
		}
	} else {
		f->kind = FLOW_DIRECT + s->forward - FORWARD_DSR_MAC;
	}
	if (enter(scratch, p->saddr, p->daddr, p->sport, p->dport, p->proto, p->v6, f, how)) {
		/* Another CPU opened it meanwhile (take its choice), or the map is full beyond help: DSR needs no memory. */
		struct flow *first = look_up(scratch, p->saddr, p->daddr, p->sport, p->dport, p->proto, p->v6);
		if (s->forward == FORWARD_NAT) {
			forget(scratch, (const u32 *)t->addr, f->addr, t->port, f->port, p->proto, p->v6);
			if (!first) {
				count(service, REASON_INTERNAL);
				return XDP_PASS;
			}
		}
		if (first) {
			*f = *first;
			return -1;
		}
	}
	u32 reason = p->moved ? REASON_MOVED : REASON_NEW_FLOW;
	count(service, reason);
	struct target_counters *c = counters_of(chosen);
	if (c)
		c->flows++;
	log_flow(p, s, f, now, reason);
	return -1;
}

#endif
