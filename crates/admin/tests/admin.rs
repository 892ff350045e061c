//! The admin side on real sockets, by its own client and by hand.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use common::{Fake, serve, serve_at};
use fathom_admin::client::{Client, ClientError};
use fathom_admin::{Control, ExplainRequest, PlanRequest, bind, metrics};
use fathom_core::Reason;
use fathom_core::plan::AdminBind;
use fathom_testbed::{need, wait};

/// Sends bytes and returns the whole answer.
fn raw(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The status line's code for a request of these fields.
fn code(to: SocketAddr, line: &str, fields: &str, body: &str) -> u16 {
    let length = body.len();
    let answer = raw(
        to,
        &format!(
            "{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ),
    );
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_status_says_what_is_in_force() {
    let fake = Fake::new(None);
    let client = Client::new(AdminBind::Tcp(serve(&fake)), None);
    fake.count_something();
    let status = client.status().unwrap();
    assert_eq!(
        (
            status.version.as_str(),
            status.driver.as_str(),
            status.workers
        ),
        ("1.2.3", "epoll", 2)
    );
    assert_eq!(
        status.driver_note.as_deref(),
        Some("io_uring is forbidden here")
    );
    assert_eq!(status.files, ["fathom.toml"]);
    let web = &status.listeners[0];
    assert_eq!(
        (web.name.as_str(), web.depth.as_str(), web.protocol.as_str()),
        ("web", "http", "tcp")
    );
    assert_eq!(web.binds, ["127.0.0.1:8080", "tls://:8443"]);
    assert_eq!((web.connections, web.active, web.requests), (3, 2, 5));
    assert_eq!(web.reasons.get(Reason::NoRoute.as_str()), Some(&1));
    let route = &web.routes[0];
    assert_eq!(
        (route.matches.as_str(), route.action.as_str()),
        ("example.com|*.example.org/api/* +header GET", "pool api")
    );
    assert_eq!(
        (route.origin.as_str(), route.responses),
        ("fathom.toml:7", [0, 4, 0, 0, 1])
    );
    assert_eq!(
        (route.latency.count, route.latency.buckets.last()),
        (5, Some(&5))
    );
    assert_eq!(
        route.latency.buckets.len(),
        status.latency_bounds_seconds.len() + 1
    );
    assert_eq!(
        (
            status.listeners[1].depth.as_str(),
            status.listeners[1].protocol.as_str()
        ),
        ("stream", "udp")
    );
    let pool = &status.pools[0];
    assert_eq!(
        (
            pool.name.as_str(),
            pool.balance.as_str(),
            pool.servers.len()
        ),
        ("api", "round-robin", 2)
    );
    let server = &pool.servers[0];
    assert_eq!(
        (server.name.as_str(), server.health.as_str(), server.weight),
        ("one", "down", 3)
    );
    assert_eq!(
        server.check.as_ref().unwrap().detail,
        "status 500, wanted 200-299"
    );
    assert_eq!(status.pools[1].servers[0].health, "unchecked");
}

#[test]
fn servers_are_drained_and_weighed() {
    let fake = Fake::new(None);
    let client = Client::new(AdminBind::Tcp(serve(&fake)), None);
    let pool = client.drain("api", "two", true).unwrap();
    assert_eq!(
        (pool.servers[0].draining, pool.servers[1].draining),
        (false, true)
    );
    assert!(fake.pools[0].members()[1].endpoint().draining());
    assert!(!client.drain("api", "two", false).unwrap().servers[1].draining);
    let weighed = |pool: fathom_admin::status::PoolStatus| {
        (pool.servers[0].weight, pool.servers[0].configured_weight)
    };
    assert_eq!(
        weighed(client.weight("api", "one", Some(9)).unwrap()),
        (9, 3)
    );
    assert_eq!(weighed(client.weight("api", "one", None).unwrap()), (3, 3));
    let refused = |result: Result<_, ClientError>| match result {
        Err(ClientError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(client.drain("nope", "one", true)),
        "there is no pool \"nope\"; there are: api, dns"
    );
    assert_eq!(
        refused(client.drain("api", "nope", true)),
        "pool \"api\" has no server \"nope\"; there are: one, two"
    );
    assert!(refused(client.weight("api", "one", Some(70_000))).contains("65535"));
}

#[test]
fn reload_plan_and_explain_are_passed_on() {
    let fake = Fake::new(None);
    let client = Client::new(AdminBind::Tcp(serve(&fake)), None);
    assert_eq!(client.reload().unwrap().changes[0].what, "pool api");
    let request = PlanRequest {
        path: Some("other.toml".into()),
        text: None,
    };
    assert_eq!(
        client.plan(&request),
        Err(ClientError::Refused(
            "other.toml: no such file\nsecond line".into()
        ))
    );
    let request = ExplainRequest {
        method: "GET".into(),
        url: "http://example.com/".into(),
        headers: vec![("Host".into(), "example.com".into())],
        from: None,
        listener: None,
        body: None,
    };
    assert_eq!(
        client.explain(&request).unwrap()["asked"],
        "GET http://example.com/"
    );
}

#[test]
fn nothing_is_shown_without_the_token() {
    let fake = Fake::new(Some("secret"));
    let address = serve(&fake);
    let host = "Host: lb.example:9400\r\n";
    for line in [
        "GET /metrics",
        "GET /api/v1/status",
        "POST /api/v1/reload",
        "POST /api/v1/drain",
        "GET /nowhere",
    ] {
        assert_eq!(code(address, line, host, ""), 401, "{line}");
        assert_eq!(
            code(
                address,
                line,
                &format!("{host}Authorization: Bearer wrong\r\n"),
                ""
            ),
            401,
            "{line}"
        );
    }
    assert_eq!(
        code(
            address,
            "GET /metrics",
            &format!("{host}Authorization: Bearer secret\r\n"),
            ""
        ),
        200
    );
    assert_eq!(
        code(address, "GET /", host, ""),
        200,
        "the page asks for the token"
    );
    assert_eq!(code(address, "GET /healthz", host, ""), 200);
    let right = Client::new(AdminBind::Tcp(address), Some("secret".into()));
    assert!(right.status().is_ok() && right.reload().is_ok());
    let wrong = Client::new(AdminBind::Tcp(address), Some("wrong".into()));
    assert!(matches!(wrong.status(), Err(ClientError::Refused(why)) if why.contains("token")));
}

#[test]
fn foreign_pages_and_rebound_names_are_turned_away() {
    let address = serve(&Fake::new(None));
    let json = "Content-Type: application/json\r\n";
    assert_eq!(
        code(address, "GET /api/v1/status", "Host: evil.example\r\n", ""),
        421
    );
    assert_eq!(code(address, "GET /", "Host: evil.example\r\n", ""), 421);
    assert_eq!(
        code(
            address,
            "POST /api/v1/reload",
            &format!("Host: localhost\r\n{json}Origin: http://evil.example\r\n"),
            "{}"
        ),
        403
    );
    assert_eq!(
        code(
            address,
            "POST /api/v1/reload",
            "Host: localhost\r\nContent-Type: text/plain\r\n",
            "{}"
        ),
        415
    );
    assert_eq!(
        code(
            address,
            "POST /api/v1/reload",
            &format!("Host: localhost\r\n{json}Origin: http://localhost\r\n"),
            "{}"
        ),
        200
    );
}

#[test]
fn bad_requests_are_answered_in_words() {
    let address = serve(&Fake::new(None));
    let fields = "Host: localhost\r\nContent-Type: application/json\r\n";
    for (line, body, wanted) in [
        ("GET /nowhere", "", 404),
        ("GET /api/v1/drain", "", 405),
        ("POST /api/v1/drain", "not json", 400),
        ("POST /api/v1/drain", r#"{"pool":"api"}"#, 422),
        (
            "POST /api/v1/drain",
            r#"{"pool":"api","server":"one","more":1}"#,
            422,
        ),
    ] {
        assert_eq!(code(address, line, fields, body), wanted, "{line} {body}");
    }
    // Larger than any configuration: refused by its length, before it is sent.
    let huge = format!(
        "POST /api/v1/plan HTTP/1.1\r\nConnection: close\r\nContent-Length: 999999999\r\n{fields}\r\n"
    );
    assert!(raw(address, &huge).starts_with("HTTP/1.1 413 "));
}

#[test]
fn the_page_allows_only_itself() {
    let address = serve(&Fake::new(None));
    let answer = raw(
        address,
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    let nonce = head
        .split("script-src 'nonce-")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .unwrap();
    assert!(
        nonce.len() >= 32 && page.contains(&format!("<script nonce=\"{nonce}\">")),
        "{head}"
    );
    assert!(
        head.contains("default-src 'none'") && head.contains("frame-ancestors 'none'"),
        "{head}"
    );
    assert!(
        head.contains("x-content-type-options: nosniff")
            && head.contains("cache-control: no-store"),
        "{head}"
    );
    // Nothing is fetched from elsewhere, and nothing needs what the policy forbids.
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    for forbidden in ["http://", "https://", " style=\"", " onclick=\"", "NONCE"] {
        assert!(!elsewhere.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn a_unix_socket_is_for_its_owner_and_replaces_a_dead_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fathom.sock");
    drop(UnixListener::bind(&path).unwrap()); // what a killed process leaves
    let fake = Fake::new(None);
    let server = serve_at(bind(&AdminBind::Unix(path.clone())).unwrap(), &fake);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let client = Client::new(AdminBind::Unix(path.clone()), None);
    assert_eq!(client.status().unwrap().version, "1.2.3");
    let taken = bind(&AdminBind::Unix(path.clone())).unwrap_err();
    assert!(taken.to_string().contains("fathom.sock"), "{taken}");
    server.abort();
    wait::until("the file to go with the server", || !path.exists());
    assert!(
        matches!(client.status(), Err(ClientError::Unreachable(why)) if why.contains("fathom.sock"))
    );
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    assert!(bind(&AdminBind::Unix(path.clone())).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn many_silent_connections_do_not_shut_others_out_for_good() {
    let fake = Fake::new(None);
    let address = serve(&fake);
    let silent: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    drop(silent);
    let client = Client::new(AdminBind::Tcp(address), None);
    assert!(client.status().is_ok());
}

#[test]
fn metrics_are_what_prometheus_wants() {
    let fake = Fake::new(None);
    fake.count_something();
    let client = Client::new(AdminBind::Tcp(serve(&fake)), None);
    let text = client.metrics().unwrap();
    for line in [
        "fathom_build_info{version=\"1.2.3\"} 1",
        "fathom_io_driver_info{driver=\"epoll\"} 1",
        "fathom_http_responses_total{listener=\"web\",route=\"web/1\",class=\"2xx\"} 4",
        "fathom_http_request_duration_seconds_bucket{listener=\"web\",route=\"web/1\",le=\"+Inf\"} 5",
        "fathom_http_request_duration_seconds_count{listener=\"web\",route=\"web/1\"} 5",
        "fathom_listener_connections_total{listener=\"web\",depth=\"http\"} 3",
        "fathom_listener_failures_total{listener=\"web\",depth=\"http\",reason=\"no-route\"} 1",
        "fathom_server_health{pool=\"api\",server=\"one\",state=\"down\"} 1",
        "fathom_server_health{pool=\"api\",server=\"one\",state=\"up\"} 0",
        "fathom_server_up{pool=\"dns\",server=\"ns\"} 1",
        "fathom_server_checks_total{pool=\"api\",server=\"one\",result=\"failed\"} 1",
        "fathom_reloads_total{result=\"failed\"} 1",
        "fathom_last_reload_successful 0",
        "fathom_access_log_dropped_records_total 7",
        "fathom_tls_certificate_not_after_timestamp_seconds{listener=\"web\",path=\"cert \\\"x\\\".pem\"} 2000000000",
        "fathom_packet_flows_total{listener=\"edge\",server=\"one\"} 6",
        "fathom_worker_panics_total 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert_eq!(
        text.lines().filter(|l| l.starts_with("# HELP")).count(),
        text.lines().filter(|l| l.starts_with("# TYPE")).count()
    );
}

#[test]
fn promtool_has_nothing_to_say() {
    let Some(promtool) = need::program("promtool") else {
        return;
    };
    let fake = Fake::new(None);
    fake.count_something();
    let text = metrics(&fake.state());
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn a_process_that_is_not_there_is_unreachable() {
    let refusing = fathom_testbed::tcp::Refusing::new();
    let client = Client::new(AdminBind::Tcp(refusing.address()), None);
    assert!(matches!(client.status(), Err(ClientError::Unreachable(_))));
    let other = fathom_testbed::tcp::Peer::source("SSH-2.0-OpenSSH\r\n");
    let client = Client::new(AdminBind::Tcp(other.address()), None);
    assert!(matches!(client.status(), Err(ClientError::Unreachable(_))));
}
