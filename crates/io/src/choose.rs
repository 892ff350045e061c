//! Which driver the workers use, decided once at start, with the reason when it is not the ring.

use std::fmt;

use fathom_core::plan::IoChoice;

/// How sockets are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// An `io_uring` per worker.
    Uring,
    /// epoll, through tokio.
    Epoll,
}

impl Driver {
    /// As written in the configuration and in `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What [`choose`] found.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The driver for every worker.
    pub driver: Driver,
    /// Why it is not `uring`, when `auto` could not have it.
    pub note: Option<String>,
}

/// `io = "uring"` was asked for and this machine refuses it; the text says why.
#[derive(Clone, Debug)]
pub struct ProbeError(pub String);

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring cannot be used here: {}", self.0)
    }
}

impl std::error::Error for ProbeError {}

/// Tries what the configuration wants.
///
/// # Errors
/// Only for `IoChoice::Uring` where the kernel refuses.
pub fn choose(want: IoChoice) -> Result<Chosen, ProbeError> {
    let epoll = |note| Chosen {
        driver: Driver::Epoll,
        note,
    };
    if want == IoChoice::Epoll {
        return Ok(epoll(None));
    }
    match (crate::uring::probe(), want) {
        (Ok(()), _) => Ok(Chosen {
            driver: Driver::Uring,
            note: None,
        }),
        (Err(why), IoChoice::Uring) => Err(ProbeError(why)),
        (Err(why), _) => Ok(epoll(Some(why))),
    }
}
