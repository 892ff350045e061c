//! The ring itself: queueing entries, entering the kernel, handing completions out.
//!
//! Every operation names who started it (an index into `owners`) and what it is. An owner stays
//! in its place until the last completion of its operations has come, so that neither its memory
//! nor its place is reused under the kernel's hands.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Waker};

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::conn::Conn;
use super::listener::Accepting;
use super::slots::Slots;

/// Submission entries; more are submitted early.
const ENTRIES: u32 = 512;
/// Completions the kernel can hand over at once; more wait in the kernel.
const COMPLETIONS: u32 = 4096;
/// Turns through the kernel in one go, while there is work but nobody to wake.
const TURNS: u32 = 4;

/// What an operation is. With the owner's index it makes the operation's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Recv = 0,
    Send = 1,
    Poll = 2,
    Connect = 3,
    Accept = 4,
    PollOut = 5,
}

const OPS: [Op; 6] = [
    Op::Recv,
    Op::Send,
    Op::Poll,
    Op::Connect,
    Op::Accept,
    Op::PollOut,
];
/// Marks the name of a cancellation: the rest names what is cancelled.
const CANCEL: u64 = 0x80;

/// One who started operations.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    Conn(Rc<Conn>),
    Listener(Rc<Accepting>),
}

pub(crate) struct Ring {
    io: RefCell<IoUring>,
    /// Entries for which the submission queue had no room.
    backlog: RefCell<VecDeque<squeue::Entry>>,
    owners: RefCell<Vec<Option<Owner>>>,
    vacant: RefCell<Vec<u32>>,
    /// Connections with something to send and no send in flight.
    pub(super) dirty: RefCell<Vec<Rc<Conn>>>,
    /// Spare room for what a turn reaps.
    reaped: Cell<Vec<(u64, i32, u32)>>,
    pub(super) slots: Rc<Slots>,
    event: OwnedFd,
    /// A completion woke a task since the last look.
    woke: Cell<bool>,
    pump: RefCell<Option<Waker>>,
    /// The pump is running or scheduled.
    awake: Cell<bool>,
}

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)?;
        let event = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
        )?;
        io.submitter().register_eventfd(event.as_raw_fd())?;
        let slots = Slots::register(&io)?;
        Ok(Self {
            io: RefCell::new(io),
            backlog: RefCell::default(),
            owners: RefCell::default(),
            vacant: RefCell::default(),
            dirty: RefCell::default(),
            reaped: Cell::default(),
            slots,
            event,
            woke: Cell::new(false),
            pump: RefCell::default(),
            awake: Cell::new(false),
        })
    }

    /// A descriptor that becomes readable when completions come while the pump sleeps.
    pub(super) fn announcements(&self) -> io::Result<OwnedFd> {
        self.event.try_clone()
    }

    /// Sends a byte through a multishot receive, which is the newest thing we need.
    pub(super) fn self_test(self) -> io::Result<()> {
        let (a, b) = std::os::unix::net::UnixStream::pair()?;
        rustix::io::write(&a, b"x")?;
        let entry =
            opcode::RecvMulti::new(io_uring::types::Fd(b.as_raw_fd()), super::slots::GROUP).build();
        self.push(entry);
        self.enter()?;
        let reaped = self.reap();
        // The end of the stream ends the receive before the ring goes.
        drop(a);
        for _ in 0..100 {
            self.enter()?;
            if self.reap().iter().any(|c| !cqueue::more(c.2)) {
                break;
            }
        }
        match reaped.first() {
            Some(&(_, 1, flags))
                if cqueue::more(flags) && cqueue::buffer_select(flags).is_some() =>
            {
                Ok(())
            }
            Some(&(_, error, _)) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            other => Err(io::Error::other(format!(
                "multishot receive does not work: {other:?}"
            ))),
        }
    }

    // Owners.

    pub(super) fn add(&self, owner: impl FnOnce(u32) -> Owner) {
        let mut owners = self.owners.borrow_mut();
        let index = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            owners.push(None);
            u32::try_from(owners.len() - 1).expect("fewer than 2^32 sockets")
        });
        owners[index as usize] = Some(owner(index));
    }

    /// Forgets an owner none of whose operations is in flight.
    pub(super) fn remove(&self, index: u32) {
        let owner = self.owners.borrow_mut()[index as usize].take();
        self.vacant.borrow_mut().push(index);
        // Closes its descriptor, if nobody else holds it.
        drop(owner);
    }

    // Submission.

    /// Queues an entry as an operation of `index`.
    pub(super) fn start(&self, index: u32, op: Op, entry: squeue::Entry) {
        self.push(entry.user_data(name(index, op)));
    }

    /// Cancels an operation; its completion comes in any case.
    pub(super) fn cancel(&self, index: u32, op: Op) {
        let entry = opcode::AsyncCancel::new(name(index, op)).build();
        self.push(
            entry
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(name(index, op) | CANCEL),
        );
    }

    fn push(&self, entry: squeue::Entry) {
        self.kick();
        let mut backlog = self.backlog.borrow_mut();
        if !backlog.is_empty() || !self.try_push(&entry) {
            let _ = self.io.borrow().submit();
            if !backlog.is_empty() || !self.try_push(&entry) {
                backlog.push_back(entry);
            }
        }
    }

    fn try_push(&self, entry: &squeue::Entry) -> bool {
        // SAFETY: what an entry points to (queued pieces, an address) belongs to its owner, which
        // stays in `owners` until the operation's last completion.
        unsafe { self.io.borrow_mut().submission().push(entry).is_ok() }
    }

    // The loop.

    /// One turn of the pump. True: it is scheduled again. False: it may sleep until an
    /// announcement or the next entry.
    pub(super) fn pump(&self, cx: &Context<'_>) -> bool {
        let old = {
            let mut pump = self.pump.borrow_mut();
            match &*pump {
                Some(waker) if waker.will_wake(cx.waker()) => None,
                _ => pump.replace(cx.waker().clone()),
            }
        };
        drop(old);
        self.awake.set(true);
        self.io.borrow_mut().completion().disable_eventfd();
        for _ in 0..TURNS {
            if self.has_work() {
                self.turn();
            }
            if self.woke.replace(false) {
                // Behind those just woken.
                cx.waker().wake_by_ref();
                return true;
            }
            if !self.has_work() {
                self.io.borrow_mut().completion().enable_eventfd();
                // What came before the eventfd was on has not been announced.
                fence(Ordering::SeqCst);
                if !self.has_work() {
                    self.awake.set(false);
                    return false;
                }
                self.io.borrow_mut().completion().disable_eventfd();
            }
        }
        cx.waker().wake_by_ref();
        true
    }

    /// There is something to submit.
    pub(super) fn kick(&self) {
        if !self.awake.replace(true)
            && let Some(pump) = &*self.pump.borrow()
        {
            pump.wake_by_ref();
        }
    }

    /// Wakes a task. The pump will come again after it.
    pub(super) fn wake(&self, waker: &RefCell<Option<Waker>>) {
        if let Some(waker) = &*waker.borrow() {
            self.woke.set(true);
            waker.wake_by_ref();
        }
    }

    /// A task was woken by other means than [`Ring::wake`].
    pub(super) fn note_woken(&self, woken: bool) {
        if woken {
            self.woke.set(true);
        }
    }

    /// Entries to submit, or completions to reap.
    fn has_work(&self) -> bool {
        let mut io = self.io.borrow_mut();
        let sq = io.submission();
        if !sq.is_empty() || sq.taskrun() || sq.cq_overflow() {
            return true;
        }
        drop(sq);
        !io.completion().is_empty()
            || !self.dirty.borrow().is_empty()
            || !self.backlog.borrow().is_empty()
    }

    /// Submits all, reaps all, hands completions out.
    fn turn(&self) {
        crate::clock::turn();
        let mut dirty = mem::take(&mut *self.dirty.borrow_mut());
        for conn in dirty.drain(..) {
            conn.start_sending();
        }
        {
            // Keep the room, unless somebody became dirty meanwhile.
            let mut slot = self.dirty.borrow_mut();
            if slot.is_empty() {
                *slot = dirty;
            }
        }
        while let Some(entry) = self.backlog.borrow_mut().pop_front() {
            if !self.try_push(&entry) {
                self.backlog.borrow_mut().push_front(entry);
                break;
            }
        }
        if let Err(e) = self.enter() {
            // EBUSY, EAGAIN: the kernel wants completions taken first, or memory. They are taken
            // next, and what was not submitted is still queued.
            tracing::debug!("io_uring_enter: {e}");
        }
        let mut reaped = self.reap();
        for &(name, result, flags) in &reaped {
            self.complete(name, result, flags);
        }
        reaped.clear();
        self.reaped.set(reaped);
    }

    fn enter(&self) -> io::Result<()> {
        let mut io = self.io.borrow_mut();
        let queued = io.submission().len() as u32;
        // SAFETY: no argument structure is passed.
        match unsafe {
            io.submitter()
                .enter::<libc::sigset_t>(queued, 0, EnterFlags::GETEVENTS.bits(), None)
        } {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn reap(&self) -> Vec<(u64, i32, u32)> {
        let mut reaped = self.reaped.take();
        let mut io = self.io.borrow_mut();
        reaped.extend(
            io.completion()
                .map(|c| (c.user_data(), c.result(), c.flags())),
        );
        reaped
    }

    fn complete(&self, name: u64, result: i32, flags: u32) {
        let index = (name >> 8) as u32;
        let op = OPS[(name & 0x7f) as usize % OPS.len()];
        let owner = self.owners.borrow().get(index as usize).cloned().flatten();
        let Some(owner) = owner else { return };
        if name & CANCEL != 0 {
            // EALREADY: it was just running and may go on. ENOENT: it has completed. (The place
            // may belong to another by now, which then wants nothing cancelled.)
            if result == -libc::EALREADY {
                match owner {
                    Owner::Conn(conn) => conn.cancel_failed(op),
                    Owner::Listener(listener) => listener.cancel_failed(),
                }
            }
            return;
        }
        match owner {
            Owner::Conn(conn) => conn.complete(op, result, flags),
            Owner::Listener(listener) => listener.complete(result, flags),
        }
    }

    /// Cancels everything and waits until the kernel has let go of it.
    pub(super) fn shut_down(self: Rc<Self>) {
        let owners: Vec<Owner> = self.owners.borrow().iter().flatten().cloned().collect();
        for owner in owners {
            match owner {
                Owner::Conn(conn) => conn.abort_and_close(),
                Owner::Listener(listener) => listener.close(),
            }
        }
        for round in 0..2000 {
            self.turn();
            if self.owners.borrow().iter().all(Option::is_none) {
                return;
            }
            if round > 10 {
                std::thread::sleep(std::time::Duration::from_micros(500));
            }
        }
        // The kernel may still write to this memory: never free it.
        tracing::warn!("operations of a ring did not end; its memory is given up");
        mem::forget(self);
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("owners", &self.owners.borrow().len())
            .finish_non_exhaustive()
    }
}

fn name(index: u32, op: Op) -> u64 {
    u64::from(index) << 8 | op as u64
}

/// Takes over a descriptor that a completion brought.
pub(super) fn own(fd: i32) -> OwnedFd {
    debug_assert!(fd >= 0);
    // SAFETY: the completion of an accept gives a new descriptor that nobody else knows of.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The descriptor as the ring names it.
pub(super) fn fd_of(fd: &impl AsFd) -> io_uring::types::Fd {
    io_uring::types::Fd(fd.as_fd().as_raw_fd())
}
