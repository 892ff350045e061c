//! Balancing algorithms, one per file.
//!
//! A [`Balancer`] is built for a fixed set of servers with their weights and asked many times by
//! many threads; it locks nothing and allocates nothing when asked. What changes from one choice to
//! the next (who is full, who was tried already, how much each has to do) it learns from a
//! [`Candidates`] view. It knows nothing of health, pools or sockets: who calls it ([`fathom-core`'s
//! pool](../fathom_core/struct.Pool.html)) offers only servers that may be chosen.
#![forbid(unsafe_code)]

pub mod ewma;
pub mod first;
pub mod hash;
pub mod least_connections;
pub mod least_response_time;
pub mod maglev;
pub mod random;
pub mod random_two_choices;
pub mod round_robin;
mod sequence;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What an algorithm is, needs and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As in `balance = "..."`.
    pub name: &'static str,
    /// One line for help and the dashboard.
    pub summary: &'static str,
    /// What it must be told at each choice.
    pub needs: Needs,
    /// What others can make of it.
    pub gives: Gives,
}

/// What an algorithm must be told at each choice to be itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// A key of the client or request (`hash_on`).
    pub hash: bool,
    /// How much each server has in flight.
    pub load: bool,
    /// How fast each server answers.
    pub latency: bool,
}

/// What else can be made of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gives {
    /// Its choice depends on nothing but key and weights, so the packet depth can do it by a lookup table.
    pub table: bool,
}

/// Every algorithm there is. To add one: its file, its line here, its arm in [`Balancer`].
pub const ALGORITHMS: &[&Kind] = &[
    &round_robin::KIND,
    &least_connections::KIND,
    &least_response_time::KIND,
    &random_two_choices::KIND,
    &random::KIND,
    &first::KIND,
    &hash::KIND,
];

/// Servers to choose among, as they are at this moment. Indexes are those of the slice given to the balancer's constructor.
pub trait Candidates {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this one may be chosen: neither full nor tried already.
    fn usable(&self, index: usize) -> bool;

    /// Requests or connections in flight.
    fn load(&self, index: usize) -> u32;

    /// Its weight now (with slow start), never zero; comparable with the others'.
    fn weight(&self, index: usize) -> u32;

    /// Smoothed response time in nanoseconds, decayed to this moment; zero = not known.
    fn latency(&self, index: usize) -> u64;

    /// Share of its keys (of 65,536) that the `hash` algorithm may give it: less while it starts slowly.
    fn share(&self, index: usize) -> u32 {
        let _ = index;
        hash::WHOLE
    }
}

/// What is drawn or known for one choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Key {
    /// Random bits.
    pub random: u64,
    /// Hash of what identifies the client or request.
    pub hash: u64,
}

/// An algorithm, ready for some servers.
#[derive(Debug)]
pub enum Balancer {
    /// `round-robin`
    RoundRobin(round_robin::RoundRobin),
    /// `least-connections`
    LeastConnections(least_connections::LeastConnections),
    /// `least-response-time`
    LeastResponseTime(least_response_time::LeastResponseTime),
    /// `random-two-choices`
    RandomTwoChoices(random_two_choices::RandomTwoChoices),
    /// `random`
    Random(random::Random),
    /// `first`
    First(first::First),
    /// `hash`
    Hash(hash::Hash),
}

impl Balancer {
    /// The index of the server to use; `None` if none is usable.
    pub fn pick<C: Candidates>(&self, candidates: &C, key: &Key) -> Option<usize> {
        if candidates.is_empty() {
            return None;
        }
        match self {
            Self::RoundRobin(b) => b.pick(candidates),
            Self::LeastConnections(b) => b.pick(candidates),
            Self::LeastResponseTime(b) => b.pick(candidates),
            Self::RandomTwoChoices(b) => b.pick(candidates, key),
            Self::Random(b) => b.pick(candidates, key),
            Self::First(b) => b.pick(candidates),
            Self::Hash(b) => b.pick(candidates, key),
        }
    }
}

/// Whose turn it is: shared by all threads, and by the balancers that follow one another when servers change.
pub type Turn = Arc<AtomicU64>;

/// Spreads a number over all 64 bits (the finalizer of splitmix64).
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `bits` scaled to `0..n` without a division (Lemire); `n` of 0 gives 0.
pub(crate) const fn below(bits: u32, n: usize) -> usize {
    ((bits as u64 * n as u64) >> 32) as usize
}

/// Most servers that algorithms which compare look at for one choice: beyond, more would cost more than it mends.
pub(crate) const LOOK: usize = 128;

/// The usable server with the smallest cost, as `less` says, beginning with `start`: the first of equals.
///
/// Looks at [`LOOK`] servers, and further only while none of them is usable.
pub(crate) fn least<C: Candidates, T: Copy>(
    candidates: &C,
    start: usize,
    cost: impl Fn(usize) -> T,
    less: impl Fn(T, T) -> bool,
) -> Option<(usize, T)> {
    let n = candidates.len();
    let start = start.min(n);
    let mut best: Option<(usize, T)> = None;
    let mut look = |from: usize, to: usize| {
        for i in from..to {
            let cost = cost(i);
            if best.is_none_or(|(_, least)| less(cost, least)) && candidates.usable(i) {
                best = Some((i, cost));
            }
        }
        best
    };
    let mut looked = 0;
    let mut found = None;
    while looked < n && found.is_none() {
        let from = (start + looked) % n;
        let to = n.min(from + LOOK.min(n - looked));
        found = look(from, to);
        looked += to - from;
        // The window goes on at the beginning.
        let rest = LOOK.saturating_sub(to - from).min(n - looked);
        if rest > 0 && to == n {
            found = look(0, rest);
            looked += rest;
        }
    }
    found
}

/// The first usable index at or after `start`, round the end.
pub(crate) fn next_usable<C: Candidates>(candidates: &C, start: usize) -> Option<usize> {
    let n = candidates.len();
    (start..n)
        .chain(0..start.min(n))
        .find(|i| candidates.usable(*i))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Candidates made of plain vectors.

    use super::Candidates;

    #[derive(Clone, Debug)]
    pub(crate) struct Servers {
        pub(crate) weights: Vec<u32>,
        pub(crate) loads: Vec<u32>,
        pub(crate) latencies: Vec<u64>,
        pub(crate) usable: Vec<bool>,
        pub(crate) shares: Vec<u32>,
    }

    impl Servers {
        pub(crate) fn new(weights: &[u32]) -> Self {
            let n = weights.len();
            Self {
                weights: weights.to_vec(),
                loads: vec![0; n],
                latencies: vec![0; n],
                usable: vec![true; n],
                shares: vec![crate::hash::WHOLE; n],
            }
        }
    }

    impl Candidates for Servers {
        fn len(&self) -> usize {
            self.weights.len()
        }
        fn usable(&self, i: usize) -> bool {
            self.usable[i]
        }
        fn load(&self, i: usize) -> u32 {
            self.loads[i]
        }
        fn weight(&self, i: usize) -> u32 {
            self.weights[i]
        }
        fn latency(&self, i: usize) -> u64 {
            self.latencies[i]
        }
        fn share(&self, i: usize) -> u32 {
            self.shares[i]
        }
    }

    #[test]
    fn names_are_unique() {
        for (i, kind) in crate::ALGORITHMS.iter().enumerate() {
            assert!(
                crate::ALGORITHMS[..i].iter().all(|k| k.name != kind.name),
                "{}",
                kind.name
            );
        }
    }
}
