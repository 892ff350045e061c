//! One worker's flows, and the moving of their datagrams in batches.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fathom_access::{Exchange, Record, Route};
use fathom_core::{EndpointId, Health, Lease, NoServer, Reason, Tick};
use fathom_io::clock;
use fathom_io::udp::{self, Batch, Local, Sockets};

use super::Service;
use super::table::{Id, Table};
use crate::{choice, failure};

/// Datagrams taken from clients in one call, and sent back to them in one.
const BATCH: usize = 64;
/// Datagrams taken from one server in one call: a busy flow must not keep the others waiting.
const FROM_SERVER: usize = 16;
/// Servers that one datagram is offered to.
const TRIES: usize = 3;

/// Everything one worker has of a UDP listener.
pub(super) struct Relay<C> {
    listening: Vec<Listening>,
    current: C,
    sockets: Sockets,
    flows: Table<Key, Flow>,
    /// From clients.
    requests: Batch,
}

/// A socket that clients send to.
struct Listening {
    socket: UdpSocket,
    /// To clients, collected from many flows.
    replies: Batch,
    service: Arc<Service>,
}

/// What makes two datagrams belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    client: SocketAddr,
    /// The address asked; `None` when the socket has only one.
    local: Option<Local>,
    listening: usize,
}

struct Flow {
    key: Key,
    socket: UdpSocket,
    lease: Lease,
    service: Arc<Service>,
    /// The server is not there: the next datagram looks for another.
    refused: bool,
    /// Since when the first reply is waited for.
    asked: Option<Tick>,
    began: Tick,
    from_client: u64,
    to_client: u64,
    moves: u32,
}

impl<C: Fn() -> Arc<Service>> Relay<C> {
    pub(super) fn new(sockets: Vec<UdpSocket>, current: C) -> io::Result<Self> {
        let set = Sockets::new()?;
        let service = current();
        let mut listening = Vec::with_capacity(sockets.len());
        for (number, socket) in sockets.into_iter().enumerate() {
            udp::prepare(&socket)?;
            set.add(&socket, number as u64)?;
            listening.push(Listening {
                socket,
                replies: Batch::new(BATCH),
                service: Arc::clone(&service),
            });
        }
        Ok(Self {
            listening,
            current,
            sockets: set,
            flows: Table::new(),
            requests: Batch::new(BATCH),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Waits for sockets that have something.
    pub(super) async fn ready(&mut self, numbers: &mut Vec<u64>) -> io::Result<()> {
        self.sockets.ready(numbers).await
    }

    /// Moves what a socket has.
    pub(super) fn handle(&mut self, number: u64, now: Tick) {
        match usize::try_from(number)
            .ok()
            .filter(|&n| n < self.listening.len())
        {
            Some(listening) => self.take_requests(listening, now),
            None => self.take_replies(Id::from_u64(number), now),
        }
    }

    /// Takes what clients have sent so far, and nothing more from then on.
    pub(super) fn stop_taking(&mut self, now: Tick) {
        for listening in 0..self.listening.len() {
            self.take_requests(listening, now);
            // Others may have the socket open, so that forgetting it does not take it out of the set.
            let _ = self.sockets.remove(&self.listening[listening].socket);
        }
    }

    fn take_requests(&mut self, listening: usize, now: Tick) {
        self.requests.clear();
        // An error here is the network's about some earlier reply: nothing to do about it.
        let Ok(count) = self
            .requests
            .receive(&self.listening[listening].socket, BATCH)
        else {
            return;
        };
        if count == BATCH {
            self.sockets.not_emptied();
        }
        let key = |requests: &Batch, slot| {
            let datagram = requests.get(slot);
            Key {
                client: datagram.peer,
                local: datagram.local,
                listening,
            }
        };
        let mut start = 0;
        while start < count {
            let first = key(&self.requests, start);
            let mut end = start + 1;
            while end < count && key(&self.requests, end) == first {
                end += 1;
            }
            self.forward(first, start..end, now);
            start = end;
        }
    }

    /// Sends requests of one client to its server.
    fn forward(&mut self, key: Key, slots: Range<usize>, now: Tick) {
        let bytes: u64 = slots
            .clone()
            .map(|slot| self.requests.data(slot).len() as u64)
            .sum();
        let listening = &self.listening[key.listening];
        let cells = listening.service.stats.here();
        cells.datagrams_in.add(slots.len() as u64);
        cells.bytes_in.add(bytes);
        let id = match self.flows.find(&key) {
            Some(id) => id,
            None => match self.open(key, now) {
                Ok(id) => id,
                Err(reason) => {
                    return self.listening[key.listening]
                        .service
                        .stats
                        .here()
                        .reasons
                        .count(reason);
                }
            },
        };
        self.flows.touch(id, now);
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.from_client += bytes;
        flow.asked.get_or_insert(now);
        let mut start = slots.start;
        for _ in 0..TRIES {
            if flow.is_lost(now) && !flow.move_on(id, &self.sockets, now) {
                return;
            }
            match send(&mut self.requests, flow, start..slots.end) {
                Ok(()) => {
                    flow.lease.endpoint().stats().here().bytes_out.add(bytes);
                    return;
                }
                Err(unsent) => {
                    start = unsent;
                    flow.server_refused(now);
                }
            }
        }
    }

    /// A new flow, with a server.
    fn open(&mut self, key: Key, now: Tick) -> Result<Id, Reason> {
        let service = (self.current)();
        self.listening[key.listening].service = Arc::clone(&service);
        while service.flows.load(Ordering::Relaxed) >= service.max_flows {
            let (oldest, _) = self.flows.oldest().ok_or(Reason::OverConnectionLimit)?;
            self.close(oldest, now);
        }
        let lease = service
            .pool
            .pick(&choice::pick(&service.pool, key.client, None, &[], now))
            .map_err(NoServer::reason)?;
        let socket = connect(&lease, now)?;
        let flow = Flow {
            key,
            socket,
            lease,
            service,
            refused: false,
            asked: None,
            began: now,
            from_client: 0,
            to_client: 0,
            moves: 0,
        };
        flow.opened();
        let id = self.flows.insert(key, flow, now);
        let flow = self.flows.get_mut(id).expect("it was put there just now");
        if let Err(error) = self.sockets.add(&flow.socket, id.to_u64()) {
            let reason = failure::of_connect(&error);
            self.close(id, now);
            return Err(reason);
        }
        Ok(id)
    }

    /// Collects what a flow's server has answered.
    fn take_replies(&mut self, id: Id, now: Tick) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let key = flow.key;
        if self.listening[key.listening].replies.room() == 0 {
            self.listening[key.listening].flush();
        }
        let replies = &mut self.listening[key.listening].replies;
        let start = replies.len();
        let most = FROM_SERVER.min(replies.room());
        let count = match replies.receive(&flow.socket, most) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return flow.server_refused(now),
        };
        if count == most {
            self.sockets.not_emptied();
        }
        let mut bytes = 0;
        for slot in start..start + count {
            bytes += replies.data(slot).len() as u64;
            replies.address(slot, key.client, key.local);
        }
        flow.to_client += bytes;
        flow.lease.endpoint().stats().here().bytes_in.add(bytes);
        if let Some(asked) = flow.asked.take() {
            // Once for each question and not for each datagram: what comes unasked says nothing about the server's speed.
            flow.lease.succeeded(now, now.since(asked));
        }
        self.flows.touch(id, now);
    }

    /// Sends what was collected for clients.
    pub(super) fn flush(&mut self) {
        for listening in &mut self.listening {
            listening.flush();
        }
    }

    /// Ends the flows that were idle for their time, or for `quiet`.
    pub(super) fn expire(&mut self, now: Tick, quiet: Duration) {
        while let Some(due) = self.next_expiry(quiet)
            && due <= now
            && let Some((oldest, _)) = self.flows.oldest()
        {
            self.close(oldest, now);
        }
    }

    /// When the next flow ends if nothing comes.
    pub(super) fn next_expiry(&mut self, quiet: Duration) -> Option<Tick> {
        let (oldest, used) = self.flows.oldest()?;
        let flow = self.flows.get_mut(oldest)?;
        Some(used + flow.service.idle.min(quiet))
    }

    fn close(&mut self, id: Id, now: Tick) {
        if let Some(flow) = self.flows.remove(id) {
            flow.closed(now);
        }
    }
}

impl<C> Drop for Relay<C> {
    fn drop(&mut self) {
        let now = clock::now();
        while let Some((id, _)) = self.flows.oldest() {
            if let Some(flow) = self.flows.remove(id) {
                flow.closed(now);
            }
        }
    }
}

impl Listening {
    fn flush(&mut self) {
        if self.replies.is_empty() {
            return;
        }
        let mut bytes = 0;
        let mut datagrams = 0;
        let mut start = 0;
        let end = self.replies.len();
        while start < end {
            match self.replies.send(&self.socket, start..end) {
                Ok(sent) => {
                    datagrams += sent as u64;
                    bytes += (start..start + sent)
                        .map(|s| self.replies.data(s).len() as u64)
                        .sum::<u64>();
                    start += sent;
                }
                // The kernel's buffer is full, and stays so until the network has taken some: the rest is lost, as UDP may.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // This client cannot be reached; the next one may.
                Err(_) => start += 1,
            }
        }
        self.replies.clear();
        let cells = self.service.stats.here();
        cells.datagrams_out.add(datagrams);
        cells.bytes_out.add(bytes);
    }
}

impl Flow {
    /// Whether its server should not get more.
    fn is_lost(&self, now: Tick) -> bool {
        let endpoint = self.lease.endpoint();
        self.refused || endpoint.health() == Health::Down || endpoint.is_ejected(now)
    }

    /// Looks for another server; whether there is one to send to.
    fn move_on(&mut self, id: Id, sockets: &Sockets, now: Tick) -> bool {
        let pool = &self.service.pool;
        let pick = |exclude: &[EndpointId]| {
            pool.pick(&choice::pick(pool, self.key.client, None, exclude, now))
        };
        let before = [self.lease.endpoint().id()];
        // A server that is alone gets another chance.
        let lease = match pick(if self.refused { &before } else { &[] }) {
            Err(NoServer::AllExcluded | NoServer::AllDown | NoServer::AllFull) if self.refused => {
                pick(&[])
            }
            result => result,
        };
        let moved = lease.map_err(NoServer::reason).and_then(|lease| {
            if lease.endpoint().id() == before[0] {
                return Ok(None);
            }
            let socket = connect(&lease, now)?;
            sockets
                .add(&socket, id.to_u64())
                .map_err(|e| failure::of_connect(&e))?;
            Ok(Some((lease, socket)))
        });
        match moved {
            Ok(None) => self.refused = false,
            Ok(Some((lease, socket))) => {
                self.lease.endpoint().stats().here().open.add(-1);
                self.lease = lease;
                self.socket = socket;
                self.refused = false;
                self.moves += 1;
                self.asked = Some(now);
                let cells = self.lease.endpoint().stats().here();
                cells.connections.inc();
                cells.open.add(1);
            }
            Err(reason) => {
                self.service.stats.here().reasons.count(reason);
                return false;
            }
        }
        true
    }

    /// The network says that nobody is there.
    fn server_refused(&mut self, now: Tick) {
        self.refused = true;
        self.lease.failed(now);
        self.lease
            .endpoint()
            .stats()
            .here()
            .failures
            .count(Reason::ConnectFailed);
    }

    fn opened(&self) {
        self.service.flows.fetch_add(1, Ordering::Relaxed);
        let cells = self.service.stats.here();
        cells.connections.inc();
        cells.active.add(1);
        let cells = self.lease.endpoint().stats().here();
        cells.connections.inc();
        cells.open.add(1);
    }

    fn closed(self, now: Tick) {
        let service = &self.service;
        service.flows.fetch_sub(1, Ordering::Relaxed);
        service.stats.here().active.add(-1);
        let endpoint = self.lease.endpoint();
        endpoint.stats().here().open.add(-1);
        let Some(log) = &service.access else { return };
        log.0.write(&Record {
            time: clock::unix_now(),
            client: self.key.client,
            listener: &service.listener,
            route: Some(Route {
                name: &service.listener,
                origin: &service.origin,
            }),
            pool: Some(service.pool.name()),
            server: Some(&endpoint.name()),
            request_bytes: self.from_client,
            response_bytes: self.to_client,
            duration: now.since(self.began),
            connect: None,
            retries: self.moves,
            reason: self.refused.then_some(Reason::ConnectFailed.as_str()),
            tls: None,
            exchange: Exchange::Udp,
        });
    }
}

/// A socket towards the server of a lease.
fn connect(lease: &Lease, now: Tick) -> Result<UdpSocket, Reason> {
    let endpoint = lease.endpoint();
    // `check` refuses unix sockets in the pools of UDP listeners.
    let address = endpoint.ip().ok_or(Reason::ConnectFailed)?;
    udp::connect(address).map_err(|error| {
        let reason = failure::of_connect(&error);
        if reason.counts_against_server() {
            lease.failed(now);
            endpoint.stats().here().failures.count(reason);
        }
        reason
    })
}

/// Sends those slots to the flow's server; where the server is not there, from which slot on they were not sent.
fn send(requests: &mut Batch, flow: &Flow, slots: Range<usize>) -> Result<(), usize> {
    let mut start = slots.start;
    while start < slots.end {
        match requests.send_connected(&flow.socket, start..slots.end) {
            Ok(sent) => start += sent,
            Err(error) => match error.kind() {
                // The socket says what became of an earlier datagram; this one was not sent.
                io::ErrorKind::ConnectionRefused => return Err(start),
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(()),
                // Too large for the path, or forbidden by a firewall: this one is lost.
                _ => start += 1,
            },
        }
    }
    Ok(())
}
