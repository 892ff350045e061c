//! One number, one slot per worker.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

thread_local! {
    /// Zero for threads that are no worker.
    static SLOT: Cell<usize> = const { Cell::new(0) };
}

static SLOTS: OnceLock<usize> = OnceLock::new();

/// Slots of every [`PerCore`]: the shared one, then one per worker. Fixed at first use.
fn slots() -> usize {
    *SLOTS.get_or_init(|| std::thread::available_parallelism().map_or(8, |n| n.get().max(8)) + 1)
}

/// Says how many workers there will be; to be called before any counter exists.
/// Returns whether there is room for them: the rest would share the slot of the control threads, which is slower but right.
pub fn reserve_workers(workers: usize) -> bool {
    *SLOTS.get_or_init(|| workers + 1) > workers
}

/// Makes the calling thread the only writer of worker `id`'s slots (ids from 0).
///
/// No two threads alive may have the same id.
pub fn set_worker(id: usize) {
    SLOT.set(if id + 1 < slots() { id + 1 } else { 0 });
}

/// Whether the calling thread is a worker with slots of its own.
#[must_use]
pub fn is_worker() -> bool {
    SLOT.get() != 0
}

/// A `T` for each worker and one for everyone else, each on cache lines of its own, made at its first use.
#[derive(Debug)]
pub struct PerCore<T> {
    slots: Box<[OnceLock<Box<Padded<T>>>]>,
}

/// Two lines: the neighbour is fetched along with the one asked for.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Default for PerCore<T> {
    fn default() -> Self {
        Self {
            slots: (0..slots()).map(|_| OnceLock::new()).collect(),
        }
    }
}

impl<T: Default> PerCore<T> {
    /// One with every slot empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The calling thread's own.
    #[must_use]
    pub fn here(&self) -> &T {
        &self.slots[SLOT.get()].get_or_init(Box::default).0
    }

    /// Those that were used.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots
            .iter()
            .filter_map(|slot| slot.get().map(|padded| &padded.0))
    }

    /// The sum of a count over all workers.
    pub fn sum(&self, of: impl Fn(&T) -> &Count) -> u64 {
        self.iter()
            .fold(0, |sum, slot| sum.wrapping_add(of(slot).get()))
    }

    /// The sum of a gauge over all workers.
    pub fn level(&self, of: impl Fn(&T) -> &Gauge) -> i64 {
        self.iter()
            .fold(0, |sum, slot| sum.wrapping_add(of(slot).get()))
    }

    /// A histogram merged over all workers.
    pub fn merge(&self, of: impl Fn(&T) -> &super::Histogram) -> super::Snapshot {
        let mut snapshot = super::Snapshot::default();
        for slot in self.iter() {
            snapshot.add(of(slot));
        }
        snapshot
    }
}

/// A number that only grows. Lives in a [`PerCore`] slot.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        // The only writer of its slot needs no read-modify-write: readers see the old or the new value.
        if is_worker() {
            self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
        } else {
            self.0.fetch_add(n, Relaxed);
        }
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// This slot's part.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down; up on one worker and down on another is fine, the sum is right.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        if is_worker() {
            self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
        } else {
            self.0.fetch_add(n, Relaxed);
        }
    }

    /// This slot's part.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn workers_and_others_add_up() {
        let count: Arc<PerCore<Count>> = Arc::default();
        let threads: Vec<_> = (0..4)
            .map(|id| {
                let count = Arc::clone(&count);
                std::thread::spawn(move || {
                    if id < 2 {
                        set_worker(id);
                    }
                    for _ in 0..10_000 {
                        count.here().add(1);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(count.sum(|c| c), 40_000);
    }

    #[test]
    fn a_worker_beyond_the_reserved_ones_shares() {
        std::thread::spawn(|| {
            set_worker(1_000_000);
            assert!(!is_worker());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_gauge_may_fall_elsewhere() {
        let gauge: Arc<PerCore<Gauge>> = Arc::default();
        gauge.here().add(3);
        let other = Arc::clone(&gauge);
        std::thread::spawn(move || {
            set_worker(0);
            other.here().add(-2);
        })
        .join()
        .unwrap();
        assert_eq!(gauge.level(|g| g), 1);
    }
}
