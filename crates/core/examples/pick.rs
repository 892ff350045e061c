//! What a choice costs: nanoseconds per pick and release, for each algorithm and some sizes of pools.
//!
//! `cargo run --release -p fathom-core --example pick`
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fathom_core::plan::{
    Algorithm, BalancePlan, HashOn, KeepalivePlan, Origin, PoolPlan, ServerAddress, ServerPlan,
    ServerProtocol,
};
use fathom_core::{Endpoints, Pick, Pool, Tick, hash};

const ALGORITHMS: [(&str, Algorithm); 7] = [
    ("round-robin", Algorithm::RoundRobin),
    ("least-connections", Algorithm::LeastConnections),
    ("least-response-time", Algorithm::LeastResponseTime),
    ("random-two-choices", Algorithm::RandomTwoChoices),
    ("random", Algorithm::Random),
    ("first", Algorithm::First),
    ("hash", Algorithm::Hash),
];

fn plan(algorithm: Algorithm, servers: u16) -> PoolPlan {
    let origin = Origin {
        file: "example".into(),
        line: 1,
    };
    let server = |i: u16| {
        let ip = IpAddr::from([10, 0, (i >> 8) as u8, i as u8]);
        ServerPlan {
            name: format!("s{i}").into(),
            address: ServerAddress::Ip((ip, 80).into()),
            weight: 1 + u32::from(i) % 4,
            backup: false,
            max_connections: None,
            origin: origin.clone(),
        }
    };
    PoolPlan {
        name: "pool".into(),
        origin: origin.clone(),
        balance: BalancePlan {
            algorithm,
            hash_on: HashOn::SourceIp,
            bounded_load: None,
        },
        servers: (0..servers).map(server).collect(),
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

fn main() {
    fathom_core::stats::set_worker(0);
    println!(
        "{:<22}{:>9}{:>14}{:>22}",
        "algorithm", "servers", "ns per pick", "view rebuilt in us"
    );
    for (name, algorithm) in ALGORITHMS {
        for servers in [2, 10, 50, 1000] {
            let pool = Pool::new(Arc::new(plan(algorithm, servers)), &Endpoints::new(), None);
            let pick = |i: u64| {
                let random = hash::mix(i);
                let now = Tick::from_millis(1000);
                let cx = Pick {
                    now,
                    random,
                    hash: Some(random),
                    ..Pick::default()
                };
                black_box(pool.pick(&cx)).is_ok()
            };
            assert!((0..1000).all(pick), "every server is up");
            // The best of many short rounds: what the machine does besides is not ours.
            let round = || {
                let began = Instant::now();
                assert!((0..1000).all(pick), "every server is up");
                began.elapsed().as_nanos() as u64
            };
            let per_pick = (0..300).map(|_| round()).min().unwrap_or(0) as f64 / 1000.0;
            let began = Instant::now();
            for weight in 0..10 {
                // A weight that changes is the dearest change: even a Maglev table is built again.
                let set = pool.set_weight("s0", Some(weight));
                assert!(set.is_ok() && pick(0), "s0 exists");
            }
            let rebuild = began.elapsed().as_micros() as f64 / 10.0;
            println!("{name:<22}{servers:>9}{per_pick:>14.1}{rebuild:>22.1}");
        }
    }
}
