//! A request at an HTTP/2 server and its response: one stream.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use fathom_codec::h1::Malformed;
use fathom_codec::h2::{FieldWriter, accept_for, received_response, trailer_lines, trailer_map};
use fathom_codec::head::{Body, Name, Response, ResponseHead};
use fathom_core::Reason;
use fathom_io::{Chunk, buffer, scratch};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Uri, header};

use super::streams::Place;
use crate::exchange::{Back, Outbound};
use crate::h2::{Flow, Payload};

/// See [`Back`].
pub(crate) struct H2Back {
    place: Place,
    upload: RefCell<Upload>,
    download: RefCell<Download>,
    flow: Rc<Flow>,
    heard: Cell<bool>,
    /// The server has surely done nothing about it (RFC 9113 §8.7).
    unprocessed: Cell<bool>,
    failed: Cell<Option<Reason>>,
    /// For a WebSocket: what its handshake in HTTP/1 is answered with.
    accept: RefCell<Option<Vec<u8>>>,
}

#[derive(Default)]
struct Upload {
    /// Held back, so that END_STREAM can go with it.
    head: Option<Request<()>>,
    stream: Option<SendStream<Payload>>,
    /// Held back, so that END_STREAM can go with it.
    data: Option<Payload>,
    done: bool,
}

#[derive(Default)]
struct Download {
    response: Option<ResponseFuture>,
    recv: Option<RecvStream>,
    bytes: Vec<u8>,
    head: ResponseHead,
    trailers: Vec<u8>,
    ended: bool,
    no_content: bool,
}

impl H2Back {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            upload: RefCell::default(),
            download: RefCell::default(),
            flow: Rc::default(),
            heard: Cell::new(false),
            unprocessed: Cell::new(false),
            failed: Cell::new(None),
            accept: RefCell::default(),
        }
    }

    /// What was asked for is not wanted any more.
    pub(crate) fn cancel(&self) {
        let mut upload = self.upload.borrow_mut();
        upload.data = None;
        if let Some(stream) = &mut upload.stream {
            stream.send_reset(h2::Reason::CANCEL);
        }
    }

    fn fail(&self, error: &h2::Error) -> Reason {
        // RFC 9113 §8.7: REFUSED_STREAM, and streams above the last one that a GOAWAY names, were not processed.
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM) && error.is_remote();
        let behind = error.is_go_away() && error.is_remote() && !self.heard.get();
        if refused || behind {
            self.unprocessed.set(true);
        }
        let reason = match error.reason() {
            // What the crate found wrong with the server.
            Some(_) if error.is_library() => Reason::ServerH2,
            _ => Reason::ServerReset,
        };
        self.failed.set(Some(reason));
        reason
    }

    /// Sends what is held back; `end`: nothing follows.
    fn push(&self, upload: &mut Upload, end: bool) {
        let data = upload.data.take();
        if let Some(head) = upload.head.take() {
            let last = end && data.is_none();
            match self.place.send(head, last) {
                Ok((response, stream)) => {
                    upload.stream = Some(stream);
                    self.download.borrow_mut().response = Some(response);
                }
                Err(_) => {
                    // The connection ended after it was chosen: nothing was sent.
                    self.unprocessed.set(true);
                    self.failed.set(Some(Reason::ServerReset));
                }
            }
            if last {
                return;
            }
        }
        if let Some(stream) = &mut upload.stream
            && (end || data.is_some())
        {
            let _ = stream.send_data(data.unwrap_or_else(Payload::empty), end);
        }
    }

    fn head_of(&self, outbound: &Outbound<'_>) -> Option<Request<()>> {
        let fields = outbound.request.head.fields();
        let mut writer = FieldWriter::new(fields.len() + 8);
        let is_key = |name: &[u8]| name.eq_ignore_ascii_case(b"sec-websocket-key");
        writer.copy(outbound.request.bytes, fields, |field| {
            // RFC 8441 §5: what makes the handshake in HTTP/1 is not used.
            field.id != Name::Host
                && outbound.keeps(field)
                && !(outbound.upgrade && is_key(field.name))
        });
        outbound.adds(|name, value| writer.field_parts(name, value));
        let target = outbound.target.concat();
        let mut request = Request::new(());
        *request.method_mut() = if outbound.upgrade {
            Method::CONNECT
        } else {
            Method::from_bytes(outbound.request.method()).ok()?
        };
        *request.uri_mut() = Uri::builder()
            .scheme(if self.place.is_secure() {
                "https"
            } else {
                "http"
            })
            .authority(outbound.host)
            .path_and_query(&target[..])
            .build()
            .ok()?;
        *request.headers_mut() = writer.into_map();
        request.headers_mut().remove(header::HOST);
        if outbound.upgrade {
            request
                .extensions_mut()
                .insert(h2::ext::Protocol::from_static("websocket"));
            let key = outbound.request.get("sec-websocket-key");
            *self.accept.borrow_mut() = Some(key.map_or(Vec::new(), accept_for));
        }
        Some(request)
    }

    fn take_head(&self, status: u16, headers: &http::HeaderMap) -> Result<u16, Reason> {
        self.heard.set(true);
        let download = &mut *self.download.borrow_mut();
        let memory = match std::mem::take(&mut download.bytes) {
            bytes if bytes.capacity() == 0 => scratch(),
            bytes => bytes,
        };
        let accept = self.accept.borrow();
        // RFC 8441 §5: 2xx is what 101 is in HTTP/1.
        let switched = accept.as_deref().filter(|_| (200..300).contains(&status));
        let result = match switched {
            Some(accept) => {
                let mut headers = headers.clone();
                headers.remove(header::CONTENT_LENGTH);
                headers.insert(
                    header::UPGRADE,
                    header::HeaderValue::from_static("websocket"),
                );
                if let Ok(value) = header::HeaderValue::from_bytes(accept) {
                    headers.insert(header::SEC_WEBSOCKET_ACCEPT, value);
                }
                received_response(101, &headers, memory)
            }
            None => received_response(status, headers, memory),
        };
        let (bytes, head) = result.map_err(|e| match e {
            Malformed::HeadTooLarge | Malformed::TooManyFields => Reason::ResponseHeaderTooLarge,
            _ => Reason::BadResponse,
        })?;
        download.bytes = bytes;
        download.head = head;
        Ok(download.head.status())
    }
}

impl Back for H2Back {
    fn send_head(&self, head: &Outbound<'_>) {
        let websocket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
        let refused = head.upgrade
            && !(self.place.takes_connect()
                && head.request.known(Name::Upgrade).is_some_and(websocket));
        match self.head_of(head).filter(|_| !refused) {
            Some(request) => self.upload.borrow_mut().head = Some(request),
            None => self.failed.set(Some(Reason::ServerH2)),
        }
    }

    fn send(&self, data: Chunk) {
        let payload = self.flow.payload(data);
        let upload = &mut *self.upload.borrow_mut();
        self.push(upload, false);
        upload.data = Some(payload);
    }

    fn finish(&self, trailers: &[u8]) {
        let upload = &mut *self.upload.borrow_mut();
        if std::mem::replace(&mut upload.done, true) {
            return;
        }
        // A WebSocket's request ends with the tunnel.
        if self.accept.borrow().is_some() && upload.head.is_some() {
            upload.done = false;
            return self.push(upload, false);
        }
        if trailers.is_empty() {
            return self.push(upload, true);
        }
        self.push(upload, false);
        if let Some(stream) = &mut upload.stream {
            let _ = stream.send_trailers(trailer_map(trailers));
        }
    }

    fn flush(&self) {
        let upload = &mut *self.upload.borrow_mut();
        if upload.head.is_some() || upload.data.is_some() {
            self.push(upload, false);
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        if let Some(reason) = self.failed.get() {
            return Poll::Ready(Err(reason));
        }
        if self.flow.poll_room(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        // Held back, it would never make room.
        self.flush();
        match &mut self.upload.borrow_mut().stream {
            // A server that answers without taking the content resets with NO_ERROR (RFC 9113 §8.1).
            Some(stream) => stream.poll_reset(cx).map(|_| Err(Reason::ServerReset)),
            None => Poll::Pending,
        }
    }

    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<u16, Reason>> {
        if let Some(reason) = self.failed.get() {
            return Poll::Ready(Err(reason));
        }
        let mut slot = self.download.borrow_mut();
        let Some(response) = &mut slot.response else {
            return Poll::Pending;
        };
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            drop(slot);
            return Poll::Ready(self.take_head(interim.status().as_u16(), interim.headers()));
        }
        let result = ready!(Pin::new(response).poll(cx));
        slot.response = None;
        match result {
            Ok(response) => {
                let (parts, recv) = response.into_parts();
                slot.recv = Some(recv);
                drop(slot);
                Poll::Ready(self.take_head(parts.status.as_u16(), &parts.headers))
            }
            Err(e) => Poll::Ready(Err(self.fail(&e))),
        }
    }

    fn with_response(&self, f: &mut dyn FnMut(Response<'_>)) {
        let download = self.download.borrow();
        f(download.head.view(&download.bytes));
    }

    fn next_head(&self) {}

    fn begin_body(&self, body: Body) {
        self.download.borrow_mut().no_content = body == Body::None;
    }

    fn tunnel(&self) {
        self.download.borrow_mut().no_content = false;
        self.upload.borrow_mut().done = false;
    }

    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Reason>> {
        let download = &mut *self.download.borrow_mut();
        let Some(recv) = &mut download.recv else {
            return Poll::Ready(Ok(None));
        };
        while !download.ended {
            let error = match ready!(recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Asked for because the client has room for it.
                    let _ = recv.flow_control().release_capacity(data.len());
                    if data.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Ok(Some(Chunk::copy_of(&data))));
                }
                Some(Err(e)) => e,
                None => match ready!(recv.poll_trailers(cx)) {
                    Ok(trailers) => {
                        download.trailers = trailers.map_or(Vec::new(), |map| trailer_lines(&map));
                        download.ended = true;
                        break;
                    }
                    Err(e) => e,
                },
            };
            return Poll::Ready(Err(match self.fail(&error) {
                Reason::ServerReset => Reason::ShortBody,
                reason => reason,
            }));
        }
        Poll::Ready(Ok(None))
    }

    fn with_trailers(&self, f: &mut dyn FnMut(&[u8])) {
        f(&self.download.borrow().trailers);
    }

    fn heard(&self) -> bool {
        self.heard.get()
    }

    fn is_unprocessed(&self) -> bool {
        self.unprocessed.get()
    }
}

impl Drop for H2Back {
    fn drop(&mut self) {
        buffer::recycle(std::mem::take(&mut self.download.get_mut().bytes));
    }
}
