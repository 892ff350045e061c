//! An HTTP/1 client that sends exactly what it is told.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::message::{self, Body, Framing, Head};
use crate::wait::DEADLINE;

/// A response, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Status line and headers.
    pub head: Head,
    /// Content and trailers.
    pub body: Body,
    /// Statuses of the 1xx responses before it.
    pub interim: Vec<u16>,
}

impl Response {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }
}

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects, trying again while nobody listens there yet.
    ///
    /// # Panics
    /// If nobody does within the deadline.
    #[must_use]
    pub fn open(to: SocketAddr) -> Self {
        let stream = crate::wait::some(&format!("{to} to accept"), || TcpStream::connect(to).ok());
        Self::over(stream)
    }

    /// Speaks over a connection that is already there.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// The socket below.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// What the socket said.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends these bytes one at a time.
    ///
    /// # Errors
    /// What the socket said.
    pub fn send_slowly(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        bytes
            .as_ref()
            .chunks(1)
            .try_for_each(|byte| self.send(byte))
    }

    /// Reads the response to a request other than HEAD.
    ///
    /// # Errors
    /// What the socket said; `UnexpectedEof` if the connection ended before a whole head.
    pub fn receive(&mut self) -> io::Result<Response> {
        self.receive_to("GET")
    }

    /// Reads the response to a request of that method.
    ///
    /// # Errors
    /// What the socket said; `UnexpectedEof` if the connection ended before a whole head.
    pub fn receive_to(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let head = message::read_head(&mut self.stream)?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "closed before a response")
            })?;
            let status = status_of(&head)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let framing = if bodiless {
                Framing::Length(0)
            } else {
                head.framing(true)
            };
            let body = message::read_body(&mut self.stream, framing)?;
            return Ok(Response {
                status,
                head,
                body,
                interim,
            });
        }
    }

    /// Sends a request and reads its response.
    ///
    /// # Errors
    /// What the socket said.
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> io::Result<Response> {
        let request = request.as_ref();
        self.send(request)?;
        let method = request.split(|b| *b == b' ').next().unwrap_or_default();
        self.receive_to(&String::from_utf8_lossy(method))
    }

    /// `GET path` on this connection.
    ///
    /// # Errors
    /// What the socket said.
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n"))
    }

    /// Closes our sending side.
    pub fn finish(&self) {
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    /// Everything until the far side closes.
    ///
    /// # Errors
    /// What the socket said (a reset too).
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// What the socket said.
    pub fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Closes with RST.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(self.stream()).set_linger(Some(std::time::Duration::ZERO));
    }
}

fn status_of(head: &Head) -> io::Result<u16> {
    head.start
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("not a status line: {:?}", head.start),
            )
        })
}

/// `GET path` on a connection of its own.
///
/// # Panics
/// If there is no response.
#[must_use]
#[track_caller]
pub fn get(to: SocketAddr, path: &str) -> Response {
    Connection::open(to)
        .exchange(format!(
            "GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
        ))
        .unwrap_or_else(|e| panic!("GET {path} from {to}: {e}"))
}
