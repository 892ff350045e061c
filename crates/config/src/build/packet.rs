//! A listener at `packet` depth.

use std::time::Duration;

use fathom_core::plan::*;

use super::Cx;
use super::uses::Depth;
use crate::form;
use crate::reader::Fields;

/// The kernel's limit (IFNAMSIZ less its NUL).
const LONGEST_INTERFACE: usize = 15;

pub(super) fn packet(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Option<PacketPlan> {
    let pool = cx.pool(fields, Depth::Packet);
    if !fields.has("pool") {
        cx.error(fields.span, "no-route", "a packet listener needs a `pool`");
    }
    let Some(p) = fields.table("packet") else {
        let message = "a packet listener needs `packet`";
        let error = cx.error(fields.key_span("depth"), "missing", message);
        error.help = Some("such as `packet = { interface = \"eth0\", forward = \"nat\" }`".into());
        return None;
    };
    let interface = p.text("interface").unwrap_or_default();
    if interface.len() > LONGEST_INTERFACE || interface.contains(['/', ' ']) {
        cx.error(
            p.value_span("interface"),
            "value",
            format!("`{interface}` is not a name of an interface"),
        );
    }
    let forward = match p.word("forward").as_str() {
        "dsr-mac" => Forward::DsrMac,
        "dsr-ipip" => Forward::DsrIpip,
        "dsr-gue" => Forward::DsrGue,
        _ => Forward::Nat,
    };
    let preserve_source = p.bool("preserve_source");
    let sources = p.all("source", form::ip);
    if forward != Forward::Nat {
        for key in ["preserve_source", "source"]
            .into_iter()
            .filter(|k| p.has(k))
        {
            let message = format!(
                "`{key}` has no effect without `forward = \"nat\"`: servers see the client's address"
            );
            cx.error(p.key_span(key), "no-effect", message);
        }
    } else if preserve_source && p.has("source") {
        let message = "`source` has no effect with `preserve_source`";
        cx.error(p.key_span("source"), "no-effect", message);
    }
    let udp = fields.word("protocol") == "udp";
    if udp && p.has("syn_cookies") {
        cx.error(
            p.key_span("syn_cookies"),
            "no-effect",
            "`syn_cookies` has no effect with UDP",
        );
    }
    let default_cookies = Rate {
        count: 10_000,
        per: Duration::from_secs(1),
    };
    Some(PacketPlan {
        pool: pool.unwrap_or_else(|| "".into()),
        protocol: if udp {
            PacketProtocol::Udp
        } else {
            PacketProtocol::Tcp
        },
        interface: interface.into(),
        forward,
        preserve_source,
        sources,
        allow: p.all("allow", form::net),
        deny: p.all("deny", form::net),
        rate_per_source: p.parsed("rate_per_source", form::rate),
        syn_cookies: match p.text("syn_cookies") {
            _ if udp => None,
            None => Some(default_cookies),
            Some("off") => None,
            Some(rate) => form::rate(rate).ok(),
        },
        flow_log: p.integer("flow_log"),
    })
}
