//! `least-response-time`: the smallest expected wait: response time x (in flight + 1) / weight.
//!
//! The response time is a peak EWMA ([`crate::ewma`]).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::{Candidates, Gives, Kind, Needs, Turn};

/// What it is.
pub const KIND: Kind = Kind {
    name: "least-response-time",
    summary: "the server expected to answer first: peak EWMA of response times x in flight",
    needs: Needs {
        hash: false,
        load: true,
        latency: true,
    },
    gives: Gives { table: false },
};

/// Peak EWMA, least expected wait.
#[derive(Debug)]
pub struct LeastResponseTime {
    turn: Turn,
}

impl LeastResponseTime {
    /// Ties go on from `turn`.
    #[must_use]
    pub fn new(turn: &Turn) -> Self {
        Self {
            turn: Arc::clone(turn),
        }
    }

    /// The usable server with the smallest cost.
    pub fn pick<C: Candidates>(&self, candidates: &C) -> Option<usize> {
        let n = candidates.len();
        let start = (self.turn.fetch_add(1, Relaxed) % n as u64) as usize;
        // A server nothing is known of is taken for as fast as the fastest that is known: tried soon, not flooded.
        let unknown = (0..n)
            .map(|i| candidates.latency(i))
            .filter(|l| *l > 0)
            .min()
            .unwrap_or(1_000_000);
        let mut best: Option<(usize, f64)> = None;
        for i in (start..n).chain(0..start) {
            let latency = match candidates.latency(i) {
                0 => unknown,
                known => known,
            };
            let cost = latency as f64 * (f64::from(candidates.load(i)) + 1.0)
                / f64::from(candidates.weight(i));
            if best.is_none_or(|(_, least)| cost < least) && candidates.usable(i) {
                best = Some((i, cost));
            }
        }
        best.map(|(i, _)| i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Servers;

    #[test]
    fn table() {
        // weights, latencies (ms), loads -> chosen
        for (weights, latencies, loads, chosen) in [
            ([1, 1], [10, 20], [0, 0], 0),
            ([1, 1], [10, 20], [2, 0], 1),
            ([1, 1], [10, 20], [1, 1], 0),
            ([1, 4], [10, 20], [0, 0], 1),
            ([1, 1], [10, 0], [1, 0], 1),
            ([1, 1], [10, 0], [0, 1], 0),
        ] {
            let mut servers = Servers::new(&weights);
            servers.latencies = latencies.iter().map(|ms| ms * 1_000_000).collect();
            servers.loads = loads.to_vec();
            let balancer = LeastResponseTime::new(&Turn::default());
            for _ in 0..4 {
                assert_eq!(
                    balancer.pick(&servers),
                    Some(chosen),
                    "{weights:?} {latencies:?} {loads:?}"
                );
            }
            servers.usable[chosen] = false;
            assert_eq!(balancer.pick(&servers), Some(1 - chosen));
        }
    }

    #[test]
    fn equals_take_turns() {
        let servers = Servers::new(&[1, 1, 1]);
        let balancer = LeastResponseTime::new(&Turn::default());
        let chosen: Vec<_> = (0..6).filter_map(|_| balancer.pick(&servers)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }
}
