//! HTTP/2 with a client: as many requests at a time as its streams, each in a task of its own.
//!
//! ```text
//! Opening ──preface, SETTINGS──> Serving ──idle, drain──> Leaving (GOAWAY, streams finish) ──> closed
//!    └───────────── error, flood, too slow ──────────────────────┴──> GOAWAY with the error, closed
//! ```

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use fathom_codec::h2::{PREFACE, Received, server};
use fathom_core::{ClientInfo, Reason};
use fathom_io::{Drain, Draining, clock, scratch, timer, timer::Timer};
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::Request;

use super::h1::reason_of;
use crate::account::Account;
use crate::front::h2::H2Front;
use crate::h2::{Payload, Watch, Wire};
use crate::link::Link;
use crate::proxy::{Context, handle, refuse};
use crate::service::Current;

/// A connection that is being left and has no streams is closed after this time, heard or not.
const LEAVING: Duration = Duration::from_secs(5);
/// Requests begun in one turn before other tasks of the worker get theirs.
const TURN: u32 = 64;

/// What the streams of a connection share.
struct Shared {
    info: ClientInfo,
    current: Rc<Current>,
    in_flight: Cell<usize>,
    /// Of the connection's task, to be told when the last stream ends.
    waker: RefCell<Option<Waker>>,
}

/// What the connection's deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// Streams have deadlines of their own.
    Streams,
    /// A header section that has not ended.
    Head,
    /// The next request.
    Idle,
    /// The client's taking of what is left.
    Leaving,
}

pub(crate) async fn serve(link: Link, info: ClientInfo, current: Rc<Current>, drain: Drain) {
    let link = Rc::new(link);
    let shared = Rc::new(Shared {
        info,
        current,
        in_flight: Cell::new(0),
        waker: RefCell::default(),
    });
    let watch = Watch::new(PREFACE.len());
    let wire = Wire::new(Rc::clone(&link), Rc::clone(&watch));
    let limit = shared.current.get().plan.header_timeout;
    let opened = timer::timeout(limit, server().handshake(wire)).await;
    let fault = match opened {
        Ok(Ok(connection)) => {
            let mut serving = Serving {
                connection,
                shared: Rc::clone(&shared),
                watch,
                timer: Timer::new(),
                waits: None,
                draining: drain.started(),
                leaving: false,
                cut: None,
            };
            serving.run().await
        }
        Ok(Err(e)) if e.is_io() => None,
        Ok(Err(_)) => Some(Reason::H2Protocol),
        Err(_) => Some(Reason::HeaderTimeout),
    };
    if let Some(reason) = fault {
        shared.current.get().stats.here().reasons.count(reason);
    }
    // Streams hold nothing of the link: with the connection, its wire is gone.
    if let Ok(link) = Rc::try_unwrap(link) {
        match fault {
            // What was said last must not be lost to what was not read.
            Some(_) => link.linger(),
            None => link.close(),
        }
    }
}

struct Serving {
    connection: Connection<Wire, Payload>,
    shared: Rc<Shared>,
    watch: Rc<Watch>,
    timer: Timer,
    waits: Option<Waits>,
    draining: Draining,
    leaving: bool,
    /// Why the client is sent away.
    cut: Option<Reason>,
}

impl Serving {
    /// Until the connection has ended; why, if the client is to blame.
    async fn run(&mut self) -> Option<Reason> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Option<Reason>> {
        if !self.leaving && Pin::new(&mut self.draining).poll(cx).is_ready() {
            self.leave();
        }
        let mut turn = 0;
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(e))) => return Poll::Ready(self.cut.or_else(|| reason(&e))),
                Poll::Ready(None) => return Poll::Ready(self.cut),
                Poll::Pending => break,
            }
            turn += 1;
            if turn == TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if self.watch.is_flood() && self.cut.is_none() {
            self.send_away(Reason::H2Flood, h2::Reason::ENHANCE_YOUR_CALM);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.remember(cx);
        self.poll_deadline(cx)
    }

    fn begin(&self, request: Request<RecvStream>, respond: SendResponse<Payload>) {
        self.shared.in_flight.set(self.shared.in_flight.get() + 1);
        let running = Running(Rc::clone(&self.shared));
        fathom_io::spawn(async move {
            answer(&running.0, request, respond).await;
        });
    }

    /// GOAWAY; what is in flight is answered (RFC 9113 §6.8).
    fn leave(&mut self) {
        self.leaving = true;
        self.connection.graceful_shutdown();
    }

    fn send_away(&mut self, why: Reason, code: h2::Reason) {
        self.leaving = true;
        self.cut = Some(why);
        self.connection.abrupt_shutdown(code);
    }

    fn remember(&self, cx: &Task<'_>) {
        let mut slot = self.shared.waker.borrow_mut();
        let old = match &*slot {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => slot.replace(cx.waker().clone()),
        };
        drop(slot);
        drop(old);
    }

    fn poll_deadline(&mut self, cx: &mut Task<'_>) -> Poll<Option<Reason>> {
        let busy = self.shared.in_flight.get() > 0;
        let waits = if self.cut.is_some() || (self.leaving && !busy) {
            Waits::Leaving
        } else if self.watch.in_head() {
            Waits::Head
        } else if busy {
            Waits::Streams
        } else {
            Waits::Idle
        };
        if self.waits != Some(waits) {
            self.waits = Some(waits);
            let service = self.shared.current.get();
            match waits {
                Waits::Streams => self.timer.disarm(),
                Waits::Head => self.timer.reset(clock::now() + service.plan.header_timeout),
                Waits::Idle => self.timer.reset(clock::now() + service.plan.idle_timeout),
                Waits::Leaving => self.timer.reset(clock::now() + LEAVING),
            }
        }
        if self.timer.poll_elapsed(cx).is_pending() {
            return Poll::Pending;
        }
        match waits {
            Waits::Leaving => return Poll::Ready(self.cut),
            Waits::Head => self.send_away(Reason::HeaderTimeout, h2::Reason::ENHANCE_YOUR_CALM),
            Waits::Idle | Waits::Streams => self.leave(),
        }
        self.waits = None;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A stream in flight, also when its task is dropped.
struct Running(Rc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        if left == 0
            && let Some(waker) = self.0.waker.take()
        {
            waker.wake();
        }
    }
}

/// One request.
async fn answer(shared: &Shared, request: Request<RecvStream>, respond: SendResponse<Payload>) {
    let service = shared.current.get();
    let began = clock::now();
    let (parts, recv) = request.into_parts();
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    let received = Received::request(
        &parts,
        protocol.map(h2::ext::Protocol::as_str),
        recv.is_end_stream(),
        scratch(),
        nonce,
    );
    let (Received { bytes, head }, fault) = match received {
        Ok(received) => (received, None),
        Err(what) => (Received::refused(&parts.method, scratch()), Some(what)),
    };
    drop(parts);
    let front = H2Front::new(bytes, head, recv, respond);
    if let Some(what) = fault {
        // RFC 9113 §8.1.1: a response may be sent for a malformed request.
        let mut account = Account::new(&service, &shared.info, began);
        refuse(&front, &mut account, reason_of(what), what.status());
        return account.close(None, &shared.info);
    }
    let timer = Timer::new();
    let cx = Context {
        service: &service,
        info: &shared.info,
        timer: &timer,
    };
    handle(&front, &cx, began).await;
}

/// RFC 6455 §4.1 wants it random, against caches that confuse connections; no secret rests on it.
fn nonce() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&fathom_io::random().to_ne_bytes());
    bytes[8..].copy_from_slice(&fathom_io::random().to_ne_bytes());
    bytes
}

/// Who is to blame for a connection's end.
fn reason(error: &h2::Error) -> Option<Reason> {
    if error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
        return Some(Reason::H2Flood);
    }
    (error.is_library() && error.is_go_away()).then_some(Reason::H2Protocol)
}
