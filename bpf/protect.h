/* Who may open a flow: lists, rates, and the SYN challenge. */
#ifndef FATHOM_PROTECT_H
#define FATHOM_PROTECT_H

#include "output.h"

#define WINDOW_SHIFT 27 /* 2^27 ns = 134 ms */
#define SECRET_SHIFT 35 /* a challenge holds for 34 to 69 s */

#define ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIP_ROUND                 \
	do {                      \
		v0 += v1;         \
		v1 = ROTATE(v1, 13); \
		v1 ^= v0;         \
		v0 = ROTATE(v0, 32); \
		v2 += v3;         \
		v3 = ROTATE(v3, 16); \
		v3 ^= v2;         \
		v0 += v3;         \
		v3 = ROTATE(v3, 21); \
		v3 ^= v0;         \
		v2 += v1;         \
		v1 = ROTATE(v1, 17); \
		v1 ^= v2;         \
		v2 = ROTATE(v2, 32); \
	} while (0)
#define SIP_WORD(m)       \
	do {              \
		v3 ^= (m); \
		SIP_ROUND; \
		v0 ^= (m); \
	} while (0)

/* SipHash-1-3 of the connection and the time slot: nobody without the secret can answer for an address he cannot
 * receive at. */
GLOBAL u32 challenge(struct packet *p, u64 slot)
{
	if (!p)
		return 0;
	u64 v0 = config.secret[0] ^ 0x736f6d6570736575ull, v1 = config.secret[1] ^ 0x646f72616e646f6dull;
	u64 v2 = config.secret[0] ^ 0x6c7967656e657261ull, v3 = config.secret[1] ^ 0x7465646279746573ull;
	SIP_WORD((u64)p->saddr[0] | (u64)p->saddr[1] << 32);
	SIP_WORD((u64)p->saddr[2] | (u64)p->saddr[3] << 32);
	SIP_WORD((u64)p->daddr[0] | (u64)p->daddr[3] << 32);
	SIP_WORD((u64)ports_of(p->sport, p->dport) | slot << 32);
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return (u32)(v0 ^ v1 ^ v2 ^ v3);
}

/* Answers a SYN with a SYN-ACK that acknowledges the challenge instead of the client's sequence number.
 * RFC 9293 3.10.7.3: a client in SYN-SENT answers an unacceptable ACK with <SEQ=SEG.ACK><CTL=RST>, which
 * brings the challenge back, and goes on trying to connect: its next SYN is let through. Unlike cookies in the
 * sequence number this needs no state, no translation later on, and works in modes where replies are not seen. */
GLOBAL int send_challenge(struct xdp_md *ctx, struct packet *p, u32 service, u64 now)
{
	if (!p)
		return XDP_DROP;
	u32 cookie = challenge(p, now >> SECRET_SHIFT);
	int v6 = p->v6, l3 = L3(p), l4 = l3 + (v6 ? 40 : 20);

	count(service, REASON_COOKIE_SENT);
	if (L4(p) != l4) /* options or extension headers on a SYN in a flood */
		return XDP_DROP;
	if (p->length > l4 - l3 + 20 && adjust_tail(ctx, l4 - l3 + 20 - (int)p->length))
		return XDP_DROP;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	struct tcp *tcp = data + l4;
	void *ip = data + l3;
	if ((void *)(eth + 1) > end || (void *)(tcp + 1) > end)
		return XDP_DROP;
	struct eth old = *eth;
	copy_mac(eth->dst, old.src);
	copy_mac(eth->src, old.dst);
	if (v6) {
		struct ipv6 *h = ip;
		if ((void *)(h + 1) > end)
			return XDP_DROP;
		h->head = BE32(0x60000000);
		h->payload = BE16(20);
		h->hops = 64;
		copy_addr(h->saddr, p->daddr);
		copy_addr(h->daddr, p->saddr);
	} else {
		struct ipv4 *h = ip;
		if ((void *)(h + 1) > end)
			return XDP_DROP;
		*(u16 *)h = 0x45;
		h->length = BE16(40);
		h->id = 0;
		h->fragment = BE16(0x4000);
		h->ttl = 64;
		h->check = 0;
		h->saddr = p->daddr[0];
		h->daddr = p->saddr[0];
		h->check = (u16)~fold((u32)csum_diff(0, 0, h, 20, 0));
	}
	tcp->sport = p->dport;
	tcp->dport = p->sport;
	tcp->seq = ~cookie;
	tcp->ack = cookie;
	tcp->reserved = 0;
	tcp->doff = 5;
	tcp->flags = TCP_SYN | TCP_ACK;
	tcp->window = 0;
	tcp->urgent = 0;
	tcp->check = 0;
	u64 sum = pseudo(p->daddr, p->saddr, 20, PROTO_TCP, v6);
	tcp->check = (u16)~fold(sum + (u32)csum_diff(0, 0, tcp, 20, 0));
	return leave(ctx, ctx->ingress_ifindex);
}

/* Whether an RST is the right answer to a challenge; its source is trusted from then on. */
GLOBAL int challenge_answered(struct xdp_md *ctx, struct packet *p, u64 now)
{
	if (!p)
		return 0;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct tcp *tcp = data + L4(p);
	u64 slot = now >> SECRET_SHIFT;

	if ((void *)(tcp + 1) > end)
		return 0;
	u32 seq = tcp->seq;
	if (seq != challenge(p, slot) && seq != challenge(p, slot - 1))
		return 0;
	struct source_key key = {};
	copy_addr(key.addr, p->saddr);
	u32 until = (u32)(now >> WINDOW_SHIFT) + config.trust;
	map_update(&trusted, &key, &until, UPDATE_ANY);
	return 1;
}

/* Whether SYNs are to be challenged now: the limit was passed in this window or one of the last seven (a second). */
INLINE int flooded(u32 service, u32 limit, u64 now)
{
	struct syn_window *w = map_lookup(&syns, &service);
	u32 window = (u32)(now >> WINDOW_SHIFT);

	if (!w)
		return 0;
	if (w->window != window) {
		w->window = window;
		w->count = 0;
	}
	if (__sync_fetch_and_add(&w->count, 1) >= limit)
		w->hot = window;
	return w->hot && window - w->hot < 8;
}

INLINE int is_trusted(struct scratch *x, struct packet *p, u64 now)
{
	copy_addr(x->source.addr, p->saddr);
	x->source.listener = 0;
	u32 *until = map_lookup(&trusted, &x->source);
	return until && (s64)(*until - (now >> WINDOW_SHIFT)) > 0;
}

/* Generic cell rate: a source's theoretical arrival time may lie at most `rate_burst` ahead. */
GLOBAL int too_fast(struct packet *p, const struct service *s, u64 now)
{
	if (!p || !s)
		return 0;
	struct source_key key = { .listener = s->listener };
	copy_addr(key.addr, p->saddr);
	if (p->v6) /* a client has 2^64 addresses of its own */
		key.addr[2] = key.addr[3] = 0;
	u64 *at = map_lookup(&rates, &key);
	if (!at) {
		u64 first = now + s->rate_interval;
		map_update(&rates, &key, &first, UPDATE_ANY);
		return 0;
	}
	u64 next = *at;
	if (next < now)
		next = now;
	if (next - now > s->rate_burst - s->rate_interval)
		return 1;
	*at = next + s->rate_interval;
	return 0;
}

INLINE int listed(struct scratch *x, void *list, struct packet *p, u32 listener)
{
	x->prefix.bits = 32 + (p->v6 ? 128 : 32);
	x->prefix.listener = listener;
	copy_addr(x->prefix.addr, p->saddr);
	return map_lookup(list, &x->prefix) != 0;
}

#endif
