//! The registry that outlives reloads: endpoints and pool state by name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::endpoint::{Endpoint, EndpointAddress};
use crate::pool::Shared;

/// Endpoints by (pool name, address). Cloning gives another handle to the same registry.
///
/// It holds nothing alive: an endpoint lives as long as a pool or a lease has it, so a server that was
/// removed and comes back while a connection still holds it is the same one.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pools: Mutex<HashMap<Arc<str>, Entry>>,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    shared: Weak<Shared>,
    endpoints: HashMap<EndpointAddress, Weak<Endpoint>>,
}

impl Endpoints {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The endpoint of that pool and address, made if there is none. `checked`: whether the pool has active checks;
    /// a new endpoint then begins as probing, else as up.
    pub fn get_or_create(
        &self,
        pool: &Arc<str>,
        name: &Arc<str>,
        address: &EndpointAddress,
        checked: bool,
    ) -> Arc<Endpoint> {
        let mut pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = pools.entry(Arc::clone(pool)).or_default();
        if let Some(endpoint) = entry.endpoints.get(address).and_then(Weak::upgrade) {
            endpoint.rename(name);
            return endpoint;
        }
        let shared = entry.shared(pool);
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let endpoint = Arc::new(Endpoint::new(
            id,
            Arc::clone(name),
            address.clone(),
            shared,
            checked,
        ));
        entry.endpoints.retain(|_, weak| weak.strong_count() > 0);
        entry
            .endpoints
            .insert(address.clone(), Arc::downgrade(&endpoint));
        endpoint
    }

    /// What all pools of that name share.
    pub(crate) fn shared(&self, pool: &Arc<str>) -> Arc<Shared> {
        let mut pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|name, entry| name == pool || entry.shared.strong_count() > 0);
        pools.entry(Arc::clone(pool)).or_default().shared(pool)
    }

    /// Every endpoint alive: of pools and of connections that outlive their pool.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Endpoint>> {
        let pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = pools
            .values()
            .flat_map(|entry| entry.endpoints.values().filter_map(Weak::upgrade))
            .collect();
        all.sort_by_key(|endpoint| endpoint.id());
        all
    }
}

impl Entry {
    fn shared(&mut self, pool: &Arc<str>) -> Arc<Shared> {
        self.shared.upgrade().unwrap_or_else(|| {
            let shared = Arc::new(Shared::new(Arc::clone(pool)));
            self.shared = Arc::downgrade(&shared);
            shared
        })
    }
}
