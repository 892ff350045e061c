//! PostgreSQL with pgbench, at stream depth.

use std::process::Command;

use fathom_testbed::need;
use fathom_testbed::ports::Port;
use fathom_testbed::tcp::Refusing;
use fathom_testbed::wait;
use rustix::process::Signal;

use super::drivers;
use super::program::{Program, unprivileged};
use crate::support::{Ask, run};

#[test]
fn postgres_and_pgbench() {
    let programs = ["initdb", "postgres", "pgbench"].map(need::program);
    let [Some(initdb), Some(postgres), Some(pgbench)] = programs else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let Some(mut init) = unprivileged(&initdb, directory.path()) else {
        return;
    };
    let data = directory.path().join("data");
    init.args(["--username=bench", "--auth=trust", "--no-sync", "-D"])
        .arg(&data)
        .current_dir(directory.path());
    run(&mut init).ok();
    let port = Port::reserve();
    let mut serve = unprivileged(&postgres, directory.path()).unwrap();
    serve
        .arg("-D")
        .arg(&data)
        .args(["-h", "127.0.0.1", "-p", &port.number().to_string()])
        .args(["-k", "", "-c", "fsync=off"])
        .current_dir(directory.path());
    // SIGINT is its "fast" shutdown: it does not wait for clients.
    let _server = Program::start(&mut serve)
        .ended_by(Signal::INT)
        .accepts(port.v4());
    let dead = Refusing::new();
    for (nth, io) in drivers().into_iter().enumerate() {
        let fathom = io.start(
            r#"
            [listeners.postgres]
            bind = "127.0.0.1:{postgres}"
            depth = "stream"
            pool = "postgres"
            [pools.postgres]
            balance = "least-connections"
            servers = [{ address = "<up>", name = "up" }, { address = "<dead>", name = "dead" }]
            health = { postgres = "user=bench dbname=postgres", interval = "200ms", timeout = "10s", rise = 1 }
            "#,
            &[("up", &port.v4()), ("dead", &dead.address())],
        );
        wait::until("the check to speak with the server", || {
            fathom.server("postgres", "up")["health"] == "up"
        });
        let bench = |arguments: &[&str]| {
            let through = fathom.address("postgres");
            let mut command = Command::new(&pgbench);
            command
                .args(["-h", "127.0.0.1", "-p", &through.port().to_string()])
                .args(["-U", "bench"])
                .args(arguments)
                .arg("postgres")
                .env("PGSSLMODE", "disable")
                .env("PGCONNECT_TIMEOUT", "30");
            run(&mut command)
        };
        if nth == 0 {
            bench(&["-i", "-q", "-s", "1"]).ok();
        }
        let said = bench(&["-n", "-c", "4", "-j", "2", "-t", "25"]).ok();
        assert!(
            said.contains("number of transactions actually processed: 100/100"),
            "{said}"
        );
        // A connection for each transaction.
        let said = bench(&["-n", "-S", "-C", "-c", "4", "-j", "2", "-t", "10"]).ok();
        assert!(
            said.contains("number of transactions actually processed: 40/40"),
            "{said}"
        );
        let connections = [("listener", "postgres")];
        assert!(fathom.metric("fathom_listener_connections_total", &connections) >= 44.0);
        fathom.stop();
    }
}
