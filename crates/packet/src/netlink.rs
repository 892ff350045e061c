//! Routes and neighbours, asked of the kernel.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const GETLINK: u16 = 18;
const GETROUTE: u16 = 26;
const GETNEIGH: u16 = 30;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Out of this interface.
    pub(crate) ifindex: u32,
    /// To this neighbour.
    pub(crate) hop: IpAddr,
    /// With this address of ours.
    pub(crate) source: Option<IpAddr>,
    /// It is ours.
    pub(crate) local: bool,
}

/// An interface's own properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    /// `IFLA_XDP_ATTACHED`.
    pub(crate) xdp: Option<u8>,
}

/// A netlink socket of the calling thread's namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_ROUTE,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just given to us.
        Ok(Self {
            socket: unsafe { OwnedFd::from_raw_fd(fd) },
            sequence: 0,
        })
    }

    /// The route to `to`, as the kernel would take it now; `None` = unreachable.
    pub(crate) fn route(&mut self, to: IpAddr) -> io::Result<Option<Route>> {
        let (family, bytes) = octets(to);
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let mut body = vec![
            family,
            (bytes.len() * 8) as u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        attribute(&mut body, 1, &bytes);
        let mut found = None;
        let answered = self.ask(GETROUTE, REQUEST, &body, |message| {
            let Some(attributes) = message.get(12..) else {
                return;
            };
            let mut route = Route {
                ifindex: 0,
                hop: to,
                source: None,
                local: message[7] == 2,
            };
            for (kind, value) in Attributes(attributes) {
                match (kind, value) {
                    (4, [a, b, c, d]) => route.ifindex = u32::from_ne_bytes([*a, *b, *c, *d]),
                    (5, v) => route.hop = address(v).unwrap_or(route.hop),
                    (7, v) => route.source = address(v),
                    // RTA_VIA: a next hop of the other family: family (2 bytes), address.
                    (18, v) => route.hop = v.get(2..).and_then(address).unwrap_or(route.hop),
                    _ => {}
                }
            }
            // 1 = unicast, 2 = local; blackhole and its kin forward nothing.
            if matches!(message[7], 1 | 2) {
                found = Some(route);
            }
        });
        match answered {
            Ok(()) => Ok(found),
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Every neighbour with a link-layer address that has not failed.
    pub(crate) fn neighbours(&mut self) -> io::Result<HashMap<(u32, IpAddr), [u8; 6]>> {
        let mut all = HashMap::new();
        // struct ndmsg: family, 3 pad, ifindex, state, flags, type.
        self.ask(GETNEIGH, REQUEST | DUMP, &[0; 12], |message| {
            let (Some(head), Some(attributes)) = (message.get(..12), message.get(12..)) else {
                return;
            };
            let ifindex = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
            let state = u16::from_ne_bytes([head[8], head[9]]);
            const INCOMPLETE_FAILED: u16 = 0x01 | 0x20;
            let (mut who, mut mac) = (None, None);
            for (kind, value) in Attributes(attributes) {
                match kind {
                    1 => who = address(value),
                    2 => mac = <[u8; 6]>::try_from(value).ok(),
                    _ => {}
                }
            }
            if let (Some(who), Some(mac)) = (who, mac)
                && state & INCOMPLETE_FAILED == 0
                && mac != [0; 6]
            {
                all.insert((ifindex, who), mac);
            }
        })?;
        Ok(all)
    }

    /// Every interface's MAC and MTU.
    pub(crate) fn links(&mut self) -> io::Result<HashMap<u32, LinkFacts>> {
        let mut all = HashMap::new();
        // struct ifinfomsg: family, pad, type, index, flags, change.
        self.ask(GETLINK, REQUEST | DUMP, &[0; 16], |message| {
            let (Some(head), Some(attributes)) = (message.get(..16), message.get(16..)) else {
                return;
            };
            let ifindex = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
            let mut facts = LinkFacts {
                mac: [0; 6],
                mtu: 0,
                xdp: None,
            };
            for (kind, value) in Attributes(attributes) {
                match (kind, value) {
                    (1, v) => facts.mac = <[u8; 6]>::try_from(v).unwrap_or_default(),
                    (4, [a, b, c, d]) => facts.mtu = u32::from_ne_bytes([*a, *b, *c, *d]),
                    // IFLA_XDP: nested; its attribute 2 is IFLA_XDP_ATTACHED.
                    (43, v) => {
                        facts.xdp = Attributes(v)
                            .find(|(k, _)| *k == 2)
                            .and_then(|(_, v)| v.first().copied())
                    }
                    _ => {}
                }
            }
            all.insert(ifindex, facts);
        })?;
        Ok(all)
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(16 + body.len());
        message.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        // SAFETY: a buffer and its length.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            // SAFETY: a buffer and its length.
            let n = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            };
            if n < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut rest = &buffer[..n as usize];
            while rest.len() >= 16 {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                if length < 16 || length > rest.len() {
                    break;
                }
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let sequence = u32::from_ne_bytes([rest[8], rest[9], rest[10], rest[11]]);
                let payload = &rest[16..length];
                if sequence == self.sequence {
                    match kind {
                        DONE => return Ok(()),
                        ERROR => {
                            let code = payload
                                .get(..4)
                                .map_or(0, |c| i32::from_ne_bytes([c[0], c[1], c[2], c[3]]));
                            return if code == 0 {
                                Ok(())
                            } else {
                                Err(io::Error::from_raw_os_error(-code))
                            };
                        }
                        _ => each(payload),
                    }
                    if flags & DUMP == 0 {
                        return Ok(());
                    }
                }
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}

/// Makes the kernel ask for a neighbour's MAC, by sending it a datagram nobody minds (discard, RFC 863).
pub(crate) fn poke(hop: IpAddr, ifindex: u32) {
    let any: SocketAddr = match hop {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let to = match hop {
        IpAddr::V6(a) if a.is_unicast_link_local() => {
            SocketAddr::V6(std::net::SocketAddrV6::new(a, 9, 0, ifindex))
        }
        other => SocketAddr::new(other, 9),
    };
    if let Ok(socket) = UdpSocket::bind(any) {
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to(&[], to);
    }
}

struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.0.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn octets(ip: IpAddr) -> (u8, Vec<u8>) {
    match ip {
        IpAddr::V4(a) => (libc::AF_INET as u8, a.octets().to_vec()),
        IpAddr::V6(a) => (libc::AF_INET6 as u8, a.octets().to_vec()),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}
