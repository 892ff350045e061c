//! What the far side gets when things go wrong: each row of the contract's table, through the binary.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use fathom_testbed::client::{self, Connection, Response};
use fathom_testbed::fathom::{Builder, Fathom};
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::tcp::{Peer, Refusing};
use fathom_testbed::{need, tcp, wait};

use crate::support::{Ask, BINARY, Io, SetAtEnd};

on_both_drivers!(
    malformed_and_ambiguous_requests,
    oversized_requests,
    slow_and_idle_clients,
    a_server_that_refuses,
    a_stream_server_that_refuses,
    no_healthy_server,
    servers_that_lie,
    over_a_limit,
    out_of_descriptors,
    a_panic_in_a_connection,
    a_panic_in_a_worker,
    a_crashed_server_leaves_the_rotation_unnoticed,
);

/// An http listener in front of `servers`, with `more` keys.
fn web(io: Io, more: &str, servers: &[SocketAddr]) -> Fathom {
    web_by(io, Builder::new(BINARY), more, servers)
}

fn web_by(io: Io, builder: Builder, more: &str, servers: &[SocketAddr]) -> Fathom {
    let servers = servers
        .iter()
        .map(|s| format!("\"{s}\""))
        .collect::<Vec<_>>();
    io.start_by(
        builder,
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        <more>
        [listeners.raw]
        bind = "127.0.0.1:{raw}"
        depth = "stream"
        pool = "app"
        [pools.app]
        servers = [<servers>]
        "#,
        &[("more", &more), ("servers", &servers.join(", "))],
    )
}

/// That Fathom answered this itself, and why.
#[track_caller]
fn made_here(response: &Response, status: u16, reason: &str) {
    assert_eq!(
        (response.status, response.header("fathom-reason")),
        (status, Some(reason)),
        "{response:?}"
    );
    assert_eq!(response.header("server"), Some("fathom"));
}

fn malformed_and_ambiguous_requests(io: Io) {
    let server = Server::named("a");
    let fathom = web(io, "", &[server.address()]);
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "nonsense\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        let mut client = Connection::open(fathom.address("web"));
        client
            .send(format!(
                "{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            ))
            .unwrap();
        let response = client
            .receive()
            .unwrap_or_else(|e| panic!("{request:?}: {e}"));
        assert_eq!(response.status, 400, "{request:?}");
        assert!(response.header("fathom-reason").is_some());
        // Closed: nothing behind it is answered.
        assert_eq!(client.rest().unwrap_or_default(), b"", "{request:?}");
    }
    assert_eq!(server.count(), 0);
    assert_eq!(client::get(fathom.address("web"), "/").text(), "a");
    fathom.stop();
}

fn oversized_requests(io: Io) {
    let server = Server::named("a");
    let fathom = web(io, "max_body = \"1KiB\"", &[server.address()]);
    let ask = |request: String| {
        let mut client = Connection::open(fathom.address("web"));
        // The answer may come, and the connection end, before all is sent.
        let _ = client.send(request);
        client.receive().unwrap()
    };
    let host = "Host: example.com\r\n";
    made_here(
        &ask(format!(
            "GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n",
            "x".repeat(70_000)
        )),
        431,
        "header-too-large",
    );
    made_here(
        &ask(format!(
            "GET /{} HTTP/1.1\r\n{host}\r\n",
            "x".repeat(17_000)
        )),
        414,
        "uri-too-long",
    );
    made_here(
        &ask(format!(
            "POST / HTTP/1.1\r\n{host}Content-Length: 1025\r\n\r\n{}",
            "x".repeat(1025)
        )),
        413,
        "body-too-large",
    );
    assert_eq!(server.count(), 0);
    let fits = ask(format!(
        "POST / HTTP/1.1\r\n{host}Content-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    ));
    assert_eq!(fits.status, 200);
    fathom.stop();
}

fn slow_and_idle_clients(io: Io) {
    let server = Server::named("a");
    let timeouts = "timeouts = { header = \"300ms\", idle = \"300ms\", body = \"300ms\" }";
    let fathom = web(io, timeouts, &[server.address()]);
    let open = || Connection::open(fathom.address("web"));
    let mut slow_header = open();
    slow_header.send("GET / HTTP/1.1\r\nHost: exa").unwrap();
    made_here(&slow_header.receive().unwrap(), 408, "header-timeout");
    assert_eq!(slow_header.rest().unwrap_or_default(), b"");

    let mut slow_body = open();
    slow_body
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        .unwrap();
    made_here(&slow_body.receive().unwrap(), 408, "body-timeout");

    // Who says nothing is told nothing.
    assert_eq!(open().rest().unwrap_or_default(), b"");
    assert!(server.seen().iter().all(|seen| !seen.body.whole));
    fathom.stop();
}

fn a_server_that_refuses(io: Io) {
    let (dead, server) = (Refusing::new(), Server::named("alive"));
    let fathom = web(io, "", &[dead.address(), server.address()]);
    let mut client = Connection::open(fathom.address("web"));
    for _ in 0..10 {
        assert_eq!(client.get("/").unwrap().text(), "alive");
        // No byte of the request has gone anywhere: what is not idempotent may be sent elsewhere, too.
        let post = client
            .exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .unwrap();
        assert_eq!(post.text(), "alive");
    }
    let retries = fathom.metric("fathom_pool_retries_total", &[("pool", "app")]);
    assert!(retries >= 1.0, "{retries}");
    fathom.stop();
}

fn a_stream_server_that_refuses(io: Io) {
    let (dead, echo) = (Refusing::new(), Peer::echo());
    let fathom = web(io, "", &[dead.address(), echo.address()]);
    for _ in 0..6 {
        let back = tcp::exchange(fathom.address("raw"), b"hello").unwrap();
        assert_eq!(back, b"hello");
    }
    fathom.stop();
    // Nobody left: the connection is closed, and nothing else happens.
    let (one, two) = (Refusing::new(), Refusing::new());
    let fathom = web(io, "", &[one.address(), two.address()]);
    let mut client = TcpStream::connect(fathom.address("raw")).unwrap();
    client.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    let failures = "fathom_route_reasons_total";
    wait::until("the failure to be counted", || {
        fathom.metric(failures, &[("listener", "raw")])
            + fathom.metric("fathom_listener_failures_total", &[("listener", "raw")])
            >= 1.0
    });
    fathom.stop();
}

fn no_healthy_server(io: Io) {
    let dead = Refusing::new();
    let fathom = web(io, "", &[dead.address()]);
    let response = client::get(fathom.address("web"), "/");
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.header("retry-after").is_some());
    assert!(response.header("fathom-reason").is_some());
    fathom.stop();

    let fathom = io.start(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [listeners.raw]
        bind = "127.0.0.1:{raw}"
        depth = "stream"
        pool = "app"
        [pools.app]
        servers = [{ address = "<dead>", name = "dead" }]
        health = { tcp = true, interval = "100ms", fall = 1 }
        "#,
        &[("dead", &dead.address())],
    );
    wait::until("the server to be down", || {
        fathom.server("app", "dead")["health"] == "down"
    });
    let response = client::get(fathom.address("web"), "/");
    made_here(&response, 503, "no-server");
    assert!(response.header("retry-after").is_some());
    let closed = tcp::exchange(fathom.address("raw"), b"hello");
    assert!(closed.map_or(true, |bytes| bytes.is_empty()));
    let none = fathom.metric("fathom_pool_no_server_total", &[("pool", "app")]);
    assert!(none >= 2.0, "{none}");
    fathom.stop();
}

fn servers_that_lie(io: Io) {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/garbage" => Reply::new().send("\x16\x03\x01 what?\r\n\r\n").close(),
        "/two-lengths" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
            .close(),
        "/short" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            .close(),
        "/chunk" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n9\r\nab")
            .close(),
        _ => Reply::ok("fine"),
    });
    let fathom = web(io, "", &[server.address()]);
    for path in ["/garbage", "/two-lengths"] {
        made_here(
            &client::get(fathom.address("web"), path),
            502,
            "bad-response",
        );
    }
    for path in ["/short", "/chunk"] {
        let response = client::get(fathom.address("web"), path);
        assert_eq!(response.status, 200);
        assert!(!response.body.whole, "{response:?}");
        assert!(response.text().len() < 9);
    }
    wait::until("the failures to be counted", || {
        let count = |reason| {
            fathom.metric(
                "fathom_server_failures_total",
                &[("pool", "app"), ("reason", reason)],
            )
        };
        count("bad-response") == 2.0 && count("short-body") == 2.0
    });
    assert_eq!(client::get(fathom.address("web"), "/").text(), "fine");
    fathom.stop();
}

fn over_a_limit(io: Io) {
    let server = Server::named("a");
    let echo = Peer::echo();
    let fathom = io.start(
        r#"
        [listeners.few]
        bind = "127.0.0.1:{few}"
        depth = "http"
        pool = "app"
        limits = { connections = 1 }
        [listeners.each]
        bind = "127.0.0.1:{each}"
        depth = "http"
        pool = "app"
        limits = { connections_per_client = 1 }
        [listeners.rate]
        bind = "127.0.0.1:{rate}"
        depth = "http"
        pool = "app"
        limits = { connection_rate_per_client = "2/m" }
        [listeners.raw]
        bind = "127.0.0.1:{raw}"
        depth = "stream"
        pool = "echo"
        limits = { connections = 1 }
        [pools.app]
        servers = ["<a>"]
        [pools.echo]
        servers = ["<echo>"]
        "#,
        &[("a", &server.address()), ("echo", &echo.address())],
    );
    let refused = |listener: &str, reason: &str| {
        let response = client::get(fathom.address(listener), "/");
        made_here(&response, 429, reason);
        assert!(response.header("retry-after").is_some());
    };
    for (listener, reason) in [
        ("few", "over-connection-limit"),
        ("each", "over-client-limit"),
    ] {
        let mut first = Connection::open(fathom.address(listener));
        assert_eq!(first.get("/").unwrap().text(), "a");
        refused(listener, reason);
        assert_eq!(first.get("/").unwrap().text(), "a");
        drop(first);
        wait::until("room for another", || {
            client::get(fathom.address(listener), "/").status == 200
        });
    }
    // A burst of what the rate allows in a minute at most, whatever the machine's speed.
    let statuses: Vec<u16> = (0..6)
        .map(|_| client::get(fathom.address("rate"), "/").status)
        .collect();
    assert!(
        statuses.contains(&200) && statuses.contains(&429),
        "{statuses:?}"
    );

    let mut first = TcpStream::connect(fathom.address("raw")).unwrap();
    first.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    let closed = tcp::exchange(fathom.address("raw"), b"hello");
    assert!(closed.map_or(true, |bytes| bytes.is_empty()));
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    for (listener, reason) in [
        ("few", "over-connection-limit"),
        ("each", "over-client-limit"),
        ("rate", "over-rate"),
        ("raw", "over-connection-limit"),
    ] {
        let labels = [("listener", listener), ("reason", reason)];
        let count = fathom.metric("fathom_listener_failures_total", &labels);
        assert!(count >= 1.0, "{listener} {reason}");
    }
    drop(first);
    fathom.stop();
}

fn out_of_descriptors(io: Io) {
    let Some(prlimit) = need::program("prlimit") else {
        return;
    };
    let began = Instant::now();
    let server = Server::named("a");
    let builder =
        Builder::new(BINARY).through(&[prlimit.to_str().unwrap(), "--nofile=120:120", "--"]);
    let timeouts = "timeouts = { header = \"10m\", idle = \"10m\" }";
    let fathom = web_by(io, builder, timeouts, &[server.address()]);
    let web = fathom.address("web");
    let mut old = Connection::open(web);
    assert_eq!(old.get("/").unwrap().text(), "a");
    let mut old_stream = Connection::open(fathom.address("raw"));
    assert_eq!(old_stream.get("/").unwrap().text(), "a");

    let flood: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(web).unwrap()).collect();
    wait::until("the descriptors to run out", || {
        fathom.stderr().contains("new connections wait")
    });
    // Established ones go on.
    for _ in 0..10 {
        assert_eq!(old.get("/").unwrap().text(), "a");
        assert_eq!(old_stream.get("/").unwrap().text(), "a");
    }
    // A new one waits; it is served when descriptors come back.
    let mut new = Connection::open(web);
    new.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .unwrap();
    drop(flood);
    let response = new.receive().unwrap();
    assert!(matches!(response.status, 200 | 503), "{response:?}");
    wait::until("descriptors to come back", || {
        client::get(web, "/").status == 200
    });
    assert!(
        fathom.metric(
            "fathom_listener_accept_errors_total",
            &[("listener", "web")]
        ) >= 1.0
    );
    // Said at most once a second.
    let said = fathom.stderr().matches("new connections wait").count() as u64;
    assert!(said <= began.elapsed().as_secs() + 2, "said {said} times");
    drop((old, old_stream, new));
    fathom.stop();
}

fn a_panic_in_a_connection(io: Io) {
    let server = Server::named("a");
    let builder = Builder::new(BINARY).env("FATHOM_FAULT", "panic-connection:3");
    let fathom = web_by(io, builder, "", &[server.address()]);
    let open = || Connection::open(fathom.address("web"));
    let mut others = [open(), open()];
    for other in &mut others {
        assert_eq!(other.get("/").unwrap().text(), "a");
    }
    let mut third = open();
    assert!(third.get("/").is_err(), "its connection is closed");
    let internal = [("listener", "web"), ("reason", "internal")];
    wait::until("the panic to be counted", || {
        fathom.metric("fathom_listener_failures_total", &internal) == 1.0
    });
    for other in &mut others {
        assert_eq!(other.get("/").unwrap().text(), "a");
    }
    for _ in 0..10 {
        assert_eq!(client::get(fathom.address("web"), "/").text(), "a");
    }
    drop(others);
    // What it had counted as open was given back.
    let active = "fathom_listener_active_connections";
    wait::until("nothing open", || {
        fathom.metric(active, &[("listener", "web")]) == 0.0
    });
    fathom.stop();
}

fn a_panic_in_a_worker(io: Io) {
    let server = Server::named("a");
    let builder = Builder::new(BINARY).env("FATHOM_FAULT", "panic-worker:7");
    let fathom = web_by(io, builder, "", &[server.address()]);
    let open = || Connection::open(fathom.address("web"));
    let mut others: Vec<Connection> = (0..6).map(|_| open()).collect();
    for other in &mut others {
        assert_eq!(other.get("/").unwrap().text(), "a");
    }
    let mut seventh = open();
    assert!(seventh.get("/").is_err(), "its worker ends");
    wait::until("the panic to be counted", || {
        fathom.metric("fathom_worker_panics_total", &[]) == 1.0
    });
    // The other worker's go on, this one's are closed; none is left hanging.
    for other in &mut others {
        if let Ok(response) = other.get("/") {
            assert_eq!(response.text(), "a");
        }
    }
    for _ in 0..20 {
        assert_eq!(client::get(fathom.address("web"), "/").text(), "a");
    }
    assert_eq!(fathom.status()["worker_panics"], 1);
    drop(others);
    fathom.stop();
}

fn a_crashed_server_leaves_the_rotation_unnoticed(io: Io) {
    let (a, b) = (Server::named("a"), Server::named("b"));
    let fathom = io.start(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [pools.app]
        servers = [{ address = "<a>", name = "a" }, { address = "<b>", name = "b" }]
        health = { tcp = true, interval = "200ms", timeout = "10s", rise = 1, fall = 2 }
        "#,
        &[("a", &a.address()), ("b", &b.address())],
    );
    wait::until("both to be up", || {
        ["a", "b"]
            .iter()
            .all(|s| fathom.server("app", s)["health"] == "up")
    });
    let web = fathom.address("web");
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let end = SetAtEnd(&done);
        let client = || {
            let mut kept = Connection::open(web);
            while !done.load(Ordering::Relaxed) {
                let response = kept.get("/").expect("no client sees the crash");
                assert_eq!(response.status, 200, "{response:?}");
                assert_eq!(client::get(web, "/").status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        };
        let clients = [scope.spawn(client), scope.spawn(client)];
        let more = || {
            let before = served.load(Ordering::Relaxed);
            wait::until("more requests", || {
                served.load(Ordering::Relaxed) >= before + 10
                    || clients.iter().any(|c| c.is_finished())
            });
        };
        more();
        let killed = Instant::now();
        b.kill();
        wait::until("the server to be out", || {
            fathom.server("app", "b")["health"] == "down"
        });
        let took = killed.elapsed();
        eprintln!("out of rotation after {took:?}");
        assert!(took.as_secs() < 10, "out of rotation only after {took:?}");
        more();
        drop(end);
    });
    // Out is out: nothing is even tried there.
    let picked = || fathom.server("app", "b")["failures"].clone();
    let before = picked();
    for _ in 0..10 {
        assert_eq!(client::get(web, "/").text(), "a");
    }
    assert_eq!(picked(), before);
    fathom.stop();
}
