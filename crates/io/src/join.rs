//! Two connections made one: bytes both ways until both ways have ended.
//!
//! ```text
//! each way:  Copying ──long──> Splicing ──EOF──> Done
//!               └──────EOF──────> Flushing ──queue empty──> Done
//! any error: both sides reset
//! ```

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fathom_core::Tick;

use crate::splice::Pipe;
use crate::timer::Timer;
use crate::{Stream, clock};

/// How to join.
#[derive(Clone, Copy, Debug)]
pub struct JoinOptions {
    /// Give up after this long without a byte either way.
    pub idle: Option<Duration>,
    /// Bytes that may wait for a slow receiver before its sender is no longer read.
    pub buffered: usize,
    /// Let the kernel move the bytes of a long transfer.
    pub splice: bool,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self {
            idle: None,
            buffered: 256 << 10,
            splice: true,
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

/// One way of a join.
struct Way<'a> {
    from: (&'a Stream, Side),
    to: (&'a Stream, Side),
    count: &'a Cell<u64>,
    limit: usize,
    splice: bool,
    state: State,
    /// While bytes are on their way inside the kernel.
    pipe: Option<Pipe>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Copying,
    Splicing,
    Flushing,
    Done,
}

/// Steps one way takes before the other gets its turn.
const TURN: u32 = 16;
/// After this many bytes, if they also come fast, the kernel moves the rest.
const LONG: u64 = 1 << 20;
/// A read this large says that bytes come fast.
const FAST: usize = 64 << 10;

type Failed = (Side, io::Error);

/// Passes bytes both ways: half-closes are kept, a reset is passed on, a slow receiver slows its
/// sender down. `progress` counts while it runs.
pub async fn join(
    first: &Stream,
    second: &Stream,
    options: &JoinOptions,
    progress: &Progress,
) -> JoinOutcome {
    let way = |from, to, count| Way {
        from,
        to,
        count,
        limit: options.buffered,
        splice: options.splice,
        state: State::Copying,
        pipe: None,
    };
    let mut forth = way(
        (first, Side::First),
        (second, Side::Second),
        &progress.forth,
    );
    let mut back = way((second, Side::Second), (first, Side::First), &progress.back);
    let mut idle = Idle::new(options.idle);
    poll_fn(|cx| {
        for way in [&mut forth, &mut back] {
            if let Poll::Ready(Err((side, error))) = way.poll(cx) {
                first.abort();
                second.abort();
                return Poll::Ready(JoinOutcome::Failed { side, error });
            }
        }
        if forth.state == State::Done && back.state == State::Done {
            return Poll::Ready(JoinOutcome::Closed);
        }
        let moved = progress.forth.get() + progress.back.get();
        let spliced = (forth.held() + back.held()) as u64;
        idle.poll(cx, moved.wrapping_sub(spliced), || {
            first.last_sent().max(second.last_sent())
        })
    })
    .await
}

impl Way<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        for _ in 0..TURN {
            ready!(match self.state {
                State::Copying => self.copy(cx),
                State::Splicing => self.splice(cx),
                State::Flushing => self.flush(cx),
                State::Done => return Poll::Ready(Ok(())),
            })?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn copy(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let ((from, from_side), (to, to_side)) = (self.from, self.to);
        if to.queued() >= self.limit {
            // Half, so that a slow receiver does not cost a turn per packet.
            ready!(to.poll_writable(cx, self.limit / 2)).map_err(|e| (to_side, e))?;
        }
        let chunk = ready!(from.poll_read(cx)).map_err(|e| (from_side, e))?;
        if chunk.is_empty() {
            to.shutdown_write();
            self.state = State::Flushing;
            return Poll::Ready(Ok(()));
        }
        let fast = chunk.len() >= FAST;
        self.count.set(self.count.get() + chunk.len() as u64);
        to.write(chunk).map_err(|e| (to_side, e))?;
        if self.splice && fast && self.count.get() >= LONG && from.can_splice() {
            self.state = State::Splicing;
        }
        Poll::Ready(Ok(()))
    }

    fn splice(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let ((from, from_side), (to, to_side)) = (self.from, self.to);
        // What was copied goes first.
        ready!(to.poll_writable(cx, 1)).map_err(|e| (to_side, e))?;
        let mut pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => match Pipe::take() {
                Ok(pipe) => pipe,
                Err(_) => {
                    // Out of descriptors: copying needs none.
                    self.splice = false;
                    self.state = State::Copying;
                    return Poll::Ready(Ok(()));
                }
            },
        };
        if pipe.held() > 0 {
            let result = to.poll_empty(cx, &mut pipe);
            self.keep(pipe);
            ready!(result).map_err(|e| (to_side, e))?;
            return Poll::Ready(Ok(()));
        }
        let result = from.poll_fill(cx, &mut pipe);
        self.keep(pipe);
        match ready!(result).map_err(|e| (from_side, e))? {
            0 => {
                to.shutdown_write();
                self.state = State::Flushing;
            }
            n => self.count.set(self.count.get() + n as u64),
        }
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        ready!(self.to.0.poll_writable(cx, 1)).map_err(|e| (self.to.1, e))?;
        self.state = State::Done;
        Poll::Ready(Ok(()))
    }

    /// Only a pipe with something in it is held on to.
    fn keep(&mut self, pipe: Pipe) {
        if pipe.held() > 0 {
            self.pipe = Some(pipe);
        } else {
            pipe.give_back();
        }
    }

    fn held(&self) -> usize {
        self.pipe.as_ref().map_or(0, Pipe::held)
    }
}

/// The idle deadline, if there is one.
struct Idle {
    limit: Option<(Timer, Duration)>,
    /// Bytes moved when the deadline was last set.
    moved: u64,
}

impl Idle {
    fn new(limit: Option<Duration>) -> Self {
        let limit = limit.map(|limit| {
            let timer = Timer::new();
            timer.reset(clock::now() + limit);
            (timer, limit)
        });
        Self { limit, moved: 0 }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        moved: u64,
        last_sent: impl Fn() -> Tick,
    ) -> Poll<JoinOutcome> {
        let Some((timer, limit)) = &self.limit else {
            return Poll::Pending;
        };
        if moved != self.moved {
            self.moved = moved;
            timer.reset(clock::now() + *limit);
        }
        ready!(timer.poll_elapsed(cx));
        // A receiver that slowly takes what is queued is not idle, but wakes nobody.
        let deadline = last_sent() + *limit;
        if deadline <= clock::now() {
            return Poll::Ready(JoinOutcome::Idle);
        }
        timer.reset(deadline);
        timer.poll_elapsed(cx).map(|()| JoinOutcome::Idle)
    }
}
