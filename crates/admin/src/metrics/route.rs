//! Routes: requests or connections, responses by class, latency.

use fathom_core::stats::{Count, RouteCells};

use super::text::Text;
use crate::State;

type Counter = (&'static str, &'static str, fn(&RouteCells) -> &Count);

const COUNTERS: &[Counter] = &[
    (
        "route_requests_total",
        "Requests (http) or connections (stream) a route took.",
        |c| &c.requests,
    ),
    ("route_received_bytes_total", "Bytes from clients.", |c| {
        &c.bytes_in
    }),
    ("route_sent_bytes_total", "Bytes to clients.", |c| {
        &c.bytes_out
    }),
    ("route_retries_total", "Requests sent again.", |c| {
        &c.retries
    }),
];

pub(super) fn write(text: &mut Text, state: &State) {
    let mut routes = state.stats.routes();
    // In use once and gone from the file: kept by the registry only until the reload has taken effect.
    routes.retain(|(listener, ..)| {
        state
            .plan
            .listeners
            .iter()
            .any(|plan| plan.name == *listener)
    });
    for (name, help, of) in COUNTERS {
        let mut family = text.counter(name, help);
        for (listener, route, stats) in &routes {
            family.sample(&[("listener", listener), ("route", route)], stats.sum(of));
        }
    }
    let mut active = text.gauge(
        "route_active_requests",
        "Requests or connections under way.",
    );
    for (listener, route, stats) in &routes {
        active.sample(
            &[("listener", listener), ("route", route)],
            stats.level(|c| &c.active),
        );
    }
    let mut responses = text.counter(
        "http_responses_total",
        "Responses to clients, by class of status.",
    );
    for (listener, route, stats) in &routes {
        responses.classes(&[("listener", listener), ("route", route)], stats, |c| {
            &c.status
        });
    }
    let mut calls = text.counter("grpc_calls_total", "gRPC calls, by their status.");
    for (listener, route, stats) in &routes {
        calls.grpc(&[("listener", listener), ("route", route)], stats, |c| {
            &c.grpc
        });
    }
    let mut decided = text.counter(
        "route_reasons_total",
        "What Fathom decided itself, by reason.",
    );
    for (listener, route, stats) in &routes {
        decided.reasons(&[("listener", listener), ("route", route)], stats, |c| {
            &c.reasons
        });
    }
    let mut latency = text.histogram(
        "http_request_duration_seconds",
        "From a request's first byte to its response's last (stream: of whole connections).",
    );
    for (listener, route, stats) in &routes {
        latency.buckets(
            &[("listener", listener), ("route", route)],
            &stats.merge(|c| &c.latency),
        );
    }
}
