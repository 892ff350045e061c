//! The generic cell rate algorithm (ITU-T I.371): one number for each client.
//!
//! That number is the moment at which the next event would be exactly on time. An event may be early by the
//! burst; then it moves the moment one interval on.

use std::net::IpAddr;

use super::ClientKey;
use crate::Tick;
use crate::bounded::{Aged, Bounded};
use crate::plan::Rate;

/// Most clients remembered at a time; a client forgotten starts with a full burst.
const CAPACITY: usize = 100_000;

/// Rates of clients against one limit.
#[derive(Debug, Default)]
pub struct Rates(Bounded<ClientKey, OnTime>);

#[derive(Clone, Copy, Debug)]
struct OnTime(Tick);

impl Aged for OnTime {
    fn age(&self) -> u64 {
        self.0.0
    }
}

impl Rates {
    /// Whether an event of `client` is within `rate`; counts it if so. A client that was quiet may
    /// spend what the rate allows in one second (or `rate.count`, if its period is longer) at once.
    pub fn allow(&self, client: IpAddr, rate: Rate, now: Tick) -> bool {
        let interval = rate.interval();
        let burst = interval.saturating_mul(burst(rate) - 1);
        self.0.with_or_insert(
            ClientKey::from(client),
            CAPACITY,
            || OnTime(now),
            |on_time| {
                let due = on_time.0.max(now);
                // Early by more than the burst?
                let allowed = due.since(now) <= burst;
                if allowed {
                    on_time.0 = due + interval;
                }
                allowed
            },
        )
    }

    /// Forgets clients whose account is settled; for a control thread to call now and then.
    pub fn sweep(&self, now: Tick) {
        self.0.retain(|_, on_time| on_time.0 > now);
    }

    /// Clients remembered.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.0.len()
    }
}

/// Events at once.
fn burst(rate: Rate) -> u32 {
    let a_second = f64::from(rate.count) / rate.per.as_secs_f64().max(f64::MIN_POSITIVE);
    (a_second as u32).clamp(1, rate.count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate {
            count,
            per: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn bursts_then_pace() {
        // rate, events at once, ms until one more
        for (rate, at_once, next_ms) in [
            (rate(10, 1), 10, 100),
            (rate(6000, 60), 100, 10),
            (rate(1, 1), 1, 1000),
            (rate(30, 60), 1, 2000),
        ] {
            let rates = Rates::default();
            let start = Tick::from_millis(5_000);
            let allowed = (0..1000)
                .take_while(|_| rates.allow(CLIENT, rate, start))
                .count();
            assert_eq!(allowed, at_once, "{rate:?}");
            let just_before = Tick::from_millis(5_000 + next_ms - 1);
            assert!(!rates.allow(CLIENT, rate, just_before), "{rate:?}");
            let then = Tick::from_millis(5_000 + next_ms);
            assert!(rates.allow(CLIENT, rate, then), "{rate:?}");
            assert!(!rates.allow(CLIENT, rate, then), "{rate:?}");
        }
    }

    #[test]
    fn clients_do_not_share_and_are_swept() {
        let rates = Rates::default();
        let now = Tick::from_millis(1000);
        assert!(rates.allow(CLIENT, rate(1, 1), now));
        assert!(rates.allow([192, 0, 2, 2].into(), rate(1, 1), now));
        assert!(!rates.allow(CLIENT, rate(1, 1), now));
        rates.sweep(Tick::from_millis(2001));
        assert_eq!(rates.clients(), 0);
    }

    proptest! {
        /// Whatever the pattern, never more than the burst and the rate allow.
        #[test]
        fn never_over_the_rate(gaps in prop::collection::vec(0_u64..200, 1..300), count in 1_u32..50) {
            let rates = Rates::default();
            let rate = rate(count, 1);
            let (mut now, mut allowed) = (1000, 0_u64);
            for gap in &gaps {
                now += gap;
                allowed += u64::from(rates.allow(CLIENT, rate, Tick::from_millis(now)));
            }
            let most = u64::from(count) + (now - 1000) * u64::from(count) / 1000 + 1;
            prop_assert!(allowed <= most, "{} > {}", allowed, most);
        }
    }
}
