//! The cases, and the bar each one has to clear.

use crate::engine::{Offer, Talk};
use crate::h2load::Shape;
use crate::peer::{Door, Kind};

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) door: Door,
    pub(crate) load: Load,
    /// The first is the one measured against the others.
    pub(crate) contenders: &'static [Kind],
    pub(crate) figure: Figure,
    pub(crate) bars: &'static [Bar],
}

/// A figure of ours must be at most this.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// So many times the peer's.
    To(Kind, f64),
    /// This figure itself.
    Absolute(f64),
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// CPU time per request, message, connection or datagram pair.
    CpuPerRequest,
    /// CPU time per gigabyte passed on.
    CpuPerGigabyte,
    /// Median latency.
    Latency,
    /// Resident memory per idle connection.
    Memory,
}

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// So many clients, each with one exchange outstanding.
    Clients {
        clients: usize,
        says: Says,
        /// At most so many exchanges a second, spread evenly; without it, as fast as the answers come.
        pace: Option<f64>,
        /// Connections that did one exchange before and stay open.
        idle: usize,
    },
    /// HTTP/2 load.
    Http2(Shape),
    /// The same with datagrams.
    Datagrams { clients: usize },
    /// Connections that did one exchange and stay open, and nothing else.
    Idle { connections: usize },
}

/// One exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    /// `GET path` on a kept connection.
    Get(&'static str),
    /// `GET path` on a connection of its own, which the server is asked to close.
    GetAndClose(&'static str),
    /// The same over TLS, resuming the session before.
    GetAndCloseResumed(&'static str),
    /// After an upgrade at `path`: a message of `size` bytes, answered by `answer` bytes.
    Upgraded {
        path: &'static str,
        size: usize,
        answer: u64,
    },
}

impl Says {
    pub(crate) fn talk(self, door: Door) -> Talk {
        let tls = (door == Door::Https).then_some(match self {
            Self::GetAndCloseResumed(_) => Offer::Resumption,
            _ => Offer::Full,
        });
        let talk = match self {
            Self::Get(path) => Talk::get(path),
            Self::GetAndClose(path) | Self::GetAndCloseResumed(path) => Talk::get_and_close(path),
            Self::Upgraded { path, size, answer } => Talk::upgraded(path, size, answer),
        };
        Talk { tls, ..talk }
    }
}

const HTTP: &[Kind] = &[Kind::Fathom, Kind::Nginx, Kind::Haproxy, Kind::Raw];
const NO_FLOOR: &[Kind] = &[Kind::Fathom, Kind::Nginx, Kind::Haproxy];

/// The rate of the cases that leave the balancer's core idle in between: about half of what nginx can do.
const MODERATE: Option<f64> = Some(30_000.0);

const fn clients(clients: usize, says: Says) -> Load {
    Load::Clients {
        clients,
        says,
        pace: None,
        idle: 0,
    }
}

const fn bars(nginx: f64, haproxy: f64) -> [Bar; 2] {
    [Bar::To(Kind::Nginx, nginx), Bar::To(Kind::Haproxy, haproxy)]
}

const fn http(name: &'static str, title: &'static str, load: Load, bars: &'static [Bar]) -> Case {
    Case {
        name,
        title,
        door: Door::Http,
        load,
        contenders: HTTP,
        figure: Figure::CpuPerRequest,
        bars,
    }
}

const fn https(name: &'static str, title: &'static str, load: Load, bars: &'static [Bar]) -> Case {
    Case {
        name,
        title,
        door: Door::Https,
        load,
        contenders: NO_FLOOR,
        figure: Figure::CpuPerRequest,
        bars,
    }
}

/// All of them, in the order they are shown.
pub(crate) const CASES: &[Case] = &[
    http(
        "http-64",
        "http keep-alive, 64 clients, 128 B",
        Load::Clients {
            clients: 64,
            says: Says::Get("/128"),
            pace: MODERATE,
            idle: 0,
        },
        &bars(0.75, 0.68),
    ),
    http(
        "http-saturated",
        "the same, balancer's core saturated",
        clients(64, Says::Get("/128")),
        &bars(0.68, 0.58),
    ),
    http(
        "http-512",
        "http keep-alive, 512 clients, 128 B",
        clients(512, Says::Get("/128")),
        &bars(0.60, 0.55),
    ),
    http(
        "http-10k",
        "http keep-alive, 10 KiB bodies",
        clients(64, Says::Get("/10240")),
        &bars(0.80, 0.75),
    ),
    http(
        "http-1m",
        "http keep-alive, 1 MiB bodies, 16 clients",
        clients(16, Says::Get("/1048576")),
        &bars(0.80, 0.55),
    ),
    http(
        "http-new",
        "http, new client connection per request",
        clients(64, Says::GetAndClose("/128")),
        &bars(1.0, 1.0),
    ),
    http(
        "http-idle",
        "http, 64 busy clients beside 256 idle ones",
        Load::Clients {
            clients: 64,
            says: Says::Get("/128"),
            pace: MODERATE,
            idle: 256,
        },
        &[],
    ),
    Case {
        name: "http-one",
        title: "http, one connection: latency",
        door: Door::Http,
        load: clients(1, Says::Get("/128")),
        contenders: HTTP,
        figure: Figure::Latency,
        bars: &bars(1.0, 1.0),
    },
    Case {
        name: "http-epoll",
        title: "http keep-alive, 64 clients, with the epoll driver",
        door: Door::Http,
        load: Load::Clients {
            clients: 64,
            says: Says::Get("/128"),
            pace: MODERATE,
            idle: 0,
        },
        contenders: &[Kind::FathomEpoll, Kind::Nginx, Kind::Haproxy, Kind::Raw],
        figure: Figure::CpuPerRequest,
        bars: &bars(0.85, 0.78),
    },
    Case {
        name: "stream-64",
        title: "stream keep-alive, saturated",
        door: Door::Stream,
        load: clients(64, Says::Get("/128")),
        contenders: NO_FLOOR,
        figure: Figure::CpuPerRequest,
        bars: &bars(0.75, 0.70),
    },
    Case {
        name: "stream-new",
        title: "stream, new connection per request",
        door: Door::Stream,
        load: clients(64, Says::GetAndClose("/c128")),
        contenders: NO_FLOOR,
        figure: Figure::CpuPerRequest,
        bars: &bars(1.0, 0.90),
    },
    Case {
        name: "stream-bulk",
        title: "stream bulk, per GB",
        door: Door::Stream,
        load: clients(4, Says::Get("/67108864")),
        contenders: NO_FLOOR,
        figure: Figure::CpuPerGigabyte,
        bars: &bars(0.85, 0.85),
    },
    Case {
        name: "udp",
        title: "UDP, per datagram pair",
        door: Door::Udp,
        load: Load::Datagrams { clients: 64 },
        contenders: &[Kind::Fathom, Kind::Nginx],
        figure: Figure::CpuPerRequest,
        bars: &[Bar::To(Kind::Nginx, 0.70)],
    },
    Case {
        name: "http-memory",
        title: "memory per idle http keep-alive connection, at 10,000",
        door: Door::Http,
        load: Load::Idle {
            connections: 10_000,
        },
        contenders: NO_FLOOR,
        figure: Figure::Memory,
        bars: &[Bar::Absolute(2.0 * 1024.0)],
    },
    https(
        "https-64",
        "HTTPS keep-alive, 64 clients, ECDSA P-256",
        clients(64, Says::Get("/128")),
        &bars(0.75, 0.72),
    ),
    https(
        "https-full",
        "full TLS 1.3 handshakes, one request each",
        clients(16, Says::GetAndClose("/128")),
        &bars(0.60, 0.60),
    ),
    https(
        "https-resumed",
        "resumed TLS 1.3 handshakes, one request each",
        clients(16, Says::GetAndCloseResumed("/128")),
        &bars(0.65, 0.60),
    ),
    https(
        "h2",
        "h2 over TLS to h1 servers, 8 connections x 32 streams",
        Load::Http2(Shape {
            connections: 8,
            streams: 32,
        }),
        &bars(0.70, 1.0),
    ),
    Case {
        name: "grpc",
        title: "gRPC unary over h2 on both sides, 8 connections x 32 streams",
        door: Door::Grpc,
        load: Load::Http2(Shape {
            connections: 8,
            streams: 32,
        }),
        contenders: NO_FLOOR,
        figure: Figure::CpuPerRequest,
        bars: &bars(0.80, 1.0),
    },
    Case {
        name: "https-memory",
        title: "memory per idle HTTPS keep-alive connection, at 10,000",
        door: Door::Https,
        load: Load::Idle {
            connections: 10_000,
        },
        contenders: NO_FLOOR,
        figure: Figure::Memory,
        bars: &[Bar::Absolute(15.0 * 1024.0)],
    },
    Case {
        name: "websocket",
        title: "WebSocket messages of 1 KiB, to our stream depth",
        door: Door::Http,
        load: clients(
            64,
            Says::Upgraded {
                path: "/echo",
                size: 1024,
                answer: 1024,
            },
        ),
        contenders: &[Kind::Fathom, Kind::FathomStream],
        figure: Figure::CpuPerRequest,
        bars: &[Bar::To(Kind::FathomStream, 1.1)],
    },
    Case {
        name: "websocket-bulk",
        title: "WebSocket bytes, per GB, to our stream depth",
        door: Door::Http,
        load: clients(
            4,
            Says::Upgraded {
                path: "/flood",
                size: 64,
                answer: crate::engine::FLOOD,
            },
        ),
        contenders: &[Kind::Fathom, Kind::FathomStream],
        figure: Figure::CpuPerGigabyte,
        bars: &[Bar::To(Kind::FathomStream, 1.1)],
    },
    Case {
        name: "routes",
        title: "1,000 routes instead of 3",
        door: Door::Routes(1000),
        load: clients(64, Says::Get("/128/x")),
        contenders: &[Kind::Fathom, Kind::FathomFewRoutes],
        figure: Figure::CpuPerRequest,
        bars: &[Bar::To(Kind::FathomFewRoutes, 1.05)],
    },
];
