//! Listeners: where clients arrive and how deep they are looked into.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{HttpPlan, Origin, RouteTarget, TlsListenerPlan};

/// `[listeners.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
    /// One or more addresses.
    pub binds: Vec<BindPlan>,
    /// How deep it looks, with what only that depth knows.
    pub depth: DepthPlan,
    /// Peers from which a PROXY protocol header is required; others are taken as they are.
    pub accept_proxy_protocol: Vec<IpNet>,
    /// Admission limits.
    pub limits: LimitsPlan,
    /// TLS, on the binds with [`BindPlan::tls`]. Only at `http` depth.
    pub tls: Option<TlsListenerPlan>,
}

/// One address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindPlan {
    /// What to bind.
    pub address: BindAddress,
    /// Whether this bind speaks TLS.
    pub tls: bool,
    /// Where it was written.
    pub origin: Origin,
}

/// `":80"`, `"10.0.0.1:80"` or `"[::1]:80"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindAddress {
    /// Every local address of both families.
    Any(u16),
    /// One address.
    Ip(SocketAddr),
}

impl BindAddress {
    /// The sockets to open: for [`BindAddress::Any`] one of each family (the IPv6 one v6-only; a machine
    /// without IPv6 may lack it).
    #[must_use]
    pub fn sockets(&self) -> Vec<SocketAddr> {
        match *self {
            Self::Any(port) => vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            ],
            Self::Ip(addr) => vec![addr],
        }
    }
}

/// `depth`, and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub enum DepthPlan {
    /// `depth = "http"`.
    Http(HttpPlan),
    /// `depth = "stream"`, TCP.
    Stream(StreamPlan),
    /// `depth = "stream"`, `protocol = "udp"`.
    Datagram(DatagramPlan),
    /// `depth = "packet"`.
    Packet(PacketPlan),
}

/// `depth = "stream"` over TCP.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamPlan {
    /// Routes by SNI/ALPN, most specific first is decided by the router; may be empty.
    pub routes: Vec<StreamRoutePlan>,
    /// The pool when no route matches (`pool = ` of the listener).
    pub pool: Option<Arc<str>>,
    /// `timeouts.idle`: no byte in either direction. Default 1 h.
    pub idle_timeout: Duration,
    /// `timeouts.connect`: to a server. Default 5 s.
    pub connect_timeout: Duration,
    /// `timeouts.header`: for the ClientHello (and PROXY header). Default 10 s.
    pub peek_timeout: Duration,
}

/// A route of a stream listener, or a `passthrough` route of an http one.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRoutePlan {
    /// Where it was written.
    pub origin: Origin,
    /// `match.sni`: names, exact or `*.suffix`; empty = any.
    pub sni: Vec<HostPattern>,
    /// `match.alpn`: any of these offered; empty = any.
    pub alpn: Vec<String>,
    /// `match.source`; empty = any.
    pub source: Vec<IpNet>,
    /// Where to.
    pub target: RouteTarget,
}

/// A host name or SNI pattern, lower case, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `example.com`.
    Exact(String),
    /// `*.example.com`, kept as `.example.com`: any name that ends so (one label or more before it).
    Suffix(String),
}

/// `depth = "stream"`, `protocol = "udp"`.
#[derive(Clone, Debug, PartialEq)]
pub struct DatagramPlan {
    /// Where the datagrams go.
    pub pool: Arc<str>,
    /// `timeouts.idle`: a flow without a datagram in either direction. Default 60 s.
    pub idle_timeout: Duration,
    /// Most flows at a time. Default 65,536 (`limits.connections`).
    pub max_flows: usize,
}

/// `limits = {...}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitsPlan {
    /// Most connections of the listener at a time.
    pub connections: Option<u32>,
    /// Most connections of one client address at a time.
    pub connections_per_client: Option<u32>,
    /// New connections of one client address.
    pub connection_rate_per_client: Option<Rate>,
}

/// `"100/s"`, `"6000/m"`, `"10/h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events ...
    pub count: u32,
    /// ... in this time.
    pub per: Duration,
}

/// `depth = "packet"`.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketPlan {
    /// Where the packets go.
    pub pool: Arc<str>,
    /// TCP or UDP.
    pub protocol: PacketProtocol,
    /// `packet.interface`.
    pub interface: String,
    /// `packet.forward`.
    pub forward: Forward,
    /// `packet.preserve_source`: the server sees the client's address (nat, with Fathom as its gateway).
    pub preserve_source: bool,
    /// `packet.source`: Fathom's own addresses for `nat`; empty = the interface's.
    pub sources: Vec<IpAddr>,
    /// `packet.allow`: prefixes; empty = everyone.
    pub allow: Vec<IpNet>,
    /// `packet.deny`: prefixes.
    pub deny: Vec<IpNet>,
    /// `packet.rate_per_source`: packets that open a flow.
    pub rate_per_source: Option<Rate>,
    /// `packet.syn_cookies`: SYNs a second from which cookies are demanded; `None` = never. Default 10,000/s.
    pub syn_cookies: Option<Rate>,
    /// `packet.flow_log`: one flow in N is logged; `None` = off.
    pub flow_log: Option<u32>,
}

/// What a packet listener balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PacketProtocol {
    Tcp,
    Udp,
}

/// How a packet reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Addresses rewritten both ways; replies come back through Fathom.
    Nat,
    /// Destination MAC rewritten; the server answers the client itself.
    DsrMac,
    /// IP in IP; the server answers the client itself.
    DsrIpip,
    /// Generic UDP encapsulation; the server answers the client itself.
    DsrGue,
}
