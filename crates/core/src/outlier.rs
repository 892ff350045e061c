//! Passive health: a server that errs again and again is left out for a while.
//!
//! An endpoint only counts and raises its hand ([`Outlier::suspect`]); the pool, which sees the
//! others, decides ([`decide`]): never more than `max_ejected` of them, never the last one usable.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::Tick;
use crate::plan::OutlierPlan;

/// Longest ejection, in first ejections.
const LONGEST: u32 = 10;

/// Of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Outlier {
    consecutive: AtomicU32,
    suspect: AtomicBool,
    /// Nanoseconds; 0 = never, or forgiven.
    until: AtomicU64,
    /// Ejections that followed one another closely.
    times: AtomicU32,
}

impl Outlier {
    pub(crate) fn succeeded(&self) {
        // Most often zero already: reading does not take the line from other cores.
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
    }

    /// Counts an error; whether the pool has to look at it.
    pub(crate) fn failed(&self, threshold: u32) -> bool {
        let errors = self.consecutive.fetch_add(1, Ordering::Relaxed) + 1;
        if errors < threshold {
            return false;
        }
        self.consecutive.store(0, Ordering::Relaxed);
        self.suspect.store(true, Ordering::Release);
        true
    }

    pub(crate) fn suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// The pool decided not to eject it; it has to err as often again to be looked at again.
    pub(crate) fn spare(&self) {
        self.suspect.store(false, Ordering::Release);
    }

    pub(crate) fn eject(&self, now: Tick, plan: &OutlierPlan) {
        let before = self.until.load(Ordering::Acquire);
        let good_for = now.since(Tick(before));
        let times = match before {
            0 => 0,
            // Long good in between: the past is past.
            _ if good_for > plan.eject * LONGEST => 0,
            _ => self.times.load(Ordering::Relaxed) + 1,
        };
        self.times.store(times, Ordering::Relaxed);
        self.until.store(
            (now + length(plan.eject, times)).0.max(1),
            Ordering::Release,
        );
        self.suspect.store(false, Ordering::Release);
    }

    pub(crate) fn forgive(&self) {
        self.until.store(0, Ordering::Release);
        self.times.store(0, Ordering::Relaxed);
        self.consecutive.store(0, Ordering::Relaxed);
        self.suspect.store(false, Ordering::Release);
    }

    /// When the last ejection ends or ended.
    pub(crate) fn until(&self) -> Option<Tick> {
        match self.until.load(Ordering::Acquire) {
            0 => None,
            until => Some(Tick(until)),
        }
    }
}

/// Doubles with each one that follows, up to ten times the first.
fn length(first: Duration, times: u32) -> Duration {
    first * 2_u32.saturating_pow(times).min(LONGEST)
}

/// How many of `servers` may be out at a time.
pub(crate) fn most_ejected(plan: &OutlierPlan, servers: usize) -> usize {
    if plan.max_ejected <= 0.0 {
        return 0;
    }
    // At least one, or the option would do nothing in a small pool; the last usable one is kept anyway.
    ((servers as f64 * plan.max_ejected) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(eject_s: u64, max_ejected: f64) -> OutlierPlan {
        OutlierPlan {
            consecutive_errors: 3,
            eject: Duration::from_secs(eject_s),
            max_ejected,
        }
    }

    #[test]
    fn only_consecutive_errors_count() {
        let outlier = Outlier::default();
        assert!(!outlier.failed(3));
        assert!(!outlier.failed(3));
        outlier.succeeded();
        assert!(!outlier.failed(3));
        assert!(!outlier.failed(3));
        assert!(outlier.failed(3));
        assert!(outlier.suspect());
    }

    #[test]
    fn ejections_double_up_to_ten_and_are_forgotten() {
        let (outlier, plan) = (Outlier::default(), plan(30, 0.5));
        let mut now = Tick::from_millis(1000);
        for seconds in [30, 60, 120, 240, 300, 300] {
            outlier.eject(now, &plan);
            assert_eq!(outlier.until(), Some(now + Duration::from_secs(seconds)));
            now = now + Duration::from_secs(seconds + 1);
        }
        now = now + Duration::from_secs(301);
        outlier.eject(now, &plan);
        assert_eq!(outlier.until(), Some(now + Duration::from_secs(30)));
    }

    #[test]
    fn share_of_the_pool() {
        for (servers, share, most) in [
            (2, 0.5, 1),
            (3, 0.5, 1),
            (10, 0.5, 5),
            (10, 0.05, 1),
            (4, 0.0, 0),
            (4, 1.0, 4),
        ] {
            assert_eq!(
                most_ejected(&plan(30, share), servers),
                most,
                "{servers} {share}"
            );
        }
    }
}
