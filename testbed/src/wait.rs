//! Waiting for conditions, never for time.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Far beyond what any condition needs; reached only when the condition never comes.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`DEADLINE`]; the message says `what` was waited for.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    some(what, || condition().then_some(()));
}

/// Waits until `condition` gives something, and returns that.
///
/// # Panics
/// If it does not within [`DEADLINE`]; the message says `what` was waited for.
#[track_caller]
pub fn some<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A door that a test opens for a peer that waits before it. Clones are the same door.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens it for good.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    /// Waits until it is open.
    ///
    /// # Panics
    /// If that does not happen within [`DEADLINE`].
    pub fn wait(&self) {
        let guard = self.0.0.lock().unwrap();
        let (_guard, timeout) = self
            .0
            .1
            .wait_timeout_while(guard, DEADLINE, |open| !*open)
            .unwrap();
        assert!(
            !timeout.timed_out(),
            "a gate stayed closed for {DEADLINE:?}"
        );
    }
}
