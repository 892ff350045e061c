//! A listener on a worker of its own, and what the tests of it share.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use fathom_access::Log;
use fathom_core::plan::*;
use fathom_core::stats::Registry;
use fathom_core::{ClientInfo, Endpoint, Endpoints, Pool, Reason};
use fathom_io::{Drain, Driver, ListenOptions, Listener, clock};
use fathom_stream::{Service, datagram};
use fathom_testbed::wait::{self, DEADLINE};

#[allow(unused_macros, reason = "each test binary uses its part")]
/// Makes each test run on every driver this machine has.
macro_rules! on_both_drivers {
    ($($(#[$meta:meta])* fn $name:ident($driver:ident) $body:block)*) => {
        mod epoll { use super::*; $($(#[$meta])* #[test] fn $name() {
            let $driver = fathom_io::Driver::Epoll;
            $body
        })* }
        mod uring { use super::*; $($(#[$meta])* #[test] fn $name() {
            let $driver = fathom_io::Driver::Uring;
            if common::has($driver) { $body }
        })* }
    };
}
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use on_both_drivers;

/// Whether this machine has the driver; says so if not.
pub(crate) fn has(driver: Driver) -> bool {
    match driver {
        Driver::Epoll => true,
        Driver::Uring => fathom_io::choose(IoChoice::Uring)
            .inspect_err(|why| eprintln!("skipped: {why}"))
            .is_ok(),
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A running listener.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    pub(crate) pools: Vec<Arc<Pool>>,
    pub(crate) stats: Arc<Registry>,
    jobs: Option<tokio::sync::mpsc::UnboundedSender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub(crate) fn origin() -> Origin {
    Origin {
        file: "fathom.toml".into(),
        line: 7,
    }
}

fn listener(depth: DepthPlan) -> ListenerPlan {
    ListenerPlan {
        name: "front".into(),
        origin: origin(),
        binds: Vec::new(),
        depth,
        accept_proxy_protocol: Vec::new(),
        limits: LimitsPlan::default(),
        tls: None,
    }
}

/// A pool of that name; servers are used in order unless changed.
pub(crate) fn pool(name: &str, servers: impl IntoIterator<Item = ServerAddress>) -> PoolPlan {
    let servers = servers
        .into_iter()
        .enumerate()
        .map(|(i, address)| ServerPlan {
            name: format!("s{i}").into(),
            address,
            weight: 1,
            backup: false,
            max_connections: None,
            origin: origin(),
        });
    PoolPlan {
        name: name.into(),
        origin: origin(),
        balance: BalancePlan {
            algorithm: Algorithm::First,
            hash_on: HashOn::SourceIp,
            bounded_load: None,
        },
        servers: servers.collect(),
        health: None,
        outliers: None,
        slow_start: Duration::ZERO,
        affinity: None,
        tls: None,
        protocol: ServerProtocol::Http1,
        keepalive: KeepalivePlan {
            idle: 0,
            timeout: Duration::from_secs(60),
        },
        queue: None,
        proxy_protocol: None,
    }
}

/// The pool `main` of these servers.
pub(crate) fn main_pool(servers: impl IntoIterator<Item = SocketAddr>) -> PoolPlan {
    pool("main", servers.into_iter().map(ServerAddress::Ip))
}

/// The same, with checks that are made by the test ([`Endpoint::set_health`]).
pub(crate) fn checked_pool(servers: impl IntoIterator<Item = SocketAddr>) -> PoolPlan {
    let health = HealthPlan {
        probe: ProbePlan::Tcp,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        fast_interval: Duration::from_secs(1),
        port: None,
        origin: origin(),
    };
    PoolPlan {
        health: Some(health),
        ..main_pool(servers)
    }
}

/// Everything to `main`.
pub(crate) fn stream_plan() -> StreamPlan {
    StreamPlan {
        routes: Vec::new(),
        pool: Some("main".into()),
        idle_timeout: Duration::from_secs(3600),
        connect_timeout: Duration::from_secs(30),
        peek_timeout: Duration::from_secs(10),
    }
}

pub(crate) fn datagram_plan() -> DatagramPlan {
    DatagramPlan {
        pool: "main".into(),
        idle_timeout: Duration::from_secs(60),
        max_flows: 10_000,
    }
}

impl Balancer {
    /// A TCP listener on 127.0.0.1.
    pub(crate) fn stream(driver: Driver, plan: StreamPlan, pools: Vec<PoolPlan>) -> Self {
        Self::stream_logged(driver, plan, pools, None)
    }

    pub(crate) fn stream_logged(
        driver: Driver,
        plan: StreamPlan,
        pools: Vec<PoolPlan>,
        log: Option<Arc<Log>>,
    ) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let socket = fathom_io::listen(address, &ListenOptions::default()).unwrap();
        let address = socket.local_addr().unwrap();
        Self::start(driver, address, pools, |pools, stats| {
            let plan = listener(DepthPlan::Stream(plan));
            let service = Service::new(&plan, &pools, stats, log);
            move |drain| async move {
                let listener = Listener::new(socket).unwrap();
                let mut draining = drain.started();
                loop {
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        () = &mut draining => return,
                    };
                    match accepted {
                        Ok((conn, peer)) => {
                            let client = ClientInfo::new(peer, conn.local_addr());
                            drop(fathom_io::spawn(fathom_stream::serve(
                                conn,
                                client,
                                service.clone(),
                            )));
                        }
                        // As the front does when the machine is short of something.
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            }
        })
    }

    /// A UDP listener, on every address of the machine or only on 127.0.0.1.
    pub(crate) fn datagram(driver: Driver, bind: &str, plan: DatagramPlan, pool: PoolPlan) -> Self {
        Self::reloaded_datagram(driver, bind, plan, pool, 0)
    }

    /// The same, with a reload before each of the first flows.
    pub(crate) fn reloaded_datagram(
        driver: Driver,
        bind: &str,
        plan: DatagramPlan,
        pool: PoolPlan,
        reloads: usize,
    ) -> Self {
        let socket = fathom_io::udp::bind(bind.parse().unwrap(), &Default::default()).unwrap();
        let address = socket.local_addr().unwrap();
        Self::start(driver, address, vec![pool], |pools, stats| {
            let listener = listener(DepthPlan::Datagram(plan.clone()));
            let mut services = Vec::<Arc<datagram::Service>>::new();
            for _ in 0..=reloads {
                let previous = services.last().map(|s| &**s);
                let service =
                    datagram::Service::new(&listener, &plan, &pools, stats, None, previous);
                services.push(service);
            }
            move |drain| async move {
                let asked = std::cell::Cell::new(0);
                let current = move || services[asked.replace(asked.get() + 1).min(reloads)].clone();
                datagram::serve(vec![socket], current, drain).await.unwrap();
            }
        })
    }

    fn start<F, R>(
        driver: Driver,
        address: SocketAddr,
        plans: Vec<PoolPlan>,
        build: impl FnOnce(Box<dyn Fn(&str) -> Option<Arc<Pool>>>, &Registry) -> F,
    ) -> Self
    where
        F: FnOnce(Drain) -> R + Send + 'static,
        R: Future<Output = ()>,
    {
        let (registry, stats) = (Endpoints::new(), Arc::new(Registry::new()));
        let pools: Vec<_> = plans
            .into_iter()
            .map(|plan| Pool::new(Arc::new(plan), &registry, None))
            .collect();
        let known = pools.clone();
        let serve = build(
            Box::new(move |name| known.iter().find(|p| &**p.name() == name).cloned()),
            &stats,
        );
        let (jobs, mut queue) = tokio::sync::mpsc::unbounded_channel::<Job>();
        let thread = std::thread::spawn(move || {
            fathom_io::block_on(driver, async move {
                let drain = Drain::new();
                let jobs = async {
                    while let Some(job) = queue.recv().await {
                        job();
                    }
                    drain.start();
                };
                tokio::join!(serve(drain.clone()), jobs);
            });
        });
        Self {
            address,
            pools,
            stats,
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    /// Moves the worker's clock.
    pub(crate) fn advance(&self, by: Duration) {
        let (done, wait) = mpsc::channel();
        let job = move || {
            clock::advance(by);
            done.send(()).unwrap();
        };
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        wait.recv_timeout(DEADLINE).unwrap();
    }

    /// Starts the drain, and waits until the listener has ended.
    pub(crate) fn finish(&mut self) {
        drop(self.jobs.take());
        let thread = self.thread.take().unwrap();
        wait::until("the listener to end", || thread.is_finished());
        thread.join().unwrap();
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    pub(crate) fn server(&self, number: usize) -> Arc<Endpoint> {
        self.pools[0].members()[number].endpoint().clone()
    }

    /// How often the listener ended a connection for that reason.
    pub(crate) fn reasons(&self, reason: Reason) -> u64 {
        self.stats
            .listener(&"front".into())
            .sum(|cells| cells.reasons.of(reason))
    }

    pub(crate) fn expect_reason(&self, reason: Reason, times: u64) {
        wait::until(reason.as_str(), || self.reasons(reason) == times);
    }

    /// Flows of a UDP listener.
    pub(crate) fn flows(&self) -> i64 {
        self.stats
            .listener(&"front".into())
            .level(|cells| &cells.active)
    }

    /// Connections joined with that server now.
    pub(crate) fn open(&self, server: usize) -> i64 {
        self.server(server).stats().level(|cells| &cells.open)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            let _ = thread.join();
        }
    }
}

/// Sends `data` and expects it back.
pub(crate) fn echo(stream: &mut TcpStream, data: &[u8]) {
    stream.write_all(data).unwrap();
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, data);
}

/// Reads to the end, which must be an orderly one.
pub(crate) fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// Asks until there is an answer: datagrams may be lost anywhere, and answers to earlier tries may still come.
pub(crate) fn ask(
    socket: &UdpSocket,
    to: SocketAddr,
    question: &[u8],
    accept: impl Fn(&[u8], SocketAddr) -> bool,
) -> Vec<u8> {
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut buffer = vec![0; 65_536];
    wait::some("an answer", || {
        // An error is the network's about an earlier try.
        let _ = socket.send_to(question, to);
        let (n, from) = socket.recv_from(&mut buffer).ok()?;
        accept(&buffer[..n], from).then(|| buffer[..n].to_vec())
    })
}

/// A log that writes to `path`.
pub(crate) fn log_to(path: &Path) -> Arc<Log> {
    let plan = LogPlan {
        level: LogLevel::Info,
        access: AccessTarget::File(path.to_owned()),
        format: AccessFormat::Json,
    };
    Log::open(&plan).unwrap().unwrap()
}

/// A ClientHello that names and offers these.
pub(crate) fn hello(sni: &str, alpn: &[&str]) -> Vec<u8> {
    let v16 = |content: &[u8]| [&(content.len() as u16).to_be_bytes()[..], content].concat();
    let mut extensions = Vec::new();
    if !sni.is_empty() {
        let names = v16(&[&[0][..], &v16(sni.as_bytes())].concat());
        extensions.extend([&[0, 0][..], &v16(&names)].concat());
    }
    if !alpn.is_empty() {
        let names: Vec<u8> = alpn
            .iter()
            .flat_map(|n| [&[n.len() as u8][..], n.as_bytes()].concat())
            .collect();
        extensions.extend([&[0, 16][..], &v16(&v16(&names))].concat());
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(v16(&[0x13, 1]));
    body.extend([1, 0]);
    body.extend(v16(&extensions));
    let message = [&[1, 0][..], &v16(&body)].concat();
    [&[22, 3, 1][..], &v16(&message)].concat()
}
