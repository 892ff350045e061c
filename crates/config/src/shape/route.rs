//! `[[listeners.NAME.routes]]` and what is inside.

use super::listener::NETS;
use super::{Kind, Section, default, later, optional, required};
use crate::form::{
    ALPN, DURATION, EDITED_HEADER, HEADER_NAME, HEADER_VALUE, HOST, METHOD, NAME, PATH, PLAIN_PATH,
    REGEX, RETRY_ON, SHARE, SIZE, TEXT, VALUE, WORD,
};

const VALUES: Kind = Kind::Map(&HEADER_NAME, &Kind::Text(&VALUE));
const PARAMETERS: Kind = Kind::Map(&WORD, &Kind::Text(&VALUE));

pub(super) static ROUTE: Section = Section {
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
