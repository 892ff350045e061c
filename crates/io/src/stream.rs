//! A connection, whichever driver moves its bytes.

use std::cell::{OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use fathom_core::Tick;

use crate::splice::Pipe;
use crate::write_side::WriteSide;
use crate::{Chunk, ConnectOptions, Outgoing, Target, epoll, spawn, sys, timer, uring, worker};

/// How long a dropped stream may take to send what it still has queued.
pub(crate) const LINGER: Duration = Duration::from_secs(30);
/// How long [`Stream::linger`] waits for the peer to close.
const LINGER_READING: Duration = Duration::from_secs(2);
/// How much [`Stream::linger`] reads and throws away.
const LINGER_BYTES: usize = 1 << 20;

/// A connected stream socket. Methods take `&self`: its two sides may be used at the same time,
/// each by one task at a time.
///
/// Dropping it closes it gracefully, after what is queued.
#[derive(Debug)]
pub struct Stream {
    driven: Driven,
    /// Given back by [`Stream::unread`].
    unread: RefCell<Option<Chunk>>,
    local: OnceCell<SocketAddr>,
    peer: OnceCell<SocketAddr>,
}

#[derive(Debug)]
pub(crate) enum Driven {
    Epoll(epoll::Stream),
    Uring(uring::Stream),
}

/// How the peer left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It sent FIN: it will send nothing more, but may still be reading.
    Closed,
    /// The connection broke.
    Reset,
}

/// Runs `$body` with `$stream` bound to the driver's stream.
macro_rules! driven {
    ($self:expr, $stream:ident => $body:expr) => {
        match &$self.driven {
            Driven::Epoll($stream) => $body,
            Driven::Uring($stream) => $body,
        }
    };
}

impl Stream {
    /// Connects. There is no timeout in it: dropping the future gives up.
    ///
    /// # Errors
    /// As the kernel says; `WouldBlock` when a unix-socket server's backlog is full.
    pub async fn connect(target: Target<'_>, options: &ConnectOptions) -> io::Result<Self> {
        let driven = match uring::current() {
            Some(ring) => Driven::Uring(uring::Stream::connect(&ring, target, options).await?),
            None => Driven::Epoll(epoll::Stream::connect(target, options).await?),
        };
        let peer = match target {
            Target::Ip(address) => address,
            Target::Unix(_) => sys::UNSPECIFIED,
        };
        Ok(Self::accepted(driven, peer))
    }

    pub(crate) fn accepted(driven: Driven, peer: SocketAddr) -> Self {
        Self {
            driven,
            unread: RefCell::new(None),
            local: OnceCell::new(),
            peer: OnceCell::from(peer),
        }
    }

    /// Some bytes, as soon as there are any; an empty chunk at the end of the stream. Cancel-safe.
    /// While it waits it holds no buffer.
    ///
    /// # Errors
    /// `ConnectionReset` when the peer broke the connection.
    pub async fn read(&self) -> io::Result<Chunk> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// As [`Stream::read`].
    ///
    /// # Errors
    /// The same.
    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        if let Some(chunk) = self.unread.borrow_mut().take() {
            return Poll::Ready(Ok(chunk));
        }
        let result = std::task::ready!(driven!(self, stream => stream.poll_read(cx)));
        // The kernel tells of a reset once. When a write was told, the reader still must not take
        // a broken connection for a closed one.
        Poll::Ready(match result {
            Ok(chunk) if chunk.is_empty() && self.out().was_reset() => {
                Err(io::Error::from_raw_os_error(libc::ECONNRESET))
            }
            result => result,
        })
    }

    /// What has arrived already; `None` = nothing yet.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub fn try_read(&self) -> io::Result<Option<Chunk>> {
        if let Some(chunk) = self.unread.borrow_mut().take() {
            return Ok(Some(chunk));
        }
        driven!(self, stream => stream.try_read())
    }

    /// Puts bytes back, to be read again first.
    pub fn unread(&self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        let mut slot = self.unread.borrow_mut();
        *slot = Some(match slot.take() {
            None => chunk,
            Some(later) => Chunk::copy_of(&[&*chunk, &*later].concat()),
        });
    }

    /// Sends, or queues what the kernel does not take at once; never waits. Look at
    /// [`Stream::queued`] to not queue without bound.
    ///
    /// # Errors
    /// When an earlier or this write failed. Some errors only show at the next call.
    pub fn write(&self, data: impl Into<Outgoing>) -> io::Result<()> {
        driven!(self, stream => stream.write(data.into()))
    }

    /// As [`Stream::write`], leaving `data` with the caller.
    ///
    /// # Errors
    /// The same.
    pub fn write_copy(&self, data: &[u8]) -> io::Result<()> {
        driven!(self, stream => stream.write_copy(data))
    }

    /// While the guard lives, writes are only queued; then they go out in one call. For a message
    /// made of several pieces.
    pub fn cork(&self) -> Cork<'_> {
        let corks = &self.out().corks;
        corks.set(corks.get() + 1);
        Cork(self)
    }

    /// Bytes written that the kernel has not taken yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.out().queued()
    }

    /// Waits until fewer than `below` bytes are queued.
    ///
    /// # Errors
    /// When writing failed.
    pub async fn writable(&self, below: usize) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx, below)).await
    }

    /// As [`Stream::writable`].
    ///
    /// # Errors
    /// The same.
    pub fn poll_writable(&self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>> {
        self.out().poll_below(cx, below)
    }

    /// Waits until nothing is queued.
    ///
    /// # Errors
    /// When writing failed.
    pub async fn flush(&self) -> io::Result<()> {
        self.writable(1).await
    }

    /// Sends FIN after what is queued. The reading side goes on.
    pub fn shutdown_write(&self) {
        driven!(self, stream => stream.shutdown_write());
    }

    /// Breaks the connection now, with RST; what is queued is thrown away.
    pub fn reset(self) {
        self.abort();
    }

    /// As [`Stream::reset`], for a stream that is borrowed: the RST is sent when the last
    /// holder lets go of it.
    pub fn abort(&self) {
        driven!(self, stream => stream.reset());
    }

    /// Resolves when the peer closed or broke the connection; takes no data. For use while waiting
    /// for something other than data, instead of [`Stream::read`].
    pub async fn peer_gone(&self) -> Gone {
        poll_fn(|cx| self.poll_gone(cx)).await
    }

    /// As [`Stream::peer_gone`].
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        driven!(self, stream => stream.poll_gone(cx))
    }

    /// Closes so that the peer surely gets what was written, although it may still be sending:
    /// FIN, then read and throw away for a moment until the peer closes. (A plain close with
    /// unread data sends RST, which destroys what the peer has not read yet.)
    pub fn linger(self) {
        self.shutdown_write();
        if !worker::is_running() {
            return;
        }
        spawn(async move {
            let drained = async {
                let mut left = LINGER_BYTES;
                while let Ok(chunk) = self.read().await {
                    if chunk.is_empty() || chunk.len() > left {
                        break;
                    }
                    left -= chunk.len();
                }
            };
            let _ = timer::timeout(LINGER_READING, drained).await;
        });
    }

    /// This side's address; unspecified for a unix socket.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        *self.local.get_or_init(|| sys::local_addr(self.fd()))
    }

    /// The other side's address; unspecified for a unix socket.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        *self.peer.get_or_init(|| sys::peer_addr(self.fd()))
    }

    /// The socket, for options. Not to be read from or written to.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        driven!(self, stream => stream.fd())
    }

    /// When the kernel last took something that had been queued.
    pub(crate) fn last_sent(&self) -> Tick {
        self.out().last_sent.get()
    }

    /// Whether all that was received has been read, so that the rest may be taken from the socket
    /// itself.
    pub(crate) fn can_splice(&self) -> bool {
        self.unread.borrow().is_none() && driven!(self, stream => stream.can_splice())
    }

    /// Fills the pipe from the socket; 0 = end of stream. Only after [`Stream::can_splice`].
    pub(crate) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        driven!(self, stream => stream.poll_fill(cx, pipe))
    }

    /// Empties the pipe into the socket. Only while nothing is queued.
    pub(crate) fn poll_empty(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        driven!(self, stream => stream.poll_empty(cx, pipe))
    }

    fn out(&self) -> &WriteSide {
        driven!(self, stream => stream.out())
    }
}

/// See [`Stream::cork`].
#[derive(Debug)]
#[must_use = "writes are held back only while it lives"]
pub struct Cork<'a>(&'a Stream);

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        let corks = &self.0.out().corks;
        corks.set(corks.get() - 1);
        if corks.get() == 0 {
            driven!(self.0, stream => stream.uncorked());
        }
    }
}
