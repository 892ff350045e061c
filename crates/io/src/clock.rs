//! The real clock. [`now`] is read once per turn of the loop and is what nearly everything wants.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fathom_core::Tick;

struct Local {
    /// The tick of this turn; 0 = not read yet.
    cached: Cell<u64>,
    /// How often `cached` was handed out: a very long turn still sees time pass.
    uses: Cell<u32>,
    /// Whether a worker of this thread ends turns; otherwise nothing is cached.
    turning: Cell<bool>,
    /// Added by [`advance`].
    offset: Cell<u64>,
}

thread_local! {
    static LOCAL: Local = const {
        Local { cached: Cell::new(0), uses: Cell::new(0), turning: Cell::new(false), offset: Cell::new(0) }
    };
}

/// After this many uses the cached tick is read anew.
const USES: u32 = 256;

/// The time of this turn of the worker's loop (outside a worker: the precise time).
#[must_use]
pub fn now() -> Tick {
    LOCAL.with(|local| {
        let cached = local.cached.get();
        let uses = local.uses.get();
        if cached != 0 && uses < USES {
            local.uses.set(uses + 1);
            return Tick(cached);
        }
        let tick = read(local);
        if local.turning.get() {
            local.cached.set(tick.0);
            local.uses.set(0);
        }
        tick
    })
}

/// The monotonic clock, read now.
#[must_use]
pub fn precise() -> Tick {
    LOCAL.with(read)
}

/// Wall-clock time since the Unix epoch.
#[must_use]
pub fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Moves this thread's clock forward and fires what became due: for tests, which never sleep.
pub fn advance(by: Duration) {
    LOCAL.with(|local| {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        local.offset.set(local.offset.get().saturating_add(by));
        local.cached.set(0);
    });
    crate::timer::clock_moved();
}

/// The turn ended: the next `now` reads the clock.
pub(crate) fn turn() {
    LOCAL.with(|local| local.cached.set(0));
}

pub(crate) fn set_turning(turning: bool) {
    LOCAL.with(|local| {
        local.turning.set(turning);
        local.cached.set(0);
    });
}

fn read(local: &Local) -> Tick {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let ns = t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned();
    Tick(ns.saturating_add(local.offset.get()).max(1))
}
