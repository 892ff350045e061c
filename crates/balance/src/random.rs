//! `random`: any server, as likely as its weight says.

use crate::{Candidates, Gives, Key, Kind, Needs, below, mix, next_usable};

/// What it is.
pub const KIND: Kind = Kind {
    name: "random",
    summary: "any server, as likely as its weight says",
    needs: Needs {
        hash: false,
        load: false,
        latency: false,
    },
    gives: Gives { table: false },
};

/// Draws before giving up on the odds and looking for anyone usable.
const PATIENCE: usize = 8;

/// Weighted random choice by an alias table (Walker, Vose): one draw, one comparison.
#[derive(Debug)]
pub struct Random {
    /// For each column: the chance (of 2^32) to stay in it, and where to go otherwise.
    columns: Box<[(u32, u32)]>,
}

impl Random {
    /// For servers of these weights.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        let n = weights.len();
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let mut columns: Vec<_> = (0..n as u32).map(|i| (u32::MAX, i)).collect();
        if total == 0 {
            return Self {
                columns: columns.into(),
            };
        }
        // Weights scaled so that the mean is `total`; those below are filled up from those above.
        let mut left: Vec<u64> = weights.iter().map(|w| u64::from(*w) * n as u64).collect();
        let (mut small, mut large): (Vec<_>, Vec<_>) = (0..n).partition(|i| left[*i] < total);
        while let (Some(s), Some(l)) = (small.pop(), large.pop()) {
            let stay = (u128::from(left[s]) << 32) / u128::from(total);
            columns[s] = (stay.min(u128::from(u32::MAX)) as u32, l as u32);
            left[l] -= total - left[s];
            if left[l] < total {
                small.push(l)
            } else {
                large.push(l)
            }
        }
        Self {
            columns: columns.into(),
        }
    }

    /// One draw, not looking whether it is usable.
    pub(crate) fn draw(&self, random: u64) -> usize {
        let column = below((random >> 32) as u32, self.columns.len());
        let (stay, other) = self.columns[column];
        // `<=`: a column that is full must never be left.
        if random as u32 <= stay && stay > 0 {
            column
        } else {
            other as usize
        }
    }

    /// A usable server.
    pub fn pick<C: Candidates>(&self, candidates: &C, key: &Key) -> Option<usize> {
        let mut random = key.random;
        for _ in 0..PATIENCE {
            let i = self.draw(random);
            if candidates.usable(i) {
                return Some(i);
            }
            random = mix(random);
        }
        next_usable(candidates, below(random as u32, candidates.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Servers;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn odds_follow_weights(weights in prop::collection::vec(0_u32..50, 1..12), seed: u64) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let balancer = Random::new(&weights);
            let total: u32 = weights.iter().sum();
            let mut had = vec![0_u32; weights.len()];
            let draws = 20_000_u32;
            let mut random = seed;
            for _ in 0..draws {
                random = mix(random);
                had[balancer.draw(random)] += 1;
            }
            for (had, weight) in had.iter().zip(&weights) {
                let fair = f64::from(draws) * f64::from(*weight) / f64::from(total);
                // Eight standard deviations: never by chance.
                prop_assert!((f64::from(*had) - fair).abs() <= 8.0 * fair.sqrt() + 1.0, "{} for {}", had, fair);
            }
        }
    }

    #[test]
    fn the_unusable_are_never_chosen() {
        let balancer = Random::new(&[100, 1, 1]);
        let mut servers = Servers::new(&[100, 1, 1]);
        servers.usable[0] = false;
        for random in 0..1000 {
            let chosen = balancer.pick(
                &servers,
                &Key {
                    random: mix(random),
                    hash: 0,
                },
            );
            assert!(matches!(chosen, Some(1 | 2)));
        }
        servers.usable = vec![false; 3];
        assert_eq!(balancer.pick(&servers, &Key::default()), None);
    }
}
