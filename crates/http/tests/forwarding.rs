//! What a request and its response look like on the other side, and the life of connections.

#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

mod support;

use fathom_core::plan::*;
use fathom_io::Driver;
use fathom_testbed::client::Connection;
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::{Gate, wait};
use std::sync::Arc;
use support::{Setup, route};

on_both_drivers!(
    keeps_order_and_case,
    hop_by_hop_fields_go_no_further,
    reuses_connections,
    pipelined_responses_come_in_order,
    http_1_0_clients,
    absolute_form_wins_over_host,
    head_and_bodiless_statuses,
    edits_headers,
    rewrites_redirects_responds,
    no_route_is_404,
    trusted_proxies_are_believed,
    drain_finishes_what_is_in_flight,
    a_reload_takes_effect_on_open_connections,
    connections_are_not_kept_when_told_so,
    a_server_that_closes_is_not_reused,
    the_access_log_has_a_line_for_each,
    proxy_header_comes_first_and_is_not_shared,
);

fn keeps_order_and_case(driver: Driver) {
    let server = Server::start(|_| {
        Reply::ok("hi")
            .header("x-b", "1")
            .header("X-A", "2")
            .header("x-B", "3")
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let response = proxy
        .connect()
        .exchange("GET /a?b=c HTTP/1.1\r\nzz: 1\r\nHOST: example.com:80\r\nAa: 2\r\nzZ: 3\r\n\r\n")
        .unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "hi"));
    let names: Vec<_> = response
        .head
        .headers
        .iter()
        .map(|(n, _)| n.as_str())
        .collect();
    assert_eq!(names, ["x-b", "X-A", "x-B", "Content-Length"]);
    let seen = &server.seen()[0];
    assert_eq!(seen.head.start, "GET /a?b=c HTTP/1.1");
    let headers: Vec<_> = seen
        .head
        .headers
        .iter()
        .map(|(n, v)| format!("{n}: {v}"))
        .collect();
    assert_eq!(
        headers,
        [
            "zz: 1",
            "HOST: example.com:80",
            "Aa: 2",
            "zZ: 3",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: example.com:80",
            &format!("X-Forwarded-Port: {}", proxy.address.port()),
        ]
    );
}

/// RFC 9110 §7.6.1.
fn hop_by_hop_fields_go_no_further(driver: Driver) {
    let server = Server::start(|_| {
        Reply::ok("hi")
            .header("Connection", "keep-alive, X-Mine")
            .header("X-Mine", "1")
            .header("Keep-Alive", "timeout=5")
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret\r\nKeep-Alive: 5\r\nX-Secret: 1\r\n\
                   Proxy-Connection: x\r\nTE: gzip, trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nX-Kept: 1\r\n\r\n";
    let response = proxy.connect().exchange(request).unwrap();
    for name in ["connection", "keep-alive", "x-mine"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    let seen = &server.seen()[0];
    for name in [
        "keep-alive",
        "x-secret",
        "proxy-connection",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("te"), Some("trailers"));
    assert_eq!(seen.header("connection"), Some("TE"));
    assert_eq!(seen.header("x-kept"), Some("1"));
}

fn reuses_connections(driver: Driver) {
    let server = Server::named("one");
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").unwrap().text(), "one");
    }
    // Another client gets the same connection to the server.
    assert_eq!(proxy.connect().get("/").unwrap().text(), "one");
    assert_eq!(server.accepted(), 1);
    let cells = proxy.pools[0].members()[0].endpoint().clone();
    assert_eq!(cells.stats().sum(|c| &c.requests), 11);
    assert_eq!(cells.stats().sum(|c| &c.reused), 10);
    assert_eq!(proxy.listener.sum(|c| &c.requests), 11);
}

/// RFC 9112 §9.3.2.
fn pipelined_responses_come_in_order(driver: Driver) {
    let server = Server::start(|seen| Reply::ok(format!("{}{}", seen.path, seen.body.bytes.len())));
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    let mut requests = String::new();
    for i in 0..40 {
        requests.push_str(&format!(
            "POST /{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        ));
        requests.push_str(&format!("GET /g{i} HTTP/1.1\r\nHost: a\r\n\r\n"));
        requests.push_str(&format!("PUT /c{i} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"));
    }
    client.send(&requests).unwrap();
    for i in 0..40 {
        assert_eq!(client.receive().unwrap().text(), format!("/{i}5"));
        assert_eq!(client.receive().unwrap().text(), format!("/g{i}0"));
        assert_eq!(client.receive().unwrap().text(), format!("/c{i}2"));
    }
}

/// RFC 9112 §9.3, §6.1: no chunks to a 1.0 client, and its connection closes unless it asked otherwise.
fn http_1_0_clients(driver: Driver) {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/chunked" => Reply::chunked(&["ab", "cd"], &[]),
        _ => Reply::ok("abcd"),
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\n\r\n").unwrap();
    let all = String::from_utf8(client.rest().unwrap()).unwrap();
    assert!(
        all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\nabcd"),
        "{all}"
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.head.start, "GET / HTTP/1.1");
    assert_eq!(
        seen.header("host"),
        Some(proxy.address.to_string().as_str())
    );

    let mut client = proxy.connect();
    let keep = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    for _ in 0..2 {
        let response = client.exchange(keep).unwrap();
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    client.send(keep.replace("GET /", "GET /chunked")).unwrap();
    let all = String::from_utf8(client.rest().unwrap()).unwrap();
    assert!(
        !all.to_lowercase().contains("transfer-encoding") && all.ends_with("\r\n\r\nabcd"),
        "{all}"
    );
}

/// RFC 9112 §3.2.2.
fn absolute_form_wins_over_host(driver: Driver) {
    let server = Server::echo();
    let proxy = Setup::new(&[server.address()]).start(driver);
    proxy
        .connect()
        .exchange("GET http://real.example:8/a?b HTTP/1.1\r\nHost: other.example\r\n\r\n")
        .unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.head.start, "GET /a?b HTTP/1.1");
    assert_eq!(
        seen.head.all("host").collect::<Vec<_>>(),
        ["real.example:8"]
    );
}

fn head_and_bodiless_statuses(driver: Driver) {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/204" => Reply::new().send("HTTP/1.1 204 No Content\r\n\r\n"),
        "/304" => Reply::new()
            .send("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"x\"\r\n\r\n"),
        "/close" => Reply::new()
            .send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
            .close(),
        _ => Reply::ok("seven77"),
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    let response = client
        .exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(
        (response.status, response.header("content-length")),
        (200, Some("7"))
    );
    assert_eq!(client.get("/204").unwrap().status, 204);
    let response = client.get("/304").unwrap();
    assert_eq!(
        (response.status, response.header("content-length")),
        (304, Some("7"))
    );
    // What only its end delimits is given to a 1.1 client in chunks, and its connection lives on.
    let response = client.get("/close").unwrap();
    assert_eq!(response.text(), "until the end");
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert!(response.body.whole);
    assert_eq!(client.get("/").unwrap().text(), "seven77");
}

fn edits_headers(driver: Driver) {
    let server = Server::start(|_| {
        Reply::ok("x")
            .header("Server", "secret")
            .header("X-Old", "1")
            .header("X-Keep", "1")
    });
    let text = |s: &str| s.to_owned();
    let proxy = Setup::new(&[server.address()])
        .route(|route| {
            route.request_headers = HeaderEdits {
                set: vec![(text("X-Env"), text("prod")), (text("Host"), text("inner"))],
                add: vec![(text("X-More"), text("2"))],
                remove: vec![text("X-Internal")],
            };
            route.response_headers = HeaderEdits {
                set: vec![(text("X-Old"), text("new"))],
                add: vec![(text("X-Keep"), text("2"))],
                remove: vec![text("server")],
            };
        })
        .start(driver);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nx-env: dev\r\nX-INTERNAL: 1\r\nX-More: 1\r\n\r\n";
    let response = proxy.connect().exchange(request).unwrap();
    assert_eq!(response.header("server"), None);
    assert_eq!(response.head.all("x-old").collect::<Vec<_>>(), ["new"]);
    assert_eq!(response.head.all("x-keep").collect::<Vec<_>>(), ["1", "2"]);
    let seen = &server.seen()[0].head;
    assert_eq!(seen.all("x-env").collect::<Vec<_>>(), ["prod"]);
    assert_eq!(seen.all("host").collect::<Vec<_>>(), ["inner"]);
    assert_eq!(seen.all("x-internal").count(), 0);
    assert_eq!(seen.all("x-more").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(seen.all("x-forwarded-host").collect::<Vec<_>>(), ["a"]);
}

fn rewrites_redirects_responds(driver: Driver) {
    let server = Server::echo();
    let at = |path: &str, action| {
        let mut route = route(action);
        route.name = path.into();
        route.matches.path = Some(match path.strip_suffix('*') {
            Some(prefix) => PathPattern::Prefix(prefix.into()),
            None => PathPattern::Exact(path.into()),
        });
        route
    };
    let mut api = at("/api/*", support::to_pool("pool"));
    api.rewrite = Some(RewritePlan::StripPrefix("/api".into()));
    let old = at(
        "/old/*",
        ActionPlan::Redirect {
            to: "https://example.com/new/$1".into(),
            status: 301,
        },
    );
    let health = at(
        "/healthz",
        ActionPlan::Respond {
            status: 200,
            body: "ok\n".into(),
            headers: vec![("X-Is".into(), "fine".into())],
        },
    );
    let proxy = Setup::new(&[server.address()])
        .http(|http| http.routes = [api, old, health].map(Arc::new).to_vec())
        .start(driver);
    let mut client = proxy.connect();
    client.get("/api/v1/x?y=z").unwrap();
    assert_eq!(server.seen()[0].path, "/v1/x?y=z");
    let response = client.get("/old/a/b").unwrap();
    assert_eq!(
        (response.status, response.header("location")),
        (301, Some("https://example.com/new/a/b"))
    );
    assert_eq!(response.header("fathom-reason"), Some("redirect"));
    let response = client.get("/healthz").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "ok\n"));
    assert_eq!(response.header("server"), Some("fathom"));
    assert_eq!(response.header("fathom-reason"), Some("respond"));
    assert_eq!(response.header("x-is"), Some("fine"));
    assert!(response.header("date").is_some());
    // A body that nobody wants does not cost the connection, if it is here already.
    let post = "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(client.exchange(post).unwrap().status, 200);
    let head = client
        .exchange("HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(head.header("content-length"), Some("3"));
    assert_eq!(client.get("/healthz").unwrap().status, 200);
    assert_eq!(server.count(), 1);
}

fn no_route_is_404(driver: Driver) {
    let proxy = Setup::new(&[])
        .http(|http| http.routes.clear())
        .start(driver);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let response = client.get("/").unwrap();
        assert_eq!(
            (response.status, response.header("fathom-reason")),
            (404, Some("no-route"))
        );
    }
    // Counted behind the answer.
    wait::until("both to be counted", || {
        proxy
            .listener
            .sum(|c| c.reasons.of(fathom_core::Reason::NoRoute))
            == 2
    });
}

fn trusted_proxies_are_believed(driver: Driver) {
    let server = Server::echo();
    let proxy = Setup::new(&[server.address()])
        .http(|http| http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()])
        .start(driver);
    proxy
        .connect()
        .exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\r\n")
        .unwrap();
    let seen = &server.seen()[0];
    assert_eq!(
        seen.head.all("x-forwarded-for").collect::<Vec<_>>(),
        ["192.0.2.1, 127.0.0.1"]
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
}

fn drain_finishes_what_is_in_flight(driver: Driver) {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/slow" => Reply::new()
            .wait(&door)
            .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow"),
        _ => Reply::ok("fast"),
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut idle = proxy.connect();
    idle.get("/").unwrap();
    let mut busy = proxy.connect();
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait::until("the slow request", || server.count() == 2);
    proxy.drain();
    // The idle one closes without a word.
    assert_eq!(idle.rest().unwrap(), b"");
    gate.open();
    assert_eq!(busy.receive().unwrap().text(), "slow");
    assert_eq!(busy.rest().unwrap(), b"");
    // One that comes in meanwhile is told so.
    let response = proxy.connect().get("/").unwrap();
    assert_eq!(response.header("connection"), Some("close"));
}

fn a_reload_takes_effect_on_open_connections(driver: Driver) {
    let (one, two) = (Server::named("one"), Server::named("two"));
    let proxy = Setup::new(&[one.address()]).start(driver);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").unwrap().text(), "one");
    proxy.reload(&Setup::new(&[two.address()]));
    wait::until("the new configuration", || {
        client.get("/").unwrap().text() == "two"
    });
}

fn connections_are_not_kept_when_told_so(driver: Driver) {
    let server = Server::named("x");
    let proxy = Setup::new(&[server.address()])
        .pool(|pool| pool.keepalive.idle = 0)
        .start(driver);
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.get("/").unwrap();
    }
    assert_eq!(server.accepted(), 3);
}

fn a_server_that_closes_is_not_reused(driver: Driver) {
    let server = Server::start(|seen| {
        match seen.path.as_str() {
        "/polite" => Reply::ok("bye").header("Connection", "close").close(),
        "/extra" => Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        _ => Reply::ok("ok").close(),
    }
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    for round in 0..20 {
        assert_eq!(client.get("/polite").unwrap().text(), "bye");
        assert_eq!(client.get("/").unwrap().text(), "ok", "{round}");
        assert_eq!(
            client.get("/extra").unwrap().text(),
            "ok",
            "what was not asked for is no answer to anything"
        );
    }
}

fn the_access_log_has_a_line_for_each(driver: Driver) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let server = Server::named("hello");
    let mut setup = Setup::new(&[server.address()]);
    setup.log = Some(LogPlan {
        level: LogLevel::Info,
        access: AccessTarget::File(path.clone()),
        format: AccessFormat::Json,
    });
    let proxy = setup.start(driver);
    let mut client = proxy.connect();
    client
        .exchange("GET /a?b=%22 HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8\r\n\r\n")
        .unwrap();
    client.send("BROKEN\r\n\r\n").unwrap();
    client.rest().unwrap();
    wait::until("two lines", || {
        std::fs::read_to_string(&path)
            .unwrap_or_default()
            .lines()
            .count()
            == 2
    });
    let log = std::fs::read_to_string(&path).unwrap();
    for part in [
        "/a?b=%22",
        "curl/8",
        "test.toml:1",
        "web/1",
        "\"pool\"",
        "s1",
        "malformed-request",
        "400",
    ] {
        assert!(log.contains(part), "{part} in {log}");
    }
}

fn proxy_header_comes_first_and_is_not_shared(driver: Driver) {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let server = fathom_testbed::tcp::Peer::script(move |stream, _| {
            use std::io::{BufRead, BufReader, Read, Write};
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            match version {
                ProxyVersion::V1 => {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    assert!(
                        line.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
                        "{line}"
                    );
                }
                ProxyVersion::V2 => {
                    let mut head = [0; 16];
                    reader.read_exact(&mut head).unwrap();
                    assert_eq!(&head[..12], b"\r\n\r\n\0\r\nQUIT\n");
                    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
                    reader.read_exact(&mut rest).unwrap();
                }
            }
            while let Ok(Some(_)) = fathom_testbed::message::read_head(&mut reader) {
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let proxy = Setup::new(&[server.address()])
            .pool(|pool| pool.proxy_protocol = Some(version))
            .start(driver);
        let mut one: Connection = proxy.connect();
        let mut two = proxy.connect();
        assert_eq!(one.get("/").unwrap().text(), "ok");
        assert_eq!(two.get("/").unwrap().text(), "ok");
        assert_eq!(one.get("/").unwrap().text(), "ok");
        assert_eq!(server.accepted(), 3);
    }
}
