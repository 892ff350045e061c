//! The packet depth's plane in this process: opened when a listener needs it, kept true by a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use fathom_access::{Exchange, Log, Record};
use fathom_admin::{Packet, PacketListener, PacketServer};
use fathom_core::plan::{DepthPlan, Plan};
use fathom_io::clock;
use fathom_packet::{FlowRecord, Options, Plane};

use crate::snapshot::Snapshot;

/// How often health, drains and weights are carried into the kernel. Twice as often as the 50 ms that a change may take.
const SYNC: Duration = Duration::from_millis(25);

/// Sampled flows taken from the ring buffer between two syncs; more are lost, as samples may be.
const FLOWS_A_TURN: usize = 1024;

/// The plane and its thread.
pub(crate) struct Packets {
    plane: Arc<Mutex<Plane>>,
    served: Arc<ArcSwap<Option<Arc<Snapshot>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A sampled flow in the access log.
fn write(log: &Log, snapshot: &Snapshot, flow: &FlowRecord) {
    let plan = &snapshot.plan;
    let pool = plan
        .listeners
        .iter()
        .find(|l| *l.name == *flow.listener)
        .and_then(|l| match &l.depth {
            DepthPlan::Packet(packet) => Some(&*packet.pool),
            _ => None,
        });
    log.write(&Record {
        time: clock::unix_now(),
        client: flow.client,
        listener: &flow.listener,
        route: None,
        pool,
        server: Some(&flow.server.to_string()),
        request_bytes: 0,
        response_bytes: 0,
        duration: Duration::ZERO,
        connect: None,
        retries: u32::from(flow.moved),
        reason: None,
        tls: None,
        exchange: Exchange::Packet,
    });
}

/// Whether a plan has listeners at this depth.
pub(crate) fn wanted(plan: &Plan) -> bool {
    plan.listeners
        .iter()
        .any(|l| matches!(l.depth, DepthPlan::Packet(_)))
}

/// Where things are pinned: `FATHOM_BPF_DIR`, for a second process beside a first; else the usual place.
pub(crate) fn options() -> Options {
    let root = std::env::var_os("FATHOM_BPF_DIR").map(Into::into);
    Options {
        root: root.unwrap_or(Options::default().root),
        ..Options::default()
    }
}

impl Packets {
    /// Puts the program in place, or adopts what an earlier process left pinned. `None` where no listener needs it.
    ///
    /// # Errors
    /// In words, for the operator.
    pub(crate) fn open(plan: &Plan) -> Result<Option<Self>, String> {
        if !wanted(plan) {
            return Ok(None);
        }
        let plane = Plane::open(options()).map_err(|e| format!("packet depth: {e}"))?;
        Ok(Some(Self {
            plane: Arc::new(Mutex::new(plane)),
            served: Arc::default(),
            stop: Arc::default(),
            thread: None,
        }))
    }

    /// Serves the packet listeners of `snapshot` from now on.
    ///
    /// # Errors
    /// In words, for the operator; what was served before goes on.
    pub(crate) fn apply(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), String> {
        let lookup = |name: &str| snapshot.pool(name).cloned();
        self.plane()
            .apply(&snapshot.plan.listeners, &lookup, clock::precise())
            .map_err(|e| format!("packet depth: {e}"))?;
        self.served.store(Arc::new(Some(snapshot.clone())));
        if self.thread.is_none() {
            self.thread = Some(
                self.start()
                    .map_err(|e| format!("packet depth: its thread: {e}"))?,
            );
        }
        Ok(())
    }

    /// The plane itself: for its status and counters.
    pub(crate) fn plane(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> std::io::Result<JoinHandle<()>> {
        let (plane, served, stop) = (self.plane.clone(), self.served.clone(), self.stop.clone());
        let body = move || {
            let mut last_error = String::new();
            while !stop.load(Relaxed) {
                std::thread::sleep(SYNC);
                let Some(snapshot) = (**served.load()).clone() else {
                    continue;
                };
                let lookup = |name: &str| snapshot.pool(name).cloned();
                let mut plane = plane.lock().unwrap_or_else(PoisonError::into_inner);
                let result = plane.sync(&lookup, clock::precise());
                let flows = plane.flows(FLOWS_A_TURN);
                drop(plane);
                if let Some(log) = &snapshot.log {
                    flows.iter().for_each(|flow| write(log, &snapshot, flow));
                }
                let error = result.err().map(|e| e.to_string()).unwrap_or_default();
                // The same failure forty times a second is one line.
                if error != last_error && !error.is_empty() {
                    tracing::error!("packet depth: {error}");
                }
                last_error = error;
            }
        };
        std::thread::Builder::new()
            .name("packet".into())
            .spawn(body)
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been printed
        }
    }
}

impl crate::running::Running {
    /// Carries a snapshot's packet listeners into the kernel, opening the plane when it is the first to have any.
    pub(crate) fn apply_packets(&self, snapshot: &Arc<Snapshot>) -> Result<(), String> {
        let mut packets = self.packet();
        if packets.is_none() {
            *packets = Packets::open(&snapshot.plan)?;
        }
        match &mut *packets {
            Some(packets) => packets.apply(snapshot),
            None => Ok(()),
        }
    }

    /// What the packet depth does, for the admin side.
    pub(crate) fn packet_status(&self) -> Option<Packet> {
        let packets = self.packet();
        let plane = packets.as_ref()?.plane();
        let (stats, status) = (plane.stats(), plane.status());
        drop(plane);
        let mut notes: Vec<String> = status.attachments.iter().map(attachment).collect();
        notes.extend(
            status
                .adopted
                .then(|| "flows of an earlier process were taken over".to_owned()),
        );
        notes.extend(
            status
                .unreachable
                .iter()
                .map(|(listener, server, why)| format!("{listener}: server {server}: {why}")),
        );
        notes.extend(status.notes);
        let server = |s: fathom_packet::ServerStats| PacketServer {
            server: s.name.to_string(),
            packets_in: s.packets_in,
            bytes_in: s.bytes_in,
            packets_out: s.packets_out,
            bytes_out: s.bytes_out,
            flows: s.flows,
            failed: s.failed,
        };
        let listener = |l: fathom_packet::ListenerStats| PacketListener {
            listener: l.name.to_string(),
            reasons: l
                .reasons
                .iter()
                .map(|(reason, n)| (reason.as_str().to_owned(), *n))
                .collect(),
            servers: l.servers.into_iter().map(server).collect(),
        };
        Some(Packet {
            listeners: stats.listeners.into_iter().map(listener).collect(),
            flow_entries: stats.flow_entries,
            flow_capacity: stats.flow_capacity,
            notes,
        })
    }
}

fn attachment(at: &fathom_packet::Attachment) -> String {
    let mode = if at.native { "native" } else { "generic" };
    let why = at
        .reason
        .as_ref()
        .map(|r| format!(" ({r})"))
        .unwrap_or_default();
    format!("{}: XDP {mode}{why}", at.interface)
}
