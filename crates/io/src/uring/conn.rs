//! A connection's operations in flight and what they completed with.
//!
//! ```text
//! receiving:  multishot into lent buffers ──4 full buffers──> direct: readiness, then recv(2)
//!                  ^                                            into large buffers of our own
//!                  └────────────── a short read ────────────────┘
//! ```
//!
//! A consumer that falls behind has its multishot receive cancelled: a connection holds a few of
//! the lent buffers, never all.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use io_uring::{cqueue, opcode};
use smallvec::SmallVec;
use socket2::SockAddr;

use super::ring::{Op, Owner, Ring, fd_of};
use super::slots::{GROUP, SLOT};
use crate::buffer::{self, Chunk, SIZES};
use crate::splice::Pipe;
use crate::stream::Gone;
use crate::sys;
use crate::write_side::{WriteSide, set_waker};

/// Chunks that may wait for the reader before receiving stops.
const INBOX: usize = 8;
/// Full buffers in a row that make a transfer a long one.
const LONG: u8 = 4;
/// Pieces in one send.
const PIECES: usize = 16;

const READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
const GONE: u32 = libc::POLLRDHUP as u32;
const BROKEN: u32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32;

/// Where an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flight {
    #[default]
    Idle,
    Started,
    /// To be cancelled; its completion is still to come.
    Cancelling,
}

pub(super) struct Conn {
    ring: Rc<Ring>,
    index: u32,
    fd: OwnedFd,
    recv: Cell<Flight>,
    send: Cell<Flight>,
    poll: Cell<Flight>,
    poll_out: Cell<Flight>,
    connect: Cell<Flight>,
    /// What the poll in flight waits for.
    poll_for: Cell<u32>,
    /// errno of the last connect.
    connect_error: Cell<i32>,
    /// Receiving by recv(2).
    direct: Cell<bool>,
    /// The descriptor does not block (for splice): the ring gives `EAGAIN` where it would
    /// otherwise wait by itself, and receiving stays direct.
    nonblocking: Cell<bool>,
    /// Size class of the next direct receive.
    class: Cell<u8>,
    /// Full buffers in a row.
    full: Cell<u8>,
    /// A poll saw the peer leave.
    hung_up: Cell<bool>,
    eof: Cell<bool>,
    /// errno that ended receiving.
    error: Cell<i32>,
    inbox: RefCell<VecDeque<Chunk>>,
    reader: RefCell<Option<Waker>>,
    /// Who waits for room to splice into.
    writer: RefCell<Option<Waker>>,
    pub(super) out: WriteSide,
    /// In `Ring::dirty`.
    dirty: Cell<bool>,
    /// What a send of several pieces in flight points to.
    message: RefCell<Option<Box<Message>>>,
    /// Where to connect; the connect in flight points to it.
    address: RefCell<Option<Box<SockAddr>>>,
    closing: Cell<bool>,
    removed: Cell<bool>,
}

struct Message {
    header: libc::msghdr,
    slices: SmallVec<[libc::iovec; PIECES]>,
}

impl Conn {
    pub(super) fn new(ring: &Rc<Ring>, fd: OwnedFd) -> Rc<Self> {
        let mut made = None;
        ring.add(|index| {
            let conn = Rc::new(Self {
                ring: Rc::clone(ring),
                index,
                fd,
                recv: Cell::default(),
                send: Cell::default(),
                poll: Cell::default(),
                poll_out: Cell::default(),
                connect: Cell::default(),
                poll_for: Cell::new(0),
                connect_error: Cell::new(0),
                direct: Cell::new(false),
                nonblocking: Cell::new(false),
                class: Cell::new(0),
                full: Cell::new(0),
                hung_up: Cell::new(false),
                eof: Cell::new(false),
                error: Cell::new(0),
                inbox: RefCell::default(),
                reader: RefCell::default(),
                writer: RefCell::default(),
                out: WriteSide::default(),
                dirty: Cell::new(false),
                message: RefCell::default(),
                address: RefCell::default(),
                closing: Cell::new(false),
                removed: Cell::new(false),
            });
            made = Some(Rc::clone(&conn));
            Owner::Conn(conn)
        });
        made.expect("add() calls once")
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    // Connecting.

    pub(super) fn start_connecting(&self, address: SockAddr) {
        let address = Box::new(address);
        let entry =
            opcode::Connect::new(fd_of(&self.fd), address.as_ptr().cast(), address.len()).build();
        *self.address.borrow_mut() = Some(address);
        self.connect.set(Flight::Started);
        self.ring.start(self.index, Op::Connect, entry);
    }

    pub(super) fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connect.get() != Flight::Idle {
            set_waker(&self.reader, cx);
            return Poll::Pending;
        }
        Poll::Ready(match self.connect_error.get() {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        })
    }

    // Receiving.

    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        if self.direct.get() && self.recv.get() == Flight::Idle {
            // Reading straight from the kernel, a task with a fast sender would never let another
            // run, nor the pump.
            ready!(pin!(tokio::task::coop::consume_budget()).poll(cx));
        }
        if let Some(chunk) = self.take_read()? {
            return Poll::Ready(Ok(chunk));
        }
        set_waker(&self.reader, cx);
        if self.recv.get() == Flight::Idle {
            if self.direct.get() {
                self.start_polling(READABLE);
            } else {
                self.start_receiving();
            }
        }
        Poll::Pending
    }

    pub(super) fn try_read(&self) -> io::Result<Option<Chunk>> {
        let result = self.take_read()?;
        if result.is_none() && self.recv.get() == Flight::Idle && !self.direct.get() {
            self.start_receiving();
        }
        Ok(result)
    }

    /// What can be had without waiting.
    fn take_read(&self) -> io::Result<Option<Chunk>> {
        if let Some(chunk) = self.inbox.borrow_mut().pop_front() {
            return Ok(Some(chunk));
        }
        if self.error.get() != 0 {
            return Err(io::Error::from_raw_os_error(self.error.get()));
        }
        if self.eof.get() {
            return Ok(Some(Chunk::default()));
        }
        if self.direct.get() && self.recv.get() == Flight::Idle {
            return self.receive_directly();
        }
        Ok(None)
    }

    fn receive_directly(&self) -> io::Result<Option<Chunk>> {
        let class = usize::from(self.class.get());
        let mut memory = buffer::take(class);
        match sys::recv(self.fd.as_fd(), &mut memory) {
            Ok(n) => {
                self.eof.set(n == 0);
                if n == memory.len() {
                    self.class.set((class + 1).min(SIZES.len() - 1) as u8);
                } else if n < SLOT && !self.nonblocking.get() {
                    // The transfer is over, or slow: back to waiting without a buffer.
                    self.direct.set(false);
                    self.full.set(0);
                }
                Ok(Some(Chunk::pooled(memory, n)))
            }
            Err(e) => {
                buffer::give_back(memory);
                if sys::is_would_block(&e) {
                    return Ok(None);
                }
                self.error.set(e.raw_os_error().unwrap_or(libc::EIO));
                Err(e)
            }
        }
    }

    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.error.get() != 0 {
            return Poll::Ready(Gone::Reset);
        }
        if self.eof.get() || self.hung_up.get() {
            let broken = sys::is_broken(self.fd.as_fd());
            return Poll::Ready(if broken { Gone::Reset } else { Gone::Closed });
        }
        set_waker(&self.reader, cx);
        if self.recv.get() == Flight::Idle {
            if self.direct.get() || self.inbox.borrow().len() >= INBOX {
                self.start_polling(GONE);
            } else {
                self.start_receiving();
            }
        }
        Poll::Pending
    }

    fn start_receiving(&self) {
        self.recv.set(Flight::Started);
        let entry = opcode::RecvMulti::new(fd_of(&self.fd), GROUP).build();
        self.ring.start(self.index, Op::Recv, entry);
    }

    fn start_polling(&self, events: u32) {
        match self.poll.get() {
            Flight::Idle => {
                self.poll.set(Flight::Started);
                self.poll_for.set(events);
                self.ring.start(
                    self.index,
                    Op::Poll,
                    opcode::PollAdd::new(fd_of(&self.fd), events).build(),
                );
            }
            // When the cancelled one completes, the reader is woken and comes again.
            Flight::Started if self.poll_for.get() & events != events => self.cancel(Op::Poll),
            Flight::Started | Flight::Cancelling => {}
        }
    }

    fn received(&self, result: i32, flags: u32) {
        if !cqueue::more(flags) {
            self.recv.set(Flight::Idle);
        }
        let slot = cqueue::buffer_select(flags).map(|id| self.ring.slots.slot(id));
        match (result, slot) {
            (1.., Some(slot)) => {
                let n = result.unsigned_abs() as usize;
                let mut inbox = self.inbox.borrow_mut();
                if !self.closing.get() {
                    inbox.push_back(Chunk::slot(slot, n));
                }
                let full = if n == SLOT {
                    self.full.get().saturating_add(1)
                } else {
                    0
                };
                self.full.set(full);
                if full >= LONG {
                    self.direct.set(true);
                    self.class.set(1);
                }
                if (full >= LONG || inbox.len() >= INBOX) && self.recv.get() == Flight::Started {
                    drop(inbox);
                    self.cancel(Op::Recv);
                }
            }
            (0, _) => self.eof.set(true),
            // No buffer left to lend: take one of our own.
            (error, _) if -error == libc::ENOBUFS => {
                self.direct.set(true);
                self.class.set(0);
            }
            (error, _) if -error == libc::EAGAIN => self.direct.set(true),
            (error, _) if matches!(-error, libc::ECANCELED | libc::EINTR) => {}
            (error, _) if error < 0 => self.error.set(-error),
            (_, _) => self.error.set(libc::EIO),
        }
        self.ring.wake(&self.reader);
    }

    // Sending.

    /// Something was queued: it is sent at the end of the turn.
    pub(super) fn mark_dirty(self: &Rc<Self>) {
        if self.send.get() == Flight::Idle && self.out.corks.get() == 0 && !self.dirty.replace(true)
        {
            self.ring.dirty.borrow_mut().push(Rc::clone(self));
            self.ring.kick();
        }
    }

    /// How many queued pieces the kernel may be reading.
    pub(super) fn pieces_in_flight(&self) -> usize {
        if self.send.get() == Flight::Idle {
            0
        } else {
            PIECES
        }
    }

    pub(super) fn start_sending(&self) {
        self.dirty.set(false);
        if self.send.get() != Flight::Idle
            || self.out.corks.get() != 0
            || self.out.has_failed()
            || self.removed.get()
        {
            return;
        }
        let queue = self.out.queue.borrow();
        let flags = libc::MSG_NOSIGNAL;
        let entry = match (queue.pieces(), queue.front()) {
            (1, Some(piece)) => {
                let data = piece.as_slice();
                let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
                opcode::Send::new(fd_of(&self.fd), data.as_ptr(), len)
                    .flags(flags)
                    .build()
            }
            (_, Some(_)) => {
                let mut slot = self.message.borrow_mut();
                let header = slot
                    .insert(Box::new(Message::new(&queue.slices())))
                    .header();
                opcode::SendMsg::new(fd_of(&self.fd), header)
                    .flags(flags as u32)
                    .build()
            }
            (_, None) => return,
        };
        drop(queue);
        self.send.set(Flight::Started);
        self.ring.start(self.index, Op::Send, entry);
    }

    fn sent(&self, result: i32) {
        self.send.set(Flight::Idle);
        self.message.borrow_mut().take();
        if self.out.has_failed() {
            self.out.queue.borrow_mut().clear();
            return;
        }
        if result < 0 && !matches!(-result, libc::EINTR | libc::EAGAIN | libc::ECANCELED) {
            self.out.queue.borrow_mut().clear();
            self.ring
                .note_woken(self.out.fail(&io::Error::from_raw_os_error(-result)));
            return;
        }
        self.out
            .queue
            .borrow_mut()
            .advance(result.max(0).unsigned_abs() as usize);
        self.ring.note_woken(self.out.progressed());
        if -result == libc::EAGAIN {
            self.wait_for_room();
        } else if self.out.queued() > 0 {
            self.start_sending();
        } else if self.out.fin.get() {
            sys::shutdown_write(self.fd.as_fd());
        }
    }

    // Splicing.

    pub(super) fn can_splice(&self) -> bool {
        self.recv.get() == Flight::Idle
            && self.inbox.borrow().is_empty()
            && self.error.get() == 0
            && !self.eof.get()
    }

    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.stop_blocking()?;
        match pipe.fill(self.fd.as_fd()) {
            Err(e) if sys::is_would_block(&e) => {
                set_waker(&self.reader, cx);
                self.start_polling(READABLE);
                Poll::Pending
            }
            Ok(n) => {
                self.eof.set(n == 0);
                Poll::Ready(Ok(n))
            }
            Err(e) => Poll::Ready(Err(e)),
        }
    }

    pub(super) fn poll_empty(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.stop_blocking()?;
        match pipe.empty(self.fd.as_fd()) {
            Err(e) if sys::is_would_block(&e) => {
                set_waker(&self.writer, cx);
                self.wait_for_room();
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }

    fn stop_blocking(&self) -> io::Result<()> {
        if !self.nonblocking.replace(true) {
            self.direct.set(true);
            rustix::io::ioctl_fionbio(&self.fd, true)?;
        }
        Ok(())
    }

    fn wait_for_room(&self) {
        if self.poll_out.get() == Flight::Idle {
            self.poll_out.set(Flight::Started);
            let entry = opcode::PollAdd::new(fd_of(&self.fd), libc::POLLOUT as u32).build();
            self.ring.start(self.index, Op::PollOut, entry);
        }
    }

    // Ending.

    /// Nothing more is sent; closing will send RST.
    pub(super) fn abort(&self) {
        sys::abort_on_close(self.fd.as_fd());
        self.ring.note_woken(
            self.out
                .fail(&io::Error::from_raw_os_error(libc::ECONNABORTED)),
        );
        if self.send.get() == Flight::Idle {
            self.out.queue.borrow_mut().clear();
        } else {
            self.cancel(Op::Send);
        }
    }

    /// Nobody reads any more. Leaves the ring when what is queued is sent and the kernel has let
    /// go of everything.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.inbox.borrow_mut().clear();
        self.out.corks.set(0);
        self.try_close();
    }

    pub(super) fn abort_and_close(&self) {
        self.abort();
        self.close();
    }

    fn try_close(&self) {
        for op in [Op::Recv, Op::Poll, Op::Connect] {
            self.cancel(op);
        }
        let sent = self.out.queued() == 0;
        // While there is something to send, the wait for room is what gets it sent.
        if sent {
            self.cancel(Op::PollOut);
        }
        let flights = [
            &self.recv,
            &self.send,
            &self.poll,
            &self.poll_out,
            &self.connect,
        ];
        let idle = flights.iter().all(|f| f.get() == Flight::Idle);
        if idle && sent && !self.removed.replace(true) {
            self.ring.remove(self.index);
        }
    }

    // Completions.

    pub(super) fn complete(&self, op: Op, result: i32, flags: u32) {
        match op {
            Op::Recv => self.received(result, flags),
            Op::Send => self.sent(result),
            Op::Poll => {
                self.poll.set(Flight::Idle);
                if result > 0 && result.unsigned_abs() & BROKEN != 0 {
                    self.hung_up.set(true);
                }
                self.ring.wake(&self.reader);
            }
            Op::Connect => {
                self.connect.set(Flight::Idle);
                self.connect_error.set(-result.min(0));
                self.address.borrow_mut().take();
                self.ring.wake(&self.reader);
            }
            Op::PollOut => {
                self.poll_out.set(Flight::Idle);
                self.ring.wake(&self.writer);
                self.start_sending();
            }
            Op::Accept => {}
        }
        if self.closing.get() {
            self.try_close();
        }
    }

    fn cancel(&self, op: Op) {
        let flight = self.flight(op);
        if flight.get() == Flight::Started {
            flight.set(Flight::Cancelling);
            self.ring.cancel(self.index, op);
        }
    }

    /// The kernel was just running it: ask again.
    pub(super) fn cancel_failed(&self, op: Op) {
        if self.flight(op).get() == Flight::Cancelling {
            self.ring.cancel(self.index, op);
        }
    }

    fn flight(&self, op: Op) -> &Cell<Flight> {
        match op {
            Op::Recv | Op::Accept => &self.recv,
            Op::Send => &self.send,
            Op::Poll => &self.poll,
            Op::PollOut => &self.poll_out,
            Op::Connect => &self.connect,
        }
    }
}

impl Message {
    fn new(slices: &[io::IoSlice<'_>]) -> Self {
        let slices = slices
            .iter()
            .map(|s| libc::iovec {
                iov_base: s.as_ptr().cast_mut().cast(),
                iov_len: s.len(),
            })
            .collect();
        // SAFETY: all-zero bytes are a valid msghdr.
        Self {
            header: unsafe { std::mem::zeroed() },
            slices,
        }
    }

    /// The header, pointing to the slices: valid while the message stays in its box.
    fn header(&mut self) -> *const libc::msghdr {
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len() as _;
        &raw const self.header
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("index", &self.index)
            .field("fd", &self.fd)
            .field("recv", &self.recv.get())
            .field("send", &self.send.get())
            .field("out", &self.out)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // With the stream around it and the room its queues keep: well below 1 KiB.
        assert!(size_of::<Conn>() <= 400, "{}", size_of::<Conn>());
        assert!(
            size_of::<crate::Stream>() <= 136,
            "{}",
            size_of::<crate::Stream>()
        );
        assert!(size_of::<Chunk>() <= 32, "{}", size_of::<Chunk>());
    }
}
