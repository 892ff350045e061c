//! Checks decide who gets traffic: servers come up, go down and come back; reloads disturb nothing.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{health, pool_plan, runtime, server};
use fathom_core::plan::{HealthPlan, Origin, PoolPlan, ProbePlan, ServerAddress};
use fathom_core::{Endpoint, Endpoints, Health, Pool};
use fathom_testbed::tcp::{Peer, Refusing};
use fathom_testbed::wait;
use fathom_upstream::{ResolverOptions, Upstream};

const NEVER: Duration = Duration::from_secs(3600);

fn upstream() -> Upstream {
    Upstream::new(runtime(), ResolverOptions::default())
}

fn endpoint(pool: &Pool, index: usize) -> Arc<Endpoint> {
    Arc::clone(pool.members()[index].endpoint())
}

fn wait_for(endpoint: &Endpoint, health: Health) {
    wait::until(
        &format!("{} to be {}", endpoint.name(), health.as_str()),
        || endpoint.health() == health,
    );
}

/// Answers `+PONG` on a unix socket until dropped.
fn pong_at(path: &Path) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    let path = path.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if !path.exists() {
                return;
            }
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"+PONG\r\n");
        }
    })
}

#[test]
fn servers_go_down_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let server_thread = pong_at(&socket);
    let plan = PoolPlan {
        servers: vec![server("a", ServerAddress::Unix(socket.clone()))],
        health: Some(health(ProbePlan::Redis {
            command: "PING".into(),
        })),
        ..pool_plan("cache")
    };
    let pool = Pool::new(Arc::new(plan), &Endpoints::new(), None);
    let server = endpoint(&pool, 0);
    assert_eq!(server.health(), Health::Probing);
    let upstream = upstream();
    upstream.apply(&[Arc::clone(&pool)]);
    wait_for(&server, Health::Up);
    assert_eq!(server.last_check().unwrap().detail, "ok");

    std::fs::remove_file(&socket).unwrap();
    wait_for(&server, Health::Down);
    assert_eq!(server.last_check().unwrap().detail, "connect: no such file");

    let second = pong_at(&socket);
    wait_for(&server, Health::Up);
    drop(upstream);
    drop((server_thread, second)); // they end with the process
}

#[test]
fn a_killed_server_is_refused_and_a_silent_one_times_out() {
    let dying = Peer::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"+PONG\r\n");
    });
    let silent = Peer::sink();
    let plan = PoolPlan {
        servers: vec![
            server("dying", ServerAddress::Ip(dying.address())),
            server("silent", ServerAddress::Ip(silent.address())),
        ],
        health: Some(HealthPlan {
            timeout: Duration::from_millis(300),
            ..health(ProbePlan::Redis {
                command: "PING".into(),
            })
        }),
        ..pool_plan("cache")
    };
    let pool = Pool::new(Arc::new(plan), &Endpoints::new(), None);
    let upstream = upstream();
    upstream.apply(&[Arc::clone(&pool)]);
    wait_for(&endpoint(&pool, 0), Health::Up);
    wait_for(&endpoint(&pool, 1), Health::Down);
    assert_eq!(
        endpoint(&pool, 1).last_check().unwrap().detail,
        "timeout after 300ms waiting for an answer"
    );
    dying.kill();
    wait_for(&endpoint(&pool, 0), Health::Down);
    wait::until("the last check to say why", || {
        endpoint(&pool, 0)
            .last_check()
            .is_some_and(|check| check.detail == "connect refused")
    });
}

#[test]
fn another_port_can_be_checked() {
    let (serving, checked) = (Refusing::new(), Peer::sink());
    let plan = PoolPlan {
        servers: vec![server("a", ServerAddress::Ip(serving.address()))],
        health: Some(HealthPlan {
            port: Some(checked.address().port()),
            ..health(ProbePlan::Tcp)
        }),
        ..pool_plan("web")
    };
    let pool = Pool::new(Arc::new(plan), &Endpoints::new(), None);
    let upstream = upstream();
    upstream.apply(&[Arc::clone(&pool)]);
    wait_for(&endpoint(&pool, 0), Health::Up);
}

#[test]
fn a_reload_keeps_health_and_restarts_only_what_changed() {
    let peer = Peer::sink();
    let registry = Endpoints::new();
    let plan = |interval: Duration, line: u32| PoolPlan {
        servers: vec![server("a", ServerAddress::Ip(peer.address()))],
        health: Some(HealthPlan {
            interval,
            rise: 1,
            origin: Origin {
                file: "fathom.toml".into(),
                line,
            },
            ..health(ProbePlan::Tcp)
        }),
        ..pool_plan("web")
    };
    let upstream = upstream();
    let first = Pool::new(Arc::new(plan(NEVER, 1)), &registry, None);
    upstream.apply(&[Arc::clone(&first)]);
    wait_for(&endpoint(&first, 0), Health::Up);
    wait::until("the first check", || peer.accepted() == 1);

    // Only the line it is written on has changed: no new task, no new check.
    let second = Pool::new(Arc::new(plan(NEVER, 2)), &registry, Some(&first));
    assert_eq!(endpoint(&second, 0).health(), Health::Up);
    upstream.apply(&[Arc::clone(&second)]);

    let third = Pool::new(Arc::new(plan(NEVER * 2, 2)), &registry, Some(&second));
    upstream.apply(&[Arc::clone(&third)]);
    wait::until("the check of the changed plan", || peer.accepted() >= 2);
    assert_eq!(
        (peer.accepted(), endpoint(&third, 0).health()),
        (2, Health::Up)
    );
}

#[test]
fn without_checks_a_server_counts_as_healthy() {
    let refusing = Refusing::new();
    let registry = Endpoints::new();
    let checked = PoolPlan {
        servers: vec![server("a", ServerAddress::Ip(refusing.address()))],
        health: Some(health(ProbePlan::Tcp)),
        ..pool_plan("web")
    };
    let unchecked = PoolPlan {
        health: None,
        ..checked.clone()
    };
    let upstream = upstream();
    let before = Pool::new(Arc::new(checked), &registry, None);
    upstream.apply(&[Arc::clone(&before)]);
    wait_for(&endpoint(&before, 0), Health::Down);
    let after = Pool::new(Arc::new(unchecked), &registry, Some(&before));
    upstream.apply(&[Arc::clone(&after)]);
    assert_eq!(endpoint(&after, 0).health(), Health::Up);
}
