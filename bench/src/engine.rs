//! The load: clients and servers in one epoll loop on one core.
//!
//! Both in one loop, because the core they share must not be what limits a fast balancer: no switches between
//! threads, two system calls per message, bodies discarded in the kernel.

mod client;
mod origin;
mod tls;
mod udp;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::time::Timespec;

pub(crate) use client::Talk;
pub(crate) use origin::FLOOD;
pub(crate) use tls::Offer;

use client::Client;
use origin::Origin;
use udp::{UdpClient, UdpOrigin};

/// One socket and what is done with it.
enum Slot {
    Listener(TcpListener),
    Origin(Box<Origin>),
    Client(Box<Client>),
    UdpOrigin(UdpOrigin),
    UdpClient(UdpClient),
}

/// What the clients did while measured.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Requests (or messages, connections, datagram pairs) completed.
    pub(crate) count: u64,
    /// Body bytes received.
    pub(crate) bytes: u64,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// Latency of each, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Connections that ended, or datagrams that were lost, where they should not have been.
    pub(crate) failed: u64,
    /// TLS sessions that were resumed rather than begun anew.
    pub(crate) resumed: u64,
}

impl Done {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)
            .unwrap_or_else(|e| unreachable!("constant bounds: {e}"));
        Self {
            count: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            latency,
            failed: 0,
            resumed: 0,
        }
    }
}

/// The loop.
pub(crate) struct Engine {
    epoll: OwnedFd,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    shared: Shared,
}

/// What every connection's code may touch.
struct Shared {
    buffer: Vec<u8>,
    responses: origin::Responses,
    done: Done,
    now: Instant,
    /// Clients that may send their next request.
    ready: VecDeque<usize>,
    pace: Option<Pace>,
    measuring: bool,
}

/// Requests spread evenly over time.
struct Pace {
    per_second: f64,
    begin: Instant,
    sent: u64,
}

impl Pace {
    /// How many are due now. What could not be sent in time is not made up for later in one burst.
    fn due(&mut self, now: Instant) -> u64 {
        let should = (now.duration_since(self.begin).as_secs_f64() * self.per_second) as u64;
        self.sent = self.sent.max(should.saturating_sub(64));
        should.saturating_sub(self.sent)
    }
}

/// What became of a socket when its event was handled.
enum Next {
    Keep,
    /// Also wait for room to write, or no longer.
    Interest(EventFlags),
    Close,
    /// A client: it is ready for its next request.
    Ready,
    /// A client: connect anew and send.
    Reconnect,
}

impl Engine {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: Vec::new(),
            free: Vec::new(),
            shared: Shared {
                buffer: vec![0; 256 * 1024],
                responses: origin::Responses::default(),
                done: Done::new(),
                now: Instant::now(),
                ready: VecDeque::new(),
                pace: None,
                measuring: false,
            },
        })
    }

    /// Opens a server and says where.
    pub(crate) fn serve_tcp(&mut self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        self.insert(Slot::Listener(listener), EventFlags::IN)?;
        Ok(address)
    }

    /// Opens a server that echoes datagrams and says where.
    pub(crate) fn serve_udp(&mut self) -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        self.insert(Slot::UdpOrigin(UdpOrigin::new(socket)), EventFlags::IN)?;
        Ok(address)
    }

    /// Adds clients; they begin with the next [`Engine::run`].
    pub(crate) fn add_clients(
        &mut self,
        count: usize,
        to: SocketAddr,
        talk: &Talk,
    ) -> io::Result<()> {
        for _ in 0..count {
            let client = Client::connect(to, talk)?;
            let index = self.insert(
                Slot::Client(Box::new(client)),
                EventFlags::IN | EventFlags::OUT,
            )?;
            self.shared.ready.push_back(index);
        }
        Ok(())
    }

    /// Adds UDP clients, each a flow of its own.
    pub(crate) fn add_udp_clients(&mut self, count: usize, to: SocketAddr) -> io::Result<()> {
        for _ in 0..count {
            let index = self.insert(Slot::UdpClient(UdpClient::connect(to)?), EventFlags::IN)?;
            self.shared.ready.push_back(index);
        }
        Ok(())
    }

    /// Opens connections that do one exchange and then stay idle, a few at a time.
    pub(crate) fn add_idle(&mut self, count: usize, to: SocketAddr, talk: &Talk) -> io::Result<()> {
        for begin in (0..count).step_by(64) {
            let batch = 64.min(count - begin);
            self.add_clients(batch, to, talk)?;
            let target = self.shared.done.count + batch as u64;
            self.start_ready();
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.shared.done.count < target {
                self.turn(Some(Duration::from_millis(50)))?;
                if Instant::now() > deadline {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "idle connections do not get through",
                    ));
                }
            }
            // They have had their turn.
            self.shared.ready.clear();
        }
        Ok(())
    }

    /// Closes every client; servers stay.
    pub(crate) fn drop_clients(&mut self) {
        for index in 0..self.slots.len() {
            if matches!(
                self.slots[index],
                Some(Slot::Client(_) | Slot::UdpClient(_))
            ) {
                self.slots[index] = None;
                self.free.push(index);
            }
        }
        self.shared.ready.clear();
    }

    /// Lets the servers finish what the clients have left behind.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let end = Instant::now() + Duration::from_millis(50);
        while Instant::now() < end {
            self.turn(Some(Duration::from_millis(10)))?;
        }
        Ok(())
    }

    /// Serves until told to stop.
    pub(crate) fn serve_until(&mut self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.turn(Some(Duration::from_millis(20)))?;
        }
        Ok(())
    }

    /// Runs the clients for that long, at most at `pace` requests a second.
    pub(crate) fn run(&mut self, time: Duration, pace: Option<f64>) -> io::Result<Done> {
        let begin = Instant::now();
        let end = begin + time;
        self.shared.done = Done::new();
        self.shared.measuring = true;
        self.shared.pace = pace.map(|per_second| Pace {
            per_second,
            begin,
            sent: 0,
        });
        while self.shared.now < end {
            self.start_ready();
            // Without sleep: what wakes late here would be counted as the balancer's latency.
            self.turn(Some(Duration::ZERO))?;
        }
        self.shared.done.elapsed = begin.elapsed();
        Ok(self.shared.done.clone())
    }

    fn start_ready(&mut self) {
        let now = self.shared.now;
        let mut budget = match &mut self.shared.pace {
            Some(pace) => pace.due(now).min(self.shared.ready.len() as u64),
            None => self.shared.ready.len() as u64,
        };
        while budget > 0 {
            let Some(index) = self.shared.ready.pop_front() else {
                break;
            };
            if let Some(pace) = &mut self.shared.pace {
                pace.sent += 1;
            }
            budget -= 1;
            let next = match &mut self.slots[index] {
                Some(Slot::Client(client)) => client.start(&mut self.shared),
                Some(Slot::UdpClient(client)) => client.start(&mut self.shared),
                _ => Next::Keep,
            };
            self.apply(index, next);
        }
    }

    /// Waits for events, at most so long, and handles them.
    fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let timeout = wait.map(|w| Timespec {
            tv_sec: w.as_secs() as i64,
            tv_nsec: i64::from(w.subsec_nanos()),
        });
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; 256];
        let count = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(e) => return Err(e.into()),
        };
        self.shared.now = Instant::now();
        for event in &events[..count] {
            let index = event.data.u64() as usize;
            let flags = event.flags;
            let next = match &mut self.slots[index] {
                None => continue,
                Some(Slot::Listener(listener)) => {
                    let accepted = listener.accept();
                    if let Ok((stream, _)) = accepted {
                        stream.set_nonblocking(true)?;
                        stream.set_nodelay(true)?;
                        self.insert(Slot::Origin(Box::new(Origin::new(stream))), EventFlags::IN)?;
                    }
                    continue;
                }
                Some(Slot::Origin(origin)) => origin.event(flags, &mut self.shared),
                Some(Slot::Client(client)) => client.event(flags, &mut self.shared),
                Some(Slot::UdpOrigin(origin)) => origin.event(&mut self.shared),
                Some(Slot::UdpClient(client)) => client.event(&mut self.shared),
            };
            self.apply(index, next);
        }
        Ok(())
    }

    fn apply(&mut self, index: usize, next: Next) {
        match next {
            Next::Keep => {}
            Next::Ready => {
                if self.shared.pace.is_some() || !self.shared.measuring {
                    self.shared.ready.push_back(index);
                    return;
                }
                // Unpaced: at once, while its socket is warm.
                let next = match &mut self.slots[index] {
                    Some(Slot::Client(client)) => client.start(&mut self.shared),
                    Some(Slot::UdpClient(client)) => client.start(&mut self.shared),
                    _ => Next::Keep,
                };
                if let Next::Ready = next {
                    self.shared.ready.push_back(index);
                } else {
                    self.apply(index, next);
                }
            }
            Next::Interest(flags) => {
                if let Some(slot) = &self.slots[index] {
                    let _ = epoll::modify(
                        &self.epoll,
                        slot.fd(),
                        EventData::new_u64(index as u64),
                        flags,
                    );
                }
            }
            Next::Close => {
                self.slots[index] = None;
                self.free.push(index);
            }
            Next::Reconnect => {
                if let Some(Slot::Client(client)) = &mut self.slots[index] {
                    // No address left for a moment: the next turn tries again.
                    if client.reconnect().is_ok() {
                        let data = EventData::new_u64(index as u64);
                        let _ = epoll::add(
                            &self.epoll,
                            client.fd(),
                            data,
                            EventFlags::IN | EventFlags::OUT,
                        );
                    } else {
                        self.shared.done.failed += 1;
                    }
                    self.shared.ready.push_back(index);
                }
            }
        }
    }

    fn insert(&mut self, slot: Slot, flags: EventFlags) -> io::Result<usize> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        epoll::add(
            &self.epoll,
            slot.fd(),
            EventData::new_u64(index as u64),
            flags,
        )?;
        self.slots[index] = Some(slot);
        Ok(index)
    }
}

impl Slot {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Slot::Listener(listener) => listener.as_fd(),
            Slot::Origin(origin) => origin.fd(),
            Slot::Client(client) => client.fd(),
            Slot::UdpOrigin(origin) => origin.fd(),
            Slot::UdpClient(client) => client.fd(),
        }
    }
}
