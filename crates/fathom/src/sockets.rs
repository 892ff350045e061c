//! Listening sockets: opened before privileges are dropped, kept over reloads, one per worker.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use fathom_core::plan::{DepthPlan, ListenerPlan, Origin, Plan};
use fathom_io::ListenOptions;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// What distinguishes one listening socket from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{} ({transport})", self.address)
    }
}

/// A socket that a listener of the plan wants.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: Key,
    /// Index into the plan's listeners.
    pub(crate) listener: usize,
    pub(crate) tls: bool,
    pub(crate) origin: Origin,
    /// Of `":80"`: the IPv6 socket is left out where the machine has no IPv6.
    may_lack: bool,
}

/// The sockets of a plan, in its order. Packet listeners need none.
pub(crate) fn wanted(plan: &Plan) -> Vec<Wanted> {
    let of = |(listener, plan): (usize, &ListenerPlan)| {
        let transport = match plan.depth {
            DepthPlan::Http(_) | DepthPlan::Stream(_) => Transport::Tcp,
            DepthPlan::Datagram(_) => Transport::Udp,
            DepthPlan::Packet(_) => return Vec::new(),
        };
        let mut all = Vec::new();
        for bind in &plan.binds {
            let sockets = bind.address.sockets();
            let any = sockets.len() > 1;
            all.extend(sockets.into_iter().map(|address| Wanted {
                key: Key { address, transport },
                listener,
                tls: bind.tls,
                origin: bind.origin.clone(),
                may_lack: any && address.is_ipv6(),
            }));
        }
        all
    };
    plan.listeners.iter().enumerate().flat_map(of).collect()
}

/// The machine refused a socket.
#[derive(Debug)]
pub(crate) struct BindError {
    key: Key,
    origin: Origin,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, error } = self;
        write!(f, "{origin}: cannot listen on {key}: {error}")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "; another process has the port (see `ss -lntup`)")
            }
            io::ErrorKind::PermissionDenied if key.address.port() < 1024 => {
                write!(f, "; ports below 1024 need root or CAP_NET_BIND_SERVICE")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "; this machine does not have the address")
            }
            _ => Ok(()),
        }
    }
}

/// One worker's share of the sockets.
#[derive(Debug)]
pub(crate) enum Open {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Open {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Udp(socket) => Self::Udp(socket.try_clone()?),
        })
    }
}

/// Every open listening socket: for each key one per worker. The kernel spreads new connections and flows over them.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: HashMap<Key, Vec<Open>>,
    /// Given up at that time; until workers have taken the last clients out, the address is still in use.
    given_up: HashMap<Key, Instant>,
}

/// How long an address that was given up may still be in use by ourselves.
const LINGER: Duration = Duration::from_secs(60);

impl Sockets {
    /// Opens what is wanted and not open yet; nothing is opened when one fails.
    pub(crate) fn open(&mut self, wanted: &[Wanted], workers: usize) -> Result<(), Vec<BindError>> {
        let (mut new, mut errors) = (HashMap::new(), Vec::new());
        for want in wanted.iter().filter(|w| !self.open.contains_key(&w.key)) {
            // A change from ":80" to "127.0.0.1:80" meets the socket it is going to replace.
            let ours = |k: &Key| {
                k.transport == want.key.transport && k.address.port() == want.key.address.port()
            };
            match open_all(want.key, workers, self.open.keys().any(ours)) {
                Ok(sockets) => {
                    new.insert(want.key, sockets);
                }
                Err(error) if want.may_lack && lacks_ipv6(&error) => {
                    tracing::debug!(
                        "{}: no IPv6 on this machine, {} is left out",
                        want.origin,
                        want.key
                    );
                }
                Err(error) => {
                    errors.push(BindError {
                        key: want.key,
                        origin: want.origin.clone(),
                        error,
                    });
                }
            }
        }
        if errors.is_empty() {
            self.open.extend(new);
            return Ok(());
        }
        Err(errors)
    }

    /// Whether it was only ourselves who refused: addresses that were given up a moment ago and come back.
    pub(crate) fn will_be_free(&self, errors: &[BindError]) -> bool {
        errors.iter().all(|e| {
            e.error.kind() == io::ErrorKind::AddrInUse && self.given_up.contains_key(&e.key)
        })
    }

    /// Closes what is not wanted any more. Workers hold duplicates until they have taken the last connection out.
    pub(crate) fn close_unwanted(&mut self, wanted: &[Wanted]) {
        self.given_up.retain(|_, at| at.elapsed() < LINGER);
        self.open.retain(|key, _| {
            let stays = wanted.iter().any(|w| w.key == *key);
            if !stays {
                self.given_up.insert(*key, Instant::now());
            }
            stays
        });
    }

    /// A duplicate of worker `worker`'s sockets.
    pub(crate) fn of_worker(&self, worker: usize) -> io::Result<HashMap<Key, Open>> {
        self.open
            .iter()
            .map(|(key, sockets)| Ok((*key, sockets[worker].try_clone()?)))
            .collect()
    }

    /// Takes away from every address what no worker serves.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn open_all(key: Key, workers: usize, port_is_ours: bool) -> io::Result<Vec<Open>> {
    // Sockets that share a port (SO_REUSEPORT) would silently share it with another process of the same user, too:
    // one socket that does not share finds out first whether the port is free.
    if !port_is_ours {
        drop(bind(key, false)?);
    }
    (0..workers)
        .map(|_| match key.transport {
            Transport::Tcp => {
                fathom_io::listen(key.address, &ListenOptions::default()).map(Open::Tcp)
            }
            Transport::Udp => bind(key, true).map(|socket| Open::Udp(socket.into())),
        })
        .collect()
}

fn bind(key: Key, share: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(key.address);
    let (kind, protocol) = match key.transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if key.address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if share {
        socket.set_reuse_port(true)?;
    }
    if key.transport == Transport::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(key.address))?;
    if key.transport == Transport::Tcp {
        // Two bound sockets with SO_REUSEADDR collide only once one of them listens.
        socket.listen(1)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
