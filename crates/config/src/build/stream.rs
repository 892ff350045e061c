//! A listener at `stream` depth, over TCP and UDP; and routes by SNI.

use std::time::Duration;

use fathom_core::plan::*;
use fathom_route::unreachable_streams;

use super::listener::Timeouts;
use super::uses::Depth;
use super::{Cx, http};
use crate::form;
use crate::reader::Fields;
use crate::source::Span;

pub(super) fn stream(cx: &mut Cx<'_>, fields: &Fields<'_>) -> StreamPlan {
    let mut routes: Vec<(StreamRoutePlan, Span)> = Vec::new();
    let mut doubtful = Vec::new();
    for node in fields.nodes("routes") {
        let Some(f) = fields.inner("routes", node, node.span) else {
            continue;
        };
        let why = "at `stream` depth: only `http` depth sees requests";
        routes.extend(route(cx, &f, why).map(|plan| (plan, f.span)));
        if http::is_doubtful(&f) {
            doubtful.push(f.span);
        }
    }
    http::report_unreachable(cx, unreachable_streams, &routes, &doubtful);
    let pool = cx.pool(fields, Depth::Stream);
    if !fields.has("pool") && fields.nodes("routes").is_empty() {
        let message = "the listener has neither `pool` nor `routes`";
        cx.error(fields.span, "no-route", message).help = Some("add `pool = \"NAME\"`".into());
    }
    let takes_all = |(r, span): &&(StreamRoutePlan, Span)| {
        r.sni.is_empty() && r.alpn.is_empty() && r.source.is_empty() && !doubtful.contains(span)
    };
    if let (Some(_), Some((_, span))) = (&pool, routes.iter().find(takes_all)) {
        let origin = cx.origin(*span);
        let message =
            format!("this pool is never used: the route at {origin} takes every connection");
        cx.error(fields.key_span("pool"), "unreachable-route", message);
    }
    let timeouts = Timeouts::of(fields);
    let plan = StreamPlan {
        routes: routes.into_iter().map(|(plan, _)| plan).collect(),
        pool,
        idle_timeout: timeouts.read("idle", Duration::from_secs(3600)),
        connect_timeout: timeouts.read("connect", Duration::from_secs(5)),
        peek_timeout: timeouts.read("header", Duration::from_secs(10)),
    };
    timeouts.done(cx, "at `stream` depth");
    plan
}

/// A route by what a ClientHello says. `why` the other keys have no effect.
pub(super) fn route(cx: &mut Cx<'_>, f: &Fields<'_>, why: &str) -> Option<StreamRoutePlan> {
    let m = f.table("match");
    let plan = StreamRoutePlan {
        origin: cx.origin(f.span),
        sni: m.map(|m| m.all("sni", form::host)).unwrap_or_default(),
        alpn: m.map(|m| m.all("alpn", form::alpn)).unwrap_or_default(),
        source: m.map(|m| m.all("source", form::net)).unwrap_or_default(),
        target: RouteTarget { pool: "".into() },
    };
    if let Some(m) = &m {
        m.refuse_unread(why, &mut cx.errors);
    }
    let pool = cx.pool(f, Depth::Stream);
    f.refuse_unread(why, &mut cx.errors);
    if !f.has("pool") && !f.has("split") {
        cx.error(f.span, "no-action", "the route does nothing").help =
            Some("add `pool = \"NAME\"`".into());
    }
    Some(StreamRoutePlan {
        target: RouteTarget { pool: pool? },
        ..plan
    })
}

pub(super) fn datagram(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Option<DatagramPlan> {
    let timeouts = Timeouts::of(fields);
    let idle_timeout = timeouts.read("idle", Duration::from_secs(60));
    timeouts.done(cx, "over UDP");
    let limits = fields.table("limits");
    let max_flows = limits.and_then(|f| f.integer::<i64>("connections"));
    if let Some(limits) = limits {
        limits.refuse_unread("over UDP", &mut cx.errors);
    }
    let pool = cx.pool(fields, Depth::Datagram);
    if !fields.has("pool") {
        cx.error(fields.span, "no-route", "a UDP listener needs a `pool`");
    }
    Some(DatagramPlan {
        pool: pool.unwrap_or_else(|| "".into()),
        idle_timeout,
        max_flows: max_flows
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(65_536),
    })
}
