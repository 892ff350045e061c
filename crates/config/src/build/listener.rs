//! `[listeners.NAME]`: what every depth has; then each depth reads its own keys, and what nothing reads is refused.

use std::time::Duration;

use fathom_core::plan::*;

use super::binds::{Bound, Transport};
use super::{Cx, http, packet, stream, tls};
use crate::diagnostic::Diagnostic;
use crate::form;
use crate::reader::Fields;
use crate::suggest;

pub(super) fn listener(cx: &mut Cx<'_>, name: &str, fields: Fields<'_>) -> Option<ListenerPlan> {
    // Without a depth nothing else can be judged; that it is missing or wrong is already reported. With one that is
    // misspelt the rest is judged as if it were not, so that all errors show in one go.
    let depth = suggest::nearest(fields.text("depth")?, ["http", "stream", "packet"])?;
    let udp = match depth {
        "http" => false,
        _ => fields.word("protocol") == "udp",
    };
    let mut binds: Vec<BindPlan> = fields
        .each("bind", form::bind)
        .into_iter()
        .map(|(address, span)| BindPlan {
            address,
            tls: false,
            origin: cx.origin(span),
        })
        .collect();
    let transport = match (depth, udp) {
        ("packet", udp) => {
            let interface = fields
                .table("packet")
                .and_then(|p| p.text("interface"))
                .unwrap_or_default();
            Transport::Packet {
                interface: interface.into(),
                udp,
            }
        }
        (_, true) => Transport::Udp,
        (_, false) => Transport::Tcp,
    };
    for (address, span) in fields.each("bind", form::bind) {
        cx.binds.push(Bound {
            what: format!("listener `{name}`"),
            address,
            transport: transport.clone(),
            span,
        });
    }
    let tls = match depth {
        "http" => fields
            .table("tls")
            .map(|f| tls::listener(cx, &f, &mut binds)),
        _ => None,
    };
    // A PROXY header stands at the beginning of a connection.
    let accept_proxy_protocol = match (depth, udp) {
        ("packet", _) | (_, true) => Vec::new(),
        _ => fields.all("accept_proxy_protocol", form::net),
    };
    let plan = match (depth, udp) {
        ("http", _) => DepthPlan::Http(http::http(cx, name, &fields, tls.is_some())),
        ("stream", false) => DepthPlan::Stream(stream::stream(cx, &fields)),
        ("stream", true) => DepthPlan::Datagram(stream::datagram(cx, &fields)?),
        _ => DepthPlan::Packet(packet::packet(cx, &fields)?),
    };
    let limits = match (depth, udp) {
        // Of flows only the number is limited, and that by the depth itself.
        ("packet", _) | (_, true) => LimitsPlan::default(),
        _ => fields
            .table("limits")
            .map_or_else(LimitsPlan::default, |f| LimitsPlan {
                connections: f.integer("connections"),
                connections_per_client: f.integer("connections_per_client"),
                connection_rate_per_client: f.parsed("connection_rate_per_client", form::rate),
            }),
    };
    if depth == "http" && fields.has("protocols") && binds.iter().all(|b| b.tls) {
        let message = "`protocols` of the listener is about cleartext, and every bind speaks TLS";
        let warning = Diagnostic::new(fields.key_span("protocols"), "no-effect", message);
        cx.warnings
            .push(warning.help("what TLS offers is `tls.protocols`"));
    }
    let why = match (depth, udp) {
        ("stream", true) => "at `stream` depth over UDP".to_owned(),
        _ => format!("at `{depth}` depth"),
    };
    fields.refuse_unread(&why, &mut cx.errors);
    Some(ListenerPlan {
        name: name.into(),
        origin: cx.origin(fields.span),
        binds,
        depth: plan,
        accept_proxy_protocol,
        limits,
        tls,
    })
}

/// `timeouts` of a listener: only the keys that its depth knows.
pub(super) struct Timeouts<'t>(Option<Fields<'t>>);

impl<'t> Timeouts<'t> {
    pub(super) fn of(fields: &Fields<'t>) -> Self {
        Self(fields.table("timeouts"))
    }

    pub(super) fn read(&self, key: &str, default: Duration) -> Duration {
        self.0
            .and_then(|f| f.parsed(key, form::duration_not_zero))
            .unwrap_or(default)
    }

    pub(super) fn done(&self, cx: &mut Cx<'_>, why: &str) {
        if let Some(f) = &self.0 {
            f.refuse_unread(why, &mut cx.errors);
        }
    }
}
