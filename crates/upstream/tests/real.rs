//! Checks against the real servers from Debian's packages.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use common::{health, pool_plan, runtime, server};
use fathom_core::plan::{PoolPlan, ProbePlan, ServerAddress};
use fathom_core::{Endpoints, Health, Pool};
use fathom_testbed::{need, wait};
use fathom_upstream::{ResolverOptions, Upstream};

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

/// Runs up and down with the server behind a unix socket: none, there, killed.
fn follows(probe: ProbePlan, socket: &Path, start: impl FnOnce() -> Server) {
    let plan = PoolPlan {
        servers: vec![server("real", ServerAddress::Unix(socket.to_owned()))],
        health: Some(health(probe)),
        ..pool_plan("real")
    };
    let pool = Pool::new(Arc::new(plan), &Endpoints::new(), None);
    let endpoint = Arc::clone(pool.members()[0].endpoint());
    let upstream = Upstream::new(runtime(), ResolverOptions::default());
    upstream.apply(&[pool]);
    wait::until("down before it is started", || {
        endpoint.health() == Health::Down
    });
    let server = start();
    wait::until("up once it runs", || endpoint.health() == Health::Up);
    drop(server);
    wait::until("down once it is killed", || {
        endpoint.health() == Health::Down
    });
}

#[test]
fn redis() {
    let Some(program) = need::program("redis-server") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    follows(
        ProbePlan::Redis {
            command: "PING".into(),
        },
        &socket,
        || {
            let mut command = Command::new(program);
            Server::start(
                command
                    .args(["--port", "0", "--save", "", "--unixsocket"])
                    .arg(&socket)
                    .current_dir(dir.path()),
            )
        },
    );
}

#[test]
fn postgres() {
    let (Some(initdb), Some(postgres)) = (need::program("initdb"), need::program("postgres"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // PostgreSQL refuses to run as root.
    const NOBODY: u32 = 65534;
    let root = need::is_root();
    let run = |program: &Path| {
        let mut command = Command::new(program);
        command.current_dir(dir.path());
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    if root {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let data = dir.path().join("data");
    std::fs::write(dir.path().join("pw"), "secret\n").unwrap();
    let mut command = run(&initdb);
    command
        .args([
            "-A",
            "scram-sha-256",
            "--no-sync",
            "-U",
            "admin",
            "--pwfile=pw",
        ])
        .arg("-D")
        .arg(&data);
    let made = command.output().unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let probe = ProbePlan::Postgres {
        parameters: vec![("user".into(), "monitor".into())],
    };
    follows(probe, &dir.path().join(".s.PGSQL.5432"), || {
        let mut command = run(&postgres);
        command.args([
            "-F",
            "-c",
            "listen_addresses=",
            "-c",
            "unix_socket_directories=.",
        ]);
        command.arg("-k").arg(dir.path()).arg("-D").arg(&data);
        Server::start(&mut command)
    });
}
