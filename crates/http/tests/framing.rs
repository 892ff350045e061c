//! What could be read in two ways is refused, and no server hears of it.

#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

mod support;

use fathom_io::Driver;
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::wait;
use support::Setup;

on_both_drivers!(
    nothing_ambiguous_reaches_a_server,
    broken_chunks_are_never_a_whole_request,
    a_head_may_come_in_any_pieces,
    limits_of_heads,
    limits_of_bodies,
    bodies_and_trailers_both_ways,
    large_bodies_both_ways,
    responses_that_are_no_http,
    responses_that_end_early,
);

/// RFC 9112 §11.2, §2.2, §5, RFC 9110 §5.5. Behind each stands a request that must not be seen either.
fn nothing_ambiguous_reaches_a_server(driver: Driver) {
    let h = "Host: a\r\n";
    let heads: &[(&str, u16)] = &[
        (
            "POST / HTTP/1.1\r\n{h}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            400,
        ),
        ("POST / HTTP/1.1\r\n{h}Content-Length: 3, 3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{h}Content-Length: +3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{h}Content-Length: 3 3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{h}Content-Length : 3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{h}Content-Length: 0x3\r\n\r\nabc", 400),
        (
            "POST / HTTP/1.1\r\n{h}Content-Length: 99999999999999999999\r\n\r\nabc",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}Transfer-Encoding\r\n : chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\n{h}X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.0\r\n{h}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\n{h}\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{h}\n", 400),
        ("GET / HTTP/1.1\r\n{h}X: a\rY: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{h}X: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{h}X: a\x01b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{h}X\0: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{h}: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{h}no colon\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{h}{h}\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\n{h}\r\n", 400),
        ("GET /a b HTTP/1.1\r\n{h}\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\n{h}\r\n", 400),
        ("GET * HTTP/1.1\r\n{h}\r\n", 400),
        ("GET /#a HTTP/1.1\r\n{h}\r\n", 400),
        ("GET / HTTP/1.1x\r\n{h}\r\n", 400),
        ("GET / HTTP/2.0\r\n{h}\r\n", 505),
        ("CONNECT a:80 HTTP/1.1\r\n{h}\r\n", 501),
        ("\r\n\r\nGET / HTTP/1.1\r\n{h}\r\n", 400),
        ("\x16\x03\x01\x02\0\x01\0\x01\n", 400),
    ];
    let server = Server::named("x");
    let proxy = Setup::new(&[server.address()]).start(driver);
    for (text, status) in heads {
        let text = text.replace("{h}", h);
        let mut client = proxy.connect();
        client
            .send(format!("{text}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
            .unwrap();
        let response = client.receive().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(response.status, *status, "{text:?}");
        assert_eq!(response.header("connection"), Some("close"), "{text:?}");
        assert_eq!(response.header("server"), Some("fathom"), "{text:?}");
        assert!(response.header("fathom-reason").is_some(), "{text:?}");
        assert_eq!(
            client.rest().unwrap(),
            b"",
            "{text:?}: one answer, then a close"
        );
    }
    assert_eq!(server.accepted(), 0);
}

fn broken_chunks_are_never_a_whole_request(driver: Driver) {
    let bodies = [
        "g\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3;a\nabc\r\n0\r\n\r\n",
        "3;\0\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\n\r\n",
        "3\r\nabc\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    ];
    let server = Server::start(|seen| {
        assert!(
            !seen.body.whole,
            "a broken body was passed off as whole: {:?}",
            seen.body
        );
        Reply::ok("x")
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    for body in bodies {
        let mut client = proxy.connect();
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            ))
            .unwrap();
        let response = client.receive().unwrap_or_else(|e| panic!("{body:?}: {e}"));
        assert_eq!(response.status, 400, "{body:?}");
        assert_eq!(client.rest().unwrap(), b"", "{body:?}");
    }
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| !seen.path.contains("smuggled") && !seen.body.whole)
    );
}

fn a_head_may_come_in_any_pieces(driver: Driver) {
    let server = Server::start(|seen| Reply::ok(seen.body.bytes.clone()));
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    for _ in 0..3 {
        client
            .send_slowly("POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n")
            .unwrap();
        assert_eq!(client.receive().unwrap().text(), "abcde");
    }
}

fn limits_of_heads(driver: Driver) {
    let server = Server::named("x");
    let proxy = Setup::new(&[server.address()]).start(driver);
    let long = |n: usize| "y".repeat(n);
    let table = [
        (
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(16 << 10)),
            414,
            "uri-too-long",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(64 << 10)),
            431,
            "header-too-large",
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "a: b\r\n".repeat(300)
            ),
            431,
            "header-too-large",
        ),
    ];
    for (text, status, reason) in table {
        let mut client = proxy.connect();
        client.send(text).unwrap();
        let response = client.receive().unwrap();
        assert_eq!(
            (response.status, response.header("fathom-reason")),
            (status, Some(reason))
        );
    }
    assert_eq!(server.count(), 0);
    let large = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        long(16_000),
        long(45_000)
    );
    assert_eq!(proxy.connect().exchange(large).unwrap().status, 200);
}

fn limits_of_bodies(driver: Driver) {
    let server = Server::start_at_head(|_| {
        Reply::new()
            .read_body()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let proxy = Setup::new(&[server.address()])
        .http(|http| http.max_body = Some(10))
        .start(driver);
    let fits = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789";
    assert_eq!(proxy.connect().exchange(fits).unwrap().status, 200);
    let known = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n5\r\n67890\r\n";
    for text in [known, chunked] {
        let mut client = proxy.connect();
        client.send(text).unwrap();
        let response = client.receive().unwrap();
        assert_eq!(
            (response.status, response.header("fathom-reason")),
            (413, Some("body-too-large"))
        );
        client.finish();
        assert_eq!(client.rest().unwrap(), b"");
    }
    assert!(server.seen().iter().skip(1).all(|seen| !seen.body.whole));
}

/// RFC 9112 §7.1.2, RFC 9110 §6.5.
fn bodies_and_trailers_both_ways(driver: Driver) {
    let server = Server::start(|seen| {
        assert_eq!(seen.body.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
        Reply::chunked(
            &["ab", "", "cde"].map(|c| if c.is_empty() { "-" } else { c }),
            &[("X-Check", "2")],
        )
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let response = client
            .exchange("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n")
            .unwrap();
        assert_eq!(response.text(), "ab-cde");
        assert_eq!(
            response.body.trailers,
            [("X-Check".to_owned(), "2".to_owned())]
        );
    }
    assert_eq!(server.seen()[0].header("trailer"), Some("X-Sum"));
}

fn large_bodies_both_ways(driver: Driver) {
    const SIZE: usize = 5 << 20;
    let server = Server::start(|seen| {
        if seen.path == "/chunked" {
            let piece = "z".repeat(100_000);
            Reply::chunked(&[piece.as_str(); 50], &[])
        } else {
            Reply::ok(seen.body.bytes.clone())
        }
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    let body: Vec<u8> = (0..SIZE).map(|i| (i / 7 % 251) as u8).collect();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
    client.send([head.as_bytes(), &body].concat()).unwrap();
    let response = client.receive().unwrap();
    assert!(response.body.whole && response.body.bytes == body);
    let response = client.get("/chunked").unwrap();
    assert_eq!(
        (response.body.bytes.len(), response.body.whole),
        (5_000_000, true)
    );
    wait::until("the bytes to be counted", || {
        proxy.route_stats().sum(|c| &c.bytes_out) == SIZE as u64 + 5_000_000
    });
    assert_eq!(proxy.route_stats().sum(|c| &c.bytes_in), SIZE as u64);
}

fn responses_that_are_no_http(driver: Driver) {
    let server = Server::start(|seen| {
        Reply::new().send(match seen.path.as_str() {
        "/ssh" => "SSH-2.0-OpenSSH_9.2\r\n",
        "/both" => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "/twice" => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "/fold" => "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "/gzip" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "/half" => "HTTP/1.1 200 OK\r\nX: ",
        _ => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    }).close()
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    let mut client = proxy.connect();
    for path in [
        "/ssh",
        "/both",
        "/twice",
        "/fold",
        "/gzip",
        "/half",
        "/unasked-upgrade",
    ] {
        let response = client.get(path).unwrap();
        assert_eq!(
            (response.status, response.header("fathom-reason")),
            (502, Some("bad-response")),
            "{path}"
        );
    }
}

/// RFC 9112 §8: never a body passed off as whole.
fn responses_that_end_early(driver: Driver) {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/length" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            .close(),
        "/chunked" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .close(),
        "/broken" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
            .close(),
        _ => Reply::new().send("HTTP/1.1 200 OK\r\n\r\nabc").reset(),
    });
    let proxy = Setup::new(&[server.address()]).start(driver);
    for path in ["/length", "/chunked", "/broken", "/reset"] {
        let mut client = proxy.connect();
        match client.get(path) {
            Ok(response) if response.status == 200 => assert!(!response.body.whole, "{path}"),
            Ok(response) => assert_eq!(response.status, 502, "{path}"),
            // A reset may overtake the head.
            Err(_) => {}
        }
        assert!(client.rest().unwrap_or_default().is_empty(), "{path}");
    }
    // To a 1.0 client only the close says that it ended: it must not be a clean one.
    let mut client = proxy.connect();
    client
        .send("GET /chunked HTTP/1.0\r\nHost: a\r\n\r\n")
        .unwrap();
    assert!(client.rest().is_err(), "a reset");
}
