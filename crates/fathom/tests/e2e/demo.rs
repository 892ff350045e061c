//! `fathom demo`: what it prints can be opened, and it ends by itself.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use fathom_testbed::client::{self, Connection};
use fathom_testbed::{need, tcp, udp, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{BINARY, run};

/// A demo that has said what to open.
struct Demo {
    process: Child,
    said: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(BINARY)
            .arg("demo")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("Ctrl-C") {
            assert_ne!(out.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        // Whatever follows must not stop at a full pipe.
        std::thread::spawn(move || out.read_to_end(&mut Vec::new()));
        Self { process, said }
    }

    /// Every address that it speaks of after `scheme`.
    fn addresses(&self, scheme: &str) -> Vec<SocketAddr> {
        let mut found: Vec<SocketAddr> = self
            .said
            .split(scheme)
            .skip(1)
            .filter_map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
                rest[..end.unwrap_or(rest.len())].parse().ok()
            })
            .collect();
        found.dedup();
        found
    }

    /// The admin side's address, and the web's.
    fn admin_and_web(&self) -> (SocketAddr, SocketAddr) {
        let all = self.addresses("http://");
        (all[0], all[1])
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn admin(at: SocketAddr, path: &str) -> client::Response {
    Connection::open(at)
        .exchange(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
        .unwrap()
}

#[test]
fn what_it_prints_can_be_opened() {
    // Somebody has the default ports, or whoever runs this machine's other programs has: it finds others.
    let _taken: Vec<_> = [8080, 8443, 7000, 9400]
        .into_iter()
        .filter_map(|port| TcpListener::bind(("0.0.0.0", port)).ok())
        .collect();
    let demo = Demo::start(&[]);
    let (dashboard, web) = demo.admin_and_web();
    for address in [dashboard, web] {
        assert!(![8080, 8443, 7000, 9400].contains(&address.port()));
    }
    let page = admin(dashboard, "/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<html"), "{}", page.text());

    wait::until("the example servers to be up", || {
        client::get(web, "/").status == 200
    });
    let names: Vec<String> = ["alder", "birch", "cedar"].map(str::to_owned).to_vec();
    wait::until("every example server to take its turn", || {
        let metrics = admin(dashboard, "/metrics").text();
        names.iter().all(|name| {
            let series = format!("fathom_server_requests_total{{pool=\"web\",server=\"{name}\"");
            metrics
                .lines()
                .any(|l| l.starts_with(&series) && !l.ends_with(" 0"))
        })
    });
    assert_eq!(client::get(web, "/api/users").status, 200);
    let old = client::get(web, "/old/page");
    assert_eq!(
        (old.status, old.header("location")),
        (301, Some("/hello/page"))
    );

    let echo = demo.addresses("telnet://")[0];
    assert!(!tcp::exchange(echo, b"hello\n").unwrap().is_empty());
    let datagrams: u16 = demo
        .said
        .split("/dev/udp/127.0.0.1/")
        .nth(1)
        .map(|rest| {
            rest.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        })
        .and_then(|digits| digits.parse().ok())
        .unwrap();
    let client = udp::client(([127, 0, 0, 1], datagrams).into());
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .unwrap();
    wait::until("an answering datagram", || {
        client.send(b"hi").is_ok() && client.recv(&mut [0; 64]).is_ok()
    });
    if let Some(curl) = need::program("curl") {
        let secure = demo.addresses("https://")[0];
        let url = format!("https://{secure}/");
        run(Command::new(curl).args(["-ksSf", "--max-time", "30", &url])).ok();
    }
    // Visitors come by themselves.
    let requests = || {
        let status: serde_json::Value =
            serde_json::from_str(&admin(dashboard, "/api/v1/status").text()).unwrap();
        status["listeners"][0]["requests"].as_u64().unwrap()
    };
    let before = requests();
    wait::until("visitors", || requests() > before + 5);

    // Ctrl-C.
    let mut demo = demo;
    kill_process(Pid::from_child(&demo.process), Signal::INT).unwrap();
    let status = wait::some("the end", || demo.process.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn it_ends_by_itself_and_leaves_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("demo.toml");
    let mut demo = Demo::start(&["--seconds", "1", "--write-config", copy.to_str().unwrap()]);
    let status = wait::some("the end", || demo.process.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(
        std::fs::read_to_string(copy)
            .unwrap()
            .contains("[pools.web]")
    );
}
