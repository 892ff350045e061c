//! UDP in batches: many datagrams a system call, many sockets a wake-up.
//!
//! A relay has one socket that clients send to and one for each flow towards a server. [`Batch`] takes what has come on one
//! socket and sends it on without copying; [`Sockets`] says which of thousands of sockets have something, for one task and
//! without one registration in the runtime each. Neither depends on the driver of the streams.

mod batch;
mod sockets;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub use batch::{Batch, Datagram, Local};
pub use sockets::{MAX_READY, Sockets};

/// How to bind a socket that clients send to.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// Several sockets may share the address, one per worker: the kernel keeps each flow on one of them.
    pub reuse_port: bool,
    /// An IPv6 socket takes IPv6 only.
    pub v6_only: bool,
    /// Take datagrams for addresses that are not this machine's (needs `CAP_NET_ADMIN`).
    pub transparent: bool,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            reuse_port: true,
            v6_only: true,
            transparent: false,
        }
    }
}

/// Room for bursts; the kernel grants as much as `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Binds a socket for clients. It may be handed to another thread. Where it is bound to every address, each datagram tells
/// which one was asked ([`Datagram::local`]).
///
/// # Errors
/// With the name of the call that failed.
pub fn bind(address: SocketAddr, options: &BindOptions) -> io::Result<UdpSocket> {
    let call = |name: &'static str| {
        move |e: io::Error| io::Error::new(e.kind(), format!("{name} {address}: {e}"))
    };
    let kind = Type::DGRAM.cloexec().nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))
        .map_err(call("UDP socket for"))?;
    if options.reuse_port {
        socket
            .set_reuse_port(true)
            .map_err(call("SO_REUSEPORT for"))?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.v6_only)?;
    }
    if options.transparent {
        match address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
        }
        .map_err(call("IP_TRANSPARENT for"))?;
    }
    socket
        .bind(&SockAddr::from(address))
        .map_err(call("bind UDP"))?;
    let socket = socket.into();
    prepare(&socket)?;
    Ok(socket)
}

/// Makes a socket that was bound elsewhere what [`bind`] gives: non-blocking, with room for bursts, and telling which
/// address was asked where that is not known from its own.
///
/// # Errors
/// With the name of the call that failed.
pub fn prepare(socket: &UdpSocket) -> io::Result<()> {
    let address = socket.local_addr()?;
    socket.set_nonblocking(true)?;
    let socket = socket2::SockRef::from(socket);
    let transparent = match address {
        SocketAddr::V4(_) => socket.ip_transparent_v4(),
        SocketAddr::V6(_) => socket.ip_transparent_v6(),
    };
    if address.ip().is_unspecified() || transparent.unwrap_or(false) {
        batch::ask_for_local(&socket, address.is_ipv6())
            .map_err(|e| io::Error::new(e.kind(), format!("IP_PKTINFO for {address}: {e}")))?;
    }
    // A smaller buffer only means more loss in a burst.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(())
}

/// A socket that exchanges datagrams with `server` alone. ICMP's "port unreachable" shows as `ConnectionRefused`.
///
/// # Errors
/// Out of descriptors, ports or memory; no route.
pub fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.cloexec().nonblocking();
    let socket = Socket::new(Domain::for_address(server), kind, Some(Protocol::UDP))?;
    socket.connect(&SockAddr::from(server))?;
    Ok(socket.into())
}

impl Local {
    /// Of an address alone.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        Self { ip, interface: 0 }
    }
}
