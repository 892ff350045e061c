//! Why a check failed, in the words shown by `fathom status` and on the dashboard.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// A plain reason: `connect refused`, `status 500, wanted 200-299`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    reason: String,
    /// Not the server failed but the machine Fathom runs on.
    of_machine: bool,
}

/// Reasons quote what servers say; longer ones say nothing more.
const MAX: usize = 200;

/// Out of descriptors, memory, buffers, local ports or processes.
const MACHINE: [Errno; 6] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::ADDRNOTAVAIL,
    Errno::AGAIN,
];

impl Failure {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        let mut text = reason.to_string();
        if text.len() > MAX {
            let end = text.floor_char_boundary(MAX);
            text.truncate(end);
            text.push('…');
        }
        Self {
            reason: text,
            of_machine: false,
        }
    }

    /// A failed socket call: `connect refused`, `read: connection reset`.
    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        use io::ErrorKind as E;
        if error
            .raw_os_error()
            .is_some_and(|code| MACHINE.iter().any(|errno| errno.raw_os_error() == code))
        {
            return Self::new(format_args!("{doing}: {error}")).of_machine();
        }
        match error.kind() {
            E::ConnectionRefused => Self::new(format_args!("{doing} refused")),
            E::ConnectionReset | E::BrokenPipe | E::ConnectionAborted => {
                Self::new(format_args!("{doing}: connection reset"))
            }
            E::HostUnreachable => Self::new(format_args!("{doing}: no route to host")),
            E::NetworkUnreachable => Self::new(format_args!("{doing}: network unreachable")),
            E::NotFound => Self::new(format_args!("{doing}: no such file")),
            E::PermissionDenied => Self::new(format_args!("{doing}: permission denied")),
            _ => Self::new(format_args!("{doing}: {error}")),
        }
    }

    /// The same, blamed on the machine.
    pub(crate) fn of_machine(self) -> Self {
        Self {
            of_machine: true,
            ..self
        }
    }

    /// Whether it says nothing about the server.
    pub(crate) fn is_of_machine(&self) -> bool {
        self.of_machine
    }

    /// What a server sent, quoted: printable, one line, cut.
    pub(crate) fn quoted(before: &str, said: &[u8]) -> Self {
        let line = said
            .split(|&b| b == b'\n')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        Self::new(format_args!(
            "{before}: {}",
            &line[..line.len().min(MAX)].escape_ascii()
        ))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
