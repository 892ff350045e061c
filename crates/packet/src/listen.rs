//! One packet listener: its binds and servers as slots of the kernel's tables.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fathom_balance::maglev;
use fathom_core::plan::{
    Algorithm, BindAddress, Forward, HashOn, ListenerPlan, PacketPlan, PacketProtocol, PoolPlan,
    Rate, ServerAddress,
};
use fathom_core::{EndpointAddress, Health};
use fathom_core::{Pool, Tick};
use fathom_wire::packet::{Service, TablePair, Target, VipKey, forward, service_flag, target_flag};

use crate::error::Unreachable;
use crate::plane::{Plane, map_error};
use crate::resolver::{Hop, Resolver};
use crate::samples::octets;
use crate::slots::name_of;
use crate::stats::ListenerStats;
use crate::table::bytes_of;
use crate::{Error, sys};

/// UDP flows without a packet for so long are chosen anew.
const UDP_IDLE_NS: u64 = 60_000_000_000;
/// `2^27` ns, the program's window for counting SYNs.
const WINDOW_NS: f64 = (1u64 << 27) as f64;

#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) name: Arc<str>,
    pub(crate) packet: PacketPlan,
    /// Scope of lists, rates and affinity in the program.
    pub(crate) number: u32,
    pub(crate) unreachable: Vec<(Arc<str>, Arc<str>, Unreachable)>,
    binds: Vec<Bind>,
    servers: BTreeMap<SocketAddr, Server>,
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Bind {
    address: SocketAddr,
    owner: u64,
    slot: u32,
}

#[derive(Debug)]
struct Server {
    name: Arc<str>,
    owner: u64,
    slot: u32,
}

/// What the tables were made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    pool: *const Pool,
    generation: u64,
    until: Tick,
    ways: u64,
    partial: bool,
}

// SAFETY: the pointer is compared, never followed.
unsafe impl Send for Seen {}
// SAFETY: as above.
unsafe impl Sync for Seen {}

impl Listening {
    /// Checks that listener and pool go together.
    pub(crate) fn new(
        plan: &ListenerPlan,
        packet: &PacketPlan,
        pool: &Pool,
    ) -> Result<Self, Error> {
        let mut binds: Vec<Bind> = Vec::new();
        for bind in &plan.binds {
            for address in addresses(bind.address, &packet.interface)? {
                let proto = [protocol(packet.protocol)];
                let owner = name_of(&[b"bind", address.to_string().as_bytes(), &proto]);
                if !binds.iter().any(|b| b.address == address) {
                    binds.push(Bind {
                        address,
                        owner,
                        slot: 0,
                    });
                }
            }
        }
        let this = Self {
            name: Arc::clone(&plan.name),
            packet: packet.clone(),
            number: name_of(&[b"listener", plan.name.as_bytes()]) as u32,
            unreachable: Vec::new(),
            binds,
            servers: BTreeMap::new(),
            seen: None,
        };
        this.check(plan, pool.plan())?;
        Ok(this)
    }

    fn check(&self, plan: &ListenerPlan, pool: &PoolPlan) -> Result<(), Error> {
        let wrong = |why: String| Err(Error::listener(&plan.name, why));
        if self.binds.is_empty() {
            return wrong(format!(
                "{} has no address to listen on",
                self.packet.interface
            ));
        }
        let ports: HashSet<u16> = self.binds.iter().map(|b| b.address.port()).collect();
        let mut families = HashSet::new();
        for server in &pool.servers {
            let port = match &server.address {
                ServerAddress::Ip(address) => {
                    families.insert(address.is_ipv6());
                    address.port()
                }
                ServerAddress::Name { port, .. } => {
                    families.extend([true, false]);
                    *port
                }
                ServerAddress::Unix(path) => {
                    return wrong(format!(
                        "pools.{}: unix:{} has no packets to forward: depth = \"packet\" needs servers with IP addresses",
                        pool.name,
                        path.display()
                    ));
                }
            };
            // The server sees the client's own packet, whose port nobody changes.
            if self.packet.forward != Forward::Nat && (ports.len() > 1 || !ports.contains(&port)) {
                return wrong(format!(
                    "with forward = \"{}\" the server answers at the port the client used, so {} must have the listener's port, not {port}",
                    mode_name(self.packet.forward),
                    server.name
                ));
            }
        }
        let tunnel = matches!(self.packet.forward, Forward::DsrIpip | Forward::DsrGue);
        let some = self
            .binds
            .iter()
            .any(|b| tunnel || families.contains(&b.address.is_ipv6()));
        if !some {
            return wrong(format!(
                "no server of pools.{} has an address of the listener's family, and forward = \"{}\" does not translate between them",
                pool.name,
                mode_name(self.packet.forward)
            ));
        }
        Ok(())
    }

    pub(crate) fn placeholder() -> Self {
        Self {
            name: "".into(),
            packet: PacketPlan {
                pool: "".into(),
                protocol: PacketProtocol::Tcp,
                interface: String::new(),
                forward: Forward::Nat,
                preserve_source: false,
                sources: Vec::new(),
                allow: Vec::new(),
                deny: Vec::new(),
                rate_per_source: None,
                syn_cookies: None,
                flow_log: None,
            },
            number: 0,
            unreachable: Vec::new(),
            binds: Vec::new(),
            servers: BTreeMap::new(),
            seen: None,
        }
    }

    pub(crate) fn forget_seen(&mut self) {
        self.seen = None;
    }

    pub(crate) fn bind_owners(&self) -> impl Iterator<Item = u64> + '_ {
        self.binds.iter().map(|b| b.owner)
    }

    pub(crate) fn bind_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.binds.iter().map(|b| b.address.ip())
    }

    pub(crate) fn target_owners(&self) -> impl Iterator<Item = u64> + '_ {
        self.servers.values().map(|s| s.owner)
    }

    pub(crate) fn bind_of(&self, service: u32) -> Option<SocketAddr> {
        self.binds
            .iter()
            .find(|b| b.slot == service)
            .map(|b| b.address)
    }

    /// Interfaces its servers answer on.
    pub(crate) fn interfaces(&self, resolver: &mut Resolver) -> HashSet<u32> {
        self.servers
            .keys()
            .filter_map(|a| resolver.hop(a.ip(), Tick(1)).ok())
            .map(|h| h.ifindex)
            .collect()
    }

    pub(crate) fn vips(&self) -> Vec<([u8; 20], u32)> {
        let proto = protocol(self.packet.protocol);
        let mut keys = Vec::new();
        for bind in &self.binds {
            let addr = octets(bind.address.ip());
            keys.push((
                bytes_of(&VipKey {
                    addr,
                    port: bind.address.port().to_be(),
                    proto,
                    pad: 0,
                }),
                bind.slot,
            ));
            // "This address is ours": for errors, fragments and malformed packets, which show no port.
            keys.push((
                bytes_of(&VipKey {
                    addr,
                    ..VipKey::default()
                }),
                bind.slot,
            ));
        }
        keys
    }

    pub(crate) fn stats(&self, plane: &Plane) -> ListenerStats {
        ListenerStats {
            name: Arc::clone(&self.name),
            reasons: plane.reason_stats(self.binds.iter().map(|b| b.slot)),
            servers: self
                .servers
                .iter()
                .map(|(a, s)| plane.target_stats(s.slot, &s.name, *a))
                .collect(),
        }
    }

    /// Makes the kernel's tables what the pool says now.
    pub(crate) fn serve(
        &mut self,
        plane: &mut Plane,
        pool: &Arc<Pool>,
        now: Tick,
    ) -> Result<(), Error> {
        let key = |until| Seen {
            pool: Arc::as_ptr(pool),
            generation: pool.generation(),
            until,
            ways: plane.resolver.version(),
            partial: plane.partial_checksums(),
        };
        if self
            .seen
            .is_some_and(|s| s == key(s.until) && now < s.until)
        {
            return Ok(());
        }
        let serving = pool.serving(now);
        let mut seen = key(serving.until);
        seen.generation = serving.generation;
        self.unreachable.clear();

        let chosen: HashMap<SocketAddr, (u32, String)> = serving
            .servers
            .iter()
            .filter_map(|(m, weight)| Some((ip(m.endpoint().address())?, (*weight, m.identity()))))
            .collect();
        let mut order = Vec::new();
        let mut backups = Vec::new();
        let mut gone: HashSet<SocketAddr> = self.servers.keys().copied().collect();
        for member in pool.members().iter() {
            let endpoint = member.endpoint();
            let Some(address) = ip(endpoint.address()) else {
                continue;
            };
            gone.remove(&address);
            let hop = plane.resolver.hop(address.ip(), now);
            if let Err(why) = &hop {
                self.unreachable
                    .push((Arc::clone(&self.name), endpoint.name(), why.clone()));
            }
            let alive = pool.plan().health.is_none() || endpoint.health() != Health::Down;
            let new = chosen.get(&address);
            let way = hop.is_ok() || (self.has_way(plane, address) && is_silent(&hop));
            let usable = way && (alive || new.is_some());
            self.put_target(
                plane,
                address,
                endpoint.name(),
                hop.ok(),
                usable,
                new.is_some(),
                seen.partial,
            )?;
            match new {
                Some((weight, identity)) if usable => {
                    order.push((address, *weight, identity.clone()))
                }
                None if usable
                    && member.server().backup
                    && !endpoint.draining()
                    && member.weight() > 0 =>
                {
                    backups.push((address, member.weight(), member.identity()));
                }
                _ => {}
            }
        }
        for address in gone {
            // Its flows go on; the slot is retired.
            if let Some(server) = self.servers.remove(&address) {
                let mut target = plane.object.maps.targets.read(server.slot);
                target.flags &= !target_flag::NEW;
                plane.object.maps.targets.write(server.slot, target);
                plane.targets.retire(server.owner);
            }
        }
        // Servers that count as up but have no MAC are no servers here.
        if order.is_empty() {
            order = backups;
        }
        if pool.plan().balance.algorithm == Algorithm::First {
            order.truncate(1);
        }
        for i in 0..self.binds.len() {
            self.put_bind(plane, i, &order, pool.plan())?;
        }
        // What was learnt while working (a server's way asked for the first time) is part of what was seen.
        seen.ways = plane.resolver.version();
        self.seen = Some(seen);
        Ok(())
    }

    /// Whether the kernel's table has a way to a server from before: by a former process, whose flows go on. A neighbour
    /// that is just being asked for again is no reason to reset them.
    fn has_way(&self, plane: &Plane, address: SocketAddr) -> bool {
        let slot = plane.targets.slot(self.target_owner(address));
        slot.is_some_and(|slot| {
            let target = plane.object.maps.targets.read(slot);
            target.dmac != [0; 6] && target.addr == octets(address.ip())
        })
    }

    fn target_owner(&self, address: SocketAddr) -> u64 {
        name_of(&[
            b"server",
            self.name.as_bytes(),
            address.to_string().as_bytes(),
        ])
    }

    #[expect(clippy::too_many_arguments, reason = "one row of a table")]
    fn put_target(
        &mut self,
        plane: &mut Plane,
        address: SocketAddr,
        name: Arc<str>,
        hop: Option<Hop>,
        usable: bool,
        new: bool,
        partial: bool,
    ) -> Result<(), Error> {
        let owner = self.target_owner(address);
        let (slot, fresh) = plane.targets.claim(owner)?;
        self.servers.insert(address, Server { name, owner, slot });
        let mut t: Target = plane.object.maps.targets.read(slot);
        if fresh {
            t = Target {
                generation: t.generation.wrapping_add(1).max(1),
                ..Target::default()
            };
        }
        t.owner = owner;
        t.addr = octets(address.ip());
        t.port = address.port().to_be();
        t.flags = if usable { target_flag::USABLE } else { 0 }
            | if new { target_flag::NEW } else { 0 }
            | if address.is_ipv6() {
                target_flag::V6
            } else {
                0
            }
            | if partial { target_flag::PARTIAL } else { 0 };
        if let Some(hop) = hop {
            let arriving = sys::ifindex(&self.packet.interface)
                .and_then(|i| plane.resolver.links().get(&i))
                .map_or(u32::MAX, |l| l.mtu);
            t.dmac = hop.dmac;
            t.smac = hop.smac;
            t.ifindex = hop.ifindex;
            t.mtu = match self.packet.forward {
                // A frame that could arrive fits; only a narrower way is checked (and frames joined by GRO are left alone).
                Forward::Nat | Forward::DsrMac if hop.mtu >= arriving => 0,
                _ => u16::try_from(hop.mtu).unwrap_or(u16::MAX),
            };
            let family = |a: &&IpAddr| a.is_ipv6() == address.is_ipv6();
            let mut sources: Vec<IpAddr> =
                self.packet.sources.iter().filter(family).copied().collect();
            let interface_own = plane.addresses_towards(&hop);
            if sources.is_empty() {
                // Not an address that clients use: a server in DSR may have it too, and would answer itself.
                let mut own = hop
                    .source
                    .into_iter()
                    .chain(interface_own.iter().filter(family).copied());
                sources.extend(own.find(|a| !plane.vips.contains(a)).or(hop.source));
            }
            t.own_first = plane.own.group(&plane.object, &sources, &interface_own)?;
            t.own_count = sources.len() as u16;
            t.outer = sources.first().map_or([0; 16], |a| octets(*a));
        }
        plane.object.maps.targets.write(slot, t);
        Ok(())
    }

    fn put_bind(
        &mut self,
        plane: &mut Plane,
        index: usize,
        order: &[(SocketAddr, u32, String)],
        pool: &PoolPlan,
    ) -> Result<(), Error> {
        let bind = &mut self.binds[index];
        let (slot, fresh) = plane.services.claim(bind.owner)?;
        bind.slot = slot;
        let address = bind.address;
        let tunnel = matches!(self.packet.forward, Forward::DsrIpip | Forward::DsrGue);
        let fits = |a: &SocketAddr| tunnel || a.is_ipv6() == address.is_ipv6();
        let servers: Vec<_> = order.iter().filter(|(a, ..)| fits(a)).collect();

        let old = if fresh {
            Service::default()
        } else {
            plane.object.maps.services.read(slot)
        };
        let listener = Listening::rates(&self.packet);
        let mut service = Service {
            owner: bind.owner,
            addr: octets(address.ip()),
            port: address.port().to_be(),
            proto: protocol(self.packet.protocol),
            forward: mode(self.packet.forward),
            flags: flags(&self.packet, pool),
            listener: self.number,
            affinity_ttl: pool
                .affinity
                .as_ref()
                .map_or(0, |a| a.ttl.as_nanos() as u64),
            udp_idle: UDP_IDLE_NS,
            rate_interval: listener.0,
            rate_burst: listener.1,
            syn_limit: listener.2,
            sample: self.packet.flow_log.unwrap_or(0),
            table: old.table,
            table_size: old.table_size,
            pad: [0; 11],
        };
        let size = if servers.is_empty() {
            0
        } else {
            table_size(servers.len().max(pool.servers.len()))
        };
        let mut released = None;
        if size != old.table_size {
            released = (old.table_size != 0).then_some(old.table);
            service.table = if size == 0 {
                0
            } else {
                plane.regions.take(size)?
            };
            service.table_size = size;
        }
        if size != 0 {
            let wanted: Vec<maglev::Server> = servers
                .iter()
                .map(|(_, weight, identity)| maglev::Server {
                    identity: identity.clone(),
                    weight: *weight,
                })
                .collect();
            let table = maglev::Table::new(&wanted, size as usize);
            let slots: Vec<u32> = servers
                .iter()
                .map(|(a, ..)| self.servers.get(a).map_or(0, |s| s.slot))
                .collect();
            for (i, pair) in table.slots().chunks(2).enumerate() {
                let of = |n: usize| {
                    pair.get(n)
                        .and_then(|s| slots.get(*s as usize))
                        .copied()
                        .unwrap_or(0)
                };
                // Writes only what differs.
                plane.object.maps.tables.write(
                    service.table + i as u32,
                    TablePair {
                        target: [of(0), of(1)],
                    },
                );
            }
        }
        plane.object.maps.services.write(slot, service);
        if let Some(first) = released {
            plane.regions.release(first);
        }
        for (key, slot) in self.vips() {
            if slot != 0 && plane.object.maps.vips.get(&key, 0).ok() != Some(slot) {
                plane
                    .object
                    .maps
                    .vips
                    .insert(key, slot, 0)
                    .map_err(|e| Error::System {
                        doing: format!("adding {address} to the packet program"),
                        error: map_error(&e),
                    })?;
            }
        }
        Ok(())
    }

    /// `rate_interval`, `rate_burst` in ns, and SYNs a window.
    fn rates(packet: &PacketPlan) -> (u64, u64, u32) {
        let (interval, burst) = packet.rate_per_source.as_ref().map_or((0, 0), |r| {
            (
                (r.interval().as_nanos() as u64).max(1),
                r.per.as_nanos() as u64,
            )
        });
        let syns = |r: &Rate| {
            (f64::from(r.count) * WINDOW_NS / (r.per.as_nanos() as f64).max(1.0)).ceil() as u32
        };
        (
            interval,
            burst,
            packet.syn_cookies.as_ref().map_or(0, |r| syns(r).max(1)),
        )
    }
}

/// Entries of a service's table: a prime, a hundred times the servers for shares even to 1 %, and no larger than that
/// takes, so that a thousand services fit. By the pool's size in the file, so that every machine has the same.
fn table_size(servers: usize) -> u32 {
    const PRIMES: [u32; 5] = [4093, 16_381, 65_537, 262_139, 655_373];
    PRIMES
        .into_iter()
        .find(|p| servers * 100 <= *p as usize)
        .unwrap_or(655_373)
}

fn addresses(bind: BindAddress, interface: &str) -> Result<Vec<SocketAddr>, Error> {
    match bind {
        BindAddress::Ip(address) => Ok(vec![address]),
        BindAddress::Any(port) => {
            let own = sys::addresses_of(interface)
                .map_err(Error::system("reading interface addresses"))?;
            Ok(own
                .into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect())
        }
    }
}

const fn is_silent(hop: &Result<Hop, Unreachable>) -> bool {
    matches!(hop, Err(Unreachable::NoNeighbour(_)))
}

fn ip(address: &EndpointAddress) -> Option<SocketAddr> {
    match address {
        EndpointAddress::Ip(a) => Some(*a),
        EndpointAddress::Unix(_) => None,
    }
}

const fn protocol(p: PacketProtocol) -> u8 {
    match p {
        PacketProtocol::Tcp => 6,
        PacketProtocol::Udp => 17,
    }
}

const fn mode(f: Forward) -> u8 {
    match f {
        Forward::Nat => forward::NAT,
        Forward::DsrMac => forward::DSR_MAC,
        Forward::DsrIpip => forward::DSR_IPIP,
        Forward::DsrGue => forward::DSR_GUE,
    }
}

const fn mode_name(f: Forward) -> &'static str {
    match f {
        Forward::Nat => "nat",
        Forward::DsrMac => "dsr-mac",
        Forward::DsrIpip => "dsr-ipip",
        Forward::DsrGue => "dsr-gue",
    }
}

fn flags(packet: &PacketPlan, pool: &PoolPlan) -> u32 {
    let by_source =
        pool.balance.algorithm == Algorithm::Hash && pool.balance.hash_on == HashOn::SourceIp;
    let set = |on: bool, flag: u32| if on { flag } else { 0 };
    set(
        packet.preserve_source && packet.forward == Forward::Nat,
        service_flag::PRESERVE_SOURCE,
    ) | set(by_source, service_flag::HASH_SOURCE)
        | set(!packet.allow.is_empty(), service_flag::ALLOW)
        | set(!packet.deny.is_empty(), service_flag::DENY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tables_are_primes_of_a_hundred_entries_a_server() {
        for (servers, size) in [
            (1, 4093),
            (40, 4093),
            (41, 16_381),
            (600, 65_537),
            (5000, 655_373),
            (60_000, 655_373),
        ] {
            assert_eq!(table_size(servers), size);
            assert!((2..).take_while(|d| d * d <= size).all(|d| size % d != 0));
        }
    }

    #[test]
    fn rates_become_intervals_and_windows() {
        let mut packet = Listening::placeholder().packet;
        assert_eq!(Listening::rates(&packet), (0, 0, 0));
        packet.rate_per_source = Some(Rate {
            count: 50,
            per: Duration::from_secs(1),
        });
        packet.syn_cookies = Some(Rate {
            count: 10_000,
            per: Duration::from_secs(1),
        });
        assert_eq!(Listening::rates(&packet), (20_000_000, 1_000_000_000, 1343));
    }
}
