//! A request of an HTTP/2 client and the way of its response: one stream.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use fathom_codec::h2::{FieldWriter, trailer_lines, trailer_map};
use fathom_codec::head::{Name, Request, RequestHead};
use fathom_core::Reason;
use fathom_io::{Chunk, buffer};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Response, StatusCode};

use crate::exchange::{Answer, Front};
use crate::h2::{Flow, Payload};

#[derive(Debug)]
struct Upload {
    recv: RecvStream,
    received: u64,
    limit: u64,
    trailers: Vec<u8>,
    ended: bool,
    failed: Option<Reason>,
}

struct Download {
    respond: SendResponse<Payload>,
    /// Held back, so that END_STREAM can go with it.
    head: Option<Response<()>>,
    /// Once the head is sent.
    stream: Option<SendStream<Payload>>,
    /// Held back, so that END_STREAM can go with it.
    data: Option<Payload>,
}

/// See [`Front`].
pub(crate) struct H2Front {
    bytes: Vec<u8>,
    head: RequestHead,
    upload: RefCell<Upload>,
    download: RefCell<Download>,
    flow: Rc<Flow>,
    gone: Cell<bool>,
}

impl H2Front {
    pub(crate) fn new(
        bytes: Vec<u8>,
        head: RequestHead,
        recv: RecvStream,
        respond: SendResponse<Payload>,
    ) -> Self {
        Self {
            bytes,
            head,
            upload: RefCell::new(Upload {
                recv,
                received: 0,
                limit: u64::MAX,
                trailers: Vec::new(),
                ended: false,
                failed: None,
            }),
            download: RefCell::new(Download {
                respond,
                head: None,
                stream: None,
                data: None,
            }),
            flow: Rc::default(),
            gone: Cell::new(false),
        }
    }
}

impl Upload {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Reason>> {
        while !self.ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Asked for because the server has room for it.
                    let _ = self.recv.flow_control().release_capacity(data.len());
                    self.received += data.len() as u64;
                    if self.received > self.limit {
                        return Poll::Ready(Err(Reason::BodyTooLarge));
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Some(Chunk::copy_of(&data))));
                    }
                }
                Some(Err(e)) => return Poll::Ready(Err(blame(&e))),
                None => match ready!(self.recv.poll_trailers(cx)) {
                    Ok(trailers) => {
                        self.trailers = trailers.map_or(Vec::new(), |map| trailer_lines(&map));
                        self.ended = true;
                    }
                    Err(e) => return Poll::Ready(Err(blame(&e))),
                },
            }
        }
        Poll::Ready(Ok(None))
    }
}

/// RFC 9113 §8.1.1: the crate resets a stream whose content is not as long as it said.
fn blame(error: &h2::Error) -> Reason {
    if error.is_reset() && error.is_library() {
        Reason::MalformedRequest
    } else {
        Reason::ClientGone
    }
}

impl Download {
    /// Sends what is held back; `end`: nothing follows.
    fn push(&mut self, end: bool) {
        let data = self.data.take();
        if let Some(head) = self.head.take() {
            let last = end && data.is_none();
            // A client that is gone is found by waiting for room, or for its going.
            self.stream = self.respond.send_response(head, last).ok();
            if last {
                return;
            }
        }
        if let Some(stream) = &mut self.stream
            && (end || data.is_some())
        {
            let _ = stream.send_data(data.unwrap_or_else(Payload::empty), end);
        }
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            Some(stream) => stream.poll_reset(cx).map(|_| ()),
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }
}

/// The head as a header map.
fn head_of(answer: &Answer<'_>) -> Response<()> {
    let fields = answer.response.head.fields();
    let mut writer = FieldWriter::new(fields.len() + 2);
    writer.copy(answer.response.bytes, fields, |field| {
        // RFC 8441 has no handshake: END_HEADERS says it all.
        answer.keeps(field)
            && !(answer.upgrade && field.name.eq_ignore_ascii_case(b"sec-websocket-accept"))
    });
    answer.adds(|name, value| {
        if !Name::of(name).is_hop_by_hop() {
            writer.field_parts(name, value);
        }
    });
    let mut response = Response::new(());
    *response.status_mut() = if answer.upgrade {
        // RFC 8441 §5: a 2xx status takes the place of 101.
        StatusCode::OK
    } else {
        StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::BAD_GATEWAY)
    };
    *response.headers_mut() = writer.into_map();
    response
}

impl Front for H2Front {
    fn request(&self) -> Request<'_> {
        self.head.view(&self.bytes)
    }

    fn limit_body(&self, bytes: u64) {
        self.upload.borrow_mut().limit = bytes;
    }

    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Reason>> {
        let upload = &mut *self.upload.borrow_mut();
        if let Some(reason) = upload.failed {
            return Poll::Ready(Err(reason));
        }
        let result = ready!(upload.poll(cx));
        upload.failed = result.as_ref().err().copied();
        Poll::Ready(result)
    }

    fn with_trailers(&self, f: &mut dyn FnMut(&[u8])) {
        f(&self.upload.borrow().trailers);
    }

    fn inform(&self, answer: &Answer<'_>) {
        let _ = self
            .download
            .borrow_mut()
            .respond
            .send_informational(head_of(answer));
    }

    fn respond(&self, answer: &Answer<'_>, _upload_open: bool) {
        // What is left of the request is refused by dropping the stream (RFC 9113 §8.1: RST_STREAM with NO_ERROR).
        self.download.borrow_mut().head = Some(head_of(answer));
    }

    fn tunnel(&self) {
        self.flush();
    }

    fn send(&self, data: Chunk) {
        let payload = self.flow.payload(data);
        let mut download = self.download.borrow_mut();
        download.push(false);
        download.data = Some(payload);
    }

    fn finish(&self, trailers: &[u8]) {
        let mut download = self.download.borrow_mut();
        if trailers.is_empty() {
            return download.push(true);
        }
        download.push(false);
        if let Some(stream) = &mut download.stream {
            let _ = stream.send_trailers(trailer_map(trailers));
        }
    }

    fn abort(&self) {
        let mut download = self.download.borrow_mut();
        download.data = None;
        match &mut download.stream {
            Some(stream) => stream.send_reset(h2::Reason::INTERNAL_ERROR),
            None => download.respond.send_reset(h2::Reason::INTERNAL_ERROR),
        }
    }

    fn flush(&self) {
        let mut download = self.download.borrow_mut();
        if download.head.is_some() || download.data.is_some() {
            download.push(false);
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        if self.flow.poll_room(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        // Held back, it would never make room.
        self.flush();
        self.poll_gone(cx).map(|()| Err(Reason::ClientGone))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gone.get() {
            return Poll::Ready(());
        }
        ready!(self.download.borrow_mut().poll_reset(cx));
        self.gone.set(true);
        Poll::Ready(())
    }
}

impl Drop for H2Front {
    fn drop(&mut self) {
        buffer::recycle(std::mem::take(&mut self.bytes));
    }
}
