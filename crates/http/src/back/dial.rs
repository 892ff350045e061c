//! A new connection to a server: the socket, the PROXY header, TLS; within the time the route gives it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::{PoolPlan, ProxyVersion, ServerAddress};
use fathom_core::{ClientInfo, Endpoint, EndpointAddress, Pool, Reason};
use fathom_io::{Compat, ConnectOptions, Stream, clock, scratch, timer};
use fathom_tls::Connector;
use fathom_wire::proxy::{self, Addresses, Tlv, Transport, V2};

use crate::link::Link;

/// An open connection in its server's counters.
#[derive(Debug)]
pub(crate) struct Open(Arc<Endpoint>);

impl Open {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        let cells = endpoint.stats().here();
        cells.connections.inc();
        cells.open.add(1);
        Self(Arc::clone(endpoint))
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.stats().here().open.add(-1);
    }
}

/// A connection just made.
pub(crate) struct Dialled {
    pub(crate) link: Link,
    pub(crate) open: Open,
    pub(crate) took: Duration,
}

/// Connects to a server.
///
/// # Errors
/// Why it did not work; nothing of the request was sent.
pub(crate) async fn dial(
    endpoint: &Arc<Endpoint>,
    pool: &Pool,
    connector: Option<&Arc<Connector>>,
    info: &ClientInfo,
    limit: Duration,
) -> Result<Dialled, Reason> {
    let began = clock::precise();
    let result = timer::timeout(limit, connect(endpoint, pool, connector, info)).await;
    let link = result.unwrap_or(Err(Reason::ConnectTimeout))?;
    let took = clock::precise().since(began);
    endpoint.stats().here().connect.record(took);
    Ok(Dialled {
        link,
        open: Open::new(endpoint),
        took,
    })
}

async fn connect(
    endpoint: &Arc<Endpoint>,
    pool: &Pool,
    connector: Option<&Arc<Connector>>,
    info: &ClientInfo,
) -> Result<Link, Reason> {
    let target = match endpoint.address() {
        EndpointAddress::Ip(address) => fathom_io::Target::Ip(*address),
        EndpointAddress::Unix(path) => fathom_io::Target::Unix(path),
    };
    let stream = Stream::connect(target, &ConnectOptions::default())
        .await
        .map_err(|e| blame(&e))?;
    if let Some(header) = proxy_header(pool.plan(), info) {
        stream.write(header).map_err(|e| blame(&e))?;
    }
    let Some(connector) = connector else {
        return Ok(stream.into());
    };
    let members = pool.members();
    let server = members.iter().find(|m| m.endpoint().id() == endpoint.id());
    let host = server.and_then(|m| match &m.server().address {
        ServerAddress::Name { host, .. } => Some(host.as_str()),
        ServerAddress::Ip(_) | ServerAddress::Unix(_) => None,
    });
    let address = endpoint
        .ip()
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |a| a.ip());
    let secure = connector.connect(Compat::new(stream), host, address).await;
    secure.map(Link::tls).map_err(|_| Reason::ServerTls)
}

/// The PROXY protocol header that the pool's servers get for this client.
fn proxy_header(plan: &PoolPlan, info: &ClientInfo) -> Option<Vec<u8>> {
    let version = plan.proxy_protocol?;
    let mut out = scratch();
    match version {
        ProxyVersion::V1 => proxy::encode_v1(info.peer, info.local, &mut out),
        ProxyVersion::V2 => {
            let tls = info.tls.as_deref();
            let header = V2 {
                addresses: Addresses::Ip {
                    source: info.peer,
                    destination: info.local,
                    transport: Transport::Stream,
                },
                authority: tls.and_then(|t| t.sni.as_deref()).map(str::as_bytes),
                alpn: tls.and_then(|t| t.alpn.as_deref()),
            };
            let passed_on = info
                .proxy_tlvs
                .iter()
                .map(|(kind, value)| Tlv { kind: *kind, value });
            proxy::encode_v2(&header, passed_on, &mut out);
        }
    }
    Some(out)
}

/// Who is to blame when there is no connection.
fn blame(error: &io::Error) -> Reason {
    // Numbers of Linux, the same on all its architectures that Fathom runs on.
    match error.raw_os_error() {
        Some(23 | 24) => Reason::OutOfDescriptors, // ENFILE, EMFILE
        Some(12 | 105) => Reason::OutOfMemory,     // ENOMEM, ENOBUFS
        Some(99) => Reason::OutOfPorts,            // EADDRNOTAVAIL
        _ => Reason::ConnectFailed,
    }
}
