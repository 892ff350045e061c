//! A route of an `http` listener.

use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::*;
use fathom_route::{check_template, group_count};

use super::Cx;
use super::uses::Depth;
use crate::form;
use crate::reader::Fields;
use crate::source::Span;

const CONNECT: Duration = Duration::from_secs(5);
const RESPONSE: Duration = Duration::from_secs(60);

pub(super) fn route(
    cx: &mut Cx<'_>,
    listener: &str,
    number: usize,
    f: &Fields<'_>,
) -> Option<RoutePlan> {
    let matches = f
        .table("match")
        .map(|m| matches(cx, &m))
        .unwrap_or_default();
    let action = action(cx, f, &matches);
    let forwards = f.has("pool");
    let mut plan = everything(cx, listener, number, f.span, "".into());
    if let Some(name) = f.text("name") {
        plan.name = name.into();
    }
    plan.response_headers = f
        .table("response_headers")
        .map(|h| edits(&h))
        .unwrap_or_default();
    if forwards {
        refuse_host(cx, f);
        // What is about a server has no effect on an answer of Fathom's own.
        plan.request_headers = f
            .table("request_headers")
            .map(|h| edits(&h))
            .unwrap_or_default();
        plan.rewrite = f.table("rewrite").and_then(|r| rewrite(cx, &r, &matches));
        if let Some(t) = f.table("timeouts") {
            plan.connect_timeout = t.or_default("connect", form::duration_not_zero);
            plan.response_timeout = t.or_default("response", form::duration_not_zero);
        }
        if let Some(r) = f.table("retry") {
            plan.retry = retry(&r);
        }
        plan.max_body = f.parsed("max_body", form::size);
    }
    plan.matches = matches;
    f.refuse_unread("on a route without a pool", &mut cx.errors);
    plan.action = action?;
    Some(plan)
}

/// A route without conditions and with every default.
pub(super) fn everything(
    cx: &Cx<'_>,
    listener: &str,
    number: usize,
    span: Span,
    pool: Arc<str>,
) -> RoutePlan {
    RoutePlan {
        name: format!("{listener}/{number}").into(),
        origin: cx.origin(span),
        matches: MatchPlan::default(),
        action: ActionPlan::Forward(RouteTarget { pool }),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        connect_timeout: CONNECT,
        response_timeout: RESPONSE,
        retry: RetryPlan {
            attempts: 2,
            on: vec![RetryOn::ConnectFailure, RetryOn::Reset],
            budget: 0.2,
        },
        max_body: None,
    }
}

fn matches(cx: &mut Cx<'_>, m: &Fields<'_>) -> MatchPlan {
    let lower = |list: Vec<(String, ValuePattern)>| {
        list.into_iter()
            .map(|(n, v)| (n.to_ascii_lowercase(), v))
            .collect()
    };
    let plan = MatchPlan {
        host: m.all("host", form::host),
        path: m.parsed("path", form::path),
        method: m.all("method", form::method),
        headers: lower(m.pairs("header", form::value)),
        query: m.pairs("query", form::value),
        cookies: m.pairs("cookie", form::value),
        source: m.all("source", form::net),
    };
    m.refuse_unread(
        "without `passthrough`, since requests are routed by `host`",
        &mut cx.errors,
    );
    plan
}

fn action(cx: &mut Cx<'_>, f: &Fields<'_>, matches: &MatchPlan) -> Option<ActionPlan> {
    // A split is an action too; that it is not built yet is already reported.
    let given: Vec<&str> = ["pool", "redirect", "respond", "split"]
        .into_iter()
        .filter(|k| f.has(k))
        .collect();
    match given[..] {
        ["pool"] => Some(ActionPlan::Forward(RouteTarget {
            pool: cx.pool(f, Depth::Http)?,
        })),
        ["redirect"] => redirect(cx, &f.table("redirect")?, matches),
        ["respond"] => {
            let r = f.table("respond")?;
            let headers = r.pairs("headers", form::header_value);
            let (status, body) = (r.integer_or_default("status"), r.word("body"));
            // RFC 9110 §15.3.5, §15.4.5: these have no content.
            if matches!(status, 204 | 304) && !body.is_empty() {
                cx.error(
                    r.key_span("body"),
                    "no-effect",
                    format!("a {status} response has no body"),
                );
            }
            Some(ActionPlan::Respond {
                status,
                body,
                headers,
            })
        }
        ["split"] => None,
        [] => {
            let error = cx.error(f.span, "no-action", "the route does nothing");
            error.help = Some("add `pool`, `redirect` or `respond`".into());
            None
        }
        _ => {
            let message = format!("a route does one thing, not {}", given.join(" and "));
            cx.error(f.key_span(given[1]), "two-actions", message);
            f.text("pool");
            f.table("redirect");
            f.table("respond");
            None
        }
    }
}

fn redirect(cx: &mut Cx<'_>, r: &Fields<'_>, matches: &MatchPlan) -> Option<ActionPlan> {
    let status: u16 = r.integer_or_default("status");
    if matches!(status, 304..=306) {
        let message = format!("{status} is no redirect");
        cx.error(r.value_span("status"), "value", message).help =
            Some("one of 301, 302, 303, 307, 308".into());
    }
    let to = r.text("to")?;
    template(cx, r, "to", to, group_count(matches.path.as_ref()));
    Some(ActionPlan::Redirect {
        to: to.into(),
        status,
    })
}

fn template(cx: &mut Cx<'_>, f: &Fields<'_>, key: &str, text: &str, groups: usize) {
    if let Err(wrong) = check_template(text, groups) {
        cx.error(f.value_span(key), "template", format!("`{key}`: {wrong}"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        let message =
            format!("`{key}`: a location has no spaces, controls or letters beyond ASCII");
        cx.error(f.value_span(key), "template", message).help =
            Some("escape them: a space is `%20`".into());
    }
}

fn edits(h: &Fields<'_>) -> HeaderEdits {
    HeaderEdits {
        set: h.pairs("set", form::header_value),
        add: h.pairs("add", form::header_value),
        remove: h.all("remove", form::edited_header),
    }
}

/// `Host` is always there, and once (RFC 9112 §3.2): it can be set for servers, not removed or added.
fn refuse_host(cx: &mut Cx<'_>, f: &Fields<'_>) {
    let Some(h) = f.table("request_headers") else {
        return;
    };
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    let removed = h
        .each("remove", form::edited_header)
        .into_iter()
        .filter(|(n, _)| is_host(n));
    let added = h
        .map("add")
        .into_iter()
        .filter(|(n, ..)| is_host(n))
        .map(|(_, span, _)| span);
    for span in removed
        .map(|(_, span)| span)
        .chain(added)
        .collect::<Vec<_>>()
    {
        let error = cx.error(span, "no-effect", "`Host` can neither be removed nor added");
        error.help = Some("`request_headers = { set = { Host = \"...\" } }` replaces it".into());
    }
}

fn rewrite(cx: &mut Cx<'_>, r: &Fields<'_>, matches: &MatchPlan) -> Option<RewritePlan> {
    let given: Vec<&str> = ["strip_prefix", "add_prefix", "path", "regex"]
        .into_iter()
        .filter(|k| r.has(k))
        .collect();
    let [kind] = given[..] else {
        let message = match given[..] {
            [] => "`rewrite` does not say what to do".to_owned(),
            _ => format!("`rewrite` does one thing, not {}", given.join(" and ")),
        };
        let error = cx.error(r.span, "rewrite-kind", message);
        error.help = Some("exactly one of strip_prefix, add_prefix, path, or regex with to".into());
        return None;
    };
    let plan = match kind {
        "strip_prefix" => r
            .text("strip_prefix")
            .map(|t| RewritePlan::StripPrefix(t.into())),
        "add_prefix" => r
            .text("add_prefix")
            .map(|t| RewritePlan::AddPrefix(t.into())),
        "path" => r.text("path").map(|text| {
            template(cx, r, "path", text, group_count(matches.path.as_ref()));
            if !text.starts_with('/') {
                cx.error(
                    r.value_span("path"),
                    "value",
                    "the new path does not begin with `/`",
                );
            }
            RewritePlan::Path(text.into())
        }),
        _ => match (r.parsed("regex", form::regex), r.text("to")) {
            (Some(regex), Some(to)) => {
                template(cx, r, "to", to, regex.compiled().captures_len() - 1);
                Some(RewritePlan::Regex {
                    regex,
                    to: to.into(),
                })
            }
            _ if r.has("to") => None,
            _ => {
                cx.error(
                    r.key_span("regex"),
                    "missing",
                    "`regex` needs `to`: what replaces the match",
                );
                None
            }
        },
    };
    r.refuse_unread(&format!("with `{kind}`"), &mut cx.errors);
    plan
}

fn retry(r: &Fields<'_>) -> RetryPlan {
    let on = match r.has("on") {
        true => r.all("on", form::retry_on),
        false => vec![RetryOn::ConnectFailure, RetryOn::Reset],
    };
    r.words("on");
    RetryPlan {
        attempts: r.integer_or_default("attempts"),
        on,
        budget: r.or_default("budget", form::share),
    }
}
