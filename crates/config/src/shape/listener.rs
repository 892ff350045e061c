//! `[listeners.NAME]` and what is inside.

use super::route::ROUTE;
use super::tls::TLS;
use super::{Kind, Section, default, later, optional, required};
use crate::form::{BIND, DURATION, IP, NAME, NET, RATE, SIZE, WORD};

const COUNT: Kind = Kind::Integer {
    min: 1,
    max: u32::MAX as i64,
};
pub(super) const NETS: Kind = Kind::OneOrMany(&Kind::Text(&NET));

pub(crate) static LISTENER: Section = Section {
    name: "a listener",
    doc: "Where clients arrive, and how deep they are looked into.",
    keys: &[
        required(
            "bind",
            Kind::OneOrMany(&Kind::Text(&BIND)),
            "One or more addresses; `:80` is every local address of both families.",
        ),
        required(
            "depth",
            Kind::OneOf(&["http", "stream", "packet"], &[]),
            "How deep Fathom looks before it routes: `packet` (addresses and ports), `stream` (the connection), `http` (requests).",
        ),
        default(
            "protocol",
            Kind::OneOf(&["tcp", "udp"], &[]),
            "\"tcp\"",
            "At `stream` and `packet` depth.",
        ),
        optional(
            "pool",
            Kind::Text(&NAME),
            "Where to, when no route matches.",
        ),
        optional(
            "routes",
            Kind::List(&Kind::Table(&ROUTE)),
            "Routes; their order does not matter, the most specific match wins.",
        ),
        optional(
            "accept_proxy_protocol",
            NETS,
            "Peers from which a PROXY protocol header (v1 or v2) is required.",
        ),
        optional(
            "trusted_proxies",
            NETS,
            "At `http` depth: whose X-Forwarded-For is believed, read from right to left.",
        ),
        default(
            "forwarded",
            Kind::List(&Kind::OneOf(FORWARDED, &[])),
            "[\"x-forwarded-for\", \"x-forwarded-proto\", \"x-forwarded-host\", \"x-forwarded-port\"]",
            "At `http` depth: which headers tell servers about the client.",
        ),
        optional("limits", Kind::Table(&LIMITS), "Admission limits."),
        optional(
            "timeouts",
            Kind::Table(&TIMEOUTS),
            "How long clients may take.",
        ),
        optional(
            "max_body",
            Kind::Text(&SIZE),
            "At `http` depth: largest request body; without it there is no limit.",
        ),
        default(
            "protocols",
            Kind::List(&Kind::OneOf(&["http1", "h2c"], &[])),
            "[\"http1\"]",
            "At `http` depth: what is spoken in cleartext; `h2c` is HTTP/2 by prior knowledge.",
        ),
        optional(
            "tls",
            Kind::Table(&TLS),
            "At `http` depth: the listener speaks TLS.",
        ),
        optional(
            "packet",
            Kind::Table(&PACKET),
            "What only `packet` depth knows.",
        ),
        later("http3", "HTTP/3."),
        later("h3", "HTTP/3."),
        later("cache", "Response cache."),
        later("waf", "Web application firewall."),
    ],
};

pub(crate) const FORWARDED: &[&str] = &[
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "forwarded",
];

static LIMITS: Section = Section {
    name: "`limits`",
    doc: "Admission limits of a listener.",
    keys: &[
        optional(
            "connections",
            COUNT,
            "Most connections (UDP: flows, 65536 by default) at a time.",
        ),
        optional(
            "connections_per_client",
            COUNT,
            "Most connections of one client address at a time.",
        ),
        optional(
            "connection_rate_per_client",
            Kind::Text(&RATE),
            "New connections of one client address.",
        ),
    ],
};

static TIMEOUTS: Section = Section {
    name: "`timeouts` of a listener",
    doc: "How long clients may take.",
    keys: &[
        default(
            "header",
            Kind::Text(&DURATION),
            "\"10s\"",
            "For a whole header section, a TLS handshake, a ClientHello or a PROXY header.",
        ),
        optional(
            "idle",
            Kind::Text(&DURATION),
            "`http`: between requests (60s). `stream`: no byte in either direction (1h). UDP: a flow without a datagram (60s).",
        ),
        default(
            "body",
            Kind::Text(&DURATION),
            "\"30s\"",
            "`http`: longest pause inside a request body, or in the client's taking of a response.",
        ),
        default(
            "connect",
            Kind::Text(&DURATION),
            "\"5s\"",
            "`stream`: to a server. (At `http` depth it belongs to the route.)",
        ),
    ],
};

static PACKET: Section = Section {
    name: "`packet`",
    doc: "What only `packet` depth knows.",
    keys: &[
        required("interface", Kind::Text(&WORD), "Where packets arrive."),
        default(
            "forward",
            Kind::OneOf(&["nat", "dsr-mac", "dsr-ipip", "dsr-gue"], &[]),
            "\"nat\"",
            "How a packet reaches the server.",
        ),
        default(
            "preserve_source",
            Kind::Bool,
            "false",
            "With `nat`, and Fathom as the servers' gateway: they see the client's address.",
        ),
        optional(
            "source",
            Kind::OneOrMany(&Kind::Text(&IP)),
            "Fathom's own addresses for `nat`; by default the interface's.",
        ),
        optional("allow", NETS, "Only these clients."),
        optional("deny", NETS, "Not these clients."),
        optional(
            "rate_per_source",
            Kind::Text(&RATE),
            "New flows of one client address.",
        ),
        default(
            "syn_cookies",
            Kind::Either(&[Kind::OneOf(&["off"], &[]), Kind::Text(&RATE)]),
            "\"10000/s\"",
            "SYNs from which cookies are demanded, or `off`.",
        ),
        optional(
            "flow_log",
            Kind::Integer {
                min: 1,
                max: u32::MAX as i64,
            },
            "One flow in this many is logged.",
        ),
    ],
};
