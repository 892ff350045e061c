//! A stream listener under one configuration: its routes, their pools, and where things are counted.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fathom_access::Log;
use fathom_core::Pool;
use fathom_core::plan::{
    Algorithm, DepthPlan, HashOn, HttpPlan, ListenerPlan, Origin, StreamPlan, StreamRoutePlan,
};
use fathom_core::stats::{ListenerStats, Registry, RouteStats};
use fathom_route::StreamRouter;
use fathom_wire::client_hello::Hello;

/// Finds pools by name, when a service is built.
pub trait Pools {
    /// The pool of that name.
    fn pool(&self, name: &str) -> Option<Arc<Pool>>;
}

impl<F: Fn(&str) -> Option<Arc<Pool>>> Pools for F {
    fn pool(&self, name: &str) -> Option<Arc<Pool>> {
        self(name)
    }
}

/// A TCP listener under one configuration; shared by all workers, read by each connection once.
pub struct Service {
    pub(crate) listener: Arc<str>,
    router: StreamRouter,
    /// As the router counts them.
    routes: Vec<Target>,
    /// Where connections go that no route wants.
    default: Option<Target>,
    needs_hello: bool,
    pub(crate) peek_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) stats: Arc<ListenerStats>,
    pub(crate) access: Option<Arc<Log>>,
}

/// Where a route sends.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) route: Arc<str>,
    pub(crate) origin: Origin,
    pub(crate) pool: Arc<Pool>,
    pub(crate) stats: Arc<RouteStats>,
}

/// Defaults of `timeouts` at `stream` depth, for names that an `http` listener passes through.
const IDLE: Duration = Duration::from_secs(3600);
const CONNECT: Duration = Duration::from_secs(5);

impl Service {
    /// Builds it: of a `stream` listener, or the passthrough routes of an `http` one.
    ///
    /// # Panics
    /// When a pool of the plan is not among `pools`, which a plan rules out.
    #[must_use]
    pub fn new(
        listener: &ListenerPlan,
        pools: &dyn Pools,
        stats: &Registry,
        access: Option<Arc<Log>>,
    ) -> Arc<Self> {
        let empty = StreamPlan {
            routes: Vec::new(),
            pool: None,
            idle_timeout: IDLE,
            connect_timeout: CONNECT,
            peek_timeout: Duration::ZERO,
        };
        let plan = match &listener.depth {
            DepthPlan::Stream(stream) => stream,
            DepthPlan::Http(http) => &passthrough(http, empty),
            // Nothing arrives here at the other depths.
            DepthPlan::Datagram(_) | DepthPlan::Packet(_) => &empty,
        };
        let target = |route: Arc<str>, origin: &Origin, pool: &str| Target {
            pool: pools
                .pool(pool)
                .expect("a plan names only pools that it has"),
            stats: stats.route(&listener.name, &route),
            origin: origin.clone(),
            route,
        };
        let routes: Vec<Target> = (1..)
            .zip(&plan.routes)
            .map(|(number, route): (usize, &StreamRoutePlan)| {
                let name = format!("{}/{number}", listener.name).into();
                target(name, &route.origin, &route.target.pool)
            })
            .collect();
        let default = plan
            .pool
            .as_ref()
            .map(|pool| target(Arc::clone(&listener.name), &listener.origin, pool));
        let router = StreamRouter::new(&plan.routes);
        let by_name = |target: &Target| {
            let balance = &target.pool.plan().balance;
            balance.algorithm == Algorithm::Hash && balance.hash_on == HashOn::Sni
        };
        Arc::new(Self {
            listener: Arc::clone(&listener.name),
            needs_hello: router.needs_hello() || routes.iter().chain(&default).any(by_name),
            router,
            routes,
            default,
            peek_timeout: plan.peek_timeout,
            connect_timeout: plan.connect_timeout,
            idle_timeout: plan.idle_timeout,
            stats: stats.listener(&listener.name),
            access,
        })
    }

    /// Whether a ClientHello must be read before it is known where a connection goes.
    #[must_use]
    pub fn needs_hello(&self) -> bool {
        self.needs_hello
    }

    /// Whether a client that said this is sent somewhere: what an `http` listener asks before it terminates TLS itself.
    #[must_use]
    pub fn takes(&self, hello: Option<&Hello>, source: IpAddr) -> bool {
        self.target(hello, source).is_some()
    }

    pub(crate) fn target(&self, hello: Option<&Hello>, source: IpAddr) -> Option<&Target> {
        if self.routes.is_empty() {
            return self.default.as_ref();
        }
        let index = match hello {
            Some(hello) => self
                .router
                .find_index(hello.sni.as_deref(), hello.alpn(), source),
            None => self.router.find_index(None, std::iter::empty(), source),
        };
        index
            .map(|index| &self.routes[index])
            .or(self.default.as_ref())
    }
}

fn passthrough(http: &HttpPlan, empty: StreamPlan) -> StreamPlan {
    StreamPlan {
        routes: http.passthrough.clone(),
        peek_timeout: http.header_timeout,
        ..empty
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
