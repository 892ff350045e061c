//! `[pools.NAME]`.

use std::sync::Arc;

use fathom_core::plan::*;

use super::Cx;
use super::probe;
use crate::diagnostic::Diagnostic;
use crate::form;
use crate::reader::{Fields, as_text};
use crate::source::Span;

pub(super) fn pool(cx: &mut Cx<'_>, name: &str, fields: Fields<'_>) -> PoolPlan {
    let plan = PoolPlan {
        name: name.into(),
        origin: cx.origin(fields.span),
        balance: balance(cx, &fields),
        servers: servers(cx, &fields),
        health: fields.table("health").and_then(|f| probe::health(cx, f)),
        outliers: fields.table("outliers").map(|f| OutlierPlan {
            consecutive_errors: f.integer_or_default("consecutive_errors"),
            eject: f.or_default("eject", form::duration_not_zero),
            max_ejected: f.or_default("max_ejected", form::share),
        }),
        slow_start: fields.or_default("slow_start", form::duration),
        affinity: fields.table("affinity").map(|f| {
            f.word("key");
            AffinityPlan {
                ttl: f.or_default("ttl", form::duration_not_zero),
                capacity: f.integer_or_default("capacity"),
            }
        }),
        tls: fields.table("tls").map(|f| super::tls::client(cx, &f)),
        protocol: match fields.word("protocol").as_str() {
            "http2" => ServerProtocol::Http2,
            "grpc" => ServerProtocol::Grpc,
            _ => ServerProtocol::Http1,
        },
        keepalive: match fields.table("keepalive") {
            Some(f) => KeepalivePlan {
                idle: f.integer_or_default("idle"),
                timeout: f.or_default("timeout", form::duration_not_zero),
            },
            None => KeepalivePlan {
                idle: 256,
                timeout: std::time::Duration::from_secs(60),
            },
        },
        queue: fields.table("queue").map(|f| QueuePlan {
            length: f.integer("length").unwrap_or(1),
            timeout: f.or_default("timeout", form::duration_not_zero),
        }),
        proxy_protocol: fields.text("proxy_protocol").map(|version| match version {
            "v1" => ProxyVersion::V1,
            _ => ProxyVersion::V2,
        }),
    };
    if plan.queue.is_some() && plan.servers.iter().all(|s| s.max_connections.is_none()) {
        let message = "`queue` has no effect: no server of the pool has `max_connections`";
        cx.error(fields.key_span("queue"), "no-effect", message);
    }
    plan
}

fn balance(cx: &mut Cx<'_>, fields: &Fields<'_>) -> BalancePlan {
    let algorithm = match fields.word("balance").as_str() {
        "least-connections" => Algorithm::LeastConnections,
        "least-response-time" => Algorithm::LeastResponseTime,
        "random-two-choices" => Algorithm::RandomTwoChoices,
        "random" => Algorithm::Random,
        "first" => Algorithm::First,
        "hash" => Algorithm::Hash,
        _ => Algorithm::RoundRobin,
    };
    if algorithm != Algorithm::Hash {
        for key in ["hash_on", "bounded_load"]
            .into_iter()
            .filter(|k| fields.has(k))
        {
            let message = format!("`{key}` has no effect without `balance = \"hash\"`");
            cx.error(fields.key_span(key), "no-effect", message);
        }
    }
    BalancePlan {
        algorithm,
        hash_on: fields.or_default("hash_on", form::hash_on),
        bounded_load: fields.parsed("bounded_load", form::load_bound),
    }
}

fn servers(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Vec<ServerPlan> {
    let nodes = fields.nodes("servers");
    if fields.has("servers") && nodes.is_empty() {
        cx.error(
            fields.value_span("servers"),
            "empty",
            "a pool needs at least one server",
        );
    }
    let mut servers: Vec<ServerPlan> = Vec::new();
    let mut places: Vec<Span> = Vec::new();
    for node in nodes {
        let server = match as_text(node) {
            Some(text) => form::server(text).ok().map(|address| ServerPlan {
                name: text.into(),
                address,
                weight: 1,
                backup: false,
                max_connections: None,
                origin: cx.origin(node.span),
            }),
            None => fields
                .inner("servers", node, node.span)
                .and_then(|f| server(cx, &f)),
        };
        let Some(server) = server else { continue };
        let twin = servers
            .iter()
            .position(|s| s.name == server.name || s.address == server.address);
        if let Some(twin) = twin {
            let message = match servers[twin].name == server.name {
                true => format!("the pool has two servers called `{}`", server.name),
                false => format!(
                    "`{}` and `{}` are the same address",
                    servers[twin].name, server.name
                ),
            };
            let diagnostic = Diagnostic::new(node.span, "duplicate", message).label("again here");
            cx.errors
                .push(diagnostic.related(places[twin], "first defined here"));
            continue;
        }
        servers.push(server);
        places.push(node.span);
    }
    if !servers.is_empty() && servers.iter().all(|s| s.weight == 0) {
        let message = "every server has weight 0, so none takes new work";
        cx.warnings.push(Diagnostic::new(
            fields.value_span("servers"),
            "weights",
            message,
        ));
    }
    servers
}

fn server(cx: &Cx<'_>, f: &Fields<'_>) -> Option<ServerPlan> {
    let name: Option<Arc<str>> = f.parsed("name", form::server_name).map(Into::into);
    let weight = f.integer_or_default("weight");
    let backup = f.bool("backup");
    let max_connections = f.integer("max_connections");
    Some(ServerPlan {
        address: f.parsed("address", form::server)?,
        name: name.unwrap_or_else(|| f.text("address").unwrap_or_default().into()),
        weight,
        backup,
        max_connections,
        origin: cx.origin(f.span),
    })
}
