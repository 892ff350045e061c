//! `[listeners.NAME]` and what is inside.

use super::{Kind, Section, default, later, optional, required};
use crate::form::{
    ALPN, BIND, DURATION, EDITED_HEADER, FILE, HEADER_NAME, HEADER_VALUE, HOST, IP, METHOD, NAME,
    NET, PATH, PLAIN_PATH, RATE, REGEX, RETRY_ON, SHARE, SIZE, TEXT, VALUE, WORD,
};

const COUNT: Kind = Kind::Integer {
    min: 1,
    max: u32::MAX as i64,
};
const NETS: Kind = Kind::OneOrMany(&Kind::Text(&NET));

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

static ROUTE: Section = Section {
    name: "a route",
    doc: "What to do with the requests or connections that match. Exactly one of `pool`, `redirect` and `respond`.",
    keys: &[
        optional(
            "name",
            Kind::Text(&WORD),
            "In metrics and logs; by default LISTENER/N, N from 1 in file order.",
        ),
        optional(
            "match",
            Kind::Table(&MATCH),
            "When it applies: all conditions must hold. Without it: always.",
        ),
        optional("pool", Kind::Text(&NAME), "Forward to this pool."),
        optional(
            "redirect",
            Kind::Table(&REDIRECT),
            "Send the client elsewhere.",
        ),
        optional("respond", Kind::Table(&RESPOND), "Answer at once."),
        default(
            "passthrough",
            Kind::Bool,
            "false",
            "On an `http` listener with TLS: connections that match `sni` or `alpn` go through undecrypted.",
        ),
        optional(
            "request_headers",
            Kind::Table(&HEADERS),
            "Edits on what the server gets.",
        ),
        optional(
            "response_headers",
            Kind::Table(&HEADERS),
            "Edits on what the client gets.",
        ),
        optional(
            "rewrite",
            Kind::Table(&REWRITE),
            "Another path for the server. Exactly one of its forms.",
        ),
        optional(
            "timeouts",
            Kind::Table(&ROUTE_TIMEOUTS),
            "How long servers may take.",
        ),
        optional(
            "retry",
            Kind::Table(&RETRY),
            "When a request is sent again.",
        ),
        optional(
            "max_body",
            Kind::Text(&SIZE),
            "Largest request body; by default the listener's.",
        ),
        later("split", "Pools by weight."),
        later(
            "sticky_split",
            "A visitor stays on the side of a split it was given.",
        ),
        later("cache", "Response cache."),
        later("waf", "Web application firewall."),
    ],
};

const VALUES: Kind = Kind::Map(&HEADER_NAME, &Kind::Text(&VALUE));
const PARAMETERS: Kind = Kind::Map(&WORD, &Kind::Text(&VALUE));

static MATCH: Section = Section {
    name: "`match`",
    doc: "Conditions of a route; all given ones must hold.",
    keys: &[
        optional(
            "host",
            Kind::OneOrMany(&Kind::Text(&HOST)),
            "Host names, exact or `*.suffix`; case and port do not matter.",
        ),
        optional(
            "path",
            Kind::Text(&PATH),
            "`/exact`, `/prefix/*` or `~expression`; matched on the decoded path with `.` and `..` resolved.",
        ),
        optional(
            "method",
            Kind::OneOrMany(&Kind::Text(&METHOD)),
            "Any of these methods.",
        ),
        optional(
            "header",
            VALUES,
            "Header fields: a value, `~expression`, or `*` for any.",
        ),
        optional(
            "query",
            PARAMETERS,
            "Query parameters: a value, `~expression`, or `*` for any.",
        ),
        optional(
            "cookie",
            PARAMETERS,
            "Cookies: a value, `~expression`, or `*` for any.",
        ),
        optional("source", NETS, "The client's address."),
        optional(
            "sni",
            Kind::OneOrMany(&Kind::Text(&HOST)),
            "At `stream` depth, or with `passthrough`: server names of the TLS handshake.",
        ),
        optional(
            "alpn",
            Kind::OneOrMany(&Kind::Text(&ALPN)),
            "At `stream` depth, or with `passthrough`: protocols the client offers.",
        ),
        later("body", "A condition on the request's body."),
    ],
};

static REDIRECT: Section = Section {
    name: "`redirect`",
    doc: "Send the client elsewhere.",
    keys: &[
        required(
            "to",
            Kind::Text(&WORD),
            "The new location: `$1`... is what the `*` or the groups of the path matched, `$host` the host, `$path` the path with its query, `$$` a dollar.",
        ),
        default(
            "status",
            Kind::Integer { min: 301, max: 308 },
            "302",
            "301, 302, 303, 307 or 308.",
        ),
    ],
};

static RESPOND: Section = Section {
    name: "`respond`",
    doc: "Answer at once.",
    keys: &[
        default(
            "status",
            Kind::Integer { min: 200, max: 599 },
            "200",
            "Status code.",
        ),
        default(
            "body",
            Kind::Text(&TEXT),
            "\"\"",
            "The body; `Content-Type: text/plain; charset=utf-8` unless the headers say otherwise.",
        ),
        optional(
            "headers",
            Kind::Map(&EDITED_HEADER, &Kind::Text(&HEADER_VALUE)),
            "Further header fields.",
        ),
    ],
};

static HEADERS: Section = Section {
    name: "header edits",
    doc: "Applied in the order remove, set, add.",
    keys: &[
        optional(
            "set",
            Kind::Map(&EDITED_HEADER, &Kind::Text(&HEADER_VALUE)),
            "Replaced, or added when missing.",
        ),
        optional(
            "add",
            Kind::Map(&EDITED_HEADER, &Kind::Text(&HEADER_VALUE)),
            "Added beside what is there.",
        ),
        optional(
            "remove",
            Kind::List(&Kind::Text(&EDITED_HEADER)),
            "Removed.",
        ),
    ],
};

static REWRITE: Section = Section {
    name: "`rewrite`",
    doc: "Another path for the server; the query stays.",
    keys: &[
        optional(
            "strip_prefix",
            Kind::Text(&PLAIN_PATH),
            "Cut from the path's beginning, at a segment border.",
        ),
        optional(
            "add_prefix",
            Kind::Text(&PLAIN_PATH),
            "Put before the path.",
        ),
        optional(
            "path",
            Kind::Text(&WORD),
            "The whole path; `$1`... as in redirects.",
        ),
        optional(
            "regex",
            Kind::Text(&REGEX),
            "What of the path is replaced by `to`.",
        ),
        optional(
            "to",
            Kind::Text(&TEXT),
            "What replaces the match of `regex`; `$1`... are its groups.",
        ),
    ],
};

static ROUTE_TIMEOUTS: Section = Section {
    name: "`timeouts` of a route",
    doc: "How long servers may take.",
    keys: &[
        default(
            "connect",
            Kind::Text(&DURATION),
            "\"5s\"",
            "To connect to a server.",
        ),
        default(
            "response",
            Kind::Text(&DURATION),
            "\"60s\"",
            "To the head of the response.",
        ),
    ],
};

static RETRY: Section = Section {
    name: "`retry`",
    doc: "When a request is sent again, to another server.",
    keys: &[
        default(
            "attempts",
            Kind::Integer { min: 0, max: 10 },
            "2",
            "Attempts after the first.",
        ),
        default(
            "on",
            Kind::List(&Kind::Text(&RETRY_ON)),
            "[\"connect-failure\", \"reset\"]",
            "connect-failure, reset, timeout, unavailable (gRPC), or a status such as \"503\".",
        ),
        default(
            "budget",
            Kind::Text(&SHARE),
            "\"20%\"",
            "Retries as a share of requests; three a second are always allowed.",
        ),
    ],
};

static TLS: Section = Section {
    name: "`tls` of a listener",
    doc: "TLS towards clients.",
    keys: &[
        optional(
            "bind",
            Kind::OneOrMany(&Kind::Text(&BIND)),
            "Which of the listener's binds speak TLS; by default all.",
        ),
        required(
            "certificates",
            Kind::List(&Kind::Table(&CERTIFICATE)),
            "Chosen by SNI; the first is the default. Files are watched.",
        ),
        default(
            "min_version",
            Kind::OneOf(&["1.2", "1.3"], &[]),
            "\"1.2\"",
            "Lowest version spoken.",
        ),
        default(
            "protocols",
            Kind::List(&Kind::OneOf(&["h2", "http1"], &["h3", "http3"])),
            "[\"h2\", \"http1\"]",
            "Offered by ALPN, in this order.",
        ),
        optional(
            "client_ca",
            Kind::Text(&FILE),
            "Ask for client certificates signed by these.",
        ),
        default(
            "client_auth",
            Kind::OneOf(&["optional", "required"], &[]),
            "\"optional\"",
            "Whether a client without a certificate is refused; with `client_ca`.",
        ),
        optional(
            "client_crl",
            Kind::OneOrMany(&Kind::Text(&FILE)),
            "Revocation lists; with `client_ca`.",
        ),
        optional(
            "client_identity_header",
            Kind::Text(&EDITED_HEADER),
            "Header that carries the client's identity to servers, and is stripped from what clients send; with `client_ca`.",
        ),
        optional(
            "ticket_keys",
            Kind::Text(&FILE),
            "Keys of resumption tickets, shared by a fleet; by default own keys, rotated.",
        ),
        optional("handshake_rate", Kind::Text(&RATE), "Most new handshakes."),
        default(
            "redirect_http",
            Kind::Bool,
            "false",
            "Cleartext binds answer 308 to https.",
        ),
    ],
};

static CERTIFICATE: Section = Section {
    name: "a certificate",
    doc: "A certificate and its key.",
    keys: &[
        required("cert", Kind::Text(&FILE), "PEM chain, leaf first."),
        required("key", Kind::Text(&FILE), "PEM private key."),
        optional("ocsp", Kind::Text(&FILE), "DER OCSP response to staple."),
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
