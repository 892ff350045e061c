//! A place on a server, held as long as the request or connection lasts.

use std::sync::Arc;
use std::time::Duration;

use crate::Tick;
use crate::endpoint::Endpoint;

/// What a failure counts for in the smoothed response time.
const FAILED: Duration = Duration::from_secs(1);

/// Counts as in flight on its server; dropping it gives the place back and wakes who waits for one.
#[derive(Debug)]
#[must_use = "dropping a lease gives the place back"]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    /// Errors in a row that make the server suspect; 0 = they are not counted.
    errors: u32,
}

impl Lease {
    pub(super) fn new(endpoint: Arc<Endpoint>, errors: u32) -> Self {
        Self { endpoint, errors }
    }

    /// The server.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The server did what it should: `latency` is the time to the head of its response (http) or to the
    /// connection (stream).
    pub fn succeeded(&self, now: Tick, latency: Duration) {
        self.answered(now, latency);
        self.delivered();
    }

    /// The first half of [`Lease::succeeded`]: an answer has begun, and may still fail.
    pub fn answered(&self, now: Tick, latency: Duration) {
        self.endpoint.observe_latency(now, latency);
    }

    /// The second half: all of it came.
    pub fn delivered(&self) {
        if self.errors > 0 {
            self.endpoint.outlier.succeeded();
        }
    }

    /// The server erred ([`Reason::counts_against_server`](crate::Reason::counts_against_server), or a 5xx where that
    /// counts). Enough in a row and it is ejected at the next choice, if the pool can spare it.
    pub fn failed(&self, now: Tick) {
        // Who fails fast must not look fast: `least-response-time` would send everything there.
        self.endpoint.observe_latency(now, FAILED);
        if self.errors > 0 && self.endpoint.outlier.failed(self.errors) {
            self.endpoint.shared().suspected();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.leave();
    }
}
