//! `bench packet`: the packet depth beside nftables and beside a bare `XDP_TX`.
//!
//! The program is built with a head that makes each frame anew with the next client's address (`bpf/bench.h`), because
//! nothing restores a frame between runs; what that costs is in every figure, the bare ones too. Needs root.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use fathom_packet::trial::{Trial, live_frames, test_run};
use fathom_packet::{PacketReason, Sizes};
use fathom_wire::packet::{Own, Service, Target, forward, target_flag};

static OBJECT: &[u8] = include_bytes!("../fathom.bench.bpf.o");

const VIP: [u8; 4] = [192, 0, 2, 1];
const OWN: [u8; 4] = [10, 88, 1, 1];
const SERVER: [u8; 4] = [10, 88, 1, 2];
/// Clients are counted up from here.
const CLIENTS: [u8; 4] = [10, 64, 0, 0];

/// Runs all measurements and prints them; `Ok(false)` if a bar was missed.
///
/// # Errors
/// Without the rights, or where a tool is missing.
pub(crate) fn run(rounds: usize) -> Result<bool, String> {
    let mut met = true;
    met &= per_packet(rounds)?;
    met &= capacity()?;
    met &= frames(rounds)?;
    Ok(met)
}

/// One line of the table; returns whether the bar was met.
fn line(what: &str, value: f64, unit: &str, bar: f64) -> bool {
    let met = value <= bar;
    let missed = if met { "" } else { "  MISSED" };
    println!("  {what:<44}{value:>10.2} {unit:<12} bar <= {bar}{missed}");
    met
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A UDP frame to the service, with a checksum the kernel accepts.
fn frame(to_mac: [u8; 6]) -> Vec<u8> {
    let mut f = to_mac.to_vec();
    f.extend([2, 0, 0, 0, 0, 0xc, 8, 0]);
    f.extend([0x45, 0, 0, 46, 0, 7, 0, 0, 64, 17, 0, 0]);
    f.extend(CLIENTS);
    f.extend(VIP);
    f.extend(1024u16.to_be_bytes());
    f.extend(53u16.to_be_bytes());
    f.extend([0, 26, 0, 0]);
    f.extend([7; 18]);
    let check = !sum(&[&f[14..34]]);
    f[24..26].copy_from_slice(&check.to_be_bytes());
    let check = !sum(&[&CLIENTS, &VIP, &[0, 17, 0, 26], &f[34..]]);
    f[40..42].copy_from_slice(&check.to_be_bytes());
    f
}

fn sum(parts: &[&[u8]]) -> u16 {
    let mut s: u32 = 0;
    for pair in parts.concat().chunks(2) {
        s += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while s > 0xffff {
        s = (s & 0xffff) + (s >> 16);
    }
    s as u16
}

fn sixteen(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    bytes
}

/// The program with one UDP service on one server out of `ifindex`.
fn trial(mode: u8, flows: u32, ifindex: u32, dmac: [u8; 6]) -> Result<Trial, String> {
    let text = |e: fathom_packet::Error| e.to_string();
    let sizes = Sizes {
        flows,
        ..Sizes::small()
    };
    let mut t = Trial::new(Some(OBJECT), sizes, false).map_err(text)?;
    // Several own addresses: a server's ports are more than 100,000 flows then.
    for i in 0..4 {
        let mut own = OWN;
        own[3] += 100 * u8::from(i > 0) + i;
        t.own(
            u32::from(i),
            Own {
                addr: sixteen(own),
                port_low: 1024,
                ports: 64_512,
                pad: 0,
            },
        );
    }
    t.target(
        1,
        Target {
            owner: 1,
            addr: sixteen(SERVER),
            outer: sixteen(OWN),
            port: (if mode == forward::NAT { 5353u16 } else { 53 }).to_be(),
            flags: target_flag::USABLE | target_flag::NEW,
            generation: 1,
            own_count: 4,
            dmac,
            smac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            ifindex,
            ..Target::default()
        },
    );
    let service = Service {
        addr: sixteen(VIP),
        port: 53u16.to_be(),
        proto: 17,
        forward: mode,
        udp_idle: 60_000_000_000,
        listener: 1,
        ..Service::default()
    };
    t.service(1, service, &[1]).map_err(text)?;
    Ok(t)
}

/// ns per run of one program: the least of many stretches, each shorter than a turn of the scheduler.
fn ns(t: &Trial, program: &str, frame: &[u8]) -> Result<f64, String> {
    let fd = t.program(program).map_err(|e| e.to_string())?;
    let mut best = f64::MAX;
    for _ in 0..60 {
        let out = test_run(fd, frame, 1, 20_000).map_err(|e| e.to_string())?;
        best = best.min(f64::from(out.duration));
    }
    Ok(best)
}

fn per_packet(rounds: usize) -> Result<bool, String> {
    println!("\nBPF_PROG_TEST_RUN, UDP over IPv4, with per-server counters  (packet-ns)");
    let text = |e: fathom_packet::Error| e.to_string();
    let frame = frame([2, 0, 0, 0, 0, 1]);
    let mut met = true;
    for (name, mode, one, many, multiple) in [
        ("nat", forward::NAT, 55.0, 170.0, 6.5),
        ("dsr-mac", forward::DSR_MAC, 60.0, 170.0, 7.0),
        ("dsr-ipip", forward::DSR_IPIP, 70.0, 190.0, 8.0),
        ("dsr-gue", forward::DSR_GUE, 75.0, 190.0, 9.0),
    ] {
        let mut t = trial(mode, 500_000, 1, [2, 0, 0, 0, 0, 5])?;
        let (mut ones, mut ratios, mut manys) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            t.bench_frame(&frame, 1).map_err(text)?;
            let bare = ns(&t, "bench_bare", &frame)?;
            let full = ns(&t, "fathom", &frame)?;
            ones.push(full);
            ratios.push(full / bare);
            t.bench_frame(&frame, 100_000).map_err(text)?;
            let fd = t.program("fathom").map_err(text)?;
            if manys.is_empty() {
                test_run(fd, &frame, 1, 1_500_000).map_err(|e| e.to_string())?;
            }
            manys.push(ns(&t, "fathom", &frame)?);
        }
        met &= line(&format!("{name}, 1 flow"), median(ones), "ns", one);
        met &= line(
            &format!("{name}, 1 flow, to XDP_TX"),
            median(ratios),
            "times",
            multiple,
        );
        met &= line(&format!("{name}, 100,000 flows"), median(manys), "ns", many);
    }
    let mut t = trial(forward::NAT, 65_536, 1, [2, 0, 0, 0, 0, 5])?;
    t.bench_frame(&frame, 0).map_err(text)?;
    let fd = t.program("fathom").map_err(text)?;
    test_run(fd, &frame, 1, 400_000).map_err(|e| e.to_string())?;
    let mut fresh = Vec::new();
    for _ in 0..rounds {
        let before = t.count(1, PacketReason::NewFlow);
        let mut best = f64::MAX;
        for _ in 0..20 {
            let out = test_run(fd, &frame, 1, 5_000).map_err(|e| e.to_string())?;
            best = best.min(f64::from(out.duration));
        }
        fresh.push(best);
        let opened = t.count(1, PacketReason::NewFlow) - before;
        if opened < 99_000 {
            return Err(format!("only {opened} of 100,000 flows were opened"));
        }
    }
    met &= line("nat, new flow, table full", median(fresh), "ns", 1300.0);
    Ok(met)
}

fn capacity() -> Result<bool, String> {
    println!("\nRoom, and how long a change takes  (packet-capacity)");
    let text = |e: fathom_packet::Error| e.to_string();
    let begin = Instant::now();
    let sizes = Sizes::for_memory(8 << 30);
    let mut t = Trial::new(Some(OBJECT), sizes, false).map_err(text)?;
    println!(
        "  {:<44}{:>10.0} ms",
        "loading: 1,000,000 flows, 16,384 servers",
        begin.elapsed().as_secs_f64() * 1e3
    );
    let begin = Instant::now();
    let mut change = Duration::ZERO;
    for n in 0..1000u32 {
        let servers: Vec<_> = (0..10u32)
            .map(|i| fathom_core::balance::maglev::Server {
                identity: format!("{n} {i}"),
                weight: 1 + i,
            })
            .collect();
        for i in 0..10 {
            let slot = 1 + n * 10 + i;
            let addr = sixteen((0x0a58_0000 + slot).to_be_bytes());
            let flags = target_flag::USABLE | target_flag::NEW;
            t.target(
                slot,
                Target {
                    owner: u64::from(slot),
                    addr,
                    flags,
                    generation: 1,
                    ..Target::default()
                },
            );
        }
        let at = Instant::now();
        let table = fathom_core::balance::maglev::Table::new(&servers, 4093);
        let slots: Vec<u32> = table.slots().iter().map(|s| 1 + n * 10 + s).collect();
        let addr = sixteen((0xc000_0200 + n).to_be_bytes());
        t.service(
            1 + n,
            Service {
                addr,
                port: 80,
                proto: 6,
                ..Service::default()
            },
            &slots,
        )
        .map_err(text)?;
        change = change.max(at.elapsed());
    }
    let all = begin.elapsed().as_secs_f64() * 1e3;
    println!(
        "  {:<44}{all:>10.0} ms",
        "writing 1,000 services of 10 servers"
    );
    Ok(line(
        "one server's weight, slowest of 1,000",
        change.as_secs_f64() * 1e3,
        "ms",
        50.0,
    ))
}

/// A namespace with two cables: frames arrive at `in0`, leave by `out0`, and end at `out1`.
struct Wires(String);

impl Wires {
    fn new() -> Result<Self, String> {
        let wires = Self(format!("fb{}", std::process::id()));
        wires.sh(&format!(
            "ip netns add {0} && ip -n {0} link add in0 type veth peer name in1 && ip -n {0} link add out0 type veth peer name out1 && \
             for d in in0 in1 out0 out1; do ip -n {0} link set $d up; done && ip -n {0} addr add 10.88.0.1/24 dev in0 && \
             ip -n {0} addr add 10.88.1.1/24 dev out0 && ip -n {0} neigh add 10.88.1.2 lladdr 02:00:00:00:00:05 dev out0 && \
             ip -n {0} route add 10.64.0.0/10 via 10.88.0.2 && ip -n {0} neigh add 10.88.0.2 lladdr 02:00:00:00:00:0c dev in0 && \
             ip netns exec {0} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.in0.rp_filter=0 && \
             for d in in0 out0 out1; do ip netns exec {0} ethtool -K $d gro on >/dev/null; done",
            wires.0
        ))?;
        Ok(wires)
    }

    fn nat(&self) -> Result<(), String> {
        self.sh(&format!(
            "ip netns exec {} nft -f - <<'E'\n\
             table ip bench {{\n chain pre {{ type nat hook prerouting priority -100; ip daddr 192.0.2.1 udp dport 53 dnat to 10.88.1.2:5353; }}\n \
             chain post {{ type nat hook postrouting priority 100; oifname out0 masquerade; }}\n}}\nE",
            self.0
        ))
    }

    fn sh(&self, line: &str) -> Result<(), String> {
        let out = Command::new("bash")
            .args(["-c", line])
            .output()
            .map_err(|e| e.to_string())?;
        if out.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    fn mac(&self, device: &str) -> Result<[u8; 6], String> {
        let line = format!("cat /sys/class/net/{device}/address");
        let out = Command::new("ip")
            .args(["netns", "exec", &self.0, "bash", "-c", &line])
            .output();
        let text = String::from_utf8_lossy(&out.map_err(|e| e.to_string())?.stdout)
            .trim()
            .to_owned();
        let bytes: Vec<u8> = text
            .split(':')
            .filter_map(|b| u8::from_str_radix(b, 16).ok())
            .collect();
        bytes.try_into().map_err(|_| format!("{device} has no MAC"))
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let _ = self.sh(&format!("ip netns del {}", self.0));
    }
}

/// What the kernel charged to this thread and to its softirq threads, in ns.
fn charged() -> f64 {
    let mut total = 0.0;
    let own = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    total += own
        .split_whitespace()
        .next()
        .and_then(|n| n.parse::<f64>().ok())
        .unwrap_or(0.0);
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with("ksoftirqd/") {
            let stat = std::fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            total += stat
                .split_whitespace()
                .next()
                .and_then(|n| n.parse::<f64>().ok())
                .unwrap_or(0.0);
        }
    }
    total
}

fn frames(rounds: usize) -> Result<bool, String> {
    println!(
        "\nReal frames through a veth, UDP: CPU per frame, Fathom's nat and nftables' full NAT  (packet-frames)"
    );
    let mut met = true;
    for (name, flows, count, bar) in [
        ("established, 1,000 flows", 1000, 400_000, 0.22),
        ("established, 30,000 flows", 30_000, 400_000, 0.22),
        ("new flows", 0, 40_000, 0.45),
    ] {
        let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            // A thread of its own: only it changes its namespace.
            let one = |nft: bool| std::thread::spawn(move || once(nft, flows, count)).join();
            let f = one(false).map_err(|_| "the measuring thread panicked")??;
            let n = one(true).map_err(|_| "the measuring thread panicked")??;
            ratios.push(f / n);
            ours.push(f);
            theirs.push(n);
        }
        println!(
            "  {:<44}{:>10.0} ns",
            format!("{name}: fathom"),
            median(ours)
        );
        println!(
            "  {:<44}{:>10.0} ns",
            format!("{name}: nftables"),
            median(theirs)
        );
        met &= line(&format!("{name}: ratio"), median(ratios), "", bar);
    }
    Ok(met)
}

fn once(nft: bool, flows: u32, count: u32) -> Result<f64, String> {
    let text = |e: fathom_packet::Error| e.to_string();
    let io = |e: std::io::Error| e.to_string();
    let wires = Wires::new()?;
    let here = File::open(format!("/run/netns/{}", wires.0)).map_err(io)?;
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&here),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .map_err(|e| e.to_string())?;
    let index = |name: &str| -> Result<u32, String> {
        let out = Command::new("ip")
            .args(["-n", &wires.0, "-o", "link", "show", name])
            .output()
            .map_err(io)?;
        let line = String::from_utf8_lossy(&out.stdout).into_owned();
        line.split(':')
            .next()
            .and_then(|n| n.trim().parse().ok())
            .ok_or(format!("no {name}"))
    };
    let (arriving, leaving) = (index("in0")?, index("out0")?);
    let mut t = trial(forward::NAT, 200_000, leaving, [2, 0, 0, 0, 0, 5])?;
    let frame = frame(wires.mac("in0")?);
    t.bench_frame(&frame, flows).map_err(text)?;
    let _end = t.attach("bench_drop", "out1", true).map_err(text)?;
    // A cable redirects natively only between ends that have a program.
    let _in = t.attach("fathom_pass", "in0", true).map_err(text)?;
    let _out = t.attach("fathom_pass", "out0", true).map_err(text)?;
    let program = if nft {
        wires.nat()?;
        "bench_pass"
    } else {
        "fathom"
    };
    let fd = t.program(program).map_err(text)?;
    if flows > 0 {
        live_frames(fd, &frame, arriving, flows * 12, 64).map_err(io)?;
    }
    let sent = || -> Result<u64, String> {
        let out = Command::new("ip")
            .args(["-n", &wires.0, "-s", "-j", "link", "show", "out0"])
            .output()
            .map_err(io)?;
        let json: serde_json::Value =
            serde_json::from_slice(&out.stdout).map_err(|e| e.to_string())?;
        Ok(json[0]["stats64"]["tx"]["packets"].as_u64().unwrap_or(0))
    };
    let (before, begin) = (sent()?, charged());
    live_frames(fd, &frame, arriving, count, 64).map_err(io)?;
    std::thread::sleep(Duration::from_millis(20));
    let used = charged() - begin;
    let through = sent()? - before;
    if through < u64::from(count) * 95 / 100 {
        return Err(format!(
            "only {through} of {count} frames came through ({program})"
        ));
    }
    Ok(used / f64::from(count))
}
