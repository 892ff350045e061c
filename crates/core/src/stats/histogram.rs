//! Latencies, in fixed buckets that are exact in Prometheus and fine enough for percentiles.
//!
//! Bounds follow the R10 series of preferred numbers (ISO 3): ten a decade, each about 1.26 times
//! the one before, from 10 us to 100 s. Every third or so (1, 2.5, 5) is shown to Prometheus.

use std::time::Duration;

use super::Count;

const DECADES: usize = 7;
const STEPS: [u64; 10] = [100, 125, 160, 200, 250, 315, 400, 500, 630, 800];
/// Upper bounds; one more bucket holds what is above the last.
const BOUNDS: usize = DECADES * STEPS.len() + 1;

/// Upper bounds in nanoseconds.
const LIMITS: [u64; BOUNDS] = {
    let mut limits = [0; BOUNDS];
    let mut scale = 100; // 10 us = 100 steps of 100 ns
    let mut i = 0;
    while i < BOUNDS {
        limits[i] = STEPS[i % 10] * scale;
        if i % 10 == 9 {
            scale *= 10;
        }
        i += 1;
    }
    limits
};

/// For each power of two, the first bucket a value of that magnitude can fall into.
const FIRST: [u8; 64] = {
    let mut first = [0; 64];
    let mut bits = 0;
    while bits < 64 {
        let mut i = 0;
        while i < BOUNDS && LIMITS[i] < 1 << bits {
            i += 1;
        }
        first[bits] = i as u8;
        bits += 1;
    }
    first
};

fn bucket(ns: u64) -> usize {
    let mut i = usize::from(FIRST[(ns | 1).ilog2() as usize]);
    // At most four steps: a factor of two is three to four buckets.
    while i < BOUNDS && ns > LIMITS[i] {
        i += 1;
    }
    i
}

/// Counts of durations. Lives in a [`PerCore`](super::PerCore) slot.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Count; BOUNDS + 1],
    sum_ns: Count,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Count::default()),
            sum_ns: Count::default(),
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)].add(1);
        self.sum_ns.add(ns);
    }
}

/// A histogram as read, merged over workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    buckets: [u64; BOUNDS + 1],
    sum_ns: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            buckets: [0; BOUNDS + 1],
            sum_ns: 0,
        }
    }
}

impl Snapshot {
    /// Adds what a worker counted.
    pub fn add(&mut self, histogram: &Histogram) {
        for (sum, part) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += part.get();
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns.get());
    }

    /// Adds another snapshot, of another server for example.
    pub fn merge(&mut self, other: &Self) {
        for (sum, part) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += part;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// For Prometheus: upper bounds in seconds with the count at or below each; the last bound is infinity.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut below = 0;
        let shown = self.buckets[..BOUNDS]
            .iter()
            .enumerate()
            .filter_map(move |(i, n)| {
                below += n;
                matches!(i % 10, 0 | 4 | 7).then(|| (LIMITS[i] as f64 / 1e9, below))
            });
        shown.chain(std::iter::once_with(|| (f64::INFINITY, self.count())))
    }

    /// The duration that a share `q` (0.5, 0.99) of those counted does not exceed, to about a tenth; `None` when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * count as f64).ceil().max(1.0);
        let mut below = 0_u64;
        for (i, n) in self.buckets.iter().enumerate() {
            if (below + n) as f64 >= rank {
                let low = if i == 0 { 0 } else { LIMITS[i - 1] };
                // Nothing is known of the last bucket but where it begins.
                let high = LIMITS.get(i).copied().unwrap_or(low);
                let share = (rank - below as f64) / *n as f64;
                return Some(Duration::from_nanos(
                    low + ((high - low) as f64 * share) as u64,
                ));
            }
            below += n;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_what_is_written() {
        assert_eq!(LIMITS[0], 10_000);
        assert_eq!(LIMITS[10], 100_000);
        assert_eq!(LIMITS[20], 1_000_000);
        assert_eq!(LIMITS[BOUNDS - 1], 100_000_000_000);
        assert!(LIMITS.is_sorted());
    }

    #[test]
    fn prometheus_sees_round_seconds() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(1));
        histogram.record(Duration::from_millis(3));
        histogram.record(Duration::from_secs(1000));
        let mut snapshot = Snapshot::default();
        snapshot.add(&histogram);
        let shown: Vec<_> = snapshot.cumulative().collect();
        assert_eq!(shown.len(), 23);
        for (le, expected) in [
            (0.0005, 0),
            (0.001, 1),
            (0.0025, 1),
            (0.005, 2),
            (100.0, 2),
            (f64::INFINITY, 3),
        ] {
            assert!(shown.contains(&(le, expected)), "{le}: {shown:?}");
        }
        assert!((snapshot.sum_seconds() - 1000.004).abs() < 1e-9);
    }

    #[test]
    fn an_empty_one_has_no_quantile() {
        assert_eq!(Snapshot::default().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn every_value_is_in_its_bucket(ns: u64) {
            let i = bucket(ns);
            prop_assert!(i == BOUNDS || ns <= LIMITS[i]);
            prop_assert!(i == 0 || ns > LIMITS[i - 1]);
        }

        #[test]
        fn quantiles_are_near(mut values in prop::collection::vec(10_001_u64..100_000_000_000, 1..300)) {
            let histogram = Histogram::default();
            for v in &values {
                histogram.record(Duration::from_nanos(*v));
            }
            let mut snapshot = Snapshot::default();
            snapshot.add(&histogram);
            values.sort_unstable();
            for q in [0.5, 0.9, 0.99] {
                let rank = (q * values.len() as f64).ceil() as usize;
                let exact = values[rank - 1] as f64;
                let estimate = snapshot.quantile(q).unwrap().as_nanos() as f64;
                prop_assert!((0.75..1.3).contains(&(estimate / exact)), "{q}: {estimate} for {exact}");
            }
        }
    }
}
