//! A server: the size of the body stands in the path, and nothing is computed per request.
//!
//! `GET /N` answers 200 with N bytes, `GET /cN` the same and closes. `GET /echo` and `GET /flood` with `Upgrade:
//! websocket` switch protocols: then bytes come back as they are, or 64 MiB come for each message.

use std::collections::HashMap;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{Next, Shared};

/// What one message asks for after an upgrade to `/flood`.
pub(crate) const FLOOD: u64 = 64 << 20;

/// The longest response kept in one piece; longer ones repeat this many bytes.
const BLOCK: usize = 1 << 20;

/// Responses by path, made once.
#[derive(Default)]
pub(super) struct Responses {
    by_path: HashMap<Vec<u8>, Response>,
    block: Option<Arc<[u8]>>,
}

#[derive(Clone)]
struct Response {
    /// Head, and the body as far as it fits.
    first: Arc<[u8]>,
    /// Body bytes after it.
    rest: u64,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Serve,
    Close,
    Echo,
    Flood,
}

impl Responses {
    fn block(&mut self) -> Arc<[u8]> {
        Arc::clone(self.block.get_or_insert_with(|| vec![b'x'; BLOCK].into()))
    }

    fn find(&mut self, path: &[u8]) -> Response {
        if let Some(found) = self.by_path.get(path) {
            return found.clone();
        }
        let made = Response::make(path);
        self.by_path.insert(path.to_vec(), made.clone());
        made
    }
}

impl Response {
    fn make(path: &[u8]) -> Self {
        let text = String::from_utf8_lossy(path.strip_prefix(b"/").unwrap_or(path)).into_owned();
        let upgraded = match text.as_str() {
            "echo" => Some(Then::Echo),
            "flood" => Some(Then::Flood),
            _ => None,
        };
        if let Some(then) = upgraded {
            // The key is always the same one (the example of RFC 6455 §1.3), so its answer is too.
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            return Self {
                first: head.as_bytes().into(),
                rest: 0,
                then,
            };
        }
        let (digits, then) = match text.strip_prefix('c') {
            Some(digits) => (digits, Then::Close),
            None => (text.as_str(), Then::Serve),
        };
        // Whatever stands after the digits tells routes apart, not sizes.
        let digits = digits
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        let size: u64 = digits.parse().unwrap_or(0);
        let close = if then == Then::Close {
            "Connection: close\r\n"
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n{close}\r\n"
        );
        let together = if size <= 64 * 1024 { size } else { 0 };
        let mut first = head.into_bytes();
        first.resize(first.len() + together as usize, b'x');
        Self {
            first: first.into(),
            rest: size - together,
            then,
        }
    }
}

/// One connection from the balancer.
pub(super) struct Origin {
    stream: TcpStream,
    head: Vec<u8>,
    mode: Then,
    /// What is being sent: a piece, how far it is, and how many block bytes follow.
    sending: Option<(Arc<[u8]>, usize, u64)>,
    echo: Vec<u8>,
    waits_for_room: bool,
}

impl Origin {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            head: Vec::new(),
            mode: Then::Serve,
            sending: None,
            echo: Vec::new(),
            waits_for_room: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn event(&mut self, flags: EventFlags, shared: &mut Shared) -> Next {
        if flags.contains(EventFlags::OUT) {
            return self.pump(shared);
        }
        match recv(&self.stream, &mut shared.buffer[..], RecvFlags::empty()) {
            Ok((_, 0)) => Next::Close,
            Ok((_, n)) => self.received(n, shared),
            Err(Errno::AGAIN | Errno::INTR) => Next::Keep,
            Err(_) => Next::Close,
        }
    }

    fn received(&mut self, n: usize, shared: &mut Shared) -> Next {
        let response = match self.mode {
            Then::Echo => {
                self.echo.extend_from_slice(&shared.buffer[..n]);
                return self.pump(shared);
            }
            Then::Flood => {
                let (first, left) = (shared.responses.block(), FLOOD - BLOCK as u64);
                self.sending = Some((first, 0, left));
                return self.pump(shared);
            }
            Then::Serve | Then::Close => {
                let bytes = &shared.buffer[..n];
                let whole = if self.head.is_empty() {
                    bytes
                } else {
                    self.head.extend_from_slice(bytes);
                    &self.head
                };
                if !whole.ends_with(b"\r\n\r\n") {
                    if self.head.is_empty() {
                        self.head.extend_from_slice(bytes);
                    }
                    return Next::Keep;
                }
                let path = whole.split(|b| *b == b' ').nth(1).unwrap_or_default();
                let response = shared.responses.find(path);
                self.head.clear();
                response
            }
        };
        self.mode = response.then;
        if response.rest == 0 {
            // The usual case: it goes out whole.
            let sent = send(&self.stream, &response.first, SendFlags::NOSIGNAL).unwrap_or(0);
            if sent == response.first.len() {
                return if self.mode == Then::Close {
                    Next::Close
                } else {
                    Next::Keep
                };
            }
            self.sending = Some((response.first, sent, 0));
        } else {
            self.sending = Some((response.first, 0, response.rest));
        }
        self.pump(shared)
    }

    /// Sends what is to be sent, as far as there is room.
    fn pump(&mut self, shared: &mut Shared) -> Next {
        while !self.echo.is_empty() {
            match send(&self.stream, &self.echo, SendFlags::NOSIGNAL) {
                Ok(n) => drop(self.echo.drain(..n)),
                Err(Errno::AGAIN) => return self.wait_for_room(true),
                Err(_) => return Next::Close,
            }
        }
        while let Some((piece, at, left)) = &mut self.sending {
            match send(&self.stream, &piece[*at..], SendFlags::NOSIGNAL) {
                Ok(n) => {
                    *at += n;
                    if *at == piece.len() {
                        if *left == 0 {
                            self.sending = None;
                            if self.mode == Then::Close {
                                return Next::Close;
                            }
                        } else {
                            let block = shared.responses.block();
                            let take = (*left).min(BLOCK as u64) as usize;
                            *left -= take as u64;
                            // A shorter last piece begins further in.
                            *at = BLOCK - take;
                            *piece = block;
                        }
                    }
                }
                Err(Errno::AGAIN) => return self.wait_for_room(true),
                Err(_) => return Next::Close,
            }
        }
        self.wait_for_room(false)
    }

    fn wait_for_room(&mut self, wait: bool) -> Next {
        if self.waits_for_room == wait {
            return Next::Keep;
        }
        self.waits_for_room = wait;
        // While it waits for room it does not read: that, too, is backpressure.
        Next::Interest(if wait {
            EventFlags::OUT
        } else {
            EventFlags::IN
        })
    }
}
