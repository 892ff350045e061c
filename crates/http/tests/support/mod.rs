//! A proxy in a thread of its own, made from a plan that a test edits.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses a part of it"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use fathom_core::plan::*;
use fathom_core::stats::{ListenerStats, Registry, RouteStats};
use fathom_core::{ClientInfo, Endpoints, Pool};
use fathom_http::{Current, Link, Pools, Service};
use fathom_io::{Drain, Driver, ListenOptions, Listener, block_on, clock, spawn};
use fathom_testbed::client::Connection;
use tokio::sync::mpsc;

/// Defines each test for both drivers.
#[macro_export]
macro_rules! on_both_drivers {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $( #[test] fn $name() { super::$name(fathom_io::Driver::Epoll) } )*
        }
        mod uring {
            $( #[test] fn $name() {
                match fathom_io::choose(fathom_core::plan::IoChoice::Uring) {
                    Ok(_) => super::$name(fathom_io::Driver::Uring),
                    Err(why) => fathom_testbed::need::skip(&why.to_string()),
                }
            } )*
        }
    };
}

pub fn origin() -> Origin {
    Origin {
        file: "test.toml".into(),
        line: 1,
    }
}

/// A plan to be edited, then started.
pub struct Setup {
    pub listener: ListenerPlan,
    pub pools: Vec<PoolPlan>,
    pub log: Option<LogPlan>,
}

pub struct Proxy {
    pub address: SocketAddr,
    pub listener: Arc<ListenerStats>,
    pub stats: Arc<Registry>,
    pub pools: Vec<Arc<Pool>>,
    registry: Endpoints,
    log: Option<Arc<fathom_access::Log>>,
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Drain,
    Hurry,
    Advance(Duration),
    Reload(Arc<Service>),
}

struct Named<'a>(&'a [Arc<Pool>]);

impl Pools for Named<'_> {
    fn pool(&self, name: &str) -> Option<Arc<Pool>> {
        self.0.iter().find(|p| &**p.name() == name).cloned()
    }

    fn connector(&self, _: &str) -> Option<Arc<fathom_tls::Connector>> {
        None
    }
}

pub fn route(action: ActionPlan) -> RoutePlan {
    RoutePlan {
        name: "web/1".into(),
        origin: origin(),
        matches: MatchPlan::default(),
        action,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(60),
        retry: RetryPlan {
            attempts: 2,
            on: vec![RetryOn::ConnectFailure, RetryOn::Reset],
            budget: 0.2,
        },
        max_body: None,
    }
}

pub fn to_pool(name: &str) -> ActionPlan {
    ActionPlan::Forward(RouteTarget { pool: name.into() })
}

impl Setup {
    /// One route to one pool with these servers.
    pub fn new(servers: &[SocketAddr]) -> Self {
        let http = HttpPlan {
            routes: vec![Arc::new(route(to_pool("pool")))],
            passthrough: vec![],
            trusted_proxies: vec![],
            forwarded: ForwardedPlan {
                x_forwarded_for: true,
                x_forwarded_proto: true,
                x_forwarded_host: true,
                x_forwarded_port: true,
                x_real_ip: false,
                forwarded: false,
            },
            cleartext: CleartextProtocols {
                http1: true,
                h2c: false,
            },
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            max_body: None,
        };
        let listener = ListenerPlan {
            name: "web".into(),
            origin: origin(),
            binds: vec![],
            depth: DepthPlan::Http(http),
            accept_proxy_protocol: vec![],
            limits: LimitsPlan::default(),
            tls: None,
        };
        Self {
            listener,
            pools: vec![pool("pool", servers)],
            log: None,
        }
    }

    pub fn http(mut self, edit: impl FnOnce(&mut HttpPlan)) -> Self {
        let DepthPlan::Http(http) = &mut self.listener.depth else {
            unreachable!()
        };
        edit(http);
        self
    }

    pub fn route(self, edit: impl FnOnce(&mut RoutePlan)) -> Self {
        self.http(|http| edit(Arc::make_mut(&mut http.routes[0])))
    }

    pub fn pool(mut self, edit: impl FnOnce(&mut PoolPlan)) -> Self {
        edit(&mut self.pools[0]);
        self
    }

    pub fn start(self, driver: Driver) -> Proxy {
        let registry = Endpoints::new();
        let stats = Arc::new(Registry::new());
        let pools: Vec<_> = self
            .pools
            .iter()
            .map(|plan| Pool::new(Arc::new(plan.clone()), &registry, None))
            .collect();
        let log = self
            .log
            .as_ref()
            .and_then(|plan| fathom_access::Log::open(plan).unwrap());
        let service = Service::new(&self.listener, &Named(&pools), &stats, log.clone());
        let (commands, inbox) = mpsc::unbounded_channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || block_on(driver, accept(service, inbox, tell)));
        Proxy {
            address: told.recv().unwrap(),
            listener: stats.listener(&"web".into()),
            stats,
            pools,
            registry,
            log,
            commands,
            thread: Some(thread),
        }
    }
}

pub fn pool(name: &str, servers: &[SocketAddr]) -> PoolPlan {
    let server = |(i, address): (usize, &SocketAddr)| ServerPlan {
        name: format!("s{}", i + 1).into(),
        address: ServerAddress::Ip(*address),
        weight: 1,
        backup: false,
        max_connections: None,
        origin: origin(),
    };
    PoolPlan {
        name: name.into(),
        origin: origin(),
        balance: BalancePlan {
            algorithm: Algorithm::RoundRobin,
            hash_on: HashOn::SourceIp,
            bounded_load: None,
        },
        servers: servers.iter().enumerate().map(server).collect(),
        health: None,
        outliers: None,
        slow_start: Duration::ZERO,
        affinity: None,
        tls: None,
        protocol: ServerProtocol::Http1,
        keepalive: KeepalivePlan {
            idle: 256,
            timeout: Duration::from_secs(60),
        },
        queue: None,
        proxy_protocol: None,
    }
}

async fn accept(
    service: Arc<Service>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    tell: std::sync::mpsc::Sender<SocketAddr>,
) {
    let any = "127.0.0.1:0".parse().unwrap();
    let socket = fathom_io::listen(any, &ListenOptions::default()).unwrap();
    tell.send(socket.local_addr().unwrap()).unwrap();
    let listener = Listener::new(socket).unwrap();
    let current = Current::new(service);
    let drain = Drain::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted.unwrap();
                let info = ClientInfo::new(peer, stream.local_addr());
                spawn(fathom_http::serve(Link::from(stream), info, current.clone(), drain.clone()));
            }
            command = inbox.recv() => match command {
                Some(Command::Drain) => drain.start(),
                Some(Command::Advance(by)) => clock::advance(by),
                Some(Command::Reload(service)) => current.set(service),
                // From now on a millisecond is half a second: what waits for time gets it, whatever the machine does.
                Some(Command::Hurry) => {
                    spawn(async {
                        loop {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            clock::advance(Duration::from_millis(500));
                        }
                    });
                }
                None => break,
            },
        }
    }
    fathom_http::close_kept();
}

impl Proxy {
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    pub fn drain(&self) {
        self.commands.send(Command::Drain).unwrap();
    }

    /// Makes time run fast from now on.
    pub fn hurry(&self) {
        self.commands.send(Command::Hurry).unwrap();
    }

    pub fn advance(&self, by: Duration) {
        self.commands.send(Command::Advance(by)).unwrap();
    }

    /// Puts another configuration in force, with the same pools.
    pub fn reload(&self, setup: &Setup) {
        let pools: Vec<_> = setup
            .pools
            .iter()
            .map(|plan| {
                Pool::new(
                    Arc::new(plan.clone()),
                    &self.registry,
                    self.pools.first().map(|p| &**p),
                )
            })
            .collect();
        let service = Service::new(
            &setup.listener,
            &Named(&pools),
            &self.stats,
            self.log.clone(),
        );
        self.commands.send(Command::Reload(service)).unwrap();
    }

    pub fn route_stats(&self) -> Arc<RouteStats> {
        self.stats.route(&"web".into(), &"web/1".into())
    }

    pub fn log(&self) -> &fathom_access::Log {
        self.log.as_ref().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let (closed, _) = mpsc::unbounded_channel();
        self.commands = closed;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the proxy's thread panicked");
        }
    }
}
