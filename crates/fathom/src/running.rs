//! A configuration brought to life: started, reloaded, ended.
//!
//! ```text
//! boot ──> serving ──SIGHUP, reload──> (whole new configuration or none) ──> serving
//!             └──SIGTERM, SIGINT──> finishing (stop accepting, at most shutdown_grace) ──> ended
//! ```

mod boot;
mod control;
mod privileges;
mod reload;
mod signals;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use fathom_core::Endpoints;
use fathom_core::plan::{AdminPlan, Plan};
use fathom_core::stats::Registry;
use fathom_upstream::Upstream;
use tokio::sync::{Notify, mpsc};

use crate::exit::Outcome;
use crate::snapshot::Snapshot;
use crate::sockets::Sockets;
use workers::Workers;

pub(crate) use boot::{Started, boot, color};

/// `fathom run`.
pub(crate) fn run(config: &Path) -> Outcome {
    let started = boot::boot(config)?;
    tracing::info!("{}", started.summary());
    started.serve(std::future::pending())
}

/// The process's state; everything a reload touches and a status shows.
pub(crate) struct Running {
    /// The file a reload reads.
    config: PathBuf,
    /// The admin side as it was opened; another `bind` takes a restart.
    admin: Option<AdminPlan>,
    since: Instant,
    started_unix: std::time::Duration,
    workers: Workers,
    /// Why the driver is not io_uring, if it is not.
    driver_note: Option<String>,
    endpoints: Endpoints,
    stats: Arc<Registry>,
    upstream: Upstream,
    snapshot: ArcSwap<Snapshot>,
    sockets: Mutex<Sockets>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    reloads: Reloads,
    certificates: Mutex<Option<fathom_tls::Watcher>>,
    certificates_changed: Arc<Notify>,
    packet: Mutex<Option<crate::packet::Packets>>,
    /// Workers that died and must be started again.
    deaths: Mutex<Option<mpsc::UnboundedReceiver<usize>>>,
}

/// What became of reloads.
#[derive(Debug, Default)]
struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
    last: Mutex<LastReload>,
}

/// The newest of them.
#[derive(Debug, Default)]
struct LastReload {
    at: Option<std::time::Duration>,
    error: Option<String>,
}

impl Running {
    /// The plan in force.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.snapshot.load().plan.clone()
    }

    /// The packet plane, if a listener ever needed it.
    pub(crate) fn packet(&self) -> std::sync::MutexGuard<'_, Option<crate::packet::Packets>> {
        self.packet.lock().expect("no panic while held")
    }
}
