//! Which server a client had last: for a time since the last use, across reloads, in bounded memory.

use std::net::IpAddr;

use crate::Tick;
use crate::bounded::{Aged, Bounded};
use crate::endpoint::EndpointId;
use crate::plan::AffinityPlan;

/// Remembered choices of one pool, by source address.
#[derive(Debug, Default)]
pub struct Table(Bounded<IpAddr, Remembered>);

#[derive(Clone, Copy, Debug)]
struct Remembered {
    endpoint: EndpointId,
    used: Tick,
}

impl Aged for Remembered {
    fn age(&self) -> u64 {
        self.used.0
    }
}

impl Table {
    /// The client's server, if it used it less than `ttl` ago; counts as a use.
    pub fn recall(&self, plan: &AffinityPlan, client: IpAddr, now: Tick) -> Option<EndpointId> {
        let client = client.to_canonical();
        self.0
            .with(&client, |r| {
                let fresh = now.since(r.used) < plan.ttl;
                r.used = if fresh { r.used.max(now) } else { r.used };
                fresh.then_some(r.endpoint)
            })
            .flatten()
    }

    /// Remembers the client's server.
    pub fn remember(&self, plan: &AffinityPlan, client: IpAddr, endpoint: EndpointId, now: Tick) {
        let new = Remembered {
            endpoint,
            used: now,
        };
        self.0
            .with_or_insert(client.to_canonical(), plan.capacity, || new, |r| *r = new);
    }

    /// Forgets one client.
    pub fn forget(&self, client: IpAddr) {
        self.0.remove(&client.to_canonical());
    }

    /// Forgets what is older than `ttl`; for a control thread to call now and then.
    pub fn sweep(&self, plan: &AffinityPlan, now: Tick) {
        self.0.retain(|_, r| now.since(r.used) < plan.ttl);
    }

    /// How many clients are remembered, those whose time is over included until swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PLAN: AffinityPlan = AffinityPlan {
        ttl: Duration::from_secs(60),
        capacity: 1000,
    };

    #[test]
    fn the_window_counts_from_the_last_use() {
        let table = Table::default();
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let at = |s: u64| Tick::from_millis(1 + s * 1000);
        table.remember(&PLAN, client, EndpointId(7), at(0));
        assert_eq!(table.recall(&PLAN, client, at(50)), Some(EndpointId(7)));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(table.recall(&PLAN, mapped, at(100)), Some(EndpointId(7)));
        assert_eq!(table.recall(&PLAN, client, at(160)), None);
        table.sweep(&PLAN, at(160));
        assert!(table.is_empty());
    }
}
