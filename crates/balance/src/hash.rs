//! `hash`: one key, one server: a weighted Maglev table ([`crate::maglev`]).
//!
//! The table holds every server with weight, usable or not: when one cannot be used, its keys alone
//! are hashed again, and come back to it when it does. With `bounded_load` (Mirrokni et al. 2016,
//! consistent hashing with bounded loads) a server that has more than that multiple of its fair
//! share of what is in flight is passed over.

use std::sync::Arc;

use crate::maglev::Table;
use crate::{Candidates, Gives, Key, Kind, Needs, below, mix, next_usable};

/// What it is.
pub const KIND: Kind = Kind {
    name: "hash",
    summary: "the same server for the same key: weighted Maglev",
    needs: Needs {
        hash: true,
        load: false,
        latency: false,
    },
    gives: Gives { table: true },
};

/// All of a server's keys: see [`Candidates::share`].
pub const WHOLE: u32 = 1 << 16;

/// Times a key is hashed again before anyone usable is taken.
const PATIENCE: usize = 64;

/// Weighted Maglev with bounded loads.
#[derive(Debug)]
pub struct Hash {
    table: Arc<Table>,
    bounded_load: Option<f64>,
}

impl Hash {
    /// With a table over the same servers that candidates will be.
    #[must_use]
    pub fn new(table: Arc<Table>, bounded_load: Option<f64>) -> Self {
        Self {
            table,
            bounded_load,
        }
    }

    /// The key's server, or where it goes while that cannot be used.
    pub fn pick<C: Candidates>(&self, candidates: &C, key: &Key) -> Option<usize> {
        let bound = self
            .bounded_load
            .map(|factor| Bound::new(candidates, factor));
        let fits = |i: usize| {
            candidates.usable(i) && bound.as_ref().is_none_or(|b| b.has_room(candidates, i))
        };
        let mut hash = key.hash;
        for _ in 0..PATIENCE {
            let i = self.table.get(hash)? as usize;
            // Which keys a starting server gets is decided by the key, so that they stay when it gets more.
            let draw = (mix(hash) as u32) % WHOLE;
            if i < candidates.len() && draw < candidates.share(i) && fits(i) {
                return Some(i);
            }
            hash = mix(hash);
        }
        let n = candidates.len();
        let start = below(hash as u32, n);
        (start..n)
            .chain(0..start)
            .find(|i| fits(*i))
            .or_else(|| next_usable(candidates, start))
    }
}

/// The most a server may have in flight.
struct Bound {
    per_weight: f64,
}

impl Bound {
    fn new<C: Candidates>(candidates: &C, factor: f64) -> Self {
        let (mut load, mut weight) = (1.0, 0.0); // one for the request to be placed
        for i in (0..candidates.len()).filter(|i| candidates.share(*i) > 0) {
            load += f64::from(candidates.load(i));
            weight += f64::from(candidates.weight(i));
        }
        Self {
            per_weight: factor * load / f64::max(weight, 1.0),
        }
    }

    fn has_room<C: Candidates>(&self, candidates: &C, i: usize) -> bool {
        let most = (self.per_weight * f64::from(candidates.weight(i))).ceil();
        f64::from(candidates.load(i)) < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maglev::Server;
    use crate::testing::Servers;

    fn balancer(weights: &[u32], bounded_load: Option<f64>) -> (Hash, Servers) {
        let servers: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, w)| Server {
                identity: format!("10.0.0.{i}:80"),
                weight: *w,
            })
            .collect();
        (
            Hash::new(Arc::new(Table::new(&servers, 4099)), bounded_load),
            Servers::new(weights),
        )
    }

    fn keys() -> impl Iterator<Item = Key> {
        (0..20_000).map(|i| Key {
            random: 0,
            hash: mix(i),
        })
    }

    #[test]
    fn only_the_keys_of_an_unusable_server_move_and_they_spread() {
        let (balancer, mut servers) = balancer(&[1; 5], None);
        let before: Vec<_> = keys()
            .map(|k| balancer.pick(&servers, &k).unwrap())
            .collect();
        servers.usable[2] = false;
        let mut moved_to = [0; 5];
        for (key, before) in keys().zip(&before) {
            let now = balancer.pick(&servers, &key).unwrap();
            if *before == 2 {
                moved_to[now] += 1;
            } else {
                assert_eq!(now, *before);
            }
        }
        assert_eq!(moved_to[2], 0);
        for i in [0, 1, 3, 4] {
            assert!((850..1150).contains(&moved_to[i]), "{moved_to:?}");
        }
        servers.usable[2] = true;
        assert!(
            keys()
                .zip(&before)
                .all(|(k, b)| balancer.pick(&servers, &k) == Some(*b))
        );
    }

    #[test]
    fn a_starting_server_gets_its_share_and_keeps_what_it_got() {
        let (balancer, mut servers) = balancer(&[1; 4], None);
        let mut had: Vec<bool> = Vec::new();
        for percent in [10, 50, 100] {
            servers.shares[0] = WHOLE * percent / 100;
            let has: Vec<_> = keys()
                .map(|k| balancer.pick(&servers, &k) == Some(0))
                .collect();
            let count = has.iter().filter(|h| **h).count();
            let fair = 20_000 / 4 * percent as usize / 100;
            assert!(count.abs_diff(fair) < 350, "{percent}: {count}");
            assert!(
                had.iter()
                    .zip(&has)
                    .filter(|(had, has)| **had && !**has)
                    .count()
                    == 0
            );
            had = has;
        }
    }

    #[test]
    fn bounded_load_spills_over() {
        let (balancer, mut servers) = balancer(&[1; 4], Some(1.25));
        let hot = Key {
            random: 0,
            hash: 42,
        };
        let first = balancer.pick(&servers, &hot).unwrap();
        for _ in 0..1000 {
            let i = balancer.pick(&servers, &hot).unwrap();
            servers.loads[i] += 1;
        }
        let most = *servers.loads.iter().max().unwrap();
        assert!(most <= 314, "{:?}", servers.loads);
        assert_eq!(servers.loads[first], most);
    }

    #[test]
    fn the_only_usable_of_many_is_found() {
        let (balancer, mut servers) = balancer(&[1; 200], None);
        servers.usable = (0..200).map(|i| i == 150).collect();
        servers.shares = servers
            .usable
            .iter()
            .map(|u| if *u { WHOLE } else { 0 })
            .collect();
        assert!(
            keys()
                .take(500)
                .all(|k| balancer.pick(&servers, &k) == Some(150))
        );
        servers.usable[150] = false;
        assert_eq!(balancer.pick(&servers, &Key::default()), None);
    }
}
