//! A process that is none: a plan, pools and counters behind the admin side.
#![allow(dead_code)] // each test program uses its part of it

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fathom_admin::{
    AccessLog, Answer, Bound, Certificate, Change, Control, ExplainRequest, Packet, PacketListener,
    PacketServer, PlanReport, PlanRequest, Refusal, Reloads, State, bind,
};
use fathom_core::plan::*;
use fathom_core::stats::Registry;
use fathom_core::{CheckReport, Endpoints, Health, Pool, Reason, Tick};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const NOW: Tick = Tick::from_millis(100_000);

pub(crate) struct Fake {
    token: Option<String>,
    plan: Arc<Plan>,
    pub(crate) pools: Vec<Arc<Pool>>,
    stats: Arc<Registry>,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Serves on a loopback port.
pub(crate) fn serve(fake: &Arc<Fake>) -> SocketAddr {
    let bound = bind(&AdminBind::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = bound.address().unwrap();
    drop(serve_at(bound, fake));
    address
}

pub(crate) fn serve_at(bound: Bound, fake: &Arc<Fake>) -> JoinHandle<std::io::Result<()>> {
    RUNTIME.spawn(bound.serve(Arc::clone(fake) as Arc<dyn Control>))
}

fn origin(line: u32) -> Origin {
    Origin {
        file: "fathom.toml".into(),
        line,
    }
}

fn server(name: &str, port: u16, weight: u32) -> ServerPlan {
    let address = ServerAddress::Ip(([192, 0, 2, 1], port).into());
    ServerPlan {
        name: name.into(),
        address,
        weight,
        backup: false,
        max_connections: None,
        origin: origin(30),
    }
}

fn pool(name: &str, servers: Vec<ServerPlan>, health: Option<HealthPlan>) -> Arc<PoolPlan> {
    Arc::new(PoolPlan {
        name: name.into(),
        origin: origin(20),
        balance: BalancePlan {
            algorithm: Algorithm::RoundRobin,
            hash_on: HashOn::SourceIp,
            bounded_load: None,
        },
        servers,
        health,
        outliers: None,
        slow_start: Duration::ZERO,
        affinity: None,
        tls: None,
        protocol: ServerProtocol::Http1,
        keepalive: KeepalivePlan {
            idle: 1,
            timeout: Duration::from_secs(60),
        },
        queue: None,
        proxy_protocol: None,
    })
}

fn route() -> RoutePlan {
    RoutePlan {
        name: "web/1".into(),
        origin: origin(7),
        matches: MatchPlan {
            host: vec![
                HostPattern::Exact("example.com".into()),
                HostPattern::Suffix(".example.org".into()),
            ],
            path: Some(PathPattern::Prefix("/api/".into())),
            method: vec!["GET".into()],
            headers: vec![("x".into(), ValuePattern::Present)],
            ..MatchPlan::default()
        },
        action: ActionPlan::Forward(RouteTarget { pool: "api".into() }),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        retry: RetryPlan {
            attempts: 0,
            on: Vec::new(),
            budget: 0.2,
        },
        max_body: None,
    }
}

fn listener(name: &str, binds: &[(BindAddress, bool)], depth: DepthPlan) -> ListenerPlan {
    ListenerPlan {
        name: name.into(),
        origin: origin(3),
        binds: binds
            .iter()
            .map(|&(address, tls)| BindPlan {
                address,
                tls,
                origin: origin(4),
            })
            .collect(),
        depth,
        accept_proxy_protocol: Vec::new(),
        limits: LimitsPlan::default(),
        tls: None,
    }
}

fn plan() -> Plan {
    let http = HttpPlan {
        routes: vec![Arc::new(route())],
        passthrough: Vec::new(),
        trusted_proxies: Vec::new(),
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
    let udp = DatagramPlan {
        pool: "dns".into(),
        idle_timeout: Duration::from_secs(10),
        max_flows: 100,
    };
    let web = [
        (BindAddress::Ip("127.0.0.1:8080".parse().unwrap()), false),
        (BindAddress::Any(8443), true),
    ];
    let health = HealthPlan {
        probe: ProbePlan::Tcp,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 1,
        fast_interval: Duration::from_secs(1),
        port: None,
        origin: origin(31),
    };
    Plan {
        admin: None,
        runtime: RuntimePlan {
            workers: None,
            io: IoChoice::Auto,
            user: None,
            shutdown_grace: Duration::from_secs(30),
        },
        log: LogPlan {
            level: LogLevel::Info,
            access: AccessTarget::Off,
            format: AccessFormat::Json,
        },
        listeners: vec![
            listener("web", &web, DepthPlan::Http(http)),
            listener(
                "dns",
                &[(BindAddress::Any(53), false)],
                DepthPlan::Datagram(udp),
            ),
        ],
        pools: vec![
            pool(
                "api",
                vec![server("one", 1, 3), server("two", 2, 1)],
                Some(health),
            ),
            pool("dns", vec![server("ns", 53, 1)], None),
        ],
        files: vec!["fathom.toml".into()],
    }
}

impl Fake {
    pub(crate) fn new(token: Option<&str>) -> Arc<Self> {
        let (plan, registry) = (Arc::new(plan()), Endpoints::new());
        let pools: Vec<_> = plan
            .pools
            .iter()
            .map(|pool| Pool::new(Arc::clone(pool), &registry, None))
            .collect();
        let one = Arc::clone(pools[0].members()[0].endpoint());
        one.record_check(CheckReport {
            at: NOW,
            ok: false,
            took: Duration::from_millis(3),
            detail: "status 500, wanted 200-299".into(),
        });
        one.set_health(NOW, Health::Down);
        Arc::new(Self {
            token: token.map(str::to_owned),
            plan,
            pools,
            stats: Arc::default(),
        })
    }

    /// Five requests on three connections, of which one failed and one had no route.
    pub(crate) fn count_something(&self) {
        let listener = self.stats.listener(&"web".into());
        listener.here().connections.add(3);
        listener.here().active.add(2);
        listener.here().requests.add(5);
        listener.here().reasons.count(Reason::NoRoute);
        listener.here().tls_time.record(Duration::from_millis(1));
        let route = self.stats.route(&"web".into(), &"web/1".into());
        for status in [200, 200, 201, 204, 503] {
            route.here().requests.inc();
            route.here().status.count(status);
            route.here().latency.record(Duration::from_millis(2));
        }
        route.here().reasons.count(Reason::NoServer);
        let server = Arc::clone(self.pools[0].members()[1].endpoint());
        server.stats().here().failures.count(Reason::ConnectFailed);
        self.pools[0]
            .stats()
            .here()
            .queue_time
            .record(Duration::from_millis(1));
    }
}

impl Control for Fake {
    fn state(&self) -> State {
        State {
            version: "1.2.3",
            now: NOW,
            started: Duration::from_secs(1_700_000_000),
            uptime: Duration::from_secs(100),
            workers: 2,
            driver: "epoll",
            driver_note: Some("io_uring is forbidden here".into()),
            worker_panics: 1,
            plan: Arc::clone(&self.plan),
            pools: self.pools.clone(),
            stats: Arc::clone(&self.stats),
            reloads: Reloads {
                ok: 2,
                failed: 1,
                last_unix_seconds: Some(1_700_000_001),
                last_error: Some("fathom.toml:1: what?".into()),
            },
            access_log: Some(AccessLog {
                written: 9,
                dropped: 7,
                last_error: None,
            }),
            certificates: vec![Certificate {
                listener: "web".into(),
                path: "cert \"x\".pem".into(),
                names: vec!["example.com".into()],
                not_after_unix_seconds: 2_000_000_000,
                error: None,
            }],
            names: Vec::new(),
            packet: Some(Packet {
                listeners: vec![PacketListener {
                    listener: "edge".into(),
                    reasons: vec![("denied".into(), 2)],
                    servers: vec![PacketServer {
                        server: "one".into(),
                        flows: 6,
                        ..PacketServer::default()
                    }],
                }],
                flow_entries: 5,
                flow_capacity: 10,
                notes: Vec::new(),
            }),
        }
    }

    fn token(&self) -> Option<String> {
        self.token.clone()
    }

    fn reload(self: Arc<Self>) -> Answer<PlanReport> {
        let change = Change {
            verb: "changed".into(),
            what: "pool api".into(),
            details: vec!["weight".into()],
        };
        Box::pin(async {
            Ok(PlanReport {
                changes: vec![change],
                warnings: Vec::new(),
            })
        })
    }

    fn plan(self: Arc<Self>, request: PlanRequest) -> Answer<PlanReport> {
        Box::pin(async move {
            let path = request.path.unwrap_or_default();
            Err(Refusal(format!(
                "{}: no such file\nsecond line",
                path.display()
            )))
        })
    }

    fn explain(self: Arc<Self>, request: ExplainRequest) -> Answer<serde_json::Value> {
        Box::pin(async move {
            Ok(serde_json::json!({ "asked": format!("{} {}", request.method, request.url) }))
        })
    }
}
