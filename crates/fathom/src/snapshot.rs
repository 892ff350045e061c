//! A whole configuration, ready to serve: built beside the one in force, then swapped in at once.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use fathom_access::Log;
use fathom_core::plan::{
    ActionPlan, DepthPlan, HeaderEdits, HttpPlan, ListenerPlan, MatchPlan, Plan, RetryPlan,
    RoutePlan,
};
use fathom_core::stats::Registry;
use fathom_core::{Endpoints, Pool, Tick};
use fathom_tls::{Acceptor, Connector};

use crate::front::{Admission, Front, Service};
use crate::sockets::{self, Wanted};

/// Immutable; connections and requests read it as a whole.
pub(crate) struct Snapshot {
    pub(crate) plan: Arc<Plan>,
    /// By the plan's order.
    pub(crate) fronts: Vec<Arc<Front>>,
    /// Sockets and whose they are.
    pub(crate) bound: Vec<Wanted>,
    pub(crate) log: Option<Arc<Log>>,
    pools: Pools,
}

#[derive(Default)]
struct Pools {
    pools: HashMap<Arc<str>, Arc<Pool>>,
    connectors: HashMap<Arc<str>, Arc<Connector>>,
}

impl fathom_http::Pools for Pools {
    fn pool(&self, name: &str) -> Option<Arc<Pool>> {
        self.pools.get(name).cloned()
    }

    fn connector(&self, name: &str) -> Option<Arc<Connector>> {
        self.connectors.get(name).cloned()
    }
}

impl fathom_stream::Pools for Pools {
    fn pool(&self, name: &str) -> Option<Arc<Pool>> {
        self.pools.get(name).cloned()
    }
}

impl Snapshot {
    /// Builds `plan`, taking over from `before` what the plan leaves as it was.
    ///
    /// # Errors
    /// Each file that cannot be used.
    pub(crate) fn build(
        plan: Arc<Plan>,
        before: Option<&Self>,
        endpoints: &Endpoints,
        stats: &Registry,
    ) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let log = match before {
            Some(old)
                if old.plan.log.access == plan.log.access
                    && old.plan.log.format == plan.log.format =>
            {
                old.log.clone()
            }
            _ => Log::open_idle(&plan.log).unwrap_or_else(|e| {
                errors.push(format!("log.access: {e}"));
                None
            }),
        };
        let mut pools = Pools::default();
        for pool in &plan.pools {
            let old = before.and_then(|b| b.pools.pools.get(&pool.name));
            let built = match old {
                Some(old) if old.plan() == pool => old.clone(),
                old => Pool::new(pool.clone(), endpoints, old.map(|p| &**p)),
            };
            pools.pools.insert(pool.name.clone(), built);
            if let Some(tls) = &pool.tls {
                match Connector::new(tls, pool.protocol) {
                    Ok(connector) => {
                        pools
                            .connectors
                            .insert(pool.name.clone(), Arc::new(connector));
                    }
                    Err(found) => {
                        errors.extend(
                            found
                                .iter()
                                .map(|e| format!("{}: pool {}: {e}", pool.origin, pool.name)),
                        );
                    }
                }
            }
        }
        let mut fronts = Vec::new();
        for listener in &plan.listeners {
            let old = before.and_then(|b| b.fronts.iter().find(|f| *f.name() == listener.name));
            match front(listener, old, &pools, stats, log.as_ref()) {
                Ok(front) => fronts.push(Arc::new(front)),
                Err(found) => {
                    errors.extend(
                        found.iter().map(|e| {
                            format!("{}: listener {}: {e}", listener.origin, listener.name)
                        }),
                    );
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let bound = sockets::wanted(&plan);
        Ok(Self {
            plan,
            fronts,
            bound,
            log,
            pools,
        })
    }

    /// Every pool, in the plan's order.
    pub(crate) fn pool_list(&self) -> Vec<Arc<Pool>> {
        self.plan
            .pools
            .iter()
            .map(|p| self.pools.pools[&p.name].clone())
            .collect()
    }

    /// The pool of that name.
    pub(crate) fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.pools.get(name)
    }

    /// Listeners that speak TLS.
    pub(crate) fn acceptors(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Acceptor>)> {
        self.fronts
            .iter()
            .filter_map(|f| Some((f.name(), f.tls.as_ref()?)))
    }

    /// Files to watch.
    pub(crate) fn certificate_files(&self) -> HashSet<PathBuf> {
        self.acceptors()
            .flat_map(|(_, acceptor)| acceptor.files())
            .collect()
    }

    /// After a log rotation.
    pub(crate) fn reopen_logs(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// Writes out what is buffered; the last thing.
    pub(crate) fn close_logs(&self) {
        if let Some(log) = &self.log {
            log.close();
        }
    }

    /// Forgets what is out of date; now and then.
    pub(crate) fn sweep(&self) {
        for front in &self.fronts {
            front.admission.sweep();
        }
    }

    /// Tells those who wait in queues of what has become possible by time alone; often.
    pub(crate) fn tick(&self, now: Tick) {
        for pool in self.pools.pools.values() {
            pool.tick(now);
        }
    }

    /// Starts the access log's writer, if it has not been. Apart from the rest, since its thread keeps the privileges
    /// that the process has at that moment.
    pub(crate) fn start_log(&self) -> std::io::Result<()> {
        self.log.as_ref().map_or(Ok(()), |log| log.start())
    }
}

fn front(
    listener: &ListenerPlan,
    old: Option<&Arc<Front>>,
    pools: &Pools,
    stats: &Registry,
    log: Option<&Arc<Log>>,
) -> Result<Front, Vec<String>> {
    let old_tls = old.and_then(|f| f.tls.as_ref());
    let tls = match &listener.tls {
        Some(tls) => Some(
            Acceptor::new(tls, old_tls.map(|a| &**a))
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?,
        ),
        None => None,
    };
    let (mut redirect, mut passthrough) = (None, None);
    let service = match &listener.depth {
        DepthPlan::Http(http) => {
            if listener.tls.as_ref().is_some_and(|tls| tls.redirect_http) {
                redirect = Some(fathom_http::Service::new(
                    &to_https(listener, http),
                    pools,
                    stats,
                    log.cloned(),
                ));
            }
            if !http.passthrough.is_empty() {
                passthrough = Some(fathom_stream::Service::new(
                    listener,
                    pools,
                    stats,
                    log.cloned(),
                ));
            }
            Service::Http(fathom_http::Service::new(
                listener,
                pools,
                stats,
                log.cloned(),
            ))
        }
        DepthPlan::Stream(_) => Service::Stream(fathom_stream::Service::new(
            listener,
            pools,
            stats,
            log.cloned(),
        )),
        DepthPlan::Datagram(plan) => Service::Datagram(fathom_stream::datagram::Service::new(
            listener,
            plan,
            pools,
            stats,
            log.cloned(),
            old.and_then(|f| match &f.service {
                Service::Datagram(service) => Some(&**service),
                _ => None,
            }),
        )),
        DepthPlan::Packet(_) => Service::Packet,
    };
    Ok(Front {
        plan: listener.clone(),
        stats: stats.listener(&listener.name),
        admission: old
            .map(|f| f.admission.clone())
            .unwrap_or_else(|| Arc::new(Admission::default())),
        tls,
        service,
        redirect,
        passthrough,
    })
}

/// The listener as its cleartext binds serve it under `redirect_http`.
fn to_https(listener: &ListenerPlan, http: &HttpPlan) -> ListenerPlan {
    let tls_port = listener
        .binds
        .iter()
        .find(|b| b.tls)
        .map_or(443, |b| match b.address {
            fathom_core::plan::BindAddress::Any(port) => port,
            fathom_core::plan::BindAddress::Ip(address) => address.port(),
        });
    let port = if tls_port == 443 {
        String::new()
    } else {
        format!(":{tls_port}")
    };
    let route = RoutePlan {
        name: format!("{}/redirect-to-https", listener.name).into(),
        origin: listener.origin.clone(),
        matches: MatchPlan::default(),
        // 308 keeps the method and the body (RFC 9110 §15.4.9).
        action: ActionPlan::Redirect {
            to: format!("https://$host{port}$path"),
            status: 308,
        },
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        connect_timeout: http.header_timeout,
        response_timeout: http.header_timeout,
        retry: RetryPlan {
            attempts: 0,
            on: Vec::new(),
            budget: 0.0,
        },
        max_body: None,
    };
    let http = HttpPlan {
        routes: vec![Arc::new(route)],
        passthrough: Vec::new(),
        ..http.clone()
    };
    ListenerPlan {
        depth: DepthPlan::Http(http),
        ..listener.clone()
    }
}
