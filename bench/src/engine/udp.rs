//! Datagrams: an echoing server and clients that wait for their echo.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::{Next, Shared};

const SIZE: usize = 128;

/// The server: sends back what comes.
pub(super) struct UdpOrigin {
    socket: UdpSocket,
}

impl UdpOrigin {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self { socket }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn event(&mut self, shared: &mut Shared) -> Next {
        while let Ok((n, from)) = self.socket.recv_from(&mut shared.buffer) {
            let _ = self.socket.send_to(&shared.buffer[..n], from);
        }
        Next::Keep
    }
}

/// A client: one datagram outstanding.
pub(super) struct UdpClient {
    socket: UdpSocket,
    sent_at: Instant,
}

impl UdpClient {
    pub(super) fn connect(to: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        Ok(Self {
            socket,
            sent_at: Instant::now(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn start(&mut self, shared: &mut Shared) -> Next {
        self.sent_at = Instant::now();
        if self.socket.send(&[b'u'; SIZE]).is_err() {
            shared.done.failed += 1;
        }
        Next::Keep
    }

    pub(super) fn event(&mut self, shared: &mut Shared) -> Next {
        match self.socket.recv(&mut shared.buffer) {
            Ok(_) => {
                let took = self.sent_at.elapsed();
                let _ = shared.done.latency.record(took.as_nanos() as u64);
                shared.done.count += 1;
                Next::Ready
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Next::Keep,
            Err(_) => {
                shared.done.failed += 1;
                Next::Ready
            }
        }
    }
}
