//! Which of many sockets have something: an epoll of their own, itself watched by the runtime.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most sockets reported at a time.
pub const MAX_READY: usize = 256;

/// A set of sockets with a number each. Level-triggered: what is not read is reported again. Closing a socket takes it out.
pub struct Sockets {
    epoll: AsyncFd<OwnedFd>,
    events: Vec<epoll::Event>,
    /// Something may be left from the last time: look before waiting.
    more: bool,
}

impl Sockets {
    /// An empty set.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // SAFETY: an `OwnedFd` gives the same open descriptor until it is dropped, and the `AsyncFd` alone owns it.
        let epoll = unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE)? };
        Ok(Self {
            epoll,
            events: Vec::with_capacity(MAX_READY),
            more: true,
        })
    }

    /// Adds a socket, to be reported as `number` when it has a datagram or an error.
    ///
    /// # Errors
    /// Out of memory, or over the user's limit of watches.
    pub fn add(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::add(
            &self.epoll,
            socket,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Takes a socket out that others still have open. (One that is closed is out by itself.)
    ///
    /// # Errors
    /// It is not in the set.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Says that a socket reported last was not read until it was empty: the next [`Sockets::ready`] does not wait.
    pub fn not_emptied(&mut self) {
        self.more = true;
    }

    /// Waits for sockets that have something, and appends their numbers to `numbers`. Cancel-safe; may append nothing.
    ///
    /// # Errors
    /// Only when the runtime ends.
    pub async fn ready(&mut self, numbers: &mut Vec<u64>) -> io::Result<()> {
        if self.more {
            // Whoever is never out of work must let the thread's other tasks have their turn.
            tokio::task::yield_now().await;
            self.more = false;
        } else {
            // Cleared before looking: what comes from now on sets it again. (The kernel wakes a watcher of an epoll for
            // every event inside, also for a socket that is listed already.)
            self.epoll.readable().await?.clear_ready();
        }
        self.events.clear();
        epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            Some(&rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .or_else(|e| match e {
            rustix::io::Errno::INTR => {
                self.more = true;
                Ok(0)
            }
            e => Err(e),
        })?;
        self.more |= self.events.len() == self.events.capacity();
        numbers.extend(self.events.iter().map(|event| event.data.u64()));
        Ok(())
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets")
            .field("epoll", &self.epoll)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn reports_until_read_and_forgets_the_closed() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut sockets = Sockets::new().unwrap();
            let inside: Vec<UdpSocket> = (0..300)
                .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
                .collect();
            for (number, socket) in inside.iter().enumerate() {
                sockets.add(socket, number as u64).unwrap();
            }
            let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
            for socket in &inside {
                outside.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            }
            let mut seen = std::collections::BTreeSet::new();
            let mut numbers = Vec::new();
            while seen.len() < inside.len() {
                numbers.clear();
                sockets.ready(&mut numbers).await.unwrap();
                for &number in &numbers {
                    inside[number as usize].recv(&mut [0; 8]).unwrap();
                    assert!(seen.insert(number));
                }
            }
            // One read, one left, one closed with something in it.
            let mut inside = inside;
            for socket in &inside[..3] {
                outside.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            }
            drop(inside.remove(2));
            numbers.clear();
            while numbers.is_empty() {
                sockets.ready(&mut numbers).await.unwrap();
            }
            numbers.sort_unstable();
            assert!(numbers.iter().all(|&n| n < 2), "{numbers:?}");
            inside[0].recv(&mut [0; 8]).unwrap();
            numbers.clear();
            sockets.not_emptied();
            while numbers.is_empty() {
                sockets.ready(&mut numbers).await.unwrap();
                sockets.not_emptied();
            }
            assert!(numbers.contains(&1), "{numbers:?}");
        });
    }
}
