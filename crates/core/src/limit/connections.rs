//! How many connections are open, in all and by client.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ClientKey;
use crate::Reason;
use crate::bounded::{Aged, Bounded};

/// Open connections of one listener. Survives reloads as an `Arc`; limits are arguments.
#[derive(Debug, Default)]
pub struct Connections {
    all: AtomicUsize,
    /// Never larger than the number of open connections: an entry goes with its last one.
    by_client: Bounded<ClientKey, Open>,
}

#[derive(Debug)]
struct Open(u32);

impl Aged for Open {
    fn age(&self) -> u64 {
        u64::from(self.0)
    }
}

/// One admitted connection; dropping it gives its place back.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Guard {
    of: Arc<Connections>,
    client: Option<ClientKey>,
}

impl Connections {
    /// Admits a connection of `client`; `most` in all and `most_per_client`, `None` = no limit.
    ///
    /// # Errors
    /// [`Reason::OverConnectionLimit`] or [`Reason::OverClientLimit`].
    pub fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        most: Option<usize>,
        most_per_client: Option<usize>,
    ) -> Result<Guard, Reason> {
        let admitted = self
            .all
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                most.is_none_or(|most| n < most).then_some(n + 1)
            });
        if admitted.is_err() {
            return Err(Reason::OverConnectionLimit);
        }
        // Made at once, so that every way out gives the place back.
        let mut guard = Guard {
            of: Arc::clone(self),
            client: None,
        };
        if let Some(most) = most_per_client {
            let key = ClientKey::from(client);
            let enter = |open: &mut Open| {
                let room = (open.0 as usize) < most;
                open.0 += u32::from(room);
                room
            };
            if !self
                .by_client
                .with_or_insert(key, usize::MAX, || Open(0), enter)
            {
                self.by_client
                    .change_and_remove_if(&key, |open| open.0 == 0);
                return Err(Reason::OverClientLimit);
            }
            guard.client = Some(key);
        }
        Ok(guard)
    }

    /// Open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Clients that have connections open (counted only while there is a limit by client).
    #[must_use]
    pub fn clients(&self) -> usize {
        self.by_client.len()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.of.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = &self.client {
            self.of.by_client.change_and_remove_if(client, |open| {
                open.0 = open.0.saturating_sub(1);
                open.0 == 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn limits_and_giving_back() {
        let connections = Arc::new(Connections::default());
        let admit = |last| connections.admit(ip(last), Some(3), Some(2));
        let (a, b) = (admit(1).unwrap(), admit(1).unwrap());
        assert_eq!(admit(1).unwrap_err(), Reason::OverClientLimit);
        let c = admit(2).unwrap();
        assert_eq!(admit(3).unwrap_err(), Reason::OverConnectionLimit);
        assert_eq!((connections.open(), connections.clients()), (3, 2));
        drop(a);
        let d = admit(1).unwrap();
        drop((b, c, d));
        assert_eq!((connections.open(), connections.clients()), (0, 0));
    }

    #[test]
    fn a_limit_of_zero_leaves_nothing_behind() {
        let connections = Arc::new(Connections::default());
        assert!(connections.admit(ip(1), None, Some(0)).is_err());
        assert_eq!((connections.open(), connections.clients()), (0, 0));
    }

    #[test]
    fn a_reload_that_adds_the_limit_meets_connections_it_did_not_count() {
        let connections = Arc::new(Connections::default());
        let before = connections.admit(ip(1), None, None).unwrap();
        let after = connections.admit(ip(1), None, Some(1)).unwrap();
        drop(before);
        drop(after);
        assert_eq!((connections.open(), connections.clients()), (0, 0));
    }
}
