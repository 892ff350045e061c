//! Redis with redis-benchmark, at stream depth.

use std::process::Command;

use fathom_testbed::need;
use fathom_testbed::ports::Port;
use fathom_testbed::wait;

use super::drivers;
use super::program::Program;
use crate::support::{Ask, run};

#[test]
fn redis_and_its_benchmark() {
    let programs = ["redis-server", "redis-benchmark", "redis-cli"].map(need::program);
    let [Some(server), Some(benchmark), Some(cli)] = programs else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let _server = Program::start(
        Command::new(server)
            .args(["--port", &port.number().to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(directory.path()),
    )
    .accepts(port.v4());
    for io in drivers() {
        let fathom = io.start(
            r#"
            [listeners.redis]
            bind = "127.0.0.1:{redis}"
            depth = "stream"
            pool = "redis"
            [pools.redis]
            servers = [{ address = "<up>", name = "up" }]
            health = { redis = "PING", interval = "200ms", timeout = "10s", rise = 1 }
            "#,
            &[("up", &port.v4())],
        );
        wait::until("the check to speak with the server", || {
            fathom.server("redis", "up")["health"] == "up"
        });
        let through = fathom.address("redis").port().to_string();
        let there = ["-h", "127.0.0.1", "-p", &through];
        let ask = |words: &[&str]| run(Command::new(&cli).args(there).args(words)).ok();
        assert_eq!(ask(&["set", "key", "value"]).trim(), "OK");
        assert_eq!(ask(&["get", "key"]).trim(), "value");
        let said = run(Command::new(&benchmark).args(there).args([
            "-n",
            "1000",
            "-c",
            "16",
            "-d",
            "2000",
            "-t",
            "set,get,lrange_100",
            "-q",
        ]))
        .ok();
        for test in ["SET", "GET", "LRANGE_100"] {
            assert!(said.contains(test), "{test}: {said}");
        }
        assert!(!said.to_ascii_lowercase().contains("error"), "{said}");
        fathom.stop();
    }
}
