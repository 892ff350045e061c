//! A byte stream to a client or server: a plain socket, or TLS over one, used in the same way.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use fathom_io::{Chunk, Gone, Outgoing, Stream, timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long a closing TLS stream may take to send what it has queued, and to hear the peer's close.
const CLOSING: Duration = Duration::from_secs(30);
const LINGER_READING: Duration = Duration::from_secs(2);
/// One TLS record.
const RECORD: usize = 16 << 10;

/// What TLS streams are.
pub trait SecureIo: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> SecureIo for T {}

/// A connection.
#[derive(Debug)]
pub enum Link {
    /// Cleartext.
    Plain(Stream),
    /// TLS.
    Tls(Box<Secure>),
}

/// A TLS stream with the interface of [`Stream`].
pub struct Secure {
    io: RefCell<Box<dyn SecureIo>>,
    /// Read already, or put back.
    ahead: RefCell<Option<Chunk>>,
    /// The peer closed or broke: what reading says from now on.
    ended: RefCell<Option<io::Result<()>>>,
    /// Not yet taken by the TLS stream, and how much of it is gone.
    out: RefCell<(Vec<u8>, usize)>,
    corks: Cell<u32>,
    failed: Cell<bool>,
    fin: Cell<bool>,
    /// Of the task that last waited: what a write registers with the socket must wake it, not replace it.
    waiter: Cell<Waker>,
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").finish_non_exhaustive()
    }
}

/// While it lives, writes are held back to go out together.
pub(crate) enum Cork<'a> {
    Plain { _cork: fathom_io::Cork<'a> },
    Tls(&'a Secure),
}

impl From<Stream> for Link {
    fn from(stream: Stream) -> Self {
        Self::Plain(stream)
    }
}

impl Link {
    /// A TLS stream after its handshake.
    #[must_use]
    pub fn tls(io: impl SecureIo + 'static) -> Self {
        Self::Tls(Box::new(Secure {
            io: RefCell::new(Box::new(io)),
            ahead: RefCell::default(),
            ended: RefCell::default(),
            out: RefCell::default(),
            corks: Cell::new(0),
            failed: Cell::new(false),
            fin: Cell::new(false),
            waiter: Cell::new(Waker::noop().clone()),
        }))
    }

    /// See [`Stream::poll_read`].
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        match self {
            Self::Plain(stream) => stream.poll_read(cx),
            Self::Tls(secure) => secure.poll_read(cx),
        }
    }

    /// See [`Stream::try_read`].
    pub(crate) fn try_read(&self) -> io::Result<Option<Chunk>> {
        match self {
            Self::Plain(stream) => stream.try_read(),
            Self::Tls(secure) => match secure.as_waiter(|cx| secure.poll_read(cx)) {
                Poll::Ready(result) => result.map(Some),
                Poll::Pending => Ok(None),
            },
        }
    }

    /// See [`Stream::unread`].
    pub(crate) fn unread(&self, chunk: Chunk) {
        match self {
            Self::Plain(stream) => stream.unread(chunk),
            Self::Tls(secure) => secure.unread(chunk),
        }
    }

    /// See [`Stream::write`].
    pub(crate) fn write(&self, data: impl AsRef<[u8]> + Into<Outgoing>) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write(data),
            Self::Tls(secure) => secure.write(data.as_ref()),
        }
    }

    /// As [`Link::write`], for bytes that were put together for it.
    pub(crate) fn write_vec(&self, data: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write(data),
            Self::Tls(secure) => secure.write_vec(data),
        }
    }

    /// As [`Link::poll_read`], into the caller's memory.
    pub(crate) fn poll_read_into(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Self::Tls(secure) = self
            && secure.ahead.borrow().is_none()
            && secure.ended.borrow().is_none()
        {
            secure.pump(cx);
            return Pin::new(&mut **secure.io.borrow_mut()).poll_read(cx, buf);
        }
        let mut chunk = ready!(self.poll_read(cx))?;
        let n = chunk.len().min(buf.remaining());
        buf.put_slice(&chunk[..n]);
        chunk.advance(n);
        self.unread(chunk);
        Poll::Ready(Ok(()))
    }

    /// See [`Stream::cork`].
    pub(crate) fn cork(&self) -> Cork<'_> {
        match self {
            Self::Plain(stream) => Cork::Plain {
                _cork: stream.cork(),
            },
            Self::Tls(secure) => {
                secure.corks.set(secure.corks.get() + 1);
                Cork::Tls(secure)
            }
        }
    }

    /// See [`Stream::poll_writable`].
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_writable(cx, below),
            Self::Tls(secure) => secure.poll_writable(cx, below),
        }
    }

    /// See [`Stream::poll_gone`].
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        match self {
            Self::Plain(stream) => stream.poll_gone(cx),
            Self::Tls(secure) => secure.poll_gone(cx),
        }
    }

    /// See [`Stream::shutdown_write`].
    pub(crate) fn shutdown_write(&self) {
        match self {
            Self::Plain(stream) => stream.shutdown_write(),
            Self::Tls(secure) => {
                secure.fin.set(true);
                secure.push();
            }
        }
    }

    /// The task that used it goes on without it: nothing of it is held.
    pub(crate) fn rest(&self) {
        if let Self::Tls(secure) = self {
            secure.waiter.set(Waker::noop().clone());
        }
    }

    /// Closes without a close of the content: a plain stream with RST, a TLS stream without `close_notify`.
    pub(crate) fn abort(&self) {
        match self {
            Self::Plain(stream) => stream.abort(),
            Self::Tls(secure) => {
                secure.failed.set(true);
                secure.out.borrow_mut().0.clear();
            }
        }
    }

    /// Closes after what is queued; a peer that is still sending gets what was written all the same.
    /// See [`Stream::linger`].
    pub(crate) fn linger(self) {
        match self {
            Self::Plain(stream) => stream.linger(),
            Self::Tls(secure) => {
                fathom_io::spawn(async move {
                    secure.close().await;
                    let drained = async {
                        while matches!(poll_fn(|cx| secure.poll_read(cx)).await, Ok(chunk) if !chunk.is_empty())
                        {
                        }
                    };
                    let _ = timer::timeout(LINGER_READING, drained).await;
                });
            }
        }
    }

    /// Closes after what is queued.
    pub(crate) fn close(self) {
        if let Self::Tls(secure) = self {
            secure.fin.set(true);
            if !secure.push() {
                fathom_io::spawn(async move { secure.close().await });
            }
        }
    }
}

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        if let Self::Tls(secure) = self {
            secure.corks.set(secure.corks.get() - 1);
            secure.push();
        }
    }
}

thread_local! {
    /// What TLS decrypts into; copied out at once, so that a connection that waits holds no buffer.
    static PLAINTEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; RECORD]);
}

impl Secure {
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        if let Some(chunk) = self.ahead.borrow_mut().take() {
            return Poll::Ready(Ok(chunk));
        }
        if let Some(end) = &*self.ended.borrow() {
            return Poll::Ready(match end {
                Ok(()) => Ok(Chunk::default()),
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            });
        }
        // Also moves on what could not be written.
        self.pump(cx);
        PLAINTEXT.with_borrow_mut(|memory| {
            let mut buf = ReadBuf::new(memory);
            let read = ready!(Pin::new(&mut **self.io.borrow_mut()).poll_read(cx, &mut buf));
            Poll::Ready(read.map(|()| Chunk::copy_of(buf.filled())))
        })
    }

    fn unread(&self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        let mut slot = self.ahead.borrow_mut();
        *slot = Some(match slot.take() {
            None => chunk,
            Some(later) => Chunk::copy_of(&[&*chunk, &*later].concat()),
        });
    }

    fn write(&self, data: &[u8]) -> io::Result<()> {
        if self.failed.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.out.borrow_mut().0.extend_from_slice(data);
        if self.corks.get() == 0 {
            self.push();
        }
        Ok(())
    }

    fn write_vec(&self, data: Vec<u8>) -> io::Result<()> {
        {
            let mut out = self.out.borrow_mut();
            if !out.0.is_empty() {
                drop(out);
                return self.write(&data);
            }
            *out = (data, 0);
        }
        if self.failed.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.corks.get() == 0 {
            self.push();
        }
        Ok(())
    }

    /// Polls in the name of the task that last waited.
    fn as_waiter<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let waker = self.waiter.replace(Waker::noop().clone());
        let result = poll(&mut Context::from_waker(&waker));
        self.waiter.set(waker);
        result
    }

    /// As [`Secure::pump`], where nobody waits.
    fn push(&self) -> bool {
        self.as_waiter(|cx| self.drive(cx))
    }

    /// Gives the TLS stream what it takes; whether nothing is left.
    fn pump(&self, cx: &mut Context<'_>) -> bool {
        if cx.waker().will_wake(Waker::noop()) {
            return self.push();
        }
        let waiter = self.waiter.replace(Waker::noop().clone());
        self.waiter.set(if waiter.will_wake(cx.waker()) {
            waiter
        } else {
            cx.waker().clone()
        });
        self.drive(cx)
    }

    fn drive(&self, cx: &mut Context<'_>) -> bool {
        let mut out = self.out.borrow_mut();
        let (bytes, gone) = &mut *out;
        let mut io = self.io.borrow_mut();
        while *gone < bytes.len() && !self.failed.get() {
            match Pin::new(&mut **io).poll_write(cx, &bytes[*gone..]) {
                Poll::Ready(Ok(n)) if n > 0 => *gone += n,
                Poll::Ready(_) => self.failed.set(true),
                Poll::Pending => return false,
            }
        }
        // Idle connections hold no buffer.
        let (bytes, _) = std::mem::take(&mut *out);
        fathom_io::buffer::recycle(bytes);
        if self.failed.get() {
            return true;
        }
        let flushed = Pin::new(&mut **io).poll_flush(cx).is_ready();
        if flushed && self.fin.replace(false) && Pin::new(&mut **io).poll_shutdown(cx).is_pending()
        {
            self.fin.set(true);
            return false;
        }
        flushed
    }

    fn poll_writable(&self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>> {
        let all = self.pump(cx);
        if self.failed.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let out = self.out.borrow();
        if all || out.0.len() - out.1 < below {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// TLS cannot tell a close without reading: one chunk is read ahead.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.ahead.borrow().is_some() {
            return Poll::Pending;
        }
        match ready!(self.poll_read(cx)) {
            Ok(chunk) if chunk.is_empty() => {
                *self.ended.borrow_mut() = Some(Ok(()));
                Poll::Ready(Gone::Closed)
            }
            Ok(chunk) => {
                self.unread(chunk);
                Poll::Pending
            }
            Err(e) => {
                *self.ended.borrow_mut() = Some(Err(e));
                Poll::Ready(Gone::Reset)
            }
        }
    }

    async fn close(&self) {
        self.fin.set(true);
        let closed = poll_fn(|cx| {
            if self.pump(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let _ = timer::timeout(CLOSING, closed).await;
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    /// Takes nothing, and keeps the last waker given to it, as a socket does.
    #[derive(Default)]
    struct Full {
        reader: Rc<Cell<Option<Waker>>>,
        writer: Rc<Cell<Option<Waker>>>,
    }

    impl AsyncRead for Full {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.reader.set(Some(cx.waker().clone()));
            Poll::Pending
        }
    }

    impl AsyncWrite for Full {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writer.set(Some(cx.waker().clone()));
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_nobody_waits_for_takes_no_wake_up_from_who_waits() {
        let full = Full::default();
        let (reader, writer) = (full.reader.clone(), full.writer.clone());
        let link = Link::tls(full);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        link.write(b"abc").unwrap();
        assert!(link.poll_writable(&mut cx, 1).is_pending());
        assert!(link.poll_read(&mut cx).is_pending());
        let mut expected = 0;
        let mut woken = |slot: &Cell<Option<Waker>>| {
            slot.take().unwrap().wake();
            expected += 1;
            assert_eq!(count.0.load(Ordering::Relaxed), expected);
        };
        link.write(b"def").unwrap();
        woken(&writer);
        link.write_vec(b"ghi".to_vec()).unwrap();
        woken(&writer);
        drop(link.cork());
        woken(&writer);
        assert!(link.try_read().unwrap().is_none());
        woken(&reader);
        link.shutdown_write();
        woken(&writer);
        drop(waker);
        link.rest();
        assert_eq!(Arc::strong_count(&count), 1);
    }
}
