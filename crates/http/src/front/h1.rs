//! A request of an HTTP/1 client and the way of its response.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, ready};

use fathom_codec::h1::{BodyDecoder, LAST_CHUNK, Writer, chunk_head};
use fathom_codec::head::{Body, Name, Request, RequestHead, Version};
use fathom_core::{Reason, Tick};
use fathom_io::{Chunk, Gone, Stream, buffer, clock, scratch};

use crate::exchange::{Answer, Front, ROOM};
use crate::heads::Pooled;
use crate::link::Link;
use crate::reply::phrase;

/// Content up to this size is copied behind what is held back, to make one write; more is sent from where it is.
const COPY_BELOW: usize = 4 << 10;

/// A client that closes its side so soon after its request ended did not lose patience: it has said all it had to
/// say (`printf ... | nc`), and waits for the answer.
const HALF_CLOSE: std::time::Duration = std::time::Duration::from_millis(100);

/// What becomes of the connection after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Another request may follow.
    Keep,
    /// Closed; everything was said.
    Close,
    /// Closed, though the client may still be sending.
    Linger,
    /// Broken off.
    Abort,
}

/// How the response's content is delimited towards this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// Nothing was begun.
    Unsent,
    /// As it is: a length, none, or until the connection closes.
    Bare,
    Chunked,
    Finished,
}

#[derive(Debug)]
struct Upload {
    decoder: BodyDecoder,
    /// Received and not yet taken apart.
    buffered: Chunk,
    done: bool,
    received: u64,
    limit: u64,
    /// Why there will not be a whole content. Said again to whoever asks again: a decoder that failed is not to be
    /// trusted with the bytes that follow.
    failed: Option<Reason>,
}

/// See [`Front`].
#[derive(Debug)]
pub(crate) struct H1Front<'c> {
    link: &'c Link,
    bytes: Vec<u8>,
    head: Pooled<RequestHead>,
    upload: RefCell<Upload>,
    /// When the request's last byte was read.
    ended: Cell<Tick>,
    out: RefCell<Vec<u8>>,
    coding: Cell<Coding>,
    /// The client can tell a response that was cut short.
    delimited: Cell<bool>,
    after: Cell<After>,
    /// The connection is to be closed after this request in any case.
    last: bool,
    half_closed: Cell<bool>,
    tunnel: Cell<bool>,
    broken: Cell<bool>,
}

impl<'c> H1Front<'c> {
    /// `rest` is what was received behind the head.
    pub(crate) fn new(
        link: &'c Link,
        bytes: Vec<u8>,
        head: Pooled<RequestHead>,
        rest: Chunk,
        last: bool,
    ) -> Self {
        let body = head.body();
        let upload = Upload {
            decoder: BodyDecoder::new(body),
            buffered: rest,
            done: false,
            received: 0,
            limit: u64::MAX,
            failed: None,
        };
        let this = Self {
            link,
            bytes,
            head,
            upload: RefCell::new(upload),
            ended: Cell::new(Tick::default()),
            out: RefCell::new(Vec::new()),
            coding: Cell::new(Coding::Unsent),
            delimited: Cell::new(false),
            after: Cell::new(After::Keep),
            last,
            half_closed: Cell::new(false),
            tunnel: Cell::new(false),
            broken: Cell::new(false),
        };
        if body == Body::None {
            this.upload_ended(&mut this.upload.borrow_mut());
        }
        this
    }

    /// What becomes of the connection; to be asked when the exchange is over.
    pub(crate) fn after(&self) -> After {
        if self.broken.get() {
            return After::Abort;
        }
        match self.after.get() {
            After::Close | After::Keep if !self.upload.borrow().done => After::Linger,
            after => after,
        }
    }

    fn upload_ended(&self, upload: &mut Upload) {
        upload.done = true;
        self.ended.set(clock::now());
        // The next request, already here.
        self.link.unread(std::mem::take(&mut upload.buffered));
    }

    fn poll_content(
        &self,
        upload: &mut Upload,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Reason>> {
        loop {
            if upload.done {
                return Poll::Ready(Ok(None));
            }
            if upload.buffered.is_empty() {
                match ready!(self.link.poll_read(cx)) {
                    Ok(chunk) if !chunk.is_empty() => upload.buffered = chunk,
                    Ok(_) if self.tunnel.get() => {
                        upload.done = true;
                        return Poll::Ready(Ok(None));
                    }
                    // RFC 9112 §8: a request cut short is incomplete.
                    Ok(_) | Err(_) => return Poll::Ready(Err(Reason::ClientGone)),
                }
            }
            let Upload {
                decoder, buffered, ..
            } = upload;
            let Ok(step) = decoder.step(buffered) else {
                return Poll::Ready(Err(Reason::MalformedRequest));
            };
            buffered.advance(step.skip);
            let data = buffered.split_to(step.data);
            upload.received += data.len() as u64;
            if step.done {
                self.upload_ended(upload);
            }
            if upload.received > upload.limit {
                return Poll::Ready(Err(Reason::BodyTooLarge));
            }
            if !data.is_empty() {
                return Poll::Ready(Ok(Some(data)));
            }
        }
    }

    fn write(&self, data: impl AsRef<[u8]> + Into<fathom_io::Outgoing>) {
        // What a write cannot say now, the next wait for room will.
        if self.link.write(data).is_err() {
            self.broken.set(true);
        }
    }

    /// Whether the client can be told that another request may follow.
    fn keeps_alive(&self, upload_open: bool) -> bool {
        let connection = self.head.fields().connection;
        let wanted = match self.head.version() {
            Version::Http10 => connection.keep_alive && !connection.close,
            _ => !connection.close,
        };
        wanted && !self.last && !upload_open && !self.half_closed.get()
    }

    /// Fields that HTTP/1 adds by itself; sets how the content goes out and what comes after.
    fn frame(&self, answer: &Answer<'_>, upload_open: bool, writer: &mut Writer<'_>) {
        let old = self.head.version() == Version::Http10;
        let mut keep = self.keeps_alive(upload_open);
        self.coding.set(Coding::Bare);
        match answer.body {
            // RFC 9112 §6.1: no transfer coding to a client that is not known to speak 1.1.
            Body::Chunked | Body::UntilClose if old => keep = false,
            Body::Chunked | Body::UntilClose => {
                self.coding.set(Coding::Chunked);
                self.delimited.set(true);
                writer.field(b"Transfer-Encoding", b"chunked");
            }
            Body::None | Body::Length(_) => self.delimited.set(true),
        }
        if answer.upgrade {
            writer.field(b"Connection", b"Upgrade");
            for field in answer.response.fields().filter(|f| f.id == Name::Upgrade) {
                writer.field(field.name, field.value);
            }
            keep = false;
        } else if !keep {
            writer.field(b"Connection", b"close");
        } else if old {
            writer.field(b"Connection", b"keep-alive");
        }
        self.after
            .set(if keep { After::Keep } else { After::Close });
    }
}

fn write_head(out: &mut Vec<u8>, answer: &Answer<'_>, frame: impl FnOnce(&mut Writer<'_>)) {
    let response = answer.response;
    let reason = match response.reason() {
        b"" => phrase(answer.status()).as_bytes(),
        reason => reason,
    };
    let mut writer = Writer::response(out, answer.status(), reason);
    if response.head.is_verbatim() {
        writer.copy(response.bytes, response.fields(), |f| answer.keeps(f));
    } else {
        writer.rewrite(response.fields(), |f| answer.keeps(f));
    }
    answer.adds(|name, value| {
        writer.field_parts(name, value);
    });
    frame(&mut writer);
    writer.end();
}

impl Front for H1Front<'_> {
    fn request(&self) -> Request<'_> {
        self.head.view(&self.bytes)
    }

    fn limit_body(&self, bytes: u64) {
        self.upload.borrow_mut().limit = bytes;
    }

    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Reason>> {
        let mut upload = self.upload.borrow_mut();
        if let Some(reason) = upload.failed {
            return Poll::Ready(Err(reason));
        }
        let result = ready!(self.poll_content(&mut upload, cx));
        upload.failed = result.as_ref().err().copied();
        Poll::Ready(result)
    }

    fn with_trailers(&self, f: &mut dyn FnMut(&[u8])) {
        f(self.upload.borrow().decoder.trailers());
    }

    fn inform(&self, answer: &Answer<'_>) {
        // RFC 9110 §15.2: no 1xx to an HTTP/1.0 client.
        if self.head.version() == Version::Http10 {
            return;
        }
        let mut out = scratch();
        write_head(&mut out, answer, |_| {});
        self.write(out);
    }

    fn respond(&self, answer: &Answer<'_>, upload_open: bool) {
        let mut out = scratch();
        write_head(&mut out, answer, |writer| {
            self.frame(answer, upload_open, writer)
        });
        *self.out.borrow_mut() = out;
    }

    fn tunnel(&self) {
        self.tunnel.set(true);
        self.coding.set(Coding::Bare);
        let mut upload = self.upload.borrow_mut();
        upload.decoder = BodyDecoder::UntilClose;
        upload.done = false;
    }

    fn bare(&self) -> Option<&Stream> {
        let Link::Plain(stream) = self.link else {
            return None;
        };
        self.flush();
        let mut upload = self.upload.borrow_mut();
        stream.unread(std::mem::take(&mut upload.buffered));
        upload.done = true;
        Some(stream)
    }

    fn send(&self, data: Chunk) {
        let mut out = self.out.borrow_mut();
        let chunked = self.coding.get() == Coding::Chunked;
        if out.capacity() == 0 {
            if !chunked && data.len() > COPY_BELOW {
                return self.write(data);
            }
            *out = scratch();
        }
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
        match self.coding.replace(Coding::Finished) {
            Coding::Chunked => {
                let mut out = self.out.borrow_mut();
                if trailers.is_empty() {
                    out.extend_from_slice(LAST_CHUNK);
                } else {
                    out.extend_from_slice(b"0\r\n");
                    out.extend_from_slice(trailers);
                    out.extend_from_slice(b"\r\n");
                }
            }
            _ if self.tunnel.get() => {
                self.flush();
                self.link.shutdown_write();
            }
            _ => {}
        }
        self.flush();
    }

    fn abort(&self) {
        self.flush();
        // Where only the close says that the content ended, a FIN would make it whole.
        self.after.set(if self.delimited.get() {
            After::Close
        } else {
            After::Abort
        });
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
            Reason::ClientGone
        })
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        // A write may have met the reset first, and then nothing is left of it to be seen by reading.
        if self.broken.get() {
            return Poll::Ready(());
        }
        if self.half_closed.get() {
            return Poll::Pending;
        }
        match ready!(self.link.poll_gone(cx)) {
            Gone::Closed if clock::now().since(self.ended.get()) < HALF_CLOSE => {
                self.half_closed.set(true);
                Poll::Pending
            }
            Gone::Closed | Gone::Reset => {
                self.broken.set(true);
                Poll::Ready(())
            }
        }
    }
}

impl Drop for H1Front<'_> {
    fn drop(&mut self) {
        buffer::recycle(std::mem::take(&mut self.bytes));
        // Not finished and nobody said so: the exchange was dropped half-way. Where only the close says that the
        // content ended, a FIN would make it whole.
        if self.coding.get() == Coding::Bare && !self.delimited.get() {
            self.link.abort();
        }
        self.link
            .unread(std::mem::take(&mut self.upload.borrow_mut().buffered));
    }
}
