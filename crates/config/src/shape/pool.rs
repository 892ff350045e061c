//! `[pools.NAME]` and what is inside.

use super::{Kind, Section, default, later, optional, required};
use crate::form::{
    DURATION, DURATION_OR_ZERO, FILE, HASH_ON, HEADER_NAME, HEADER_VALUE, HOST_NAME, JSON_PATH,
    METHOD, PERCENTAGE, POSTGRES, REGEX, SERVER, SERVER_NAME, SHARE, STATUS_RANGES, TEXT, WORD,
};

const COUNT: Kind = Kind::Integer {
    min: 1,
    max: u32::MAX as i64,
};
const YES: Kind = Kind::Bool;

pub(crate) static POOL: Section = Section {
    name: "a pool",
    doc: "A group of servers that do the same.",
    keys: &[
        default(
            "balance",
            Kind::OneOf(BALANCE, &[]),
            "\"round-robin\"",
            "How a server is chosen.",
        ),
        default(
            "hash_on",
            Kind::Text(&HASH_ON),
            "\"source-ip\"",
            "With `balance = \"hash\"`: source-ip, source-ip-port, path, query:NAME, header:NAME, cookie:NAME or sni.",
        ),
        optional(
            "bounded_load",
            Kind::Text(&PERCENTAGE),
            "With `balance = \"hash\"`: a server gets at most this much of the mean load.",
        ),
        required(
            "servers",
            Kind::List(&Kind::Either(&[
                Kind::Text(&SERVER),
                Kind::Table(&SERVER_TABLE),
            ])),
            "Addresses, or tables with more.",
        ),
        optional(
            "health",
            Kind::Table(&HEALTH),
            "Active checks, of exactly one kind; without them servers count as healthy.",
        ),
        optional(
            "outliers",
            Kind::Table(&OUTLIERS),
            "A server that answers badly is left out for a while.",
        ),
        default(
            "slow_start",
            Kind::Text(&DURATION_OR_ZERO),
            "\"0\"",
            "A server that came up gets its weight over this time.",
        ),
        optional(
            "affinity",
            Kind::Table(&AFFINITY),
            "A client keeps its server for a time.",
        ),
        optional("tls", Kind::Table(&TLS), "TLS to the servers."),
        default(
            "protocol",
            Kind::OneOf(&["http1", "http2", "grpc"], &[]),
            "\"http1\"",
            "At `http` depth: what is spoken to the servers.",
        ),
        optional(
            "keepalive",
            Kind::Table(&KEEPALIVE),
            "At `http` depth: kept connections to servers.",
        ),
        optional(
            "queue",
            Kind::Table(&QUEUE),
            "Waiting when every server is at its `max_connections`.",
        ),
        optional(
            "proxy_protocol",
            Kind::OneOf(&["v1", "v2"], &[]),
            "PROXY protocol header sent to the servers.",
        ),
        later("sticky", "A visitor stays with its server, by a cookie."),
    ],
};

pub(crate) const BALANCE: &[&str] = &[
    "round-robin",
    "least-connections",
    "least-response-time",
    "random-two-choices",
    "random",
    "first",
    "hash",
];

static SERVER_TABLE: Section = Section {
    name: "a server",
    doc: "One server of a pool.",
    keys: &[
        required(
            "address",
            Kind::Text(&SERVER),
            "`10.0.0.10:3000`, `[::1]:80`, `name.example:80` (resolved again and again) or `unix:/run/app.sock`.",
        ),
        optional(
            "name",
            Kind::Text(&SERVER_NAME),
            "In metrics and commands; by default the address.",
        ),
        default(
            "weight",
            Kind::Integer {
                min: 0,
                max: 65_535,
            },
            "1",
            "Its share of the work; 0 is no new work.",
        ),
        default(
            "backup",
            Kind::Bool,
            "false",
            "Used only when no other server can be.",
        ),
        optional(
            "max_connections",
            COUNT,
            "Most connections (`stream`) or requests in flight (`http`) at a time.",
        ),
    ],
};

/// The keys of `health` that choose what is asked; exactly one is given.
pub(crate) const PROBES: &[&str] = &[
    "tcp",
    "http",
    "grpc",
    "tls",
    "postgres",
    "redis",
    "smtp",
    "send_expect",
    "command",
];

static HEALTH: Section = Section {
    name: "`health`",
    doc: "Active checks of one kind: tcp, http, grpc, tls, postgres, redis, smtp, send_expect or command.",
    keys: &[
        optional("tcp", YES, "A connection opens."),
        optional(
            "http",
            Kind::Text(&TEXT),
            "A request for this path is answered as expected.",
        ),
        optional(
            "grpc",
            Kind::Text(&TEXT),
            "The gRPC health service says SERVING for this service (empty: the whole server).",
        ),
        optional("tls", YES, "A TLS handshake completes."),
        optional(
            "postgres",
            Kind::Text(&POSTGRES),
            "A PostgreSQL server takes these connection parameters.",
        ),
        optional(
            "redis",
            Kind::Text(&WORD),
            "A Redis command is answered without an error.",
        ),
        optional("smtp", YES, "A mail server greets and takes EHLO."),
        optional(
            "send_expect",
            Kind::Table(&SEND_EXPECT),
            "Bytes are sent, and what comes back matches.",
        ),
        optional(
            "command",
            Kind::List(&Kind::Text(&TEXT)),
            "A program and its arguments; exit status 0 is healthy.",
        ),
        default("method", Kind::Text(&METHOD), "\"GET\"", "With `http`."),
        optional(
            "host",
            Kind::Text(&WORD),
            "With `http`: the Host header; by default the server's address.",
        ),
        optional(
            "headers",
            Kind::Map(&HEADER_NAME, &Kind::Text(&HEADER_VALUE)),
            "With `http`: further header fields.",
        ),
        default(
            "expect_status",
            Kind::Either(&[
                Kind::Text(&STATUS_RANGES),
                Kind::Integer { min: 100, max: 599 },
            ]),
            "\"200-399\"",
            "With `http`: status codes and ranges.",
        ),
        optional(
            "expect_body",
            Kind::Text(&REGEX),
            "With `http`: on the first 64 KiB of the body.",
        ),
        optional(
            "expect_json",
            Kind::Table(&EXPECT_JSON),
            "With `http`: a field of a JSON body.",
        ),
        default(
            "interval",
            Kind::Text(&DURATION),
            "\"2s\"",
            "Between checks.",
        ),
        optional(
            "timeout",
            Kind::Text(&DURATION),
            "Of one check; by default 1s, at most the interval.",
        ),
        default(
            "rise",
            Kind::Integer { min: 1, max: 1000 },
            "2",
            "Successes to come up.",
        ),
        default(
            "fall",
            Kind::Integer { min: 1, max: 1000 },
            "3",
            "Failures to go down.",
        ),
        optional(
            "fast_interval",
            Kind::Text(&DURATION),
            "Between checks while a state is changing; by default half the interval, at most 1s.",
        ),
        optional(
            "port",
            Kind::Integer {
                min: 1,
                max: 65_535,
            },
            "Another port to check.",
        ),
    ],
};

static SEND_EXPECT: Section = Section {
    name: "`send_expect`",
    doc: "Bytes are sent, and what comes back matches.",
    keys: &[
        default("send", Kind::Text(&TEXT), "\"\"", "What is sent."),
        required(
            "expect",
            Kind::Text(&REGEX),
            "On the bytes received so far.",
        ),
    ],
};

static EXPECT_JSON: Section = Section {
    name: "`expect_json`",
    doc: "A field of a JSON body.",
    keys: &[
        required(
            "path",
            Kind::Text(&JSON_PATH),
            "Where: `$.status`, `$.checks[0].ok`.",
        ),
        required("equals", Kind::Scalar, "What it must be."),
    ],
};

static OUTLIERS: Section = Section {
    name: "`outliers`",
    doc: "A server that answers badly is left out for a while.",
    keys: &[
        default("consecutive_errors", COUNT, "5", "Errors in a row."),
        default(
            "eject",
            Kind::Text(&DURATION),
            "\"30s\"",
            "First time out; doubles with each that follows, up to ten times.",
        ),
        default(
            "max_ejected",
            Kind::Text(&SHARE),
            "\"50%\"",
            "Largest share of the pool out at a time.",
        ),
    ],
};

static AFFINITY: Section = Section {
    name: "`affinity`",
    doc: "A client keeps its server for a time.",
    keys: &[
        default(
            "key",
            Kind::OneOf(&["source-ip"], &[]),
            "\"source-ip\"",
            "What tells clients apart.",
        ),
        default(
            "ttl",
            Kind::Text(&DURATION),
            "\"30m\"",
            "Since the last use.",
        ),
        default(
            "capacity",
            Kind::Integer {
                min: 1,
                max: 100_000_000,
            },
            "100000",
            "Most clients remembered.",
        ),
    ],
};

static TLS: Section = Section {
    name: "`tls` of a pool",
    doc: "TLS to the servers.",
    keys: &[
        optional(
            "server_name",
            Kind::Text(&HOST_NAME),
            "Name sent and verified; by default the server's host name.",
        ),
        optional(
            "ca",
            Kind::Text(&FILE),
            "PEM bundle; by default the public web roots.",
        ),
        optional(
            "client_cert",
            Kind::Text(&FILE),
            "Certificate that Fathom shows; with `client_key`.",
        ),
        optional("client_key", Kind::Text(&FILE), "Its key."),
        default(
            "verify",
            Kind::Bool,
            "true",
            "Whether the server's certificate is verified.",
        ),
    ],
};

static KEEPALIVE: Section = Section {
    name: "`keepalive`",
    doc: "Kept connections to servers.",
    keys: &[
        default(
            "idle",
            Kind::Integer {
                min: 0,
                max: 1_000_000,
            },
            "256",
            "Most idle connections kept to each server by each worker; 0 is a new connection for each request.",
        ),
        default(
            "timeout",
            Kind::Text(&DURATION),
            "\"60s\"",
            "How long one is kept idle.",
        ),
    ],
};

static QUEUE: Section = Section {
    name: "`queue`",
    doc: "Waiting when every server is at its `max_connections`.",
    keys: &[
        required(
            "length",
            Kind::Integer {
                min: 1,
                max: 10_000_000,
            },
            "Most waiting at a time.",
        ),
        default("timeout", Kind::Text(&DURATION), "\"5s\"", "Longest wait."),
    ],
};
