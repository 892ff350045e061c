//! What an error of the socket calls means, and who is to blame for it.

use std::io;

use fathom_core::Reason;
use rustix::io::Errno;

/// Of a connect, or of making the socket for it.
pub(crate) fn of_connect(error: &io::Error) -> Reason {
    machine(error).unwrap_or(match error.kind() {
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ => Reason::ConnectFailed,
    })
}

/// What the machine lacks, if that is what the error says.
pub(crate) fn machine(error: &io::Error) -> Option<Reason> {
    match Errno::from_io_error(error)? {
        Errno::MFILE | Errno::NFILE => Some(Reason::OutOfDescriptors),
        Errno::NOMEM | Errno::NOBUFS | Errno::NOSPC => Some(Reason::OutOfMemory),
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => Some(Reason::OutOfPorts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_not_blamed_for_the_machine() {
        for (errno, reason) in [
            (Errno::CONNREFUSED, Reason::ConnectFailed),
            (Errno::HOSTUNREACH, Reason::ConnectFailed),
            (Errno::NOENT, Reason::ConnectFailed),
            (Errno::TIMEDOUT, Reason::ConnectTimeout),
            (Errno::MFILE, Reason::OutOfDescriptors),
            (Errno::NOBUFS, Reason::OutOfMemory),
            (Errno::ADDRNOTAVAIL, Reason::OutOfPorts),
        ] {
            let of = of_connect(&errno.into());
            assert_eq!(of, reason);
            let server = matches!(
                errno,
                Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NOENT | Errno::TIMEDOUT
            );
            assert_eq!(of.counts_against_server(), server);
        }
    }
}
