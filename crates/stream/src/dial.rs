//! From a pool to a connected server: choose, wait for a place where that is wanted, connect, try another.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use fathom_core::{ClientInfo, EndpointAddress, EndpointId, Lease, NoServer, Reason, Tick};
use fathom_io::{ConnectOptions, Gone, Stream, Target, clock, timer};
use smallvec::SmallVec;

use crate::service::{self, Service};
use crate::{choice, failure};

/// Servers that one client is offered to (config.md, section 5: "up to 3 servers, then close").
const TRIES: usize = 3;

/// A server that answers.
pub(crate) struct Dialled {
    pub(crate) server: Stream,
    pub(crate) lease: Lease,
    /// What connecting took.
    pub(crate) connect: Duration,
    /// Servers tried before.
    pub(crate) retries: u32,
}

/// No server.
pub(crate) struct Failed {
    pub(crate) reason: Reason,
    /// The server tried last.
    pub(crate) lease: Option<Lease>,
    /// Servers tried before that one.
    pub(crate) retries: u32,
}

/// Finds a server for `client` and connects to it.
pub(crate) async fn dial(
    service: &Service,
    target: &service::Target,
    client: &ClientInfo,
    sni: Option<&str>,
    conn: &Stream,
) -> Result<Dialled, Failed> {
    let pool = &target.pool;
    let mut tried: SmallVec<[EndpointId; TRIES]> = SmallVec::new();
    let mut last: Option<(Reason, Lease)> = None;
    loop {
        let retries = tried.len() as u32;
        let picked = match pool.pick(&choice::pick(pool, client.peer, sni, &tried, clock::now())) {
            // A second attempt does not wait: it stands before everyone in the line already.
            Err(NoServer::AllFull) if pool.plan().queue.is_some() && tried.is_empty() => {
                // Boxed, so that the many that never wait do not carry the room for it.
                Box::pin(queued(target, client, sni, conn)).await
            }
            picked => picked.map_err(NoServer::reason),
        };
        let lease = match picked {
            Ok(lease) => lease,
            Err(reason) => {
                return Err(match last {
                    Some((reason, lease)) => exhausted(reason, lease, retries - 1),
                    None => Failed {
                        reason,
                        lease: None,
                        retries,
                    },
                });
            }
        };
        let began = clock::precise();
        let reason = match connect(&lease, service.connect_timeout).await {
            Ok(server) => {
                let connect = clock::precise().since(began);
                return Ok(Dialled {
                    server,
                    lease,
                    connect,
                    retries,
                });
            }
            Err(reason) => reason,
        };
        lease.endpoint().stats().here().failures.count(reason);
        if !reason.counts_against_server() {
            // The machine lacks something: another server would meet the same.
            return Err(Failed {
                reason,
                lease: Some(lease),
                retries,
            });
        }
        lease.failed(clock::now());
        tried.push(lease.endpoint().id());
        if tried.len() == TRIES {
            return Err(exhausted(reason, lease, retries));
        }
        pool.stats().here().retries.inc();
        last = Some((reason, lease));
    }
}

fn exhausted(reason: Reason, lease: Lease, retries: u32) -> Failed {
    // With one server its own failure says more.
    let reason = if retries == 0 {
        reason
    } else {
        Reason::ServersExhausted
    };
    Failed {
        reason,
        lease: Some(lease),
        retries,
    }
}

async fn connect(lease: &Lease, limit: Duration) -> Result<Stream, Reason> {
    let target = match lease.endpoint().address() {
        EndpointAddress::Ip(address) => Target::Ip(*address),
        EndpointAddress::Unix(path) => Target::Unix(path),
    };
    match timer::timeout(limit, Stream::connect(target, &ConnectOptions::default())).await {
        Ok(Ok(server)) => Ok(server),
        Ok(Err(error)) => Err(failure::of_connect(&error)),
        Err(timer::Elapsed) => Err(Reason::ConnectTimeout),
    }
}

/// Waits in the pool's queue, for its time at most and as long as the client is there.
async fn queued(
    target: &service::Target,
    client: &ClientInfo,
    sni: Option<&str>,
    conn: &Stream,
) -> Result<Lease, Reason> {
    let pool = &target.pool;
    let limit = pool
        .plan()
        .queue
        .as_ref()
        .map_or(Duration::ZERO, |queue| queue.timeout);
    let mut turn = pin!(timer::timeout(
        limit,
        pool.pick_queued(|| choice::pick(pool, client.peer, sni, &[], now()))
    ));
    let mut gone = pin!(conn.peer_gone());
    let mut watching = true;
    poll_fn(|cx| {
        if let Poll::Ready(turn) = turn.as_mut().poll(cx) {
            return Poll::Ready(match turn {
                Ok(picked) => picked.map_err(NoServer::reason),
                Err(timer::Elapsed) => Err(Reason::QueueTimeout),
            });
        }
        // A client that only closed its half still wants its answer.
        match watching.then(|| Pin::as_mut(&mut gone).poll(cx)) {
            Some(Poll::Ready(Gone::Reset)) => return Poll::Ready(Err(Reason::ClientGone)),
            Some(Poll::Ready(Gone::Closed)) => watching = false,
            _ => {}
        }
        Poll::Pending
    })
    .await
}

fn now() -> Tick {
    clock::now()
}
