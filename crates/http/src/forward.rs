//! Sending a request to a server: choosing one, trying again where that is safe, passing the response on.

mod retry;

use fathom_codec::head::{Body, Method, Response, Version};
use fathom_core::plan::ServerProtocol;
use fathom_core::pool::Pick;
use fathom_core::{EndpointId, Lease, NoServer, Reason, Tick};
use fathom_io::{JoinOptions, JoinOutcome, Progress, Side, Stream, clock, join, timer};
use fathom_route::{RequestView, hash_request};
use smallvec::SmallVec;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use self::retry::{Cause, Retry};
use crate::account::Account;
use crate::back::{Dialled, Placed, dial, h1::H1Back, h2::H2Back, keep, place, take};
use crate::exchange::{Answer, Back, Front, Outbound};
use crate::grpc;
use crate::proxy::{Context, refuse};
use crate::relay::{Pauses, Upload, until_end, until_head};
use crate::service::{Route, Target};

/// Longest pause of a tunnel, as of a connection at `stream` depth.
const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

/// One request on its way through a forwarding route.
pub(crate) struct Forward<'a, F> {
    pub(crate) front: &'a F,
    pub(crate) cx: &'a Context<'a>,
    pub(crate) route: &'a Route,
    pub(crate) target: &'a Target,
    pub(crate) view: &'a RequestView<'a>,
    pub(crate) outbound: &'a Outbound<'a>,
    /// The client speaks gRPC.
    pub(crate) grpc: bool,
    /// When the exchange must be over.
    pub(crate) deadline: Option<Tick>,
}

/// How often a request that a server did not look at is given another stream before that is a failure.
const UNPROCESSED: u32 = 3;

/// An attempt that gave the client nothing.
struct Failure {
    reason: Reason,
    cause: Cause,
    /// The kept connection was closed under the request: the server itself may be well.
    stale: bool,
    /// Where to go next, if that was settled before the response was given up.
    next: Option<Lease>,
}

impl<F: Front> Forward<'_, F> {
    pub(crate) async fn run(&self, account: &mut Account<'_>) {
        let mut retry = Retry::new(&self.route.plan.retry, &self.target.budget, self.method());
        let mut upload = Upload::new(self.front, self.is_h2());
        let mut unprocessed = 0;
        let mut tried = SmallVec::<[EndpointId; 4]>::new();
        let mut next = None;
        let mut fresh = false;
        loop {
            let lease = match next.take() {
                Some(lease) => lease,
                None => match self.lease(&tried).await {
                    Ok(lease) => lease,
                    Err(reason) => {
                        let reason = self.or_deadline(reason);
                        return self.fail(account, account.reason.unwrap_or(reason), &upload);
                    }
                },
            };
            let failure = match self
                .attempt(&lease, account, &mut upload, &mut retry, &mut tried, fresh)
                .await
            {
                Ok(()) => return,
                Err(failure) => failure,
            };
            if failure.cause == Cause::Unprocessed && upload.spent() == 0 {
                // As good as not sent: another stream, on another connection if this one was left.
                unprocessed += 1;
                if unprocessed < UNPROCESSED {
                    upload.rewind();
                    next = Some(lease);
                    continue;
                }
            }
            if failure.stale && retry.is_repeatable(upload.spent()) {
                // The server closed a kept connection just then: a new one to the same server, which is no retry.
                upload.rewind();
                fresh = true;
                next = Some(lease);
                continue;
            }
            // A status that is retried was counted when it came.
            if failure.next.is_none() {
                self.blame(&lease, failure.reason);
            }
            if self.front_is_lost(failure.reason) {
                return self.fail(account, failure.reason, &upload);
            }
            next = failure.next;
            if next.is_none() {
                tried.push(lease.endpoint().id());
                if !retry.allows(failure.cause, upload.spent(), clock::now()) {
                    return self.fail(account, failure.reason, &upload);
                }
            }
            drop(lease);
            upload.rewind();
            account.reason = Some(failure.reason);
            account.retries += 1;
            fresh = false;
            self.target.pool.stats().here().retries.inc();
        }
    }

    fn method(&self) -> Method {
        self.outbound.request.head.method()
    }

    /// Whether the client, not the server, ended it.
    fn front_is_lost(&self, reason: Reason) -> bool {
        matches!(
            reason,
            Reason::ClientGone
                | Reason::BodyTimeout
                | Reason::BodyTooLarge
                | Reason::MalformedRequest
                | Reason::GrpcDeadline
        )
    }

    /// Whether HTTP/2 is spoken with the servers.
    fn is_h2(&self) -> bool {
        self.target.pool.plan().protocol != ServerProtocol::Http1
    }

    /// Of a limit, what the deadline leaves.
    fn within(&self, limit: Duration) -> Duration {
        self.deadline
            .map_or(limit, |deadline| deadline.since(clock::now()).min(limit))
    }

    /// `reason`, unless the deadline is why.
    fn or_deadline(&self, reason: Reason) -> Reason {
        match self.deadline {
            Some(deadline) if deadline <= clock::now() => Reason::GrpcDeadline,
            _ => reason,
        }
    }

    fn blame(&self, lease: &Lease, reason: Reason) {
        if reason.counts_against_server() {
            lease.failed(clock::now());
            lease.endpoint().stats().here().failures.count(reason);
        }
    }

    /// Nothing of a response was sent: says why there is none.
    fn fail(&self, account: &mut Account<'_>, reason: Reason, upload: &Upload) {
        account.request_bytes = upload.bytes;
        match reason.status() {
            Some(status) => refuse(self.front, account, reason, status),
            None => {
                account.reason = Some(reason);
                self.front.abort();
            }
        }
    }

    fn pick<'t>(&self, tried: &'t [EndpointId]) -> Pick<'t> {
        Pick {
            now: clock::now(),
            random: fathom_io::random(),
            source: Some(self.view.source.ip()),
            hash: self
                .target
                .hash_on
                .as_ref()
                .and_then(|on| hash_request(on, self.view)),
            exclude: tried,
            ..Pick::default()
        }
    }

    /// A place on a server, waiting for one where the pool has a queue.
    async fn lease(&self, tried: &[EndpointId]) -> Result<Lease, Reason> {
        let pool = &self.target.pool;
        match pool.pick(&self.pick(tried)) {
            Ok(lease) => Ok(lease),
            Err(NoServer::AllFull) if pool.plan().queue.is_some() => {
                Box::pin(self.queued(tried)).await
            }
            Err(none) => Err(none.reason()),
        }
    }

    async fn queued(&self, tried: &[EndpointId]) -> Result<Lease, Reason> {
        let pool = &self.target.pool;
        let limit = pool
            .plan()
            .queue
            .as_ref()
            .map_or(Duration::ZERO, |q| self.within(q.timeout));
        let upload = self.outbound.body != Body::None;
        let mut waiting = pin!(timer::timeout(limit, pool.pick_queued(|| self.pick(tried))));
        poll_fn(|task| {
            if let Poll::Ready(done) = waiting.as_mut().poll(task) {
                return Poll::Ready(match done {
                    Ok(lease) => lease.map_err(NoServer::reason),
                    Err(_) => Err(Reason::QueueTimeout),
                });
            }
            if !upload && self.front.poll_gone(task).is_ready() {
                return Poll::Ready(Err(Reason::ClientGone));
            }
            Poll::Pending
        })
        .await
    }

    /// One try at one server: `Ok` when the client got a response, or as much as there was.
    async fn attempt(
        &self,
        lease: &Lease,
        account: &mut Account<'_>,
        upload: &mut Upload,
        retry: &mut Retry<'_>,
        tried: &mut SmallVec<[EndpointId; 4]>,
        fresh: bool,
    ) -> Result<(), Failure> {
        let endpoint = lease.endpoint();
        let pool = self.target.pool.plan();
        let connector = self.target.connector.as_ref();
        if account.service.log.is_some() {
            account.server = Some(endpoint.name());
        }
        if self.is_h2() {
            return Box::pin(self.attempt_h2(lease, account, upload, retry, tried)).await;
        }
        // A connection that began with a client's addresses is that client's alone.
        let shared = pool.proxy_protocol.is_none();
        let kept = if shared && !fresh {
            take(endpoint, connector)
        } else {
            None
        };
        let reused = kept.is_some();
        let (link, open) = match kept {
            Some(kept) => kept,
            None => {
                let limit = self.within(self.route.plan.connect_timeout);
                let dialled = Box::pin(dial(
                    endpoint,
                    &self.target.pool,
                    connector,
                    self.cx.info,
                    limit,
                ))
                .await;
                let Dialled { link, open, took } = dialled.map_err(|e| self.unconnected(e))?;
                account.connect = Some(took);
                (link, open)
            }
        };
        let cells = endpoint.stats().here();
        cells.requests.inc();
        if reused {
            cells.reused.inc();
        }
        let back = H1Back::new(link);
        let result = self
            .exchange(&back, lease, account, upload, retry, tried, reused)
            .await;
        match &result {
            Ok(Delivered::Whole) => {
                if let Some(link) = back.into_reusable()
                    && shared
                {
                    keep(link, open, connector, &pool.keepalive);
                }
            }
            // What the server is still doing is not wanted any more.
            Ok(Delivered::Part) => back.cancel(),
            Err(failure) if self.front_is_lost(failure.reason) => back.cancel(),
            Err(_) => {}
        }
        result.map(|_| ())
    }

    /// The same, where the server speaks HTTP/2.
    async fn attempt_h2(
        &self,
        lease: &Lease,
        account: &mut Account<'_>,
        upload: &mut Upload,
        retry: &mut Retry<'_>,
        tried: &mut SmallVec<[EndpointId; 4]>,
    ) -> Result<(), Failure> {
        let endpoint = lease.endpoint();
        let placed = place(
            endpoint,
            &self.target.pool,
            self.target.connector.as_ref(),
            self.cx.info,
            self.within(self.route.plan.connect_timeout),
        );
        let Placed {
            place,
            reused,
            connect,
        } = placed.await.map_err(|e| self.unconnected(e))?;
        if self.outbound.upgrade {
            // Whether it may be asked for is in the server's SETTINGS.
            let limit = self.within(self.route.plan.connect_timeout);
            let settled = timer::timeout(limit, place.settled()).await;
            settled.map_err(|_| self.unconnected(Reason::ConnectTimeout))?;
        }
        account.connect = connect;
        let cells = endpoint.stats().here();
        cells.requests.inc();
        if reused {
            cells.reused.inc();
        }
        let back = H2Back::new(place);
        let result = self
            .exchange(&back, lease, account, upload, retry, tried, reused)
            .await;
        match &result {
            Ok(Delivered::Whole) => {}
            // What the server is still doing is not wanted any more.
            _ => back.cancel(),
        }
        result.map(|_| ())
    }

    fn unconnected(&self, reason: Reason) -> Failure {
        Failure {
            cause: Cause::Connect,
            ..Failure::of(self.or_deadline(reason))
        }
    }

    /// The request over one connection, whatever version is spoken on it.
    #[allow(
        clippy::too_many_arguments,
        reason = "what an attempt shares with those before and after it"
    )]
    async fn exchange<B: Back>(
        &self,
        back: &B,
        lease: &Lease,
        account: &mut Account<'_>,
        upload: &mut Upload,
        retry: &mut Retry<'_>,
        tried: &mut SmallVec<[EndpointId; 4]>,
        reused: bool,
    ) -> Result<Delivered, Failure> {
        let began = clock::now();
        let timer = self.cx.timer;
        let pauses = Pauses {
            client: self.cx.service.plan.body_timeout,
            server: self.route.plan.response_timeout,
            deadline: self.deadline,
        };
        back.send_head(self.outbound);
        let head = until_head(self.front, back, upload, timer, pauses, || {
            self.inform(back)
        })
        .await;
        let status = head.map_err(|reason| Failure {
            reason,
            cause: if reason == Reason::ResponseTimeout {
                Cause::Timeout
            } else if back.is_unprocessed() {
                Cause::Unprocessed
            } else {
                Cause::Reset {
                    heard: back.heard(),
                }
            },
            stale: reused && reason == Reason::ServerReset && !back.heard(),
            next: None,
        })?;
        let latency = clock::now().since(began);
        let cells = lease.endpoint().stats().here();
        cells.status.count(status);
        cells.latency.record(latency);
        if status == 101 && !self.outbound.upgrade {
            return Err(Failure::of(Reason::BadResponse));
        }
        let grpc_status = self.grpc.then(|| status_in_head(back)).flatten();
        let cause = match grpc_status {
            Some(grpc::UNAVAILABLE) => Cause::GrpcUnavailable,
            _ => Cause::Status(status),
        };
        if let Some(next) = self.elsewhere(cause, lease, upload, retry, tried) {
            lease.failed(clock::now());
            return Err(Failure {
                next: Some(next),
                ..Failure::of(Reason::BadResponse)
            });
        }
        if status < 500 {
            lease.answered(clock::now(), latency);
        } else {
            lease.failed(clock::now());
        }
        account.first_byte = Some(latency);
        account.status = Some(status);
        account.grpc_status = grpc_status;
        account.reason = None;
        let body = self.respond(back, status, upload);
        Ok(self.relay(back, lease, account, upload, status, body).await)
    }

    /// Where to ask instead, if this status is to be retried and there is another server.
    fn elsewhere(
        &self,
        cause: Cause,
        lease: &Lease,
        upload: &Upload,
        retry: &mut Retry<'_>,
        tried: &mut SmallVec<[EndpointId; 4]>,
    ) -> Option<Lease> {
        if !retry.may(cause, upload.spent()) || upload.is_open() {
            return None;
        }
        tried.push(lease.endpoint().id());
        let next = self.target.pool.pick(&self.pick(tried)).ok()?;
        retry
            .allows(cause, upload.spent(), clock::now())
            .then_some(next)
    }

    fn inform(&self, back: &impl Back) {
        back.with_response(&mut |response| {
            self.front.inform(&self.answer(response, Body::None));
        });
    }

    fn answer<'r>(&'r self, response: Response<'r>, body: Body) -> Answer<'r> {
        Answer {
            response,
            body,
            upgrade: response.head.status() == 101,
            edits: Some(&self.route.response_edits),
        }
    }

    fn respond(&self, back: &impl Back, status: u16, upload: &Upload) -> Body {
        let body = Cell::new(Body::None);
        back.with_response(&mut |response| {
            body.set(response.head.body(self.method()));
            self.front
                .respond(&self.answer(response, body.get()), upload.is_open());
        });
        back.begin_body(body.get());
        if status == 101 {
            self.front.tunnel();
            back.tunnel();
        }
        body.get()
    }

    async fn relay(
        &self,
        back: &impl Back,
        lease: &Lease,
        account: &mut Account<'_>,
        upload: &mut Upload,
        status: u16,
        body: Body,
    ) -> Delivered {
        let plan = &self.cx.service.plan;
        let tunnel = status == 101;
        let pauses = if tunnel {
            Pauses {
                client: TUNNEL_IDLE,
                server: TUNNEL_IDLE,
                deadline: None,
            }
        } else {
            // `timeouts.response` speaks of the head. A body may pause longer (events, long polls), not for ever.
            Pauses {
                client: plan.body_timeout,
                server: self.route.plan.response_timeout.max(plan.idle_timeout),
                deadline: self.deadline,
            }
        };
        let mut down = 0;
        let result = if tunnel
                && let Some(server) = back.bare()
                // Last: a client that has given away its socket is not read otherwise.
                && let Some(client) = self.front.bare()
        {
            let (outcome, up);
            (outcome, up, down) = joined(client, server).await;
            upload.bytes += up;
            outcome
        } else if body == Body::None && !tunnel {
            self.front.finish(&[]);
            Ok(())
        } else {
            until_end(
                self.front,
                back,
                upload,
                self.cx.timer,
                pauses,
                tunnel,
                |n| down += n,
            )
            .await
        };
        account.request_bytes = upload.bytes;
        account.response_bytes = down;
        let cells = lease.endpoint().stats().here();
        cells.bytes_in.add(down);
        cells.bytes_out.add(upload.bytes);
        match result {
            Ok(()) => {
                if status < 500 {
                    lease.delivered();
                }
                if self.grpc {
                    back.with_trailers(&mut |trailers| {
                        account.grpc_status = grpc::status_in(trailers).or(account.grpc_status);
                    });
                }
                Delivered::Whole
            }
            Err(reason) => {
                // What was sent cannot be taken back; it must not look whole.
                if self.grpc && self.outbound.request.head.version() == Version::Http2 {
                    let (trailers, code) = grpc::trailers(reason);
                    account.grpc_status = Some(code);
                    self.front.finish(trailers.as_bytes());
                } else {
                    self.front.abort();
                }
                account.reason = Some(reason);
                self.blame(lease, reason);
                Delivered::Part
            }
        }
    }
}

/// How much of a response the client got.
enum Delivered {
    Whole,
    Part,
}

impl Failure {
    fn of(reason: Reason) -> Self {
        Self {
            reason,
            cause: Cause::Never,
            stale: false,
            next: None,
        }
    }
}

/// A tunnel between two sockets is a join as at `stream` depth. With bytes up and down.
async fn joined(client: &Stream, server: &Stream) -> (Result<(), Reason>, u64, u64) {
    let progress = Progress::default();
    let options = JoinOptions {
        idle: Some(TUNNEL_IDLE),
        ..JoinOptions::default()
    };
    let result = match Box::pin(join(client, server, &options, &progress)).await {
        JoinOutcome::Closed => Ok(()),
        JoinOutcome::Idle => Err(Reason::Idle),
        JoinOutcome::Failed {
            side: Side::First, ..
        } => Err(Reason::ClientGone),
        JoinOutcome::Failed {
            side: Side::Second, ..
        } => Err(Reason::ShortBody),
    };
    (result, progress.forth.get(), progress.back.get())
}

fn status_in_head(back: &impl Back) -> Option<u16> {
    let mut status = None;
    back.with_response(&mut |response| {
        status = response.get("grpc-status").and_then(grpc::parse_status);
    });
    status
}
