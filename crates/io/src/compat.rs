//! A stream as tokio's `AsyncRead` and `AsyncWrite`, for TLS and HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Chunk, Stream};

/// More than this queued and a write waits.
const QUEUED_MOST: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub struct Compat {
    stream: Stream,
    /// What the last reader had no room for.
    rest: Chunk,
}

impl Compat {
    /// Wraps a stream.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            rest: Chunk::default(),
        }
    }

    /// The stream inside.
    #[must_use]
    pub fn get_ref(&self) -> &Stream {
        &self.stream
    }

    /// The stream again, with nothing lost.
    #[must_use]
    pub fn into_inner(self) -> Stream {
        self.stream.unread(self.rest);
        self.stream
    }
}

impl AsyncRead for Compat {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            this.rest = ready!(this.stream.poll_read(cx))?;
        }
        let n = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest[..n]);
        if n == this.rest.len() {
            this.rest = Chunk::default();
        } else {
            this.rest.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Compat {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_writable(cx, QUEUED_MOST))?;
        self.stream.write_copy(buf)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_writable(cx, QUEUED_MOST))?;
        let cork = self.stream.cork();
        for buf in bufs {
            self.stream.write_copy(buf)?;
        }
        drop(cork);
        Poll::Ready(Ok(bufs.iter().map(|b| b.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written moves on by itself: nothing to wait for.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
