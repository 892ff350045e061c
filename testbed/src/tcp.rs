//! TCP peers: echo, sink, source, RST, or whatever a script does.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::wait::DEADLINE;

/// A TCP server whose connections are each served by a script on a thread of its own.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
    received: AtomicU64,
    connections: Mutex<Vec<TcpStream>>,
}

impl Peer {
    /// Serves each connection by `script(connection, how many came before it)`, on a port of the kernel's choice.
    #[must_use]
    pub fn script(script: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        Self::script_at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// The same, on that address.
    ///
    /// # Panics
    /// If it cannot be bound.
    #[must_use]
    pub fn script_at(
        address: SocketAddr,
        script: impl Fn(TcpStream, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("bind {address}: {e}"));
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener, &Arc::new(script))
        });
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Sends back what it gets, half-close included.
    #[must_use]
    pub fn echo() -> Self {
        Self::counting(|mut stream, received| {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                received.fetch_add(n as u64, Ordering::Relaxed);
                if stream.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
        })
    }

    /// Reads to the end and answers nothing; see [`Peer::received`].
    #[must_use]
    pub fn sink() -> Self {
        Self::counting(|mut stream, received| {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                received.fetch_add(n as u64, Ordering::Relaxed);
            }
        })
    }

    /// Sends `bytes` and closes.
    #[must_use]
    pub fn source(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::script(move |mut stream, _| {
            let _ = stream.write_all(&bytes);
        })
    }

    /// Resets each connection at once.
    #[must_use]
    pub fn resetting() -> Self {
        Self::script(|stream, _| reset(stream))
    }

    fn counting(script: impl Fn(TcpStream, &AtomicU64) + Send + Sync + 'static) -> Self {
        // The script wants the counter, which exists only once the peer does.
        let cell: Arc<std::sync::OnceLock<Arc<Shared>>> = Arc::default();
        let peer = Self::script({
            let cell = Arc::clone(&cell);
            move |stream, _| script(stream, &cell.wait().received)
        });
        let _ = cell.set(Arc::clone(&peer.shared));
        peer
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections its script is still serving.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many bytes [`Peer::echo`] or [`Peer::sink`] has read.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::SeqCst)
    }

    /// Dies like a killed process: its port refuses and its connections end. The port may be bound again.
    pub fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes it out of accept.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(5));
        let _ = acceptor.join();
        for connection in self.shared.lock().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn accept<F>(self: &Arc<Self>, listener: &TcpListener, script: &Arc<F>)
    where
        F: Fn(TcpStream, usize) + Send + Sync + 'static,
    {
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let _ = stream.set_read_timeout(Some(DEADLINE));
            let _ = stream.set_nodelay(true);
            let id = self.accepted.fetch_add(1, Ordering::SeqCst);
            self.open.fetch_add(1, Ordering::SeqCst);
            if let Ok(clone) = stream.try_clone() {
                self.lock().push(clone);
            }
            let (script, shared) = (Arc::clone(script), Arc::clone(self));
            std::thread::spawn(move || {
                let guard = stream.try_clone();
                script(stream, id);
                // The clone kept for `kill` would hold the connection open.
                if let Ok(guard) = guard {
                    let _ = guard.shutdown(Shutdown::Both);
                    let peer = guard.peer_addr().ok();
                    shared
                        .lock()
                        .retain(|c| c.peer_addr().ok().is_some_and(|p| Some(p) != peer));
                }
                shared.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

/// Closes with RST, now, whoever else holds the socket.
pub fn reset(stream: TcpStream) {
    // Closing would send it only with the last descriptor; connecting to "no address" ends the connection at once.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    let _ = rustix::net::connect_unspec(&stream);
}

/// An address that refuses connections for as long as this lives: bound, but nobody listens.
#[derive(Debug)]
pub struct Refusing {
    socket: socket2::Socket,
}

impl Refusing {
    /// On a loopback port of the kernel's choice.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        Self { socket }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }
}

impl Default for Refusing {
    fn default() -> Self {
        Self::new()
    }
}

/// An address that never answers: it listens with a full backlog, so that further connects hang.
#[derive(Debug)]
pub struct Hanging {
    socket: socket2::Socket,
    _full: Vec<socket2::Socket>,
}

impl Hanging {
    /// On a loopback port of the kernel's choice.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn new() -> Self {
        let new =
            || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let socket = new();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap();
        let full = (0..4)
            .map(|_| {
                let client = new();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&address);
                client
            })
            .collect();
        Self {
            socket,
            _full: full,
        }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }
}

impl Default for Hanging {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends `bytes`, closes the sending side, and reads to the end.
///
/// # Errors
/// What the socket said.
pub fn exchange(to: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    // Both ways at once, or two full buffers would wait for each other.
    let mut sender = stream.try_clone()?;
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || {
            sender.write_all(bytes)?;
            sender.shutdown(Shutdown::Write)
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        sent.join()
            .map_err(|_| io::Error::other("the sender panicked"))??;
        Ok(answer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoes_and_counts() {
        let peer = Peer::echo();
        let text = vec![7; 1 << 20];
        assert_eq!(exchange(peer.address(), &text).unwrap(), text);
        assert_eq!((peer.accepted(), peer.received()), (1, 1 << 20));
        crate::wait::until("the connection to end", || peer.open() == 0);
    }

    #[test]
    fn resets_and_refuses() {
        let peer = Peer::resetting();
        let mut stream = TcpStream::connect(peer.address()).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let nobody = Refusing::new();
        let error = TcpStream::connect(nobody.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn dies_whole() {
        let peer = Peer::echo();
        let address = peer.address();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        peer.kill();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        assert!(TcpStream::connect(address).is_err());
    }
}
