//! What is known of a request when it ends: counters and a line of the access log.

use std::sync::Arc;
use std::time::Duration;

use fathom_access::{Exchange, Record};
use fathom_codec::head::{Name, Request};
use fathom_core::{ClientInfo, Reason, Tick};
use fathom_io::clock;

use crate::service::{Route, Service};

/// A request in flight in its route's counters, also when its task is dropped.
struct Active<'s>(&'s Route);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.stats.here().active.add(-1);
    }
}

/// Filled while a request goes its way.
pub(crate) struct Account<'s> {
    pub(crate) service: &'s Service,
    pub(crate) began: Tick,
    pub(crate) source: std::net::SocketAddr,
    route: Option<Active<'s>>,
    /// The server's name; only when there is a log to write it to.
    pub(crate) server: Option<Arc<str>>,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<Reason>,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) connect: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) retries: u32,
    pub(crate) grpc_status: Option<u16>,
}

impl<'s> Account<'s> {
    pub(crate) fn new(service: &'s Service, info: &ClientInfo, began: Tick) -> Self {
        service.stats.here().requests.inc();
        Self {
            service,
            began,
            source: info.peer,
            route: None,
            server: None,
            status: None,
            reason: None,
            request_bytes: 0,
            response_bytes: 0,
            connect: None,
            first_byte: None,
            retries: 0,
            grpc_status: None,
        }
    }

    /// The route that takes it.
    pub(crate) fn routed(&mut self, route: &'s Route) {
        let cells = route.stats.here();
        cells.requests.inc();
        cells.active.add(1);
        self.route = Some(Active(route));
    }

    /// Counts and logs; `request` is `None` for what was no request.
    pub(crate) fn close(self, request: Option<Request<'_>>, info: &ClientInfo) {
        self.count();
        let Some(log) = &self.service.log else { return };
        let field = |name| request.and_then(|r| r.known(name)).unwrap_or_default();
        let mut path = smallvec::SmallVec::<[u8; 256]>::new();
        if let Some(request) = request {
            path.extend_from_slice(request.path());
            if let Some(query) = request.query() {
                path.push(b'?');
                path.extend_from_slice(query);
            }
        }
        log.write(&Record {
            time: clock::unix_now(),
            client: self.source,
            listener: &self.service.name,
            route: self.route.as_ref().map(|Active(r)| fathom_access::Route {
                name: &r.plan.name,
                origin: &r.plan.origin,
            }),
            pool: self
                .route
                .as_ref()
                .and_then(|Active(r)| r.target.as_ref())
                .map(|t| &**t.pool.name()),
            server: self.server.as_deref(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            duration: clock::now().since(self.began),
            connect: self.connect,
            retries: self.retries,
            reason: self.reason.map(Reason::as_str),
            tls: info.tls.as_deref().map(|t| fathom_access::Tls {
                version: t.version,
                sni: t.sni.as_deref(),
            }),
            exchange: Exchange::Http(fathom_access::Request {
                method: request.map(Request::method).unwrap_or_default(),
                host: request.map(Request::authority).unwrap_or_default(),
                path: &path,
                version: request.map_or("", |r| r.head.version().as_str()),
                status: self.status,
                first_byte: self.first_byte,
                user_agent: field(Name::UserAgent),
                referer: field(Name::Referer),
                grpc_status: self.grpc_status,
            }),
        });
    }

    fn count(&self) {
        let listener = self.service.stats.here();
        listener.bytes_in.add(self.request_bytes);
        listener.bytes_out.add(self.response_bytes);
        let Some(Active(route)) = &self.route else {
            if let Some(reason) = self.reason {
                listener.reasons.count(reason);
            }
            return;
        };
        let cells = route.stats.here();
        cells.bytes_in.add(self.request_bytes);
        cells.bytes_out.add(self.response_bytes);
        cells.latency.record(clock::now().since(self.began));
        if let Some(status) = self.status {
            cells.status.count(status);
        }
        if let Some(reason) = self.reason {
            cells.reasons.count(reason);
        }
        if let Some(status) = self.grpc_status {
            cells.grpc.count(status);
        }
        cells.retries.add(u64::from(self.retries));
    }
}
