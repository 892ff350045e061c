//! The program on interfaces: natively where that is safe, else in the kernel's generic hook.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::pins::Pins;
use crate::{Error, sys};

/// Where the program may be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Native where the driver can, else generic.
    #[default]
    Auto,
    /// In the driver, or fail.
    Native,
    /// After the driver, in the kernel's generic hook.
    Generic,
}

/// How it is attached to one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface's name.
    pub interface: String,
    /// Its number.
    pub ifindex: u32,
    /// In the driver; else generic.
    pub native: bool,
    /// Why it is not native.
    pub reason: Option<String>,
    /// Whether it was attached already and only the program was exchanged.
    pub adopted: bool,
}

/// A pinned link.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) facts: Attachment,
    link: OwnedFd,
}

impl Attached {
    /// Takes over what is pinned, puts `program` in its place; `None` if nothing usable is.
    pub(crate) fn adopt(
        pins: &Pins,
        interface: &str,
        program: BorrowedFd<'_>,
    ) -> Result<Option<Self>, Error> {
        let path = pins.link(interface);
        let Ok(link) = sys::pinned(&path) else {
            return Ok(None);
        };
        let on = sys::link_ifindex(link.as_fd()).unwrap_or(0);
        // The interface went away, or another has its name now.
        if on == 0 || sys::ifindex(interface) != Some(on) {
            drop(link);
            let _ = fs::remove_file(&path);
            return Ok(None);
        }
        sys::replace(link.as_fd(), program).map_err(Error::system(format!(
            "replacing the program on {interface}"
        )))?;
        let native = sys::mode_of(on).is_none_or(|m| m != sys::ATTACHED_GENERIC);
        let reason = (!native).then(|| "it was attached so".to_owned());
        let facts = Attachment {
            interface: interface.into(),
            ifindex: on,
            native,
            reason,
            adopted: true,
        };
        Ok(Some(Self { facts, link }))
    }

    /// Attaches to an interface and pins the link.
    pub(crate) fn new(
        pins: &Pins,
        interface: &str,
        mode: Mode,
        program: BorrowedFd<'_>,
    ) -> Result<Self, Error> {
        let Some(ifindex) = sys::ifindex(interface) else {
            return Err(Error::NoInterface {
                interface: interface.into(),
                present: interfaces(),
            });
        };
        let fails = |native: bool| {
            let how = if native {
                "natively"
            } else {
                "in generic mode"
            };
            let interface = interface.to_owned();
            move |e: std::io::Error| match e.raw_os_error() {
                Some(libc::EBUSY) => Error::Occupied { interface },
                _ => Error::system(format!("attaching the packet program to {interface} {how}"))(e),
            }
        };
        let mut reason = None;
        let mut link = None;
        let silent = sys::driver_of(interface).filter(|d| d == "veth" || d == "tun");
        match (mode, silent) {
            (Mode::Generic, _) => reason = Some("asked for".to_owned()),
            // A veth hands natively sent frames to its peer's NAPI, and drops them without a word when that is off.
            (Mode::Auto, Some(driver)) => {
                reason = Some(format!(
                    "frames sent natively on {driver} can be lost in its peer"
                ))
            }
            (Mode::Native, _) => {
                link = Some(sys::attach(program, ifindex, sys::DRIVER_MODE).map_err(fails(true))?);
            }
            (Mode::Auto, None) => match sys::attach(program, ifindex, sys::DRIVER_MODE) {
                Ok(l) => link = Some(l),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => return Err(fails(true)(e)),
                Err(e) => reason = Some(format!("the driver refused it natively: {e}")),
            },
        }
        let native = link.is_some();
        let link = match link {
            Some(link) => link,
            None => sys::attach(program, ifindex, sys::SKB_MODE).map_err(fails(false))?,
        };
        let path = pins.link(interface);
        let _ = fs::remove_file(&path);
        sys::pin(link.as_fd(), &path).map_err(|error| Error::Pin { path, error })?;
        let facts = Attachment {
            interface: interface.into(),
            ifindex,
            native,
            reason,
            adopted: false,
        };
        Ok(Self { facts, link })
    }

    /// Whether the interface is still there.
    pub(crate) fn is_alive(&self) -> bool {
        sys::link_ifindex(self.link.as_fd()).is_ok_and(|i| i != 0)
    }

    /// Takes the program off the interface.
    pub(crate) fn remove(self, pins: &Pins) {
        let _ = fs::remove_file(pins.link(&self.facts.interface));
    }
}

/// Interfaces there are, for an error.
pub(crate) fn interfaces() -> Vec<String> {
    let mut links: Vec<u32> = crate::netlink::Netlink::open()
        .and_then(|mut n| n.links())
        .map(|l| l.into_keys().collect())
        .unwrap_or_default();
    links.sort_unstable();
    links.into_iter().filter_map(sys::ifname).collect()
}
