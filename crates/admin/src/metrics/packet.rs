//! The packet depth: counted in the kernel.

use super::text::Text;
use crate::{PacketServer, State};

type Counter = (&'static str, &'static str, fn(&PacketServer) -> u64);

const COUNTERS: &[Counter] = &[
    (
        "packet_sent_packets_total",
        "Packets towards a server.",
        |s| s.packets_in,
    ),
    (
        "packet_sent_bytes_total",
        "Bytes towards a server, from the IP header on.",
        |s| s.bytes_in,
    ),
    (
        "packet_received_packets_total",
        "Packets from a server (nat).",
        |s| s.packets_out,
    ),
    (
        "packet_received_bytes_total",
        "Bytes from a server (nat), from the IP header on.",
        |s| s.bytes_out,
    ),
    ("packet_flows_total", "Flows opened to a server.", |s| {
        s.flows
    }),
    (
        "packet_failed_packets_total",
        "Packets a server was chosen for that could not be sent.",
        |s| s.failed,
    ),
];

pub(super) fn write(text: &mut Text, state: &State) {
    let Some(packet) = &state.packet else { return };
    text.gauge("packet_flow_entries", "Entries of the flow table in use.")
        .sample(&[], packet.flow_entries);
    text.gauge(
        "packet_flow_capacity",
        "The most entries the flow table may have.",
    )
    .sample(&[], packet.flow_capacity);
    for (name, help, of) in COUNTERS {
        let mut family = text.counter(name, help);
        for listener in &packet.listeners {
            for server in &listener.servers {
                family.sample(
                    &[("listener", &listener.listener), ("server", &server.server)],
                    of(server),
                );
            }
        }
    }
    let mut reasons = text.counter(
        "packet_reasons_total",
        "Packets that were not simply forwarded, by reason.",
    );
    for listener in &packet.listeners {
        for (reason, count) in &listener.reasons {
            reasons.sample(
                &[("listener", &listener.listener), ("reason", reason)],
                count,
            );
        }
    }
}
