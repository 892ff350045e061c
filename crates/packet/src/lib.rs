//! The packet depth's user space: puts `bpf/`'s program on interfaces and keeps its tables true.
//!
//! ```text
//! let mut plane = Plane::open(Options::default())?;     // loads the program, or adopts what is pinned
//! plane.apply(&plan.listeners, &pools, now)?;           // at start and at every reload: those at depth `packet`
//! loop { plane.sync(&pools, now)?; ... }                // every 20 to 50 ms: health, drains, weights, neighbours
//! plane.stats(); plane.status();                        // for /metrics and `fathom status`
//! drop(plane);                                          // traffic goes on: program and tables are pinned
//! Plane::detach(&Options::default())?;                  // `fathom packet detach`: every trace is removed
//! ```
//!
//! `pools` is `&dyn Fn(&str) -> Option<Arc<fathom_core::Pool>>`. A [`Plane`] belongs to one network namespace, that of the
//! thread that opens it; it is `Send`, but the thread that calls it must be in that namespace. It neither blocks for
//! long nor needs a runtime: `apply` waits at most 300 ms for neighbours to answer ARP.
//!
//! What it does not know: health checks, the configuration file, other depths. Packets the program cannot serve are
//! passed up the stack and counted (see [`PacketReason`]); nothing is swallowed because of missing state.

mod attach;
mod error;
mod listen;
mod lists;
mod netlink;
mod object;
mod pins;
mod plane;
mod resolver;
mod samples;
mod slots;
mod stats;
mod sys;
mod table;
pub mod trial;
mod usage;

use std::path::PathBuf;

pub use attach::{Attachment, Mode};
pub use error::{Error, Unreachable};
pub use fathom_wire::packet::PacketReason;
pub use object::Sizes;
pub use plane::{Plane, PoolLookup, Status};
pub use samples::FlowRecord;
pub use stats::{ListenerStats, ServerStats, Stats};

/// How the packet depth is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where Fathom's own bpf file system is (or will be) mounted. Default `/run/fathom/bpf`.
    pub root: PathBuf,
    /// Native or generic. Default: native where that is safe.
    pub mode: Mode,
    /// Sizes of the maps; default by the machine's memory. Pinned maps keep theirs.
    pub sizes: Option<Sizes>,
    /// Send back out of the interface a packet came in by by redirecting instead of `XDP_TX`: for veth peers that only
    /// have GRO, which lose transmitted frames silently. Default false.
    pub redirect_self: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: "/run/fathom/bpf".into(),
            mode: Mode::Auto,
            sizes: None,
            redirect_self: false,
        }
    }
}
