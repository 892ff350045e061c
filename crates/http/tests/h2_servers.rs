//! HTTP/2 with servers.
#![allow(clippy::unwrap_used)]

#[path = "support/h2.rs"]
mod h2_support;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fathom_core::Reason;
use fathom_core::plan::{CleartextProtocols, ServerProtocol};
use fathom_io::Driver;
use h2_support::*;
use support::{Proxy, Setup};

on_both_drivers!(
    one_connection_for_many,
    from_http1_and_back,
    trailers_pass,
    large_bodies,
    another_connection_when_one_is_full,
    refused_streams_are_sent_again,
    a_goaway_moves_requests_elsewhere,
    a_reset_before_an_answer_is_502,
    a_reset_within_an_answer_is_passed_on,
    a_header_bomb_is_refused,
    trailers_without_end_are_bounded,
    a_server_that_floods_is_left,
    a_server_that_speaks_http1,
    idle_connections_are_closed,
);

fn to_h2(servers: &[std::net::SocketAddr]) -> Setup {
    Setup::new(servers)
        .http(|http| {
            http.cleartext = CleartextProtocols {
                http1: true,
                h2c: true,
            };
        })
        .pool(|pool| pool.protocol = ServerProtocol::Http2)
}

async fn echo(request: Asked, mut respond: Responder) {
    let (parts, body, trailers) = read_all(request).await;
    let path = parts.uri.path().to_owned();
    let host = parts
        .uri
        .authority()
        .map(|a| a.to_string())
        .unwrap_or_default();
    let response = head(200, &[("x-path", &path), ("x-host", &host)]);
    let mut stream = respond.send_response(response, false).unwrap();
    send_all(&mut stream, body.into(), trailers.is_none()).await;
    if let Some(trailers) = trailers {
        stream.send_trailers(trailers).unwrap();
    } else {
        let _ = stream.send_data(Bytes::new(), true);
    }
}

fn failures(proxy: &Proxy, reason: Reason) -> u64 {
    let members = proxy.pools[0].members();
    members
        .iter()
        .map(|m| m.endpoint().stats().sum(|c| c.failures.of(reason)))
        .sum()
}

fn one_connection_for_many(driver: Driver) {
    let server = Server::start(echo);
    let proxy = to_h2(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let mut asked = Vec::new();
        for i in 0..20 {
            asked.push((i, client.start(get(&format!("/{i}")), true).await.0));
        }
        for (i, response) in asked {
            let got = whole(response.await.unwrap()).await.unwrap();
            assert_eq!(got.header("x-path"), format!("/{i}"));
            assert_eq!(got.header("x-host"), "example.com");
        }
    });
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

fn from_http1_and_back(driver: Driver) {
    let server = Server::start(echo);
    let proxy = to_h2(&[server.address]).start(driver);
    let mut client = proxy.connect();
    for body in ["hello", ""] {
        let got = client
            .exchange(format!(
                "POST /a HTTP/1.1\r\nHost: h\r\nConnection: x-gone\r\nX-Gone: 1\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .unwrap();
        assert_eq!((got.status, got.text().as_str()), (200, body));
        assert_eq!(got.header("x-host"), Some("h"));
    }
    let got = client
        .exchange(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        )
        .unwrap();
    assert_eq!(got.text(), "ab");
}

fn trailers_pass(driver: Driver) {
    let server = Server::start(echo);
    let proxy = to_h2(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, mut up) = client.start(request("POST", "/"), false).await;
        up.send_data(Bytes::from_static(b"x"), false).unwrap();
        up.send_trailers(map(&[("x-end", "1")])).unwrap();
        let got = whole(response.await.unwrap()).await.unwrap();
        assert_eq!((got.text(), got.trailer("x-end")), ("x", "1"));
    });
}

fn large_bodies(driver: Driver) {
    let server = Server::start(echo);
    let proxy = to_h2(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, mut up) = client.start(request("POST", "/"), false).await;
        let data: Bytes = (0..4 << 20).map(|i: u32| (i / 1000) as u8).collect();
        let sent = data.clone();
        tokio::spawn(async move { send_all(&mut up, sent, true).await });
        let got = whole(response.await.unwrap()).await.unwrap();
        assert!(got.body == data);
    });
}

fn another_connection_when_one_is_full(driver: Driver) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let waiting = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = waiting.clone();
    let server = Server::start_with(builder, move |request, respond| {
        let gate = gate.clone();
        async move {
            let _permit = gate.acquire().await.unwrap();
            echo(request, respond).await;
        }
    });
    let proxy = to_h2(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        waiting.add_permits(1);
        assert_eq!(client.ask(get("/")).await.status, 200);
        let permit = waiting.acquire().await.unwrap();
        permit.forget();
        let mut asked = Vec::new();
        for _ in 0..6 {
            asked.push(client.start(get("/"), true).await.0);
        }
        eventually("all connections", || {
            server.connections.load(Ordering::SeqCst) >= 3
        })
        .await;
        waiting.add_permits(100);
        for response in asked {
            assert_eq!(response.await.unwrap().status(), 200);
        }
    });
}

fn refused_streams_are_sent_again(driver: Driver) {
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = refusals.clone();
    let server = Server::start(move |request, mut respond| {
        let count = count.clone();
        async move {
            let (parts, body, _) = read_all(request).await;
            if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
            let response = head(200, &[("x-method", parts.method.as_str())]);
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data(body.into(), true).unwrap();
        }
    });
    let proxy = to_h2(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        // RFC 9113 §8.7: whatever the method. The content is sent again too.
        let got = client.post(request("POST", "/"), b"hello").await;
        assert_eq!((got.status.as_u16(), got.text()), (200, "hello"));
        assert_eq!(got.header("x-method"), "POST");
    });
    assert_eq!(refusals.load(Ordering::SeqCst), 2);
}

fn a_goaway_moves_requests_elsewhere(driver: Driver) {
    let server = raw_server(|raw, nth| {
        let head = raw.until(1).expect("a request");
        if nth == 0 {
            // Nothing was processed: last stream 0, NO_ERROR.
            raw.send(&frame(7, 0, 0, &[0; 8]));
        } else {
            raw.send(&frame(1, 5, head.stream, &[0x88]));
        }
        while raw.read().is_some() {}
    });
    let proxy = to_h2(&[server.address()]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let got = client.post(request("POST", "/"), b"once").await;
        assert_eq!(got.status, 200);
    });
    assert_eq!(server.accepted(), 2);
    assert_eq!(
        failures(&proxy, Reason::ServerReset),
        0,
        "leaving is no failure"
    );
}

fn a_reset_before_an_answer_is_502(driver: Driver) {
    let server = Server::start(|_request, mut respond| async move {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    });
    let proxy = to_h2(&[server.address])
        .route(|route| route.retry.attempts = 0)
        .start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let got = client.ask(get("/")).await;
        assert_eq!(got.status, 502);
        assert_eq!(got.header("fathom-reason"), "server-reset");
    });
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

fn a_reset_within_an_answer_is_passed_on(driver: Driver) {
    let server = Server::start(|_request, mut respond| async move {
        let mut stream = respond.send_response(head(200, &[]), false).unwrap();
        stream
            .send_data(Bytes::from_static(b"half"), false)
            .unwrap();
        tokio::task::yield_now().await;
        stream.send_reset(h2::Reason::INTERNAL_ERROR);
    });
    let proxy = to_h2(&[server.address])
        .route(|route| route.retry.attempts = 0)
        .start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, _) = client.start(get("/"), true).await;
        match response.await {
            Ok(response) if response.status() == 200 => {
                assert!(whole(response).await.unwrap_err().is_reset());
            }
            Ok(response) => assert_eq!(response.status(), 502),
            Err(e) => assert!(e.is_reset(), "{e}"),
        }
    });
}

fn a_header_bomb_is_refused(driver: Driver) {
    let server = Server::start(|_request, mut respond| async move {
        let mut response = head(200, &[]);
        for i in 0..100 {
            let name: http::HeaderName = format!("x-{i}").parse().unwrap();
            let value = "x".repeat(1000).parse().unwrap();
            response.headers_mut().insert(name, value);
        }
        let _ = respond.send_response(response, true);
    });
    let proxy = to_h2(&[server.address])
        .route(|route| route.retry.attempts = 0)
        .start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        assert_eq!(client.ask(get("/")).await.status, 502);
    });
}

fn trailers_without_end_are_bounded(driver: Driver) {
    let server = raw_server(|raw, _| {
        let head = raw.until(1).expect("a request");
        raw.send(&frame(1, 4, head.stream, &[0x88]));
        raw.send(&frame(0, 0, head.stream, b"x"));
        // Trailers: END_STREAM, and END_HEADERS never.
        raw.send(&frame(1, 1, head.stream, &[]));
        let line = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
        while raw.send(&frame(9, 0, head.stream, &line.repeat(100))) {}
    });
    let proxy = to_h2(&[server.address()])
        .route(|route| route.retry.attempts = 0)
        .start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, _) = client.start(get("/"), true).await;
        match response.await {
            Ok(response) if response.status() == 200 => {
                whole(response).await.unwrap_err();
            }
            Ok(response) => assert_eq!(response.status(), 502),
            Err(_) => {}
        }
    });
}

fn a_server_that_floods_is_left(driver: Driver) {
    let server = raw_server(|raw, _| {
        raw.until(1).expect("a request");
        while raw.send(&frame(6, 0, 0, &[0; 8]).repeat(100)) {}
    });
    let proxy = to_h2(&[server.address()])
        .route(|route| route.retry.attempts = 0)
        .start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        assert_eq!(client.ask(get("/")).await.status, 502);
    });
    assert_ne!(failures(&proxy, Reason::ServerH2), 0);
}

fn a_server_that_speaks_http1(driver: Driver) {
    let server =
        fathom_testbed::tcp::Peer::source("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let proxy = to_h2(&[server.address()])
        .route(|route| route.retry.attempts = 0)
        .start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        assert_eq!(client.ask(get("/")).await.status, 502);
    });
}

fn idle_connections_are_closed(driver: Driver) {
    let server = Server::start(echo);
    let proxy = to_h2(&[server.address])
        .pool(|pool| pool.keepalive.timeout = Duration::from_secs(60))
        .start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        assert_eq!(client.ask(get("/")).await.status, 200);
        proxy.hurry();
        let members = proxy.pools[0].members();
        let stats = members[0].endpoint().stats();
        eventually("it is closed", || stats.level(|c| &c.open) == 0).await;
    });
}
