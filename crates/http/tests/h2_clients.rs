//! HTTP/2 with clients, HTTP/1 with servers.
#![allow(clippy::unwrap_used)]

#[path = "support/h2.rs"]
mod h2_support;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fathom_core::Reason;
use fathom_core::plan::CleartextProtocols;
use fathom_io::Driver;
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::wait::{Gate, until};
use h2_support::*;
use support::{Proxy, Setup};

on_both_drivers!(
    a_request_and_its_answer,
    both_versions_on_one_port,
    many_at_a_time,
    a_body_of_unknown_length_becomes_chunks,
    trailers_pass_both_ways,
    cookies_are_joined,
    what_is_malformed_is_answered_with_400,
    interim_responses_pass,
    large_bodies_both_ways,
    a_slow_reader_holds_back_only_its_stream,
    a_stalled_upload_holds_back_only_its_stream,
    a_response_cut_short_is_reset,
    a_client_that_resets_frees_its_server,
    draining_says_goaway_and_finishes,
    idle_connections_are_left,
    a_preface_that_never_comes,
    a_head_that_never_ends,
    large_heads_and_uris_are_refused,
    curl_speaks_it,
);

fn h2c(servers: &[std::net::SocketAddr]) -> Setup {
    Setup::new(servers).http(|http| {
        http.cleartext = CleartextProtocols {
            http1: true,
            h2c: true,
        };
    })
}

fn reasons(proxy: &Proxy, reason: Reason) -> u64 {
    proxy.listener.sum(|c| c.reasons.of(reason))
}

fn a_request_and_its_answer(driver: Driver) {
    let server = Server::start(|seen| Reply::echo(seen).header("X-Own", "1"));
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let got = client.ask(get("/a?b")).await;
        assert_eq!(got.status, 200);
        assert_eq!(got.header("x-own"), "1");
        assert!(got.headers.get("connection").is_none());
        let text = got.text();
        assert!(
            text.starts_with("GET /a?b HTTP/1.1\r\nHost: example.com\r\n"),
            "{text}"
        );
        assert!(text.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{text}");
        let got = client.post(request("POST", "/"), b"hello").await;
        assert!(got.text().ends_with("\r\n\r\nhello"), "{}", got.text());
        let got = client.ask(request("HEAD", "/")).await;
        assert_eq!((got.status.as_u16(), got.body.len()), (200, 0));
        assert_ne!(got.header("content-length"), "");
    });
}

fn both_versions_on_one_port(driver: Driver) {
    let server = Server::start(|_| Reply::ok("yes"));
    let proxy = h2c(&[server.address()]).start(driver);
    let mut old = proxy.connect();
    assert_eq!(old.get("/").unwrap().status, 200);
    run(async {
        assert_eq!(
            connect(proxy.address).await.ask(get("/")).await.text(),
            "yes"
        );
    });
    // A preface in pieces.
    let mut raw = Raw(std::net::TcpStream::connect(proxy.address).unwrap());
    raw.0.set_read_timeout(Some(DEADLINE)).unwrap();
    raw.0.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        raw.send(&[*byte]);
    }
    raw.send(&frame(4, 0, 0, &[]));
    raw.send(&frame(1, 5, 1, &head_block(&[])));
    assert_eq!(raw.until(0).unwrap().payload, b"yes");
    // What begins like one and is none.
    let mut bad = proxy.connect();
    bad.send("PRI / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(bad.receive().unwrap().status, 200);
}

fn many_at_a_time(driver: Driver) {
    let server = Server::start(|seen| Reply::ok(seen.path.clone()));
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let mut asked = Vec::new();
        for i in 0..100 {
            asked.push((i, client.start(get(&format!("/{i}")), true).await.0));
        }
        for (i, response) in asked {
            let got = whole(response.await.unwrap()).await.unwrap();
            assert_eq!(got.text(), format!("/{i}"));
        }
    });
    assert_eq!(proxy.route_stats().sum(|c| &c.requests), 100);
}

fn a_body_of_unknown_length_becomes_chunks(driver: Driver) {
    let server = Server::start(|seen| {
        let coding = seen.header("transfer-encoding").unwrap_or("none");
        Reply::ok(format!("{coding} {}", seen.body.bytes.len()))
    });
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        assert_eq!(
            client.post(request("POST", "/"), b"hello").await.text(),
            "chunked 5"
        );
        let mut sized = request("POST", "/");
        sized.headers_mut().insert("content-length", 5.into());
        assert_eq!(client.post(sized, b"hello").await.text(), "none 5");
        // RFC 9113 §8.1.1: not as long as it said.
        let mut long = request("POST", "/");
        long.headers_mut().insert("content-length", 9.into());
        let (response, mut up) = client.start(long, false).await;
        up.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let e = response.await.map(|_| ()).unwrap_err();
        assert_eq!(e.reason(), Some(h2::Reason::PROTOCOL_ERROR));
    });
}

fn trailers_pass_both_ways(driver: Driver) {
    let server = Server::start(|seen| {
        let up = seen.body.trailers.iter().find(|(n, _)| n == "x-up");
        let sent = up.map_or("none", |(_, v)| v).to_owned();
        Reply::chunked(&["a", "bc"], &[("X-Down", &sent)]).header("Trailer", "X-Down")
    });
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, mut up) = client.start(request("POST", "/"), false).await;
        up.send_data(Bytes::from_static(b"x"), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-up", "42".parse().unwrap());
        up.send_trailers(trailers).unwrap();
        let got = whole(response.await.unwrap()).await.unwrap();
        assert_eq!(got.text(), "abc");
        assert_eq!(got.trailer("x-down"), "42");
    });
}

fn cookies_are_joined(driver: Driver) {
    let server = Server::start(|seen| Reply::ok(seen.header("cookie").unwrap_or("none")));
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut asked = get("/");
        for crumb in ["a=1", "b=2"] {
            asked.headers_mut().append("cookie", crumb.parse().unwrap());
        }
        let got = connect(proxy.address).await.ask(asked).await;
        assert_eq!(got.text(), "a=1; b=2");
    });
}

fn what_is_malformed_is_answered_with_400(driver: Driver) {
    let server = Server::start(|_| Reply::ok("no"));
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let mut differs = get("/");
        differs
            .headers_mut()
            .insert("host", "other".parse().unwrap());
        let got = client.ask(differs).await;
        assert_eq!(got.status, 400);
        assert_eq!(got.header("fathom-reason"), "ambiguous-request");
        let mut spaces = get("/");
        spaces.headers_mut().insert("x", " a".parse().unwrap());
        assert_eq!(client.ask(spaces).await.status, 400);
        // The connection goes on.
        assert_eq!(client.ask(get("/")).await.status, 200);
    });
    // What the crate refuses by itself.
    for field in [
        ("connection", "close"),
        ("Upper", "x"),
        ("transfer-encoding", "chunked"),
    ] {
        let mut raw = Raw::connect(proxy.address);
        raw.send(&frame(1, 5, 1, &head_block(&[field])));
        let found = std::iter::from_fn(|| raw.read()).find(|f| f.kind == 3 || f.kind == 7);
        let code = found.map(|f| f.payload[f.payload.len() - 1]);
        assert!(code.is_some_and(|c| c == 1 || c == 9), "{field:?}");
    }
    assert_eq!(server.seen().len(), 1);
}

fn interim_responses_pass(driver: Driver) {
    let server = Server::start(|_| {
        Reply::new()
            .send("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n")
            .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (mut response, _) = client.start(get("/"), true).await;
        let early = std::future::poll_fn(|cx| response.poll_informational(cx))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(early.status(), 103);
        assert_eq!(early.headers()["link"], "<a>");
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

fn large_bodies_both_ways(driver: Driver) {
    let server = Server::start(|seen| match seen.body.bytes.len() {
        0 => Reply::sized(5 << 20),
        n => Reply::ok(n.to_string()),
    });
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (down, _) = client.start(get("/"), true).await;
        let (up, mut body) = client.start(request("POST", "/"), false).await;
        let down = tokio::spawn(async move { whole(down.await.unwrap()).await.unwrap() });
        send_all(&mut body, vec![7; 3 << 20].into(), true).await;
        assert_eq!(
            whole(up.await.unwrap()).await.unwrap().text(),
            (3 << 20).to_string()
        );
        let down = down.await.unwrap().body;
        assert!(down.len() == 5 << 20 && down.iter().all(|b| *b == b'x'));
    });
}

/// A server that says how much of a large response the proxy has taken.
fn counted() -> (fathom_testbed::tcp::Peer, &'static AtomicU64) {
    use std::io::{Read, Write};
    let taken: &'static AtomicU64 = Box::leak(Box::default());
    let peer = fathom_testbed::tcp::Peer::script(move |mut stream, _| {
        let mut head = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut head) {
            if head[..n].windows(6).any(|w| w == b"/small") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                continue;
            }
            let length: u64 = 256 << 20;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
            while taken.load(Ordering::Relaxed) < length {
                match stream.write(&[b'x'; 64 << 10]) {
                    Ok(n) => taken.fetch_add(n as u64, Ordering::Relaxed),
                    Err(_) => return,
                };
            }
        }
    });
    (peer, taken)
}

fn a_slow_reader_holds_back_only_its_stream(driver: Driver) {
    let (server, taken) = counted();
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        // Its own connection window must not be what holds the others back.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(4 << 20);
        let mut client = connect_with(proxy.address, builder).await;
        let (slow, _) = client.start(get("/large"), true).await;
        let slow = slow.await.unwrap();
        for _ in 0..200 {
            assert_eq!(client.ask(get("/small")).await.text(), "ok");
        }
        // Kernel buffers on the way take some; not what was asked for.
        let before = taken.load(Ordering::Relaxed);
        assert!(
            before < 64 << 20,
            "{before} bytes taken for a client that reads none"
        );
        drop(slow);
    });
}

fn a_stalled_upload_holds_back_only_its_stream(driver: Driver) {
    let gate = Gate::new();
    let server = Server::start_at_head({
        let gate = gate.clone();
        move |seen| match seen.path.as_str() {
            "/stalled" => Reply::new()
                .wait(&gate)
                .read_body()
                .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            _ => Reply::new()
                .read_body()
                .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        }
    });
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, mut up) = client.start(request("POST", "/stalled"), false).await;
        let sending = tokio::spawn(async move {
            send_all(&mut up, vec![7; 32 << 20].into(), true).await;
        });
        for _ in 0..50 {
            assert_eq!(
                client.post(request("POST", "/"), &[1; 30_000]).await.text(),
                "ok"
            );
        }
        gate.open();
        assert_eq!(response.await.unwrap().status(), 200);
        sending.await.unwrap();
    });
}

fn a_response_cut_short_is_reset(driver: Driver) {
    let server = Server::start(|_| {
        Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            .close()
    });
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, _) = client.start(get("/"), true).await;
        // RST_STREAM may overtake the head on its way to the application.
        let e = match response.await {
            Ok(response) => whole(response).await.unwrap_err(),
            Err(e) => e,
        };
        assert!(e.is_reset(), "{e}");
    });
    until("the reason is counted", || {
        proxy.route_stats().sum(|c| c.reasons.of(Reason::ShortBody)) == 1
    });
}

fn a_client_that_resets_frees_its_server(driver: Driver) {
    let gate = Gate::new();
    let server = Server::start({
        let gate = gate.clone();
        move |_| Reply::new().wait(&gate)
    });
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, mut up) = client.start(get("/"), true).await;
        eventually("the server has it", || server.seen().len() == 1).await;
        up.send_reset(h2::Reason::CANCEL);
        drop(response);
        let stats = proxy.route_stats();
        eventually("the request ends", || {
            stats.sum(|c| c.reasons.of(Reason::ClientGone)) == 1
        })
        .await;
        eventually("nothing is in flight", || stats.level(|c| &c.active) == 0).await;
    });
    gate.open();
}

fn draining_says_goaway_and_finishes(driver: Driver) {
    let gate = Gate::new();
    let server = Server::start({
        let gate = gate.clone();
        move |_| {
            Reply::new()
                .wait(&gate)
                .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        }
    });
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let idle = connect(proxy.address).await;
        let (response, _) = client.start(get("/"), true).await;
        eventually("the server has it", || server.seen().len() == 1).await;
        proxy.drain();
        idle.connection.await.unwrap().unwrap();
        drop(idle.send);
        gate.open();
        assert_eq!(whole(response.await.unwrap()).await.unwrap().text(), "late");
        client.connection.await.unwrap().unwrap();
    });
}

fn idle_connections_are_left(driver: Driver) {
    let server = Server::start(|_| Reply::ok("yes"));
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        assert_eq!(client.ask(get("/")).await.text(), "yes");
        proxy.hurry();
        client.connection.await.unwrap().unwrap();
    });
}

fn a_preface_that_never_comes(driver: Driver) {
    let proxy = h2c(&[])
        .http(|http| http.cleartext.http1 = false)
        .start(driver);
    let mut raw = Raw(std::net::TcpStream::connect(proxy.address).unwrap());
    raw.0.set_read_timeout(Some(DEADLINE)).unwrap();
    raw.send(b"PRI * HT");
    proxy.hurry();
    assert_eq!(raw.until(0xff), None);
    until("it is counted", || {
        reasons(&proxy, Reason::HeaderTimeout) == 1
    });
}

fn a_head_that_never_ends(driver: Driver) {
    let proxy = h2c(&[]).start(driver);
    let mut raw = Raw::connect(proxy.address);
    // HEADERS without END_HEADERS.
    raw.send(&frame(1, 1, 1, &head_block(&[])));
    assert!(raw.until(4).is_some());
    proxy.hurry();
    let goaway = raw.until(7).expect("a GOAWAY");
    assert_eq!(goaway_code(&goaway), ENHANCE_YOUR_CALM);
    until("it is counted", || {
        reasons(&proxy, Reason::HeaderTimeout) == 1
    });
}

fn large_heads_and_uris_are_refused(driver: Driver) {
    let server = Server::start(|_| Reply::ok("yes"));
    let proxy = h2c(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let got = client.ask(get(&format!("/{}", "x".repeat(17 << 10)))).await;
        assert_eq!(got.status, 414);
        let mut large = get("/");
        for i in 0..5 {
            let name: http::HeaderName = format!("x-{i}").parse().unwrap();
            large
                .headers_mut()
                .insert(name, "x".repeat(14 << 10).parse().unwrap());
        }
        let (response, _) = client.start(large, true).await;
        assert_eq!(response.await.unwrap().status(), 431);
        assert_eq!(client.ask(get("/")).await.text(), "yes");
    });
}

fn curl_speaks_it(driver: Driver) {
    let server =
        Server::start(|seen| Reply::ok(format!("{} {}", seen.method, seen.body.bytes.len())));
    let proxy = h2c(&[server.address()]).start(driver);
    let output = std::process::Command::new("curl")
        .args([
            "-sS",
            "--http2-prior-knowledge",
            "-m",
            "30",
            "-d",
            "hello",
            "-w",
            " %{http_version}",
        ])
        .arg(format!("http://{}/", proxy.address))
        .output();
    match output {
        Ok(output) => assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "POST 5 2",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(e) => fathom_testbed::need::skip(&format!("curl: {e}")),
    }
}
