//! The way in: which pools there are now.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fathom_core::Pool;
use fathom_core::plan::{PoolPlan, ServerAddress};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::discovery::{self, NameStatus, Names, Resolver, ResolverOptions};
use crate::prober::{Checked, Prober};

/// Checks and names of all pools; lives as long as the process.
pub struct Upstream {
    runtime: Handle,
    options: ResolverOptions,
    prober: Arc<Prober>,
    names: Arc<Names>,
    watchers: Mutex<Vec<Watcher>>,
}

/// The task of one name of one pool; ends with this.
struct Watcher(JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upstream {
    /// One without pools; its tasks will run on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle, options: ResolverOptions) -> Self {
        Self {
            prober: Arc::new(Prober::new(runtime.clone())),
            runtime,
            options,
            names: Arc::default(),
            watchers: Mutex::default(),
        }
    }

    /// Keeps exactly these pools true from now on; called at the start and after each reload.
    ///
    /// Checks that a reload does not change go on undisturbed; names keep the addresses they had.
    pub fn apply(&self, pools: &[Arc<Pool>]) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        // The old tasks must not write to pools that are no longer used, nor ask with old settings.
        watchers.clear();
        let used: HashSet<_> = pools.iter().flat_map(|pool| hosts(pool.plan())).collect();
        self.names.retain(|host| used.contains(host));
        let resolver = Arc::new(Resolver::new(&self.options));
        self.prober.keep(pools);
        for pool in pools {
            let members = Arc::new(Members {
                pool: Arc::clone(pool),
                prober: Arc::clone(&self.prober),
            });
            for host in hosts(pool.plan()).collect::<HashSet<_>>() {
                members.publish(host, &self.names.known(host, Instant::now()).addresses());
                let (resolver, names) = (Arc::clone(&resolver), Arc::clone(&self.names));
                let task = discovery::watch(host.to_owned(), resolver, names, Arc::clone(&members));
                watchers.push(Watcher(self.runtime.spawn(task)));
            }
            members.check();
        }
    }

    /// Waits until every host name has been looked up once, or for `most`: so that the first clients find servers.
    pub async fn names_known(&self, most: Duration) {
        // What is not known by then goes on being asked for.
        let _ = tokio::time::timeout(most, self.names.all_asked()).await;
    }

    /// The host names of a pool's servers, in file order, and what is known of them.
    #[must_use]
    pub fn names(&self, pool: &PoolPlan) -> Vec<NameStatus> {
        hosts(pool)
            .filter_map(|host| self.names.status(host))
            .collect()
    }
}

fn hosts(pool: &PoolPlan) -> impl Iterator<Item = &str> {
    pool.servers
        .iter()
        .filter_map(|server| host(&server.address))
}

fn host(address: &ServerAddress) -> Option<&str> {
    match address {
        ServerAddress::Name { host, .. } => Some(host),
        ServerAddress::Ip(_) | ServerAddress::Unix(_) => None,
    }
}

/// One pool's members, and their checks.
pub(crate) struct Members {
    pool: Arc<Pool>,
    prober: Arc<Prober>,
}

impl Members {
    pub(crate) fn pool_name(&self) -> &str {
        self.pool.name()
    }

    /// Says what a name stands for; returns whether that is news.
    pub(crate) fn publish(&self, host: &str, addresses: &[IpAddr]) -> bool {
        let ports: HashSet<_> = self
            .pool
            .plan()
            .servers
            .iter()
            .filter_map(|server| match &server.address {
                ServerAddress::Name { host: h, port } if h == host => Some(*port),
                _ => None,
            })
            .collect();
        let mut changed = false;
        for port in ports {
            changed |= self.pool.set_resolved(host, port, addresses);
        }
        if changed {
            self.check();
        }
        changed
    }

    /// Checks those that are members now.
    fn check(&self) {
        self.prober.sync(&self.pool, |member| Checked {
            endpoint: Arc::clone(member.endpoint()),
            host: host(&member.server().address).map(str::to_owned),
        });
    }
}
