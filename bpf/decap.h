/* For servers behind dsr-ipip and dsr-gue whose kernel has no such tunnel: takes the outer headers off and passes the
 * packet up. Attached to the server's interface, not to Fathom's. */
#ifndef FATHOM_DECAP_H
#define FATHOM_DECAP_H

#include "kernel.h"

#include "fathom.h"

SEC("xdp")
int fathom_decap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	void *ip = eth + 1;
	int outer;
	u8 proto;

	if (ip + sizeof(struct ipv4) > end)
		return XDP_PASS;
	if (eth->proto == ETH_IPV4) {
		outer = sizeof(struct ipv4);
		proto = ((struct ipv4 *)ip)->proto;
	} else if (eth->proto == ETH_IPV6) {
		if (ip + sizeof(struct ipv6) > end)
			return XDP_PASS;
		outer = sizeof(struct ipv6);
		proto = ((struct ipv6 *)ip)->next;
	} else {
		return XDP_PASS;
	}
	u16 type = proto == PROTO_IPIP ? ETH_IPV4 : ETH_IPV6;
	if (proto == PROTO_UDP) {
		struct udp *udp = ip + outer;
		u8 *inner = (void *)(udp + 1);
		if ((void *)(inner + 1) > end || udp->dport != BE16(LIMIT_GUE_PORT))
			return XDP_PASS;
		type = *inner >> 4 == 4 ? ETH_IPV4 : ETH_IPV6;
		outer += sizeof(*udp);
	} else if (proto != PROTO_IPIP && proto != PROTO_IPV6) {
		return XDP_PASS;
	}
	struct eth old = *eth;
	old.proto = type;
	if (adjust_head(ctx, outer))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	eth = data;
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	*eth = old;
	return XDP_PASS;
}

#endif
