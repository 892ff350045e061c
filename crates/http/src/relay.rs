//! Both directions of an exchange, moved in one loop: the request's content up, the response down, with backpressure
//! from each side to the other and one deadline that moves with progress.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fathom_codec::head::Body;
use fathom_core::{Reason, Tick};
use fathom_io::{Chunk, clock, timer::Timer};

use crate::exchange::{Back, Front};

/// Pieces moved in one turn before other tasks of the worker get theirs.
const TURN: u32 = 32;
/// Interim responses passed on for one request. No server has cause for so many; each is queued towards the client.
const INTERIM: u32 = 64;
/// The most content kept for another attempt.
const KEEP: usize = 64 << 10;

/// The request's content on its way up.
#[derive(Debug)]
pub(crate) struct Upload {
    open: bool,
    /// Bytes given to the server.
    pub(crate) bytes: u64,
    moved: bool,
    waits_for_client: bool,
    /// The server takes no more; what it says still counts.
    refused: bool,
    /// What was given to the server, while that is little, to be sent again.
    kept: Option<Vec<u8>>,
    /// Of it, what is to be sent again.
    again: Option<Chunk>,
}

/// How long each side may pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    /// The client, sending or taking.
    pub(crate) client: Duration,
    /// The server: until its response's head, or between pieces of it.
    pub(crate) server: Duration,
    /// For the whole exchange.
    pub(crate) deadline: Option<Tick>,
}

impl Pauses {
    fn until(&self, pause: Duration) -> Tick {
        let until = clock::now() + pause;
        self.deadline.map_or(until, |deadline| deadline.min(until))
    }

    /// Why the time ran out, where a pause would be `reason`.
    fn over(&self, reason: Reason) -> Reason {
        match self.deadline {
            Some(deadline) if deadline <= clock::now() => Reason::GrpcDeadline,
            _ => reason,
        }
    }
}

impl Upload {
    /// `keep`: whether a little content is kept for another attempt.
    pub(crate) fn new(front: &impl Front, keep: bool) -> Self {
        Self {
            open: front.request().head.body() != Body::None,
            bytes: 0,
            moved: false,
            waits_for_client: false,
            refused: false,
            kept: keep.then(Vec::new),
            again: None,
        }
    }

    /// Content that another attempt would lack.
    pub(crate) fn spent(&self) -> u64 {
        if self.kept.is_some() { 0 } else { self.bytes }
    }

    /// Before another attempt: what was sent is sent again.
    pub(crate) fn rewind(&mut self) {
        // A server that took no more is no end of the content: what is still to come is for the next one.
        self.open |= std::mem::take(&mut self.refused);
        if let Some(kept) = self.kept.as_mut().filter(|kept| !kept.is_empty()) {
            self.again = Some(Chunk::copy_of(kept));
            kept.clear();
            self.bytes = 0;
            self.open = true;
        }
    }

    fn sent(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        if let Some(kept) = &mut self.kept {
            if kept.len() + data.len() <= KEEP {
                kept.extend_from_slice(data);
            } else {
                self.kept = None;
            }
        }
    }

    /// Whether content is still to come from the client.
    pub(crate) fn is_open(&self) -> bool {
        self.open || self.refused
    }

    fn poll(
        &mut self,
        front: &impl Front,
        back: &impl Back,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Reason>> {
        while self.open {
            self.waits_for_client = false;
            if ready!(back.poll_room(cx)).is_err() {
                self.refused = true;
                self.open = false;
                break;
            }
            if let Some(data) = self.again.take() {
                self.sent(&data);
                back.send(data);
                continue;
            }
            self.waits_for_client = true;
            match ready!(front.poll_body(cx))? {
                Some(data) => {
                    self.sent(&data);
                    back.send(data);
                }
                None => {
                    self.open = false;
                    front.with_trailers(&mut |trailers| back.finish(trailers));
                }
            }
            self.moved = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Sends the request's content and waits for the final head of the response; `inform` is called for each interim one.
///
/// # Errors
/// Why there will be no response. Nothing of a final one was sent to the client.
pub(crate) async fn until_head<F: Front, B: Back>(
    front: &F,
    back: &B,
    upload: &mut Upload,
    timer: &Timer,
    pauses: Pauses,
    mut inform: impl FnMut(),
) -> Result<u16, Reason> {
    if upload.open {
        back.flush();
    } else {
        front.with_trailers(&mut |trailers| back.finish(trailers));
    }
    let mut armed_for = None;
    let mut interim = 0;
    poll_fn(|cx| {
        if let Poll::Ready(Err(reason)) = upload.poll(front, back, cx) {
            return Poll::Ready(Err(reason));
        }
        loop {
            match back.poll_head(cx) {
                // RFC 9110 §15.2: a proxy MUST forward 1xx responses. 101 ends HTTP on the connection.
                Poll::Ready(Ok(status)) if status < 200 && status != 101 => {
                    interim += 1;
                    if interim > INTERIM {
                        return Poll::Ready(Err(Reason::BadResponse));
                    }
                    inform();
                    back.next_head();
                }
                Poll::Ready(done) => return Poll::Ready(done),
                Poll::Pending => break,
            }
        }
        back.flush();
        if !upload.is_open() && front.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Reason::ClientGone));
        }
        let waits = upload.open && upload.waits_for_client;
        if std::mem::take(&mut upload.moved) || armed_for != Some(waits) {
            armed_for = Some(waits);
            timer.reset(pauses.until(if waits { pauses.client } else { pauses.server }));
        }
        timer.poll_elapsed(cx).map(|()| {
            Err(pauses.over(if waits {
                Reason::BodyTimeout
            } else {
                Reason::ResponseTimeout
            }))
        })
    })
    .await
}

/// Sends the response's content, with what is left of the request's; for a tunnel, both until both have ended.
///
/// # Errors
/// Why the response is not whole.
pub(crate) async fn until_end<F: Front, B: Back>(
    front: &F,
    back: &B,
    upload: &mut Upload,
    timer: &Timer,
    pauses: Pauses,
    tunnel: bool,
    mut sent: impl FnMut(u64),
) -> Result<(), Reason> {
    if tunnel {
        upload.open = true;
    }
    let mut down_ended = false;
    let mut armed_for = None;
    poll_fn(|cx| {
        if let Poll::Ready(Err(reason)) = upload.poll(front, back, cx) {
            return Poll::Ready(Err(reason));
        }
        back.flush();
        let mut moved = std::mem::take(&mut upload.moved);
        let mut waits_for_client = false;
        let mut turn = 0;
        while !down_ended {
            match front.poll_room(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    waits_for_client = true;
                    break;
                }
            }
            match back.poll_body(cx)? {
                Poll::Ready(Some(data)) => {
                    sent(data.len() as u64);
                    front.send(data);
                    moved = true;
                }
                Poll::Ready(None) => {
                    down_ended = true;
                    back.with_trailers(&mut |trailers| front.finish(trailers));
                }
                Poll::Pending => break,
            }
            turn += 1;
            if turn == TURN {
                front.flush();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if down_ended && (!tunnel || !upload.open) {
            return Poll::Ready(Ok(()));
        }
        front.flush();
        if !tunnel && !upload.is_open() && front.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Reason::ClientGone));
        }
        if moved || armed_for != Some(waits_for_client) {
            armed_for = Some(waits_for_client);
            timer.reset(pauses.until(if waits_for_client {
                pauses.client
            } else {
                pauses.server
            }));
        }
        timer.poll_elapsed(cx).map(|()| {
            Err(pauses.over(match (tunnel, waits_for_client) {
                (true, _) => Reason::Idle,
                (false, true) => Reason::WriteTimeout,
                (false, false) => Reason::ResponseStalled,
            }))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(open: bool, refused: bool, kept: Option<Vec<u8>>) -> Upload {
        Upload {
            open,
            bytes: kept.as_ref().map_or(0, |kept| kept.len() as u64),
            moved: false,
            waits_for_client: false,
            refused,
            kept,
            again: None,
        }
    }

    #[test]
    fn content_that_a_server_refused_is_still_to_come() {
        let mut refused = upload(false, true, None);
        assert_eq!(refused.spent(), 0);
        refused.rewind();
        assert!(refused.open && !refused.refused && refused.again.is_none());

        let mut in_part = upload(false, true, Some(b"abc".to_vec()));
        in_part.rewind();
        assert!(in_part.open && !in_part.refused);
        assert_eq!(in_part.again.as_deref(), Some(&b"abc"[..]));
    }

    #[test]
    fn content_that_had_ended_stays_ended() {
        for kept in [None, Some(Vec::new())] {
            let mut ended = upload(false, false, kept);
            ended.rewind();
            assert!(!ended.open && ended.again.is_none());
        }
    }
}
