//! The `io_uring` driver: one ring per worker, entered once per turn.
//!
//! Tasks only queue entries. One task, the [`pump`], submits and reaps in one call; completions
//! wake tasks, which run before the pump's next turn, as the runtime's queue is first in, first
//! out. When there was nothing to do, completions are announced through an eventfd on which the
//! pump sleeps.
//!
//! (The pump could be the runtime's `on_thread_park` hook; but that is not called while any task
//! is ready, and a worker that is never idle must still see its sockets. It also costs an
//! `epoll_wait` per turn.)

mod conn;
mod listener;
mod ring;
mod slots;
mod stream;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use self::listener::Listener;
use self::ring::Ring;
pub(crate) use self::slots::Slot;
pub(crate) use self::stream::Stream;

thread_local! {
    static RING: RefCell<Option<Rc<Ring>>> = const { RefCell::new(None) };
}

/// Whether this machine lets us have a ring, by making one and sending a byte through it.
pub(crate) fn probe() -> Result<(), String> {
    let explain = |e: io::Error| match e.raw_os_error() {
        Some(libc::EPERM) => {
            "the kernel forbids it (kernel.io_uring_disabled, or the container's seccomp profile)"
                .to_owned()
        }
        Some(libc::ENOSYS) => "the kernel has no io_uring".to_owned(),
        Some(libc::EINVAL) => "the kernel is too old (6.1 or newer is needed)".to_owned(),
        Some(libc::ENOMEM) => "not enough lockable memory (ulimit -l)".to_owned(),
        _ => e.to_string(),
    };
    // On a thread of its own: a ring belongs to the thread that made it.
    std::thread::spawn(|| Ring::new().and_then(|ring| ring.self_test()))
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
        .map_err(explain)
}

/// Makes this thread's ring. Gives the descriptor whose readability announces completions.
pub(crate) fn install() -> io::Result<OwnedFd> {
    let ring = Rc::new(Ring::new()?);
    let announce = ring.announcements()?;
    RING.with(|slot| *slot.borrow_mut() = Some(ring));
    Ok(announce)
}

/// Ends this thread's ring: what is in flight is cancelled and waited for.
pub(crate) fn uninstall() {
    if let Some(ring) = RING.with(|slot| slot.borrow_mut().take()) {
        ring.shut_down();
    }
}

pub(crate) fn current() -> Option<Rc<Ring>> {
    RING.with(|slot| slot.borrow().clone())
}

/// Drives this thread's ring for ever; `announce` is what [`install`] gave.
pub(crate) async fn pump(announce: OwnedFd) -> io::Result<()> {
    let Some(ring) = current() else { return Ok(()) };
    // SAFETY: an `OwnedFd` gives the same open descriptor until it is dropped, and the `AsyncFd`
    // alone owns it.
    let announce = unsafe { AsyncFd::register_with_interest(announce, Interest::READABLE)? };
    poll_fn(|cx| {
        loop {
            if ring.pump(cx) {
                return Poll::Pending;
            }
            // Nobody reads it: it is readable once more with every announcement.
            match announce.poll_read_ready(cx) {
                Poll::Ready(Ok(mut guard)) => guard.clear_ready(),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
