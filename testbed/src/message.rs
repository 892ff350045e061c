//! Reading HTTP/1 messages off a blocking socket, as a lenient peer would.

use std::io::{self, BufRead, Read};

/// The head of a request or response, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The first line, without its end.
    pub start: String,
    /// Header lines in order, names as written.
    pub headers: Vec<(String, String)>,
    /// Every byte up to and with the empty line.
    pub raw: Vec<u8>,
}

impl Head {
    /// The first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.as_str())
    }

    /// Every header of that name, in any case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
    }

    /// How the body after this head is framed; `close` says whether it may end with the connection.
    #[must_use]
    pub fn framing(&self, close: bool) -> Framing {
        if self.has_token("transfer-encoding", "chunked") {
            Framing::Chunked
        } else if let Some(length) = self
            .header("content-length")
            .and_then(|v| v.trim().parse().ok())
        {
            Framing::Length(length)
        } else if close {
            Framing::Close
        } else {
            Framing::Length(0)
        }
    }

    /// Whether the sender closes after this message.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.has_token("connection", "close")
            || ((self.start.ends_with("HTTP/1.0") || self.start.starts_with("HTTP/1.0"))
                && !self.has_token("connection", "keep-alive"))
    }
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk and trailers.
    Chunked,
    /// With the connection.
    Close,
}

/// Reads a head; `None` if the connection ended before its first byte.
///
/// # Errors
/// What the socket said, or that the connection ended within the head.
pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head = Head::default();
    loop {
        let begin = head.raw.len();
        from.read_until(b'\n', &mut head.raw)?;
        let line = String::from_utf8_lossy(&head.raw[begin..]).into_owned();
        if !line.ends_with('\n') {
            if head.raw.is_empty() {
                return Ok(None);
            }
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("ended within a head: {line:?}"),
            ));
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return Ok(Some(head));
        }
        if begin == 0 {
            line.clone_into(&mut head.start);
        } else {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            head.headers
                .push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

/// A body and the trailers after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The content, chunks joined.
    pub bytes: Vec<u8>,
    /// Trailer lines.
    pub trailers: Vec<(String, String)>,
    /// Whether it ended where its framing said.
    pub whole: bool,
}

/// Reads a body to its end, or to the connection's (then `whole` is false unless that is its framing).
///
/// # Errors
/// What the socket said, if not that the connection ended.
pub fn read_body(from: &mut impl BufRead, framing: Framing) -> io::Result<Body> {
    let mut body = Body::default();
    let ended = match framing {
        Framing::Close => from.read_to_end(&mut body.bytes).map(|_| ()),
        Framing::Length(length) => read_exactly(from, length, &mut body.bytes),
        Framing::Chunked => read_chunks(from, &mut body),
    };
    match ended {
        Ok(()) => body.whole = true,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ) => {}
        Err(e) => return Err(e),
    }
    Ok(body)
}

fn read_exactly(from: &mut impl BufRead, length: u64, into: &mut Vec<u8>) -> io::Result<()> {
    let read = from.take(length).read_to_end(into)?;
    if read as u64 == length {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn read_chunks(from: &mut impl BufRead, body: &mut Body) -> io::Result<()> {
    let invalid =
        |line: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not a chunk: {line:?}"));
    loop {
        let line = read_line(from)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| invalid(&line))?;
        if size == 0 {
            break;
        }
        read_exactly(from, size, &mut body.bytes)?;
        let end = read_line(from)?;
        if !end.is_empty() {
            return Err(invalid(&end));
        }
    }
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            return Ok(());
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
        body.trailers
            .push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_chunks_and_trailers() {
        let mut text: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\nrest";
        let head = read_head(&mut text).unwrap().unwrap();
        let body = read_body(&mut text, head.framing(true)).unwrap();
        assert_eq!((body.bytes.as_slice(), body.whole), (&b"abcde"[..], true));
        assert_eq!(body.trailers, [("X-Sum".to_owned(), "5".to_owned())]);
        assert_eq!(text, b"rest");
    }

    #[test]
    fn a_short_body_is_not_whole() {
        let mut text: &[u8] = b"abc";
        assert!(!read_body(&mut text, Framing::Length(4)).unwrap().whole);
        let mut text: &[u8] = b"4\r\nab";
        assert!(!read_body(&mut text, Framing::Chunked).unwrap().whole);
    }
}
