//! What a [`crate::Stream`] does on the ring.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::conn::Conn;
use super::ring::Ring;
use crate::outgoing::Outgoing;
use crate::splice::Pipe;
use crate::stream::{Gone, LINGER};
use crate::write_side::WriteSide;
use crate::{Chunk, ConnectOptions, Target, connect, spawn, sys, timer, worker};

#[derive(Debug)]
pub(crate) struct Stream(Rc<Conn>);

impl Stream {
    pub(super) fn new(ring: &Rc<Ring>, fd: OwnedFd) -> Self {
        Self(Conn::new(ring, fd))
    }

    pub(crate) async fn connect(
        ring: &Rc<Ring>,
        target: Target<'_>,
        options: &ConnectOptions,
    ) -> io::Result<Self> {
        // A unix socket connects at once or not at all; asked to block it would block the worker.
        let at_once = matches!(target, Target::Unix(_));
        let (socket, address) = connect::prepare(target, options, at_once)?;
        if at_once {
            socket.connect(&address)?;
            socket.set_nonblocking(false)?;
            return Ok(Self::new(ring, socket.into()));
        }
        // Dropped while connecting, it cancels and closes.
        let stream = Self::new(ring, socket.into());
        stream.0.start_connecting(address);
        poll_fn(|cx| stream.0.poll_connected(cx)).await?;
        Ok(stream)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd().as_fd()
    }

    pub(crate) fn out(&self) -> &WriteSide {
        &self.0.out
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.0.poll_read(cx)
    }

    pub(crate) fn try_read(&self) -> io::Result<Option<Chunk>> {
        self.0.try_read()
    }

    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.0.poll_gone(cx)
    }

    pub(crate) fn can_splice(&self) -> bool {
        self.0.can_splice()
    }

    pub(crate) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.0.poll_fill(cx, pipe)
    }

    pub(crate) fn poll_empty(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.0.poll_empty(cx, pipe)
    }

    pub(crate) fn write(&self, data: Outgoing) -> io::Result<()> {
        self.0.out.check()?;
        self.0
            .out
            .queue
            .borrow_mut()
            .push_compact(data, self.0.pieces_in_flight());
        self.0.mark_dirty();
        Ok(())
    }

    pub(crate) fn write_copy(&self, data: &[u8]) -> io::Result<()> {
        self.0.out.check()?;
        self.0
            .out
            .queue
            .borrow_mut()
            .push_copy(data, self.0.pieces_in_flight());
        self.0.mark_dirty();
        Ok(())
    }

    pub(crate) fn uncorked(&self) {
        if self.0.out.queued() > 0 {
            self.0.mark_dirty();
        }
    }

    pub(crate) fn shutdown_write(&self) {
        if !self.0.out.fin.replace(true) && self.0.out.queued() == 0 {
            sys::shutdown_write(self.fd());
        }
    }

    pub(crate) fn reset(&self) {
        self.0.abort();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let conn = &self.0;
        conn.close();
        if conn.out.queued() == 0 || conn.out.has_failed() || !worker::is_running() {
            return;
        }
        conn.mark_dirty();
        // Not held for ever by a peer that takes nothing.
        let conn = Rc::clone(conn);
        spawn(async move {
            let sent = poll_fn(|cx| conn.out.poll_below(cx, 1));
            if timer::timeout(LINGER, sent).await.is_err() {
                conn.abort_and_close();
            }
        });
    }
}
