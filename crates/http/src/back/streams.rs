//! Connections to HTTP/2 servers, per worker: shared by as many requests as the server takes at a time.
//!
//! ```text
//! Dialling ──> Open ──GOAWAY, flood, idle──> Leaving (streams finish, no new ones) ──> closed
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fathom_codec::h2::client;
use fathom_core::plan::{KeepalivePlan, PoolPlan};
use fathom_core::{ClientInfo, Endpoint, EndpointId, Pool, Reason};
use fathom_io::{clock, timer, timer::Timer};
use fathom_tls::Connector;
use h2::SendStream;
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::Request;

use super::dial::{Dialled, Open, dial};
use crate::h2::{Payload, Watch, Wire};

/// Streams of one connection, where the server allows more. Beyond that another connection is made.
const STREAMS: usize = 128;
/// Requests sent before a server's SETTINGS have said how many it takes: that for which the connection was made.
const BEFORE_SETTINGS: usize = 1;

/// One connection.
struct Shared {
    sender: RefCell<SendRequest<Payload>>,
    watch: Rc<Watch>,
    connector: Option<Arc<Connector>>,
    in_flight: Cell<usize>,
    /// No new streams.
    leaving: Cell<bool>,
    /// Not kept for others: it began with one client's addresses.
    alone: bool,
    /// Of the connection's task, to be told when the last stream ends.
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Server {
    connections: Vec<Rc<Shared>>,
    dialling: bool,
    waiting: Vec<Waker>,
}

thread_local! {
    static SERVERS: RefCell<HashMap<EndpointId, Server, foldhash::fast::RandomState>> = RefCell::default();
}

/// A stream to be opened on a connection.
pub(crate) struct Place(Rc<Shared>);

/// A place, and how it came about.
pub(crate) struct Placed {
    pub(crate) place: Place,
    pub(crate) reused: bool,
    pub(crate) connect: Option<Duration>,
}

/// A place on a connection to this server; on a new one if all are full.
///
/// # Errors
/// Why there is no connection; nothing of the request was sent.
pub(crate) async fn place(
    endpoint: &Arc<Endpoint>,
    pool: &Pool,
    connector: Option<&Arc<Connector>>,
    info: &ClientInfo,
    limit: Duration,
) -> Result<Placed, Reason> {
    let plan = pool.plan();
    if plan.proxy_protocol.is_some() {
        return open(endpoint, pool, connector, info, limit, None).await;
    }
    // Whoever finds none makes one; who comes meanwhile waits for it.
    let turn = poll_fn(|cx| poll_turn(endpoint.id(), connector, cx));
    match timer::timeout(limit, turn).await {
        Ok(Turn::Place(place)) => Ok(Placed {
            place,
            reused: true,
            connect: None,
        }),
        Ok(Turn::Dial(dialling)) => {
            open(endpoint, pool, connector, info, limit, Some(dialling)).await
        }
        Err(_) => Err(Reason::ConnectTimeout),
    }
}

enum Turn {
    Place(Place),
    Dial(Dialling),
}

/// The right to make a connection for all. When it ends, with the server's SETTINGS, those that wait look again: what
/// is sent sooner may be refused, or wait behind what the server takes.
struct Dialling(EndpointId);

impl Drop for Dialling {
    fn drop(&mut self) {
        let waiting = SERVERS.with_borrow_mut(|servers| {
            let server = servers.entry(self.0).or_default();
            server.dialling = false;
            std::mem::take(&mut server.waiting)
        });
        waiting.into_iter().for_each(Waker::wake);
    }
}

fn poll_turn(
    id: EndpointId,
    connector: Option<&Arc<Connector>>,
    cx: &mut Context<'_>,
) -> Poll<Turn> {
    SERVERS.with_borrow_mut(|servers| {
        let server = servers.entry(id).or_default();
        // The oldest first: those that are not needed fall idle.
        if let Some(shared) = server.connections.iter().find(|c| c.has_room(connector)) {
            return Poll::Ready(Turn::Place(Place::on(shared)));
        }
        if server.dialling {
            server.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        server.dialling = true;
        Poll::Ready(Turn::Dial(Dialling(id)))
    })
}

async fn open(
    endpoint: &Arc<Endpoint>,
    pool: &Pool,
    connector: Option<&Arc<Connector>>,
    info: &ClientInfo,
    limit: Duration,
    dialling: Option<Dialling>,
) -> Result<Placed, Reason> {
    let alone = dialling.is_none();
    let Dialled { link, open, took } =
        Box::pin(dial(endpoint, pool, connector, info, limit)).await?;
    let watch = Watch::new(0);
    let wire = Wire::new(Rc::new(link), Rc::clone(&watch));
    let (sender, connection) = client(BEFORE_SETTINGS)
        .handshake(wire)
        .await
        .map_err(|_| Reason::ServerReset)?;
    let shared = Rc::new(Shared {
        sender: RefCell::new(sender),
        watch,
        connector: connector.cloned(),
        in_flight: Cell::new(0),
        leaving: Cell::new(false),
        alone,
        waker: RefCell::default(),
    });
    if !alone {
        SERVERS.with_borrow_mut(|servers| {
            let server = servers.entry(endpoint.id()).or_default();
            server.connections.push(Rc::clone(&shared));
        });
    }
    let place = Place::on(&shared);
    let idle = idle_time(pool.plan());
    fathom_io::spawn(drive(connection, shared, open, dialling, idle));
    Ok(Placed {
        place,
        reused: false,
        connect: Some(took),
    })
}

fn idle_time(plan: &PoolPlan) -> Duration {
    let KeepalivePlan { idle, timeout } = plan.keepalive;
    if idle == 0 { Duration::ZERO } else { timeout }
}

/// Moves a connection's frames until it ends.
async fn drive(
    connection: Connection<Wire, Payload>,
    shared: Rc<Shared>,
    open: Open,
    mut dialling: Option<Dialling>,
    idle: Duration,
) {
    let _listed = Listed(Rc::clone(&shared), open.endpoint().id());
    let timer = Timer::new();
    let mut was_idle = false;
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if dialling.is_some() && shared.watch.is_settled() {
            dialling = None;
        }
        if shared.watch.is_flood() {
            open.endpoint()
                .stats()
                .here()
                .failures
                .count(Reason::ServerH2);
            return Poll::Ready(());
        }
        shared.remember(cx);
        let is_idle = shared.in_flight.get() == 0;
        if is_idle && (shared.leaving.get() || shared.alone || idle.is_zero()) {
            return Poll::Ready(());
        }
        if is_idle != was_idle {
            was_idle = is_idle;
            if is_idle {
                timer.reset(clock::now() + idle);
            } else {
                timer.disarm();
            }
        }
        timer.poll_elapsed(cx)
    })
    .await;
}

/// A connection among those of its server, until its task ends.
struct Listed(Rc<Shared>, EndpointId);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.leaving.set(true);
        let _ = SERVERS.try_with(|servers| {
            let mut servers = servers.borrow_mut();
            if let Some(server) = servers.get_mut(&self.1) {
                server.connections.retain(|c| !Rc::ptr_eq(c, &self.0));
                if server.connections.is_empty() && !server.dialling && server.waiting.is_empty() {
                    servers.remove(&self.1);
                }
            }
        });
    }
}

/// Leaves every connection of this thread's worker: each is closed when its last stream ends.
pub(super) fn leave_all() {
    SERVERS.with_borrow(|servers| {
        for shared in servers.values().flat_map(|s| &s.connections) {
            shared.leaving.set(true);
            if let Some(waker) = shared.waker.take() {
                waker.wake();
            }
        }
    });
}

impl Shared {
    fn has_room(&self, connector: Option<&Arc<Connector>>) -> bool {
        let same = match (&self.connector, connector) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let usable = same && !self.leaving.get() && !self.watch.is_left();
        usable
            && self.in_flight.get() < STREAMS.min(self.sender.borrow().current_max_send_streams())
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut slot = self.waker.borrow_mut();
        let old = match &*slot {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => slot.replace(cx.waker().clone()),
        };
        drop(slot);
        drop(old);
    }
}

impl Place {
    fn on(shared: &Rc<Shared>) -> Self {
        shared.in_flight.set(shared.in_flight.get() + 1);
        Self(Rc::clone(shared))
    }

    /// Opens the stream.
    pub(super) fn send(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Payload>), h2::Error> {
        // A sender waits for its last stream to be opened; a clone has none.
        let mut sender = self.0.sender.borrow().clone();
        sender.send_request(request, end)
    }

    /// Whether the server is spoken to over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.0.connector.is_some()
    }

    /// Waits until the server has said what it takes.
    pub(crate) async fn settled(&self) {
        poll_fn(|cx| self.0.watch.poll_settled(cx)).await;
    }

    /// Whether the server takes WebSockets (RFC 8441 §3).
    pub(super) fn takes_connect(&self) -> bool {
        self.0
            .sender
            .borrow()
            .is_extended_connect_protocol_enabled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.0;
        let left = shared.in_flight.get() - 1;
        shared.in_flight.set(left);
        if left == 0
            && let Some(waker) = shared.waker.take()
        {
            waker.wake();
        }
    }
}
