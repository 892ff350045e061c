//! The bpf(2) calls that aya keeps to itself, and the few ioctls about interfaces.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`.
pub(crate) const SKB_MODE: u32 = 2;
/// `XDP_FLAGS_DRV_MODE`.
pub(crate) const DRIVER_MODE: u32 = 4;

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` for `command`, alive for the call, of the length given.
    let r = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if r < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(r)
    }
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just given this descriptor to us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

#[repr(C)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    bpf(
        OBJ_PIN,
        &mut ObjectAttr {
            path: path.as_ptr() as u64,
            fd: fd.as_raw_fd() as u32,
            flags: 0,
        },
    )
    .map(drop)
}

pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    bpf(
        OBJ_GET,
        &mut ObjectAttr {
            path: path.as_ptr() as u64,
            fd: 0,
            flags: 0,
        },
    )
    .map(owned)
}

#[repr(C)]
struct LinkAttr {
    first: u32,
    second: u32,
    third: u32,
    fourth: u32,
}

pub(crate) fn attach(program: BorrowedFd<'_>, ifindex: u32, mode: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkAttr {
        first: program.as_raw_fd() as u32,
        second: ifindex,
        third: ATTACH_XDP,
        fourth: mode,
    };
    bpf(LINK_CREATE, &mut attr).map(owned)
}

/// Puts another program in the link's place, between two packets.
pub(crate) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkAttr {
        first: link.as_raw_fd() as u32,
        second: program.as_raw_fd() as u32,
        third: 0,
        fourth: 0,
    };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

/// The interface a link is on; 0 once that interface is gone.
pub(crate) fn link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = [0u32; 16];
    let mut attr = InfoAttr {
        fd: link.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    // struct bpf_link_info: type, id, prog_id, padding, then for XDP the ifindex.
    Ok(info[4])
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    program: u32,
    verdict: u32,
    in_size: u32,
    out_size: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    /// The kernel insists that what follows is zero, padding too.
    pad: u32,
}

/// What became of a packet in [`test_run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `XDP_*`.
    pub verdict: u32,
    /// The frame afterwards.
    pub packet: Vec<u8>,
    /// ns per run.
    pub duration: u32,
}

/// Runs a program over a frame as if it had arrived on `ifindex`, `repeat` times.
///
/// # Errors
/// The system call's.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    ifindex: u32,
    repeat: u32,
) -> io::Result<Outcome> {
    let mut packet = vec![0u8; frame.len() + 256];
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0u32, frame.len() as u32, 0, ifindex, 0, 0];
    let mut attr = TestRunAttr {
        program: program.as_raw_fd() as u32,
        in_size: frame.len() as u32,
        out_size: packet.len() as u32,
        input: frame.as_ptr() as u64,
        output: packet.as_mut_ptr() as u64,
        repeat,
        context_in_size: if ifindex == 0 {
            0
        } else {
            size_of_val(&context) as u32
        },
        context_in: if ifindex == 0 {
            0
        } else {
            context.as_ptr() as u64
        },
        ..TestRunAttr::default()
    };
    bpf(PROG_TEST_RUN, &mut attr)?;
    packet.truncate(attr.out_size as usize);
    Ok(Outcome {
        verdict: attr.verdict,
        packet,
        duration: attr.duration,
    })
}

/// Sends `repeat` copies of a frame through the program as real frames arriving on `ifindex` (BPF_F_TEST_XDP_LIVE_FRAMES).
///
/// # Errors
/// The system call's.
pub fn live_frames(
    program: BorrowedFd<'_>,
    frame: &[u8],
    ifindex: u32,
    repeat: u32,
    batch: u32,
) -> io::Result<()> {
    const LIVE_FRAMES: u32 = 2;
    let context = [0u32, frame.len() as u32, 0, ifindex, 0, 0];
    let mut attr = TestRunAttr {
        program: program.as_raw_fd() as u32,
        in_size: frame.len() as u32,
        input: frame.as_ptr() as u64,
        repeat,
        context_in_size: size_of_val(&context) as u32,
        context_in: context.as_ptr() as u64,
        flags: LIVE_FRAMES,
        batch,
        ..TestRunAttr::default()
    };
    bpf(PROG_TEST_RUN, &mut attr).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    input: u64,
    output: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// One stretch of a hash map. `cursor` is `None` at the start and again at the end. Returns how many entries there were.
pub(crate) fn lookup_batch(
    map: BorrowedFd<'_>,
    cursor: &mut Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
    most: u32,
) -> io::Result<u32> {
    let mut next = 0u32;
    let mut attr = BatchAttr {
        input: cursor.as_ref().map_or(0, |c| std::ptr::from_ref(c) as u64),
        output: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: most,
        map: map.as_raw_fd() as u32,
        ..BatchAttr::default()
    };
    match bpf(MAP_LOOKUP_BATCH, &mut attr) {
        Ok(_) => {
            *cursor = Some(next);
            Ok(attr.count)
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            *cursor = None;
            Ok(attr.count)
        }
        Err(e) => Err(e),
    }
}

/// The driver behind an interface (`ETHTOOL_GDRVINFO`), by name; asks the namespace of the calling thread.
pub(crate) fn driver_of(interface: &str) -> Option<String> {
    const GET_DRIVER: u32 = 3;
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        data: *mut u8,
        pad: [u8; 16],
    }
    let mut info = [0u8; 196];
    info[..4].copy_from_slice(&GET_DRIVER.to_ne_bytes());
    let mut request = Request {
        name: [0; 16],
        data: info.as_mut_ptr(),
        pad: [0; 16],
    };
    let name = interface.as_bytes();
    request.name.get_mut(..name.len())?.copy_from_slice(name);
    // SAFETY: socket takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return None;
    }
    let socket = owned(libc::c_long::from(fd));
    // SAFETY: the request points to a struct ethtool_drvinfo's worth of bytes; both outlive the call.
    let r = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            SIOCETHTOOL,
            std::ptr::from_mut(&mut request),
        )
    };
    if r != 0 {
        return None;
    }
    let driver = info.get(4..36)?;
    let end = driver.iter().position(|b| *b == 0).unwrap_or(driver.len());
    String::from_utf8(driver[..end].to_vec()).ok()
}

/// The interface's number in the calling thread's namespace.
pub(crate) fn ifindex(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a NUL-terminated string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        n => Some(n),
    }
}

/// The interface's name.
pub(crate) fn ifname(index: u32) -> Option<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer is as long as the call demands.
    let r = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if r.is_null() {
        return None;
    }
    let end = name.iter().position(|b| *b == 0)?;
    String::from_utf8(name[..end].to_vec()).ok()
}

/// `XDP_ATTACHED_SKB`.
pub(crate) const ATTACHED_GENERIC: u8 = 2;

/// How a program is attached to an interface (`IFLA_XDP_ATTACHED`).
pub(crate) fn mode_of(ifindex: u32) -> Option<u8> {
    crate::netlink::Netlink::open()
        .and_then(|mut n| n.links())
        .ok()?
        .get(&ifindex)?
        .xdp
}

/// An interface's global addresses.
pub(crate) fn addresses_of(interface: &str) -> io::Result<Vec<std::net::IpAddr>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: the kernel's list is stored in `list`, and freed below.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut at = list;
    while !at.is_null() {
        // SAFETY: a node of the list getifaddrs made, not freed yet.
        let node = unsafe { &*at };
        at = node.ifa_next;
        // SAFETY: names are NUL-terminated.
        let name = unsafe { std::ffi::CStr::from_ptr(node.ifa_name) };
        if node.ifa_addr.is_null() || name.to_bytes() != interface.as_bytes() {
            continue;
        }
        // SAFETY: the family says which kind of address it points to.
        let ip: std::net::IpAddr = unsafe {
            match i32::from((*node.ifa_addr).sa_family) {
                libc::AF_INET => (*node.ifa_addr.cast::<libc::sockaddr_in>())
                    .sin_addr
                    .s_addr
                    .to_ne_bytes()
                    .into(),
                libc::AF_INET6 => (*node.ifa_addr.cast::<libc::sockaddr_in6>())
                    .sin6_addr
                    .s6_addr
                    .into(),
                _ => continue,
            }
        };
        if !matches!(ip, std::net::IpAddr::V6(a) if a.is_unicast_link_local()) {
            found.push(ip);
        }
    }
    // SAFETY: made by getifaddrs, freed once.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}
