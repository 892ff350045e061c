//! What proxying is written against: a request of a client ([`Front`]), the same request on its way to a server
//! ([`Back`]), and the two heads with all that is changed about them ([`Outbound`], [`Answer`]).
//!
//! Everything is polled from one task, and nothing is `&mut`: both directions of an exchange move in one loop
//! (`relay`). Sending never waits; who sends asks for room first. What is sent may be held back until `flush`, so that
//! a head and a small body make one write.

use std::task::{Context, Poll};

use fathom_codec::head::{Body, Field, Name, Request, Response};
use fathom_core::plan::ForwardedPlan;
use fathom_core::{ClientInfo, Reason};
use fathom_io::{Chunk, Stream};

use crate::edit::Edits;
use crate::forwarded::{self, Client};

/// More than this queued towards a peer, and what would add to it is not read.
pub(crate) const ROOM: usize = 128 << 10;

/// One request of a client and the way of its response, whatever version is spoken with the client.
pub(crate) trait Front {
    /// The head.
    fn request(&self) -> Request<'_>;

    /// Sets the most content that is taken.
    fn limit_body(&self, bytes: u64);

    /// The next piece of the request's content; `None` at its end.
    ///
    /// # Errors
    /// Why there will not be a whole content: the client is gone, broke the coding, or sent too much.
    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Reason>>;

    /// Trailer lines (`Name: value CRLF`...), once the content has ended.
    fn with_trailers(&self, f: &mut dyn FnMut(&[u8]));

    /// Sends an interim response (1xx other than 101).
    fn inform(&self, answer: &Answer<'_>);

    /// Begins the response. `upload_open`: the request's content has not ended, so a connection that has no other
    /// way to skip it cannot be used again.
    fn respond(&self, answer: &Answer<'_>, upload_open: bool);

    /// From here on both directions are bare bytes, until each ends. Called behind [`Front::respond`] for an upgrade.
    fn tunnel(&self);

    /// The socket that a tunnel is, where it is nothing but a socket: whoever asks moves the bytes from here on.
    fn bare(&self) -> Option<&Stream> {
        None
    }

    /// Sends content.
    fn send(&self, data: Chunk);

    /// Ends the response, with trailer lines or none.
    fn finish(&self, trailers: &[u8]);

    /// Ends the response so that the client cannot take it for whole.
    fn abort(&self);

    /// Sends what is held back.
    fn flush(&self);

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// The client is gone.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>>;

    /// Resolves when the client is gone. Only while nothing else is read from it.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// One request at a server and its response, whatever version is spoken with the server.
pub(crate) trait Back {
    /// Sends the request's head.
    fn send_head(&self, head: &Outbound<'_>);

    /// Sends content.
    fn send(&self, data: Chunk);

    /// Ends the request's content, with trailer lines or none.
    fn finish(&self, trailers: &[u8]);

    /// Sends what is held back.
    fn flush(&self);

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// The server takes no more. Its response may still come.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>>;

    /// Waits for a response's head, interim or final; then [`Back::with_response`] has it.
    ///
    /// # Errors
    /// What the server did instead.
    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<u16, Reason>>;

    /// Calls `f` with the last head received.
    fn with_response(&self, f: &mut dyn FnMut(Response<'_>));

    /// Behind an interim head: another one follows.
    fn next_head(&self);

    /// Behind the final head: its content follows, delimited so.
    fn begin_body(&self, body: Body);

    /// From here on both directions are bare bytes.
    fn tunnel(&self);

    /// The socket that a tunnel is, where it is nothing but a socket: whoever asks moves the bytes from here on.
    fn bare(&self) -> Option<&Stream> {
        None
    }

    /// The next piece of the response's content; `None` at its end.
    ///
    /// # Errors
    /// Why it is not whole.
    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Reason>>;

    /// Trailer lines, once the content has ended.
    fn with_trailers(&self, f: &mut dyn FnMut(&[u8]));

    /// Whether any byte of a response has come.
    fn heard(&self) -> bool;

    /// Whether the server has surely done nothing about the request, though it was sent.
    fn is_unprocessed(&self) -> bool {
        false
    }
}

/// A request's head as the server gets it.
pub(crate) struct Outbound<'a> {
    pub(crate) request: Request<'a>,
    /// Path and query, in parts.
    pub(crate) target: &'a [&'a [u8]],
    /// What `Host` (or `:authority`) says.
    pub(crate) host: &'a [u8],
    /// `Host` must be written, because it is not what the client's field says.
    pub(crate) host_is_new: bool,
    pub(crate) body: Body,
    /// The client asks for an upgrade and may have it.
    pub(crate) upgrade: bool,
    pub(crate) edits: &'a Edits,
    pub(crate) forwarded: &'a ForwardedPlan,
    pub(crate) info: &'a ClientInfo,
    pub(crate) client: Client,
    /// Carries who the client is by its certificate; taken from nobody else.
    pub(crate) identity_header: Option<&'a str>,
}

impl Outbound<'_> {
    /// Whether a field of the client's head is sent on. The codec's own (framing, connection) are not.
    pub(crate) fn keeps(&self, field: &Field<'_>) -> bool {
        let fields = self.request.head.fields();
        match field.id {
            Name::Other if self.is_identity(field) => return false,
            Name::Host => return !self.host_is_new,
            Name::ContentLength => return matches!(self.body, Body::Length(_) | Body::None),
            id if id.is_hop_by_hop() => return false,
            id if forwarded::replaces(self.forwarded, id) => return false,
            // What a stranger claims about its client is not for servers that believe such fields.
            id if !self.client.trusted && forwarded::is_forwarding(id) => return false,
            _ => {}
        }
        // RFC 9110 §7.6.1: fields that Connection names are for this connection only.
        if fields.connection.names_fields && fields.connection_names(self.request.bytes, field.name)
        {
            return false;
        }
        !self.edits.drops(field)
    }

    /// A client may not say who it is by certificate.
    fn is_identity(&self, field: &Field<'_>) -> bool {
        self.identity_header
            .is_some_and(|name| field.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Fields to add, the codec's own aside.
    pub(crate) fn adds(&self, mut put: impl FnMut(&[u8], &[&[u8]])) {
        forwarded::write(
            self.forwarded,
            self.info,
            self.client,
            self.request,
            &mut put,
        );
        // RFC 9110 §10.1.4: TE speaks of one connection; trailers are passed on, so the answer is the client's.
        if self.request.head.fields().te_trailers {
            put(b"TE", &[b"trailers"]);
        }
        if let (Some(name), Some(identity)) = (
            self.identity_header,
            self.info.tls.as_ref().and_then(|tls| tls.identity.as_ref()),
        ) {
            put(name.as_bytes(), &[identity.subject.as_bytes()]);
        }
        for (name, value) in self.edits.put() {
            put(name.as_bytes(), &[value.as_bytes()]);
        }
    }
}

/// A response's head as the client gets it.
pub(crate) struct Answer<'a> {
    pub(crate) response: Response<'a>,
    /// How the content that follows is delimited.
    pub(crate) body: Body,
    /// 101, and the client asked for it.
    pub(crate) upgrade: bool,
    /// `None` for what Fathom says itself.
    pub(crate) edits: Option<&'a Edits>,
}

impl Answer<'_> {
    pub(crate) fn status(&self) -> u16 {
        self.response.head.status()
    }

    /// Whether a field of the server's head is sent on. The codec's own (framing, connection) are not.
    pub(crate) fn keeps(&self, field: &Field<'_>) -> bool {
        let fields = self.response.head.fields();
        match field.id {
            Name::Other => {}
            // RFC 9110 §8.6: MUST NOT send Content-Length with 1xx or 204.
            Name::ContentLength => return self.status() >= 200 && self.status() != 204,
            id if id.is_hop_by_hop() => return false,
            _ => {}
        }
        if fields.connection.names_fields
            && fields.connection_names(self.response.bytes, field.name)
        {
            return false;
        }
        self.edits.is_none_or(|edits| !edits.drops(field))
    }

    /// Fields to add, the codec's own aside.
    pub(crate) fn adds(&self, mut put: impl FnMut(&[u8], &[&[u8]])) {
        if let Some(edits) = self.edits {
            for (name, value) in edits.put() {
                put(name.as_bytes(), &[value.as_bytes()]);
            }
        }
    }
}
