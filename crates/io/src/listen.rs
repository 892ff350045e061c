//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{Stream, epoll, stream, sys, uring};

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Several sockets may share the address, one per worker; the kernel spreads connections.
    pub reuse_port: bool,
    /// An IPv6 socket takes IPv6 only. On by default: `[::]` and `0.0.0.0` are two listeners.
    pub v6_only: bool,
    /// Connections the kernel completes ahead of `accept`.
    pub backlog: u32,
    /// Accept for addresses that are not this machine's (needs `CAP_NET_ADMIN`).
    pub transparent: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            reuse_port: true,
            v6_only: true,
            backlog: 4096,
            transparent: false,
        }
    }
}

/// Binds and listens. The socket may be handed to another thread's [`Listener`].
///
/// # Errors
/// With the name of the call that failed.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let call = |name: &'static str| {
        move |e: io::Error| io::Error::new(e.kind(), format!("{name} {address}: {e}"))
    };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )
    .map_err(call("socket for"))?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.v6_only)?;
    }
    if options.transparent {
        set_transparent(&socket, address).map_err(call("IP_TRANSPARENT for"))?;
    }
    // Accepted sockets inherit it: one system call less for each.
    socket.set_tcp_nodelay(true)?;
    socket
        .bind(&SockAddr::from(address))
        .map_err(call("bind"))?;
    socket
        .listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))
        .map_err(call("listen on"))?;
    Ok(socket.into())
}

pub(crate) fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() {
        socket.set_ip_transparent_v4(true)
    } else {
        socket.set_ip_transparent_v6(true)
    }
}

/// A listening socket of this worker.
#[derive(Debug)]
pub struct Listener(Driven);

#[derive(Debug)]
enum Driven {
    Epoll(epoll::Listener),
    Uring(uring::Listener),
}

impl Listener {
    /// Takes a listening socket over to this worker.
    ///
    /// # Errors
    /// When the driver cannot register it.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Self(match uring::current() {
            Some(ring) => Driven::Uring(uring::Listener::new(&ring, listener)?),
            None => Driven::Epoll(epoll::Listener::new(listener)?),
        }))
    }

    /// The next connection and where it comes from. Cancel-safe.
    ///
    /// # Errors
    /// What `accept4` says; out of descriptors or memory is for the caller to back off from:
    /// the waiting connections stay in the backlog.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.0 {
            Driven::Epoll(listener) => listener.accept().await.map(accepted(stream::Driven::Epoll)),
            Driven::Uring(listener) => listener.accept().await.map(accepted(stream::Driven::Uring)),
        }
    }

    /// A connection that is complete already. To be called until `None` before a listener that
    /// served is dropped: connections not taken by then are broken off.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn try_accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        Ok(match &self.0 {
            Driven::Epoll(listener) => listener.try_accept()?.map(accepted(stream::Driven::Epoll)),
            Driven::Uring(listener) => listener.try_accept()?.map(accepted(stream::Driven::Uring)),
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        sys::local_addr(self.fd())
    }

    /// The socket itself.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Driven::Epoll(listener) => listener.fd(),
            Driven::Uring(listener) => listener.fd(),
        }
    }
}

/// Makes the driver's stream a stream.
fn accepted<S>(wrap: fn(S) -> stream::Driven) -> impl Fn((S, SocketAddr)) -> (Stream, SocketAddr) {
    move |(stream, peer)| (Stream::accepted(wrap(stream), peer), peer)
}
