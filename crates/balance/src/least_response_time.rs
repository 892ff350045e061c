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

/// What a server nothing is known of counts for while it has not answered its first request, as in Finagle:
/// one request tries it, and no more are sent after it.
const UNKNOWN_NS: u64 = 1_000_000_000;

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
        let start = (self.turn.fetch_add(1, Relaxed) % candidates.len() as u64) as usize;
        let cost = |i| {
            let load = f64::from(candidates.load(i));
            let wait = match candidates.latency(i) {
                0 => UNKNOWN_NS as f64 * load,
                known => known as f64 * (load + 1.0),
            };
            wait / f64::from(candidates.weight(i))
        };
        crate::least(candidates, start, cost, |a, b| a < b).map(|(i, _)| i)
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
            ([1, 1], [10, 0], [9, 1], 0),
            ([1, 1], [0, 0], [2, 1], 1),
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
