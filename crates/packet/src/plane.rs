//! The packet depth as a whole: what is attached, and which listeners it serves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fathom_core::plan::{DepthPlan, Forward, ListenerPlan, PacketPlan};
use fathom_core::{Pool, Tick};
use fathom_wire::packet::{LAYOUT, Own, limit, target_flag};

use crate::attach::{Attached, Attachment};
use crate::error::Unreachable;
use crate::listen::Listening;
use crate::object::{Object, Sizes};
use crate::pins::Pins;
use crate::resolver::{Hop, Resolver};
use crate::samples::octets;
use crate::slots::{Regions, Slots};
use crate::stats::ListenerStats;
use crate::usage::Usage;
use crate::{Error, Options, lists, sys};

/// Finds a pool by its name.
pub type PoolLookup<'a> = &'a dyn Fn(&str) -> Option<Arc<Pool>>;

/// How long `apply` waits for neighbours to tell their MACs.
const SETTLE: Duration = Duration::from_millis(300);

/// The packet depth of one network namespace.
#[derive(Debug)]
pub struct Plane {
    options: Options,
    pins: Pins,
    pub(crate) object: Object,
    links: BTreeMap<String, Attached>,
    listeners: Vec<Listening>,
    pub(crate) services: Slots,
    pub(crate) targets: Slots,
    pub(crate) regions: Regions,
    pub(crate) resolver: Resolver,
    pub(crate) own: OwnAddresses,
    /// Addresses clients use.
    pub(crate) vips: HashSet<IpAddr>,
    usage: Usage,
    notes: Vec<String>,
    settled: bool,
}

/// What there is to tell a person.
#[derive(Clone, Debug)]
pub struct Status {
    /// Interfaces, and how the program is attached to them.
    pub attachments: Vec<Attachment>,
    /// Whether a former process's maps (and flows) were taken over.
    pub adopted: bool,
    /// Sizes of the maps.
    pub sizes: Sizes,
    /// Where everything is pinned.
    pub pinned: PathBuf,
    /// Servers that cannot be reached: listener, server, why. They get no flows.
    pub unreachable: Vec<(Arc<str>, Arc<str>, Unreachable)>,
    /// What else did not go as asked, once each.
    pub notes: Vec<String>,
}

impl Plane {
    /// Loads the program, or adopts what an earlier process left pinned: its flows go on, and on every interface it is
    /// attached to the program is exchanged between two packets.
    ///
    /// # Errors
    /// Whatever keeps the program from being loaded: see [`Error`].
    pub fn open(options: Options) -> Result<Self, Error> {
        let pins = Pins::open(&options.root, true)?;
        let object = Object::load(None, &options, Some(&pins))?;
        let mut notes = object.notes.clone();
        let mut links = BTreeMap::new();
        for interface in pins.links() {
            match Attached::adopt(&pins, &interface, object.program("fathom")?)? {
                Some(link) => {
                    links.insert(interface, link);
                }
                None => notes.push(format!(
                    "{interface}: what was attached there is gone with the interface"
                )),
            }
        }
        for layout in pins.layouts().into_iter().filter(|l| *l != LAYOUT) {
            notes.push(format!(
                "flows of another version (layout {layout}) could not be taken over"
            ));
            pins.remove_layout(layout).map_err(|error| Error::Pin {
                path: pins.maps(layout),
                error,
            })?;
        }
        let resolver = Resolver::new().map_err(Error::system("asking the kernel for routes"))?;
        Ok(Self {
            services: Slots::of_services(&object.maps.services),
            targets: Slots::of_targets(&object.maps.targets),
            regions: Regions::of(&object.maps.services, object.maps.tables.len()),
            options,
            pins,
            object,
            links,
            listeners: Vec::new(),
            resolver,
            own: OwnAddresses::default(),
            vips: HashSet::new(),
            usage: Usage::default(),
            notes,
            settled: true,
        })
    }

    /// Serves exactly the listeners at depth `packet` among `listeners`. Flows of others, and of servers no longer there,
    /// go on until they end.
    ///
    /// # Errors
    /// Nothing was changed when a listener and its pool do not go together, or an interface is missing. Later failures
    /// (a full map) leave what was already done, which is consistent.
    pub fn apply(
        &mut self,
        listeners: &[ListenerPlan],
        pools: PoolLookup<'_>,
        now: Tick,
    ) -> Result<(), Error> {
        let mut wanted = Vec::new();
        for plan in listeners {
            let DepthPlan::Packet(packet) = &plan.depth else {
                continue;
            };
            if sys::ifindex(&packet.interface).is_none() {
                let present = crate::attach::interfaces();
                return Err(Error::NoInterface {
                    interface: packet.interface.clone(),
                    present,
                });
            }
            let pool = pools(&packet.pool).ok_or_else(|| {
                Error::listener(&plan.name, format!("there is no pool {}", packet.pool))
            })?;
            wanted.push(Listening::new(plan, packet, &pool)?);
        }
        self.vips = wanted.iter().flat_map(Listening::bind_addresses).collect();
        self.lists(&wanted)?;
        self.resolver.keep_only(|_| false);
        // Before anything is written: what is adopted must not lose its servers for a moment.
        self.resolver
            .refresh(now, true)
            .map_err(Error::system("reading neighbours"))?;
        let before = std::mem::take(&mut self.listeners);
        for listening in wanted {
            let name = Arc::clone(&listening.name);
            self.listeners.push(listening);
            self.serve(self.listeners.len() - 1, pools, now)
                .inspect_err(|e| {
                    tracing::error!(listener = %name, "packet depth: {e}");
                })?;
        }
        self.settle(pools, now)?;
        // Last, so that nothing arrives before there is somewhere to send it.
        self.attach_all()?;
        self.sync_all(pools, now, true)?;
        self.withdraw(&before)
    }

    /// Carries to the kernel what has changed: health, drains, weights, members, neighbours. Cheap when nothing has.
    ///
    /// # Errors
    /// A full table; everything else is kept and shown in [`Plane::status`].
    pub fn sync(&mut self, pools: PoolLookup<'_>, now: Tick) -> Result<(), Error> {
        let eager = !self.settled;
        self.resolver
            .refresh(now, eager)
            .map_err(Error::system("reading neighbours"))?;
        self.settled = self.resolver.is_settled();
        self.revive_links();
        self.usage.step(&self.object.maps, now);
        self.sync_all(pools, now, false)
    }

    fn sync_all(&mut self, pools: PoolLookup<'_>, now: Tick, force: bool) -> Result<(), Error> {
        for i in 0..self.listeners.len() {
            if force {
                self.listeners[i].forget_seen();
            }
            self.serve(i, pools, now)?;
        }
        Ok(())
    }

    fn serve(&mut self, index: usize, pools: PoolLookup<'_>, now: Tick) -> Result<(), Error> {
        let Some(pool) = pools(&self.listeners[index].packet.pool) else {
            return Ok(());
        };
        let mut listening = std::mem::replace(&mut self.listeners[index], Listening::placeholder());
        let done = listening.serve(self, &pool, now);
        self.listeners[index] = listening;
        done
    }

    /// The addresses of the interface towards a server.
    pub(crate) fn addresses_towards(&self, hop: &Hop) -> Vec<IpAddr> {
        sys::ifname(hop.ifindex)
            .and_then(|name| sys::addresses_of(&name).ok())
            .unwrap_or_default()
    }

    /// Whether checksums that meet the program may be unfinished.
    pub(crate) fn partial_checksums(&self) -> bool {
        self.links.values().any(|l| !l.facts.native)
    }

    /// Waits a little for ARP and ND, so that the first clients find servers.
    fn settle(&mut self, pools: PoolLookup<'_>, now: Tick) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            self.resolver
                .refresh(now + begin.elapsed(), true)
                .map_err(Error::system("reading neighbours"))?;
            self.settled = self.resolver.is_settled();
            if self.settled || begin.elapsed() > SETTLE {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.sync_all(pools, now, true)
    }

    /// On the listeners' interfaces, and with `nat` on those its servers answer on.
    fn attach_all(&mut self) -> Result<(), Error> {
        let mut wanted: HashSet<String> = self
            .listeners
            .iter()
            .map(|l| l.packet.interface.clone())
            .collect();
        for listening in self
            .listeners
            .iter()
            .filter(|l| l.packet.forward == Forward::Nat)
        {
            wanted.extend(
                listening
                    .interfaces(&mut self.resolver)
                    .into_iter()
                    .filter_map(sys::ifname),
            );
        }
        for interface in wanted {
            if self.links.get(&interface).is_some_and(Attached::is_alive) {
                continue;
            }
            self.links.remove(&interface);
            let link = Attached::new(
                &self.pins,
                &interface,
                self.options.mode,
                self.object.program("fathom")?,
            )?;
            let how = if link.facts.native {
                "natively"
            } else {
                "in generic mode"
            };
            tracing::info!(%interface, reason = link.facts.reason, "packet depth attached {how}");
            self.links.insert(interface, link);
        }
        Ok(())
    }

    /// An interface that went away and came back gets its program again.
    fn revive_links(&mut self) {
        let dead: Vec<String> = self
            .links
            .iter()
            .filter(|(_, l)| !l.is_alive())
            .map(|(name, _)| name.clone())
            .collect();
        for interface in dead {
            let Ok(program) = self.object.program("fathom") else {
                continue;
            };
            if let Ok(link) = Attached::new(&self.pins, &interface, self.options.mode, program) {
                tracing::warn!(%interface, "the interface came back: packet depth attached again");
                self.links.insert(interface, link);
            }
        }
    }

    fn lists(&mut self, wanted: &[Listening]) -> Result<(), Error> {
        let entries = |which: fn(&PacketPlan) -> &Vec<ipnet::IpNet>| -> HashSet<lists::Entry> {
            wanted
                .iter()
                .flat_map(|l| {
                    which(&l.packet)
                        .iter()
                        .map(|net| lists::entry(l.number, net))
                })
                .collect()
        };
        lists::make(&mut self.object.maps.allow, &entries(|p| &p.allow), "allow")?;
        lists::make(&mut self.object.maps.deny, &entries(|p| &p.deny), "deny")
    }

    /// Takes binds and servers out of service that are no longer configured.
    fn withdraw(&mut self, before: &[Listening]) -> Result<(), Error> {
        let binds: HashSet<u64> = self
            .listeners
            .iter()
            .flat_map(Listening::bind_owners)
            .collect();
        let servers: HashSet<u64> = self
            .listeners
            .iter()
            .flat_map(Listening::target_owners)
            .collect();
        for owner in before
            .iter()
            .flat_map(Listening::bind_owners)
            .filter(|o| !binds.contains(o))
        {
            self.services.retire(owner);
        }
        for owner in before
            .iter()
            .flat_map(Listening::target_owners)
            .filter(|o| !servers.contains(o))
        {
            self.targets.retire(owner);
        }
        let retired: Vec<u32> = self.services.retired().collect();
        for slot in retired {
            let mut service = self.object.maps.services.read(slot);
            if service.table_size != 0 {
                self.regions.release(service.table);
                (service.table, service.table_size) = (0, 0);
                self.object.maps.services.write(slot, service);
            }
        }
        let retired: Vec<u32> = self.targets.retired().collect();
        for slot in retired {
            let mut target = self.object.maps.targets.read(slot);
            target.flags &= !target_flag::NEW;
            self.object.maps.targets.write(slot, target);
        }
        let wanted: HashMap<[u8; 20], u32> =
            self.listeners.iter().flat_map(Listening::vips).collect();
        let present: Vec<[u8; 20]> = self
            .object
            .maps
            .vips
            .keys()
            .filter_map(Result::ok)
            .collect();
        for key in present.iter().filter(|k| !wanted.contains_key(*k)) {
            let _ = self.object.maps.vips.remove(key);
        }
        Ok(())
    }

    /// Whether it serves no listener.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.listeners.is_empty()
    }

    /// For people and the API.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            attachments: self.links.values().map(|l| l.facts.clone()).collect(),
            adopted: self.object.adopted,
            sizes: self.object.sizes,
            pinned: self.pins.home().to_owned(),
            unreachable: self
                .listeners
                .iter()
                .flat_map(|l| l.unreachable.iter().cloned())
                .collect(),
            notes: self
                .notes
                .iter()
                .chain(self.own.notes.iter())
                .cloned()
                .collect(),
        }
    }

    pub(crate) fn listener_stats(&self) -> Vec<ListenerStats> {
        self.listeners.iter().map(|l| l.stats(self)).collect()
    }

    pub(crate) fn flow_use(&self) -> (u64, u64) {
        let capacity =
            u64::from(self.object.sizes.flows) * 2 + u64::from(self.object.sizes.flows6) * 2;
        (self.usage.entries(), capacity)
    }

    pub(crate) fn bind_of(&self, service: u32) -> Option<SocketAddr> {
        self.listeners.iter().find_map(|l| l.bind_of(service))
    }

    pub(crate) fn listener_of(&self, number: u32) -> Option<String> {
        self.listeners
            .iter()
            .find(|l| l.number == number)
            .map(|l| l.name.to_string())
    }

    /// Takes the program off every interface of the calling thread's namespace and removes everything that is pinned.
    /// Without anything pinned it does nothing. Returns what it removed.
    ///
    /// # Errors
    /// When something pinned cannot be removed.
    pub fn detach(options: &Options) -> Result<Vec<String>, Error> {
        let pins = Pins::open(&options.root, false)?;
        let removed = pins.links();
        pins.remove_all().map_err(|error| Error::Pin {
            path: pins.home().into(),
            error,
        })?;
        Ok(removed)
    }

    /// [`Plane::detach`] for a plane that is open.
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<(), Error> {
        let Self { links, pins, .. } = self;
        for (_, link) in links {
            link.remove(&pins);
        }
        pins.remove_all().map_err(|error| Error::Pin {
            path: pins.home().into(),
            error,
        })
    }

    /// The loaded program, for [`crate::trial`].
    ///
    /// # Errors
    /// None in practice.
    pub fn program(&self) -> Result<std::os::fd::BorrowedFd<'_>, Error> {
        self.object.program("fathom")
    }
}

/// Fathom's own addresses towards servers, in groups: the kernel's `own` table.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses {
    groups: HashMap<Vec<IpAddr>, u16>,
    next: u32,
    pub(crate) notes: HashSet<String>,
}

impl OwnAddresses {
    /// The place of a group, written to the table if it is new. `shared` are those the kernel itself uses: its own
    /// connections' ports are left to it.
    pub(crate) fn group(
        &mut self,
        object: &Object,
        addresses: &[IpAddr],
        shared: &[IpAddr],
    ) -> Result<u16, Error> {
        if let Some(first) = self.groups.get(addresses) {
            return Ok(*first);
        }
        if self.next as usize + addresses.len() > limit::OWN_ADDRESSES as usize {
            return Err(Error::Full {
                what: format!("at most {} own addresses", limit::OWN_ADDRESSES),
            });
        }
        let first = self.next as u16;
        for address in addresses {
            let (port_low, ports) = if shared.contains(address) {
                beside_ephemeral()
            } else {
                (1024, 64_512)
            };
            let own = Own {
                addr: octets(*address),
                port_low,
                ports,
                pad: 0,
            };
            object.maps.own.write(self.next, own);
            self.next += 1;
        }
        self.groups.insert(addresses.to_vec(), first);
        Ok(first)
    }
}

/// The larger stretch of ports that the kernel does not give to its own connections.
fn beside_ephemeral() -> (u16, u16) {
    let text =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut range = text
        .split_whitespace()
        .filter_map(|n| n.parse::<u16>().ok());
    let (low, high) = (
        range.next().unwrap_or(32_768),
        range.next().unwrap_or(60_999),
    );
    let (below, above) = (low.saturating_sub(1024), u16::MAX - high);
    match (below, above) {
        (b, a) if b >= a && b > 1024 => (1024, b),
        (_, a) if a > 1024 => (high + 1, a),
        // The kernel was given nearly all: share, and accept the rare clash.
        _ => (1024, 64_512),
    }
}

/// Makes an I/O error of a map error.
pub(crate) fn map_error(e: &aya::maps::MapError) -> io::Error {
    io::Error::other(e.to_string())
}
