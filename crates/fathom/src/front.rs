//! What happens to a client's connection before a plane has it: admission, PROXY protocol, TLS; then the plane of
//! the listener's depth.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use fathom_core::limit::{Connections, Guard, Rates};
use fathom_core::plan::{DepthPlan, ListenerPlan, Rate};
use fathom_core::stats::ListenerStats;
use fathom_core::{ClientIdentity, ClientInfo, Reason, Tick, TlsInfo};
use fathom_io::{Chunk, Compat, Drain, Stream, clock, timer};
use fathom_tls::{Acceptor, HandshakeError};
use fathom_wire::proxy;
use futures_util::{FutureExt as _, future};

use crate::fault;
use crate::worker::{Present, Tally};

/// What a listener is under one configuration; shared by all workers.
pub(crate) struct Front {
    pub(crate) plan: ListenerPlan,
    pub(crate) stats: Arc<ListenerStats>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) tls: Option<Arc<Acceptor>>,
    pub(crate) service: Service,
    /// Serves cleartext binds of an http listener whose `tls.redirect_http` is on.
    pub(crate) redirect: Option<Arc<fathom_http::Service>>,
    /// Names sent through undecrypted.
    pub(crate) passthrough: Option<Arc<fathom_stream::Service>>,
}

/// The plane of a listener's depth.
pub(crate) enum Service {
    Http(Arc<fathom_http::Service>),
    Stream(Arc<fathom_stream::Service>),
    Datagram(Arc<fathom_stream::datagram::Service>),
    /// The kernel forwards; nothing arrives here.
    Packet,
}

/// Counts and rates of a listener's clients. Outlives reloads: a limit is no fresh start for those over it.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    connections: Arc<Connections>,
    rates: Rates,
    /// Theoretical arrival time of the next TLS handshake (GCRA), ns.
    handshakes: AtomicU64,
    /// When it was last said that connections wait, ns; of all workers together.
    said_waiting: AtomicU64,
}

impl Admission {
    pub(crate) fn sweep(&self) {
        self.rates.sweep(clock::precise());
    }

    /// Whether it is time to say again that connections wait: once a second, whoever of the workers comes first.
    fn may_say_waiting(&self, now: Tick) -> bool {
        self.said_waiting
            .fetch_update(Relaxed, Relaxed, |said| {
                (said == 0 || now.since(Tick(said)) >= Duration::from_secs(1)).then_some(now.0)
            })
            .is_ok()
    }

    /// Whether a handshake is within the listener's rate; a burst of one second's worth is.
    fn handshake(&self, rate: Rate) -> bool {
        let now = clock::now().0;
        let interval = u64::try_from(rate.interval().as_nanos()).unwrap_or(u64::MAX);
        let burst = u64::try_from(rate.per.as_nanos())
            .unwrap_or(u64::MAX)
            .min(1_000_000_000);
        self.handshakes
            .fetch_update(Relaxed, Relaxed, |tat| {
                let tat = tat.max(now);
                (tat - now <= burst).then_some(tat.saturating_add(interval))
            })
            .is_ok()
    }
}

impl Front {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.plan.name
    }

    /// Whether connections of `self` may go on under `other`: the same depth and transport.
    pub(crate) fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.plan.depth) == std::mem::discriminant(&other.plan.depth)
    }

    /// How long a client may take for its PROXY header, its ClientHello and its handshake.
    fn opening_timeout(&self) -> Duration {
        match &self.plan.depth {
            DepthPlan::Http(http) => http.header_timeout,
            DepthPlan::Stream(stream) => stream.peek_timeout,
            DepthPlan::Datagram(_) | DepthPlan::Packet(_) => Duration::from_secs(10),
        }
    }

    fn refused(&self, reason: Reason) {
        self.stats.here().reasons.count(reason);
    }
}

/// A listener in one worker: the configuration in force, and the way to end what runs under it.
pub(crate) struct Slot {
    front: RefCell<Arc<Front>>,
    http: Option<Rc<fathom_http::Current>>,
    redirect: RefCell<Option<Rc<fathom_http::Current>>>,
    drain: Drain,
    tally: Tally,
}

/// A socket's way into its listener.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) slot: Rc<Slot>,
    pub(crate) tls: bool,
}

/// What keeps a connection counted while it is open.
struct Held {
    _present: Present,
    _admitted: Guard,
    stats: Arc<ListenerStats>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let cells = self.stats.here();
        cells.active.add(-1);
        if std::thread::panicking() {
            cells.reasons.count(Reason::Internal); // the connection's task is being unwound
        }
    }
}

impl Door {
    /// Takes a connection that was just accepted.
    pub(crate) fn enter(&self, stream: Stream, peer: SocketAddr) {
        fault::point(fault::Point::Worker);
        let front = self.slot.front();
        front.stats.here().connections.inc();
        let info = ClientInfo::new(peer, stream.local_addr());
        let speaks_first = front
            .plan
            .accept_proxy_protocol
            .iter()
            .any(|net| net.contains(&peer.ip().to_canonical()));
        if speaks_first || self.tls {
            // What a handshake needs is large and short-lived: it is not part of what an open connection costs.
            let opening = open(
                self.slot.clone(),
                front,
                self.tls,
                speaks_first,
                stream,
                info,
            );
            drop(fathom_io::spawn(opening));
        } else if let Some((stream, held)) = self.slot.admit(&front, stream, &info, false) {
            self.slot.begin(&front, stream, info, held);
        }
    }

    /// Counts as an open connection: a worker that finishes takes out its backlog first.
    pub(crate) fn present(&self) -> Present {
        self.slot.tally.enter()
    }

    /// `accept` failed.
    pub(crate) fn accept_failed(&self, error: &io::Error) {
        let front = self.slot.front();
        front.stats.here().accept_errors.inc();
        if front.admission.may_say_waiting(clock::precise()) {
            tracing::error!("listener {}: new connections wait: {error}", front.name());
        }
    }
}

impl Slot {
    pub(crate) fn new(front: Arc<Front>, tally: Tally) -> Self {
        let http = http_current(&front, |f| match &f.service {
            Service::Http(service) => Some(service),
            _ => None,
        });
        let redirect = http_current(&front, |f| f.redirect.as_ref());
        Self {
            front: RefCell::new(front),
            http,
            redirect: RefCell::new(redirect),
            drain: Drain::new(),
            tally,
        }
    }

    pub(crate) fn front(&self) -> Arc<Front> {
        self.front.borrow().clone()
    }

    /// Serves `front` from now on: new connections at once, open http ones from their next request.
    pub(crate) fn replace(&self, front: Arc<Front>) {
        if let (Some(current), Service::Http(service)) = (&self.http, &front.service) {
            current.set(service.clone());
        }
        if let Some(service) = &front.redirect {
            let mut redirect = self.redirect.borrow_mut();
            match &*redirect {
                Some(current) => current.set(service.clone()),
                None => *redirect = Some(fathom_http::Current::new(service.clone())),
            }
        }
        *self.front.borrow_mut() = front;
    }

    /// Ends what runs here: requests under way are finished, connections that go on by nature are left to end.
    pub(crate) fn drain(&self) {
        self.drain.start();
    }

    /// Admits a client, or refuses it in the words of its protocol.
    fn admit(
        &self,
        front: &Arc<Front>,
        stream: Stream,
        info: &ClientInfo,
        tls: bool,
    ) -> Option<(Stream, Held)> {
        let limits = &front.plan.limits;
        let client = info.peer.ip();
        let most = |n: Option<u32>| n.map(|n| n as usize);
        let admitted = front
            .admission
            .connections
            .admit(
                client,
                most(limits.connections),
                most(limits.connections_per_client),
            )
            .and_then(|guard| match limits.connection_rate_per_client {
                Some(rate) if !front.admission.rates.allow(client, rate, clock::now()) => {
                    Err(Reason::OverRate)
                }
                _ => Ok(guard),
            });
        match admitted {
            Ok(guard) => {
                front.stats.here().active.add(1);
                let held = Held {
                    _present: self.tally.enter(),
                    _admitted: guard,
                    stats: front.stats.clone(),
                };
                Some((stream, held))
            }
            Err(reason) => {
                front.refused(reason);
                if matches!(front.service, Service::Http(_)) && !tls {
                    refuse(stream, reason);
                }
                None
            }
        }
    }

    /// Hands a connection to the plane of its depth.
    fn begin(&self, front: &Arc<Front>, stream: Stream, info: ClientInfo, held: Held) {
        match &front.service {
            Service::Http(_) => {
                let redirect = self.redirect.borrow();
                let current = match (&front.redirect, &*redirect) {
                    (Some(_), Some(redirect)) => redirect.clone(),
                    _ => self
                        .http
                        .clone()
                        .expect("an http listener's slot has a service"),
                };
                let served = fathom_http::serve(stream.into(), info, current, self.drain.clone());
                run(held, served);
            }
            Service::Stream(service) => {
                run(held, fathom_stream::serve(stream, info, service.clone()));
            }
            Service::Datagram(_) | Service::Packet => {} // no connections arrive at these
        }
    }

    /// Serves a UDP socket until `stop`; new flows under the configuration in force when they begin.
    pub(crate) async fn datagrams(self: Rc<Self>, socket: std::net::UdpSocket, stop: Drain) {
        let Service::Datagram(first) = &self.front().service else {
            return;
        };
        let last = RefCell::new(first.clone());
        let slot = self.clone();
        let current = move || {
            if let Service::Datagram(service) = &slot.front.borrow().service {
                *last.borrow_mut() = service.clone();
            }
            last.borrow().clone()
        };
        let _present = self.tally.enter();
        if let Err(error) = fathom_stream::datagram::serve(vec![socket], current, stop).await {
            let front = self.front();
            front.stats.here().accept_errors.inc();
            tracing::error!(
                "listener {}: datagrams are not served: {error}",
                front.name()
            );
        }
    }
}

/// Tells an http client over a limit why it is not served, and closes.
fn refuse(stream: Stream, reason: Reason) {
    let (status, phrase) = match reason.status() {
        Some(503) => (503, "Service Unavailable"),
        _ => (429, "Too Many Requests"),
    };
    let text = reason.text();
    let response = format!(
        "HTTP/1.1 {status} {phrase}\r\nServer: fathom\r\nFathom-Reason: {}\r\nRetry-After: 1\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        reason.as_str(),
        text.len() + 1,
    );
    if stream.write(response.into_bytes()).is_ok() {
        stream.linger(); // a client still sending its request would lose the answer to a plain close
    }
}

fn http_current(
    front: &Front,
    of: impl Fn(&Front) -> Option<&Arc<fathom_http::Service>>,
) -> Option<Rc<fathom_http::Current>> {
    of(front).map(|service| fathom_http::Current::new(service.clone()))
}

/// Runs a connection as a task of its own: what panics in it ends it alone.
fn run(held: Held, served: impl Future<Output = ()> + 'static) {
    // Not an async block: that would hold the future twice, as captured and as awaited, for as long as the connection
    // is open.
    let begun = future::lazy(|_| fault::point(fault::Point::Connection)).then(|()| served);
    drop(fathom_io::spawn(begun.map(move |()| drop(held))));
}

/// The slow ways in: a PROXY header first, TLS, or both.
async fn open(
    slot: Rc<Slot>,
    front: Arc<Front>,
    tls: bool,
    proxied: bool,
    stream: Stream,
    mut info: ClientInfo,
) {
    let _present = slot.tally.enter();
    let limit = front.opening_timeout();
    if proxied {
        match timer::timeout(limit, proxy_header(&stream, &mut info)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                front.refused(reason);
                // Whoever sends no header is no proxy of ours: nothing is said that it could learn from.
                return stream.reset();
            }
            Err(_) => return front.refused(Reason::ProxyHeaderTimeout),
        }
    }
    let Some((stream, held)) = slot.admit(&front, stream, &info, tls) else {
        return;
    };
    match (&front.tls, tls) {
        (Some(acceptor), true) => secure(&slot, &front, acceptor, stream, info, held, limit).await,
        _ => slot.begin(&front, stream, info, held),
    }
}

/// TLS: passed through by name, or terminated.
async fn secure(
    slot: &Slot,
    front: &Arc<Front>,
    acceptor: &Acceptor,
    stream: Stream,
    mut info: ClientInfo,
    held: Held,
    limit: Duration,
) {
    let began = clock::precise();
    let mut peeked = Bytes::new();
    if let Some(service) = &front.passthrough {
        match fathom_stream::peek(&stream, limit).await {
            Ok(seen) => {
                if service.takes(seen.hello.as_ref(), info.peer.ip().to_canonical()) {
                    return run(
                        held,
                        fathom_stream::serve_peeked(stream, seen, info, service.clone()),
                    );
                }
                peeked = seen.bytes.into();
            }
            Err(error) => return front.refused(error.reason()),
        }
    }
    if let Some(rate) = acceptor.plan().handshake_rate
        && !front.admission.handshake(rate)
    {
        return front.refused(Reason::TlsRate);
    }
    let left = limit.saturating_sub(clock::precise().since(began));
    match timer::timeout(left, acceptor.accept(Compat::new(stream), peeked)).await {
        Ok(Ok((stream, session))) => {
            let cells = front.stats.here();
            cells.tls_handshakes.inc();
            if session.resumed {
                cells.tls_resumed.inc();
            }
            cells.tls_time.record(clock::precise().since(began));
            info.tls = Some(Arc::new(tls_info(session)));
            let current = slot
                .http
                .clone()
                .expect("TLS is terminated for http listeners only");
            let link = fathom_http::Link::tls(stream);
            run(
                held,
                fathom_http::serve(link, info, current, slot.drain.clone()),
            );
        }
        Ok(Err(error)) => {
            tracing::debug!(
                "listener {}: TLS handshake with {}: {error}",
                front.name(),
                info.peer
            );
            front.refused(handshake_reason(&error));
        }
        Err(_) => front.refused(Reason::TlsHandshakeTimeout),
    }
}

fn handshake_reason(error: &HandshakeError) -> Reason {
    match error {
        HandshakeError::NotTls => Reason::TlsNotTls,
        HandshakeError::ClientCertificateMissing => Reason::TlsNoCertificate,
        HandshakeError::Certificate(_) => Reason::TlsBadCertificate,
        HandshakeError::Closed => Reason::ClientGone,
        _ => Reason::TlsHandshakeFailed,
    }
}

fn tls_info(session: fathom_tls::Session) -> TlsInfo {
    TlsInfo {
        sni: session.sni.map(Into::into),
        alpn: session.h2.then(|| b"h2".to_vec()),
        version: session.version,
        cipher: session.cipher,
        resumed: session.resumed,
        identity: session.client.map(|subject| ClientIdentity {
            subject,
            ..ClientIdentity::default()
        }),
    }
}

/// Reads a PROXY protocol header, takes over what it says, and puts back what follows it.
async fn proxy_header(stream: &Stream, info: &mut ClientInfo) -> Result<(), Reason> {
    let mut seen: Option<Chunk> = None;
    let mut gathered = Vec::new();
    loop {
        let mut chunk = stream.read().await.map_err(|_| Reason::ClientGone)?;
        if chunk.is_empty() {
            return Err(Reason::ProxyHeaderInvalid);
        }
        // As a rule the header is one piece; only a header in several is copied together.
        if !gathered.is_empty() || seen.is_some() {
            if let Some(first) = seen.take() {
                gathered.extend_from_slice(&first);
            }
            gathered.extend_from_slice(&chunk);
        }
        let before = gathered.len().saturating_sub(chunk.len());
        let bytes: &[u8] = if gathered.is_empty() {
            &chunk
        } else {
            &gathered
        };
        match proxy::parse(bytes) {
            proxy::Parsed::Incomplete => {
                if gathered.is_empty() {
                    seen = Some(chunk);
                }
            }
            proxy::Parsed::Invalid(_) => return Err(Reason::ProxyHeaderInvalid),
            proxy::Parsed::Complete { header, len } => {
                if header.command == proxy::Command::Proxy {
                    if let proxy::Addresses::Ip {
                        source,
                        destination,
                        ..
                    } = header.addresses
                    {
                        info.peer = source;
                        info.local = destination;
                    }
                    info.proxy_tlvs = header
                        .tlvs
                        .map(|tlv| (tlv.kind, tlv.value.to_vec()))
                        .collect();
                }
                chunk.advance(len - before);
                if !chunk.is_empty() {
                    stream.unread(chunk);
                }
                return Ok(());
            }
        }
    }
}
