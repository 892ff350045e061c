//! A client: one connection (after another), one request at a time.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::tls::{Offer, Session};
use super::{Next, Shared};

/// What a client says and how.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    /// Sent first, once per connection, if given; answered by a head without a body (an upgrade).
    pub(crate) opening: Option<Vec<u8>>,
    /// Sent for each request.
    pub(crate) request: Vec<u8>,
    /// What comes back.
    pub(crate) answer: Answer,
    /// Whether each request has a connection of its own.
    pub(crate) reconnects: bool,
    /// Over TLS, offering this.
    pub(crate) tls: Option<Offer>,
}

/// What comes back for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An HTTP/1 response with a length.
    Http,
    /// So many bytes.
    Bytes(u64),
}

impl Talk {
    /// `GET path` over and over.
    pub(crate) fn get(path: &str) -> Self {
        Self {
            opening: None,
            request: request(path, ""),
            answer: Answer::Http,
            reconnects: false,
            tls: None,
        }
    }

    /// `GET path` on a new connection each time, which the server is asked to close.
    pub(crate) fn get_and_close(path: &str) -> Self {
        Self {
            request: request(path, "Connection: close\r\n"),
            reconnects: true,
            ..Self::get(path)
        }
    }

    /// An upgrade to WebSocket at `path`, then messages of `size` bytes answered by `answer` bytes.
    pub(crate) fn upgraded(path: &str, size: usize, answer: u64) -> Self {
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        Self {
            opening: Some(request(path, upgrade)),
            request: vec![b'm'; size],
            answer: Answer::Bytes(answer),
            reconnects: false,
            tls: None,
        }
    }
}

fn request(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n{headers}\r\n")
        .into_bytes()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connected (or about to be); nothing is outstanding.
    Idle,
    /// The request could not be sent yet.
    Sending,
    /// Within a head.
    Head,
    /// So many bytes to come.
    Body(u64),
}

/// One client.
pub(super) struct Client {
    to: SocketAddr,
    talk: Talk,
    stream: TcpStream,
    session: Option<Session>,
    state: State,
    opened: bool,
    head: Vec<u8>,
    /// The length of the whole response last time: most are the same again.
    usual: usize,
    sent_at: Instant,
    interest_out: bool,
}

impl Client {
    pub(super) fn connect(to: SocketAddr, talk: &Talk) -> io::Result<Self> {
        Ok(Self {
            to,
            stream: connect(to)?,
            session: talk.tls.map(Session::new).transpose()?,
            state: State::Idle,
            opened: talk.opening.is_none(),
            talk: talk.clone(),
            head: Vec::new(),
            usual: 0,
            sent_at: Instant::now(),
            interest_out: true,
        })
    }

    pub(super) fn reconnect(&mut self) -> io::Result<()> {
        self.stream = connect(self.to)?;
        if let Some(session) = &mut self.session {
            session.renew()?;
        }
        self.state = State::Idle;
        self.opened = self.talk.opening.is_none();
        self.head.clear();
        self.interest_out = true;
        Ok(())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Sends the next request. A connection's own time counts, so the clock starts here.
    pub(super) fn start(&mut self, shared: &mut Shared) -> Next {
        if matches!(self.state, State::Idle) {
            self.sent_at = shared.precise();
            return self.send(shared);
        }
        Next::Keep
    }

    fn send(&mut self, shared: &mut Shared) -> Next {
        let bytes = match &self.talk.opening {
            Some(opening) if !self.opened => opening,
            _ => &self.talk.request,
        };
        let sent = match &mut self.session {
            Some(session) => session.send(&self.stream, bytes),
            None => send(&self.stream, bytes, SendFlags::NOSIGNAL),
        };
        match sent {
            Ok(n) if n == bytes.len() => {
                self.state = match self.talk.answer {
                    Answer::Bytes(count) if self.opened => State::Body(count),
                    _ => State::Head,
                };
                self.wait_for_room(false)
            }
            // Not connected yet. (A request is far smaller than a socket's buffer: never sent in part.)
            Err(Errno::AGAIN | Errno::NOTCONN) => {
                self.state = State::Sending;
                self.wait_for_room(true)
            }
            _ => self.broken(shared),
        }
    }

    fn wait_for_room(&mut self, wait: bool) -> Next {
        if self.interest_out == wait {
            return Next::Keep;
        }
        self.interest_out = wait;
        Next::Interest(if wait {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        })
    }

    pub(super) fn event(&mut self, flags: EventFlags, shared: &mut Shared) -> Next {
        match self.state {
            State::Sending if flags.contains(EventFlags::OUT) => return self.send(shared),
            State::Idle if flags == EventFlags::OUT => return self.wait_for_room(false),
            _ => {}
        }
        // A body is discarded in the kernel: the load's core has better things to do than to copy.
        let (most, how) = match (self.state, &self.session) {
            (State::Body(left), None) => {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                (left.min(shared.buffer.len()), RecvFlags::TRUNC)
            }
            (_, None) => (16 * 1024, RecvFlags::empty()),
            (_, Some(_)) => (shared.buffer.len(), RecvFlags::empty()),
        };
        let n = match recv(&self.stream, &mut shared.buffer[..most], how) {
            Ok((_, n @ 1..)) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Next::Keep,
            _ => return self.broken(shared),
        };
        let n = match &mut self.session {
            None => n,
            Some(session) => match session.received(&self.stream, &mut shared.buffer, n) {
                Ok(0) => return Next::Keep,
                Ok(n) => n,
                Err(_) => return self.broken(shared),
            },
        };
        match self.state {
            State::Body(left) => self.body(left, n as u64, shared),
            _ => self.head(n, shared),
        }
    }

    fn head(&mut self, n: usize, shared: &mut Shared) -> Next {
        let bytes = &shared.buffer[..n];
        if n == self.usual && self.head.is_empty() && bytes.starts_with(b"HTTP/1.1 200") {
            return self.complete(shared);
        }
        let fresh = self.head.is_empty();
        self.head.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n").map(|at| at + 4) else {
            return Next::Keep;
        };
        let fine = self.head.starts_with(if self.opened {
            b"HTTP/1.1 200"
        } else {
            b"HTTP/1.1 101"
        });
        if !fine {
            return self.broken(shared);
        }
        if !self.opened {
            self.opened = true;
            self.head.clear();
            return self.send(shared);
        }
        let length = content_length(&self.head[..end]).unwrap_or(0);
        let have = (self.head.len() - end) as u64;
        if fresh && have == length {
            self.usual = n;
        }
        self.head.clear();
        self.body(length, have, shared)
    }

    fn body(&mut self, left: u64, got: u64, shared: &mut Shared) -> Next {
        shared.done.bytes += got;
        if got < left {
            self.state = State::Body(left - got);
            return Next::Keep;
        }
        self.complete(shared)
    }

    fn complete(&mut self, shared: &mut Shared) -> Next {
        let took = shared.precise().duration_since(self.sent_at);
        let _ = shared.done.latency.record(took.as_nanos() as u64);
        shared.done.count += 1;
        if self.session.as_ref().is_some_and(Session::is_resumed) {
            shared.done.resumed += 1;
        }
        self.state = State::Idle;
        if self.talk.reconnects {
            Next::Reconnect
        } else {
            Next::Ready
        }
    }

    /// The connection ended where it should not have.
    fn broken(&mut self, shared: &mut Shared) -> Next {
        shared.done.failed += 1;
        Next::Reconnect
    }
}

fn content_length(head: &[u8]) -> Option<u64> {
    head.split(|b| *b == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        if !name.eq_ignore_ascii_case(b"content-length:") {
            return None;
        }
        std::str::from_utf8(value).ok()?.trim().parse().ok()
    })
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(to),
        socket2::Type::STREAM,
        None,
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) => return Err(e),
    }
    Ok(socket.into())
}

impl Shared {
    /// The time now. (The loop's own is that of the last wake-up.)
    fn precise(&self) -> Instant {
        Instant::now()
    }
}
