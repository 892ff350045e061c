//! The start: what needs privileges first, threads last.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fathom_core::Endpoints;
use fathom_core::plan::DepthPlan;
use fathom_core::stats::{self, Registry};
use fathom_upstream::{ResolverOptions, Upstream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::signals::{Asked, Signals};
use super::workers::{Workers, settled};
use super::{Reloads, Running, privileges};
use crate::exit::{Failure, Outcome};
use crate::snapshot::Snapshot;
use crate::sockets::{self, Sockets};

/// Threads of the control path: probes, discovery, admin, reloads.
const CONTROL_THREADS: usize = 2;
/// How long the start waits for host names, so that the first clients find servers.
const NAMES_WAIT: Duration = Duration::from_secs(2);
/// From how many days before its end a certificate is warned about: what automatic renewal leaves when it has failed.
const EXPIRY_DAYS: i64 = 14;
/// A burst of file events is one change.
const CERTIFICATE_SETTLE: Duration = Duration::from_millis(200);

/// How often it is looked whether time alone has freed a server that clients wait for.
const QUEUE_TICK: Duration = Duration::from_millis(100);

/// A process that serves.
pub(crate) struct Started {
    runtime: Runtime,
    signals: Signals,
    pub(crate) running: Arc<Running>,
}

/// Reads `config` and brings it to life.
pub(crate) fn boot(config: &Path) -> Result<Started, Failure> {
    let loaded =
        fathom_config::load(config).map_err(|errors| Failure::input(errors.render(color())))?;
    let plan = Arc::new(loaded.plan);
    crate::logging::set(plan.log.level);
    if !loaded.warnings.is_empty() {
        eprint!("{}", loaded.warnings.render(color()));
    }
    raise_descriptor_limit();
    let chosen = fathom_io::choose(plan.runtime.io).map_err(Failure::machine)?;
    let count = plan
        .runtime
        .workers
        .map_or_else(usable_cores, std::num::NonZeroUsize::get);
    stats::reserve_workers(count);

    let mut open = Sockets::default();
    open.open(&sockets::wanted(&plan), count).map_err(list)?;
    let admin = plan
        .admin
        .as_ref()
        .map(super::control::bind)
        .transpose()
        .map_err(Failure::machine)?;
    let (endpoints, registry) = (Endpoints::new(), Arc::new(Registry::new()));
    let snapshot = Snapshot::build(plan.clone(), None, &endpoints, &registry)
        .map_err(|e| Failure::input(e.join("\n")))?;
    let packet = crate::packet::Packets::open(&plan).map_err(Failure::machine)?;
    if let Some(user) = &plan.runtime.user {
        privileges::drop_to(user, &plan).map_err(Failure::machine)?;
    }
    // Only now: a thread started before would have kept the privileges.
    snapshot
        .start_log()
        .map_err(|e| Failure::machine(format_args!("log.access: {e}")))?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|e| Failure::machine(format_args!("cannot start the control threads: {e}")))?;
    // Before anyone can see that the process serves: until then SIGHUP would simply end it.
    let signals = runtime
        .block_on(async { Signals::listen() })
        .map_err(|e| Failure::machine(format_args!("signals: {e}")))?;
    let (workers, deaths) = Workers::start(count, chosen.driver)
        .map_err(|e| Failure::machine(format_args!("cannot start the worker threads: {e}")))?;
    let running = Arc::new(Running {
        config: config.to_owned(),
        admin: plan.admin.clone(),
        since: Instant::now(),
        started_unix: fathom_io::clock::unix_now(),
        workers,
        driver_note: chosen.note,
        endpoints,
        stats: registry,
        upstream: Upstream::new(runtime.handle().clone(), ResolverOptions::default()),
        snapshot: ArcSwap::from_pointee(snapshot),
        sockets: Mutex::new(open),
        reloading: tokio::sync::Mutex::default(),
        reloads: Reloads::default(),
        certificates: Mutex::default(),
        certificates_changed: Arc::new(Notify::new()),
        packet: Mutex::new(packet),
        deaths: Mutex::new(Some(deaths)),
    });
    runtime
        .block_on(running.begin())
        .map_err(Failure::machine)?;
    if let Some(admin) = admin {
        runtime.block_on(async { running.serve_admin(admin) });
    }
    Ok(Started {
        runtime,
        signals,
        running,
    })
}

impl Running {
    async fn begin(self: &Arc<Self>) -> Result<(), String> {
        let snapshot = self.snapshot.load_full();
        self.upstream.apply(&snapshot.pool_list());
        self.upstream.names_known(NAMES_WAIT).await;
        self.apply_packets(&snapshot)?;
        let pending = {
            let sockets = self.sockets.lock().expect("no panic while held");
            self.workers
                .begin(&snapshot, &sockets)
                .map_err(|e| e.to_string())?
        };
        settled(pending).await?;
        self.watch_certificates(&snapshot);
        Ok(())
    }

    /// Watches the certificate files of the snapshot's listeners.
    pub(super) fn watch_certificates(&self, snapshot: &Snapshot) {
        let files = snapshot.certificate_files();
        let mut watcher = self.certificates.lock().expect("no panic while held");
        if files.is_empty() {
            *watcher = None;
            return;
        }
        if watcher.is_none() {
            let changed = self.certificates_changed.clone();
            match fathom_tls::Watcher::new(move || changed.notify_one()) {
                Ok(new) => *watcher = Some(new),
                Err(error) => {
                    return tracing::warn!("{error}; certificates are read again only by a reload");
                }
            }
        }
        if let Some(Err(error)) = watcher.as_mut().map(|w| w.watch(files)) {
            tracing::warn!("{error}; its certificates are read again only by a reload");
        }
    }

    /// Says which certificates have expired or soon will; at the start, after a reload, and once a day.
    pub(super) fn warn_of_expiry(&self) {
        let now = fathom_io::clock::unix_now().as_secs().cast_signed();
        for (listener, acceptor) in self.snapshot.load().acceptors() {
            for certificate in acceptor.certificates() {
                let path = certificate.path.display();
                match (certificate.not_after - now).div_euclid(24 * 3600) {
                    ..0 => {
                        tracing::error!("listener {listener}: the certificate {path} has expired")
                    }
                    days if days < EXPIRY_DAYS => {
                        tracing::warn!(
                            "listener {listener}: the certificate {path} expires in {days} days"
                        );
                    }
                    _ => {}
                }
            }
        }
    }

    fn refresh_certificates(&self) {
        for (listener, acceptor) in self.snapshot.load().acceptors() {
            if acceptor.refresh() {
                tracing::info!("listener {listener}: new certificates are in force");
            }
            for error in acceptor.errors() {
                tracing::error!(
                    "listener {listener}: {error}; the certificate read before stays in force"
                );
            }
        }
    }

    fn restart_worker(&self, id: usize) {
        let snapshot = self.snapshot.load_full();
        let sockets = self.sockets.lock().expect("no panic while held");
        if let Err(error) = self.workers.restart(id, &snapshot, &sockets) {
            tracing::error!("worker {id} cannot be started again yet: {error}");
            self.workers.retry(id);
        }
    }

    /// The control loop, until a signal or `stop` ends it.
    async fn live(self: &Arc<Self>, signals: &mut Signals, stop: impl Future<Output = ()>) {
        let mut deaths = self
            .deaths
            .lock()
            .expect("no panic while held")
            .take()
            .expect("the loop runs once");
        let mut sweep = tokio::time::interval(Duration::from_secs(10));
        let mut queues = tokio::time::interval(QUEUE_TICK);
        queues.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut daily = tokio::time::interval(Duration::from_secs(24 * 3600));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => {
                        self.snapshot.load().reopen_logs();
                        let _ = self.reload().await; // it has said in the log what became of it
                    }
                    Asked::Upgrade => tracing::error!("SIGUSR2: handing over to a new binary is not built yet"),
                    Asked::End => return,
                },
                () = &mut stop => return,
                Some(id) = deaths.recv() => self.restart_worker(id),
                () = self.certificates_changed.notified() => {
                    tokio::time::sleep(CERTIFICATE_SETTLE).await;
                    self.refresh_certificates();
                }
                _ = sweep.tick() => self.snapshot.load().sweep(),
                _ = queues.tick() => self.snapshot.load().tick(fathom_io::clock::precise()),
                _ = daily.tick() => self.warn_of_expiry(),
            }
        }
    }

    /// Stops accepting, finishes what is under way, ends the threads.
    async fn finish(self: &Arc<Self>, mut signals: Signals) {
        let plan = self.plan();
        tracing::info!(
            "ending: no new connections; {:?} for those that are open",
            plan.runtime.shutdown_grace
        );
        self.sockets.lock().expect("no panic while held").clear();
        tokio::select! {
            all = self.workers.finish(plan.runtime.shutdown_grace) => if !all {
                tracing::warn!("connections were still open after shutdown_grace and are closed");
            },
            () = async { while signals.next().await != Asked::End {} } => {
                tracing::warn!("asked a second time to end: open connections are closed");
            }
        }
    }
}

impl Started {
    /// Serves until a signal ends it, or `stop` does.
    pub(crate) fn serve(self, stop: impl Future<Output = ()>) -> Outcome {
        let Self {
            runtime,
            mut signals,
            running,
        } = self;
        runtime.block_on(async {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]); // there may be no service manager
            running.live(&mut signals, stop).await;
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            running.finish(signals).await;
        });
        running.workers.stop();
        running.snapshot.load().close_logs();
        runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(())
    }

    /// A task on the control runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// One line: what is served, by how many, how.
    pub(crate) fn summary(&self) -> String {
        let plan = self.running.plan();
        let binds: Vec<String> = plan.listeners.iter().map(describe).collect();
        let workers = self.running.workers.count();
        let driver = self.running.workers.driver().as_str();
        let note = self
            .running
            .driver_note
            .as_ref()
            .map(|n| format!(" ({n})"))
            .unwrap_or_default();
        format!(
            "fathom {} serves {}; {workers} worker{} on {driver}{note}",
            env!("CARGO_PKG_VERSION"),
            if binds.is_empty() {
                "nothing yet".to_owned()
            } else {
                binds.join(", ")
            },
            if workers == 1 { "" } else { "s" },
        )
    }
}

fn describe(listener: &fathom_core::plan::ListenerPlan) -> String {
    let depth = match listener.depth {
        DepthPlan::Http(_) => "http",
        DepthPlan::Stream(_) => "stream",
        DepthPlan::Datagram(_) => "stream/udp",
        DepthPlan::Packet(_) => "packet",
    };
    let addresses: Vec<String> = listener
        .binds
        .iter()
        .map(|bind| match bind.address {
            fathom_core::plan::BindAddress::Any(port) => format!(":{port}"),
            fathom_core::plan::BindAddress::Ip(address) => address.to_string(),
        })
        .collect();
    format!("{} on {} ({depth})", listener.name, addresses.join(" "))
}

fn list(errors: Vec<sockets::BindError>) -> Failure {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Failure::machine(lines.join("\n"))
}

/// Whether messages for people may be coloured.
pub(crate) fn color() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}

fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// The soft limit of open files, up to the hard one: a proxied connection takes two.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let wanted = Rlimit {
            current: limit.maximum.or(Some(1 << 20)),
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, wanted) {
            tracing::debug!(
                "the limit of open files stays at {:?}: {error}",
                limit.current
            );
        }
    }
}
