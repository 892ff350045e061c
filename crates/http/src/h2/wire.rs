//! A connection's bytes as the `h2` crate wants them: frames metered on the way in, written together on the way out.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use fathom_codec::h2::Meter;
use fathom_io::{clock, scratch};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::link::Link;

/// More than this not yet sent, and frames wait.
const QUEUED: usize = 128 << 10;
/// Frames are held back until there are so many bytes of them, or the connection has nothing more to say.
const TOGETHER: usize = 64 << 10;

/// What is seen of a connection from outside of the `h2` crate.
#[derive(Debug)]
pub(crate) struct Watch {
    meter: RefCell<Meter>,
    /// The peer has closed or broken its side.
    gone: Cell<bool>,
    /// Wait for the peer's SETTINGS.
    waiting: RefCell<Vec<Waker>>,
}

impl Watch {
    /// `preface`: bytes of the peer's that come before its frames.
    pub(crate) fn new(preface: usize) -> Rc<Self> {
        Rc::new(Self {
            meter: RefCell::new(Meter::new(preface, clock::now().0)),
            gone: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// Whether the peer floods. Nothing more is read from it.
    pub(crate) fn is_flood(&self) -> bool {
        self.meter.borrow().is_flood()
    }

    /// See [`Meter::in_head`].
    pub(crate) fn in_head(&self) -> bool {
        self.meter.borrow().in_head()
    }

    /// Whether the peer's SETTINGS have come.
    pub(crate) fn is_settled(&self) -> bool {
        self.meter.borrow().has_settings()
    }

    /// Waits for the peer's SETTINGS, or the end of the connection.
    pub(crate) fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.meter.borrow().has_settings() || self.gone.get() {
            return Poll::Ready(());
        }
        self.waiting.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the peer takes no new streams: it said so, or has closed or broken its side.
    pub(crate) fn is_left(&self) -> bool {
        self.gone.get() || self.meter.borrow().is_leaving()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Wire {
    link: Rc<Link>,
    watch: Rc<Watch>,
    out: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(link: Rc<Link>, watch: Rc<Watch>) -> Self {
        Self {
            link,
            watch,
            out: Vec::new(),
        }
    }

    fn push(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.watch.meter.borrow_mut().sent(self.out.len());
        self.link.write_vec(std::mem::take(&mut self.out))
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() >= TOGETHER {
            self.push()?;
        }
        ready!(self.link.poll_writable(cx, QUEUED))?;
        if self.out.capacity() == 0 {
            self.out = scratch();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let watch = &self.watch;
        if watch.is_flood() {
            // Whoever watches is in the same task, and acts before it is polled again.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = ready!(self.link.poll_read_into(cx, buf));
        let new = &buf.filled()[before..];
        if new.is_empty() || result.is_err() {
            watch.gone.set(true);
        }
        let mut meter = watch.meter.borrow_mut();
        meter.received(new, clock::now().0);
        if meter.is_flood() {
            cx.waker().wake_by_ref();
        }
        if (meter.has_settings() || watch.gone.get()) && !watch.waiting.borrow().is_empty() {
            watch.waiting.take().into_iter().for_each(Waker::wake);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_take(cx))?;
        self.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_take(cx))?;
        for buf in bufs {
            self.out.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bufs.iter().map(|b| b.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written moves on by itself: nothing to wait for.
    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.push())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pushed = self.push();
        self.link.shutdown_write();
        Poll::Ready(pushed)
    }
}
