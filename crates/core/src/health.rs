//! When a server counts as up or down, from the results of its checks.
//!
//! ```text
//!              rise successes                fall failures
//!   Probing ───────────────────────▶ Up ◀─────────────────▶ Down
//!      │                                   rise successes    ▲
//!      └─────────────────────────────────────────────────────┘
//!                          fall failures
//! ```

use std::time::Duration;

use crate::endpoint::Health;
use crate::plan::HealthPlan;

/// One server's state; belongs to its prober.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    health: Health,
    /// Results in a row that speak for a change.
    streak: u32,
    /// Successes in a row seen by a probing server, which a failure resets (and the other way round).
    last_ok: bool,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: Health,
    /// After.
    pub to: Health,
}

impl Machine {
    /// Goes on from what is known of the endpoint (which outlives reloads).
    #[must_use]
    pub const fn new(health: Health) -> Self {
        Self {
            health,
            streak: 0,
            last_ok: true,
        }
    }

    /// The state.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Takes in a check's result.
    pub fn observe(&mut self, plan: &HealthPlan, ok: bool) -> Option<Transition> {
        let (to, needed) = match (self.health, ok) {
            (Health::Up, true) | (Health::Down, false) => {
                self.streak = 0;
                return None;
            }
            (_, true) => (Health::Up, plan.rise),
            (_, false) => (Health::Down, plan.fall),
        };
        if self.last_ok != ok {
            self.streak = 0;
            self.last_ok = ok;
        }
        self.streak += 1;
        if self.streak < needed {
            return None;
        }
        self.streak = 0;
        let from = std::mem::replace(&mut self.health, to);
        Some(Transition { from, to })
    }

    /// Whether a state is changing: checks follow one another at `fast_interval`.
    #[must_use]
    pub const fn changing(&self) -> bool {
        self.streak > 0 || matches!(self.health, Health::Probing)
    }

    /// From the start of one check to the start of the next.
    ///
    /// Up to a tenth shorter by `random`, so that checks of many servers (and many balancers) do not march in step;
    /// never longer, so that a crash is seen in time.
    #[must_use]
    pub fn next_delay(&self, plan: &HealthPlan, random: u64) -> Duration {
        let full = if self.changing() {
            plan.fast_interval
        } else {
            plan.interval
        };
        full - full.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64 / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Origin, ProbePlan};

    fn plan() -> HealthPlan {
        HealthPlan {
            probe: ProbePlan::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            fast_interval: Duration::from_secs(1),
            port: None,
            origin: Origin {
                file: "t".into(),
                line: 1,
            },
        }
    }

    #[test]
    fn table() {
        use Health::{Down, Probing, Up};
        // results (+ ok, - failed) -> states after each
        for (start, results, states) in [
            (Probing, "++", vec![Probing, Up]),
            (
                Probing,
                "+-+-++",
                vec![Probing, Probing, Probing, Probing, Probing, Up],
            ),
            (Probing, "---", vec![Probing, Probing, Down]),
            (Up, "--+---", vec![Up, Up, Up, Up, Up, Down]),
            (Down, "+-++", vec![Down, Down, Down, Up]),
            (Up, "---++", vec![Up, Up, Down, Down, Up]),
        ] {
            let mut machine = Machine::new(start);
            for (i, (result, state)) in results.chars().zip(states).enumerate() {
                let before = machine.health();
                let transition = machine.observe(&plan(), result == '+');
                assert_eq!(machine.health(), state, "{results} at {i}");
                assert_eq!(
                    transition,
                    (before != state).then_some(Transition {
                        from: before,
                        to: state
                    })
                );
            }
        }
    }

    #[test]
    fn fast_while_changing_and_never_late() {
        let mut machine = Machine::new(Health::Up);
        assert_eq!(machine.next_delay(&plan(), 0), Duration::from_secs(2));
        let shortest = machine.next_delay(&plan(), u64::MAX);
        assert!(shortest >= Duration::from_millis(1800) && shortest < Duration::from_millis(1801));
        machine.observe(&plan(), false);
        assert_eq!(machine.next_delay(&plan(), 0), Duration::from_secs(1));
        machine.observe(&plan(), true);
        assert_eq!(machine.next_delay(&plan(), 0), Duration::from_secs(2));
        assert_eq!(
            Machine::new(Health::Probing).next_delay(&plan(), 0),
            Duration::from_secs(1)
        );
    }
}
