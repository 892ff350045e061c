//! Where counters outlive reloads: by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ListenerStats, RouteStats};
use crate::plan::{DepthPlan, Plan};

/// Counters of listeners and routes by name. Those of pools and servers are held by
/// [`Pool`](crate::Pool) and [`Endpoint`](crate::Endpoint).
#[derive(Debug, Default)]
pub struct Registry(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    listeners: BTreeMap<Arc<str>, Arc<ListenerStats>>,
    /// By listener, then route.
    routes: BTreeMap<(Arc<str>, Arc<str>), Arc<RouteStats>>,
}

impl Registry {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listener's counters, made at the first call.
    pub fn listener(&self, name: &Arc<str>) -> Arc<ListenerStats> {
        Arc::clone(self.names().listeners.entry(Arc::clone(name)).or_default())
    }

    /// The route's counters, made at the first call.
    pub fn route(&self, listener: &Arc<str>, route: &Arc<str>) -> Arc<RouteStats> {
        let key = (Arc::clone(listener), Arc::clone(route));
        Arc::clone(self.names().routes.entry(key).or_default())
    }

    /// All listeners, by name.
    #[must_use]
    pub fn listeners(&self) -> Vec<(Arc<str>, Arc<ListenerStats>)> {
        self.names()
            .listeners
            .iter()
            .map(|(n, s)| (Arc::clone(n), Arc::clone(s)))
            .collect()
    }

    /// All routes: listener, route, counters.
    #[must_use]
    pub fn routes(&self) -> Vec<(Arc<str>, Arc<str>, Arc<RouteStats>)> {
        let names = self.names();
        names
            .routes
            .iter()
            .map(|((l, r), s)| (Arc::clone(l), Arc::clone(r), Arc::clone(s)))
            .collect()
    }

    /// Forgets what `plan` does not name; called once a reload has taken effect.
    pub fn keep(&self, plan: &Plan) {
        let mut names = self.names();
        names
            .listeners
            .retain(|name, _| plan.listeners.iter().any(|l| l.name == *name));
        names.routes.retain(|(listener, route), _| {
            plan.listeners
                .iter()
                .filter(|l| l.name == *listener)
                .any(|l| match &l.depth {
                    DepthPlan::Http(http) => http.routes.iter().any(|r| r.name == *route),
                    // Their routes have no names: what was registered goes with the listener.
                    DepthPlan::Stream(_) | DepthPlan::Datagram(_) | DepthPlan::Packet(_) => true,
                })
        });
    }
}
