//! WebSocket handshakes between HTTP/2 (RFC 8441) and HTTP/1 (RFC 6455), and the bytes behind them.
#![allow(clippy::unwrap_used)]

#[path = "support/h2.rs"]
mod h2_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use fathom_core::plan::{CleartextProtocols, ServerProtocol};
use fathom_io::Driver;
use fathom_testbed::tcp::Peer;
use h2_support::*;
use http::Request;
use support::{Proxy, Setup};

on_both_drivers!(
    from_h2_to_http1,
    from_h2_to_h2,
    from_http1_to_h2,
    from_http1_to_http1,
    a_server_that_does_not_switch,
    an_h2_server_that_does_not_know_it,
    ordinary_connect_is_refused,
);

fn setup(server: std::net::SocketAddr, protocol: ServerProtocol) -> Setup {
    Setup::new(&[server])
        .http(|http| {
            http.cleartext = CleartextProtocols {
                http1: true,
                h2c: true,
            };
        })
        .pool(|pool| pool.protocol = protocol)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines()
        .filter_map(|l| l.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map_or("", |(_, v)| v)
}

/// Switches, then sends back what it gets.
fn http1_server() -> Peer {
    Peer::script(|mut stream, _| {
        let head = read_head(&mut stream);
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
        assert_eq!(field(&head, "upgrade").to_ascii_lowercase(), "websocket");
        assert!(field(&head, "connection").eq_ignore_ascii_case("upgrade"));
        assert_eq!(field(&head, "sec-websocket-version"), "13");
        let accept = fathom_codec::h2::accept_for(field(&head, "sec-websocket-key").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
            String::from_utf8(accept).unwrap()
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

fn h2_server() -> Server {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    Server::start_with(builder, |request, mut respond| async move {
        let protocol = request.extensions().get::<h2::ext::Protocol>().unwrap();
        assert_eq!(protocol.as_str(), "websocket");
        assert_eq!(request.method(), "CONNECT");
        assert_eq!(request.uri().path(), "/chat");
        assert!(request.headers().get("sec-websocket-key").is_none());
        assert_eq!(request.headers()["sec-websocket-version"], "13");
        let mut down = respond.send_response(head(200, &[]), false).unwrap();
        let mut up = request.into_body();
        while let Some(Ok(data)) = up.data().await {
            up.flow_control().release_capacity(data.len()).unwrap();
            let _ = down.send_data(data, false);
        }
        let _ = down.send_data(Bytes::new(), true);
    })
}

fn connect_request() -> Request<()> {
    let mut request = request("CONNECT", "/chat");
    request
        .headers_mut()
        .insert("sec-websocket-version", "13".parse().unwrap());
    request
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    request
}

/// Some words there and back over HTTP/2, then an end.
async fn talk_h2(proxy: &Proxy) -> http::HeaderMap {
    let mut client = connect(proxy.address).await;
    eventually("RFC 8441 is offered", || {
        client.send.is_extended_connect_protocol_enabled()
    })
    .await;
    let (response, mut up) = client.start(connect_request(), false).await;
    let (parts, mut down) = response.await.unwrap().into_parts();
    assert_eq!(parts.status, 200);
    for word in ["hello", "there"] {
        up.send_data(Bytes::from(word), false).unwrap();
        let mut got = Vec::new();
        while got.len() < word.len() {
            got.extend_from_slice(&down.data().await.unwrap().unwrap());
        }
        assert_eq!(got, word.as_bytes());
    }
    up.send_data(Bytes::new(), true).unwrap();
    // END_STREAM may come with an empty frame.
    while let Some(data) = down.data().await {
        assert!(data.unwrap().is_empty());
    }
    parts.headers
}

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The same over HTTP/1.
fn talk_http1(proxy: &Proxy) {
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(HANDSHAKE.as_bytes()).unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(
        field(&head, "sec-websocket-accept"),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert_eq!(field(&head, "upgrade"), "websocket");
    for word in ["hello", "there"] {
        stream.write_all(word.as_bytes()).unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, word.as_bytes());
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0);
}

fn from_h2_to_http1(driver: Driver) {
    let server = http1_server();
    let proxy = setup(server.address(), ServerProtocol::Http1).start(driver);
    run(async {
        let headers = talk_h2(&proxy).await;
        assert_eq!(headers["sec-websocket-protocol"], "chat");
        assert!(headers.get("sec-websocket-accept").is_none());
        assert!(headers.get("upgrade").is_none());
    });
}

fn from_h2_to_h2(driver: Driver) {
    let server = h2_server();
    let proxy = setup(server.address, ServerProtocol::Http2).start(driver);
    run(async {
        talk_h2(&proxy).await;
    });
}

fn from_http1_to_h2(driver: Driver) {
    let server = h2_server();
    let proxy = setup(server.address, ServerProtocol::Http2).start(driver);
    talk_http1(&proxy);
}

fn from_http1_to_http1(driver: Driver) {
    let server = http1_server();
    let proxy = setup(server.address(), ServerProtocol::Http1).start(driver);
    talk_http1(&proxy);
}

fn a_server_that_does_not_switch(driver: Driver) {
    let server =
        fathom_testbed::http1::Server::start(|_| fathom_testbed::http1::Reply::status(403, "no"));
    let proxy = setup(server.address(), ServerProtocol::Http1).start(driver);
    run(async {
        let mut client = connect(proxy.address).await;
        eventually("RFC 8441 is offered", || {
            client.send.is_extended_connect_protocol_enabled()
        })
        .await;
        let (response, _up) = client.start(connect_request(), false).await;
        let got = whole(response.await.unwrap()).await.unwrap();
        assert_eq!((got.status.as_u16(), got.text()), (403, "no"));
    });
}

fn an_h2_server_that_does_not_know_it(driver: Driver) {
    let server = Server::start(|_request, _respond| std::future::pending());
    let proxy = setup(server.address, ServerProtocol::Http2).start(driver);
    let got = proxy.connect().exchange(HANDSHAKE).unwrap();
    assert_eq!(got.status, 502);
}

fn ordinary_connect_is_refused(driver: Driver) {
    let server = http1_server();
    let proxy = setup(server.address(), ServerProtocol::Http1).start(driver);
    let mut raw = Raw::connect(proxy.address);
    // :method CONNECT, :authority a
    let block = [&[0x02, 7][..], b"CONNECT", &[0x01, 1, b'a']].concat();
    raw.send(&frame(1, 5, 1, &block));
    let answer = std::iter::from_fn(|| raw.read()).find(|f| f.kind == 1 || f.kind == 3);
    assert_eq!(answer.unwrap().stream, 1);
    assert_eq!(server.accepted(), 0);
}
