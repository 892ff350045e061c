//! Servers: health, load, requests, failures, latency.

use fathom_core::stats::{Count, EndpointCells, Gauge};
use fathom_core::{Health, ServerStatus};

use super::text::Text;
use crate::State;

type Counter = (&'static str, &'static str, fn(&EndpointCells) -> &Count);
type Level = (&'static str, &'static str, fn(&EndpointCells) -> &Gauge);
type Fact = (&'static str, &'static str, fn(&ServerStatus) -> f64);

const COUNTERS: &[Counter] = &[
    (
        "server_requests_total",
        "Requests sent (http), each attempt counted.",
        |c| &c.requests,
    ),
    (
        "server_connections_total",
        "Connections opened, UDP flows begun.",
        |c| &c.connections,
    ),
    (
        "server_reused_connections_total",
        "Requests that went over a kept connection.",
        |c| &c.reused,
    ),
    (
        "server_received_bytes_total",
        "Bytes from the server.",
        |c| &c.bytes_in,
    ),
    ("server_sent_bytes_total", "Bytes to the server.", |c| {
        &c.bytes_out
    }),
    (
        "server_health_transitions_total",
        "Changes of health, either way.",
        |c| &c.transitions,
    ),
    (
        "server_ejections_total",
        "Times it was left out for its errors.",
        |c| &c.ejections,
    ),
];

const LEVELS: &[Level] = &[
    ("server_open_connections", "Connections open now.", |c| {
        &c.open
    }),
    (
        "server_idle_connections",
        "Kept connections that are idle now.",
        |c| &c.idle,
    ),
];

const FACTS: &[Fact] = &[
    (
        "server_up",
        "Whether it is healthy (also when it is not checked).",
        |s| bit(s.health.is_none_or(|h| h == Health::Up)),
    ),
    (
        "server_ejected",
        "Whether it is left out for its errors.",
        |s| bit(s.ejected_for.is_some()),
    ),
    ("server_draining", "Whether it gets no new work.", |s| {
        bit(s.draining)
    }),
    ("server_weight", "Its weight.", |s| f64::from(s.weight)),
    (
        "server_share_ratio",
        "Share of the new work it is offered, 0 to 1.",
        |s| s.share,
    ),
    (
        "server_in_flight_requests",
        "Requests (http) or connections (stream) it has now.",
        |s| f64::from(s.in_flight),
    ),
    (
        "server_smoothed_response_seconds",
        "Smoothed response time; 0 = not known.",
        |s| s.ewma.map_or(0.0, |e| e.as_secs_f64()),
    ),
];

fn bit(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

pub(super) fn write(text: &mut Text, state: &State) {
    let servers: Vec<_> = state
        .pools
        .iter()
        .flat_map(|pool| {
            pool.servers(state.now)
                .into_iter()
                .map(|server| (pool.name(), server))
        })
        .collect();
    let servers: Vec<([(&str, &str); 2], &ServerStatus)> = servers
        .iter()
        .map(|(pool, server)| ([("pool", &***pool), ("server", &*server.name)], server))
        .collect();

    let mut info = text.gauge("server_info", "Where a server is; always 1.");
    for ([pool, name], server) in &servers {
        info.sample(&[*pool, *name, ("address", &server.address.to_string())], 1);
    }
    for (name, help, of) in FACTS {
        let mut family = text.gauge(name, help);
        for (labels, server) in &servers {
            family.sample(labels, of(server));
        }
    }
    let mut health = text.gauge(
        "server_health",
        "1 for the state active checks have put it in.",
    );
    for ([pool, name], server) in &servers {
        for state in [Health::Up, Health::Down, Health::Probing] {
            if let Some(now) = server.health {
                health.sample(
                    &[*pool, *name, ("state", state.as_str())],
                    u8::from(now == state),
                );
            }
        }
    }
    for (name, help, of) in LEVELS {
        let mut family = text.gauge(name, help);
        for (labels, server) in &servers {
            family.sample(labels, server.endpoint.stats().level(of));
        }
    }
    for (name, help, of) in COUNTERS {
        let mut family = text.counter(name, help);
        for (labels, server) in &servers {
            family.sample(labels, server.endpoint.stats().sum(of));
        }
    }
    counted_by_label(text, &servers);
    durations(text, &servers);
}

fn counted_by_label(text: &mut Text, servers: &[([(&str, &str); 2], &ServerStatus)]) {
    let mut checks = text.counter("server_checks_total", "Active checks, by result.");
    for ([pool, name], server) in servers {
        if server.health.is_some() {
            let stats = server.endpoint.stats();
            checks.sample(
                &[*pool, *name, ("result", "ok")],
                stats.sum(|c| &c.checks_ok),
            );
            checks.sample(
                &[*pool, *name, ("result", "failed")],
                stats.sum(|c| &c.checks_failed),
            );
        }
    }
    let mut responses = text.counter(
        "server_responses_total",
        "Responses of the server, by class of status.",
    );
    for (labels, server) in servers {
        responses.classes(labels, server.endpoint.stats(), |c| &c.status);
    }
    let mut failures = text.counter(
        "server_failures_total",
        "What went wrong with the server, by reason.",
    );
    for (labels, server) in servers {
        failures.reasons(labels, server.endpoint.stats(), |c| &c.failures);
    }
}

fn durations(text: &mut Text, servers: &[([(&str, &str); 2], &ServerStatus)]) {
    let mut latency = text.histogram(
        "server_response_duration_seconds",
        "From sending a request to its response's head (stream: of whole connections).",
    );
    for (labels, server) in servers {
        latency.buckets(labels, &server.endpoint.stats().merge(|c| &c.latency));
    }
    let mut connect = text.histogram(
        "server_connect_duration_seconds",
        "From dialling to connected, with TLS.",
    );
    for (labels, server) in servers {
        connect.buckets(labels, &server.endpoint.stats().merge(|c| &c.connect));
    }
}
