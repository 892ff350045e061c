//! What all pools of one name share, over reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fathom_balance::Turn;

use crate::affinity;
use crate::queue::Queue;
use crate::stats::PoolStats;

/// Held by the pools of that name and by their endpoints.
#[derive(Debug)]
pub(crate) struct Shared {
    name: Arc<str>,
    /// Counts changes of what a choice depends on.
    generation: AtomicU64,
    /// Some server was up at some time.
    ever_up: AtomicBool,
    queue: Arc<Queue>,
    affinity: affinity::Table,
    stats: PoolStats,
    turn: Turn,
    backup_turn: Turn,
}

impl Shared {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            generation: AtomicU64::new(1),
            ever_up: AtomicBool::new(false),
            queue: Arc::default(),
            affinity: affinity::Table::default(),
            stats: PoolStats::new(),
            turn: Turn::default(),
            backup_turn: Turn::default(),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    pub(crate) fn affinity(&self) -> &affinity::Table {
        &self.affinity
    }

    pub(crate) fn stats(&self) -> &PoolStats {
        &self.stats
    }

    pub(super) fn turn(&self, backup: bool) -> &Turn {
        if backup {
            &self.backup_turn
        } else {
            &self.turn
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// To be called after a change: views are stale, and who waits looks again.
    pub(crate) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.queue.wake_all();
    }

    /// To be called when an endpoint raised its hand: views are stale, but nobody has more room.
    pub(crate) fn suspected(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn came_up(&self) {
        self.ever_up.store(true, Ordering::Release);
    }

    pub(crate) fn was_ever_up(&self) -> bool {
        self.ever_up.load(Ordering::Acquire)
    }
}
