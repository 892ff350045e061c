//! `health` of a pool.

use std::time::Duration;

use fathom_core::plan::*;

use super::Cx;
use crate::form;
use crate::reader::Fields;
use crate::shape::PROBES;
use crate::tree::{Node, Value};

pub(super) fn health(cx: &mut Cx<'_>, f: Fields<'_>) -> Option<HealthPlan> {
    let kinds: Vec<&str> = PROBES.iter().copied().filter(|k| f.has(k)).collect();
    let [kind] = kinds[..] else {
        let message = match kinds[..] {
            [] => "`health` does not say what to check".to_owned(),
            _ => format!("`health` checks one thing, not {}", kinds.join(" and ")),
        };
        let error = cx.error(f.span, "health-kind", message);
        error.help = Some(format!("exactly one of {}", PROBES.join(", ")));
        return None;
    };
    let interval = f.or_default("interval", form::duration_not_zero);
    let timeout = f.parsed("timeout", form::duration_not_zero);
    let plan = HealthPlan {
        probe: probe(cx, &f, kind)?,
        interval,
        timeout: timeout.unwrap_or(Duration::from_secs(1).min(interval)),
        rise: f.integer_or_default("rise"),
        fall: f.integer_or_default("fall"),
        fast_interval: f
            .parsed("fast_interval", form::duration_not_zero)
            .unwrap_or(Duration::from_secs(1).min(interval / 2)),
        port: f.integer("port"),
        origin: cx.origin(f.span),
    };
    f.refuse_unread(&format!("with a `{kind}` check"), &mut cx.errors);
    Some(plan)
}

fn probe(cx: &mut Cx<'_>, f: &Fields<'_>, kind: &str) -> Option<ProbePlan> {
    if matches!(kind, "tcp" | "tls" | "smtp") && !f.bool(kind) {
        let error = cx.error(
            f.value_span(kind),
            "value",
            format!("`{kind}` can only be true"),
        );
        error.help = Some("leave `health` out for no checks".into());
        return None;
    }
    match kind {
        "tcp" => Some(ProbePlan::Tcp),
        "tls" => Some(ProbePlan::Tls),
        "smtp" => Some(ProbePlan::Smtp),
        "grpc" => Some(ProbePlan::Grpc {
            service: f.text("grpc")?.into(),
        }),
        "postgres" => Some(ProbePlan::Postgres {
            parameters: f.parsed("postgres", form::postgres)?,
        }),
        "redis" => Some(ProbePlan::Redis {
            command: f.text("redis")?.into(),
        }),
        "http" => http(cx, f).map(ProbePlan::Http),
        "send_expect" => {
            let inner = f.table("send_expect")?;
            let send = inner.word("send").into_bytes();
            Some(ProbePlan::SendExpect {
                send,
                expect: inner.parsed("expect", form::regex)?,
            })
        }
        _ => {
            let argv = f.all("command", form::any_text);
            if argv.first().is_none_or(String::is_empty) {
                cx.error(
                    f.value_span("command"),
                    "empty",
                    "`command` needs a program",
                );
                return None;
            }
            Some(ProbePlan::Command { argv })
        }
    }
}

fn http(cx: &mut Cx<'_>, f: &Fields<'_>) -> Option<HttpProbePlan> {
    let path = f.text("http")?;
    let clean = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    if !clean {
        let message = format!("`http`: {path:?} is not a path to ask for");
        cx.error(f.value_span("http"), "value", message).help = Some("such as \"/health\"".into());
    }
    let expect_status = match f.integer::<u16>("expect_status") {
        Some(status) => vec![(status, status)],
        None => f.or_default("expect_status", form::status_ranges),
    };
    Some(HttpProbePlan {
        path: path.into(),
        method: f.or_default("method", form::method),
        host: f.parsed("host", form::header_value),
        headers: f.pairs("headers", form::header_value),
        expect_status,
        expect_body: f.parsed("expect_body", form::regex),
        expect_json: f.table("expect_json").and_then(|inner| {
            let path = inner.parsed("path", form::json_path)?;
            Some(JsonExpect {
                path,
                equals: json(inner.nodes("equals").first()?)?,
            })
        }),
    })
}

/// A scalar as JSON text.
fn json(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(serde_json::Value::from(text.as_str()).to_string()),
        Value::Integer(i) => Some(i.to_string()),
        Value::Float(f) => Some(serde_json::Value::from(*f).to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}
