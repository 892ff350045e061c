//! UDP: datagrams of one client to one of our addresses are a flow; a flow has a server, and a socket towards it.
//!
//! One [`serve`] runs in each worker, on sockets that share their address with the other workers': the kernel keeps each
//! flow on one of them. Replies go back from the address the client asked. A flow ends when it was idle for its listener's
//! time, or as the longest idle when there are too many; a flow whose server died gets another one.

mod relay;
mod table;

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use fathom_access::Log;
use fathom_core::Pool;
use fathom_core::plan::{DatagramPlan, ListenerPlan, Origin};
use fathom_core::stats::{ListenerStats, Registry};
use fathom_io::{Drain, clock, timer};

use self::relay::Relay;
use crate::service::Pools;

/// A UDP listener under one configuration; shared by all workers.
#[derive(Debug)]
pub struct Service {
    listener: Arc<str>,
    origin: Origin,
    pool: Arc<Pool>,
    idle: Duration,
    max_flows: usize,
    stats: Arc<ListenerStats>,
    access: Option<LogHandle>,
    /// Flows in all workers; with those that began under earlier configurations of the listener and still go on.
    flows: Arc<AtomicUsize>,
}

/// A log has no useful `Debug`.
struct LogHandle(Arc<Log>);

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Service {
    /// Builds it. `previous` is the one of this listener that it replaces: its flows go on, and still count.
    ///
    /// # Panics
    /// When the plan's pool is not among `pools`, which a plan rules out.
    #[must_use]
    pub fn new(
        listener: &ListenerPlan,
        plan: &DatagramPlan,
        pools: &dyn Pools,
        stats: &Registry,
        access: Option<Arc<Log>>,
        previous: Option<&Self>,
    ) -> Arc<Self> {
        Arc::new(Self {
            listener: Arc::clone(&listener.name),
            origin: listener.origin.clone(),
            pool: pools
                .pool(&plan.pool)
                .expect("a plan names only pools that it has"),
            idle: plan.idle_timeout,
            max_flows: plan.max_flows,
            stats: stats.listener(&listener.name),
            access: access.map(LogHandle),
            flows: previous.map(|p| Arc::clone(&p.flows)).unwrap_or_default(),
        })
    }
}

/// Once the drain has started, a flow that was idle for this long has had its answer.
const QUIET: Duration = Duration::from_secs(2);

/// Relays the datagrams that arrive on `sockets` until `drain` starts and the flows have become quiet.
///
/// `current` is asked for the service of each new flow; a flow keeps the one it began with. So a reload needs no new
/// sockets, and no flow changes its server by it.
///
/// # Errors
/// When the machine lacks the descriptors to begin.
pub async fn serve(
    sockets: Vec<UdpSocket>,
    current: impl Fn() -> Arc<Service>,
    drain: Drain,
) -> io::Result<()> {
    let mut relay = Relay::new(sockets, current)?;
    let mut draining = drain.started();
    let mut stopped = false;
    let expiry = timer::Timer::new();
    let mut armed = false;
    let mut ready = Vec::new();
    while !stopped || !relay.is_empty() {
        tokio::select! {
            biased;
            () = &mut draining, if !stopped => {
                stopped = true;
                // What has arrived by now is served like everything before it.
                relay.stop_taking(clock::now());
                armed = false;
            }
            result = relay.ready(&mut ready) => result?,
            () = expiry.elapsed() => armed = false,
        }
        let now = clock::now();
        for number in ready.drain(..) {
            relay.handle(number, now);
        }
        relay.flush();
        if !armed {
            relay.expire(now, if stopped { QUIET } else { Duration::MAX });
            expiry.disarm();
            // Set for the flow idle longest now; that it was used meanwhile is found when the time has come.
            if let Some(next) = relay.next_expiry(if stopped { QUIET } else { Duration::MAX }) {
                expiry.reset(next);
                armed = true;
            }
        }
    }
    Ok(())
}
