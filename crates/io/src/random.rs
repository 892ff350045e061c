//! Random bits for choices that nobody gains from guessing: which server, how much jitter. Not for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
}

/// Sixty-four of them (splitmix64, seeded by the system for each thread).
#[must_use]
pub fn random() -> u64 {
    STATE.with(|state| {
        let mut x = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(x);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_repeat() {
        let drawn: std::collections::BTreeSet<u64> = (0..1000).map(|_| random()).collect();
        assert_eq!(drawn.len(), 1000);
        let elsewhere = std::thread::spawn(random).join().unwrap();
        assert!(!drawn.contains(&elsewhere));
    }
}
