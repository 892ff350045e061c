//! The floor: a raw epoll loop that does what a reverse proxy cannot do without, and nothing else.
//!
//! It parses the head, drops `Connection`, adds `X-Forwarded-For`, rotates over servers with kept connections and
//! passes bodies on. No timeouts, no limits, no errors but closing: not a proxy to use, but what one costs at least.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Serves at `listen` over `servers` until killed.
pub(crate) fn run(listen: SocketAddr, servers: &[SocketAddr]) -> io::Result<()> {
    let mut raw = Raw {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        slots: Vec::new(),
        free: Vec::new(),
        servers: servers
            .iter()
            .map(|address| Server {
                address: *address,
                kept: Vec::new(),
            })
            .collect(),
        next: 0,
        buffer: vec![0; 64 * 1024],
        head: Vec::new(),
    };
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    raw.insert(Slot::Listener(listener), EventFlags::IN)?;
    loop {
        raw.turn()?;
    }
}

struct Raw {
    epoll: OwnedFd,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    servers: Vec<Server>,
    next: usize,
    buffer: Vec<u8>,
    head: Vec<u8>,
}

struct Server {
    address: SocketAddr,
    /// Connections that wait for a request.
    kept: Vec<usize>,
}

enum Slot {
    Listener(TcpListener),
    Client(Side),
    Server(Side),
}

struct Side {
    stream: TcpStream,
    /// The slot of the other side while a request is under way.
    other: Option<usize>,
    /// A head that has come in part.
    partial: Vec<u8>,
    /// What the far side has had no room for yet.
    unsent: Vec<u8>,
    /// Server: body bytes to come. Client: unused.
    left: u64,
    /// Client: close after this response. Server: unused.
    last: bool,
    /// Server: whose.
    server: usize,
    peer: String,
}

impl Side {
    fn new(stream: TcpStream, server: usize, peer: String) -> Self {
        Self {
            stream,
            other: None,
            partial: Vec::new(),
            unsent: Vec::new(),
            left: 0,
            last: false,
            server,
            peer,
        }
    }
}

impl Raw {
    fn turn(&mut self) -> io::Result<()> {
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; 256];
        let count = match epoll::wait(&self.epoll, &mut events[..], None) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(e) => return Err(e.into()),
        };
        for event in &events[..count] {
            let index = event.data.u64() as usize;
            let flags = event.flags;
            match &self.slots[index] {
                None => {}
                Some(Slot::Listener(listener)) => {
                    if let Ok((stream, peer)) = listener.accept() {
                        stream.set_nonblocking(true)?;
                        stream.set_nodelay(true)?;
                        let side = Side::new(stream, 0, peer.ip().to_string());
                        self.insert(Slot::Client(side), EventFlags::IN)?;
                    }
                }
                Some(Slot::Client(_) | Slot::Server(_)) if flags.contains(EventFlags::OUT) => {
                    self.drain(index)
                }
                Some(Slot::Client(_)) => self.request(index),
                Some(Slot::Server(_)) => self.response(index),
            }
        }
        Ok(())
    }

    fn side(&mut self, index: usize) -> Option<&mut Side> {
        match self.slots.get_mut(index)? {
            Some(Slot::Client(side) | Slot::Server(side)) => Some(side),
            _ => None,
        }
    }

    /// Reads from a side into the buffer; `None` if nothing came (and the side is gone if it has ended).
    fn read(&mut self, index: usize) -> Option<usize> {
        let Some(Slot::Client(side) | Slot::Server(side)) = &self.slots[index] else {
            return None;
        };
        match recv(&side.stream, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((_, n @ 1..)) => Some(n),
            Err(Errno::AGAIN | Errno::INTR) => None,
            _ => {
                self.close(index);
                None
            }
        }
    }

    fn request(&mut self, index: usize) {
        let Some(n) = self.read(index) else { return };
        let Some(Some(Slot::Client(client))) = self.slots.get_mut(index) else {
            return;
        };
        let whole = if client.partial.is_empty() {
            &self.buffer[..n]
        } else {
            client.partial.extend_from_slice(&self.buffer[..n]);
            &client.partial[..]
        };
        if !whole.ends_with(b"\r\n\r\n") {
            if client.partial.is_empty() {
                client.partial.extend_from_slice(&self.buffer[..n]);
            }
            return;
        }
        self.head.clear();
        client.last = edit(whole, &client.peer, &mut self.head);
        client.partial.clear();
        let Ok(server) = self.server_for(index) else {
            return self.close(index);
        };
        if let Some(client) = self.side(index) {
            client.other = Some(server);
        }
        let head = std::mem::take(&mut self.head);
        self.send(server, &head);
        self.head = head;
    }

    /// A kept connection to the next server, or a new one.
    fn server_for(&mut self, client: usize) -> io::Result<usize> {
        self.next = (self.next + 1) % self.servers.len();
        if let Some(index) = self.servers[self.next].kept.pop() {
            if let Some(side) = self.side(index) {
                side.other = Some(client);
            }
            return Ok(index);
        }
        let stream = TcpStream::connect(self.servers[self.next].address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut side = Side::new(stream, self.next, String::new());
        side.other = Some(client);
        self.insert(Slot::Server(side), EventFlags::IN)
    }

    fn response(&mut self, index: usize) {
        let Some(n) = self.read(index) else { return };
        let Some(Some(Slot::Server(server))) = self.slots.get_mut(index) else {
            return;
        };
        let Some(client) = server.other else {
            return self.close(index);
        };
        if server.left > 0 {
            server.left = server.left.saturating_sub(n as u64);
        } else {
            server.partial.extend_from_slice(&self.buffer[..n]);
            let Some(end) = memchr::memmem::find(&server.partial, b"\r\n\r\n") else {
                return;
            };
            let have = server.partial.len() - end - 4;
            server.left = content_length(&server.partial[..end]).saturating_sub(have as u64);
            let bytes = std::mem::take(&mut server.partial);
            let done = server.left == 0;
            self.send(client, &bytes);
            if let Some(server) = self.side(index) {
                // Its room is used again.
                server.partial = bytes;
                server.partial.clear();
            }
            if done {
                self.finish(index, client);
            }
            return;
        }
        let done = server.left == 0;
        let buffer = std::mem::take(&mut self.buffer);
        self.send(client, &buffer[..n]);
        self.buffer = buffer;
        if done {
            self.finish(index, client);
        }
    }

    /// A response has been passed on: the server's connection is kept.
    fn finish(&mut self, server: usize, client: usize) {
        if let Some(side) = self.side(server) {
            side.other = None;
            let whose = side.server;
            self.servers[whose].kept.push(server);
        }
        let Some(side) = self.side(client) else {
            return;
        };
        side.other = None;
        if side.last && side.unsent.is_empty() {
            self.close(client);
        }
    }

    fn send(&mut self, index: usize, bytes: &[u8]) {
        let Some(side) = self.side(index) else { return };
        let sent = if side.unsent.is_empty() {
            match send(&side.stream, bytes, SendFlags::NOSIGNAL) {
                Ok(n) => n,
                Err(Errno::AGAIN) => 0,
                Err(_) => return self.close(index),
            }
        } else {
            0
        };
        if sent < bytes.len() {
            side.unsent.extend_from_slice(&bytes[sent..]);
            let other = side.other;
            // Backpressure: who sends is not read from while there is no room.
            self.interest(index, EventFlags::OUT);
            if let Some(other) = other {
                self.interest(other, EventFlags::empty());
            }
        }
    }

    fn drain(&mut self, index: usize) {
        let Some(side) = self.side(index) else { return };
        match send(&side.stream, &side.unsent, SendFlags::NOSIGNAL) {
            Ok(n) => {
                side.unsent.drain(..n);
            }
            Err(Errno::AGAIN) => return,
            Err(_) => return self.close(index),
        }
        if !side.unsent.is_empty() {
            return;
        }
        let (other, last) = (side.other, side.last);
        self.interest(index, EventFlags::IN);
        match other {
            Some(other) => self.interest(other, EventFlags::IN),
            None if last => self.close(index),
            None => {
                // A response that was finished while its end still waited here: nobody is left out, for a kept
                // server's connection is read from again as soon as it carries a request.
            }
        }
    }

    fn interest(&self, index: usize, flags: EventFlags) {
        if let Some(Some(Slot::Client(side) | Slot::Server(side))) = self.slots.get(index) {
            let _ = epoll::modify(
                &self.epoll,
                &side.stream,
                EventData::new_u64(index as u64),
                flags,
            );
        }
    }

    fn insert(&mut self, slot: Slot, flags: EventFlags) -> io::Result<usize> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let fd = match &slot {
            Slot::Listener(listener) => listener.as_fd(),
            Slot::Client(side) | Slot::Server(side) => side.stream.as_fd(),
        };
        epoll::add(&self.epoll, fd, EventData::new_u64(index as u64), flags)?;
        self.slots[index] = Some(slot);
        Ok(index)
    }

    /// Closes a side, and the other one if a request was under way.
    fn close(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.free.push(index);
        if let Slot::Client(side) | Slot::Server(side) = slot {
            for server in &mut self.servers {
                server.kept.retain(|kept| *kept != index);
            }
            if let Some(other) = side.other {
                self.close(other);
            }
        }
    }
}

/// Copies a request's head, edited; says whether the client wants the connection closed.
fn edit(head: &[u8], peer: &str, into: &mut Vec<u8>) -> bool {
    let mut last = false;
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        let line = &head[begin..=end];
        begin = end + 1;
        if line == b"\r\n" {
            break;
        }
        match memchr::memchr(b':', line) {
            Some(10) if line[..10].eq_ignore_ascii_case(b"connection") => {
                last |= memchr::memmem::find(line, b"close").is_some();
            }
            _ => into.extend_from_slice(line),
        }
    }
    into.extend_from_slice(b"X-Forwarded-For: ");
    into.extend_from_slice(peer.as_bytes());
    into.extend_from_slice(b"\r\n\r\n");
    last
}

fn content_length(head: &[u8]) -> u64 {
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\n', head).chain([head.len()]) {
        let line = &head[begin.min(end)..end];
        begin = end + 1;
        if let Some((name, value)) = line.split_at_checked(15)
            && name.eq_ignore_ascii_case(b"content-length:")
        {
            return std::str::from_utf8(value)
                .ok()
                .and_then(|v| v.trim().parse().ok())
                .unwrap_or(0);
        }
    }
    0
}
