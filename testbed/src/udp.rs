//! UDP peers.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::wait::DEADLINE;

/// A UDP server that answers each datagram by a script.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    received: AtomicUsize,
}

impl Peer {
    /// Answers each datagram with the datagrams that `script(datagram, its sender)` gives.
    #[must_use]
    pub fn script(script: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        Self::script_at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// The same, on that address.
    ///
    /// # Panics
    /// If it cannot be bound.
    #[must_use]
    pub fn script_at(
        address: SocketAddr,
        script: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).unwrap_or_else(|e| panic!("bind {address}: {e}"));
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut buffer = vec![0; 65_536];
                while !shared.stopping.load(Ordering::SeqCst) {
                    // An error is an ICMP answer to something sent earlier.
                    let Ok((n, from)) = socket.recv_from(&mut buffer) else {
                        continue;
                    };
                    if shared.stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    shared.received.fetch_add(1, Ordering::SeqCst);
                    for answer in script(&buffer[..n], from) {
                        let _ = socket.send_to(&answer, from);
                    }
                }
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Sends back what it gets.
    #[must_use]
    pub fn echo() -> Self {
        Self::script(|datagram, _| vec![datagram.to_vec()])
    }

    /// Answers with `name`, to tell servers apart.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let name = name.as_bytes().to_vec();
        Self::script(move |_, _| vec![name.clone()])
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams have come.
    #[must_use]
    pub fn received(&self) -> usize {
        self.shared.received.load(Ordering::SeqCst)
    }

    /// Dies: its port answers with ICMP from now on.
    pub fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        let any = if self.address.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        };
        let waker = UdpSocket::bind(any).unwrap();
        // A datagram may be dropped; a thread that waits for one may not stay.
        while !thread.is_finished() {
            let _ = waker.send_to(&[], self.address);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client socket connected to `to`, whose reads end at the deadline.
///
/// # Panics
/// If there is no socket to be had.
#[must_use]
pub fn client(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_dies() {
        let peer = Peer::named("a");
        let client = client(peer.address());
        client.send(b"?").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!((buffer[0], peer.received()), (b'a', 1));
        peer.kill();
        client.send(b"?").unwrap();
        let error = client.recv(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
