//! How much may be sent again: retries must not multiply the load of a pool that is failing.
//!
//! What reached no server needs no budget: a refused connection, or a kept connection that turns out to be closed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Tick;
use crate::stats::{Count, PerCore};

/// Requests count for five to ten seconds.
const WINDOW: Duration = Duration::from_secs(5);
/// Retries a second that are always allowed.
const FLOOR: u64 = 3;

/// A budget: retries as a share of recent requests. Counting a request costs one addition on the worker's own line.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    requests: PerCore<Count>,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Tick,
    /// Requests counted in all when this window and the one before began.
    base: [u64; 2],
    /// Retries in this window and the one before.
    retries: [u64; 2],
    /// The second that `this_second` counts.
    second: Tick,
    this_second: u64,
}

impl Budget {
    /// `share`: 0.2 = retries may be a fifth of requests.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self {
            share,
            requests: PerCore::new(),
            window: Mutex::default(),
        }
    }

    /// Counts a request (not a retry).
    pub fn request(&self) {
        self.requests.here().inc();
    }

    /// Whether one more retry is allowed; counts it if so.
    pub fn withdraw(&self, now: Tick) -> bool {
        let total = self.requests.sum(|count| count);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.turn(now, total);
        let requests = total.saturating_sub(window.base[1]);
        let retries: u64 = window.retries.iter().sum();
        let allowed =
            window.this_second < FLOOR || ((retries + 1) as f64) <= self.share * requests as f64;
        if allowed {
            window.this_second += 1;
            window.retries[0] += 1;
        }
        allowed
    }
}

impl Window {
    fn turn(&mut self, now: Tick, total: u64) {
        let passed = now.since(self.began);
        if passed >= 2 * WINDOW {
            // Nothing was asked for a while: requests since then count at their mean rate, or the first failure after
            // a good hour would find no budget. Before the first one, all of them.
            let since = total - self.base[0];
            let recent = if self.began == Tick(0) {
                since
            } else {
                mean(since, passed, 2 * WINDOW)
            };
            self.base = [total - recent; 2];
            self.retries = [0; 2];
            self.began = now;
        } else if passed >= WINDOW {
            self.base = [total, self.base[0]];
            self.retries = [0, self.retries[0]];
            self.began = self.began + WINDOW;
        }
        if now.since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.this_second = 0;
        }
    }
}

/// Of `n` events in `passed`, those that fall into `window`.
fn mean(n: u64, passed: Duration, window: Duration) -> u64 {
    (u128::from(n) * window.as_nanos() / passed.as_nanos().max(1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(budget: &Budget, now: Tick) -> usize {
        (0..1000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_fifth_of_requests() {
        let budget = Budget::new(0.2);
        (0..1000).for_each(|_| budget.request());
        assert_eq!(allowed(&budget, Tick::from_millis(20_000)), 200);
    }

    #[test]
    fn three_a_second_always() {
        let budget = Budget::new(0.0);
        for second in 20..25 {
            assert_eq!(
                allowed(&budget, Tick::from_millis(second * 1000)),
                3,
                "{second}"
            );
            assert_eq!(allowed(&budget, Tick::from_millis(second * 1000 + 500)), 0);
        }
    }

    #[test]
    fn old_requests_are_forgotten() {
        let budget = Budget::new(0.5);
        (0..100).for_each(|_| budget.request());
        let at = |s: u64| Tick::from_millis(100_000 + s * 1000);
        assert!(budget.withdraw(at(0)));
        assert!(budget.withdraw(at(6)));
        assert!(budget.withdraw(at(11)));
        assert_eq!(allowed(&budget, at(17)), 3);
    }

    #[test]
    fn the_first_failure_after_a_good_hour_has_the_budget_of_ten_seconds() {
        let budget = Budget::new(0.2);
        let start = Tick::from_millis(1_000_000);
        assert!(budget.withdraw(start));
        (0..360_000).for_each(|_| budget.request());
        assert_eq!(allowed(&budget, start + Duration::from_secs(3600)), 200);
    }
}
