//! Two connections made one: bytes both ways until both ways have ended.
//!
//! ```text
//! each way:  Copying ──EOF──> Flushing ──queue empty──> Done
//!               └──────────── any error: both sides reset
//! ```

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::timer::Timer;
use crate::{Stream, clock};

/// How to join.
#[derive(Clone, Copy, Debug)]
pub struct JoinOptions {
    /// Give up after this long without a byte either way.
    pub idle: Option<Duration>,
    /// Bytes that may wait for a slow receiver before its sender is no longer read.
    pub buffered: usize,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self {
            idle: None,
            buffered: 256 << 10,
        }
    }
}

/// Bytes passed on so far; can be read while the join runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// From the first stream to the second.
    pub forth: Cell<u64>,
    /// From the second stream to the first.
    pub back: Cell<u64>,
}

/// One of the two streams of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// Why a join ended.
#[derive(Debug)]
pub enum JoinOutcome {
    /// Both sides closed, and all was passed on.
    Closed,
    /// Nothing moved for too long. The streams are left open.
    Idle,
    /// One side broke; the other was reset.
    Failed {
        /// The side that broke.
        side: Side,
        /// What the kernel said.
        error: io::Error,
    },
}

enum Way {
    Copying,
    Flushing,
    Done,
}

/// Chunks one way passes on before the other gets its turn.
const TURN: u32 = 16;

/// Passes bytes both ways: half-closes are kept, a reset is passed on, a slow receiver slows its
/// sender down. `progress` counts while it runs.
pub async fn join(
    first: &Stream,
    second: &Stream,
    options: &JoinOptions,
    progress: &Progress,
) -> JoinOutcome {
    let mut forth = Way::Copying;
    let mut back = Way::Copying;
    let idle = Idle::new(options.idle);
    poll_fn(|cx| {
        let before = progress.forth.get() + progress.back.get();
        let limit = options.buffered;
        let one = poll_way(
            cx,
            &mut forth,
            (first, Side::First),
            (second, Side::Second),
            limit,
            &progress.forth,
        );
        if let Poll::Ready(Err(failed)) = one {
            return Poll::Ready(fail(first, second, failed));
        }
        let other = poll_way(
            cx,
            &mut back,
            (second, Side::Second),
            (first, Side::First),
            limit,
            &progress.back,
        );
        if let Poll::Ready(Err(failed)) = other {
            return Poll::Ready(fail(first, second, failed));
        }
        if matches!((&forth, &back), (Way::Done, Way::Done)) {
            return Poll::Ready(JoinOutcome::Closed);
        }
        idle.poll(cx, progress.forth.get() + progress.back.get() != before)
    })
    .await
}

fn fail(first: &Stream, second: &Stream, (side, error): (Side, io::Error)) -> JoinOutcome {
    first.abort();
    second.abort();
    JoinOutcome::Failed { side, error }
}

fn poll_way(
    cx: &mut Context<'_>,
    way: &mut Way,
    (from, from_side): (&Stream, Side),
    (to, to_side): (&Stream, Side),
    limit: usize,
    count: &Cell<u64>,
) -> Poll<Result<(), (Side, io::Error)>> {
    let mut turn = 0;
    loop {
        match way {
            Way::Copying => {
                if to.queued() >= limit {
                    // Half, so that a slow receiver does not cost a turn per packet.
                    ready!(to.poll_writable(cx, limit / 2)).map_err(|e| (to_side, e))?;
                }
                turn += 1;
                if turn > TURN {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let chunk = ready!(from.poll_read(cx)).map_err(|e| (from_side, e))?;
                if chunk.is_empty() {
                    to.shutdown_write();
                    *way = Way::Flushing;
                } else {
                    count.set(count.get() + chunk.len() as u64);
                    to.write(chunk).map_err(|e| (to_side, e))?;
                }
            }
            Way::Flushing => {
                ready!(to.poll_writable(cx, 1)).map_err(|e| (to_side, e))?;
                *way = Way::Done;
            }
            Way::Done => return Poll::Ready(Ok(())),
        }
    }
}

/// The idle deadline, if there is one.
struct Idle {
    limit: Option<(Timer, Duration)>,
}

impl Idle {
    fn new(limit: Option<Duration>) -> Self {
        let limit = limit.map(|limit| {
            let timer = Timer::new();
            timer.reset(clock::now() + limit);
            (timer, limit)
        });
        Self { limit }
    }

    fn poll(&self, cx: &mut Context<'_>, moved: bool) -> Poll<JoinOutcome> {
        let Some((timer, limit)) = &self.limit else {
            return Poll::Pending;
        };
        if moved {
            timer.reset(clock::now() + *limit);
        }
        timer.poll_elapsed(cx).map(|()| JoinOutcome::Idle)
    }
}
