//! Deadlines by the thousand: coarse (4 ms), no allocation to arm, two stores to move.
//!
//! One wheel per worker, turned by a single timer of the runtime.

mod wheel;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fathom_core::Tick;

use self::wheel::{UNIT, Wheel};
use crate::clock;

struct Local {
    wheel: RefCell<Option<Wheel>>,
    /// The unit for which the ticker sleeps; an earlier deadline must wake it.
    planned: Cell<u64>,
    ticker: RefCell<Option<Waker>>,
}

thread_local! {
    static LOCAL: Local = const {
        Local { wheel: RefCell::new(None), planned: Cell::new(u64::MAX), ticker: RefCell::new(None) }
    };
}

/// A deadline that can be set again and again. Fires on the thread of a running [`crate::Worker`].
pub struct Timer {
    index: u32,
    _local: std::marker::PhantomData<*const ()>,
}

/// A future that ends at a deadline.
#[derive(Debug)]
pub struct Sleep(Timer);

/// The time given to a [`timeout`] ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// A future that ends after `delay`.
#[must_use]
pub fn after(delay: Duration) -> Sleep {
    at(clock::now() + delay)
}

/// A future that ends at `deadline`.
#[must_use]
pub fn at(deadline: Tick) -> Sleep {
    let timer = Timer::new();
    timer.reset(deadline);
    Sleep(timer)
}

/// Waits for `future`, for `limit` at most.
///
/// # Errors
/// [`Elapsed`] when the time ran out first; the future is dropped.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    // Most futures asked for are ready at once: no timer for them.
    let mut sleep = None;
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        sleep
            .get_or_insert_with(|| after(limit))
            .0
            .poll_elapsed(cx)
            .map(|()| Err(Elapsed))
    })
    .await
}

impl Timer {
    /// A timer that is not armed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            index: with_wheel(Wheel::add),
            _local: std::marker::PhantomData,
        }
    }

    /// Arms it for `deadline`, whatever it was armed for.
    pub fn reset(&self, deadline: Tick) {
        let news = with_wheel(|wheel| wheel.arm(self.index, deadline.0));
        if let Some(unit) = news {
            LOCAL.with(|local| {
                if unit < local.planned.get() {
                    local.planned.set(unit);
                    wake_ticker(local);
                }
            });
        }
    }

    /// Disarms it: waiting for it never ends.
    pub fn disarm(&self) {
        with_wheel(|wheel| wheel.disarm(self.index));
    }

    /// Whether it fired since it was last armed.
    #[must_use]
    pub fn is_elapsed(&self) -> bool {
        with_wheel(|wheel| wheel.fired(self.index))
    }

    /// Ready once it fired; stays ready until armed or disarmed.
    pub fn poll_elapsed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let old = with_wheel(|wheel| {
            if wheel.fired(self.index) {
                return Err(());
            }
            let slot = wheel.waker(self.index);
            match slot {
                Some(waker) if waker.will_wake(cx.waker()) => Ok(None),
                _ => Ok(slot.replace(cx.waker().clone())),
            }
        });
        // `old` is dropped here: dropping a waker may drop a task, and that one its timers.
        if old.is_err() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits until it fires.
    pub async fn elapsed(&self) {
        poll_fn(|cx| self.poll_elapsed(cx)).await;
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("index", &self.index).finish()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // At the end of a thread the wheel may be gone before its timers.
        let waker = LOCAL.try_with(|local| {
            local
                .wheel
                .borrow_mut()
                .as_mut()
                .and_then(|w| w.remove(self.index))
        });
        drop(waker);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_elapsed(cx)
    }
}

/// Turns the wheel for ever; run by the worker.
pub(crate) async fn tick() {
    let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            // Also refreshes the clock of a worker too busy to end its turn.
            clock::turn();
            let now = clock::now();
            let next = turn_wheel(now);
            let planned = next.unwrap_or(u64::MAX);
            LOCAL.with(|local| {
                local.planned.set(planned);
                *local.ticker.borrow_mut() = Some(cx.waker().clone());
            });
            if next.is_none() {
                return Poll::Pending;
            }
            let delay = Tick(planned.saturating_mul(UNIT)).since(now);
            sleep.as_mut().reset(tokio::time::Instant::now() + delay);
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// The clock jumped: look again.
pub(crate) fn clock_moved() {
    LOCAL.with(wake_ticker);
}

fn turn_wheel(now: Tick) -> Option<u64> {
    // Waking only schedules a task; it never runs one, so the wheel may stay borrowed.
    with_wheel(|wheel| {
        wheel.advance(now.0, Waker::wake_by_ref);
        wheel.next()
    })
}

fn with_wheel<T>(f: impl FnOnce(&mut Wheel) -> T) -> T {
    LOCAL.with(|local| {
        f(local
            .wheel
            .borrow_mut()
            .get_or_insert_with(|| Wheel::new(clock::precise().0)))
    })
}

fn wake_ticker(local: &Local) {
    if let Some(waker) = &*local.ticker.borrow() {
        waker.wake_by_ref();
    }
}
