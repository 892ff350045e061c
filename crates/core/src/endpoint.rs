//! One server address of one pool, and everything about it that outlives a reload.
//!
//! Shared by all threads; written by probes, by leases that end and by the admin side, read at
//! every choice. Whoever changes what a choice depends on tells the pool by [`Shared::changed`].

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use fathom_balance::ewma;

use crate::Tick;
use crate::outlier::Outlier;
use crate::pool::Shared;
use crate::stats::EndpointStats;

/// Where a server is, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// An address and port.
    Ip(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An endpoint's number, unique as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(crate) u64);

/// What active checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Health {
    /// Not yet known.
    Probing,
    /// Answers as it should, or is not checked.
    Up,
    /// Does not.
    Down,
}

impl Health {
    /// As in the API, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probing => "probing",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The last active check, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// When it ended.
    pub at: Tick,
    /// Whether it succeeded.
    pub ok: bool,
    /// How long it took.
    pub took: Duration,
    /// What was wrong, or what was answered.
    pub detail: String,
}

/// One server address of one pool.
#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    address: EndpointAddress,
    name: RwLock<Arc<str>>,
    shared: Arc<Shared>,
    load: Load,
    health: AtomicU8,
    /// A check was failed since the last success: whom not to trust while nothing is known.
    last_check_failed: AtomicBool,
    /// Was [`Health::Up`] at any time.
    ever_up: AtomicBool,
    /// Made before any server of its pool was up.
    founder: bool,
    /// When it came up last, for slow start; 0 = at the process's start, or was never down.
    up_since: AtomicU64,
    draining: AtomicBool,
    /// Zero = none, else 1 << 63 | base << 16 | weight; see [`Endpoint::set_weight_override`].
    weight_override: AtomicU64,
    pub(crate) outlier: Outlier,
    last_check: Mutex<Option<CheckReport>>,
    stats: EndpointStats,
}

/// What changes with every request, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load {
    in_flight: AtomicU32,
    /// EWMA in nanoseconds (upper half, an f32) and the millisecond it was set (lower half, wraps after 49 days).
    ewma: AtomicU64,
}

const OVERRIDDEN: u64 = 1 << 63;

impl Endpoint {
    pub(crate) fn new(
        id: u64,
        name: Arc<str>,
        address: EndpointAddress,
        shared: Arc<Shared>,
        checked: bool,
    ) -> Self {
        let founder = !shared.was_ever_up();
        if !checked {
            shared.came_up();
        }
        Self {
            id: EndpointId(id),
            address,
            name: RwLock::new(name),
            shared,
            load: Load::default(),
            health: AtomicU8::new(if checked { Health::Probing } else { Health::Up } as u8),
            last_check_failed: AtomicBool::new(false),
            ever_up: AtomicBool::new(!checked),
            founder,
            up_since: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            weight_override: AtomicU64::new(0),
            outlier: Outlier::default(),
            last_check: Mutex::default(),
            stats: EndpointStats::new(),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> EndpointId {
        self.id
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> &EndpointAddress {
        &self.address
    }

    /// Its socket address, unless it is a unix socket.
    #[must_use]
    pub const fn ip(&self) -> Option<SocketAddr> {
        match &self.address {
            EndpointAddress::Ip(address) => Some(*address),
            EndpointAddress::Unix(_) => None,
        }
    }

    /// The server's name, as in metrics and the API.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn rename(&self, name: &Arc<str>) {
        if *self.name() != **name {
            *self.name.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(name);
        }
    }

    /// The pool's name.
    #[must_use]
    pub fn pool(&self) -> &Arc<str> {
        self.shared.name()
    }

    /// What is counted of it.
    #[must_use]
    pub const fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// Connections (stream) or requests (http) it has now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight.load(Ordering::Relaxed)
    }

    /// Takes a place if fewer than `most` are taken.
    pub(crate) fn enter(&self, most: Option<u32>) -> bool {
        let in_flight = &self.load.in_flight;
        match most {
            None => {
                in_flight.fetch_add(1, Ordering::Relaxed);
                true
            }
            // Never over the limit, not even for a moment: someone else would see it full and go to sleep.
            Some(most) => in_flight
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                    (n < most).then_some(n + 1)
                })
                .is_ok(),
        }
    }

    /// Gives a place back and wakes who waits for one.
    pub(crate) fn leave(&self) {
        // SeqCst, before the queue is looked at: see `queue`.
        self.load.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.shared.queue().wake_one();
    }

    /// Smoothed response time in nanoseconds, decayed to `now`; an error counts as a second. 0 = not known.
    #[must_use]
    pub fn ewma_ns(&self, now: Tick) -> u64 {
        let packed = self.load.ewma.load(Ordering::Relaxed);
        if packed == 0 {
            return 0;
        }
        let (average, age) = unpack(packed, now);
        // Never back to "not known": what was seen counts, however long ago.
        (ewma::decayed(average, age) as u64).max(1)
    }

    /// Takes a response time into the average.
    pub fn observe_latency(&self, now: Tick, latency: Duration) {
        let value = latency.as_nanos() as f64;
        let _ = self
            .load
            .ewma
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
                let next = if packed == 0 {
                    value
                } else {
                    let (average, age) = unpack(packed, now);
                    ewma::observe(average, value, age)
                };
                Some(pack(next, now))
            });
    }

    /// What active checks say; in a pool without checks, up.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Probing,
            1 => Health::Up,
            _ => Health::Down,
        }
    }

    /// Sets what active checks say. Returns what they said before.
    pub fn set_health(&self, now: Tick, health: Health) -> Health {
        let before = self.health();
        if before == health {
            return before;
        }
        if health == Health::Up {
            // The servers a pool begins with start at full weight: there is nobody to take the rest meanwhile.
            self.ever_up.store(true, Ordering::Release);
            if !(self.founder && before == Health::Probing) {
                self.up_since.store(now.0, Ordering::Release);
            }
            self.shared.came_up();
            self.outlier.forgive();
        }
        self.health.store(health as u8, Ordering::Release);
        self.stats.here().transitions.inc();
        self.shared.changed();
        before
    }

    /// Writes down an active check: its counts, the report for people, and whom to trust while nothing is known.
    pub fn record_check(&self, report: CheckReport) {
        let cells = self.stats.here();
        if report.ok {
            cells.checks_ok.inc()
        } else {
            cells.checks_failed.inc()
        }
        if self.last_check_failed.swap(!report.ok, Ordering::AcqRel) == report.ok
            && self.health() == Health::Probing
        {
            self.shared.changed();
        }
        *self
            .last_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    /// The last active check.
    #[must_use]
    pub fn last_check(&self) -> Option<CheckReport> {
        self.last_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn last_check_failed(&self) -> bool {
        self.last_check_failed.load(Ordering::Acquire)
    }

    pub(crate) fn ever_up(&self) -> bool {
        self.ever_up.load(Ordering::Acquire)
    }

    /// When it came up, or came back from an ejection, whichever was later; `None` = was always there.
    pub(crate) fn up_since(&self, now: Tick) -> Option<Tick> {
        let up = self.up_since.load(Ordering::Acquire);
        let back = self
            .outlier
            .until()
            .filter(|until| *until <= now)
            .map_or(0, |t| t.0);
        (up.max(back) > 0).then_some(Tick(up.max(back)))
    }

    /// Whether it is out because of its errors.
    #[must_use]
    pub fn is_ejected(&self, now: Tick) -> bool {
        self.outlier.until().is_some_and(|until| now < until)
    }

    /// Ends an ejection now.
    pub fn reinstate(&self) {
        self.outlier.forgive();
        self.shared.changed();
    }

    /// Whether it gets no new work.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Starts or ends draining: what it has goes on, nothing new comes.
    pub fn set_draining(&self, draining: bool) {
        if self.draining.swap(draining, Ordering::AcqRel) != draining {
            self.shared.changed();
        }
    }

    /// The weight set at run time in place of `configured`, if any.
    ///
    /// It holds as long as the file says `configured`: a reload with another weight in the file ends it,
    /// because the newer word wins.
    #[must_use]
    pub fn weight_override(&self, configured: u32) -> Option<u32> {
        let packed = self.weight_override.load(Ordering::Acquire);
        let base = (packed >> 16) as u32 & 0xffff;
        (packed & OVERRIDDEN != 0 && base == configured).then_some((packed & 0xffff) as u32)
    }

    /// Sets (at most 65,535) or clears the weight at run time; `configured` is what the file says.
    pub fn set_weight_override(&self, configured: u32, weight: Option<u32>) {
        let packed = weight.map_or(0, |w| {
            OVERRIDDEN | u64::from(configured & 0xffff) << 16 | u64::from(w.min(0xffff))
        });
        if self.weight_override.swap(packed, Ordering::AcqRel) != packed {
            self.shared.changed();
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

fn pack(average: f64, now: Tick) -> u64 {
    // At least one bit set, so that zero stays "not known".
    u64::from((average.max(1.0) as f32).to_bits()) << 32 | (now.0 / 1_000_000) & 0xffff_ffff
}

/// The average and its age in nanoseconds.
fn unpack(packed: u64, now: Tick) -> (f64, u64) {
    let age_ms = ((now.0 / 1_000_000) as u32).wrapping_sub(packed as u32);
    // Clocks of threads may differ by a tick: what seems to lie ahead is now.
    let age_ms = if age_ms > u32::MAX / 2 { 0 } else { age_ms };
    (
        f64::from(f32::from_bits((packed >> 32) as u32)),
        u64::from(age_ms) * 1_000_000,
    )
}
