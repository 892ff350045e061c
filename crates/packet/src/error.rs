//! What can go wrong, and what to do about it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Why the packet depth cannot do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// `/sys/kernel/btf/vmlinux` is missing.
    NoBtf,
    /// A right is missing.
    NoRight {
        /// What was tried.
        doing: &'static str,
    },
    /// No such interface.
    NoInterface {
        /// Its name.
        interface: String,
        /// Those there are.
        present: Vec<String>,
    },
    /// Another program is attached.
    Occupied {
        /// Where.
        interface: String,
    },
    /// A bpf file system could not be mounted or written.
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What is pinned does not fit this version.
    Foreign {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The kernel refused the program or a map.
    Load {
        /// Its words, shortened.
        why: String,
    },
    /// A table has no room.
    Full {
        /// Which, and how large it is.
        what: String,
    },
    /// The listener and its pool do not go together at this depth.
    Listener {
        /// `listeners.NAME`.
        listener: String,
        /// Why.
        why: String,
    },
    /// A system call failed.
    System {
        /// What was tried.
        doing: String,
        /// Why it failed.
        error: io::Error,
    },
}

impl Error {
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| match error.raw_os_error() {
            Some(libc::EPERM) => Self::NoRight {
                doing: "using the packet depth",
            },
            _ => Self::System { doing, error },
        }
    }

    pub(crate) fn listener(listener: &str, why: impl Into<String>) -> Self {
        Self::Listener {
            listener: listener.into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBtf => f.write_str(
                "this kernel has no BTF (/sys/kernel/btf/vmlinux is missing): the packet depth needs a kernel built with CONFIG_DEBUG_INFO_BTF; use depth = \"stream\"",
            ),
            Self::NoRight { doing } => write!(
                f,
                "{doing} was not permitted: the packet depth needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW (and CAP_SYS_ADMIN once, to mount a bpf file system)"
            ),
            Self::NoInterface { interface, present } => {
                write!(f, "there is no interface \"{interface}\" (there are: {})", present.join(", "))
            }
            Self::Occupied { interface } => write!(
                f,
                "another XDP program is attached to {interface} (see `ip link show {interface}`): detach it first"
            ),
            Self::Pin { path, error } => {
                write!(f, "cannot keep the packet depth's state in {}: {error}", path.display())
            }
            Self::Foreign { path, why } => write!(
                f,
                "what is pinned in {} is of another version or not Fathom's ({why}): `fathom packet detach` removes it",
                path.display()
            ),
            Self::Load { why } => write!(f, "the kernel refused the packet program: {why}"),
            Self::Full { what } => write!(f, "no room: {what}"),
            Self::Listener { listener, why } => write!(f, "listeners.{listener}: {why}"),
            Self::System { doing, error } => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Shown for a server whose next hop is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The routing table says so.
    NoRoute(IpAddr),
    /// The address is this machine's.
    Local(IpAddr),
    /// Nobody answers for this next hop (yet).
    NoNeighbour(IpAddr),
    /// The tunnel would not carry even small packets.
    NoInterface(u32),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute(to) => write!(f, "there is no route to {to}"),
            Self::Local(to) => write!(
                f,
                "{to} is this machine itself, which the packet depth cannot forward to"
            ),
            Self::NoNeighbour(hop) => write!(
                f,
                "the MAC of {hop} is not known: it answers neither ARP nor ND"
            ),
            Self::NoInterface(index) => write!(f, "interface {index} is gone"),
        }
    }
}
