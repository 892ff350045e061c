//! Sockets towards servers, up to the connect itself, which is the driver's.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Over TCP.
    Ip(SocketAddr),
    /// On this machine.
    Unix(&'a Path),
}

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// The address to connect from, whether or not it is this machine's (transparent proxying;
    /// needs `CAP_NET_ADMIN`). Port 0 lets the kernel choose.
    pub source: Option<SocketAddr>,
    /// Send small writes at once. On by default: the proxy writes whole messages.
    pub nodelay: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            source: None,
            nodelay: true,
        }
    }
}

/// A socket ready to be connected, and the address to connect it to.
pub(crate) fn prepare(
    target: Target<'_>,
    options: &ConnectOptions,
    nonblocking: bool,
) -> io::Result<(Socket, SockAddr)> {
    let (domain, protocol, address) = match target {
        Target::Ip(address) => (
            Domain::for_address(address),
            Some(Protocol::TCP),
            SockAddr::from(address),
        ),
        Target::Unix(path) => (Domain::UNIX, None, SockAddr::unix(path)?),
    };
    let kind = if nonblocking {
        Type::STREAM.nonblocking()
    } else {
        Type::STREAM
    };
    let socket = Socket::new(domain, kind.cloexec(), protocol)?;
    if let Target::Ip(server) = target {
        if options.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(source) = options.source {
            bind_transparent(&socket, source, server)?;
        }
    }
    Ok((socket, address))
}

fn bind_transparent(socket: &Socket, source: SocketAddr, server: SocketAddr) -> io::Result<()> {
    if source.is_ipv4() != server.is_ipv4() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("cannot connect to {server} from {source}: not the same address family"),
        ));
    }
    let blame =
        |e: io::Error| io::Error::new(e.kind(), format!("bind to client address {source}: {e}"));
    crate::listen::set_transparent(socket, source).map_err(blame)?;
    // The port is chosen at connect, so that one source port serves for many servers.
    crate::sys::set_bind_address_no_port(socket.as_fd())?;
    socket.bind(&SockAddr::from(source)).map_err(blame)
}
