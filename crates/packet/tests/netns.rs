//! End to end through namespaces: client, switch, Fathom, servers. Needs root; skipped aloud without.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

#[path = "support/frames.rs"]
mod common;
#[path = "support/net.rs"]
mod net;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::{Algorithm, Forward, Rate};
use fathom_core::{Endpoints, Health, Pool};
use fathom_packet::trial::Trial;
use fathom_packet::{Error, PacketReason, Plane, Sizes};
use net::*;

const VIP: &str = "10.77.0.100";
const VIP6: &str = "fd77::100";

struct Pools(HashMap<String, Arc<Pool>>);

impl Pools {
    fn of(pools: &[&Arc<Pool>]) -> Self {
        Self(
            pools
                .iter()
                .map(|p| (p.name().to_string(), Arc::clone(p)))
                .collect(),
        )
    }

    fn find(&self, name: &str) -> Option<Arc<Pool>> {
        self.0.get(name).cloned()
    }
}

fn ready(settings: &[(&str, &str)]) -> Option<Net> {
    if !common::permitted() {
        return None;
    }
    let net = Net::up(settings)?;
    net.run(
        "lb1",
        &format!("ip addr add {VIP}/32 dev eth0; ip -6 addr add {VIP6}/128 dev eth0 nodad"),
    );
    Some(net)
}

/// How often each server answers new connections.
fn spread(net: &Net, to: SocketAddr, times: usize) -> BTreeMap<String, usize> {
    net.within("client", || {
        let mut seen = BTreeMap::new();
        for _ in 0..times {
            *seen.entry(ask(to).expect("answers").1).or_default() += 1;
        }
        seen
    })
}

fn modes(settings: &[(&str, &str)], modes: &[Forward], native: bool) {
    let Some(mut net) = ready(settings) else {
        return;
    };
    for b in ["b1", "b2"] {
        net.run(
            b,
            &format!("ip addr add {VIP}/32 dev lo; ip -6 addr add {VIP6}/128 dev lo nodad"),
        );
        net.serve(b, 80, &[&format!("{VIP}:53"), &format!("[{VIP6}]:53")]);
        net.serve(b, 8080, &["0.0.0.0:5353", "[::]:5353"]);
        // What comes in by a tunnel is answered by another way; and what is answered must leave room for the tunnel.
        net.run(b, "ip route change default via 10.77.0.1 advmss 1400; ip route change 10.77.0.0/24 dev eth0 proto kernel src $(ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1) advmss 1400; ip -6 route add fd77::10 dev eth0 advmss 1380");
    }
    let helper = Trial::new(None, Sizes::small(), false).unwrap();
    let mut kept = Vec::new();
    for b in ["b1", "b2"] {
        kept.push(net.within(b, || helper.attach("fathom_decap", "eth0", false).unwrap()));
    }
    if native {
        // The switch's side of Fathom's cable takes native frames only with a program of its own.
        net.run("lb1", "ethtool -K eth0 gro on");
        kept.push(net.within("sw", || {
            helper.attach("fathom_pass", "p_lb1", true).unwrap()
        }));
    }
    let registry = Endpoints::default();
    for forward in modes.iter().copied() {
        let nat = forward == Forward::Nat;
        let (tcp_port, udp_port) = if nat { (8080, 5353) } else { (80, 53) };
        let servers = |port: u16| {
            ["10.77.0.21", "10.77.0.22", "[fd77::21]", "[fd77::22]"].map(|a| format!("{a}:{port}"))
        };
        let make = |name: &str, port| {
            let s = servers(port);
            pool(
                name,
                &[
                    ("b1", &s[0], false),
                    ("b2", &s[1], false),
                    ("b1v6", &s[2], false),
                    ("b2v6", &s[3], false),
                ],
                Algorithm::RoundRobin,
                &registry,
            )
        };
        let (web, dns) = (make("web", tcp_port), make("dns", udp_port));
        let pools = Pools::of(&[&web, &dns]);
        let plans = [
            listener(
                "web",
                &[&format!("{VIP}:80"), &format!("[{VIP6}]:80")],
                false,
                "web",
                forward,
            ),
            listener(
                "dns",
                &[&format!("{VIP}:53"), &format!("[{VIP6}]:53")],
                true,
                "dns",
                forward,
            ),
        ];
        net.within("lb1", || {
            let mut options = options(&net);
            options.mode = if native {
                fathom_packet::Mode::Native
            } else {
                fathom_packet::Mode::Auto
            };
            let mut plane = Plane::open(options).unwrap();
            apply(&mut plane, &plans, &|n| pools.find(n));
            let status = plane.status();
            assert_eq!(status.attachments.len(), 1, "{status:?}");
            assert_eq!(status.attachments[0].native, native, "{status:?}");
            assert!(status.unreachable.is_empty(), "{status:?}");
            net.within("client", || {
                for vip in [VIP.to_owned(), format!("[{VIP6}]")] {
                    let mut names = std::collections::BTreeSet::new();
                    let to: SocketAddr = format!("{vip}:80").parse().unwrap();
                    for i in 0..12 {
                        let (mut stream, name) =
                            ask(to).unwrap_or_else(|e| panic!("{forward:?} tcp {to}: {e}"));
                        exchange(&mut stream, if i == 0 { 1 << 20 } else { 3000 });
                        names.insert(name);
                    }
                    let to: SocketAddr = format!("{vip}:53").parse().unwrap();
                    for _ in 0..12 {
                        names.insert(
                            ask_udp(to).unwrap_or_else(|e| panic!("{forward:?} udp {to}: {e}")),
                        );
                    }
                    assert_eq!(
                        names.len(),
                        2,
                        "{forward:?}: both servers are used: {names:?}"
                    );
                }
            });
            let stats = plane.stats();
            for listener in &stats.listeners {
                assert_eq!(listener.reason(PacketReason::NewFlow), 24, "{stats:?}");
                let flows: u64 = listener.servers.iter().map(|s| s.flows).sum();
                assert_eq!(flows, 24);
                assert!(
                    listener
                        .servers
                        .iter()
                        .all(|s| s.packets_in > 0 && (s.packets_out > 0) == nat),
                    "{stats:?}"
                );
            }
            let flows = plane.flows(1000);
            assert_eq!(flows.len(), 48, "every flow is in the log");
            assert!(
                flows
                    .iter()
                    .all(|f| (f.own_port.is_some()) == nat && !f.moved)
            );
            plane.close().unwrap();
        });
    }
    drop(kept);
}

#[test]
fn every_mode_carries_tcp_and_udp_of_both_families() {
    modes(
        &[],
        &[
            Forward::Nat,
            Forward::DsrMac,
            Forward::DsrIpip,
            Forward::DsrGue,
        ],
        false,
    );
}

#[test]
fn natively_too() {
    modes(&[], &[Forward::Nat, Forward::DsrMac], true);
}

#[test]
fn nat_works_while_checksums_are_left_to_devices() {
    modes(
        &[("OFFLOAD", "on")],
        &[Forward::Nat, Forward::DsrMac],
        false,
    );
}

#[test]
fn drained_killed_and_weighed_servers() {
    let Some(mut net) = ready(&[]) else { return };
    for b in ["b1", "b2", "b3"] {
        net.serve(b, 8080, &[]);
    }
    let registry = Endpoints::default();
    let web = pool(
        "web",
        &[
            ("b1", "10.77.0.21:8080", false),
            ("b2", "10.77.0.22:8080", false),
            ("b3", "10.77.0.23:8080", true),
        ],
        Algorithm::RoundRobin,
        &registry,
    );
    let pools = Pools::of(&[&web]);
    let plans = [listener(
        "web",
        &[&format!("{VIP}:80")],
        false,
        "web",
        Forward::Nat,
    )];
    let to: SocketAddr = format!("{VIP}:80").parse().unwrap();
    let net = &net;
    net.within("lb1", || {
        let mut plane = Plane::open(options(net)).unwrap();
        apply(&mut plane, &plans, &|n| pools.find(n));
        let find = |name: &str| pools.find(name);
        let (mut old, name) = net.within("client", || {
            loop {
                let (stream, name) = ask(to).unwrap();
                if name == "b1" {
                    break (stream, name);
                }
            }
        });
        assert_eq!(name, "b1");

        web.set_draining("b1", true).unwrap();
        plane.sync(&find, now()).unwrap();
        assert_eq!(
            spread(net, to, 10).into_keys().collect::<Vec<_>>(),
            ["b2"],
            "drained: nothing new"
        );
        exchange(&mut old, 100_000);

        web.set_draining("b1", false).unwrap();
        web.set_weight("b2", Some(0)).unwrap();
        plane.sync(&find, now()).unwrap();
        assert_eq!(
            spread(net, to, 10).into_keys().collect::<Vec<_>>(),
            ["b1"],
            "weight 0: nothing new"
        );
        web.set_weight("b1", Some(3)).unwrap();
        web.set_weight("b2", Some(1)).unwrap();
        plane.sync(&find, now()).unwrap();
        // By the table's shares, not by luck: 3 to 1 of 400 within what chance allows (sigma 8.7).
        let seen = spread(net, to, 400);
        assert!((240..=360).contains(&seen["b1"]), "{seen:?}");

        let health = |name: &str, health| {
            let members = web.members();
            members
                .iter()
                .find(|m| m.is_named(name))
                .unwrap()
                .endpoint()
                .set_health(now(), health);
        };
        health("b1", Health::Down);
        plane.sync(&find, now()).unwrap();
        assert_eq!(spread(net, to, 10).into_keys().collect::<Vec<_>>(), ["b2"]);
        // Its connections are not left to hang: the server they move to knows nothing of them.
        old.write_all(b"x").unwrap();
        let gone = old.read(&mut [0; 10]);
        assert!(gone.is_err() || gone.is_ok_and(|n| n == 0), "reset");
        health("b2", Health::Down);
        plane.sync(&find, now()).unwrap();
        assert_eq!(
            spread(net, to, 10).into_keys().collect::<Vec<_>>(),
            ["b3"],
            "the backup"
        );
        health("b3", Health::Down);
        plane.sync(&find, now()).unwrap();
        net.within("client", || {
            assert!(ask(to).is_err(), "passed up, where nobody listens")
        });
        let stats = plane.stats();
        assert!(stats.listeners[0].reason(PacketReason::NoServer) > 0);
        assert!(stats.listeners[0].reason(PacketReason::Moved) > 0);
        health("b1", Health::Up);
        plane.sync(&find, now()).unwrap();
        assert_eq!(spread(net, to, 4).into_keys().collect::<Vec<_>>(), ["b1"]);
        plane.close().unwrap();
    });
}

#[test]
fn a_restart_in_the_middle_of_a_transfer_loses_nothing() {
    let Some(mut net) = ready(&[]) else { return };
    net.serve("b1", 8080, &[]);
    net.serve("b2", 8080, &[]);
    let registry = Endpoints::default();
    let web = pool(
        "web",
        &[
            ("b1", "10.77.0.21:8080", false),
            ("b2", "10.77.0.22:8080", false),
        ],
        Algorithm::RoundRobin,
        &registry,
    );
    let pools = Pools::of(&[&web]);
    let plans = [listener(
        "web",
        &[&format!("{VIP}:80")],
        false,
        "web",
        Forward::Nat,
    )];
    let to: SocketAddr = format!("{VIP}:80").parse().unwrap();
    let find = |name: &str| pools.find(name);
    let net = &net;
    std::thread::scope(|s| {
        net.within("lb1", || {
            let mut plane = Plane::open(options(net)).unwrap();
            apply(&mut plane, &plans, &find);
            drop(plane);
        });
        let transfers: Vec<_> = (0..3)
            .map(|_| {
                s.spawn(|| {
                    net.within("client", || {
                        let (mut stream, _) = ask(to).expect("served by what is pinned");
                        for _ in 0..10 {
                            exchange(&mut stream, 1 << 20);
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    });
                })
            })
            .collect();
        net.within("lb1", || {
            let mut begun = 0;
            while transfers.iter().any(|t| !t.is_finished()) {
                let mut plane = Plane::open(options(net)).unwrap();
                let status = plane.status();
                assert!(
                    status.adopted && status.attachments[0].adopted,
                    "{status:?}"
                );
                apply(&mut plane, &plans, &find);
                begun += 1;
                drop(plane);
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(begun > 0);
        });
        for transfer in transfers {
            transfer.join().unwrap();
        }
        net.within("lb1", || {
            let mut plane = Plane::open(options(net)).unwrap();
            apply(&mut plane, &plans, &find);
            let stats = plane.stats();
            assert_eq!(
                stats.listeners[0].reason(PacketReason::NewFlow),
                3,
                "counters outlive restarts too"
            );
            plane.close().unwrap();
        });
    });
}

#[test]
fn detaching_leaves_nothing() {
    let Some(mut net) = ready(&[]) else { return };
    net.serve("b1", 8080, &[]);
    let registry = Endpoints::default();
    let web = pool(
        "web",
        &[("b1", "10.77.0.21:8080", false)],
        Algorithm::RoundRobin,
        &registry,
    );
    let pools = Pools::of(&[&web]);
    let plans = [listener(
        "web",
        &[&format!("{VIP}:80")],
        false,
        "web",
        Forward::Nat,
    )];
    let attached = || net.run("lb1", "ip link show eth0").contains("xdp");
    net.within("lb1", || {
        let mut plane = Plane::open(options(&net)).unwrap();
        apply(&mut plane, &plans, &|n| pools.find(n));
        drop(plane);
        assert!(attached(), "it stays when the process goes");
        assert_eq!(Plane::detach(&options(&net)).unwrap(), ["eth0"]);
        assert!(!attached());
        assert!(
            !std::fs::read_to_string("/proc/mounts")
                .unwrap()
                .contains(net.root.to_str().unwrap())
        );
        assert_eq!(
            Plane::detach(&options(&net)).unwrap(),
            Vec::<String>::new(),
            "nothing to do is no error"
        );
    });
}

#[test]
fn a_listener_changes_its_depth_while_it_is_used() {
    let Some(mut net) = ready(&[]) else { return };
    net.serve("b1", 8080, &[]);
    // What another depth would do: a socket on Fathom's own address.
    net.serve("lb1", 80, &[]);
    let registry = Endpoints::default();
    let web = pool(
        "web",
        &[("b1", "10.77.0.21:8080", false)],
        Algorithm::RoundRobin,
        &registry,
    );
    let pools = Pools::of(&[&web]);
    let plans = [listener(
        "web",
        &[&format!("{VIP}:80")],
        false,
        "web",
        Forward::Nat,
    )];
    let to: SocketAddr = format!("{VIP}:80").parse().unwrap();
    let find = |name: &str| pools.find(name);
    let net = &net;
    net.within("lb1", || {
        let (mut stream_depth, name) = net.within("client", || ask(to).unwrap());
        assert_eq!(name, "lb1");
        let mut plane = Plane::open(options(net)).unwrap();
        apply(&mut plane, &plans, &find);
        let (mut packet_depth, name) = net.within("client", || ask(to).unwrap());
        assert_eq!(name, "b1");
        exchange(&mut stream_depth, 300_000);
        exchange(&mut packet_depth, 300_000);
        plane.apply(&[], &find, now()).unwrap();
        assert!(plane.is_idle());
        let (_, name) = net.within("client", || ask(to).unwrap());
        assert_eq!(name, "lb1");
        exchange(&mut stream_depth, 300_000);
        exchange(&mut packet_depth, 300_000);
        plane.close().unwrap();
    });
}

#[test]
fn a_flood_of_syns_leaves_room_for_clients() {
    let Some(mut net) = ready(&[]) else { return };
    net.serve("b1", 8080, &[]);
    let registry = Endpoints::default();
    let web = pool(
        "web",
        &[("b1", "10.77.0.21:8080", false)],
        Algorithm::RoundRobin,
        &registry,
    );
    let pools = Pools::of(&[&web]);
    let mut plans = [listener(
        "web",
        &[&format!("{VIP}:80")],
        false,
        "web",
        Forward::Nat,
    )];
    packet(&mut plans[0]).syn_cookies = Some(Rate {
        count: 1,
        per: Duration::from_secs(1),
    });
    let to: SocketAddr = format!("{VIP}:80").parse().unwrap();
    let net = &net;
    net.within("lb1", || {
        let mut plane = Plane::open(options(net)).unwrap();
        apply(&mut plane, &plans, &|n| pools.find(n));
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| net.within("client", || flood(&stop)));
            until("SYNs are challenged", || {
                plane.sync(&|n| pools.find(n), now()).unwrap();
                plane.stats().listeners[0].reason(PacketReason::CookieSent) > 200
            });
            for _ in 0..5 {
                let (mut stream, name) =
                    net.within("client", || ask(to).expect("a true client gets through"));
                assert_eq!(name, "b1");
                exchange(&mut stream, 10_000);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let stats = plane.stats();
        let flows = stats.listeners[0].reason(PacketReason::NewFlow);
        let syns = stats.listeners[0].reason(PacketReason::Syn);
        assert!(flows < syns / 2, "{stats:?}");
        assert!(
            stats.listeners[0].reason(PacketReason::CookieAccepted) >= 1,
            "{stats:?}"
        );
        plane.close().unwrap();
    });
}

/// SYNs from made-up sources, as frames, in the caller's namespace.
fn flood(stop: &std::sync::atomic::AtomicBool) {
    // SAFETY: plain socket calls with a fully initialised address of the size given.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(fd >= 0);
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = libc::if_nametoindex(c"eth0".as_ptr()) as i32;
        let mut n = 0u32;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            n = n.wrapping_add(1);
            let source = format!("172.{}.{}.{}", 16 + n % 16, n / 16 % 250, n / 4000 % 250);
            let mut frame = common::tcp(&source, (n % 60_000) as u16 + 1024, VIP, 80, "S")
                .payload("")
                .bytes();
            frame[0..6].copy_from_slice(&[2, 0x77, 0, 0, 0, 0x0b]);
            let size = size_of::<libc::sockaddr_ll>() as u32;
            libc::sendto(
                fd,
                frame.as_ptr().cast(),
                frame.len(),
                0,
                std::ptr::from_ref(&to).cast(),
                size,
            );
            if n.is_multiple_of(50) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        libc::close(fd);
    }
}

#[test]
fn what_cannot_work_is_said() {
    let Some(mut net) = ready(&[]) else { return };
    net.serve("b1", 8080, &[]);
    let registry = Endpoints::default();
    let net = &net;
    let attempt = |plan: &fathom_core::plan::ListenerPlan, pool: &Arc<Pool>| {
        net.within("lb1", || {
            let mut plane = Plane::open(options(net)).unwrap();
            let pools = Pools::of(&[pool]);
            let done = plane.apply(std::slice::from_ref(plan), &|n| pools.find(n), now());
            (done, plane)
        })
    };
    let good = pool(
        "web",
        &[("b1", "10.77.0.21:8080", false)],
        Algorithm::RoundRobin,
        &registry,
    );

    let mut missing = listener("web", &[&format!("{VIP}:80")], false, "web", Forward::Nat);
    packet(&mut missing).interface = "eth7".into();
    let error = attempt(&missing, &good).0.unwrap_err();
    assert!(matches!(error, Error::NoInterface { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("there is no interface \"eth7\" (there are: lo, eth0"),
        "{error}"
    );

    let port = listener(
        "web",
        &[&format!("{VIP}:80")],
        false,
        "web",
        Forward::DsrMac,
    );
    let error = attempt(&port, &good).0.unwrap_err().to_string();
    assert!(
        error.contains("must have the listener's port, not 8080"),
        "{error}"
    );

    let family = listener(
        "web",
        &[&format!("[{VIP6}]:80")],
        false,
        "web",
        Forward::Nat,
    );
    let error = attempt(&family, &good).0.unwrap_err().to_string();
    assert!(
        error.contains("no server of pools.web has an address of the listener's family"),
        "{error}"
    );

    // One server answers no ARP, one is this machine: the third takes all, and the others are shown.
    let half = pool(
        "web",
        &[
            ("b1", "10.77.0.21:8080", false),
            ("nobody", "10.77.0.77:8080", false),
            ("self", "10.77.0.11:80", false),
        ],
        Algorithm::RoundRobin,
        &registry,
    );
    let (done, mut plane) = attempt(
        &listener("web", &[&format!("{VIP}:80")], false, "web", Forward::Nat),
        &half,
    );
    done.unwrap();
    let pools = Pools::of(&[&half]);
    until("b1's MAC is known", || {
        net.within("lb1", || plane.sync(&|n| pools.find(n), now()).unwrap());
        plane.status().unreachable.len() == 2
    });
    let to: SocketAddr = format!("{VIP}:80").parse().unwrap();
    assert_eq!(spread(net, to, 12).into_keys().collect::<Vec<_>>(), ["b1"]);
    let unreachable: Vec<String> = plane
        .status()
        .unreachable
        .iter()
        .map(|(_, s, why)| format!("{s}: {why}"))
        .collect();
    assert_eq!(unreachable.len(), 2, "{unreachable:?}");
    assert!(
        unreachable[0].contains("nobody: the MAC of 10.77.0.77 is not known"),
        "{unreachable:?}"
    );
    assert!(
        unreachable[1].contains("self: 10.77.0.11 is this machine itself"),
        "{unreachable:?}"
    );

    // Maps of another layout, and an interface that goes away.
    let home = plane.status().pinned;
    drop(plane);
    std::fs::create_dir(home.join("layout-999")).unwrap();
    net.within("lb1", || {
        let mut plane = Plane::open(options(net)).unwrap();
        assert!(
            plane
                .status()
                .notes
                .iter()
                .any(|n| n.contains("another version (layout 999)")),
            "{:?}",
            plane.status()
        );
        assert!(!home.join("layout-999").exists());
        let pools = Pools::of(&[&good]);
        let plans = [listener(
            "web",
            &[&format!("{VIP}:80")],
            false,
            "web",
            Forward::Nat,
        )];
        apply(&mut plane, &plans, &|n| pools.find(n));
        drop(plane);
        net.run("lb1", "ip link set eth0 down; ip link set eth0 name gone0");
        let plane = Plane::open(options(net)).unwrap();
        assert!(
            plane.status().notes.iter().any(|n| n.contains("eth0")),
            "{:?}",
            plane.status()
        );
        plane.close().unwrap();
    });
}
