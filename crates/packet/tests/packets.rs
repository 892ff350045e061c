//! Packet tables: a packet in words goes through the program, a verdict and a packet in words come out.
//! Run by `BPF_PROG_TEST_RUN`: no interface is touched.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

#[path = "support/frames.rs"]
mod common;

use std::net::IpAddr;

use common::*;
use fathom_packet::trial::Trial;
use fathom_packet::{PacketReason, Sizes};
use fathom_wire::packet::{Own, Service, Target, flow_state, forward, service_flag, target_flag};

const VIP: &str = "192.0.2.1";
const VIP6: &str = "2001:db8::1";
const LB: &str = "10.0.0.1";
const LB6: &str = "fd00::1";
const SERVER: &str = "10.0.0.5";
const SERVER6: &str = "fd00::5";
const CLIENT: &str = "198.51.100.7";
const CLIENT6: &str = "2001:db8:c::7";

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

fn sixteen(ip: &str) -> [u8; 16] {
    match ip.parse().unwrap() {
        IpAddr::V4(a) => {
            let mut b = [0; 16];
            b[..4].copy_from_slice(&a.octets());
            b
        }
        IpAddr::V6(a) => a.octets(),
    }
}

fn service(addr: &str, port: u16, proto: u8, forward: u8) -> Service {
    Service {
        addr: sixteen(addr),
        port: port.to_be(),
        proto,
        forward,
        udp_idle: 60_000_000_000,
        listener: 9,
        ..Service::default()
    }
}

fn target(addr: &str, port: u16) -> Target {
    let v6 = addr.contains(':');
    Target {
        owner: 1,
        addr: sixteen(addr),
        outer: sixteen(if v6 { LB6 } else { LB }),
        port: port.to_be(),
        flags: target_flag::USABLE | target_flag::NEW | if v6 { target_flag::V6 } else { 0 },
        generation: 1,
        own_first: u16::from(v6),
        own_count: 1,
        dmac: SERVER_MAC,
        smac: LB_MAC,
        mtu: 1500,
        ifindex: 1,
        ..Target::default()
    }
}

/// Slot 1: 192.0.2.1:80 tcp, slot 2: 192.0.2.1:53 udp, 3 and 4 the same for IPv6; target 1 10.0.0.5, target 2 fd00::5, both
/// at the ports 8080 and (for udp) 5353 of targets 3 and 4.
fn trial(forward: u8, change: impl Fn(&mut Service)) -> Trial {
    let mut t = Trial::new(None, Sizes::small(), false).expect("loads");
    let nat = forward == forward::NAT;
    let port = |nat_port, plain| if nat { nat_port } else { plain };
    for (slot, addr, port) in [
        (1, SERVER, port(8080, 80)),
        (2, SERVER6, port(8080, 80)),
        (3, SERVER, port(5353, 53)),
        (4, SERVER6, port(5353, 53)),
    ] {
        t.target(slot, target(addr, port));
    }
    t.own(
        0,
        Own {
            addr: sixteen(LB),
            port_low: 1024,
            ports: 64_512,
            pad: 0,
        },
    );
    t.own(
        1,
        Own {
            addr: sixteen(LB6),
            port_low: 1024,
            ports: 64_512,
            pad: 0,
        },
    );
    for (slot, vip, port, proto, to) in [
        (1, VIP, 80, 6, 1),
        (2, VIP, 53, 17, 3),
        (3, VIP6, 80, 6, 2),
        (4, VIP6, 53, 17, 4),
    ] {
        let mut s = service(vip, port, proto, forward);
        change(&mut s);
        t.service(slot, s, &[to]).unwrap();
    }
    t
}

/// Runs one packet, returns the verdict and the packet in words.
fn run(t: &Trial, frame: &Frame) -> (u32, String) {
    let outcome = t.run(&frame.bytes(), 1).unwrap();
    (outcome.verdict, words(&outcome.packet))
}

/// The port the program chose, out of `...>10.0.0.5 ttl 63 tcp 1234>8080`.
fn own_port(words: &str) -> u16 {
    let at = words
        .split_whitespace()
        .find(|w| w.contains('>') && w.split('>').all(|p| p.parse::<u16>().is_ok()));
    at.unwrap().split('>').next().unwrap().parse().unwrap()
}

#[test]
fn nat_rewrites_both_ways() {
    if !permitted() {
        return;
    }
    let t = trial(forward::NAT, |_| {});
    for (out, back, client, vip, lb, server, kind, cport, vport, sport) in [
        (
            tcp(CLIENT, 4000, VIP, 80, "S"),
            "SA",
            CLIENT,
            VIP,
            LB,
            SERVER,
            "tcp",
            4000,
            80,
            8080,
        ),
        (
            udp(CLIENT, 4001, VIP, 53),
            "",
            CLIENT,
            VIP,
            LB,
            SERVER,
            "udp",
            4001,
            53,
            5353,
        ),
        (
            tcp(CLIENT6, 4000, VIP6, 80, "S"),
            "SA",
            CLIENT6,
            VIP6,
            LB6,
            SERVER6,
            "tcp",
            4000,
            80,
            8080,
        ),
        (
            udp(CLIENT6, 4001, VIP6, 53),
            "",
            CLIENT6,
            VIP6,
            LB6,
            SERVER6,
            "udp",
            4001,
            53,
            5353,
        ),
    ] {
        for vlan in [None, Some(42)] {
            let mut out = out.clone();
            out.vlan = vlan;
            let tag = if vlan.is_some() { " vlan 42" } else { "" };
            let (verdict, seen) = run(&t, &out);
            let own = own_port(&seen);
            let letters = if kind == "tcp" { " S" } else { "" };
            assert_eq!(
                (verdict, seen),
                (
                    TX,
                    format!("lb>server{tag} {lb}>{server} ttl 63 {kind} {own}>{sport}{letters}")
                )
            );
            // The reply, as the server sends it.
            let mut reply = if kind == "tcp" {
                tcp(server, sport, lb, own, back)
            } else {
                udp(server, sport, lb, own)
            };
            reply.vlan = vlan;
            let letters = if kind == "tcp" { " SA" } else { "" };
            assert_eq!(
                run(&t, &reply),
                (
                    TX,
                    format!("lb>client{tag} {vip}>{client} ttl 63 {kind} {vport}>{cport}{letters}")
                )
            );
            // The same flow again keeps its port.
            assert_eq!(own_port(&run(&t, &out).1), own);
        }
    }
    assert_eq!(t.count(1, PacketReason::NewFlow), 1);
    let c = t.counters(1);
    assert_eq!((c.packets_in, c.packets_out, c.flows), (4, 2, 1));
    assert_eq!(c.bytes_in, 4 * 45);
}

#[test]
fn preserved_source_keeps_the_client_and_its_port() {
    if !permitted() {
        return;
    }
    let t = trial(forward::NAT, |s| s.flags |= service_flag::PRESERVE_SOURCE);
    let seen = run(&t, &tcp(CLIENT, 4000, VIP, 80, "S"));
    assert_eq!(
        seen,
        (
            TX,
            format!("lb>server {CLIENT}>{SERVER} ttl 63 tcp 4000>8080 S")
        )
    );
    let seen = run(&t, &tcp(SERVER, 8080, CLIENT, 4000, "SA"));
    assert_eq!(
        seen,
        (
            TX,
            format!("lb>client {VIP}>{CLIENT} ttl 63 tcp 80>4000 SA")
        )
    );
}

#[test]
fn direct_modes_send_the_packet_on_whole() {
    if !permitted() {
        return;
    }
    for (forward, outer4, outer6) in [
        (forward::DSR_MAC, "", ""),
        (
            forward::DSR_IPIP,
            "10.0.0.1>10.0.0.5 ttl 64 [",
            "fd00::1>fd00::5 ttl 64 [",
        ),
        (
            forward::DSR_GUE,
            "10.0.0.1>10.0.0.5 ttl 64 udp GUE [",
            "fd00::1>fd00::5 ttl 64 udp GUE [",
        ),
    ] {
        let t = trial(forward, |_| {});
        for vlan in [None, Some(42)] {
            for (mut packet, outer, inner) in [
                (
                    tcp(CLIENT, 4000, VIP, 80, "S"),
                    outer4,
                    format!("{CLIENT}>{VIP} ttl 63 tcp 4000>80 S"),
                ),
                (
                    udp(CLIENT, 4001, VIP, 53),
                    outer4,
                    format!("{CLIENT}>{VIP} ttl 63 udp 4001>53"),
                ),
                (
                    tcp(CLIENT6, 4000, VIP6, 80, "S"),
                    outer6,
                    format!("{CLIENT6}>{VIP6} ttl 63 tcp 4000>80 S"),
                ),
                // Not the first segment, and no flow: another machine of the fleet may have opened it.
                (
                    tcp(CLIENT6, 4002, VIP6, 80, "A"),
                    outer6,
                    format!("{CLIENT6}>{VIP6} ttl 63 tcp 4002>80 A"),
                ),
            ] {
                packet.vlan = vlan;
                let (verdict, seen) = run(&t, &packet);
                let close = if outer.is_empty() { "" } else { "]" };
                let tag = if vlan.is_some() { " vlan 42" } else { "" };
                let mut expected = format!("lb>server{tag} {outer}{inner}{close}");
                if forward == forward::DSR_GUE {
                    let port = seen
                        .split(">6080")
                        .next()
                        .unwrap()
                        .rsplit(' ')
                        .next()
                        .unwrap()
                        .to_owned();
                    assert!(port.parse::<u16>().unwrap() >= 0x8000, "{port}");
                    expected = expected.replace("GUE", &format!("{port}>6080"));
                }
                assert_eq!((verdict, seen), (TX, expected));
            }
        }
    }
}

#[test]
fn what_is_not_ours_or_cannot_be_served_is_passed_up_unchanged() {
    if !permitted() {
        return;
    }
    let mut t = trial(forward::NAT, |_| {});
    t.service(5, service(VIP, 81, 6, forward::NAT), &[])
        .unwrap();
    let arp = {
        let mut f = tcp(CLIENT, 1, VIP, 80, "S").bytes();
        f[12..14].copy_from_slice(&[8, 6]);
        f
    };
    assert_eq!(t.run(&arp, 1).unwrap().verdict, PASS);
    for (packet, service, reason) in [
        (tcp(CLIENT, 4000, VIP, 443, "S"), 0, None),
        (udp(CLIENT, 4000, "192.0.2.99", 53), 0, None),
        (
            tcp(CLIENT, 4000, VIP, 80, "A"),
            1,
            Some(PacketReason::NoFlow),
        ),
        (
            tcp(CLIENT, 4000, VIP, 81, "S"),
            5,
            Some(PacketReason::NoServer),
        ),
        (
            frame(
                CLIENT,
                VIP,
                Body::Icmp {
                    kind: 8,
                    code: 0,
                    rest: 1,
                },
            )
            .payload(vec![0x45; 40]),
            0,
            None,
        ),
        (
            frame(CLIENT6, VIP6, Body::Raw(132)),
            4,
            Some(PacketReason::Unsupported),
        ),
    ] {
        let before = reason.map_or(0, |r| t.count(service, r));
        let outcome = t.run(&packet.bytes(), 1).unwrap();
        assert_eq!(
            (outcome.verdict, outcome.packet),
            (PASS, packet.bytes()),
            "{packet:?}"
        );
        if let Some(r) = reason {
            assert_eq!(t.count(service, r), before + 1, "{packet:?}");
        }
    }
}

#[test]
fn malformed_packets_are_dropped_if_they_are_for_us() {
    if !permitted() {
        return;
    }
    let t = trial(forward::NAT, |_| {});
    let good = tcp(CLIENT, 4000, VIP, 80, "S").bytes();
    let good6 = tcp(CLIENT6, 4000, VIP6, 80, "S").bytes();
    let datagram = udp(CLIENT, 4000, VIP, 53).bytes();
    let damaged = |base: &[u8], at: usize, value: u8| {
        let mut f = base.to_vec();
        f[at] = value;
        f
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("header length 16", damaged(&good, 14, 0x44)),
        ("version 5", damaged(&good, 14, 0x55)),
        ("total length beyond the frame", damaged(&good, 16, 0x40)),
        ("total length within the header", damaged(&good, 17, 10)),
        ("data offset 4", damaged(&good, 14 + 20 + 12, 0x40)),
        (
            "data offset beyond the segment",
            damaged(&good, 14 + 20 + 12, 0xf0),
        ),
        ("udp length 7", damaged(&datagram, 14 + 20 + 5, 7)),
        (
            "udp length beyond the packet",
            damaged(&datagram, 14 + 20 + 4, 1),
        ),
        (
            "ipv6 payload beyond the frame",
            damaged(&good6, 14 + 4, 0x40),
        ),
        ("ipv6 version 5", damaged(&good6, 14, 0x50)),
        ("SYN and FIN", tcp(CLIENT, 4000, VIP, 80, "SF").bytes()),
        ("SYN and RST", tcp(CLIENT, 4000, VIP, 80, "SR").bytes()),
        ("no flags", tcp(CLIENT, 4000, VIP, 80, "").bytes()),
    ];
    let count = || {
        (1..=4)
            .map(|s| t.count(s, PacketReason::Malformed))
            .sum::<u64>()
    };
    for (what, bytes) in cases {
        let before = count();
        assert_eq!(t.run(&bytes, 1).unwrap().verdict, DROP, "{what}");
        assert_eq!(count(), before + 1, "{what}");
    }
    let others = damaged(&tcp(CLIENT, 4000, "192.0.2.77", 80, "S").bytes(), 14, 0x44);
    assert_eq!(
        t.run(&others, 1).unwrap().verdict,
        PASS,
        "not ours to judge"
    );
}

#[test]
fn every_cut_of_a_packet_is_survived() {
    if !permitted() {
        return;
    }
    let t = trial(forward::DSR_GUE, |_| {});
    for full in [
        tcp(CLIENT, 4000, VIP, 80, "S").bytes(),
        tcp(CLIENT6, 4000, VIP6, 80, "S").bytes(),
        frame(
            CLIENT,
            VIP,
            Body::Icmp {
                kind: 3,
                code: 4,
                rest: 1400,
            },
        )
        .payload(tcp(VIP, 80, CLIENT, 4000, "A").packet())
        .bytes(),
    ] {
        for length in 14..full.len() {
            t.run(&full[..length], 1).unwrap();
        }
    }
}

#[test]
fn icmp_errors_reach_the_side_they_concern() {
    if !permitted() {
        return;
    }
    let router = "198.51.100.254";
    let router6 = "2001:db8:c::fe";
    let t = trial(forward::NAT, |_| {});
    for (client, vip, lb, server, router, needed, unreachable, words_needed, words_unreachable) in [
        (
            CLIENT,
            VIP,
            LB,
            SERVER,
            router,
            (3, 4),
            (3, 3),
            "icmp 3/4 mtu 1400",
            "icmp 3/3",
        ),
        (
            CLIENT6,
            VIP6,
            LB6,
            SERVER6,
            router6,
            (2, 0),
            (1, 4),
            "icmp 2/0 mtu 1400",
            "icmp 1/4",
        ),
    ] {
        let (_, seen) = run(&t, &udp(client, 4001, vip, 53));
        let own = own_port(&seen);
        // A router on the way to the client cannot carry what Fathom sent there: the server must hear it.
        let quoted = udp(vip, 53, client, 4001).packet();
        let error = frame(
            router,
            vip,
            Body::Icmp {
                kind: needed.0,
                code: needed.1,
                rest: 1400,
            },
        )
        .payload(quoted);
        assert_eq!(
            run(&t, &error),
            (
                TX,
                format!(
                    "lb>server {router}>{server} ttl 63 {words_needed} [{server}>{lb} ttl 64 udp 5353>{own} bad-sum]"
                )
            )
        );
        // The server has nobody at that port: the client must hear it, about its own packet.
        let quoted = udp(lb, own, server, 5353).packet();
        let error = frame(
            server,
            lb,
            Body::Icmp {
                kind: unreachable.0,
                code: unreachable.1,
                rest: 0,
            },
        )
        .payload(quoted);
        assert_eq!(
            run(&t, &error),
            (
                TX,
                format!(
                    "lb>client {vip}>{client} ttl 63 {words_unreachable} [{client}>{vip} ttl 64 udp 4001>53 bad-sum]"
                )
            )
        );
    }
    assert_eq!(t.count(2, PacketReason::IcmpError), 2);
    // Of a flow nobody knows.
    let quoted = udp(VIP, 53, CLIENT, 9).packet();
    let error = frame(
        router,
        VIP,
        Body::Icmp {
            kind: 3,
            code: 4,
            rest: 1400,
        },
    )
    .payload(quoted);
    assert_eq!(run(&t, &error).0, PASS);

    // The server that the flow belongs to gets it whole.
    let t = trial(forward::DSR_IPIP, |_| {});
    run(&t, &tcp(CLIENT, 4000, VIP, 80, "S"));
    let quoted = tcp(VIP, 80, CLIENT, 4000, "A").packet();
    let error = frame(
        router,
        VIP,
        Body::Icmp {
            kind: 3,
            code: 4,
            rest: 1400,
        },
    )
    .payload(quoted);
    assert_eq!(
        run(&t, &error),
        (
            TX,
            format!(
                "lb>server {LB}>{SERVER} ttl 64 [{router}>{VIP} ttl 63 icmp 3/4 mtu 1400 [{VIP}>{CLIENT} ttl 64 tcp 80>4000 A]]"
            )
        )
    );
}

#[test]
fn too_big_for_the_tunnel_is_answered_with_the_mtu() {
    if !permitted() {
        return;
    }
    for (forward, added4, added6) in [(forward::DSR_IPIP, 20, 40), (forward::DSR_GUE, 28, 48)] {
        let t = trial(forward, |_| {});
        for vlan in [None, Some(42)] {
            let tag = if vlan.is_some() { " vlan 42" } else { "" };
            let mut big = tcp(CLIENT, 4000, VIP, 80, "A").payload(vec![7; 1460]);
            big.vlan = vlan;
            let (verdict, seen) = run(&t, &big);
            let mtu = 1500 - added4;
            assert_eq!(verdict, TX);
            assert_eq!(
                seen,
                format!(
                    "lb>client{tag} {VIP}>{CLIENT} ttl 64 icmp 3/4 mtu {mtu} [short {CLIENT}>{VIP} ttl 64 tcp 4000>80 quoted]"
                )
            );
            let mut big = tcp(CLIENT6, 4000, VIP6, 80, "A").payload(vec![7; 1440]);
            big.vlan = vlan;
            let (verdict, seen) = run(&t, &big);
            let mtu = 1500 - added6;
            assert_eq!(verdict, TX);
            assert_eq!(
                seen,
                format!(
                    "lb>client{tag} {VIP6}>{CLIENT6} ttl 64 icmp 2/0 mtu {mtu} [{CLIENT6}>{VIP6} ttl 64 tcp 4000>80 quoted]"
                )
            );
        }
        assert_eq!(t.count(1, PacketReason::TooBig), 2);
        let fits = tcp(CLIENT, 4000, VIP, 80, "A").payload(vec![7; 1460 - added4]);
        assert!(run(&t, &fits).1.starts_with("lb>server"));
    }
}

#[test]
fn fragments_follow_their_first_part() {
    if !permitted() {
        return;
    }
    let t = trial(forward::NAT, |_| {});
    for (client, vip, lb, server) in [(CLIENT, VIP, LB, SERVER), (CLIENT6, VIP6, LB6, SERVER6)] {
        let mut first = udp(client, 4001, vip, 53).payload(vec![1; 1000]);
        first.fragment = (0, true);
        let mut later = first.clone().payload(vec![2; 80]);
        later.fragment = (126, false);
        let (verdict, seen) = run(&t, &first);
        let own = own_port(&seen);
        assert_eq!(
            (verdict, seen),
            (TX, format!("lb>server {lb}>{server} ttl 63 udp {own}>5353"))
        );
        assert_eq!(
            run(&t, &later),
            (TX, format!("lb>server {lb}>{server} ttl 63 fragment 126"))
        );
        later.id = 99;
        assert_eq!(run(&t, &later).0, PASS, "its first part was never seen");
    }
    assert_eq!(
        t.count(2, PacketReason::Fragment) + t.count(4, PacketReason::Fragment),
        4
    );
}

#[test]
fn a_packet_whose_time_is_up_goes_no_further() {
    if !permitted() {
        return;
    }
    for forward in [
        forward::NAT,
        forward::DSR_MAC,
        forward::DSR_IPIP,
        forward::DSR_GUE,
    ] {
        let t = trial(forward, |_| {});
        for mut packet in [
            tcp(CLIENT, 4000, VIP, 80, "S"),
            tcp(CLIENT6, 4000, VIP6, 80, "S"),
        ] {
            packet.ttl = 1;
            assert_eq!(run(&t, &packet).0, DROP);
        }
        assert_eq!(t.count(1, PacketReason::TtlExpired), 1);
        assert_eq!(t.count(3, PacketReason::TtlExpired), 1);
    }
}

#[test]
fn lists_and_rates_keep_sources_out() {
    if !permitted() {
        return;
    }
    let mut t = trial(forward::DSR_MAC, |s| {
        s.flags |= service_flag::DENY | service_flag::ALLOW
    });
    t.allow(
        9,
        &[
            "198.51.100.0/24".parse().unwrap(),
            "2001:db8:c::/48".parse().unwrap(),
        ],
    )
    .unwrap();
    t.deny(9, &["198.51.100.128/25".parse().unwrap()]).unwrap();
    for (source, verdict, reason) in [
        (CLIENT, TX, None),
        ("198.51.100.200", DROP, Some(PacketReason::Denied)),
        ("203.0.113.1", DROP, Some(PacketReason::NotAllowed)),
    ] {
        let before = reason.map(|r| t.count(1, r));
        assert_eq!(
            run(&t, &tcp(source, 4000, VIP, 80, "S")).0,
            verdict,
            "{source}"
        );
        assert_eq!(reason.map(|r| t.count(1, r)), before.map(|n| n + 1));
    }
    assert_eq!(run(&t, &tcp(CLIENT6, 4000, VIP6, 80, "S")).0, TX);
    assert_eq!(run(&t, &tcp("2001:db9::1", 4000, VIP6, 80, "S")).0, DROP);

    // Three flows an hour.
    let hour = 3600 * 1_000_000_000u64;
    let t = trial(forward::DSR_MAC, |s| {
        (s.rate_interval, s.rate_burst) = (hour / 3, hour)
    });
    let verdicts: Vec<u32> = (0..5)
        .map(|i| run(&t, &tcp(CLIENT, 4000 + i, VIP, 80, "S")).0)
        .collect();
    assert_eq!(verdicts, [TX, TX, TX, DROP, DROP]);
    assert_eq!(
        run(&t, &tcp(CLIENT, 4000, VIP, 80, "A")).0,
        TX,
        "an open flow is not limited"
    );
    assert_eq!(
        run(&t, &tcp("198.51.100.8", 4000, VIP, 80, "S")).0,
        TX,
        "nor is another source"
    );
    assert_eq!(t.count(1, PacketReason::RateLimited), 2);
}

#[test]
fn a_flood_of_syns_is_challenged_and_a_true_client_gets_through() {
    if !permitted() {
        return;
    }
    for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        // From the first SYN on.
        let t = trial(forward::NAT, |s| s.syn_limit = 1);
        run(&t, &tcp(client, 3999, vip, 80, "S"));
        let syn = tcp(client, 4000, vip, 80, "S");
        let answer = t.run(&syn.bytes(), 1).unwrap();
        assert_eq!(
            (answer.verdict, words(&answer.packet)),
            (
                TX,
                format!("lb>client {vip}>{client} ttl 64 tcp 80>4000 SA")
            )
        );
        let at = answer.packet.len() - 20;
        let cookie = u32::from_be_bytes(answer.packet[at + 8..at + 12].try_into().unwrap());
        assert_ne!(cookie, 1001);
        // RFC 9293: <SEQ=SEG.ACK><CTL=RST>.
        let rst = |seq| {
            frame(
                client,
                vip,
                Body::Tcp {
                    sport: 4000,
                    dport: 80,
                    flags: 4,
                    seq,
                    ack: 0,
                },
            )
            .payload("")
        };
        assert_eq!(run(&t, &rst(cookie ^ 1)).0, PASS, "a guess");
        assert_eq!(
            run(&t, &syn).1.rsplit(' ').next(),
            Some("SA"),
            "still challenged"
        );
        assert_eq!(run(&t, &rst(cookie)).0, DROP);
        assert!(run(&t, &syn).1.starts_with("lb>server"), "let through");
        let service = if client == CLIENT { 1 } else { 3 };
        assert_eq!(t.count(service, PacketReason::CookieSent), 2);
        assert_eq!(t.count(service, PacketReason::CookieAccepted), 1);
    }
}

#[test]
fn flows_stay_when_the_table_changes_and_leave_a_server_that_is_down() {
    if !permitted() {
        return;
    }
    let mut t = trial(forward::NAT, |_| {});
    t.target(9, target("10.0.0.9", 8080));
    let (_, first) = run(&t, &tcp(CLIENT, 4000, VIP, 80, "S"));
    assert!(first.contains(SERVER));
    t.service(1, service(VIP, 80, 6, forward::NAT), &[9])
        .unwrap();
    assert!(
        run(&t, &tcp(CLIENT, 4000, VIP, 80, "A")).1.contains(SERVER),
        "an open flow stays"
    );
    assert!(
        run(&t, &tcp(CLIENT, 4001, VIP, 80, "S"))
            .1
            .contains("10.0.0.9"),
        "a new one does not"
    );
    t.target(
        1,
        Target {
            flags: 0,
            ..target(SERVER, 8080)
        },
    );
    assert!(
        run(&t, &tcp(CLIENT, 4000, VIP, 80, "A"))
            .1
            .contains("10.0.0.9"),
        "down: it moves, and is reset there"
    );
    assert_eq!(t.count(1, PacketReason::Moved), 1);
    // A slot given to another server is another server.
    t.target(
        9,
        Target {
            generation: 2,
            ..target("10.0.0.10", 8080)
        },
    );
    assert!(
        run(&t, &tcp(CLIENT, 4001, VIP, 80, "A"))
            .1
            .contains("10.0.0.10")
    );
}

#[test]
fn affinity_brings_a_source_back_to_its_server() {
    if !permitted() {
        return;
    }
    let mut t = trial(forward::DSR_MAC, |s| s.affinity_ttl = 3600 * 1_000_000_000);
    t.target(
        9,
        Target {
            dmac: [9; 6],
            ..target("10.0.0.9", 80)
        },
    );
    assert!(
        run(&t, &tcp(CLIENT, 4000, VIP, 80, "S"))
            .1
            .starts_with("lb>server")
    );
    let mut s = service(VIP, 80, 6, forward::DSR_MAC);
    s.affinity_ttl = 3600 * 1_000_000_000;
    t.service(1, s, &[9]).unwrap();
    assert!(
        run(&t, &tcp(CLIENT, 4001, VIP, 80, "S"))
            .1
            .starts_with("lb>server"),
        "remembered"
    );
    assert!(
        run(&t, &tcp("198.51.100.9", 4001, VIP, 80, "S"))
            .1
            .starts_with("lb>[09"),
        "a stranger"
    );
    // A draining server keeps what it has and gets nothing new.
    t.target(
        1,
        Target {
            flags: target_flag::USABLE,
            ..target(SERVER, 80)
        },
    );
    assert!(
        run(&t, &tcp(CLIENT, 4000, VIP, 80, "A"))
            .1
            .starts_with("lb>server")
    );
    assert!(
        run(&t, &tcp(CLIENT, 4002, VIP, 80, "S"))
            .1
            .starts_with("lb>[09")
    );
}

#[test]
fn ports_are_used_again_once_their_flow_has_ended_and_not_before() {
    if !permitted() {
        return;
    }
    let t = trial(forward::NAT, |_| {});
    t.own(
        0,
        Own {
            addr: sixteen(LB),
            port_low: 5000,
            ports: 2,
            pad: 0,
        },
    );
    let ports: Vec<u16> = (0..2)
        .map(|i| own_port(&run(&t, &tcp(CLIENT, 4000 + i, VIP, 80, "S")).1))
        .collect();
    assert!(ports.contains(&5000) && ports.contains(&5001), "{ports:?}");
    assert_eq!(run(&t, &tcp(CLIENT, 4002, VIP, 80, "S")).0, PASS);
    assert_eq!(t.count(1, PacketReason::PortsExhausted), 1);
    assert_eq!(t.counters(1).failed, 1);
    // The same client opening the same connection anew after an RST takes its own port back.
    run(&t, &tcp(CLIENT, 4000, VIP, 80, "R"));
    assert_eq!(run(&t, &tcp(CLIENT, 4000, VIP, 80, "S")).0, TX);
    let _ = flow_state::RST;
}

#[test]
fn choice_is_the_same_in_rust() {
    if !permitted() {
        return;
    }
    let mut t = trial(forward::DSR_MAC, |_| {});
    for i in 0..7u8 {
        t.target(
            10 + u32::from(i),
            Target {
                dmac: [i; 6],
                ..target(SERVER, 80)
            },
        );
    }
    for source_only in [false, true] {
        let mut s = service(VIP, 80, 6, forward::DSR_MAC);
        s.flags = if source_only {
            service_flag::HASH_SOURCE
        } else {
            0
        };
        t.service(1, s, &[10, 11, 12, 13, 14, 15, 16]).unwrap();
        for port in 5000..5040 {
            let client = format!("198.51.100.{}", port % 200);
            let sport = port + if source_only { 100 } else { 0 };
            let hash = fathom_wire::packet::choice_hash(
                sixteen(&client),
                sixteen(VIP),
                sport,
                80,
                6,
                source_only,
            );
            let outcome = t
                .run(&tcp(&client, sport, VIP, 80, "S").bytes(), 1)
                .unwrap();
            assert_eq!(u32::from(outcome.packet[0]), hash % 7, "{client}:{sport}");
        }
    }
}

#[test]
fn unfinished_checksums_stay_unfinished() {
    if !permitted() {
        return;
    }
    let t = trial(forward::NAT, |_| {});
    t.target(
        3,
        Target {
            flags: target_flag::USABLE | target_flag::NEW | target_flag::PARTIAL,
            ..target(SERVER, 5353)
        },
    );
    // As the kernel leaves it to a device: the pseudo header's sum.
    let packet = udp(CLIENT, 4001, VIP, 53);
    let mut bytes = packet.bytes();
    let pseudo =
        |src: &str, dst: &str| sum(&[&sixteen(src)[..4], &sixteen(dst)[..4], &[0, 17, 0, 13]]);
    bytes[40..42].copy_from_slice(&pseudo(CLIENT, VIP).to_be_bytes());
    let outcome = t.run(&bytes, 1).unwrap();
    assert_eq!(outcome.packet[40..42], pseudo(LB, SERVER).to_be_bytes());
    // Finished sums stay finished, the one included that looks like a pseudo header's.
    for n in 0..=u16::MAX {
        let candidate = udp(CLIENT, 4001, VIP, 53).payload(vec![(n >> 8) as u8, n as u8, 1, 2, 3]);
        if candidate.bytes()[40..42] == pseudo(CLIENT, VIP).to_be_bytes() || n % 9000 == 0 {
            let (_, seen) = run(&t, &candidate);
            assert!(!seen.contains("bad"), "{seen}");
        }
    }
}
