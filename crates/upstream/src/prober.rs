//! When to check: one task for each endpoint of a pool with `health`.
//!
//! Tasks are known by pool and address. A reload that changes nothing for an endpoint leaves its task alone; one
//! that changes the checks starts a new task, which goes on from the health the endpoint has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fathom_core::health::Machine;
use fathom_core::plan::{HealthPlan, Origin, ProxyVersion, ServerProtocol, TlsClientPlan};
use fathom_core::{CheckReport, Endpoint, EndpointAddress, Health, Member, Pool, hash};
use fathom_io::clock;
use fathom_tls::Connector;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::probe::{self, Failure, Probe, Stage, Target};

/// The first checks of a pool are spread over this time at most, so that servers come up soon.
const FIRST_CHECK_SPREAD: Duration = Duration::from_millis(100);
/// Between two checks, even if one took longer than the interval.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// An endpoint to check.
pub(crate) struct Checked {
    pub(crate) endpoint: Arc<Endpoint>,
    /// The host name it was configured by.
    pub(crate) host: Option<String>,
}

/// The checks of all pools.
pub(crate) struct Prober {
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those in use: whoever still holds another one, from before a reload, has nothing to say.
    pools: Vec<Arc<Pool>>,
    running: HashMap<Key, Running>,
}

/// Pool and address.
type Key = (Arc<str>, EndpointAddress);

struct Running {
    settings: Settings,
    /// The same key may come to stand for another endpoint, if the old one was forgotten in between.
    endpoint: Arc<Endpoint>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whatever makes a check different. When any of it changes, the task is started anew.
#[derive(Clone, PartialEq)]
struct Settings {
    health: HealthPlan,
    host: Option<String>,
    tls: Option<TlsClientPlan>,
    /// When the files of `tls` were written: they may be replaced under the same names.
    tls_files: Vec<Option<SystemTime>>,
    protocol: ServerProtocol,
    proxy: Option<ProxyVersion>,
}

impl Prober {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks exactly the members of this pool from now on, if it is one of those in use.
    ///
    /// A task that was aborted may still come here when its pool has been replaced; it must not bring back old checks.
    pub(crate) fn sync(&self, pool: &Arc<Pool>, checked: impl Fn(&Member) -> Checked) {
        let mut state = self.lock();
        let State { pools, running } = &mut *state;
        if !pools.iter().any(|used| Arc::ptr_eq(used, pool)) {
            return;
        }
        // Read under the lock, so that whoever comes last has seen the latest.
        let endpoints: Vec<_> = pool.members().iter().map(checked).collect();
        let pool = pool.plan();
        let Some(health) = &pool.health else {
            running.retain(|(name, _), _| *name != pool.name);
            for checked in endpoints {
                // Without checks a server counts as healthy, whatever earlier checks found.
                checked.endpoint.set_health(clock::precise(), Health::Up);
            }
            return;
        };
        running.retain(|(name, address), task| {
            *name != pool.name
                || endpoints.iter().any(|c| {
                    c.endpoint.address() == address && Arc::ptr_eq(&c.endpoint, &task.endpoint)
                })
        });
        let tls_files: Vec<_> = pool.tls.iter().flat_map(files).map(written).collect();
        for Checked { endpoint, host } in endpoints {
            let settings = Settings {
                // Where it is written makes no difference.
                health: HealthPlan {
                    origin: Origin {
                        file: "".into(),
                        line: 0,
                    },
                    ..health.clone()
                },
                host,
                tls: pool.tls.clone(),
                tls_files: tls_files.clone(),
                protocol: pool.protocol,
                proxy: pool.proxy_protocol,
            };
            let key = (Arc::clone(&pool.name), endpoint.address().clone());
            if running
                .get(&key)
                .is_some_and(|task| task.settings == settings && !task.task.is_finished())
            {
                continue;
            }
            let target = target(&settings, &endpoint);
            let probe = probe::make(&health.probe);
            let task =
                self.runtime
                    .spawn(run(probe, target, health.clone(), Arc::clone(&endpoint)));
            running.insert(
                key,
                Running {
                    settings,
                    endpoint,
                    task,
                },
            );
        }
    }

    /// Says which pools are in use from now on, and stops the checks of those whose names are gone.
    pub(crate) fn keep(&self, pools: &[Arc<Pool>]) {
        let mut state = self.lock();
        state.pools = pools.to_vec();
        state
            .running
            .retain(|(name, _), _| pools.iter().any(|pool| pool.name() == name));
    }
}

fn files(tls: &TlsClientPlan) -> impl Iterator<Item = &PathBuf> {
    tls.ca
        .iter()
        .chain(tls.client.iter().flat_map(|(cert, key)| [cert, key]))
}

fn written(path: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn target(settings: &Settings, endpoint: &Endpoint) -> Target {
    let mut address = endpoint.address().clone();
    if let (EndpointAddress::Ip(address), Some(port)) = (&mut address, settings.health.port) {
        address.set_port(port);
    }
    let tls = settings.tls.as_ref().map(|tls| {
        Connector::new(tls, settings.protocol).map_err(|errors| {
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ")
        })
    });
    Target {
        address,
        host: settings.host.clone(),
        pool: Arc::clone(endpoint.pool()),
        server: endpoint.name(),
        tls,
        // Another port is another service: it does not wait for the pool's header.
        proxy: settings.proxy.filter(|_| settings.health.port.is_none()),
        http2: matches!(
            settings.protocol,
            ServerProtocol::Http2 | ServerProtocol::Grpc
        ),
        stage: Stage::default(),
    }
}

/// One endpoint's checks, until aborted.
async fn run(probe: Box<dyn Probe>, target: Target, plan: HealthPlan, endpoint: Arc<Endpoint>) {
    let mut machine = Machine::new(endpoint.health());
    let mut random = Random::new();
    let spread = plan.fast_interval.min(FIRST_CHECK_SPREAD);
    tokio::time::sleep(spread.mul_f64(random.fraction())).await;
    loop {
        let started = Instant::now();
        let result = check(&*probe, &target, &plan).await;
        take_in(result, started.elapsed(), &mut machine, &plan, &endpoint);
        let next = started + machine.next_delay(&plan, random.next());
        tokio::time::sleep_until(next.max(Instant::now() + MIN_PAUSE)).await;
    }
}

/// One check, within its time.
async fn check(probe: &dyn Probe, target: &Target, plan: &HealthPlan) -> Result<(), Failure> {
    let check = AssertUnwindSafe(probe.check(target)).catch_unwind();
    match tokio::time::timeout(plan.timeout, check).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::new("the check itself failed (a fault of Fathom)").of_machine()),
        Err(_) => Err(Failure::new(format_args!(
            "timeout after {:?} {}",
            plan.timeout, target.stage
        ))),
    }
}

/// What a result does to the endpoint.
fn take_in(
    result: Result<(), Failure>,
    took: Duration,
    machine: &mut Machine,
    plan: &HealthPlan,
    endpoint: &Endpoint,
) {
    let (pool, server, address) = (endpoint.pool(), endpoint.name(), endpoint.address());
    let (ok, detail) = match result {
        Ok(()) => (true, "ok".to_owned()),
        // Fathom's own lack of descriptors, ports or memory says nothing about the server; taking every server
        // out for it would turn a shortage into an outage.
        Err(failure) if failure.is_of_machine() => {
            tracing::warn!(%pool, %server, "check not possible: {failure}");
            return;
        }
        Err(failure) => (false, failure.to_string()),
    };
    let at = clock::precise();
    if ok {
        tracing::trace!(%pool, %server, ?took, "check ok");
    } else {
        tracing::debug!(%pool, %server, ?took, "check failed: {detail}");
    }
    let reason = detail.clone();
    endpoint.record_check(CheckReport {
        at,
        ok,
        took,
        detail,
    });
    if let Some(change) = machine.observe(plan, ok) {
        endpoint.set_health(at, change.to);
        let (from, to) = (change.from.as_str(), change.to.as_str());
        if ok {
            tracing::info!(%pool, %server, %address, "server is {to} (was {from})");
        } else {
            tracing::warn!(%pool, %server, %address, "server is {to} (was {from}): {reason}");
        }
    }
}

/// A small generator, seeded by the system for each task.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash::mix(self.0)
    }

    /// In [0, 1).
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use fathom_core::Endpoints;
    use fathom_core::plan::{
        Algorithm, BalancePlan, HashOn, KeepalivePlan, PoolPlan, ProbePlan, ServerAddress,
        ServerPlan,
    };

    use super::*;

    fn origin() -> Origin {
        Origin {
            file: "fathom.toml".into(),
            line: 1,
        }
    }

    fn pool(registry: &Endpoints, address: &str) -> Arc<Pool> {
        let plan = PoolPlan {
            name: "web".into(),
            origin: origin(),
            balance: BalancePlan {
                algorithm: Algorithm::RoundRobin,
                hash_on: HashOn::SourceIp,
                bounded_load: None,
            },
            servers: vec![ServerPlan {
                name: address.into(),
                address: ServerAddress::Ip(address.parse().expect("an address")),
                weight: 1,
                backup: false,
                max_connections: None,
                origin: origin(),
            }],
            health: Some(HealthPlan {
                probe: ProbePlan::Tcp,
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                rise: 2,
                fall: 3,
                fast_interval: Duration::from_secs(1),
                port: None,
                origin: origin(),
            }),
            outliers: None,
            slow_start: Duration::ZERO,
            affinity: None,
            tls: None,
            protocol: ServerProtocol::Http1,
            keepalive: KeepalivePlan {
                idle: 256,
                timeout: Duration::from_secs(60),
            },
            queue: None,
            proxy_protocol: None,
        };
        Pool::new(Arc::new(plan), registry, None)
    }

    fn checked(member: &Member) -> Checked {
        Checked {
            endpoint: Arc::clone(member.endpoint()),
            host: None,
        }
    }

    #[tokio::test]
    async fn who_comes_late_with_a_replaced_pool_changes_nothing() {
        let prober = Prober::new(Handle::current());
        let registry = Endpoints::new();
        let (old, new) = (
            pool(&registry, "127.0.0.1:1"),
            pool(&registry, "127.0.0.2:1"),
        );
        let addresses = || {
            let state = prober.lock();
            let addresses = state.running.keys().map(|(_, address)| address.to_string());
            addresses.collect::<Vec<_>>()
        };
        prober.keep(std::slice::from_ref(&old));
        prober.sync(&old, checked);
        assert_eq!(addresses(), ["127.0.0.1:1"]);
        prober.keep(std::slice::from_ref(&new));
        prober.sync(&new, checked);
        prober.sync(&old, checked);
        assert_eq!(addresses(), ["127.0.0.2:1"]);
        prober.keep(&[]);
        prober.sync(&new, checked);
        assert!(addresses().is_empty());
    }
}
