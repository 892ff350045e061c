//! `least-connections`: the server with the least in flight for its weight; ties take turns by weight.

use crate::round_robin::RoundRobin;
use crate::{Candidates, Gives, Kind, Needs, Turn};

/// What it is.
pub const KIND: Kind = Kind {
    name: "least-connections",
    summary: "the server with the least in flight, for its weight",
    needs: Needs {
        hash: false,
        load: true,
        latency: false,
    },
    gives: Gives { table: false },
};

/// Weighted least-connections.
#[derive(Debug)]
pub struct LeastConnections {
    /// Who is asked first: decides ties, so that an idle pool is a weighted round-robin.
    order: RoundRobin,
}

impl LeastConnections {
    /// For servers of these weights; ties go on from `turn`.
    #[must_use]
    pub fn new(weights: &[u32], turn: &Turn) -> Self {
        Self {
            order: RoundRobin::new(weights, turn),
        }
    }

    /// The usable server with the smallest load / weight.
    pub fn pick<C: Candidates>(&self, candidates: &C) -> Option<usize> {
        let start = if self.order.is_empty() {
            0
        } else {
            self.order.take()
        };
        let cost = |i| {
            (
                u64::from(candidates.load(i)),
                u64::from(candidates.weight(i)),
            )
        };
        // load / weight < least_load / least_weight, without dividing.
        let less = |(load, weight), (least, of): (u64, u64)| load * of < least * weight;
        crate::least(candidates, start, cost, less).map(|(i, _)| i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Servers;
    use proptest::prelude::*;

    #[test]
    fn table() {
        // weights, loads, usable -> chosen
        for (weights, loads, usable, chosen) in [
            ([1, 1, 1], [3, 1, 2], [true; 3], Some(1)),
            ([1, 1, 1], [3, 1, 2], [true, false, true], Some(2)),
            ([4, 1, 1], [3, 1, 2], [true; 3], Some(0)),
            ([4, 1, 1], [8, 1, 2], [true; 3], Some(1)),
            ([1, 1, 1], [0, 0, 0], [false; 3], None),
        ] {
            let mut servers = Servers::new(&weights);
            servers.loads = loads.to_vec();
            servers.usable = usable.to_vec();
            let balancer = LeastConnections::new(&weights, &Turn::default());
            for _ in 0..10 {
                assert_eq!(balancer.pick(&servers), chosen, "{weights:?} {loads:?}");
            }
        }
    }

    #[test]
    fn ties_rotate_by_weight() {
        let servers = Servers::new(&[3, 1]);
        let balancer = LeastConnections::new(&[3, 1], &Turn::default());
        let first = (0..400)
            .filter(|_| balancer.pick(&servers) == Some(0))
            .count();
        assert_eq!(first, 300);
    }

    #[test]
    fn in_a_large_pool_the_only_usable_one_is_found() {
        let weights = vec![1; 1000];
        let balancer = LeastConnections::new(&weights, &Turn::default());
        let mut servers = Servers::new(&weights);
        for only in [0, 127, 128, 500, 999] {
            servers.usable = (0..1000).map(|i| i == only).collect();
            assert!(
                (0..1500).all(|_| balancer.pick(&servers) == Some(only)),
                "{only}"
            );
        }
        servers.usable.fill(false);
        assert_eq!(balancer.pick(&servers), None);
    }

    proptest! {
        /// With nothing ever ending, loads come out proportional to weights.
        #[test]
        fn loads_follow_weights(weights in prop::collection::vec(1_u32..20, 1..10)) {
            let balancer = LeastConnections::new(&weights, &Turn::default());
            let mut servers = Servers::new(&weights);
            let total: u32 = weights.iter().sum();
            for _ in 0..total * 50 {
                let i = balancer.pick(&servers).unwrap();
                servers.loads[i] += 1;
            }
            for (load, weight) in servers.loads.iter().zip(&weights) {
                prop_assert!(load.abs_diff(weight * 50) <= *weight, "{:?} {:?}", servers.loads, weights);
            }
        }
    }
}
