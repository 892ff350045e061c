/* Only in the object that `cargo xtask bench packet` runs: each run of the program begins by making the frame what it was,
 * with the next client in it. BPF_PROG_TEST_RUN restores nothing between repeats. */
#ifndef FATHOM_BENCH_H
#define FATHOM_BENCH_H

#include "packet.h"

struct bench_state {
	u8 frame[42]; /* Ethernet, IPv4, UDP */
	u16 size; /* of the frame */
	u32 flows; /* clients in turn; 0 = each one new */
	u64 n;
	u32 pad[10];
};
struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct bench_state);
} bench SEC(".maps");

INLINE int bench_prepare(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct bench_state *b = map_lookup(&bench, &zero);
	if (!b)
		return XDP_ABORTED;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int longer = (int)((long)end - (long)data) - b->size;
	if (longer > 0) {
		if (adjust_head(ctx, longer))
			return XDP_ABORTED;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
	}
	if (data + 42 > end)
		return XDP_ABORTED;
	__builtin_memcpy(data, b->frame, 42);
	u32 n = (u32)b->n++;
	/* In no order that a prefetcher could know. */
	if (b->flows)
		n = (u32)((u64)(n * 0x9e3779b1u) * b->flows >> 32);
	struct ipv4 *ip = data + 14;
	struct udp *udp = data + 34;
	u32 saddr = ip->saddr + BE32(n >> 12);
	u16 sport = BE16(1024 + (n & 0xfff));
	u64 delta = change(ip->saddr, saddr);
	ip->check = adjusted(ip->check, delta);
	udp->check = adjusted(udp->check, delta + change(udp->sport, sport));
	ip->saddr = saddr;
	udp->sport = sport;
	return -1;
}

/* The least a forwarder can do. */
SEC("xdp")
int bench_bare(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_TX;
}

/* That, with the frame made anew. */
SEC("xdp")
int bench_tx(struct xdp_md *ctx)
{
	int verdict = bench_prepare(ctx);
	return verdict >= 0 ? verdict : XDP_TX;
}

/* To the kernel's own forwarding. */
SEC("xdp")
int bench_pass(struct xdp_md *ctx)
{
	int verdict = bench_prepare(ctx);
	return verdict >= 0 ? verdict : XDP_PASS;
}

/* The far end of the wire. */
SEC("xdp")
int bench_drop(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_DROP;
}

#endif
