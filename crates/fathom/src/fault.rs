//! Faults on purpose, for tests; nothing of it is in a release build.
//!
//! `FATHOM_FAULT=panic-connection:3` makes the third connection's task panic, `panic-worker:3` the worker that
//! accepts the third connection.

/// A place where a fault can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// At the start of a connection's task.
    Connection,
    /// In the accept loop's owner.
    Worker,
}

/// Panics when the environment asks for it at this point, this time.
#[cfg(debug_assertions)]
pub(crate) fn point(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static ASKED: OnceLock<Option<(Point, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("FATHOM_FAULT").ok()?;
        let (kind, turn) = text.split_once(':')?;
        let point = match kind {
            "panic-connection" => Point::Connection,
            "panic-worker" => Point::Worker,
            _ => return None,
        };
        Some((point, turn.parse().ok()?))
    });
    if let Some((at, turn)) = asked
        && *at == point
        && PASSED.fetch_add(1, Relaxed) + 1 == *turn
    {
        panic!("a fault asked for by FATHOM_FAULT");
    }
}

/// Panics when the environment asks for it at this point, this time: never, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_: Point) {}
