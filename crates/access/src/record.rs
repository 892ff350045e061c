//! What is known of one request, connection or flow when it ends: borrowed fields, filled by the planes.

use std::net::SocketAddr;
use std::time::Duration;

use fathom_core::plan::Origin;

/// One line of the access log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it ended, since the Unix epoch.
    pub time: Duration,
    /// The client: after PROXY protocol and `trusted_proxies`.
    pub client: SocketAddr,
    /// The listener's name.
    pub listener: &'a str,
    /// The route that decided.
    pub route: Option<Route<'a>>,
    /// The pool that was chosen.
    pub pool: Option<&'a str>,
    /// The server that was tried last.
    pub server: Option<&'a str>,
    /// Bytes from the client: of the request's body, or of the whole connection or flow.
    pub request_bytes: u64,
    /// Bytes to the client, likewise.
    pub response_bytes: u64,
    /// From the first byte (or the accept) to the end.
    pub duration: Duration,
    /// What connecting to the server took; `None` when a kept connection was used, or none.
    pub connect: Option<Duration>,
    /// Attempts after the first.
    pub retries: u32,
    /// Why Fathom itself ended or answered it (`Reason::as_str`).
    pub reason: Option<&'a str>,
    /// The client's TLS.
    pub tls: Option<Tls<'a>>,
    /// What it was.
    pub exchange: Exchange<'a>,
}

/// A route's name and where it is written.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Its name, as in metrics.
    pub name: &'a str,
    /// `file:line`.
    pub origin: &'a Origin,
}

/// TLS towards the client.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// `1.3`; empty when the handshake was only peeked at (passthrough).
    pub version: &'a str,
    /// The name asked for.
    pub sni: Option<&'a str>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug)]
pub enum Exchange<'a> {
    /// A request at `http` depth.
    Http(Request<'a>),
    /// A TCP connection at `stream` depth.
    Tcp,
    /// A UDP flow at `stream` depth.
    Udp,
    /// A flow that began at `packet` depth, one of those that are sampled. Its bytes are not known.
    Packet,
}

/// A request and its answer. Empty bytes stand for "not known" or "not sent".
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// `GET`.
    pub method: &'a [u8],
    /// The Host field or `:authority`.
    pub host: &'a [u8],
    /// Path with query, as the client sent it.
    pub path: &'a [u8],
    /// `HTTP/1.1`.
    pub version: &'a str,
    /// What the client got; `None` when it went away before any answer.
    pub status: Option<u16>,
    /// From the request's head to the first byte of the server's answer.
    pub first_byte: Option<Duration>,
    /// The User-Agent field.
    pub user_agent: &'a [u8],
    /// The Referer field.
    pub referer: &'a [u8],
    /// `grpc-status` of the answer.
    pub grpc_status: Option<u16>,
}
