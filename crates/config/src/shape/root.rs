//! The file itself, and the sections about the program.

use super::listener::LISTENER;
use super::pool::POOL;
use super::{Kind, Section, default, later, optional, required};
use crate::form::{ACCESS, ADMIN_BIND, DURATION_OR_ZERO, GLOB, NAME, WORD};

pub(crate) static ROOT: Section = Section {
    name: "the file",
    doc: "A Fathom configuration.",
    keys: &[
        optional(
            "include",
            Kind::List(&Kind::Text(&GLOB)),
            "Further files, relative to this one; patterns are allowed. A name defined twice is an error.",
        ),
        optional(
            "admin",
            Kind::Table(&ADMIN),
            "The admin side: dashboard, API and metrics. Without it there is none.",
        ),
        optional(
            "runtime",
            Kind::Table(&RUNTIME),
            "Threads, driver, user, shutdown.",
        ),
        optional(
            "log",
            Kind::Table(&LOG),
            "The program's own log and the access log.",
        ),
        optional(
            "listeners",
            Kind::Map(&NAME, &Kind::Table(&LISTENER)),
            "Where clients arrive, by name.",
        ),
        optional(
            "pools",
            Kind::Map(&NAME, &Kind::Table(&POOL)),
            "Groups of servers, by name.",
        ),
        later("cache", "Response cache."),
        later("waf", "Web application firewall."),
    ],
};

static ADMIN: Section = Section {
    name: "`admin`",
    doc: "The admin side: dashboard at /, API under /api/v1/, Prometheus at /metrics.",
    keys: &[
        required(
            "bind",
            Kind::Text(&ADMIN_BIND),
            "Where it is served: an address, or `unix:/path`.",
        ),
        optional(
            "token",
            Kind::Text(&WORD),
            "Bearer token; required unless bound to loopback or a unix socket.",
        ),
    ],
};

static RUNTIME: Section = Section {
    name: "`runtime`",
    doc: "Threads, driver, user, shutdown.",
    keys: &[
        default(
            "workers",
            Kind::Either(&[
                Kind::OneOf(&["auto"], &[]),
                Kind::Integer { min: 1, max: 1024 },
            ]),
            "\"auto\"",
            "Data-path threads; auto is one for each usable core.",
        ),
        default(
            "io",
            Kind::OneOf(&["auto", "uring", "epoll"], &[]),
            "\"auto\"",
            "What carries the sockets; auto is io_uring where the kernel allows it, else epoll.",
        ),
        optional("user", Kind::Text(&WORD), "User to become after binding."),
        default(
            "shutdown_grace",
            Kind::Text(&DURATION_OR_ZERO),
            "\"30s\"",
            "How long a shutdown waits for connections to finish.",
        ),
    ],
};

static LOG: Section = Section {
    name: "`log`",
    doc: "The program's own log and the access log.",
    keys: &[
        default(
            "level",
            Kind::OneOf(&["error", "warn", "info", "debug", "trace"], &[]),
            "\"info\"",
            "Of the program's own log, to stderr.",
        ),
        default(
            "access",
            Kind::Text(&ACCESS),
            "\"stdout\"",
            "Where the access log goes: `off`, `stdout`, `stderr` or a file (relative to this one).",
        ),
        default(
            "format",
            Kind::OneOf(&["json", "combined", "logfmt"], &[]),
            "\"json\"",
            "Format of the access log.",
        ),
    ],
};
