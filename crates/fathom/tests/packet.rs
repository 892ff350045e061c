//! The packet depth through the binary, in a network of namespaces: served, seen, adopted after a restart, changed to
//! another depth under load, detached. Needs root; skipped aloud without.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use fathom_testbed::{need, wait};

const VIP: &str = "10.77.0.100";

/// An HTTP server that answers with its name and keeps connections.
const SERVER: &str = r#"
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
ThreadingHTTPServer(("0.0.0.0", 80), Handler).serve_forever()
"#;

/// A client with one connection: a request for every line it is told, and the answer on a line of its own.
const CLIENT: &str = r#"
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=30)
for line in sys.stdin:
    connection.request("GET", "/")
    print(connection.getresponse().read().decode(), flush=True)
"#;

struct Net {
    prefix: String,
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Net {
    fn up() -> Option<Self> {
        if !need::root() {
            return None;
        }
        for program in ["ip", "ethtool", "nsenter", "python3", "curl"] {
            need::program(program)?;
        }
        let net = Self {
            prefix: format!("g{:05x}_", std::process::id() & 0xf_ffff),
            dir: tempfile::tempdir().expect("a directory"),
            children: Vec::new(),
        };
        let up = net.topo("up");
        assert!(
            up.status.success(),
            "{}",
            String::from_utf8_lossy(&up.stderr)
        );
        net.sh("lb1", &format!("ip addr add {VIP}/32 dev eth0"));
        Some(net)
    }

    fn topo(&self, verb: &str) -> Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testbed/net/topo.sh");
        Command::new("bash")
            .args([script, verb])
            .env("P", &self.prefix)
            .output()
            .expect("bash runs")
    }

    fn exec(&self, node: &str, program: &str) -> Command {
        // Not `ip netns exec`: that gives each command mounts of its own, and what is pinned would go with the process.
        let mut command = Command::new("nsenter");
        command.args([
            &format!("--net=/run/netns/{}{node}", self.prefix),
            "--",
            program,
        ]);
        command
            .env("FATHOM_BPF_DIR", self.pins())
            .stdin(Stdio::null());
        command
    }

    fn sh(&self, node: &str, line: &str) -> String {
        let out = self
            .exec(node, "sh")
            .args(["-c", line])
            .output()
            .expect("ip runs");
        assert!(
            out.status.success(),
            "{node}: {line}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn serve(&mut self, node: &str) {
        let child = self
            .exec(node, "python3")
            .args(["-c", SERVER, node])
            .spawn()
            .expect("python runs");
        self.children.push(child);
        wait::until("the server listens", || {
            self.exec(node, "curl")
                .args(["-sf", "http://127.0.0.1/"])
                .output()
                .is_ok_and(|o| o.status.success())
        });
    }

    fn pins(&self) -> PathBuf {
        self.dir.path().join("bpf")
    }

    fn config(&self, depth: &str) -> PathBuf {
        let packet = if depth == "packet" {
            "packet = { interface = \"eth0\", forward = \"nat\", flow_log = 1 }"
        } else {
            ""
        };
        let text = format!(
            r#"
[admin]
bind = "unix:{dir}/admin.sock"
[log]
access = "{dir}/access.log"
[listeners.web]
bind = "{VIP}:80"
depth = "{depth}"
pool = "web"
{packet}
[pools.web]
servers = [{{ address = "10.77.0.21:80", name = "b1" }}, {{ address = "10.77.0.22:80", name = "b2" }}]
health = {{ tcp = true, interval = "200ms", rise = 1, fall = 2 }}
"#,
            dir = self.dir.path().display()
        );
        let path = self.dir.path().join("fathom.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    fn fathom(&self, args: &[&str]) -> Output {
        self.exec("lb1", env!("CARGO_BIN_EXE_fathom"))
            .args(args)
            .current_dir(self.dir.path())
            .output()
            .expect("fathom runs")
    }

    fn start(&self, config: &Path) -> Running {
        let log = std::fs::File::create(self.dir.path().join("stderr")).expect("a file");
        let child = self
            .exec("lb1", env!("CARGO_BIN_EXE_fathom"))
            .arg("run")
            .arg("-c")
            .arg(config)
            .stderr(log)
            .spawn();
        let mut running = Running(child.expect("fathom runs"));
        wait::until("fathom serves", || {
            if let Ok(Some(status)) = running.0.try_wait() {
                panic!(
                    "fathom ended with {status}: {}",
                    std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
                );
            }
            self.fathom(&["status", "-c", "fathom.toml"])
                .status
                .success()
        });
        running
    }

    /// A new connection's answer; empty if there is none.
    fn get(&self) -> String {
        let url = format!("http://{VIP}/");
        let out = self
            .exec("client", "curl")
            .args(["-s", "--max-time", "20", &url])
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn both_answer(&self) {
        let mut seen = std::collections::BTreeSet::new();
        wait::until("both servers answer new connections", || {
            seen.insert(self.get());
            seen.contains("b1") && seen.contains("b2")
        });
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.fathom(&["packet", "detach"]);
        let _ = Command::new("umount").arg(self.pins()).output();
        self.topo("down");
    }
}

struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.0.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection that stays open.
struct Held {
    child: Child,
    answers: std::io::BufReader<std::process::ChildStdout>,
}

impl Held {
    fn open(net: &Net) -> Self {
        let mut child = net
            .exec("client", "python3")
            .args(["-c", CLIENT, VIP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let answers = std::io::BufReader::new(child.stdout.take().expect("piped"));
        Self { child, answers }
    }

    fn ask(&mut self) -> String {
        use std::io::{BufRead as _, Write as _};
        self.child
            .stdin
            .as_mut()
            .expect("piped")
            .write_all(b"go\n")
            .expect("the client lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("read");
        line.trim().to_owned()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn traffic_survives_the_process_and_the_next_one_takes_it_over() {
    let Some(mut net) = Net::up() else { return };
    net.serve("b1");
    net.serve("b2");
    let config = net.config("packet");
    let running = net.start(&config);
    net.both_answer();
    let mut held = Held::open(&net);
    let server = held.ask();
    assert!(!server.is_empty());

    running.signal("-KILL");
    drop(running);
    assert_eq!(held.ask(), server, "the kernel goes on forwarding");
    net.both_answer();

    let again = net.start(&config);
    let status = String::from_utf8(net.fathom(&["status"]).stdout).expect("text");
    assert!(status.contains("taken over"), "{status}");
    assert_eq!(held.ask(), server, "the flow outlives the restart");
    net.both_answer();

    // Every flow is sampled here (flow_log = 1), and stands in the access log.
    wait::until("flows are logged", || {
        let log = std::fs::read_to_string(net.dir.path().join("access.log")).unwrap_or_default();
        log.lines().any(|l| {
            l.contains(r#""kind":"packet""#)
                && l.contains("10.77.0.2")
                && l.contains(r#""pool":"web""#)
        })
    });

    // Drained: nothing new, but what it has goes on.
    assert!(
        net.fathom(&["drain", &format!("web/{server}")])
            .status
            .success()
    );
    let other = if server == "b1" { "b2" } else { "b1" };
    wait::until("the drain has reached the kernel", || net.get() == other);
    for _ in 0..5 {
        assert_eq!(net.get(), other);
    }
    assert_eq!(held.ask(), server);
    again.signal("-TERM");
    drop(again);

    assert!(net.fathom(&["packet", "detach"]).status.success());
    let links = net.sh("lb1", "ip link show eth0");
    assert!(!links.contains("xdp"), "{links}");
}

#[test]
fn the_depth_changes_by_a_reload_and_no_connection_is_refused() {
    let Some(mut net) = Net::up() else { return };
    net.serve("b1");
    net.serve("b2");
    let config = net.config("packet");
    let running = net.start(&config);
    net.both_answer();
    let mut packets = Held::open(&net);
    let by_packet = packets.ask();

    for depth in ["stream", "packet", "stream"] {
        net.config(depth);
        running.signal("-HUP");
        wait::until("the new depth is in force", || {
            assert!(
                !net.get().is_empty(),
                "a connection was refused on the way to {depth}"
            );
            let status = String::from_utf8(net.fathom(&["status"]).stdout).expect("text");
            status
                .lines()
                .any(|l| l.starts_with("web ") && l.contains(depth))
        });
        net.both_answer();
        assert_eq!(
            packets.ask(),
            by_packet,
            "what began as packets goes on as packets"
        );
    }
    let mut stream = Held::open(&net);
    let by_stream = stream.ask();
    net.config("packet");
    running.signal("-HUP");
    wait::until("packets again", || {
        String::from_utf8_lossy(&net.fathom(&["status"]).stdout)
            .lines()
            .any(|l| l.starts_with("web ") && l.contains("packet"))
    });
    net.both_answer();
    assert_eq!(
        stream.ask(),
        by_stream,
        "what began as a stream goes on as a stream"
    );
}
