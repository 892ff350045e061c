//! What a listener at `http` depth is under one configuration: routes with all that a request needs, made once.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use fathom_access::Log;
use fathom_core::Pool;
use fathom_core::plan::{
    ActionPlan, Algorithm, DepthPlan, HashOn, HttpPlan, ListenerPlan, RoutePlan,
};
use fathom_core::retry::Budget;
use fathom_core::stats::{ListenerStats, Registry, RouteStats};
use fathom_route::Router;
use fathom_tls::Connector;

use crate::edit::Edits;

/// Where a service finds its pools.
pub trait Pools {
    /// The pool of that name.
    fn pool(&self, name: &str) -> Option<Arc<Pool>>;

    /// How TLS is spoken to that pool's servers; `None` = cleartext.
    fn connector(&self, name: &str) -> Option<Arc<Connector>>;
}

/// A listener's routes, pools and counters under one configuration. Shared by all workers.
pub struct Service {
    pub(crate) name: Arc<str>,
    pub(crate) plan: HttpPlan,
    pub(crate) router: Router,
    /// By the router's index.
    pub(crate) routes: Vec<Route>,
    pub(crate) stats: Arc<ListenerStats>,
    pub(crate) log: Option<Arc<Log>>,
    /// Carries a client certificate's subject to servers.
    pub(crate) identity_header: Option<String>,
}

/// A route, made ready.
pub(crate) struct Route {
    pub(crate) plan: Arc<RoutePlan>,
    pub(crate) stats: Arc<RouteStats>,
    pub(crate) request_edits: Edits,
    pub(crate) response_edits: Edits,
    /// `None` for routes that answer themselves.
    pub(crate) target: Option<Target>,
    pub(crate) max_body: u64,
}

/// Where a route sends.
pub(crate) struct Target {
    pub(crate) pool: Arc<Pool>,
    pub(crate) connector: Option<Arc<Connector>>,
    pub(crate) budget: Budget,
    /// For `balance = "hash"` on something only a request has.
    pub(crate) hash_on: Option<HashOn>,
}

/// The service in force on one worker: requests read it when they begin, so that connections live on over a reload
/// and each request is served under one configuration.
#[allow(
    clippy::redundant_allocation,
    reason = "requests count on the worker's own line, not on one shared by all cores"
)]
pub struct Current(RefCell<Rc<Arc<Service>>>);

impl Current {
    /// Begins with this one.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Rc::new(service))))
    }

    /// Requests that begin from now on are served by this one.
    pub fn set(&self, service: Arc<Service>) {
        *self.0.borrow_mut() = Rc::new(service);
    }

    /// The one in force.
    #[must_use]
    #[allow(clippy::redundant_allocation, reason = "as above")]
    pub fn get(&self) -> Rc<Arc<Service>> {
        Rc::clone(&self.0.borrow())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.0.borrow()).finish()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("listener", &self.name)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Of an `http` listener. Counters are taken from `stats` by name, so that they outlive reloads.
    ///
    /// # Panics
    /// If the listener is not at `http` depth, or names a pool that is not there: a checked plan has neither.
    #[must_use]
    pub fn new(
        listener: &ListenerPlan,
        pools: &dyn Pools,
        stats: &Registry,
        log: Option<Arc<Log>>,
    ) -> Arc<Self> {
        let DepthPlan::Http(plan) = &listener.depth else {
            panic!("listener {} is not at http depth", listener.name);
        };
        let route = |route: &Arc<RoutePlan>| Route {
            stats: stats.route(&listener.name, &route.name),
            request_edits: Edits::new(&route.request_headers),
            response_edits: Edits::new(&route.response_headers),
            target: match &route.action {
                ActionPlan::Forward(target) => Some(Target::new(&target.pool, route, pools)),
                ActionPlan::Redirect { .. } | ActionPlan::Respond { .. } => None,
            },
            max_body: route.max_body.or(plan.max_body).unwrap_or(u64::MAX),
            plan: Arc::clone(route),
        };
        Arc::new(Self {
            name: Arc::clone(&listener.name),
            router: Router::new(&plan.routes),
            routes: plan.routes.iter().map(route).collect(),
            stats: stats.listener(&listener.name),
            log,
            identity_header: listener
                .tls
                .as_ref()
                .and_then(|tls| tls.client_auth.as_ref()?.identity_header.clone()),
            plan: plan.clone(),
        })
    }
}

impl Target {
    fn new(name: &str, route: &RoutePlan, pools: &dyn Pools) -> Self {
        let pool = pools
            .pool(name)
            .unwrap_or_else(|| panic!("pool {name} is not there"));
        let balance = &pool.plan().balance;
        let by_request = balance.algorithm == Algorithm::Hash;
        Self {
            hash_on: by_request.then(|| balance.hash_on.clone()),
            connector: pools.connector(name),
            budget: Budget::new(route.retry.budget),
            pool,
        }
    }
}
