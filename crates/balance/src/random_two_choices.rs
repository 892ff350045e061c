//! `random-two-choices`: two at random, the less loaded of them (Mitzenmacher 2001).
//!
//! Nearly as even as looking at everyone, at a cost that does not grow with the pool, and without
//! the herd that all balancers make when they look at the same server at once.

use crate::random::Random;
use crate::{Candidates, Gives, Key, Kind, Needs, mix};

/// What it is.
pub const KIND: Kind = Kind {
    name: "random-two-choices",
    summary: "the less loaded of two random servers",
    needs: Needs {
        hash: false,
        load: true,
        latency: false,
    },
    gives: Gives { table: false },
};

/// Draws for two different usable servers.
const PATIENCE: usize = 8;

/// Power of two choices, both by weight.
#[derive(Debug)]
pub struct RandomTwoChoices {
    odds: Random,
}

impl RandomTwoChoices {
    /// For servers of these weights.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        Self {
            odds: Random::new(weights),
        }
    }

    /// The better of two usable servers.
    pub fn pick<C: Candidates>(&self, candidates: &C, key: &Key) -> Option<usize> {
        let mut random = key.random;
        let mut first = None;
        for _ in 0..PATIENCE {
            let i = self.odds.draw(random);
            random = mix(random);
            if first == Some(i) || !candidates.usable(i) {
                continue;
            }
            let Some(other) = first else {
                first = Some(i);
                continue;
            };
            let cost = |i| u64::from(candidates.load(i));
            let weight = |i| u64::from(candidates.weight(i));
            return Some(if cost(i) * weight(other) < cost(other) * weight(i) {
                i
            } else {
                other
            });
        }
        first.or_else(|| self.odds.pick(candidates, &Key { random, ..*key }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Servers;

    #[test]
    fn of_two_the_less_loaded() {
        let balancer = RandomTwoChoices::new(&[1, 1]);
        let mut servers = Servers::new(&[1, 1]);
        servers.loads = vec![5, 4];
        let chosen = |servers: &Servers| {
            (0..1000)
                .filter(|r| {
                    balancer.pick(
                        servers,
                        &Key {
                            random: mix(*r),
                            hash: 0,
                        },
                    ) == Some(1)
                })
                .count()
        };
        // All but those whose eight draws were the same server.
        assert!(chosen(&servers) > 980);
        servers.usable[1] = false;
        assert_eq!(chosen(&servers), 0);
    }

    #[test]
    fn evens_out_better_than_random() {
        let weights = vec![1; 50];
        let (two, one) = (RandomTwoChoices::new(&weights), Random::new(&weights));
        let (mut a, mut b) = (Servers::new(&weights), Servers::new(&weights));
        for r in 0..5000 {
            let key = Key {
                random: mix(r),
                hash: 0,
            };
            let i = two.pick(&a, &key).unwrap();
            a.loads[i] += 1;
            let i = one.pick(&b, &key).unwrap();
            b.loads[i] += 1;
        }
        let worst = |s: &Servers| *s.loads.iter().max().unwrap();
        assert!(worst(&a) <= 106, "{}", worst(&a));
        assert!(worst(&b) > worst(&a));
    }
}
