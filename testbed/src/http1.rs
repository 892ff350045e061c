//! An HTTP/1 server that does what a script says, and remembers what it saw.
//!
//! ```
//! use fathom_testbed::{client, http1::{Reply, Server}};
//! let server = Server::start(|seen| match seen.path.as_str() {
//!     "/sick" => Reply::status(500, "no"),
//!     "/rude" => Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").close(),
//!     _ => Reply::ok("yes"),
//! });
//! assert_eq!(client::get(server.address(), "/sick").status, 500);
//! assert_eq!(server.seen()[0].method, "GET");
//! ```

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::message::{self, Body, Head};
use crate::tcp::{self, Peer};
use crate::wait::Gate;

/// A request as the server saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Which connection it came on, from 0.
    pub connection: usize,
    /// Which request on that connection, from 0.
    pub nth: usize,
    /// Its method.
    pub method: String,
    /// Its target, as written.
    pub path: String,
    /// Request line and headers.
    pub head: Head,
    /// Its body (empty where the script asked to answer first).
    pub body: Body,
}

impl Seen {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }
}

/// What the server does about one request: steps in order. Without [`Reply::close`] or [`Reply::reset`] the
/// connection then serves the next request (unless this one said `Connection: close`).
#[derive(Clone, Debug, Default)]
pub struct Reply {
    steps: Vec<Step>,
    status: u16,
    headers: Vec<(String, String)>,
    content: Option<Content>,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Repeat(u8, u64),
    Wait(Gate),
    ReadBody,
    FinishSending,
    Close,
    Reset,
}

#[derive(Clone, Debug)]
enum Content {
    Whole(Vec<u8>),
    Sized(u64),
    Chunked(Vec<Vec<u8>>, Vec<(String, String)>),
}

impl Reply {
    /// Nothing yet: steps follow.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// 200 with that body.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200, body)
    }

    /// A status with that body.
    #[must_use]
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content: Some(Content::Whole(body.into())),
            ..Self::default()
        }
    }

    /// 200 with a body of so many `x`.
    #[must_use]
    pub fn sized(bytes: u64) -> Self {
        Self {
            status: 200,
            content: Some(Content::Sized(bytes)),
            ..Self::default()
        }
    }

    /// 200 with a chunked body and trailers.
    #[must_use]
    pub fn chunked(chunks: &[&str], trailers: &[(&str, &str)]) -> Self {
        let chunks = chunks.iter().map(|c| c.as_bytes().to_vec()).collect();
        let trailers = trailers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        Self {
            status: 200,
            content: Some(Content::Chunked(chunks, trailers)),
            ..Self::default()
        }
    }

    /// 200 whose body is the request's head and body, as they arrived.
    #[must_use]
    pub fn echo(seen: &Seen) -> Self {
        Self::ok([seen.head.raw.as_slice(), &seen.body.bytes].concat())
    }

    /// Adds a header line to the response made by the constructors above.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends these bytes as they are.
    #[must_use]
    pub fn send(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Send(bytes.into()))
    }

    /// Sends one byte so many times.
    #[must_use]
    pub fn repeat(self, byte: u8, count: u64) -> Self {
        self.step(Step::Repeat(byte, count))
    }

    /// Goes on once the gate is open.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Reads the request's body (only where [`Server::start_at_head`] has not).
    #[must_use]
    pub fn read_body(self) -> Self {
        self.step(Step::ReadBody)
    }

    /// Closes the sending side, then serves on.
    #[must_use]
    pub fn finish_sending(self) -> Self {
        self.step(Step::FinishSending)
    }

    /// Closes the connection.
    #[must_use]
    pub fn close(self) -> Self {
        self.step(Step::Close)
    }

    /// Resets the connection.
    #[must_use]
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// The response made by a constructor comes where the first later step was added: it is a step too.
    fn step(mut self, step: Step) -> Self {
        self.settle("GET");
        self.steps.push(step);
        self
    }

    fn settle(&mut self, method: &str) {
        let Some(content) = self.content.take() else {
            return;
        };
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in self.headers.drain(..) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let bodiless = method == "HEAD" || matches!(self.status, 204 | 304);
        match content {
            Content::Whole(body) => {
                if self.status != 204 {
                    head.push_str(&format!("Content-Length: {}\r\n", body.len()));
                }
                let body = if bodiless { Vec::new() } else { body };
                self.steps
                    .push(Step::Send([head.as_bytes(), b"\r\n", &body].concat()));
            }
            Content::Sized(length) => {
                self.steps.push(Step::Send(
                    format!("{head}Content-Length: {length}\r\n\r\n").into(),
                ));
                if !bodiless {
                    self.steps.push(Step::Repeat(b'x', length));
                }
            }
            Content::Chunked(chunks, trailers) => {
                self.steps.push(Step::Send(
                    format!("{head}Transfer-Encoding: chunked\r\n\r\n").into(),
                ));
                if !bodiless {
                    for chunk in chunks {
                        let line = format!("{:x}\r\n", chunk.len());
                        self.steps
                            .push(Step::Send([line.as_bytes(), &chunk, b"\r\n"].concat()));
                    }
                    let trailers: String = trailers
                        .iter()
                        .map(|(n, v)| format!("{n}: {v}\r\n"))
                        .collect();
                    self.steps
                        .push(Step::Send(format!("0\r\n{trailers}\r\n").into()));
                }
            }
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        404 => "Not Found",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Something",
    }
}

/// The server. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Server {
    peer: Peer,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers each request, once its body has been read, as `script` says.
    #[must_use]
    pub fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve((Ipv4Addr::LOCALHOST, 0).into(), true, script)
    }

    /// The same on that address: for a server that comes back.
    #[must_use]
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(address, true, script)
    }

    /// Asks `script` as soon as the head is there; the body is read only by [`Reply::read_body`].
    #[must_use]
    pub fn start_at_head(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve((Ipv4Addr::LOCALHOST, 0).into(), false, script)
    }

    /// Answers everything with 200 and `name`, to tell servers apart.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let name = name.as_bytes().to_vec();
        Self::start(move |_| Reply::ok(name.clone()))
    }

    /// Answers everything with 200 and the request as it came.
    #[must_use]
    pub fn echo() -> Self {
        Self::start(Reply::echo)
    }

    fn serve(
        address: SocketAddr,
        body_first: bool,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        let peer = Peer::script_at(address, move |stream, connection| {
            // Whatever ends the conversation early is the far side's doing; tests look at what was seen.
            let _ = converse(&stream, connection, body_first, &log, &script);
        });
        Self { peer, seen }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.peer.address()
    }

    /// Every request so far, in the order of their arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many requests have come.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// How many connections have been accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.peer.accepted()
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.peer.open()
    }

    /// Dies like a killed process: its port refuses and its connections end.
    pub fn kill(self) {
        self.peer.kill();
    }
}

/// Serves one connection.
fn converse(
    stream: &TcpStream,
    connection: usize,
    body_first: bool,
    log: &Mutex<Vec<Seen>>,
    script: &impl Fn(&Seen) -> Reply,
) -> std::io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    for nth in 0.. {
        let Some(head) = message::read_head(&mut input)? else {
            return Ok(());
        };
        let mut words = head.start.split(' ');
        let mut seen = Seen {
            connection,
            nth,
            method: words.next().unwrap_or_default().to_owned(),
            path: words.next().unwrap_or_default().to_owned(),
            ..Seen::default()
        };
        let framing = head.framing(false);
        let last = head.closes();
        seen.head = head;
        if body_first {
            if seen
                .header("expect")
                .is_some_and(|e| e.eq_ignore_ascii_case("100-continue"))
            {
                (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            seen.body = message::read_body(&mut input, framing)?;
        }
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seen.clone());
        let mut reply = script(&seen);
        reply.settle(&seen.method);
        for step in reply.steps {
            match step {
                Step::Send(bytes) => (&*stream).write_all(&bytes)?,
                Step::Repeat(byte, count) => repeat(stream, byte, count)?,
                Step::Wait(gate) => gate.wait(),
                Step::ReadBody => drop(message::read_body(&mut input, framing)?),
                Step::FinishSending => stream.shutdown(Shutdown::Write)?,
                Step::Close => return Ok(()),
                Step::Reset => {
                    tcp::reset(stream.try_clone()?);
                    return Ok(());
                }
            }
        }
        if last {
            return Ok(());
        }
    }
    Ok(())
}

fn repeat(mut stream: &TcpStream, byte: u8, mut count: u64) -> std::io::Result<()> {
    let block = vec![byte; 64 * 1024];
    while count > 0 {
        let n = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(block.len());
        stream.write_all(&block[..n])?;
        count -= n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{self, Connection};

    #[test]
    fn keeps_connections_and_remembers() {
        let server = Server::start(|seen| {
            Reply::ok(seen.body.bytes.clone()).header("X-Nth", &seen.nth.to_string())
        });
        let mut connection = Connection::open(server.address());
        let post = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(connection.exchange(post).unwrap().text(), "abc");
        assert_eq!(
            connection.exchange(post).unwrap().header("x-nth"),
            Some("1")
        );
        assert_eq!((server.accepted(), server.count()), (1, 2));
        assert_eq!(server.seen()[1].body.bytes, b"abc");
    }

    #[test]
    fn answers_head_without_a_body() {
        let server = Server::named("abc");
        let mut connection = Connection::open(server.address());
        let head = connection
            .exchange("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert_eq!(
            (head.header("content-length"), head.text().as_str()),
            (Some("3"), "")
        );
        assert_eq!(connection.get("/").unwrap().text(), "abc");
    }

    #[test]
    fn lies_and_resets_on_request() {
        let server = Server::start(|seen| match seen.path.as_str() {
            "/short" => Reply::new()
                .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
                .close(),
            _ => Reply::new().reset(),
        });
        assert!(!client::get(server.address(), "/short").body.whole);
        let error = Connection::open(server.address()).get("/").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn waits_at_a_gate() {
        let gate = Gate::new();
        let server = Server::start({
            let gate = gate.clone();
            move |_| {
                Reply::new()
                    .wait(&gate)
                    .send("HTTP/1.1 204 No Content\r\n\r\n")
            }
        });
        let mut connection = Connection::open(server.address());
        connection
            .send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        crate::wait::until("the request to be seen", || server.count() == 1);
        gate.open();
        assert_eq!(connection.receive().unwrap().status, 204);
    }
}
