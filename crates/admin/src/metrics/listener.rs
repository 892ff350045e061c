//! Listeners: connections, bytes, datagrams, TLS.

use std::sync::Arc;

use fathom_core::stats::{Count, ListenerCells, ListenerStats};

use super::text::Text;
use crate::State;
use crate::status::depth;

type Counter = (&'static str, &'static str, fn(&ListenerCells) -> &Count);

const COUNTERS: &[Counter] = &[
    (
        "listener_connections_total",
        "Connections accepted, UDP flows begun.",
        |c| &c.connections,
    ),
    (
        "listener_requests_total",
        "Requests received (http).",
        |c| &c.requests,
    ),
    (
        "listener_received_bytes_total",
        "Bytes from clients.",
        |c| &c.bytes_in,
    ),
    ("listener_sent_bytes_total", "Bytes to clients.", |c| {
        &c.bytes_out
    }),
    (
        "listener_received_datagrams_total",
        "Datagrams from clients (udp).",
        |c| &c.datagrams_in,
    ),
    (
        "listener_sent_datagrams_total",
        "Datagrams to clients (udp).",
        |c| &c.datagrams_out,
    ),
    (
        "listener_accept_errors_total",
        "Errors of accept, such as too many open files.",
        |c| &c.accept_errors,
    ),
    (
        "listener_tls_handshakes_total",
        "TLS handshakes completed.",
        |c| &c.tls_handshakes,
    ),
    (
        "listener_tls_resumed_total",
        "TLS handshakes that resumed a session.",
        |c| &c.tls_resumed,
    ),
];

pub(super) fn write(text: &mut Text, state: &State) {
    let listeners: Vec<(&str, &str, Arc<ListenerStats>)> = state
        .plan
        .listeners
        .iter()
        .map(|plan| {
            (
                &*plan.name,
                depth(&plan.depth),
                state.stats.listener(&plan.name),
            )
        })
        .collect();
    for (name, help, of) in COUNTERS {
        let mut family = text.counter(name, help);
        for (listener, depth, stats) in &listeners {
            family.sample(&[("listener", listener), ("depth", depth)], stats.sum(of));
        }
    }
    let mut active = text.gauge(
        "listener_active_connections",
        "Connections or UDP flows open now.",
    );
    for (listener, depth, stats) in &listeners {
        active.sample(
            &[("listener", listener), ("depth", depth)],
            stats.level(|c| &c.active),
        );
    }
    let mut failures = text.counter(
        "listener_failures_total",
        "Connections refused or broken off, and requests without a route, by reason.",
    );
    for (listener, depth, stats) in &listeners {
        failures.reasons(&[("listener", listener), ("depth", depth)], stats, |c| {
            &c.reasons
        });
    }
    let mut handshakes = text.histogram(
        "listener_tls_handshake_duration_seconds",
        "Length of TLS handshakes.",
    );
    for (listener, depth, stats) in &listeners {
        let snapshot = stats.merge(|c| &c.tls_time);
        if snapshot.count() > 0 {
            handshakes.buckets(&[("listener", listener), ("depth", depth)], &snapshot);
        }
    }
}
