//! What is counted of each thing. Names are those of the metrics.

use super::{Count, Gauge, Histogram, PerCore};
use crate::Reason;

/// Of one server.
pub type EndpointStats = PerCore<EndpointCells>;
/// Of one pool.
pub type PoolStats = PerCore<PoolCells>;
/// Of one route.
pub type RouteStats = PerCore<RouteCells>;
/// Of one listener.
pub type ListenerStats = PerCore<ListenerCells>;

/// Responses by the first digit of their status.
#[derive(Debug, Default)]
pub struct StatusClasses([Count; 5]);

impl StatusClasses {
    /// Counts a response; what is no status at all counts as 5xx.
    pub fn count(&self, status: u16) {
        let class = match status / 100 {
            class @ 1..=5 => class,
            _ => 5,
        };
        self.0[usize::from(class) - 1].inc();
    }

    /// The count of `1xx` (class 1) to `5xx` (class 5).
    #[must_use]
    pub fn class(&self, class: usize) -> &Count {
        &self.0[class.clamp(1, 5) - 1]
    }
}

/// Calls by gRPC status.
#[derive(Debug, Default)]
pub struct GrpcStatuses([Count; GrpcStatuses::NAMES.len()]);

impl GrpcStatuses {
    /// The statuses from 0: names as in the specification of gRPC.
    pub const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    /// Counts a call; what is no status at all counts as UNKNOWN.
    pub fn count(&self, status: u16) {
        let known = usize::from(status) < self.0.len();
        self.0[if known { usize::from(status) } else { 2 }].inc();
    }

    /// The count of a status, an index into [`GrpcStatuses::NAMES`].
    #[must_use]
    pub fn of(&self, status: usize) -> &Count {
        &self.0[status]
    }
}

/// One count for each [`Reason`].
#[derive(Debug)]
pub struct ReasonCounts([Count; Reason::COUNT]);

impl Default for ReasonCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl ReasonCounts {
    /// Counts one.
    pub fn count(&self, reason: Reason) {
        self.0[reason.index()].inc();
    }

    /// The count of a reason.
    #[must_use]
    pub fn of(&self, reason: Reason) -> &Count {
        &self.0[reason.index()]
    }
}

/// Cells of [`EndpointStats`].
#[derive(Debug, Default)]
pub struct EndpointCells {
    /// Requests sent (http), each attempt counted.
    pub requests: Count,
    /// Connections opened (stream: joined; http: dialled), UDP flows begun.
    pub connections: Count,
    /// Connections open now.
    pub open: Gauge,
    /// Kept connections that are idle now (http).
    pub idle: Gauge,
    /// Requests that went over a kept connection.
    pub reused: Count,
    /// Responses by class.
    pub status: StatusClasses,
    /// Failures by reason.
    pub failures: ReasonCounts,
    /// Bytes from the server.
    pub bytes_in: Count,
    /// Bytes to the server.
    pub bytes_out: Count,
    /// From sending the request to the response's head (http), or of the whole connection (stream).
    pub latency: Histogram,
    /// From dialling to connected (with TLS).
    pub connect: Histogram,
    /// Active checks that succeeded.
    pub checks_ok: Count,
    /// Active checks that failed.
    pub checks_failed: Count,
    /// Changes of health, either way.
    pub transitions: Count,
    /// Times it was ejected.
    pub ejections: Count,
}

/// Cells of [`PoolStats`].
#[derive(Debug, Default)]
pub struct PoolCells {
    /// Choices made.
    pub picks: Count,
    /// Choices that found no server, all causes.
    pub no_server: Count,
    /// Choices that fell to a backup.
    pub backups: Count,
    /// Choices made by a remembered client.
    pub affinity_hits: Count,
    /// Remembered clients that had to be moved.
    pub affinity_moves: Count,
    /// Times someone had to wait in the queue.
    pub queued: Count,
    /// Waiting now.
    pub waiting: Gauge,
    /// Waits that ended without a server.
    pub queue_timeouts: Count,
    /// Time waited by those that got a server.
    pub queue_time: Histogram,
    /// Requests sent again.
    pub retries: Count,
    /// Retries that the budget refused.
    pub retries_refused: Count,
}

/// Cells of [`RouteStats`].
#[derive(Debug, Default)]
pub struct RouteCells {
    /// Requests (http) or connections (stream) it took.
    pub requests: Count,
    /// In flight now.
    pub active: Gauge,
    /// Responses by class.
    pub status: StatusClasses,
    /// What Fathom decided itself, by reason.
    pub reasons: ReasonCounts,
    /// Bytes from clients.
    pub bytes_in: Count,
    /// Bytes to clients.
    pub bytes_out: Count,
    /// From the request's first byte to the response's last.
    pub latency: Histogram,
    /// gRPC calls by their status.
    pub grpc: GrpcStatuses,
    /// Requests sent again.
    pub retries: Count,
}

/// Cells of [`ListenerStats`].
#[derive(Debug, Default)]
pub struct ListenerCells {
    /// Connections accepted, UDP flows begun.
    pub connections: Count,
    /// Open now.
    pub active: Gauge,
    /// Bytes from clients.
    pub bytes_in: Count,
    /// Bytes to clients.
    pub bytes_out: Count,
    /// Datagrams from clients (UDP).
    pub datagrams_in: Count,
    /// Datagrams to clients (UDP).
    pub datagrams_out: Count,
    /// Requests without a route and connections refused or broken off, by reason.
    pub reasons: ReasonCounts,
    /// Requests (http).
    pub requests: Count,
    /// TLS handshakes completed.
    pub tls_handshakes: Count,
    /// Of which resumed.
    pub tls_resumed: Count,
    /// Length of handshakes.
    pub tls_time: Histogram,
    /// Errors of accept, such as too many open files.
    pub accept_errors: Count,
}
