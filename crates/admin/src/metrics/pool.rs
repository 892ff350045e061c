//! Pools: choices, queue, retries, latency of all servers together.

use fathom_core::stats::{Count, PoolCells, Snapshot};

use super::text::Text;
use crate::State;

type Counter = (&'static str, &'static str, fn(&PoolCells) -> &Count);

const COUNTERS: &[Counter] = &[
    ("pool_picks_total", "Choices of a server.", |c| &c.picks),
    (
        "pool_no_server_total",
        "Choices that found no server.",
        |c| &c.no_server,
    ),
    (
        "pool_backups_total",
        "Choices that fell to a backup.",
        |c| &c.backups,
    ),
    (
        "pool_affinity_hits_total",
        "Choices made by a remembered client.",
        |c| &c.affinity_hits,
    ),
    (
        "pool_affinity_moves_total",
        "Remembered clients that had to be moved.",
        |c| &c.affinity_moves,
    ),
    (
        "pool_queued_total",
        "Times someone had to wait in the queue.",
        |c| &c.queued,
    ),
    (
        "pool_queue_timeouts_total",
        "Waits that ended without a server.",
        |c| &c.queue_timeouts,
    ),
    ("pool_retries_total", "Requests sent again.", |c| &c.retries),
    (
        "pool_refused_retries_total",
        "Retries that the budget refused.",
        |c| &c.retries_refused,
    ),
];

pub(super) fn write(text: &mut Text, state: &State) {
    for (name, help, of) in COUNTERS {
        let mut family = text.counter(name, help);
        for pool in &state.pools {
            family.sample(&[("pool", pool.name())], pool.stats().sum(of));
        }
    }
    let mut waiting = text.gauge(
        "pool_waiting_requests",
        "Requests or connections waiting in the queue now.",
    );
    for pool in &state.pools {
        waiting.sample(&[("pool", pool.name())], pool.stats().level(|c| &c.waiting));
    }
    let mut queue_time = text.histogram(
        "pool_queue_duration_seconds",
        "Time waited by those that got a server.",
    );
    for pool in &state.pools {
        let snapshot = pool.stats().merge(|c| &c.queue_time);
        if snapshot.count() > 0 {
            queue_time.buckets(&[("pool", pool.name())], &snapshot);
        }
    }
    let mut latency = text.histogram(
        "pool_response_duration_seconds",
        "From sending a request to its response's head, over all servers (stream: of whole connections).",
    );
    for pool in &state.pools {
        let mut all = Snapshot::default();
        for member in pool.members().iter() {
            all.merge(&member.endpoint().stats().merge(|c| &c.latency));
        }
        latency.buckets(&[("pool", pool.name())], &all);
    }
}
