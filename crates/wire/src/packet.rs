//! What the kernel program (`bpf/fathom.bpf.c`) and its user space say to each other, written once.
//!
//! The structs and numbers below are Rust; [`c_header`] prints the same as C, and that is `bpf/fathom.h`
//! (written by `cargo xtask bpf`, compared by a test). Every struct has explicit padding, so that the two
//! compilers cannot disagree and so that keys hash the same bytes.
//!
//! Addresses are 16 bytes; an IPv4 address lies in the first four and the rest is zero. Ports and addresses are
//! in network byte order, everything else in the machine's.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

/// The layout's version: part of the path maps are pinned under. Raise it with any change to this file that
/// changes a map; flows of another version cannot be adopted.
pub const LAYOUT: u32 = 1;

macro_rules! shared {
    ($($(#[$meta:meta])* struct $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:tt,)* })*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
        )*

        fn c_structs(out: &mut String) {
            $(
                let _ = writeln!(out, "struct {} {{", snake(stringify!($name)));
                $( let _ = writeln!(out, "\t{};", c_field(stringify!($field), stringify!($ty))); )*
                out.push_str("};\n");
                $(
                    let _ = writeln!(
                        out, "_Static_assert(__builtin_offsetof(struct {0}, {1}) == {2}, \"{0}.{1}\");",
                        snake(stringify!($name)), stringify!($field), core::mem::offset_of!($name, $field),
                    );
                )*
                let _ = writeln!(
                    out, "_Static_assert(sizeof(struct {0}) == {1}, \"{0}\");\n",
                    snake(stringify!($name)), core::mem::size_of::<$name>(),
                );
            )*
        }
    };
}

macro_rules! numbers {
    ($($(#[$meta:meta])* $prefix:literal $module:ident: $ty:ident { $($(#[$nmeta:meta])* $name:ident = $value:expr,)* })*) => {
        $(
            $(#[$meta])*
            pub mod $module { $($(#[$nmeta])* pub const $name: $ty = $value;)* }
        )*

        fn c_numbers(out: &mut String) {
            $(
                $( let _ = writeln!(out, "#define {}{} {}u", $prefix, stringify!($name), $module::$name); )*
                out.push('\n');
            )*
        }
    };
}

/// Why a packet was dropped, passed up or answered: `(number, name)`; the number indexes [`ServiceCounters`].
macro_rules! reasons {
    ($($(#[$meta:meta])* $name:ident = $value:literal $text:literal,)*) => {
        /// What happened to a packet that was not simply forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum PacketReason { $($(#[$meta])* $name = $value,)* }

        impl PacketReason {
            /// Every reason, in the order of its numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As in metrics and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        fn c_reasons(out: &mut String) {
            $( let _ = writeln!(out, "#define REASON_{} {}u", snake(stringify!($name)).to_uppercase(), $value); )*
            out.push('\n');
        }
    };
}

reasons! {
    /// Opened a flow.
    NewFlow = 0 "new-flow",
    /// Passed up: no server of the pool can take it.
    NoServer = 1 "no-server",
    /// Passed up: a TCP segment of no known flow.
    NoFlow = 2 "no-flow",
    /// Passed up: it belongs to a connection of this machine's own (opened at another depth).
    Local = 3 "local",
    /// Dropped: headers that contradict themselves or the frame.
    Malformed = 4 "malformed",
    /// Dropped: the source is on the deny list.
    Denied = 5 "denied",
    /// Dropped: there is an allow list and the source is not on it.
    NotAllowed = 6 "not-allowed",
    /// Dropped: the source opens flows faster than it may.
    RateLimited = 7 "rate-limited",
    /// Answered: a SYN was challenged.
    CookieSent = 8 "cookie-sent",
    /// Dropped: the answer to a challenge, and it was right. The source is trusted for a while.
    CookieAccepted = 9 "cookie-accepted",
    /// Passed up: no free port towards the server on any of Fathom's own addresses.
    PortsExhausted = 10 "ports-exhausted",
    /// Dropped: its time to live ended here.
    TtlExpired = 11 "ttl-expired",
    /// Answered with "fragmentation needed" or "packet too big", or dropped where that may not be sent.
    TooBig = 12 "too-big",
    /// Passed up: a fragment whose first part was not seen.
    FragmentUnknown = 13 "fragment-unknown",
    /// Forwarded: a fragment.
    Fragment = 14 "fragment",
    /// Forwarded: an ICMP error, to the side its flow belongs to.
    IcmpError = 15 "icmp-error",
    /// Passed up: an ICMP message or error of no known flow.
    IcmpOther = 16 "icmp-other",
    /// Passed up: a map refused an entry, or a frame had no room for a header.
    Internal = 17 "internal",
    /// A flow left its server, which is gone or down, for another.
    Moved = 18 "moved",
    /// Passed up: an IPv6 extension header or protocol this depth does not look into.
    Unsupported = 19 "unsupported",
    /// A flow followed a remembered choice.
    Affinity = 20 "affinity",
    /// SYNs, challenged or not.
    Syn = 21 "syn",
}

/// Slots of [`ServiceCounters`].
pub const REASONS: usize = 32;

numbers! {
    /// [`Service::forward`].
    "FORWARD_" forward: u8 {
        /// Addresses rewritten both ways.
        NAT = 0,
        /// Destination MAC rewritten.
        DSR_MAC = 1,
        /// IP in IP.
        DSR_IPIP = 2,
        /// Generic UDP encapsulation.
        DSR_GUE = 3,
    }

    /// [`Service::flags`].
    "SERVICE_" service_flag: u32 {
        /// NAT keeps the client's address.
        PRESERVE_SOURCE = 1,
        /// Only the source address chooses the server.
        HASH_SOURCE = 2,
        /// There is an allow list.
        ALLOW = 4,
        /// There is a deny list.
        DENY = 8,
    }

    /// [`Target::flags`].
    "TARGET_" target_flag: u16 {
        /// Flows may go there.
        USABLE = 1,
        /// The server's address (and any outer header) is IPv6.
        V6 = 2,
        /// New flows may go there by a remembered choice: neither draining nor of weight 0.
        NEW = 4,
        /// Checksums may still be left to a device: the program is in the generic hook of virtual interfaces.
        PARTIAL = 8,
    }

    /// [`Flow::kind`].
    "FLOW_" flow_kind: u8 {
        /// Client to server, addresses rewritten.
        FORWARD = 1,
        /// Server to client, addresses rewritten back.
        REVERSE = 2,
        /// Client to server, sent on whole: by MAC; 4 = in IP, 5 = in GUE.
        DIRECT = 3,
    }

    /// [`Flow::state`]: what TCP said.
    "STATE_" flow_state: u8 {
        /// FIN from the client.
        FIN_CLIENT = 1,
        /// FIN from the server.
        FIN_SERVER = 2,
        /// RST from either.
        RST = 4,
    }

    /// `config.flags` of the program.
    "CONFIG_" config_flag: u32 {
        /// Answer by redirecting to the own interface instead of XDP_TX.
        REDIRECT_SELF = 1,
    }

    /// Sizes both sides know.
    "LIMIT_" limit: u32 {
        /// Fathom's own addresses.
        OWN_ADDRESSES = 256,
        /// Ports tried before a flow is given up.
        PORT_TRIES = 24,
        /// Destination port of GUE (IANA).
        GUE_PORT = 6080,
    }
}

shared! {
    /// Key of `vips`.
    struct VipKey {
        /// The address clients use.
        addr: [u8; 16],
        /// Its port; 0 with protocol 0 = the address as such.
        port: u16,
        /// 6 or 17.
        proto: u8,
        /// Zero.
        pad: u8,
    }

    /// One bind of a packet listener: array `services`.
    struct Service {
        /// Stable identity of (address, port, protocol), for adoption; 0 = free.
        owner: u64,
        /// Least time between flows of one source in ns; 0 = no limit.
        rate_interval: u64,
        /// How far a source may run ahead in ns.
        rate_burst: u64,
        /// How long a choice is remembered in ns; 0 = not.
        affinity_ttl: u64,
        /// Silence after which a UDP flow is chosen anew, in ns.
        udp_idle: u64,
        /// The address clients use.
        addr: [u8; 16],
        /// Its port.
        port: u16,
        /// 6 or 17.
        proto: u8,
        /// `forward`.
        forward: u8,
        /// `service_flag`.
        flags: u32,
        /// First pair of its table in `tables`; read and written together with `table_size` as one word.
        table: u32,
        /// Entries (not pairs); 0 = no server.
        table_size: u32,
        /// Listener number: scope of lists, rates and affinity.
        listener: u32,
        /// SYNs in a window (2^27 ns) from which they are challenged; 0 = never.
        syn_limit: u32,
        /// One flow in so many is logged; 0 = none.
        sample: u32,
        /// Zero.
        pad: [u32; 11],
    }

    /// A server as one listener uses it: array `targets`.
    struct Target {
        /// Stable identity of (listener, server address), for adoption; 0 = free.
        owner: u64,
        /// The server's address.
        addr: [u8; 16],
        /// Source of an outer header.
        outer: [u8; 16],
        /// The server's port.
        port: u16,
        /// `target_flag`.
        flags: u16,
        /// Raised whenever the slot is given to another server.
        generation: u16,
        /// First of Fathom's addresses towards it, in `own`.
        own_first: u16,
        /// How many.
        own_count: u16,
        /// Next hop's MAC.
        dmac: [u8; 6],
        /// Ours.
        smac: [u8; 6],
        /// Largest IP packet towards it; 0 = as large as can arrive.
        mtu: u16,
        /// Interface towards it.
        ifindex: u32,
        /// Zero.
        pad: [u32; 15],
    }

    /// Two entries of the Maglev tables: array `tables` (the kernel would round one up to eight bytes).
    struct TablePair {
        /// Indexes in `targets`.
        target: [u32; 2],
    }

    /// One of Fathom's addresses: array `own`.
    struct Own {
        /// The address.
        addr: [u8; 16],
        /// Lowest port.
        port_low: u16,
        /// How many from there.
        ports: u16,
        /// Zero.
        pad: u32,
    }

    /// Key of `flows4`: as the packet carries it.
    struct FlowKey4 {
        /// Source.
        saddr: u32,
        /// Destination.
        daddr: u32,
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// 6 or 17.
        proto: u32,
    }

    /// Key of `flows6`.
    struct FlowKey6 {
        /// Source.
        saddr: [u32; 4],
        /// Destination.
        daddr: [u32; 4],
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// 6 or 17.
        proto: u32,
    }

    /// One direction of a flow. 64 bytes: with the kernel's own header and an IPv4 key two cache lines.
    struct Flow {
        /// Coarse monotonic ns of the last packet, exact to a second.
        last: u64,
        /// Coarse monotonic ns of its begin.
        begun: u64,
        /// Forward: Fathom's address. Reverse: the client's.
        addr: [u32; 4],
        /// Forward: Fathom's port. Reverse: the client's.
        port: u16,
        /// The target's generation when the flow was opened.
        generation: u16,
        /// Index in `targets`.
        target: u32,
        /// Index in `services`.
        service: u32,
        /// The client's side: interface.
        ifindex: u32,
        /// The client's side: next hop.
        dmac: [u8; 6],
        /// The client's side: ours.
        smac: [u8; 6],
        /// `flow_kind`.
        kind: u8,
        /// `flow_state`.
        state: u8,
        /// Zero.
        pad: u16,
    }

    /// Key of `fragments`.
    struct FragmentKey {
        /// Source.
        saddr: [u32; 4],
        /// Destination.
        daddr: [u32; 4],
        /// Identification.
        id: u32,
        /// 6 or 17.
        proto: u32,
    }

    /// What the first fragment said.
    struct FragmentPorts {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    }

    /// Key of `rates` and `affinity`.
    struct SourceKey {
        /// The client; an IPv6 one without its last 64 bits in `rates`.
        addr: [u32; 4],
        /// Listener number.
        listener: u32,
    }

    /// A remembered choice.
    struct Remembered {
        /// Coarse monotonic ns of its last use.
        last: u64,
        /// Index in `targets`.
        target: u32,
        /// The target's generation.
        generation: u32,
    }

    /// Key of `allow` and `deny` (longest prefix match): 32 bits of listener, then the address.
    struct PrefixKey {
        /// 32 + length of the prefix.
        bits: u32,
        /// Listener number.
        listener: u32,
        /// The prefix.
        addr: [u32; 4],
    }

    /// SYNs of a service: array `syns`.
    struct SynWindow {
        /// Number of the window that `count` counts.
        window: u32,
        /// SYNs in it.
        count: u32,
        /// Last window in which the limit was passed.
        hot: u32,
        /// Zero.
        pad: u32,
    }

    /// Of one target on one CPU: array `target_counters`, index `cpu * targets + target`.
    struct TargetCounters {
        /// Packets towards the server.
        packets_in: u64,
        /// Their bytes, from the IP header on.
        bytes_in: u64,
        /// Packets towards clients (NAT).
        packets_out: u64,
        /// Their bytes.
        bytes_out: u64,
        /// Flows opened.
        flows: u64,
        /// Packets dropped or passed up although this server was chosen.
        failed: u64,
        /// Next port to try; the program's own.
        cursor: u64,
        /// Zero.
        pad: u64,
    }

    /// Of one service on one CPU: array `service_counters`, index `cpu * services + service`. Service 0 is "none of them".
    struct ServiceCounters {
        /// By `PacketReason`.
        by_reason: [u64; 32],
    }

    /// A sampled flow: ring buffer `samples`.
    struct Sample {
        /// Monotonic ns.
        at: u64,
        /// The client.
        client: [u32; 4],
        /// The client's port.
        client_port: u16,
        /// Fathom's port towards the server; 0 in DSR modes.
        own_port: u16,
        /// Index in `services`.
        service: u32,
        /// Index in `targets`.
        target: u32,
        /// `PacketReason`: `NewFlow` or `Moved`.
        reason: u32,
    }

    /// What the program is told when it is loaded (read-only for it).
    struct Config {
        /// Key of the SYN challenge.
        secret: [u64; 2],
        /// `config_flag`.
        flags: u32,
        /// Slots of `services`.
        services: u32,
        /// Slots of `targets`.
        targets: u32,
        /// How long a source that answered a challenge is trusted, in units of 2^27 ns.
        trust: u32,
    }
}

/// `bpf/fathom.h`.
#[must_use]
pub fn c_header() -> String {
    let mut out = String::from(
        "/* Written by `cargo xtask bpf` from crates/wire/src/packet.rs: change it there. */\n#ifndef FATHOM_H\n#define FATHOM_H\n\n",
    );
    let _ = writeln!(
        out,
        "#define LAYOUT {LAYOUT}u\n#define REASONS {REASONS}u\n"
    );
    c_reasons(&mut out);
    c_numbers(&mut out);
    c_structs(&mut out);
    out.push_str("#endif\n");
    out
}

/// The program's hash of a flow; a service's table entry is this modulo the table's size.
///
/// Addresses as in keys, ports in host order. The same on every machine: `choice_hash` in `bpf/flow.h`.
#[must_use]
pub fn choice_hash(
    saddr: [u8; 16],
    daddr: [u8; 16],
    sport: u16,
    dport: u16,
    proto: u8,
    source_only: bool,
) -> u32 {
    let mix = |h: u64, word: u64| {
        let h = (h ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^ (h >> 32)
    };
    let word = |a: &[u8; 16], i: usize| u64::from_le_bytes(core::array::from_fn(|n| a[i * 8 + n]));
    let mut h = mix(0x9e37_79b9_7f4a_7c15, word(&saddr, 0));
    h = mix(h, word(&saddr, 1));
    if !source_only {
        h = mix(h, word(&daddr, 0));
        h = mix(h, word(&daddr, 1));
        h = mix(
            h,
            u64::from(sport.swap_bytes())
                | u64::from(dport.swap_bytes()) << 16
                | u64::from(proto) << 32,
        );
    }
    mix(h, 0x2545_f491_4f6c_dd1d) as u32
}

/// `"FlowKey4"` to `"flow_key4"`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// `("addr", "[u8; 16]")` to `"u8 addr[16]"`.
fn c_field(name: &str, ty: &str) -> String {
    match ty
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .and_then(|t| t.split_once(';'))
    {
        Some((element, count)) => format!("{} {name}[{}]", element.trim(), count.trim()),
        None => format!("{ty} {name}"),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn header_on_disk_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/fathom.h");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == c_header(),
            "bpf/fathom.h is out of date: run `cargo xtask bpf`"
        );
    }

    #[test]
    fn sizes_the_program_relies_on() {
        assert_eq!(size_of::<Flow>(), 64);
        assert_eq!(size_of::<FlowKey4>(), 16);
        assert_eq!(size_of::<Service>(), 128);
        assert_eq!(size_of::<Target>(), 128);
        assert_eq!(size_of::<TargetCounters>(), 64);
    }

    #[test]
    fn reasons_are_numbered_in_order() {
        for (i, r) in PacketReason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
        }
        assert!(PacketReason::ALL.len() <= REASONS);
    }
}
