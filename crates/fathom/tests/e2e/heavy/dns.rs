//! A DNS server with dig, over UDP and TCP on one port.

use std::process::Command;

use fathom_testbed::need;
use fathom_testbed::ports::Port;

use super::drivers;
use super::program::Program;
use crate::support::{Ask, run};

#[test]
fn dnsmasq_and_dig() {
    let [Some(dnsmasq), Some(dig)] = ["dnsmasq", "dig"].map(need::program) else {
        return;
    };
    let servers: Vec<(Port, Program)> = (0..2)
        .map(|_| {
            let port = Port::reserve();
            let mut command = Command::new(&dnsmasq);
            command
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                ])
                .args(["--no-hosts", "--bind-interfaces", "--pid-file="])
                .args([
                    "--listen-address=127.0.0.1",
                    "--address=/fathom.test/192.0.2.7",
                ])
                .arg(format!("--port={}", port.number()));
            if need::is_root() {
                command.arg("--user=root");
            }
            let program = Program::start(&mut command).accepts(port.v4());
            (port, program)
        })
        .collect();
    for io in drivers() {
        let fathom = io.start(
            r#"
            [listeners.dns]
            bind = "127.0.0.1:{dns}"
            protocol = "udp"
            depth = "stream"
            pool = "dns"
            timeouts = { idle = "10s" }
            [listeners.dns-tcp]
            bind = "127.0.0.1:{dns}"
            depth = "stream"
            pool = "dns"
            [pools.dns]
            servers = ["<a>", "<b>"]
            "#,
            &[("a", &servers[0].0.v4()), ("b", &servers[1].0.v4())],
        );
        let port = fathom.port("dns").number().to_string();
        let ask = |more: &[&str]| {
            let mut command = Command::new(&dig);
            command
                .args(["@127.0.0.1", "-p", &port, "+short", "+time=5", "+tries=5"])
                .args(more)
                .arg("www.fathom.test");
            run(&mut command).ok()
        };
        for _ in 0..6 {
            assert_eq!(ask(&[]).trim(), "192.0.2.7");
            assert_eq!(ask(&["+tcp"]).trim(), "192.0.2.7");
        }
        let flows = fathom.metric(
            "fathom_listener_connections_total",
            &[("listener", "dns"), ("depth", "stream")],
        );
        assert!(flows >= 6.0, "{flows}");
        fathom.stop();
    }
}
