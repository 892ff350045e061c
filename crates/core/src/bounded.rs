//! A map of bounded size for what clients make Fathom remember.
//!
//! Sharded, so that workers seldom wait for one another; when full, it forgets the oldest of a few
//! entries looked at (as Redis does), so that a flood of new keys cannot grow it.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use indexmap::IndexMap;

const SHARDS: usize = 64;
/// Entries looked at to find one to forget.
const SAMPLE: usize = 8;

/// What a value must tell so that the oldest can be found.
pub(crate) trait Aged {
    /// Smaller is older.
    fn age(&self) -> u64;
}

#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    shards: Box<[Mutex<IndexMap<K, V, RandomState>>]>,
    len: AtomicUsize,
    hasher: RandomState,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            hasher: RandomState::default(),
        }
    }
}

impl<K: Hash + Eq, V: Aged> Bounded<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &K) -> (u64, MutexGuard<'_, IndexMap<K, V, RandomState>>) {
        let hash = self.hasher.hash_one(key);
        // High bits: the map itself uses a hasher of its own.
        let shard = &self.shards[(hash >> 58) as usize % SHARDS];
        (hash, shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads or changes a value in place.
    pub(crate) fn with<R>(&self, key: &K, f: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.shard(key).1.get_mut(key).map(f)
    }

    /// Reads, changes or makes a value, forgetting an old one if there are `capacity` already.
    pub(crate) fn with_or_insert<R>(
        &self,
        key: K,
        capacity: usize,
        new: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> R {
        let (hash, mut shard) = self.shard(&key);
        if let Some(value) = shard.get_mut(&key) {
            return f(value);
        }
        if self.len() >= capacity && !shard.is_empty() {
            let start = hash as usize % shard.len();
            let oldest = (0..SAMPLE.min(shard.len()))
                .map(|k| (start + k) % shard.len())
                .min_by_key(|i| shard[*i].age())
                .unwrap_or(start);
            shard.swap_remove_index(oldest);
        } else {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        f(shard.entry(key).or_insert_with(new))
    }

    pub(crate) fn remove(&self, key: &K) {
        if self.shard(key).1.swap_remove(key).is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Removes a value if `gone` says so after a change.
    pub(crate) fn change_and_remove_if(&self, key: &K, change: impl FnOnce(&mut V) -> bool) {
        let (_, mut shard) = self.shard(key);
        if shard.get_mut(key).is_some_and(change) {
            shard.swap_remove(key);
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets everything that `keep` does not want.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(&mut keep);
            self.len.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Aged for u64 {
        fn age(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn stays_bounded_and_forgets_the_old_first() {
        let map = Bounded::<u64, u64>::default();
        for i in 0..100_000 {
            map.with_or_insert(i, 10_000, || i, |_| ());
        }
        assert!(map.len() <= 10_000 + SHARDS, "{}", map.len());
        let young = (95_000..100_000)
            .filter(|i| map.with(i, |_| ()).is_some())
            .count();
        let old = (0..50_000)
            .filter(|i| map.with(i, |_| ()).is_some())
            .count();
        assert!(young > 4_500, "{young}");
        assert!(old < 100, "{old}");
        map.retain(|_, v| *v >= 99_999);
        assert_eq!(map.len(), 1);
        map.remove(&99_999);
        assert_eq!(map.len(), 0);
    }
}
