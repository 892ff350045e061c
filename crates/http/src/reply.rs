//! Responses that Fathom makes itself: small, complete, `Server: fathom`, and `Fathom-Reason` with the code.

use std::task::Poll;

use fathom_codec::head::{Body, Builder, Method, ResponseHead, Version};
use fathom_core::Reason;
use fathom_io::{Chunk, buffer, clock, scratch};

use crate::date::http_date;
use crate::exchange::{Answer, Front};

/// A response of our own.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) reason: Reason,
    pub(crate) body: &'a [u8],
    pub(crate) fields: &'a [(&'a str, &'a [u8])],
}

/// A head and its content, ready to be sent.
pub(crate) struct Written {
    bytes: Vec<u8>,
    head: ResponseHead,
    content: Chunk,
}

impl Reply<'_> {
    fn write(&self, to: Method) -> Written {
        let given = |name: &str| {
            self.fields
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let mut builder = Builder::new(scratch());
        if !given("server") {
            builder.field(b"Server", b"fathom");
        }
        builder.field(b"Date", &http_date(clock::unix_now().as_secs()));
        builder.field(b"Fathom-Reason", self.reason.as_str().as_bytes());
        if self.status == 503 || self.status == 429 {
            builder.field(b"Retry-After", b"1");
        }
        for (name, value) in self.fields {
            builder.field(name.as_bytes(), value);
        }
        let none = matches!(self.status, 204 | 304);
        if !none {
            if !self.body.is_empty() && !given("content-type") {
                builder.field(b"Content-Type", b"text/plain; charset=utf-8");
            }
            builder.field(b"Content-Length", decimal(self.body.len(), &mut [0; 20]));
        }
        let length = (!none).then_some(self.body.len() as u64);
        let (bytes, head) = builder.response(Version::Http11, self.status, length);
        let content = if none || to == Method::Head {
            Chunk::default()
        } else {
            Chunk::copy_of(self.body)
        };
        Written {
            bytes,
            head,
            content,
        }
    }

    /// Sends it. Returns how many bytes of content went out.
    pub(crate) fn send(&self, front: &impl Front, upload_open: bool) -> u64 {
        let written = self.write(front.request().head.method());
        let sent = written.content.len() as u64;
        let body = match sent {
            0 => Body::None,
            n => Body::Length(n),
        };
        let response = written.head.view(&written.bytes);
        front.respond(
            &Answer {
                response,
                body,
                upgrade: false,
                edits: None,
            },
            upload_open,
        );
        if sent > 0 {
            front.send(written.content);
        }
        front.finish(&[]);
        buffer::recycle(written.bytes);
        sent
    }
}

/// What is said of a reason: a response with its status and sentence.
pub(crate) fn send_reason(
    front: &impl Front,
    reason: Reason,
    status: u16,
    upload_open: bool,
) -> u64 {
    let text = format!("{} {}\n{}\n", status, phrase(status), reason.text());
    Reply {
        status,
        reason,
        body: text.as_bytes(),
        fields: &[],
    }
    .send(front, upload_open)
}

/// An answer to bytes that are no request: complete, with `Connection: close`.
pub(crate) fn raw(status: u16, reason: Reason, text: &str) -> Vec<u8> {
    let body = format!("{} {}\n{}\n", status, phrase(status), text);
    let date = http_date(clock::unix_now().as_secs());
    let mut out = format!(
        "HTTP/1.1 {status} {}\r\nServer: fathom\r\nDate: ",
        phrase(status)
    )
    .into_bytes();
    out.extend_from_slice(&date);
    out.extend_from_slice(
        format!(
            "\r\nFathom-Reason: {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    out
}

/// Whether the request's content has ended, as far as can be told at once.
pub(crate) fn upload_is_open(front: &impl Front) -> bool {
    // What has arrived is looked at, so that a small body does not cost the connection.
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        match front.poll_body(&mut cx) {
            Poll::Ready(Ok(Some(_))) => {}
            Poll::Ready(Ok(None)) => return false,
            Poll::Ready(Err(_)) | Poll::Pending => return true,
        }
    }
}

fn decimal(mut n: usize, memory: &mut [u8; 20]) -> &[u8] {
    let mut at = memory.len();
    loop {
        at -= 1;
        memory[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &memory[at..];
        }
    }
}

/// The phrase of a status (RFC 9110 §15, RFC 6585).
pub(crate) fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Unknown")
}
