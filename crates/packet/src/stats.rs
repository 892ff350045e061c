//! Counters, summed over CPUs when read.

use std::net::SocketAddr;
use std::sync::Arc;

use fathom_wire::packet::PacketReason;

use crate::plane::Plane;

/// Everything counted since the program was first attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Listeners in file order.
    pub listeners: Vec<ListenerStats>,
    /// Flow entries in use at the last count (every few seconds; with `nat` a flow has two), and how many there may be.
    pub flow_entries: u64,
    /// The most there may be.
    pub flow_capacity: u64,
}

/// Of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Its name.
    pub name: Arc<str>,
    /// What happened to packets that were not simply forwarded, without zeros.
    pub reasons: Vec<(PacketReason, u64)>,
    /// Its servers.
    pub servers: Vec<ServerStats>,
}

/// Of one server, as this listener uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStats {
    /// Its name.
    pub name: Arc<str>,
    /// Its address.
    pub address: SocketAddr,
    /// Packets towards it.
    pub packets_in: u64,
    /// Their bytes, from the IP header on.
    pub bytes_in: u64,
    /// Packets from it (`nat` only).
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Flows opened.
    pub flows: u64,
    /// Packets it was chosen for that could not be sent.
    pub failed: u64,
}

impl ListenerStats {
    /// How often `reason` occurred.
    #[must_use]
    pub fn reason(&self, reason: PacketReason) -> u64 {
        self.reasons
            .iter()
            .find(|(r, _)| *r == reason)
            .map_or(0, |(_, n)| *n)
    }
}

impl Plane {
    /// All counters. Memory reads only.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (flow_entries, flow_capacity) = self.flow_use();
        Stats {
            listeners: self.listener_stats(),
            flow_entries,
            flow_capacity,
        }
    }

    pub(crate) fn target_stats(
        &self,
        slot: u32,
        name: &Arc<str>,
        address: SocketAddr,
    ) -> ServerStats {
        let mut sum = ServerStats {
            name: Arc::clone(name),
            address,
            packets_in: 0,
            bytes_in: 0,
            packets_out: 0,
            bytes_out: 0,
            flows: 0,
            failed: 0,
        };
        for cpu in 0..self.object.cpus {
            let c = self
                .object
                .maps
                .target_counters
                .read(cpu * self.object.sizes.targets + slot);
            sum.packets_in += c.packets_in;
            sum.bytes_in += c.bytes_in;
            sum.packets_out += c.packets_out;
            sum.bytes_out += c.bytes_out;
            sum.flows += c.flows;
            sum.failed += c.failed;
        }
        sum
    }

    pub(crate) fn reason_stats(
        &self,
        services: impl Iterator<Item = u32> + Clone,
    ) -> Vec<(PacketReason, u64)> {
        let mut sums = [0u64; fathom_wire::packet::REASONS];
        for cpu in 0..self.object.cpus {
            for service in services.clone() {
                let c = self
                    .object
                    .maps
                    .service_counters
                    .read(cpu * self.object.sizes.services + service);
                for (sum, n) in sums.iter_mut().zip(c.by_reason) {
                    *sum += n;
                }
            }
        }
        PacketReason::ALL
            .iter()
            .map(|r| (*r, sums[*r as usize]))
            .filter(|(_, n)| *n > 0)
            .collect()
    }
}
