//! The access log and the metrics, as they leave the process.

use std::io::Write;
use std::process::{Command, Stdio};

use fathom_testbed::client::{self, Connection};
use fathom_testbed::fathom::Fathom;
use fathom_testbed::http1::Server;
use fathom_testbed::{need, tcp, udp, wait};
use serde_json::Value;

use crate::support::{Ask, Io};

on_both_drivers!(
    json_lines_say_what_was_decided_where,
    combined_and_logfmt,
    what_clients_send_cannot_break_a_line,
    the_log_goes_to_a_file_and_is_reopened,
    everything_is_counted,
);

/// Two routes; the log in `format`.
fn logging(io: Io, format: &str, access: &str, server: &Server) -> Fathom {
    let config = r#"[log]
format = "<format>"
access = "<access>"
[listeners.web]
bind = "127.0.0.1:{web}"
depth = "http"
[[listeners.web.routes]]
match = { path = "/app/*" }
pool = "app"
[[listeners.web.routes]]
match = { path = "/healthz" }
respond = { status = 200, body = "ok\n" }
[pools.app]
servers = [{ address = "<a>", name = "one" }]
"#;
    io.start(
        config,
        &[
            ("format", &format),
            ("access", &access),
            ("a", &server.address()),
        ],
    )
}

/// The number of the `nth` line of `fathom.toml` that has `text` in it.
fn line_of(fathom: &Fathom, text: &str, nth: usize) -> usize {
    let file = std::fs::read_to_string(fathom.config_file()).unwrap();
    let mut lines = file.lines().enumerate().filter(|(_, l)| l.contains(text));
    lines.nth(nth).unwrap().0 + 1
}

fn lines(fathom: &Fathom, count: usize) -> Vec<String> {
    wait::some("the access log", || {
        let lines: Vec<String> = fathom.stdout().lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

fn json_lines_say_what_was_decided_where(io: Io) {
    let server = Server::named("a");
    let fathom = logging(io, "json", "stdout", &server);
    let mut client = Connection::open(fathom.address("web"));
    client
        .exchange("GET /app/x?y=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: \"test\"\r\n\r\n")
        .unwrap();
    client.get("/healthz").unwrap();
    client.get("/nowhere").unwrap();
    let lines: Vec<Value> = lines(&fathom, 3)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let app = &lines[0];
    for (key, value) in [
        ("kind", "http"),
        ("listener", "web"),
        ("pool", "app"),
        ("server", "one"),
        ("method", "GET"),
        ("host", "example.com"),
        ("path", "/app/x?y=1"),
        ("user_agent", "\"test\""),
    ] {
        assert_eq!(app[key], value, "{key}: {app:#}");
    }
    assert_eq!(app["status"], 200);
    assert_eq!(app["response_bytes"], 1);
    assert!(app["duration_ms"].as_f64().is_some());
    assert!(app["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(app["reason"], Value::Null);
    let routes = "[[listeners.web.routes]]";
    let origin = |line: &Value| line["origin"].as_str().unwrap_or_default().to_owned();
    let first = format!("fathom.toml:{}", line_of(&fathom, routes, 0));
    assert!(origin(app).ends_with(&first), "{app:#}");
    assert_eq!(lines[1]["reason"], "respond");
    let second = format!("fathom.toml:{}", line_of(&fathom, routes, 1));
    assert!(origin(&lines[1]).ends_with(&second), "{:#}", lines[1]);
    assert_eq!(lines[2]["reason"], "no-route");
    assert_eq!(lines[2]["status"], 404);
    fathom.stop();
}

fn combined_and_logfmt(io: Io) {
    let server = Server::named("abc");
    let fathom = logging(io, "combined", "stdout", &server);
    let request =
        "GET /app/x HTTP/1.1\r\nHost: example.com\r\nReferer: http://r/\r\nUser-Agent: t\r\n\r\n";
    Connection::open(fathom.address("web"))
        .exchange(request)
        .unwrap();
    let line = lines(&fathom, 1).remove(0);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.ends_with("] \"GET /app/x HTTP/1.1\" 200 3 \"http://r/\" \"t\""),
        "{line}"
    );
    fathom.stop();

    let fathom = logging(io, "logfmt", "stdout", &server);
    Connection::open(fathom.address("web"))
        .exchange(request)
        .unwrap();
    let line = lines(&fathom, 1).remove(0);
    for pair in [
        "kind=http",
        "listener=web",
        "pool=app",
        "server=one",
        "method=GET",
        "path=/app/x",
        "status=200",
        "response_bytes=3",
    ] {
        assert!(line.split(' ').any(|p| p == pair), "{pair}: {line}");
    }
    fathom.stop();
}

fn what_clients_send_cannot_break_a_line(io: Io) {
    let server = Server::named("a");
    for format in ["json", "combined", "logfmt"] {
        let fathom = logging(io, format, "stdout", &server);
        let mut client = Connection::open(fathom.address("web"));
        let mut request = b"GET /app/\"x\" HTTP/1.1\r\nHost: a\r\nUser-Agent: ".to_vec();
        request.extend_from_slice(b"\"] \\ \t= \x80\xff \xe2\x80\xa8 \xc2\x9b31m\r\n\r\n");
        let answer = client.exchange(&request).unwrap();
        // Whether it is passed on or refused: there is one line, and nothing in it that a terminal obeys.
        assert!(matches!(answer.status, 200 | 400), "{answer:?}");
        assert!(client::get(fathom.address("web"), "/healthz").status < 500);
        fathom.stop_and(|fathom| {
            let text = fathom.stdout();
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(
                !text.chars().any(|c| c.is_control() && c != '\n'),
                "{text:?}"
            );
            if format == "json" {
                for line in text.lines() {
                    let _: Value = serde_json::from_str(line).unwrap();
                }
            }
        });
    }
}

/// Looks at a process that has ended, all its output read.
trait StopAnd {
    fn stop_and(self, look: impl FnOnce(&Fathom));
}

impl StopAnd for Fathom {
    fn stop_and(mut self, look: impl FnOnce(&Fathom)) {
        wait::until("two lines", || self.stdout().lines().count() >= 2);
        self.signal(rustix::process::Signal::TERM);
        assert!(self.wait_for_exit().success());
        look(&self);
    }
}

fn the_log_goes_to_a_file_and_is_reopened(io: Io) {
    let server = Server::named("a");
    let fathom = logging(io, "json", "access.log", &server);
    let log = fathom.directory().join("access.log");
    let rotated = fathom.directory().join("access.log.1");
    let count = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    assert!(client::get(fathom.address("web"), "/healthz").status < 500);
    wait::until("a line", || count(&log) == 1);
    std::fs::rename(&log, &rotated).unwrap();
    fathom.signal(rustix::process::Signal::HUP);
    wait::until("a new file", || log.exists());
    assert!(client::get(fathom.address("web"), "/healthz").status < 500);
    wait::until("a line in the new file", || count(&log) == 1);
    assert_eq!(count(&rotated), 1);
    fathom.stop();
}

fn everything_is_counted(io: Io) {
    let (app, echo) = (Server::named("abc"), tcp::Peer::echo());
    let answer = udp::Peer::named("a");
    let fathom = io.start(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        [[listeners.web.routes]]
        name = "app"
        match = { path = "/app/*" }
        pool = "app"
        [listeners.raw]
        bind = "127.0.0.1:{raw}"
        depth = "stream"
        pool = "echo"
        [listeners.datagrams]
        bind = "127.0.0.1:{datagrams}"
        protocol = "udp"
        depth = "stream"
        pool = "answer"
        [pools.app]
        servers = [{ address = "<a>", name = "one" }]
        health = { tcp = true, interval = "200ms", timeout = "10s", rise = 1 }
        [pools.echo]
        servers = ["<echo>"]
        [pools.answer]
        servers = ["<answer>"]
        "#,
        &[
            ("a", &app.address()),
            ("echo", &echo.address()),
            ("answer", &answer.address()),
        ],
    );
    wait::until("the check", || {
        fathom.server("app", "one")["health"] == "up"
    });
    for path in ["/app/1", "/app/2", "/app/3", "/else"] {
        assert!(client::get(fathom.address("web"), path).status < 500);
    }
    let sent = vec![b'x'; 100_000];
    assert_eq!(
        tcp::exchange(fathom.address("raw"), &sent).unwrap().len(),
        sent.len()
    );
    let client = udp::client(fathom.address("datagrams"));
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .unwrap();
    wait::until("an answer", || {
        client.send(b"?").is_ok() && client.recv(&mut [0; 8]).is_ok()
    });

    let is = |name: &str, labels: &[(&str, &str)], value: f64| {
        wait::until(&format!("{name}{labels:?} to be {value}"), || {
            fathom.metric(name, labels) == value
        });
    };
    let at_least = |name: &str, labels: &[(&str, &str)], value: f64| {
        wait::until(&format!("{name}{labels:?} to reach {value}"), || {
            fathom.metric(name, labels) >= value
        });
    };
    let (web, raw) = (("listener", "web"), ("listener", "raw"));
    is("fathom_listener_requests_total", &[web], 4.0);
    is("fathom_listener_connections_total", &[web], 4.0);
    is(
        "fathom_listener_failures_total",
        &[web, ("reason", "no-route")],
        1.0,
    );
    let route = [web, ("route", "app")];
    is("fathom_route_requests_total", &route, 3.0);
    is(
        "fathom_http_responses_total",
        &[route[0], route[1], ("class", "2xx")],
        3.0,
    );
    is("fathom_http_request_duration_seconds_count", &route, 3.0);
    let one = [("pool", "app"), ("server", "one")];
    is("fathom_server_requests_total", &one, 3.0);
    is("fathom_server_up", &one, 1.0);
    is(
        "fathom_pool_response_duration_seconds_count",
        &[one[0]],
        3.0,
    );
    is("fathom_listener_connections_total", &[raw], 1.0);
    is("fathom_listener_received_bytes_total", &[raw], 100_000.0);
    is("fathom_listener_sent_bytes_total", &[raw], 100_000.0);
    let datagrams = ("listener", "datagrams");
    at_least(
        "fathom_listener_received_datagrams_total",
        &[datagrams],
        1.0,
    );
    at_least("fathom_listener_sent_datagrams_total", &[datagrams], 1.0);
    is("fathom_listener_active_connections", &[web], 0.0);
    is("fathom_build_info", &[], 1.0);

    if let Some(promtool) = need::program("promtool") {
        let text = fathom.admin("/metrics").text();
        let mut check = Command::new(promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut into = check.stdin.take().unwrap();
        into.write_all(text.as_bytes()).unwrap();
        drop(into);
        let output = check.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    fathom.stop();
}
