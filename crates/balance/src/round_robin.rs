//! `round-robin`: every server in turn, as often as its weight says, spread evenly.
//!
//! The order is computed once; a choice is one atomic addition. All threads share the turn, so that
//! two servers alternate exactly however connections fall on workers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::{Candidates, Gives, Kind, Needs, Turn, next_usable, sequence};

/// What it is.
pub const KIND: Kind = Kind {
    name: "round-robin",
    summary: "each server in turn, by weight",
    needs: Needs {
        hash: false,
        load: false,
        latency: false,
    },
    gives: Gives { table: false },
};

/// Turns taken before giving up on the order and looking for anyone usable.
const PATIENCE: usize = 8;

/// Smooth weighted round-robin.
#[derive(Debug)]
pub struct RoundRobin {
    turns: Box<[u32]>,
    turn: Turn,
}

impl RoundRobin {
    /// For servers of these weights; goes on from `turn`.
    #[must_use]
    pub fn new(weights: &[u32], turn: &Turn) -> Self {
        Self {
            turns: sequence::build(weights),
            turn: Arc::clone(turn),
        }
    }

    /// The next in turn that is usable.
    pub fn pick<C: Candidates>(&self, candidates: &C) -> Option<usize> {
        if self.turns.is_empty() {
            return next_usable(candidates, 0);
        }
        let mut last = 0;
        // Taking further turns, rather than the neighbour, keeps the others' shares even when one is full.
        for _ in 0..PATIENCE {
            last = self.take();
            if candidates.usable(last) {
                return Some(last);
            }
        }
        next_usable(candidates, last)
    }

    pub(crate) fn take(&self) -> usize {
        let turn = self.turn.fetch_add(1, Relaxed);
        self.turns[(turn % self.turns.len() as u64) as usize] as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Servers;

    #[test]
    fn alternates_exactly_across_threads() {
        let balancer = Arc::new(RoundRobin::new(&[1, 1], &Turn::default()));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let balancer = Arc::clone(&balancer);
                std::thread::spawn(move || {
                    let servers = Servers::new(&[1, 1]);
                    (0..5_000)
                        .filter_map(|_| balancer.pick(&servers))
                        .filter(|i| *i == 0)
                        .count()
                })
            })
            .collect();
        let first: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert_eq!(first, 10_000);
    }

    #[test]
    fn the_full_are_passed_over_and_the_rest_stay_even() {
        let balancer = RoundRobin::new(&[1, 1, 1], &Turn::default());
        let mut servers = Servers::new(&[1, 1, 1]);
        servers.usable[0] = false;
        let mut had = [0; 3];
        for _ in 0..3_000 {
            had[balancer.pick(&servers).unwrap()] += 1;
        }
        assert_eq!(had[0], 0);
        assert!(had[1] == 1500 && had[2] == 1500, "{had:?}");
        servers.usable = vec![false; 3];
        assert_eq!(balancer.pick(&servers), None);
    }

    #[test]
    fn the_only_usable_of_many_is_found() {
        let weights = [1; 100];
        let balancer = RoundRobin::new(&weights, &Turn::default());
        let mut servers = Servers::new(&weights);
        servers.usable = (0..100).map(|i| i == 77).collect();
        assert_eq!(balancer.pick(&servers), Some(77));
    }
}
