//! The program without an interface: tables written by hand, packets run through it by `BPF_PROG_TEST_RUN`. For tests
//! and benchmarks.

use std::os::fd::{BorrowedFd, OwnedFd};

use fathom_wire::packet::{
    Own, PacketReason, Service, ServiceCounters, TablePair, Target, TargetCounters, VipKey,
};

pub use crate::sys::{Outcome, live_frames, test_run};

use crate::object::Object;
use crate::table::bytes_of;
use crate::{Error, Options, Sizes, lists, sys};

/// A loaded program with tables of its own.
#[derive(Debug)]
pub struct Trial {
    object: Object,
    next_pair: u32,
}

impl Trial {
    /// Loads the program that ships, or another build of it.
    ///
    /// # Errors
    /// As [`crate::Plane::open`].
    pub fn new(object: Option<&[u8]>, sizes: Sizes, redirect_self: bool) -> Result<Self, Error> {
        let options = Options {
            sizes: Some(sizes),
            redirect_self,
            ..Options::default()
        };
        Ok(Self {
            object: Object::load(object, &options, None)?,
            next_pair: 0,
        })
    }

    /// Puts a service into a slot (not 0), with a table of these targets in turn (odd sizes are fine), under its address.
    ///
    /// # Errors
    /// A full map.
    pub fn service(&mut self, slot: u32, mut service: Service, table: &[u32]) -> Result<(), Error> {
        service.owner = u64::from(slot);
        service.table = self.next_pair;
        service.table_size = table.len() as u32;
        for pair in table.chunks(2) {
            let target = [pair[0], pair.get(1).copied().unwrap_or(0)];
            self.object
                .maps
                .tables
                .write(self.next_pair, TablePair { target });
            self.next_pair += 1;
        }
        self.object.maps.services.write(slot, service);
        let full = |e: aya::maps::MapError| Error::Full {
            what: e.to_string(),
        };
        let key = VipKey {
            addr: service.addr,
            port: service.port,
            proto: service.proto,
            pad: 0,
        };
        self.object
            .maps
            .vips
            .insert(bytes_of::<_, 20>(&key), slot, 0)
            .map_err(full)?;
        let address = VipKey {
            addr: service.addr,
            ..VipKey::default()
        };
        self.object
            .maps
            .vips
            .insert(bytes_of::<_, 20>(&address), slot, 0)
            .map_err(full)
    }

    /// Writes a target.
    pub fn target(&self, slot: u32, target: Target) {
        self.object.maps.targets.write(slot, target);
    }

    /// Writes one of Fathom's own addresses.
    pub fn own(&self, slot: u32, own: Own) {
        self.object.maps.own.write(slot, own);
    }

    /// Makes the deny list these prefixes of one listener.
    ///
    /// # Errors
    /// A full map.
    pub fn deny(&mut self, listener: u32, nets: &[ipnet::IpNet]) -> Result<(), Error> {
        lists::make(
            &mut self.object.maps.deny,
            &nets.iter().map(|n| lists::entry(listener, n)).collect(),
            "deny",
        )
    }

    /// Makes the allow list these prefixes of one listener.
    ///
    /// # Errors
    /// A full map.
    pub fn allow(&mut self, listener: u32, nets: &[ipnet::IpNet]) -> Result<(), Error> {
        lists::make(
            &mut self.object.maps.allow,
            &nets.iter().map(|n| lists::entry(listener, n)).collect(),
            "allow",
        )
    }

    /// For the benchmark's build (`bpf/bench.h`): the frame every run begins with, and how many clients take turns (0 = each
    /// one new).
    ///
    /// # Errors
    /// If it is another build.
    pub fn bench_frame(&mut self, frame: &[u8], flows: u32) -> Result<(), Error> {
        let mut state = [0u8; 96];
        let head = frame.get(..42).ok_or(Error::Load {
            why: "the frame is too short".into(),
        })?;
        state[..42].copy_from_slice(head);
        state[42..44].copy_from_slice(&(frame.len() as u16).to_ne_bytes());
        state[44..48].copy_from_slice(&flows.to_ne_bytes());
        self.object.set_bench(state)
    }

    /// Attaches a function to an interface of the calling thread's namespace, for as long as the descriptor is kept.
    ///
    /// # Errors
    /// The system call's, or no such interface.
    pub fn attach(&self, name: &str, interface: &str, native: bool) -> Result<OwnedFd, Error> {
        let ifindex = sys::ifindex(interface).ok_or_else(|| Error::NoInterface {
            interface: interface.into(),
            present: Vec::new(),
        })?;
        let mode = if native {
            sys::DRIVER_MODE
        } else {
            sys::SKB_MODE
        };
        sys::attach(self.object.program(name)?, ifindex, mode).map_err(Error::system("attaching"))
    }

    /// A function of the program: `fathom`, `fathom_pass` or `fathom_decap`.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn program(&self, name: &str) -> Result<BorrowedFd<'_>, Error> {
        self.object.program(name)
    }

    /// Runs the program once over a frame.
    ///
    /// # Errors
    /// The system call's.
    pub fn run(&self, frame: &[u8], ifindex: u32) -> Result<Outcome, Error> {
        test_run(self.object.program("fathom")?, frame, ifindex, 1)
            .map_err(Error::system("running the packet program"))
    }

    /// How often something happened to a service's packets.
    #[must_use]
    pub fn count(&self, service: u32, reason: PacketReason) -> u64 {
        let of = |cpu| -> ServiceCounters {
            self.object
                .maps
                .service_counters
                .read(cpu * self.object.sizes.services + service)
        };
        (0..self.object.cpus)
            .map(|cpu| of(cpu).by_reason[reason as usize])
            .sum()
    }

    /// A target's counters, over all CPUs.
    #[must_use]
    pub fn counters(&self, target: u32) -> TargetCounters {
        let mut sum = TargetCounters::default();
        for cpu in 0..self.object.cpus {
            let c = self
                .object
                .maps
                .target_counters
                .read(cpu * self.object.sizes.targets + target);
            sum.packets_in += c.packets_in;
            sum.bytes_in += c.bytes_in;
            sum.packets_out += c.packets_out;
            sum.bytes_out += c.bytes_out;
            sum.flows += c.flows;
            sum.failed += c.failed;
        }
        sum
    }
}
