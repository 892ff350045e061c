//! gRPC over HTTP/2 on both sides, with messages framed by hand.
#![allow(clippy::unwrap_used)]

#[path = "support/h2.rs"]
mod h2_support;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use fathom_core::plan::{CleartextProtocols, RetryOn, ServerProtocol};
use fathom_io::Driver;
use h2_support::*;
use http::Request;
use support::{Proxy, Setup};

on_both_drivers!(
    unary,
    streaming_down,
    streaming_up,
    both_ways_at_once,
    a_deadline_before_the_answer,
    a_deadline_within_the_answer,
    errors_of_our_own_are_statuses,
    unavailable_is_tried_again_where_asked_for,
    a_server_that_resets_is_a_status,
);

fn grpc(servers: &[std::net::SocketAddr]) -> Setup {
    Setup::new(servers)
        .http(|http| {
            http.cleartext = CleartextProtocols {
                http1: false,
                h2c: true,
            };
        })
        .pool(|pool| pool.protocol = ServerProtocol::Grpc)
}

fn message(text: &str) -> Bytes {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame.into()
}

fn call() -> Request<()> {
    let mut call = request("POST", "/test.Echo/Call");
    *call.headers_mut() = map(&[("content-type", "application/grpc"), ("te", "trailers")]);
    call
}

fn calls(proxy: &Proxy, status: usize) -> u64 {
    proxy.route_stats().sum(|c| c.grpc.of(status))
}

/// Sends what it gets as it gets it, then OK.
async fn echo(request: Asked, mut respond: Responder) {
    assert_eq!(request.headers()["te"], "trailers");
    let head = head(200, &[("content-type", "application/grpc")]);
    let mut down = respond.send_response(head, false).unwrap();
    let mut up = request.into_body();
    while let Some(Ok(data)) = up.data().await {
        up.flow_control().release_capacity(data.len()).unwrap();
        if down.send_data(data, false).is_err() {
            return;
        }
    }
    let _ = down.send_trailers(map(&[("grpc-status", "0")]));
}

fn unary(driver: Driver) {
    let server = Server::start(echo);
    let proxy = grpc(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let got = client.post(call(), &message("hello")).await;
        assert_eq!(got.body, message("hello"));
        assert_eq!(got.trailer("grpc-status"), "0");
        eventually("it is counted", || calls(&proxy, 0) == 1).await;
    });
}

fn streaming_down(driver: Driver) {
    let server = Server::start(|request, mut respond| async move {
        read_all(request).await;
        let mut down = respond.send_response(head(200, &[]), false).unwrap();
        for i in 0..100 {
            down.send_data(message(&i.to_string()), false).unwrap();
            tokio::task::yield_now().await;
        }
        down.send_trailers(map(&[("grpc-status", "5"), ("grpc-message", "gone")]))
            .unwrap();
    });
    let proxy = grpc(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let got = client.post(call(), &message("")).await;
        let all: Vec<u8> = (0..100).flat_map(|i| message(&i.to_string())).collect();
        assert_eq!(got.body, all);
        assert_eq!(
            (got.trailer("grpc-status"), got.trailer("grpc-message")),
            ("5", "gone")
        );
        eventually("it is counted", || calls(&proxy, 5) == 1).await;
    });
}

fn streaming_up(driver: Driver) {
    let server = Server::start(|request, mut respond| async move {
        let (_, body, _) = read_all(request).await;
        let mut down = respond.send_response(head(200, &[]), false).unwrap();
        down.send_data(message(&body.len().to_string()), false)
            .unwrap();
        down.send_trailers(map(&[("grpc-status", "0")])).unwrap();
    });
    let proxy = grpc(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, mut up) = client.start(call(), false).await;
        for _ in 0..100 {
            send_all(&mut up, message("12345"), false).await;
        }
        up.send_data(Bytes::new(), true).unwrap();
        let got = whole(response.await.unwrap()).await.unwrap();
        assert_eq!(got.body, message("1000"));
    });
}

fn both_ways_at_once(driver: Driver) {
    let server = Server::start(echo);
    let proxy = grpc(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, mut up) = client.start(call(), false).await;
        // The answer's head comes before anything was said.
        let mut down = response.await.unwrap().into_body();
        for i in 0..50 {
            let sent = message(&i.to_string());
            up.send_data(sent.clone(), false).unwrap();
            let mut got = Vec::new();
            while got.len() < sent.len() {
                got.extend_from_slice(&down.data().await.unwrap().unwrap());
            }
            assert_eq!(got, sent);
        }
        up.send_data(Bytes::new(), true).unwrap();
        assert!(down.data().await.is_none());
        assert_eq!(down.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

fn a_deadline_before_the_answer(driver: Driver) {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let count = asked_for.clone();
    let server = Server::start(move |request, respond| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let _held = (request, respond);
            std::future::pending().await
        }
    });
    let proxy = grpc(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let mut asked = call();
        asked
            .headers_mut()
            .insert("grpc-timeout", "20S".parse().unwrap());
        let (response, mut up) = client.start(asked, false).await;
        up.send_data(message("x"), true).unwrap();
        eventually("the server has it", || {
            asked_for.load(Ordering::SeqCst) == 1
        })
        .await;
        proxy.hurry();
        let got = whole(response.await.unwrap()).await.unwrap();
        assert_eq!(got.status, 200);
        assert_eq!(got.header("content-type"), "application/grpc");
        assert_eq!(got.header("grpc-status"), "4");
        assert_eq!(got.header("fathom-reason"), "grpc-deadline");
        eventually("it is counted", || calls(&proxy, 4) == 1).await;
    });
}

fn a_deadline_within_the_answer(driver: Driver) {
    let server = Server::start(|_request, mut respond| async move {
        let mut down = respond.send_response(head(200, &[]), false).unwrap();
        down.send_data(message("first"), false).unwrap();
        std::future::pending().await
    });
    let proxy = grpc(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let mut asked = call();
        asked
            .headers_mut()
            .insert("grpc-timeout", "20S".parse().unwrap());
        let (response, _up) = client.start(asked, false).await;
        let response = response.await.unwrap();
        proxy.hurry();
        let got = whole(response).await.unwrap();
        assert_eq!(got.body, message("first"));
        assert_eq!(got.trailer("grpc-status"), "4");
    });
}

fn errors_of_our_own_are_statuses(driver: Driver) {
    // A port that nobody listens on: held, and not listening.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = held.local_addr().unwrap();
    drop(held);
    let proxy = grpc(&[nobody])
        .route(|route| {
            route.matches.host = vec![];
            route.matches.method = vec!["POST".into()];
        })
        .start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let got = client.post(call(), &message("x")).await;
        assert_eq!(
            (got.status.as_u16(), got.header("grpc-status")),
            (200, "14")
        );
        assert_eq!(got.header("fathom-reason"), "connect-failed");
        assert_ne!(got.header("grpc-message"), "");
        let mut unrouted = call();
        *unrouted.method_mut() = http::Method::PUT;
        let got = client.post(unrouted, b"").await;
        assert_eq!(
            (got.status.as_u16(), got.header("grpc-status")),
            (200, "12")
        );
        // Who does not speak gRPC gets what it always gets.
        let got = client.post(request("POST", "/"), b"").await;
        assert_eq!(got.status, 503);
    });
}

fn unavailable_is_tried_again_where_asked_for(driver: Driver) {
    for asked_for in [true, false] {
        let count = Arc::new(AtomicUsize::new(0));
        let nth = count.clone();
        let script = move |request, mut respond: Responder| {
            let nth = nth.clone();
            async move {
                if nth.fetch_add(1, Ordering::SeqCst) > 0 {
                    return echo(request, respond).await;
                }
                read_all(request).await;
                let _ = respond.send_response(head(200, &[("grpc-status", "14")]), true);
            }
        };
        let (one, other) = (Server::start(script.clone()), Server::start(script));
        let proxy = grpc(&[one.address, other.address])
            .route(|route| {
                if asked_for {
                    route.retry.on.push(RetryOn::GrpcUnavailable);
                }
            })
            .start(driver);
        run(async {
            let mut client = connect(proxy.address).await;
            let got = client.post(call(), &message("again")).await;
            if asked_for {
                assert_eq!(got.trailer("grpc-status"), "0");
                assert_eq!(got.body, message("again"));
            } else {
                assert_eq!(got.header("grpc-status"), "14");
                eventually("it is counted", || calls(&proxy, 14) == 1).await;
            }
        });
    }
}

fn a_server_that_resets_is_a_status(driver: Driver) {
    let server = Server::start(|request, mut respond| async move {
        let mut down = respond.send_response(head(200, &[]), false).unwrap();
        // The answer has begun once the client says so.
        read_all(request).await;
        down.send_reset(h2::Reason::INTERNAL_ERROR);
    });
    let proxy = grpc(&[server.address]).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        let (response, mut up) = client.start(call(), false).await;
        let response = response.await.unwrap();
        up.send_data(Bytes::new(), true).unwrap();
        let got = whole(response).await.unwrap();
        assert_eq!(got.trailer("grpc-status"), "14");
        assert_eq!(got.trailer("fathom-reason"), "short-body");
    });
}
