//! The few system calls both drivers make themselves, with the flags they need.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

pub(crate) fn recv(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::net::recv(fd, &mut *into, RecvFlags::DONTWAIT) {
            Ok((n, _)) => return Ok(n),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether the connection broke, without taking data or the error itself: data that came before
/// the reset may still be read, and the read after it reports the error.
pub(crate) fn is_broken(fd: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_err() || fds[0].revents().contains(PollFlags::ERR)
}

/// Whether a read or an accept would give something at once.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

pub(crate) fn send(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::net::send(fd, data, SEND) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

pub(crate) fn send_vectored(fd: BorrowedFd<'_>, data: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match rustix::net::sendmsg(fd, data, &mut SendAncillaryBuffer::default(), SEND) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Sends FIN. The peer may be gone already, which is no news here.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) {
    let _ = rustix::net::shutdown(fd, Shutdown::Write);
}

/// Makes the coming close send RST and throw away what is unsent.
pub(crate) fn abort_on_close(fd: BorrowedFd<'_>) {
    let _ = rustix::net::sockopt::set_socket_linger(fd, Some(Duration::ZERO));
}

/// The pending error of a socket, taken.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::net::sockopt::socket_error(fd)? {
        Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

pub(crate) fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// `accept4`, with what the driver wants of the new descriptor.
pub(crate) fn accept(
    fd: BorrowedFd<'_>,
    nonblocking: bool,
) -> io::Result<(OwnedFd, std::net::SocketAddr)> {
    use rustix::net::SocketFlags;
    let mut flags = SocketFlags::CLOEXEC;
    if nonblocking {
        flags |= SocketFlags::NONBLOCK;
    }
    let (fd, peer) = rustix::net::acceptfrom_with(fd.as_fd(), flags)?;
    let peer = peer.and_then(|p| p.try_into().ok()).unwrap_or(UNSPECIFIED);
    Ok((fd, peer))
}

/// The address of things that have none, such as unix sockets.
pub(crate) const UNSPECIFIED: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

pub(crate) fn local_addr(fd: BorrowedFd<'_>) -> std::net::SocketAddr {
    rustix::net::getsockname(fd)
        .ok()
        .and_then(|a| a.try_into().ok())
        .unwrap_or(UNSPECIFIED)
}

pub(crate) fn peer_addr(fd: BorrowedFd<'_>) -> std::net::SocketAddr {
    rustix::net::getpeername(fd)
        .ok()
        .flatten()
        .and_then(|a| a.try_into().ok())
        .unwrap_or(UNSPECIFIED)
}

/// An option whose value is one int.
fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length are those of `value`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `IP_BIND_ADDRESS_NO_PORT`: leave the choice of the port to connect. Also holds for IPv6 sockets.
pub(crate) fn set_bind_address_no_port(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}
