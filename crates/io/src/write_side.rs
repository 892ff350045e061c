//! The writing half of a stream, as far as both drivers share it: what is queued, who waits for
//! room, whether it failed.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, Waker};

use fathom_core::Tick;

use crate::outgoing::Queue;

#[derive(Debug, Default)]
pub(crate) struct WriteSide {
    pub(crate) queue: RefCell<Queue>,
    /// The errno that ended writing; 0 = none.
    failed: Cell<i32>,
    /// FIN wanted after what is queued.
    pub(crate) fin: Cell<bool>,
    /// Open [`crate::Cork`]s.
    pub(crate) corks: Cell<u32>,
    /// When bytes last left the queue.
    pub(crate) last_sent: Cell<Tick>,
    waiter: RefCell<Option<Waker>>,
    /// The waiter wants fewer than this many bytes queued.
    below: Cell<usize>,
}

impl WriteSide {
    pub(crate) fn queued(&self) -> usize {
        self.queue.borrow().bytes()
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        match self.failed.get() {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Whether a write was told of a reset.
    pub(crate) fn was_reset(&self) -> bool {
        self.failed.get() == libc::ECONNRESET
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get() != 0
    }

    /// Nothing will be written any more; who waits is told (the result says whether there was
    /// somebody). What is queued stays: the kernel may be reading it.
    pub(crate) fn fail(&self, error: &io::Error) -> bool {
        if !self.has_failed() {
            self.failed.set(error.raw_os_error().unwrap_or(libc::EPIPE));
        }
        self.wake()
    }

    /// Bytes left the queue. Says whether somebody was woken.
    pub(crate) fn progressed(&self) -> bool {
        self.last_sent.set(crate::clock::now());
        self.queued() < self.below.get() && self.wake()
    }

    pub(crate) fn poll_below(&self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>> {
        self.check()?;
        if self.queued() < below.max(1) {
            return Poll::Ready(Ok(()));
        }
        self.below.set(below.max(1));
        set_waker(&self.waiter, cx);
        Poll::Pending
    }

    fn wake(&self) -> bool {
        self.below.set(0);
        match &*self.waiter.borrow() {
            Some(waker) => {
                waker.wake_by_ref();
                true
            }
            None => false,
        }
    }
}

/// Remembers whom to wake. The waker is kept after use: the same task comes again.
pub(crate) fn set_waker(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut current = slot.borrow_mut();
    let old = match &*current {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => current.replace(cx.waker().clone()),
    };
    drop(current);
    // Dropping the last waker of a task may drop the task, and that may come back here.
    drop(old);
}
