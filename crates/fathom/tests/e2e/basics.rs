//! The main job: requests, connections and datagrams through one process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;

use fathom_testbed::client::{self, Connection};
use fathom_testbed::fathom::{Builder, Fathom};
use fathom_testbed::http1::Server;
use fathom_testbed::{ports, tcp, udp, wait};

use crate::support::{Ask, BINARY, Io};

on_both_drivers!(
    every_kind_of_traffic_through_one_process,
    both_families_on_a_bare_port,
    a_server_on_a_unix_socket,
    a_host_name_as_server,
    routes_edits_and_answers,
    a_stream_keeps_half_closes_and_large_amounts_whole,
    a_datagram_flow_keeps_its_server,
    proxy_protocol_in_and_out,
    what_fathom_says_itself_says_so,
);

fn every_kind_of_traffic_through_one_process(io: Io) {
    let (a, b) = (Server::named("a"), Server::named("b"));
    let echo = tcp::Peer::echo();
    let answer = udp::Peer::named("datagram");
    let fathom = io.start(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
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
        balance = "round-robin"
        servers = ["<a>", "<b>"]
        [pools.echo]
        servers = ["<echo>"]
        [pools.answer]
        servers = ["<answer>"]
        "#,
        &[
            ("a", &a.address()),
            ("b", &b.address()),
            ("echo", &echo.address()),
            ("answer", &answer.address()),
        ],
    );
    let mut kept = Connection::open(fathom.address("web"));
    for _ in 0..20 {
        assert_eq!(kept.get("/").unwrap().status, 200);
    }
    assert_eq!((a.count(), b.count()), (10, 10));
    let answered = tcp::exchange(fathom.address("raw"), b"over and back").unwrap();
    assert_eq!(answered, b"over and back");
    assert_eq!(ask(fathom.address("datagrams")), "datagram");

    let requests = [("listener", "web"), ("depth", "http")];
    assert_eq!(
        fathom.metric("fathom_listener_requests_total", &requests),
        20.0
    );
    assert_eq!(fathom.status()["driver"], io.name());
    fathom.stop();
}

/// Asks until there is an answer: a datagram may be lost.
fn ask(to: SocketAddr) -> String {
    let client = udp::client(to);
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .unwrap();
    wait::some("an answer", || {
        client.send(b"?").ok()?;
        let mut buffer = [0; 512];
        let n = client.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
    })
}

fn both_families_on_a_bare_port(io: Io) {
    let server = Server::echo();
    let (echo, answer) = (tcp::Peer::echo(), udp::Peer::echo());
    let fathom = io.start(
        r#"
        [listeners.web]
        bind = ":{web}"
        depth = "http"
        pool = "app"
        [listeners.raw]
        bind = ":{raw}"
        depth = "stream"
        pool = "echo"
        [listeners.datagrams]
        bind = ":{datagrams}"
        protocol = "udp"
        depth = "stream"
        pool = "answer"
        [pools.app]
        servers = ["<a>"]
        [pools.echo]
        servers = ["<echo>"]
        [pools.answer]
        servers = ["<answer>"]
        "#,
        &[
            ("a", &server.address()),
            ("echo", &echo.address()),
            ("answer", &answer.address()),
        ],
    );
    let families = |name: &str| {
        let port = fathom.port(name);
        let mut addresses = vec![port.v4()];
        if ports::has_v6() {
            addresses.push(port.v6());
        }
        addresses
    };
    for address in families("web") {
        let seen = client::get(address, "/").text().to_ascii_lowercase();
        // An IPv4 client of a socket for both is an IPv4 client to the servers, too.
        let forwarded = format!("x-forwarded-for: {}\r\n", address.ip());
        assert!(seen.contains(&forwarded), "{seen}");
    }
    for address in families("raw") {
        assert_eq!(tcp::exchange(address, b"x").unwrap(), b"x");
    }
    for address in families("datagrams") {
        assert_eq!(ask(address), "?");
    }
    fathom.stop();
}

fn a_server_on_a_unix_socket(io: Io) {
    let builder = Builder::new(BINARY);
    let path = builder.directory().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix");
            });
        }
    });
    let fathom = io.start_by(
        builder,
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
        servers = ["unix:<path>"]
        "#,
        &[("path", &path.display())],
    );
    assert_eq!(client::get(fathom.address("web"), "/").text(), "unix");
    assert_eq!(client::get(fathom.address("raw"), "/").text(), "unix");
    fathom.stop();
}

fn a_host_name_as_server(io: Io) {
    let server = Server::named("by name");
    let fathom = io.start(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [pools.app]
        servers = ["localhost:<port>"]
        "#,
        &[("port", &server.address().port())],
    );
    // The name may take a moment, and may mean ::1 as well, where nobody is: then another is tried.
    wait::until("the name to be known", || {
        client::get(fathom.address("web"), "/").status == 200
    });
    assert_eq!(client::get(fathom.address("web"), "/").text(), "by name");
    fathom.stop();
}

fn routes_edits_and_answers(io: Io) {
    let (app, api) = (Server::echo(), Server::echo());
    let fathom = io.start(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [[listeners.web.routes]]
        match = { host = "example.com", path = "/api/*", method = ["GET", "POST"] }
        pool = "api"
        request_headers = { set = { X-Env = "prod" }, remove = ["X-Internal"] }
        response_headers = { set = { X-Seen = "yes" } }
        rewrite = { strip_prefix = "/api" }
        [[listeners.web.routes]]
        match = { path = "/old/*" }
        redirect = { to = "https://example.com/new/$1", status = 301 }
        [[listeners.web.routes]]
        match = { path = "/healthz" }
        respond = { status = 200, body = "ok\n" }
        [pools.app]
        servers = ["<app>"]
        [pools.api]
        servers = ["<api>"]
        "#,
        &[("app", &app.address()), ("api", &api.address())],
    );
    let mut client = Connection::open(fathom.address("web"));
    let response = client
        .exchange("GET /api/users?x=1 HTTP/1.1\r\nHost: example.com\r\nX-Internal: 1\r\n\r\n")
        .unwrap();
    assert_eq!(
        (response.status, response.header("x-seen")),
        (200, Some("yes"))
    );
    let seen = response.text();
    assert!(seen.starts_with("GET /users?x=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("X-Env: prod\r\n"), "{seen}");
    assert!(!seen.contains("X-Internal"), "{seen}");
    assert!(seen.contains("Host: example.com\r\n"), "{seen}");

    let moved = client.get("/old/a/b").unwrap();
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("https://example.com/new/a/b"))
    );
    assert_eq!(moved.header("fathom-reason"), Some("redirect"));
    assert_eq!(client.get("/healthz").unwrap().text(), "ok\n");
    assert!(client.get("/else").unwrap().text().starts_with("GET /else"));
    assert_eq!((api.count(), app.count()), (1, 1));
    fathom.stop();
}

fn a_stream_keeps_half_closes_and_large_amounts_whole(io: Io) {
    // Answers only once the client has finished sending: it never would without the half-close.
    let server = tcp::Peer::script(|mut stream, _| {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() {
            all.reverse();
            let _ = stream.write_all(&all);
        }
    });
    let fathom = stream_to(io, server.address());
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut expected = sent.clone();
    expected.reverse();
    // Not assert_eq: three million numbers help nobody.
    assert!(tcp::exchange(fathom.address("raw"), &sent).unwrap() == expected);
    fathom.stop();
}

fn stream_to(io: Io, server: SocketAddr) -> Fathom {
    io.start(
        r#"
        [listeners.raw]
        bind = "127.0.0.1:{raw}"
        depth = "stream"
        pool = "app"
        [pools.app]
        servers = ["<a>"]
        "#,
        &[("a", &server)],
    )
}

fn a_datagram_flow_keeps_its_server(io: Io) {
    let (a, b) = (udp::Peer::named("a"), udp::Peer::named("b"));
    let fathom = io.start(
        r#"
        [listeners.datagrams]
        bind = "127.0.0.1:{datagrams}"
        protocol = "udp"
        depth = "stream"
        pool = "answer"
        [pools.answer]
        servers = ["<a>", "<b>"]
        "#,
        &[("a", &a.address()), ("b", &b.address())],
    );
    let client = udp::client(fathom.address("datagrams"));
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .unwrap();
    let answer = || {
        wait::some("an answer", || {
            client.send(b"?").ok()?;
            let mut buffer = [0; 8];
            client.recv(&mut buffer).ok().map(|_| buffer[0])
        })
    };
    let first = answer();
    for _ in 0..10 {
        assert_eq!(answer(), first);
    }
    // A server that dies loses its flows to the other.
    let (dead, other) = if first == b'a' { (a, b'b') } else { (b, b'a') };
    dead.kill();
    wait::until("the other server to answer", || answer() == other);
    fathom.stop();
}

fn proxy_protocol_in_and_out(io: Io) {
    // The server shows what it got first: the header of version 1 is a line of text.
    let server = tcp::Peer::script(|mut stream, _| {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            line.push(byte[0]);
        }
        let _ = stream.write_all(&line);
    });
    let fathom = io.start(
        r#"
        [listeners.raw]
        bind = "127.0.0.1:{raw}"
        depth = "stream"
        pool = "app"
        accept_proxy_protocol = ["127.0.0.0/8"]
        [pools.app]
        servers = ["<a>"]
        proxy_protocol = "v1"
        "#,
        &[("a", &server.address())],
    );
    let mut client = TcpStream::connect(fathom.address("raw")).unwrap();
    client.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\n";
    client.write_all(header).unwrap();
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&seen),
        String::from_utf8_lossy(header)
    );
    // Without a header from a peer that must send one: nothing reaches the server.
    let refused = tcp::exchange(fathom.address("raw"), b"GET / HTTP/1.1\r\n\r\n");
    assert!(refused.map_or(true, |bytes| bytes.is_empty()));
    assert_eq!(server.accepted(), 1);
    drop(client);
    fathom.stop();
}

fn what_fathom_says_itself_says_so(io: Io) {
    let server = Server::named("a");
    let fathom = io.start(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        [[listeners.web.routes]]
        match = { path = "/a" }
        pool = "app"
        [pools.app]
        servers = ["<a>"]
        "#,
        &[("a", &server.address())],
    );
    let response = client::get(fathom.address("web"), "/b");
    assert_eq!(response.status, 404);
    assert_eq!(response.header("server"), Some("fathom"));
    assert_eq!(response.header("fathom-reason"), Some("no-route"));
    let response = client::get(fathom.address("web"), "/a");
    assert_eq!(
        (response.status, response.header("fathom-reason")),
        (200, None)
    );
    fathom.stop();
}
