//! A throw-away network of namespaces (testbed/net/topo.sh), servers and clients on threads inside of it, and a plane.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fathom_core::plan::*;
use fathom_core::{Endpoints, Pool, Tick};
use fathom_packet::{Options, Plane, Sizes};

/// For conditions that hold sooner or later.
pub const LONG: Duration = Duration::from_secs(30);

/// Namespaces, torn down when dropped.
pub struct Net {
    prefix: String,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    pub root: PathBuf,
}

impl Net {
    /// Up, or `None` (said aloud) where that is not possible.
    pub fn up(settings: &[(&str, &str)]) -> Option<Self> {
        for tool in ["ip", "ethtool", "bash"] {
            if Command::new(tool).arg("--help").output().is_err() {
                eprintln!("SKIPPED: needs {tool}");
                return None;
            }
        }
        let prefix = format!("f{:05x}_", std::process::id() & 0xf_ffff);
        let net = Self {
            root: format!("/run/fathom-test-{}", std::process::id()).into(),
            prefix,
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let out = net.topo(settings, &["up"]);
        assert!(
            out.status.success(),
            "topo.sh up: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        Some(net)
    }

    fn topo(&self, settings: &[(&str, &str)], args: &[&str]) -> std::process::Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testbed/net/topo.sh");
        Command::new("bash")
            .arg(script)
            .args(args)
            .env("P", &self.prefix)
            .envs(settings.iter().copied())
            .output()
            .expect("bash runs")
    }

    pub fn namespace(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    /// Runs a command in a node.
    pub fn run(&self, node: &str, line: &str) -> String {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.namespace(node), "bash", "-c", line])
            .output()
            .expect("ip runs");
        assert!(
            out.status.success(),
            "{node}: {line}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Runs `act` on a thread in a node's namespace.
    pub fn within<T: Send>(&self, node: &str, act: impl FnOnce() -> T + Send) -> T {
        let ns = self.namespace(node);
        std::thread::scope(|s| {
            let worker = s.spawn(move || {
                enter(&ns);
                act()
            });
            worker
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }

    /// Starts a thread in a node that ends with the network.
    pub fn spawn(&mut self, node: &str, act: impl FnOnce(Arc<AtomicBool>) + Send + 'static) {
        let (ns, stop) = (self.namespace(node), Arc::clone(&self.stop));
        self.threads.push(std::thread::spawn(move || {
            enter(&ns);
            act(stop);
        }));
    }

    /// A TCP and a UDP server in a node: the first line sent is answered with the node's name, everything after it echoed.
    /// UDP answers come from the address a socket is bound to: behind DSR that must be the one clients use.
    pub fn serve(&mut self, node: &str, port: u16, datagrams: &[&str]) {
        let name = node.to_owned();
        let datagrams: Vec<SocketAddr> = datagrams.iter().map(|a| a.parse().unwrap()).collect();
        let ready = Arc::new(std::sync::Barrier::new(2));
        let at = Arc::clone(&ready);
        self.spawn(node, move |stop| {
            let listener = TcpListener::bind(("::", port)).expect("binds");
            let sockets: Vec<UdpSocket> = datagrams.into_iter().map(bind_udp).collect();
            listener.set_nonblocking(true).unwrap();
            at.wait();
            for udp in sockets {
                let (name, stop) = (name.clone(), Arc::clone(&stop));
                udp.set_read_timeout(Some(Duration::from_millis(50)))
                    .unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 2048];
                    while !stop.load(Ordering::Relaxed) {
                        if let Ok((n, from)) = udp.recv_from(&mut buffer) {
                            let _ =
                                udp.send_to(&[name.as_bytes(), b" ", &buffer[..n]].concat(), from);
                        }
                    }
                });
            }
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (name, stop) = (name.clone(), Arc::clone(&stop));
                        std::thread::spawn(move || echo(stream, &name, &stop));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        ready.wait();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let options = Options {
            root: self.root.clone(),
            ..Options::default()
        };
        let ns = self.namespace("lb1");
        let _ = std::thread::spawn(move || {
            if std::panic::catch_unwind(|| enter(&ns)).is_ok() {
                let _ = Plane::detach(&options);
            }
        })
        .join();
        let _ = Command::new("umount").arg(&self.root).output();
        let _ = std::fs::remove_dir(&self.root);
        self.topo(&[], &["down"]);
    }
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace is there");
    // SAFETY: no pointers; only this thread changes its network namespace.
    let r = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(r, 0, "setns: {}", std::io::Error::last_os_error());
}

fn bind_udp(address: SocketAddr) -> UdpSocket {
    use std::os::fd::FromRawFd;
    let SocketAddr::V6(v6) = address else {
        return UdpSocket::bind(address).expect("binds");
    };
    // SAFETY: plain socket calls with a fully initialised address of the size given; the descriptor is owned once.
    unsafe {
        let fd = libc::socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        let on: i32 = 1;
        libc::setsockopt(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_V6ONLY,
            std::ptr::from_ref(&on).cast(),
            4,
        );
        let mut to: libc::sockaddr_in6 = std::mem::zeroed();
        to.sin6_family = libc::AF_INET6 as u16;
        to.sin6_port = v6.port().to_be();
        to.sin6_addr.s6_addr = v6.ip().octets();
        let r = libc::bind(
            fd,
            std::ptr::from_ref(&to).cast(),
            size_of::<libc::sockaddr_in6>() as u32,
        );
        assert_eq!(r, 0, "bind: {}", std::io::Error::last_os_error());
        UdpSocket::from_raw_fd(fd)
    }
}

fn echo(mut stream: TcpStream, name: &str, stop: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut named = false;
    let mut buffer = vec![0; 64 << 10];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                let mut from = 0;
                if !named {
                    let Some(end) = buffer[..n].iter().position(|b| *b == b'\n') else {
                        continue;
                    };
                    named = true;
                    from = end + 1;
                    if stream.write_all(format!("{name}\n").as_bytes()).is_err() {
                        return;
                    }
                }
                if stream.write_all(&buffer[from..n]).is_err() {
                    return;
                }
            }
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return,
        }
    }
}

/// Which server a new connection reaches. In the caller's namespace.
pub fn ask(to: SocketAddr) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"?\n")?;
    let mut name = Vec::new();
    let mut byte = [0];
    loop {
        if stream.read(&mut byte)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if byte[0] == b'\n' {
            break;
        }
        name.push(byte[0]);
    }
    Ok((stream, String::from_utf8(name).unwrap()))
}

/// Which server a datagram from a new port reaches, and that it came back whole.
pub fn ask_udp(to: SocketAddr) -> std::io::Result<String> {
    let any: IpAddr = if to.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0u16; 8].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(to)?;
    let mut buffer = [0; 2048];
    let mut last = std::io::ErrorKind::TimedOut.into();
    for _ in 0..5 {
        socket.send(&[7; 700])?;
        match socket.recv(&mut buffer) {
            Ok(n) => {
                let name = buffer[..n].split(|b| *b == b' ').next().unwrap();
                assert_eq!(n, name.len() + 701);
                return Ok(String::from_utf8(name.to_vec()).unwrap());
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Sends `bytes` through an open connection while reading them back; fails unless all return as they were.
pub fn exchange(stream: &mut TcpStream, bytes: usize) {
    let mut writer = stream.try_clone().unwrap();
    let sent: Vec<u8> = (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect();
    let expected = sent.clone();
    let sender = std::thread::spawn(move || writer.write_all(&sent));
    let mut got = vec![0; bytes];
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.read_exact(&mut got).expect("everything comes back");
    sender.join().unwrap().expect("everything is sent");
    assert!(got == expected, "bytes came back changed");
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Applies, and waits until every server's MAC is known: on a busy machine ARP may take longer than `apply` waits.
pub fn apply(plane: &mut Plane, plans: &[ListenerPlan], pools: fathom_packet::PoolLookup<'_>) {
    plane.apply(plans, pools, now()).unwrap();
    until("servers' MACs are known", || {
        plane.sync(pools, now()).unwrap();
        plane.status().unreachable.is_empty()
    });
}

fn origin() -> Origin {
    Origin {
        file: "test.toml".into(),
        line: 1,
    }
}

/// A pool of named servers; with checks, so that their health can be set.
pub fn pool(
    name: &str,
    servers: &[(&str, &str, bool)],
    algorithm: Algorithm,
    registry: &Endpoints,
) -> Arc<Pool> {
    let servers = servers
        .iter()
        .map(|(name, address, backup)| ServerPlan {
            name: (*name).into(),
            address: ServerAddress::Ip(address.parse().unwrap()),
            weight: 1,
            backup: *backup,
            max_connections: None,
            origin: origin(),
        })
        .collect();
    let plan = PoolPlan {
        name: name.into(),
        origin: origin(),
        balance: BalancePlan {
            algorithm,
            hash_on: HashOn::SourceIp,
            bounded_load: None,
        },
        servers,
        health: Some(HealthPlan {
            probe: ProbePlan::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 1,
            fast_interval: Duration::from_secs(1),
            port: None,
            origin: origin(),
        }),
        outliers: None,
        slow_start: Duration::ZERO,
        affinity: None,
        tls: None,
        protocol: ServerProtocol::Http1,
        keepalive: KeepalivePlan {
            idle: 1,
            timeout: Duration::from_secs(1),
        },
        queue: None,
        proxy_protocol: None,
    };
    let pool = Pool::new(Arc::new(plan), registry, None);
    for member in pool.members().iter() {
        member
            .endpoint()
            .set_health(Tick(1), fathom_core::Health::Up);
    }
    pool
}

/// A packet listener on eth0.
pub fn listener(
    name: &str,
    binds: &[&str],
    udp: bool,
    pool: &str,
    forward: Forward,
) -> ListenerPlan {
    ListenerPlan {
        name: name.into(),
        origin: origin(),
        binds: binds
            .iter()
            .map(|b| BindPlan {
                address: BindAddress::Ip(b.parse().unwrap()),
                tls: false,
                origin: origin(),
            })
            .collect(),
        depth: DepthPlan::Packet(PacketPlan {
            pool: pool.into(),
            protocol: if udp {
                PacketProtocol::Udp
            } else {
                PacketProtocol::Tcp
            },
            interface: "eth0".into(),
            forward,
            preserve_source: false,
            sources: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            rate_per_source: None,
            syn_cookies: None,
            flow_log: Some(1),
        }),
        accept_proxy_protocol: Vec::new(),
        limits: LimitsPlan::default(),
        tls: None,
    }
}

pub fn packet(plan: &mut ListenerPlan) -> &mut PacketPlan {
    match &mut plan.depth {
        DepthPlan::Packet(p) => p,
        _ => unreachable!(),
    }
}

/// Real time, as the program's owner would give it.
pub fn now() -> Tick {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    Tick(START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1_000_000_000)
}

pub fn options(net: &Net) -> Options {
    Options {
        root: net.root.clone(),
        sizes: Some(Sizes::small()),
        ..Options::default()
    }
}
