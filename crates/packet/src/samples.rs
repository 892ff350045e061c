//! The sampled flow log.

use std::net::{IpAddr, SocketAddr};

use fathom_wire::packet::{PacketReason, Sample};

use crate::plane::Plane;

/// A flow that was opened, one in `packet.flow_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// The client.
    pub client: SocketAddr,
    /// The address it used.
    pub listener_address: SocketAddr,
    /// The listener's name.
    pub listener: String,
    /// The server.
    pub server: SocketAddr,
    /// Fathom's port towards the server, with `nat`.
    pub own_port: Option<u16>,
    /// Whether the flow came from another server, which is gone or down.
    pub moved: bool,
}

impl Plane {
    /// What was sampled since the last call, at most `most`. Records the program could not hand over in time are lost.
    pub fn flows(&mut self, most: usize) -> Vec<FlowRecord> {
        let Some(mut ring) = self.object.maps.samples.take() else {
            return Vec::new();
        };
        let mut records = Vec::new();
        while records.len() < most {
            let Some(item) = ring.next() else { break };
            let Ok(bytes) = <[u8; size_of::<Sample>()]>::try_from(&*item) else {
                continue;
            };
            // SAFETY: integers only, any bytes will do, of the same size.
            let sample: Sample = unsafe { std::mem::transmute(bytes) };
            records.extend(self.record(&sample));
        }
        self.object.maps.samples = Some(ring);
        records
    }

    fn record(&self, sample: &Sample) -> Option<FlowRecord> {
        let maps = &self.object.maps;
        let service =
            (sample.service < maps.services.len()).then(|| maps.services.read(sample.service))?;
        let target =
            (sample.target < maps.targets.len()).then(|| maps.targets.read(sample.target))?;
        let v6 = target.flags & fathom_wire::packet::target_flag::V6 != 0;
        let listener_address = self.bind_of(sample.service)?;
        let mut client = [0u8; 16];
        for (i, word) in sample.client.iter().enumerate() {
            client[i * 4..i * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        Some(FlowRecord {
            client: SocketAddr::new(
                address(client, listener_address.is_ipv6()),
                u16::from_be(sample.client_port),
            ),
            listener_address,
            listener: self.listener_of(service.listener)?,
            server: SocketAddr::new(address(target.addr, v6), u16::from_be(target.port)),
            own_port: (sample.own_port != 0).then(|| u16::from_be(sample.own_port)),
            moved: sample.reason == PacketReason::Moved as u32,
        })
    }
}

/// The program's 16 bytes as an address.
pub(crate) fn address(bytes: [u8; 16], v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from(bytes)
    } else {
        IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

/// An address as the program's 16 bytes.
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(a) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&a.octets());
            bytes
        }
        IpAddr::V6(a) => a.octets(),
    }
}
