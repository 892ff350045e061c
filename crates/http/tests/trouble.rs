//! When servers, clients or time fail: config.md's table of what the far side gets.

#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

mod support;

use std::time::Duration;

use fathom_core::Reason;
use fathom_core::plan::*;
use fathom_io::Driver;
use fathom_testbed::client::Connection;
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::tcp::{Hanging, Peer, Refusing};
use fathom_testbed::{Gate, wait};
use support::{Proxy, Setup};

on_both_drivers!(
    a_refusing_server_is_passed_over,
    no_server_is_503,
    an_empty_pool_is_503,
    a_reset_before_the_response_goes_elsewhere,
    what_is_not_idempotent_is_not_sent_twice,
    a_status_goes_elsewhere_if_asked_to,
    a_stale_connection_costs_nothing,
    a_killed_server_costs_nothing,
    the_queue_waits_for_room,
    a_full_queue_is_503,
    a_slow_head_is_408,
    a_slow_body_is_408,
    an_idle_client_is_closed_silently,
    a_slow_server_is_504,
    a_stalled_response_is_not_whole,
    a_response_until_close_that_is_dropped_is_not_whole,
    a_client_that_takes_nothing_is_cut_off,
    a_client_that_leaves_cancels_its_request,
    a_client_that_breaks_off_its_body_cancels_its_request,
    a_client_may_close_its_side_and_wait,
    continue_and_other_interim_responses,
    a_server_may_answer_before_the_body_ended,
    a_websocket_is_joined,
    a_refused_upgrade_is_a_response,
);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn reason(response: &fathom_testbed::client::Response) -> (u16, &str) {
    (
        response.status,
        response.header("fathom-reason").unwrap_or_default(),
    )
}

fn in_flight(proxy: &Proxy) -> u32 {
    proxy.pools[0]
        .members()
        .iter()
        .map(|m| m.endpoint().in_flight())
        .sum()
}

fn a_refusing_server_is_passed_over(driver: Driver) {
    let refusing = Refusing::new();
    let server = Server::named("well");
    let proxy = Setup::new(&[refusing.address(), server.address()]).start(driver);
    let mut client = proxy.connect();
    for _ in 0..6 {
        assert_eq!(client.get("/").unwrap().text(), "well");
    }
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..4 {
        assert_eq!(client.exchange(post).unwrap().text(), "well");
    }
    assert!(
        server
            .seen()
            .iter()
            .filter(|s| s.method == "POST")
            .all(|s| s.body.bytes == b"abc")
    );
    wait::until("retries to be counted", || {
        proxy.route_stats().sum(|c| &c.retries) > 0
    });
}

fn no_server_is_503(driver: Driver) {
    let refusing = Refusing::new();
    let proxy = Setup::new(&[refusing.address()]).start(driver);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let response = client.exchange(GET).unwrap();
        assert_eq!(reason(&response), (503, "connect-failed"));
        assert!(response.header("retry-after").is_some());
    }
    let endpoint = proxy.pools[0].members()[0].endpoint().clone();
    assert_eq!(
        endpoint
            .stats()
            .sum(|c| c.failures.of(Reason::ConnectFailed)),
        2
    );
}

fn an_empty_pool_is_503(driver: Driver) {
    let proxy = Setup::new(&[]).start(driver);
    let response = proxy.connect().exchange(GET).unwrap();
    assert_eq!(reason(&response), (503, "pool-empty"));
    assert!(response.header("retry-after").is_some());
}

fn a_reset_before_the_response_goes_elsewhere(driver: Driver) {
    let rude = Server::start(|_| Reply::new().reset());
    let kind = Server::named("kind");
    let proxy = Setup::new(&[rude.address(), kind.address()])
        .route(|r| r.retry.budget = 10.0)
        .start(driver);
    let mut client = proxy.connect();
    for _ in 0..4 {
        assert_eq!(client.exchange(GET).unwrap().text(), "kind");
    }
    assert!(rude.count() > 0);
}

/// RFC 9110 §9.2.2.
fn what_is_not_idempotent_is_not_sent_twice(driver: Driver) {
    let rude = Server::start(|_| Reply::new().close());
    let kind = Server::named("kind");
    let proxy = Setup::new(&[rude.address(), kind.address()]).start(driver);
    let mut answers = Vec::new();
    for _ in 0..4 {
        let mut client = proxy.connect();
        let response = client
            .exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        answers.push(response.status);
        if response.status != 200 {
            assert_eq!(reason(&response), (502, "server-reset"));
        }
    }
    assert_eq!(
        answers.iter().filter(|s| **s == 502).count(),
        2,
        "{answers:?}"
    );
    assert_eq!((rude.count(), kind.count()), (2, 2));
}

fn a_status_goes_elsewhere_if_asked_to(driver: Driver) {
    let sick = Server::start(|_| Reply::status(503, "sick"));
    let well = Server::named("well");
    let on = vec![RetryOn::Status(503)];
    let proxy = Setup::new(&[sick.address(), well.address()])
        .route(|r| {
            r.retry.on = on.clone();
            r.retry.budget = 10.0;
        })
        .start(driver);
    let mut client = proxy.connect();
    for _ in 0..4 {
        assert_eq!(client.exchange(GET).unwrap().text(), "well");
    }
    // With nowhere else to go, the server's own words are passed on.
    let alone = Setup::new(&[sick.address()])
        .route(|r| r.retry.on = on)
        .start(driver);
    let response = alone.connect().exchange(GET).unwrap();
    assert_eq!((response.status, response.text().as_str()), (503, "sick"));
    assert_eq!(response.header("fathom-reason"), None);
}

/// The server closes kept connections as the next request is on its way: only it can know, and nobody may notice.
fn a_stale_connection_costs_nothing(driver: Driver) {
    let server = Server::start(|seen| match seen.nth {
        0 => Reply::ok("fresh"),
        _ => Reply::new().close(),
    });
    let proxy = Setup::new(&[server.address()])
        .route(|r| r.retry.attempts = 0)
        .start(driver);
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert_eq!(client.exchange(GET).unwrap().text(), "fresh");
    }
    assert_eq!(proxy.route_stats().sum(|c| &c.retries), 0);
}

fn a_killed_server_costs_nothing(driver: Driver) {
    let one = Peer::script(|stream, _| {
        use std::io::Write;
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while let Ok(Some(_)) = fathom_testbed::message::read_head(&mut reader) {
            let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
        }
    });
    let two = Server::named("two");
    let proxy = Setup::new(&[one.address(), two.address()]).start(driver);
    let mut clients: Vec<Connection> = (0..8).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        for _ in 0..4 {
            assert_eq!(client.exchange(GET).unwrap().status, 200);
        }
    }
    one.kill();
    for client in &mut clients {
        for _ in 0..4 {
            assert_eq!(client.exchange(GET).unwrap().text(), "two");
        }
    }
}

fn queue(length: usize) -> impl FnOnce(&mut PoolPlan) {
    move |pool| {
        pool.servers[0].max_connections = Some(1);
        pool.queue = Some(QueuePlan {
            length,
            timeout: Duration::from_secs(5),
        });
    }
}

fn the_queue_waits_for_room(driver: Driver) {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |_| {
        Reply::new()
            .wait(&door)
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let proxy = Setup::new(&[server.address()])
        .pool(queue(10))
        .start(driver);
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(GET).unwrap();
    }
    wait::until("three in the queue", || {
        proxy.pools[0].queue().waiting() == 3
    });
    wait::until("one at the server", || server.count() == 1);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.receive().unwrap().text(), "ok");
    }
}

fn a_full_queue_is_503(driver: Driver) {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |_| Reply::new().wait(&door).close());
    let proxy = Setup::new(&[server.address()]).pool(queue(1)).start(driver);
    let mut first = proxy.connect();
    first.send(GET).unwrap();
    wait::until("the first at the server", || server.count() == 1);
    let mut second = proxy.connect();
    second.send(GET).unwrap();
    wait::until("the second in the queue", || {
        proxy.pools[0].queue().waiting() == 1
    });
    assert_eq!(
        reason(&proxy.connect().exchange(GET).unwrap()),
        (503, "queue-full")
    );
    proxy.hurry();
    assert_eq!(reason(&second.receive().unwrap()), (503, "queue-timeout"));
    gate.open();
}

fn a_slow_head_is_408(driver: Driver) {
    let server = Server::named("x");
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHo").unwrap();
    proxy.hurry();
    let response = client.receive().unwrap();
    assert_eq!(reason(&response), (408, "header-timeout"));
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(server.accepted(), 0);
}

fn a_slow_body_is_408(driver: Driver) {
    let server = Server::named("x");
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        .unwrap();
    proxy.hurry();
    assert_eq!(reason(&client.receive().unwrap()), (408, "body-timeout"));
    assert_eq!(client.rest().unwrap(), b"");
    wait::until("the place at the server to be given back", || {
        in_flight(&proxy) == 0
    });
}

fn an_idle_client_is_closed_silently(driver: Driver) {
    let server = Server::named("x");
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut never = proxy.connect();
    let mut once = proxy.connect();
    once.exchange(GET).unwrap();
    proxy.hurry();
    assert_eq!(never.rest().unwrap(), b"");
    assert_eq!(once.rest().unwrap(), b"");
}

fn a_slow_server_is_504(driver: Driver) {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |_| Reply::new().wait(&door).close());
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client.send(GET).unwrap();
    wait::until("the request", || server.count() == 1);
    proxy.hurry();
    assert_eq!(
        reason(&client.receive().unwrap()),
        (504, "response-timeout")
    );
    gate.open();

    let hanging = Hanging::new();
    let proxy = Setup::new(&[hanging.address()]).start(driver);
    proxy.hurry();
    let response = proxy.connect().exchange(GET).unwrap();
    assert_eq!(reason(&response), (503, "connect-timeout"));
}

fn a_stalled_response_is_not_whole(driver: Driver) {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |_| {
        Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            .wait(&door)
            .close()
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client.send(GET).unwrap();
    wait::until("the request", || server.count() == 1);
    proxy.hurry();
    let response = client.receive().unwrap();
    assert_eq!(response.body.bytes, b"abc");
    assert!(!response.body.whole);
    gate.open();
}

/// As when the time for shutting down is over: to this client, only a reset says that something is missing.
fn a_response_until_close_that_is_dropped_is_not_whole(driver: Driver) {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |_| {
        Reply::new()
            .send("HTTP/1.1 200 OK\r\n\r\nabc")
            .wait(&door)
            .close()
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    let head = fathom_testbed::message::read_head(&mut reader(&mut client))
        .unwrap()
        .unwrap();
    assert!(head.start.starts_with("HTTP/1.1 200"), "{head:?}");
    assert_eq!(client.read(3).unwrap(), b"abc");
    drop(proxy);
    let end = client.rest().unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    gate.open();
}

fn a_client_that_takes_nothing_is_cut_off(driver: Driver) {
    let server = Server::start(|_| Reply::sized(1 << 30));
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client.send(GET).unwrap();
    wait::until("the request", || server.count() == 1);
    proxy.hurry();
    wait::until("the write timeout", || {
        proxy
            .route_stats()
            .sum(|c| c.reasons.of(Reason::WriteTimeout))
            == 1
    });
    wait::until("the place at the server to be given back", || {
        in_flight(&proxy) == 0
    });
    drop(client);
}

fn a_client_that_leaves_cancels_its_request(driver: Driver) {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/head" => Reply::new().wait(&door).close(),
        _ => Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            .wait(&door)
            .close(),
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    for (n, path) in ["/head", "/body"].into_iter().enumerate() {
        let mut client = proxy.connect();
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .unwrap();
        wait::until("the request", || server.count() == n + 1);
        assert_eq!(in_flight(&proxy), 1);
        client.reset();
        wait::until("the cancelled request", || in_flight(&proxy) == 0);
    }
    wait::until("both to be counted", || {
        proxy
            .route_stats()
            .sum(|c| c.reasons.of(Reason::ClientGone))
            == 2
    });
    gate.open();
}

fn a_client_that_breaks_off_its_body_cancels_its_request(driver: Driver) {
    let server = Server::start(|_| Reply::ok("x"));
    let proxy = Setup::new(&[server.address()]).start(driver);
    for head in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let mut client = proxy.connect();
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n3\r\nabc"
            ))
            .unwrap();
        client.finish();
        assert!(client.rest().unwrap_or_default().is_empty());
    }
    wait::until("both to be given up", || in_flight(&proxy) == 0);
    assert!(server.seen().iter().all(|seen| !seen.body.whole));
}

/// `printf 'GET ...' | nc`: FIN straight behind the request is no abort.
fn a_client_may_close_its_side_and_wait(driver: Driver) {
    let server = Server::named("patience");
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    client.finish();
    let all = String::from_utf8(client.rest().unwrap()).unwrap();
    assert!(all.ends_with("patience"), "{all}");
}

/// RFC 9110 §10.1.1, §15.2.
fn continue_and_other_interim_responses(driver: Driver) {
    let server = Server::start_at_head(|_| {
        Reply::new()
            .send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            .read_body()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            .unwrap();
        let hints = fathom_testbed::message::read_head(&mut reader(&mut client))
            .unwrap()
            .unwrap();
        assert!(
            hints.start.starts_with("HTTP/1.1 103") && hints.header("link") == Some("</a>"),
            "{hints:?}"
        );
        let go = fathom_testbed::message::read_head(&mut reader(&mut client))
            .unwrap()
            .unwrap();
        assert!(go.start.starts_with("HTTP/1.1 100"), "{go:?}");
        client.send("abc").unwrap();
        assert_eq!(client.receive().unwrap().text(), "ok");
    }
    assert_eq!(server.seen()[0].header("expect"), Some("100-continue"));
    // A 1.0 client hears nothing of them.
    let mut old = proxy.connect();
    old.send("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        .unwrap();
    let all = String::from_utf8(old.rest().unwrap()).unwrap();
    assert!(all.starts_with("HTTP/1.1 200"), "{all}");
}

/// Reads one byte at a time, so that nothing is swallowed.
fn reader(client: &mut Connection) -> impl std::io::BufRead {
    struct One<'a>(&'a mut Connection);
    impl std::io::Read for One<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            buf[0] = self.0.read(1)?[0];
            Ok(1)
        }
    }
    std::io::BufReader::with_capacity(1, One(client))
}

fn a_server_may_answer_before_the_body_ended(driver: Driver) {
    let server = Server::start_at_head(|_| Reply::status(401, "no").close());
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        .unwrap();
    let response = client.receive().unwrap();
    assert_eq!((response.status, response.text().as_str()), (401, "no"));
    assert_eq!(response.header("connection"), Some("close"));
}

/// RFC 9110 §7.8, RFC 6455.
fn a_websocket_is_joined(driver: Driver) {
    let server = Peer::script(|stream, _| {
        use std::io::{Read, Write};
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let head = fathom_testbed::message::read_head(&mut reader)
            .unwrap()
            .unwrap();
        assert_eq!(head.header("upgrade"), Some("websocket"));
        assert_eq!(head.header("connection"), Some("Upgrade"));
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: b\r\n\r\nhello";
        (&stream).write_all(answer.as_bytes()).unwrap();
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = reader.read(&mut bytes) {
            if (&stream).write_all(&bytes[..n]).is_err() {
                return;
            }
        }
        let _ = (&stream).write_all(b"bye");
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    client
        .send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
        .unwrap();
    let head = client.receive().unwrap();
    assert_eq!(
        (
            head.status,
            head.header("upgrade"),
            head.header("connection")
        ),
        (101, Some("websocket"), Some("Upgrade"))
    );
    assert_eq!(client.read(10).unwrap(), b"helloearly");
    let large = vec![7; 300_000];
    client.send(&large).unwrap();
    assert!(client.read(300_000).unwrap() == large);
    // Half-closed, the other half goes on.
    client.finish();
    assert_eq!(client.rest().unwrap(), b"bye");
    wait::until("the place at the server to be given back", || {
        in_flight(&proxy) == 0
    });
}

fn a_refused_upgrade_is_a_response(driver: Driver) {
    let server = Server::named("plain");
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(client.exchange(ask).unwrap().text(), "plain");
    assert_eq!(client.exchange(GET).unwrap().text(), "plain");
}
