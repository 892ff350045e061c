//! `recvmmsg` and `sendmmsg` over the same memory: what one socket received another sends.

use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use socket2::Socket;

/// The largest datagram there is.
const LARGEST: usize = 65_535;
/// Not a power of two: else all slots would compete for the same few lines of the cache.
const STRIDE: usize = 65_536 + 320;

/// Room for some datagrams, with where each came from or goes to.
///
/// The memory is virtual until datagrams have been in it.
pub struct Batch {
    bytes: Box<[u8]>,
    headers: Box<[libc::mmsghdr]>,
    pieces: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    len: usize,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What it carries; may be empty.
    pub data: &'a [u8],
    /// Who sent it.
    pub peer: SocketAddr,
    /// Which of our addresses was asked, where the socket tells.
    pub local: Option<Local>,
}

/// One of our own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub ip: IpAddr,
    /// The interface's number, for link-local addresses; else 0.
    pub interface: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Room for one `IP_PKTINFO` and one `IPV6_PKTINFO`, aligned as `cmsghdr` is.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 96]);

const NO_NAME: Name = Name { family: 0 };

impl Batch {
    /// Room for `slots` datagrams.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        // SAFETY: all-zero is a valid value of these plain C structs (null pointers, zero lengths).
        let (header, piece) =
            unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed::<libc::iovec>()) };
        // SAFETY: likewise.
        let name = unsafe { mem::zeroed::<Name>() };
        Self {
            bytes: vec![0; slots * STRIDE].into(),
            headers: vec![header; slots].into(),
            pieces: vec![piece; slots].into(),
            names: vec![name; slots].into(),
            controls: vec![Control([0; 96]); slots].into(),
            len: 0,
        }
    }

    /// How many datagrams are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.headers.len() - self.len
    }

    /// Forgets all datagrams.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Receives what has come, `most` datagrams at most, behind those that are there already. How many; fewer than asked
    /// for means that the socket is empty now.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come; `ConnectionRefused` on a connected socket whose server is not there.
    pub fn receive(&mut self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        let count = most.min(self.room());
        for slot in self.len..self.len + count {
            self.pieces[slot] = libc::iovec {
                iov_base: self.bytes[slot * STRIDE..].as_mut_ptr().cast(),
                iov_len: LARGEST,
            };
            self.names[slot] = NO_NAME;
            let header = &mut self.headers[slot].msg_hdr;
            header.msg_name = (&raw mut self.names[slot]).cast();
            header.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_iov = &raw mut self.pieces[slot];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[slot]).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        let headers = &mut self.headers[self.len..self.len + count];
        // SAFETY: each header names one slot of `bytes` (LARGEST <= STRIDE), its name and its control, all owned by self,
        // borrowed mutably for the call and of the lengths given; no timeout is passed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        self.len += received;
        Ok(received)
    }

    /// The datagram in a slot, after [`Batch::receive`] and before it is sent.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn get(&self, slot: usize) -> Datagram<'_> {
        assert!(slot < self.len, "a datagram was received in this slot");
        Datagram {
            data: self.data(slot),
            peer: self.names[slot].address(),
            local: local(&self.headers[slot].msg_hdr),
        }
    }

    /// The bytes in a slot.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn data(&self, slot: usize) -> &[u8] {
        assert!(slot < self.len, "a datagram was received in this slot");
        let start = slot * STRIDE;
        &self.bytes[start..start + self.headers[slot].msg_len as usize]
    }

    /// Says where a slot's datagram goes, and from which of our addresses.
    ///
    /// # Panics
    /// When there is none.
    pub fn address(&mut self, slot: usize, to: SocketAddr, from: Option<Local>) {
        assert!(slot < self.len, "a datagram was received in this slot");
        let namelen = self.names[slot].set(to);
        let header = &mut self.headers[slot].msg_hdr;
        header.msg_name = (&raw mut self.names[slot]).cast();
        header.msg_namelen = namelen;
        match from {
            Some(from) => {
                header.msg_control = (&raw mut self.controls[slot]).cast();
                header.msg_controllen = size_of::<Control>() as _;
                set_local(header, from);
            }
            None => {
                header.msg_control = ptr::null_mut();
                header.msg_controllen = 0;
            }
        }
    }

    /// Sends those slots over a connected socket. How many went, from the first.
    ///
    /// # Errors
    /// When the first did not go: `WouldBlock`, or what an earlier datagram met (`ConnectionRefused`).
    pub fn send_connected(&mut self, socket: impl AsFd, slots: Range<usize>) -> io::Result<usize> {
        for slot in slots.clone() {
            let header = &mut self.headers[slot].msg_hdr;
            header.msg_name = ptr::null_mut();
            header.msg_namelen = 0;
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
        }
        self.send(socket, slots)
    }

    /// Sends those slots, each to where [`Batch::address`] said. How many went, from the first.
    ///
    /// # Errors
    /// When the first did not go.
    pub fn send(&mut self, socket: impl AsFd, slots: Range<usize>) -> io::Result<usize> {
        let fd = socket.as_fd().as_raw_fd();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        assert!(slots.end <= self.len, "datagrams are in these slots");
        let count = slots.len();
        for slot in slots.clone() {
            self.pieces[slot].iov_len = self.headers[slot].msg_len as usize;
        }
        let start = slots.start;
        if count == 1 && self.headers[start].msg_hdr.msg_name.is_null() {
            let data = self.data(start);
            // SAFETY: `data` is readable for its length.
            let sent = unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), flags) };
            return if sent < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(1)
            };
        }
        // The kernel overwrites msg_len of what it sent, with the same number.
        let headers = &mut self.headers[slots];
        // SAFETY: each header names one slot's bytes with their length and, where set, its name and control, all owned by
        // self and borrowed for the call.
        let sent =
            unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as libc::c_uint, flags as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} of {} datagrams)", self.len, self.headers.len())
    }
}

impl Name {
    fn address(&self) -> SocketAddr {
        // SAFETY: every field is plain numbers, and all bytes are always initialised: by `zeroed` or `NO_NAME` at first (which
        // `receive` overwrites whole through the kernel), by `set` or the kernel since; `family` says which was written.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(u32::from_be(self.v4.sin_addr.s_addr));
                    SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port)).into()
                }
                libc::AF_INET6 => {
                    let v6 = self.v6;
                    let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                    SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into()
                }
                _ => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            }
        }
    }

    /// Writes the address; its length.
    fn set(&mut self, to: SocketAddr) -> libc::socklen_t {
        match to {
            SocketAddr::V4(to) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as _,
                    sin_port: to.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from(*to.ip()).to_be(),
                    },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as _
            }
            SocketAddr::V6(to) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as _,
                    sin6_port: to.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr {
                        s6_addr: to.ip().octets(),
                    },
                    sin6_scope_id: to.scope_id(),
                };
                size_of::<libc::sockaddr_in6>() as _
            }
        }
    }
}

/// Makes the socket tell which address each datagram was sent to.
pub(super) fn ask_for_local(socket: &Socket, v6: bool) -> io::Result<()> {
    let (level, option) = match v6 {
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the option takes a C int, which is passed with its size.
    let result = unsafe {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads which address a received datagram was sent to.
fn local(header: &libc::msghdr) -> Option<Local> {
    // SAFETY: the header is one that `recvmmsg` filled, its control buffer is alive (both belong to the batch), and the
    // macros stay within msg_controllen.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo =
                        ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    // The destination as it stood, or for a broadcast our own address to answer from.
                    let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
                    return Some(Local {
                        ip: ip.into(),
                        interface: 0,
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo =
                        ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    let interface = if ip.is_unicast_link_local() {
                        info.ipi6_ifindex as u32
                    } else {
                        0
                    };
                    return Some(Local {
                        ip: ip.into(),
                        interface,
                    });
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    }
    None
}

/// Writes the address a datagram is sent from.
fn set_local(header: &mut libc::msghdr, from: Local) {
    // SAFETY: the header's control buffer is a whole `Control`, aligned and larger than either message.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        match from.ip {
            IpAddr::V4(ip) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from(ip).to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                put(message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                header.msg_controllen = libc::CMSG_SPACE(size_of::<libc::in_pktinfo>() as _) as _;
            }
            IpAddr::V6(ip) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                    ipi6_ifindex: from.interface as _,
                };
                put(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                header.msg_controllen = libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as _) as _;
            }
        }
    }
}

/// Fills one control message.
///
/// # Safety
/// `message` points to an aligned `cmsghdr` with room for `T` behind it.
unsafe fn put<T>(message: *mut libc::cmsghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    // SAFETY: as the caller promises.
    unsafe {
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<T>() as _) as _;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    fn bound(address: &str) -> UdpSocket {
        super::super::bind(address.parse().unwrap(), &Default::default()).unwrap()
    }

    /// A client's socket; blocking.
    fn client(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket
    }

    /// Receives until `n` have come: loopback delivers at once, but let nobody depend on it.
    fn receive(batch: &mut Batch, socket: &UdpSocket, n: usize) {
        while batch.len() < n {
            match batch.receive(socket, usize::MAX) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                result => drop(result.unwrap()),
            }
        }
    }

    #[test]
    fn tells_the_address_asked_and_answers_from_it() {
        let socket = bound("0.0.0.0:0");
        let port = socket.local_addr().unwrap().port();
        let asker = client("127.0.0.1:0");
        let mut batch = Batch::new(4);
        for asked in ["127.0.0.1", "127.0.0.2", "127.3.2.1"] {
            let asked: IpAddr = asked.parse().unwrap();
            asker
                .send_to(asked.to_string().as_bytes(), (asked, port))
                .unwrap();
            batch.clear();
            receive(&mut batch, &socket, 1);
            let datagram = batch.get(0);
            assert_eq!(datagram.local, Some(Local::of(asked)));
            assert_eq!(datagram.peer, asker.local_addr().unwrap());
            let (peer, local) = (datagram.peer, datagram.local);
            batch.address(0, peer, local);
            assert_eq!(batch.send(&socket, 0..1).unwrap(), 1);
            let mut buffer = [0; 100];
            let (n, from) = asker.recv_from(&mut buffer).unwrap();
            assert_eq!(
                (&buffer[..n], from),
                (asked.to_string().as_bytes(), (asked, port).into())
            );
        }
    }

    #[test]
    fn ipv6_too() {
        let Ok(asker) = UdpSocket::bind("[::1]:0") else {
            return;
        };
        asker
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let socket = bound("[::]:0");
        let port = socket.local_addr().unwrap().port();
        asker.send_to(b"six", ("::1", port)).unwrap();
        let mut batch = Batch::new(1);
        receive(&mut batch, &socket, 1);
        let Datagram { data, peer, local } = batch.get(0);
        assert_eq!(
            (data, peer, local),
            (
                &b"six"[..],
                asker.local_addr().unwrap(),
                Some(Local::of("::1".parse().unwrap()))
            )
        );
        batch.address(0, peer, local);
        batch.send(&socket, 0..1).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(
            asker.recv_from(&mut buffer).unwrap(),
            (3, ("::1".parse::<IpAddr>().unwrap(), port).into())
        );
    }

    #[test]
    fn sizes_from_nothing_to_the_largest_go_through_unchanged() {
        let socket = bound("127.0.0.1:0");
        let server = client("127.0.0.1:0");
        let flow = super::super::connect(server.local_addr().unwrap()).unwrap();
        let asker = client("127.0.0.1:0");
        let sizes = [0, 1, 1500, 40_000, 65_507];
        let content = |n: usize| (0..n).map(|i| (i % 251) as u8).collect::<Vec<u8>>();
        let mut batch = Batch::new(sizes.len());
        for n in sizes {
            asker
                .send_to(&content(n), socket.local_addr().unwrap())
                .unwrap();
        }
        receive(&mut batch, &socket, sizes.len());
        assert_eq!(batch.room(), 0);
        // The first alone, the rest together.
        assert_eq!(batch.send_connected(&flow, 0..1).unwrap(), 1);
        let mut from = 1;
        while from < sizes.len() {
            from += batch.send_connected(&flow, from..sizes.len()).unwrap();
        }
        let mut buffer = vec![0; 70_000];
        for n in sizes {
            let got = server.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..got], content(n));
        }
    }

    #[test]
    fn a_server_that_is_not_there_shows() {
        let gone = client("127.0.0.1:0").local_addr().unwrap();
        let flow = super::super::connect(gone).unwrap();
        let asker = client("127.0.0.1:0");
        let socket = bound("127.0.0.1:0");
        asker.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        let mut batch = Batch::new(2);
        receive(&mut batch, &socket, 1);
        batch.send_connected(&flow, 0..1).unwrap();
        let refused = loop {
            match batch.receive(&flow, 1) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                result => break result.unwrap_err(),
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
