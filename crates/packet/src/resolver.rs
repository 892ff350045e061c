//! The way to each server: interface, next hop's MAC, our own MAC and address, MTU. Read from the kernel's routes and
//! neighbours once in a while instead of by the program for each packet.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use fathom_core::Tick;

use crate::error::Unreachable;
use crate::netlink::{self, LinkFacts, Netlink, Route};

/// Routes are asked for anew this often, a few at a time.
const ROUTE_AGE: Duration = Duration::from_secs(10);
/// Neighbours and interfaces.
const NEIGHBOUR_AGE: Duration = Duration::from_secs(1);
/// A known neighbour is made to answer this often, so that the kernel keeps it and notices a new MAC.
const POKE_AGE: Duration = Duration::from_secs(20);
/// Routes asked for in one go, so that a sync stays short with thousands of servers.
const ROUTES_AT_ONCE: usize = 256;

/// The way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) ifindex: u32,
    pub(crate) dmac: [u8; 6],
    pub(crate) smac: [u8; 6],
    pub(crate) source: Option<IpAddr>,
    pub(crate) mtu: u32,
}

#[derive(Debug)]
struct Known {
    route: Option<Route>,
    asked: Tick,
    poked: Option<Tick>,
    hop: Result<Hop, Unreachable>,
}

/// The ways known.
#[derive(Debug)]
pub(crate) struct Resolver {
    netlink: Netlink,
    known: HashMap<IpAddr, Known>,
    /// Last known MACs: a neighbour that is being asked again has none for a moment.
    macs: HashMap<(u32, IpAddr), [u8; 6]>,
    links: HashMap<u32, LinkFacts>,
    read: Option<Tick>,
    version: u64,
}

impl Resolver {
    pub(crate) fn new() -> io::Result<Self> {
        let netlink = Netlink::open()?;
        Ok(Self {
            netlink,
            known: HashMap::new(),
            macs: HashMap::new(),
            links: HashMap::new(),
            read: None,
            version: 0,
        })
    }

    /// Changes with every answer that changed.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// The way to `address`, if known; it is looked for from now on.
    pub(crate) fn hop(&mut self, address: IpAddr, now: Tick) -> Result<Hop, Unreachable> {
        if let Some(known) = self.known.get(&address) {
            return known.hop.clone();
        }
        let route = self.netlink.route(address).ok().flatten();
        let mut known = Known {
            route,
            asked: now,
            poked: None,
            hop: Err(Unreachable::NoRoute(address)),
        };
        known.hop = work_out(address, known.route, &self.macs, &self.links);
        let hop = known.hop.clone();
        self.known.insert(address, known);
        hop
    }

    /// Forgets servers that are no longer wanted.
    pub(crate) fn keep_only(&mut self, wanted: impl Fn(&IpAddr) -> bool) {
        self.known.retain(|address, _| wanted(address));
    }

    /// Whether every wanted server's way is known, or known not to exist.
    pub(crate) fn is_settled(&self) -> bool {
        !self
            .known
            .values()
            .any(|k| matches!(k.hop, Err(Unreachable::NoNeighbour(_))))
    }

    pub(crate) fn links(&self) -> &HashMap<u32, LinkFacts> {
        &self.links
    }

    /// Reads what is due. Call it often; it does little when nothing is due.
    pub(crate) fn refresh(&mut self, now: Tick, eager: bool) -> io::Result<()> {
        let due = |at: Tick, age| now.since(at) >= age;
        if !eager && self.read.is_some_and(|at| !due(at, NEIGHBOUR_AGE)) {
            return Ok(());
        }
        self.read = Some(now);
        self.links = self.netlink.links()?;
        self.macs.extend(self.netlink.neighbours()?);
        let stale: Vec<IpAddr> = self
            .known
            .iter()
            .filter(|(_, k)| due(k.asked, ROUTE_AGE))
            .map(|(a, _)| *a)
            .take(ROUTES_AT_ONCE)
            .collect();
        for address in stale {
            let route = self.netlink.route(address)?;
            if let Some(known) = self.known.get_mut(&address) {
                known.route = route;
                known.asked = now;
            }
        }
        for (address, known) in &mut self.known {
            let hop = work_out(*address, known.route, &self.macs, &self.links);
            if hop != known.hop {
                self.version += 1;
                known.hop = hop;
            }
            let age = if known.hop.is_ok() {
                POKE_AGE
            } else {
                NEIGHBOUR_AGE
            };
            if let Some(route) = known.route.filter(|r| !r.local)
                && known.poked.is_none_or(|at| due(at, age))
            {
                known.poked = Some(now);
                netlink::poke(route.hop, route.ifindex);
            }
        }
        Ok(())
    }
}

fn work_out(
    address: IpAddr,
    route: Option<Route>,
    macs: &HashMap<(u32, IpAddr), [u8; 6]>,
    links: &HashMap<u32, LinkFacts>,
) -> Result<Hop, Unreachable> {
    let route = route.ok_or(Unreachable::NoRoute(address))?;
    if route.local {
        return Err(Unreachable::Local(address));
    }
    let dmac = *macs
        .get(&(route.ifindex, route.hop))
        .ok_or(Unreachable::NoNeighbour(route.hop))?;
    let link = links
        .get(&route.ifindex)
        .ok_or(Unreachable::NoInterface(route.ifindex))?;
    Ok(Hop {
        ifindex: route.ifindex,
        dmac,
        smac: link.mac,
        source: route.source,
        mtu: link.mtu,
    })
}
