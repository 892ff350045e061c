//! A listener at `http` depth.

use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::*;
use fathom_route::{Shadowed, unreachable, unreachable_streams};

use super::listener::Timeouts;
use super::route;
use super::uses::Depth;
use super::{Cx, stream};
use crate::diagnostic::Diagnostic;
use crate::form;
use crate::reader::Fields;
use crate::source::Span;

pub(super) fn http(cx: &mut Cx<'_>, name: &str, fields: &Fields<'_>, tls: bool) -> HttpPlan {
    let mut routes: Vec<(Arc<RoutePlan>, Span)> = Vec::new();
    let mut passthrough: Vec<(StreamRoutePlan, Span)> = Vec::new();
    let mut doubtful = Vec::new();
    for (index, node) in fields.nodes("routes").into_iter().enumerate() {
        let Some(f) = fields.inner("routes", node, node.span) else {
            continue;
        };
        if f.bool("passthrough") {
            if !tls {
                let message = "`passthrough` has no effect: the listener does not speak TLS";
                cx.error(f.key_span("passthrough"), "no-effect", message);
            }
            let context = "with `passthrough`: nothing of the connection is decrypted";
            passthrough.extend(stream::route(cx, &f, context).map(|r| (r, f.span)));
        } else if let Some(plan) = route::route(cx, name, index + 1, &f) {
            routes.push((Arc::new(plan), f.span));
        }
        if is_doubtful(&f) {
            doubtful.push(f.span);
        }
    }
    if let Some(pool) = cx.pool(fields, Depth::Http) {
        let number = fields.nodes("routes").len() + 1;
        let span = fields.key_span("pool");
        routes.push((
            Arc::new(route::everything(cx, name, number, span, pool)),
            span,
        ));
    }
    if !fields.has("pool") && fields.nodes("routes").is_empty() {
        let message = "the listener has neither `pool` nor `routes`";
        cx.error(fields.span, "no-route", message).help = Some("add `pool = \"NAME\"`".into());
    }
    duplicate_names(cx, &routes);
    report_unreachable(cx, unreachable, &routes, &doubtful);
    report_unreachable(cx, unreachable_streams, &passthrough, &doubtful);
    let routes = routes.into_iter().map(|(plan, _)| plan).collect();
    let passthrough = passthrough.into_iter().map(|(plan, _)| plan).collect();

    let timeouts = Timeouts::of(fields);
    let protocols = fields.words("protocols");
    if fields.has("protocols") && protocols.is_empty() {
        cx.error(
            fields.value_span("protocols"),
            "empty",
            "`protocols` must not be empty",
        );
    }
    let plan = HttpPlan {
        routes,
        passthrough,
        trusted_proxies: fields.all("trusted_proxies", form::net),
        forwarded: forwarded(fields),
        cleartext: CleartextProtocols {
            http1: protocols.iter().any(|p| p == "http1"),
            h2c: protocols.iter().any(|p| p == "h2c"),
        },
        header_timeout: timeouts.read("header", Duration::from_secs(10)),
        idle_timeout: timeouts.read("idle", Duration::from_secs(60)),
        body_timeout: timeouts.read("body", Duration::from_secs(30)),
        max_body: fields.parsed("max_body", form::size),
    };
    timeouts.done(
        cx,
        "at `http` depth (the time to connect to a server is the route's)",
    );
    plan
}

fn forwarded(fields: &Fields<'_>) -> ForwardedPlan {
    let words = fields.words("forwarded");
    let on = |word: &str| words.iter().any(|w| w == word);
    ForwardedPlan {
        x_forwarded_for: on("x-forwarded-for"),
        x_forwarded_proto: on("x-forwarded-proto"),
        x_forwarded_host: on("x-forwarded-host"),
        x_forwarded_port: on("x-forwarded-port"),
        x_real_ip: on("x-real-ip"),
        forwarded: on("forwarded"),
    }
}

fn duplicate_names(cx: &mut Cx<'_>, routes: &[(Arc<RoutePlan>, Span)]) {
    let mut first = std::collections::HashMap::new();
    for (plan, span) in routes {
        if let Some(earlier) = first.insert(plan.name.clone(), *span) {
            let message = format!("two routes of the listener are called `{}`", plan.name);
            cx.errors.push(
                Diagnostic::new(*span, "duplicate", message)
                    .label("again here")
                    .related(earlier, "first here"),
            );
        }
    }
}

/// Reports routes that can never win. Of one that could not be read whole nothing is concluded.
pub(super) fn report_unreachable<T: Clone>(
    cx: &mut Cx<'_>,
    find: impl Fn(&[T]) -> Vec<Shadowed>,
    routes: &[(T, Span)],
    doubtful: &[Span],
) {
    let certain: Vec<_> = routes
        .iter()
        .filter(|(_, span)| !doubtful.contains(span))
        .collect();
    let plans: Vec<T> = certain.iter().map(|(plan, _)| plan.clone()).collect();
    for shadowed in find(&plans) {
        let (span, winner) = (certain[shadowed.index].1, certain[shadowed.by].1);
        let origin = cx.origin(winner);
        let message =
            format!("this route can never win: the one at {origin} takes all it would match");
        let diagnostic = Diagnostic::new(span, "unreachable-route", message).label("never reached");
        let diagnostic = diagnostic.related(winner, "this one wins");
        cx.errors
            .push(diagnostic.help("remove it, or give it a more specific match"));
    }
}

/// Whether the route's conditions could not be read whole.
pub(super) fn is_doubtful(route: &Fields<'_>) -> bool {
    route.has("match") && route.table("match").is_none_or(|m| m.is_doubtful())
}
