//! A request at an HTTP/1 server and its response.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, ready};

use fathom_codec::h1::{BodyDecoder, LAST_CHUNK, Limits, Progress, Writer, chunk_head};
use fathom_codec::head::{Body, Name, Response, ResponseHead, Version};
use fathom_core::Reason;
use fathom_io::{Chunk, Stream, scratch};

use crate::exchange::{Back, Outbound, ROOM};
use crate::heads::Pooled;
use crate::link::Link;

/// Content up to this size is copied behind what is held back, to make one write.
const COPY_BELOW: usize = 4 << 10;

#[derive(Debug)]
struct Download {
    /// The head, and what was received behind it.
    raw: Chunk,
    head_len: usize,
    head: Pooled<ResponseHead>,
    /// Parts of a head that is not whole yet.
    partial: Vec<u8>,
    decoder: BodyDecoder,
    ended: bool,
}

/// See [`Back`].
#[derive(Debug)]
pub(crate) struct H1Back {
    link: Link,
    out: RefCell<Vec<u8>>,
    chunked: Cell<bool>,
    upload_done: Cell<bool>,
    download: RefCell<Download>,
    heard: Cell<bool>,
    broken: Cell<bool>,
    tunnel: Cell<bool>,
}

impl H1Back {
    /// On a connection with nothing in flight.
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link,
            out: RefCell::default(),
            chunked: Cell::new(false),
            upload_done: Cell::new(false),
            download: RefCell::new(Download {
                raw: Chunk::default(),
                head_len: 0,
                head: Pooled::new(),
                partial: Vec::new(),
                decoder: BodyDecoder::Done,
                ended: false,
            }),
            heard: Cell::new(false),
            broken: Cell::new(false),
            tunnel: Cell::new(false),
        }
    }

    /// The connection, if another request may be sent over it.
    pub(crate) fn into_reusable(self) -> Option<Link> {
        let download = self.download.into_inner();
        let head = &download.head;
        let connection = head.fields().connection;
        let persistent = match head.version() {
            // RFC 9112 §9.3.
            Version::Http10 => connection.keep_alive && !connection.close,
            _ => !connection.close,
        };
        // Bytes behind the response belong to nothing: whoever got the connection next would take them for its answer.
        let clean = download.ended && download.raw.is_empty() && self.upload_done.get();
        let reusable = persistent && clean && !self.broken.get() && !self.tunnel.get();
        self.link.rest();
        reusable.then_some(self.link)
    }

    fn write(&self, data: impl AsRef<[u8]> + Into<fathom_io::Outgoing>) {
        if self.link.write(data).is_err() {
            self.broken.set(true);
        }
    }
}

impl Download {
    /// Takes what came; the status once a head is whole.
    fn feed(&mut self, chunk: Chunk) -> Result<Option<u16>, Reason> {
        let limits = Limits::default();
        let bad = |e| match e {
            fathom_codec::h1::Malformed::HeadTooLarge
            | fathom_codec::h1::Malformed::TooManyFields => Reason::ResponseHeaderTooLarge,
            _ => Reason::BadResponse,
        };
        if self.partial.is_empty() {
            self.raw = chunk;
        } else {
            self.partial.extend_from_slice(&chunk);
            self.raw = Chunk::copy_of(&self.partial);
        }
        match self.head.parse(&self.raw, &limits).map_err(bad)? {
            Progress::Complete(len) => {
                self.partial = Vec::new();
                self.head_len = len;
                Ok(Some(self.head.status()))
            }
            Progress::Partial => {
                if self.partial.is_empty() {
                    self.partial.extend_from_slice(&self.raw);
                }
                self.raw = Chunk::default();
                Ok(None)
            }
        }
    }
}

impl Back for H1Back {
    fn send_head(&self, head: &Outbound<'_>) {
        let request = head.request;
        let mut out = scratch();
        let mut writer = Writer::request(&mut out, request.method(), head.target);
        if head.host_is_new {
            writer.field(b"Host", head.host);
        }
        writer.copy(request.bytes, request.fields(), |f| head.keeps(f));
        head.adds(|name, value| {
            writer.field_parts(name, value);
        });
        if head.body == Body::Chunked {
            writer.field(b"Transfer-Encoding", b"chunked");
            self.chunked.set(true);
        }
        if head.upgrade {
            writer.field(b"Connection", b"Upgrade");
            for field in request.fields().filter(|f| f.id == Name::Upgrade) {
                writer.field(field.name, field.value);
            }
        } else if request.head.fields().te_trailers {
            // RFC 9110 §10.1.4: a sender of TE MUST also name it in Connection.
            writer.field(b"Connection", b"TE");
        }
        writer.end();
        *self.out.borrow_mut() = out;
    }

    fn send(&self, data: Chunk) {
        let mut out = self.out.borrow_mut();
        if out.capacity() == 0 {
            if !self.chunked.get() && data.len() > COPY_BELOW {
                return self.write(data);
            }
            *out = scratch();
        }
        let chunked = self.chunked.get();
        if chunked {
            chunk_head(&mut out, data.len());
        }
        if data.len() <= COPY_BELOW {
            out.extend_from_slice(&data);
        } else {
            let _cork = self.link.cork();
            self.write(std::mem::replace(
                &mut *out,
                if chunked { scratch() } else { Vec::new() },
            ));
            self.write(data);
        }
        if chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    fn finish(&self, trailers: &[u8]) {
        if self.chunked.get() {
            let mut out = self.out.borrow_mut();
            if trailers.is_empty() {
                out.extend_from_slice(LAST_CHUNK);
            } else {
                out.extend_from_slice(b"0\r\n");
                out.extend_from_slice(trailers);
                out.extend_from_slice(b"\r\n");
            }
        }
        self.upload_done.set(true);
        self.flush();
        if self.tunnel.get() {
            self.link.shutdown_write();
        }
    }

    fn flush(&self) {
        let mut out = self.out.borrow_mut();
        if !out.is_empty() {
            let full = std::mem::take(&mut *out);
            self.write(full);
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        self.link.poll_writable(cx, ROOM).map_err(|_| {
            self.broken.set(true);
            Reason::ServerReset
        })
    }

    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<u16, Reason>> {
        let mut download = self.download.borrow_mut();
        // Behind an interim response, the next may be here already.
        let mut next = std::mem::take(&mut download.raw);
        loop {
            if next.is_empty() {
                next = match ready!(self.link.poll_read(cx)) {
                    Ok(chunk) if !chunk.is_empty() => chunk,
                    // RFC 9112 §8: a head cut short is no response.
                    Ok(_) | Err(_) if download.partial.is_empty() && !self.heard.get() => {
                        self.broken.set(true);
                        return Poll::Ready(Err(Reason::ServerReset));
                    }
                    Ok(_) | Err(_) => return Poll::Ready(Err(Reason::BadResponse)),
                };
            }
            self.heard.set(true);
            if let Some(status) = download.feed(std::mem::take(&mut next))? {
                return Poll::Ready(Ok(status));
            }
        }
    }

    fn with_response(&self, f: &mut dyn FnMut(Response<'_>)) {
        let download = self.download.borrow();
        f(download.head.view(&download.raw[..download.head_len]));
    }

    fn next_head(&self) {
        let download = &mut *self.download.borrow_mut();
        download.raw.advance(download.head_len);
        download.head_len = 0;
        download.head.clear();
    }

    fn begin_body(&self, body: Body) {
        let download = &mut *self.download.borrow_mut();
        download.raw.advance(std::mem::take(&mut download.head_len));
        download.decoder = BodyDecoder::new(body);
        download.ended = body == Body::None;
    }

    fn tunnel(&self) {
        self.tunnel.set(true);
        self.chunked.set(false);
        let mut download = self.download.borrow_mut();
        download.decoder = BodyDecoder::UntilClose;
        download.ended = false;
    }

    fn bare(&self) -> Option<&Stream> {
        let Link::Plain(stream) = &self.link else {
            return None;
        };
        self.flush();
        stream.unread(std::mem::take(&mut self.download.borrow_mut().raw));
        Some(stream)
    }

    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Reason>> {
        let mut download = self.download.borrow_mut();
        loop {
            let Download {
                raw,
                decoder,
                ended,
                ..
            } = &mut *download;
            if *ended {
                return Poll::Ready(Ok(None));
            }
            if raw.is_empty() {
                match ready!(self.link.poll_read(cx)) {
                    Ok(chunk) if !chunk.is_empty() => *raw = chunk,
                    Ok(_) if decoder.whole_at_close() => {
                        *ended = true;
                        self.broken.set(true);
                        return Poll::Ready(Ok(None));
                    }
                    Ok(_) | Err(_) => {
                        self.broken.set(true);
                        return Poll::Ready(Err(Reason::ShortBody));
                    }
                }
            }
            let Ok(step) = decoder.step(raw) else {
                self.broken.set(true);
                return Poll::Ready(Err(Reason::BadResponse));
            };
            raw.advance(step.skip);
            let data = raw.split_to(step.data);
            *ended = step.done;
            if !data.is_empty() {
                return Poll::Ready(Ok(Some(data)));
            }
        }
    }

    fn with_trailers(&self, f: &mut dyn FnMut(&[u8])) {
        f(self.download.borrow().decoder.trailers());
    }

    fn heard(&self) -> bool {
        self.heard.get()
    }
}

impl H1Back {
    /// RST instead of FIN: what was asked for is not wanted any more.
    pub(crate) fn cancel(self) {
        self.link.abort();
    }
}
