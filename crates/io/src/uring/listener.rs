//! Multishot accept: one entry, a completion per connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{cqueue, opcode};

use super::Stream;
use super::ring::{Op, Owner, Ring, fd_of, own};
use crate::sys;
use crate::write_side::set_waker;

/// Connections accepted ahead; with more the rest waits in the kernel's backlog.
const AHEAD: usize = 64;

#[derive(Debug)]
pub(crate) struct Listener(Rc<Accepting>);

#[derive(Debug)]
pub(crate) struct Accepting {
    ring: Rc<Ring>,
    index: u32,
    socket: TcpListener,
    accepted: RefCell<VecDeque<OwnedFd>>,
    /// An errno that `accept` has not told yet.
    error: Cell<i32>,
    state: Cell<State>,
    closing: Cell<bool>,
    removed: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Armed,
    Cancelling,
}

impl Listener {
    pub(crate) fn new(ring: &Rc<Ring>, socket: TcpListener) -> io::Result<Self> {
        // The ring waits by itself only for descriptors that may block.
        socket.set_nonblocking(false)?;
        let mut made = None;
        ring.add(|index| {
            let accepting = Rc::new(Accepting {
                ring: Rc::clone(ring),
                index,
                socket,
                accepted: RefCell::default(),
                error: Cell::new(0),
                state: Cell::new(State::Idle),
                closing: Cell::new(false),
                removed: Cell::new(false),
                waiter: RefCell::default(),
            });
            made = Some(Self(Rc::clone(&accepting)));
            Owner::Listener(accepting)
        });
        Ok(made.expect("add() calls once"))
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let fd = poll_fn(|cx| self.0.poll(cx)).await?;
        Ok(self.stream(fd))
    }

    pub(crate) fn try_accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        let accepted = self.0.accepted.borrow_mut().pop_front();
        if let Some(fd) = accepted {
            return Ok(Some(self.stream(fd)));
        }
        // The descriptor blocks: ask whether there is anything first.
        if !sys::is_readable(self.fd()) || self.0.state.get() != State::Idle {
            return Ok(None);
        }
        let (fd, _) = sys::accept(self.fd(), false)?;
        Ok(Some(self.stream(fd)))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }

    fn stream(&self, fd: OwnedFd) -> (Stream, SocketAddr) {
        // Multishot accept has no place for the address.
        let peer = sys::peer_addr(fd.as_fd());
        (Stream::new(&self.0.ring, fd), peer)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Accepting {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        if let Some(fd) = self.accepted.borrow_mut().pop_front() {
            return Poll::Ready(Ok(fd));
        }
        match self.error.replace(0) {
            0 => {}
            errno => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
        }
        set_waker(&self.waiter, cx);
        if self.state.get() == State::Idle {
            self.state.set(State::Armed);
            let entry = opcode::AcceptMulti::new(fd_of(&self.socket))
                .flags(libc::SOCK_CLOEXEC)
                .build();
            self.ring.start(self.index, Op::Accept, entry);
        }
        Poll::Pending
    }

    pub(super) fn complete(&self, result: i32, flags: u32) {
        if !cqueue::more(flags) {
            self.state.set(State::Idle);
        }
        if result >= 0 {
            let fd = own(result);
            if !self.closing.get() {
                self.accepted.borrow_mut().push_back(fd);
            }
        } else if !matches!(
            -result,
            libc::ECANCELED | libc::EAGAIN | libc::EINTR | libc::ECONNABORTED
        ) {
            self.error.set(-result);
        }
        if self.closing.get() {
            self.close();
            return;
        }
        if self.accepted.borrow().len() >= AHEAD && self.state.get() == State::Armed {
            self.cancel();
        }
        self.ring.wake(&self.waiter);
    }

    pub(super) fn cancel_failed(&self) {
        if self.state.get() == State::Cancelling {
            self.cancel();
        }
    }

    /// Stops accepting; leaves the ring when the kernel has let go.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.accepted.borrow_mut().clear();
        match self.state.get() {
            State::Idle => {
                if !self.removed.replace(true) {
                    self.ring.remove(self.index);
                }
            }
            State::Armed => self.cancel(),
            State::Cancelling => {}
        }
    }

    fn cancel(&self) {
        self.state.set(State::Cancelling);
        self.ring.cancel(self.index, Op::Accept);
    }
}
