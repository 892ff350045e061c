//! The epoll driver: plain non-blocking sockets, readiness from tokio's own epoll.
//!
//! A write is tried at once; what the kernel does not take is queued, and a task that lives as
//! long as something is queued sends the rest.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::task::AbortHandle;

use crate::buffer::{self, Chunk, SIZES};
use crate::outgoing::Outgoing;
use crate::splice::Pipe;
use crate::stream::{Gone, LINGER};
use crate::write_side::WriteSide;
use crate::{ConnectOptions, Target, connect, spawn, sys, timer, worker};

#[derive(Debug)]
pub(crate) struct Stream(Rc<Conn>);

#[derive(Debug)]
struct Conn {
    fd: AsyncFd<OwnedFd>,
    /// Data may be waiting although the readiness flag was cleared.
    maybe_readable: Cell<bool>,
    /// Size class of the next read buffer.
    class: Cell<u8>,
    out: WriteSide,
    /// The task that is sending what is queued.
    flusher: RefCell<Option<AbortHandle>>,
    /// The stream was reset: the socket closes with RST, whoever still holds it.
    aborted: Cell<bool>,
}

impl Stream {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: an `OwnedFd` gives the same open descriptor until it is dropped, and the
        // `AsyncFd` alone owns it from here on.
        let fd = unsafe { AsyncFd::register_with_interest(fd, interest)? };
        Ok(Self(Rc::new(Conn {
            fd,
            maybe_readable: Cell::new(false),
            class: Cell::new(0),
            out: WriteSide::default(),
            flusher: RefCell::default(),
            aborted: Cell::new(false),
        })))
    }

    pub(crate) async fn connect(target: Target<'_>, options: &ConnectOptions) -> io::Result<Self> {
        let (socket, address) = connect::prepare(target, options, true)?;
        let pending = match socket.connect(&address) {
            Ok(()) => false,
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => true,
            Err(e) => return Err(e),
        };
        let stream = Self::new(socket.into())?;
        if pending {
            // Writable before the handshake ended cannot be: the flag comes from the kernel alone.
            let guard = stream.0.fd.writable().await?;
            drop(guard);
            sys::take_error(stream.fd())?;
        }
        Ok(stream)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.get_ref().as_fd()
    }

    pub(crate) fn out(&self) -> &WriteSide {
        &self.0.out
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let conn = &*self.0;
        loop {
            let mut guard = if conn.maybe_readable.get() {
                None
            } else {
                Some(ready!(conn.fd.poll_read_ready(cx))?)
            };
            // The buffer is taken when there is something to read, never before.
            match conn.recv() {
                Ok(chunk) => {
                    if chunk.len() < SIZES[0] && !chunk.is_empty() {
                        // A short read emptied the socket; without this the next read would ask
                        // the kernel only to hear so. What came since has set the flag anew.
                        conn.maybe_readable.set(false);
                        if let Some(guard) = &mut guard {
                            guard.clear_ready_matching(Ready::READABLE);
                        }
                    }
                    return Poll::Ready(Ok(chunk));
                }
                Err(e) if sys::is_would_block(&e) => {
                    conn.maybe_readable.set(false);
                    if let Some(guard) = &mut guard {
                        guard.clear_ready();
                    }
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    pub(crate) fn try_read(&self) -> io::Result<Option<Chunk>> {
        let conn = &*self.0;
        let result = if conn.maybe_readable.get() {
            conn.recv()
        } else {
            conn.fd.try_io(Interest::READABLE, |_| conn.recv())
        };
        match result {
            Ok(chunk) => Ok(Some(chunk)),
            Err(e) if sys::is_would_block(&e) => {
                conn.maybe_readable.set(false);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        let conn = &*self.0;
        loop {
            let Ok(mut guard) = ready!(conn.fd.poll_read_ready(cx)) else {
                return Poll::Ready(Gone::Reset);
            };
            if guard.ready().is_read_closed() {
                return Poll::Ready(if sys::is_broken(self.fd()) {
                    Gone::Reset
                } else {
                    Gone::Closed
                });
            }
            // Data, which stays where it is.
            conn.maybe_readable.set(true);
            guard.clear_ready();
        }
    }

    pub(crate) fn can_splice(&self) -> bool {
        true
    }

    pub(crate) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let conn = &*self.0;
        loop {
            let mut guard = ready!(conn.fd.poll_read_ready(cx))?;
            match pipe.fill(self.fd()) {
                Err(e) if sys::is_would_block(&e) => guard.clear_ready(),
                result => return Poll::Ready(result),
            }
        }
    }

    pub(crate) fn poll_empty(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let conn = &*self.0;
        loop {
            let mut guard = ready!(conn.fd.poll_write_ready(cx))?;
            match pipe.empty(self.fd()) {
                Err(e) if sys::is_would_block(&e) => guard.clear_ready(),
                result => return Poll::Ready(result),
            }
        }
    }

    pub(crate) fn write(&self, mut data: Outgoing) -> io::Result<()> {
        let conn = &self.0;
        conn.out.check()?;
        if conn.sends_at_once() {
            let sent = conn.send(data.as_slice())?;
            if sent == data.len() {
                return Ok(());
            }
            data.advance(sent);
        }
        conn.out.queue.borrow_mut().push_compact(data, 0);
        self.start_flushing();
        Ok(())
    }

    pub(crate) fn write_copy(&self, mut data: &[u8]) -> io::Result<()> {
        let conn = &self.0;
        conn.out.check()?;
        if conn.sends_at_once() {
            data = &data[conn.send(data)?..];
            if data.is_empty() {
                return Ok(());
            }
        }
        conn.out.queue.borrow_mut().push_copy(data, 0);
        self.start_flushing();
        Ok(())
    }

    /// The last cork is gone: one call for all that was written meanwhile.
    pub(crate) fn uncorked(&self) {
        let conn = &self.0;
        if conn.flusher.borrow().is_some() || conn.out.queued() == 0 {
            return;
        }
        match conn.send_queued() {
            Ok(()) => {}
            Err(e) if sys::is_would_block(&e) => self.start_flushing(),
            Err(e) => conn.fail(&e),
        }
    }

    pub(crate) fn shutdown_write(&self) {
        if self.0.out.fin.replace(true) {
            return;
        }
        if self.0.out.queued() == 0 {
            sys::shutdown_write(self.fd());
        }
    }

    pub(crate) fn reset(&self) {
        let conn = &self.0;
        sys::abort_on_close(self.fd());
        conn.aborted.set(true);
        conn.fail(&io::Error::from_raw_os_error(libc::ECONNABORTED));
        // It would wait, and hold the descriptor, for as long as the peer takes nothing.
        if let Some(flusher) = conn.flusher.take() {
            flusher.abort();
        }
    }

    fn start_flushing(&self) {
        let conn = &self.0;
        if conn.out.corks.get() == 0 && worker::is_running() && conn.flusher.borrow().is_none() {
            let task = spawn(Rc::clone(conn).flush());
            conn.flusher.replace(Some(task.abort_handle()));
        }
    }
}

impl Conn {
    fn recv(&self) -> io::Result<Chunk> {
        let class = usize::from(self.class.get());
        let mut memory = buffer::take(class);
        match sys::recv(self.fd.get_ref().as_fd(), &mut memory) {
            Ok(n) => {
                // A transfer that fills buffers gets larger ones: fewer calls per byte.
                if n == memory.len() {
                    self.class.set((class + 1).min(SIZES.len() - 1) as u8);
                } else if n < SIZES[0] {
                    self.class.set(0);
                }
                Ok(Chunk::pooled(memory, n))
            }
            Err(e) => {
                buffer::give_back(memory);
                Err(e)
            }
        }
    }

    fn fail(&self, error: &io::Error) {
        self.out.queue.borrow_mut().clear();
        self.out.fail(error);
    }

    fn sends_at_once(&self) -> bool {
        self.out.corks.get() == 0 && self.out.queued() == 0
    }

    /// What the kernel takes now; 0 when it is full.
    fn send(&self, data: &[u8]) -> io::Result<usize> {
        match sys::send(self.fd.get_ref().as_fd(), data) {
            Ok(n) => Ok(n),
            Err(e) if sys::is_would_block(&e) => Ok(0),
            Err(e) => {
                self.fail(&e);
                Err(e)
            }
        }
    }

    /// Sends until nothing is queued or the kernel is full (`WouldBlock`).
    fn send_queued(&self) -> io::Result<()> {
        let fd = self.fd.get_ref().as_fd();
        loop {
            let mut queue = self.out.queue.borrow_mut();
            let sent = match queue.pieces() {
                0 => break,
                1 => sys::send(fd, queue.front().map_or(&[][..], Outgoing::as_slice))?,
                _ => sys::send_vectored(fd, &queue.slices())?,
            };
            queue.advance(sent);
            drop(queue);
            self.out.progressed();
        }
        if self.out.fin.get() {
            sys::shutdown_write(fd);
        }
        Ok(())
    }

    /// The task that sends what is queued.
    async fn flush(self: Rc<Self>) {
        loop {
            let Ok(mut guard) = self.fd.writable().await else {
                break;
            };
            match self.send_queued() {
                Ok(()) => break,
                Err(e) if sys::is_would_block(&e) => guard.clear_ready(),
                Err(e) => {
                    self.fail(&e);
                    break;
                }
            }
        }
        self.flusher.take();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let conn = &self.0;
        if conn.out.queued() == 0 || conn.aborted.get() || !worker::is_running() {
            return;
        }
        conn.out.corks.set(0);
        self.start_flushing();
        // Closed when the rest is sent; not held for ever by a peer that takes nothing.
        let conn = Rc::clone(conn);
        spawn(async move {
            let sent = std::future::poll_fn(|cx| conn.out.poll_below(cx, 1));
            if timer::timeout(LINGER, sent).await.is_err() {
                let fd = conn.fd.get_ref().as_fd();
                sys::abort_on_close(fd);
                // Wakes the flushing task, which then fails and lets go.
                let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
            }
        });
    }
}

#[derive(Debug)]
pub(crate) struct Listener(AsyncFd<TcpListener>);

impl Listener {
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // SAFETY: a `TcpListener` gives the same open descriptor until it is dropped, and the
        // `AsyncFd` alone owns it from here on.
        Ok(Self(unsafe {
            AsyncFd::register_with_interest(listener, Interest::READABLE)?
        }))
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        loop {
            let mut guard = self.0.readable().await?;
            match sys::accept(self.0.get_ref().as_fd(), true) {
                Ok((fd, peer)) => return Ok((Stream::new(fd)?, peer)),
                Err(e) if sys::is_would_block(&e) => guard.clear_ready(),
                Err(e) => return Err(e),
            }
        }
    }

    /// What has been accepted ahead and needs no waiting.
    pub(crate) fn try_accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        match sys::accept(self.0.get_ref().as_fd(), true) {
            Ok((fd, peer)) => Ok(Some((Stream::new(fd)?, peer))),
            Err(e) if sys::is_would_block(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
