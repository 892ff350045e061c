//! Peak EWMA: a smoothed response time that jumps up at once and comes down with time.
//!
//! As in Finagle and linkerd: an average whose memory is a time, not a number of requests. A value
//! above the average replaces it (the balancer must react to a slow server at once); below, it
//! pulls the average down the more, the longer ago the last one was. With no news it decays too, so
//! that a server that was slow once is tried again.

/// Time in which what is remembered shrinks to 1/e: Finagle's default is 10 s.
pub const DECAY_NS: u64 = 10_000_000_000;

/// exp(-elapsed / DECAY), within a tenth down to 1/20: asked for every server at every choice, so it must be cheap.
fn remembered(elapsed_ns: u64) -> f64 {
    let x = elapsed_ns as f64 / DECAY_NS as f64;
    1.0 / (1.0 + x * (1.0 + x * (0.5 + x / 6.0)))
}

/// The average after `value`, `elapsed_ns` after the one before.
#[must_use]
pub fn observe(average: f64, value: f64, elapsed_ns: u64) -> f64 {
    if value >= average {
        return value;
    }
    let w = remembered(elapsed_ns);
    average * w + value * (1.0 - w)
}

/// The average `elapsed_ns` after the last observation, to be used for a choice.
#[must_use]
pub fn decayed(average: f64, elapsed_ns: u64) -> f64 {
    average * remembered(elapsed_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_up_and_comes_down_with_time() {
        let slow = observe(1e6, 1e9, 1);
        assert_eq!(slow, 1e9);
        let soon = observe(slow, 1e6, 1_000_000);
        assert!(soon > 0.99e9);
        let later = observe(slow, 1e6, DECAY_NS);
        assert!((later / 1e9 - 0.3756).abs() < 0.001, "{later}");
        let much_later = observe(slow, 1e6, u64::MAX);
        assert!((much_later - 1e6).abs() < 1.0);
        assert!(decayed(slow, 100 * DECAY_NS) < slow / 100_000.0);
    }
}
