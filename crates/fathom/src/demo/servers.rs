//! The demo's example servers: small, real, and in this process.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

/// A web server that says who it is. Answers `/health`, `/slow`, `/broken` and anything else.
pub(super) async fn web(name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let served = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let served = served.clone();
            let service = service_fn(move |request| answer(name, served.clone(), request));
            tokio::spawn(async move {
                // A client that leaves is no news for an example server.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(
    name: &'static str,
    served: Arc<AtomicU64>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let number = served.fetch_add(1, Relaxed) + 1;
    let path = request.uri().path().to_owned();
    let (status, text) = match path.as_str() {
        "/health" => (StatusCode::OK, "{\"status\": \"ok\"}\n".to_owned()),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            (StatusCode::OK, format!("{name} took its time\n"))
        }
        "/broken" => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{name} is having a bad day\n"),
        ),
        _ => {
            let seen = |header| {
                request
                    .headers()
                    .get(header)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or("-")
                    .to_owned()
            };
            let (from, proto) = (seen("x-forwarded-for"), seen("x-forwarded-proto"));
            let method = request.method().clone();
            let body = request
                .into_body()
                .collect()
                .await
                .map(|b| b.to_bytes().len())
                .unwrap_or(0);
            let text = format!(
                "Hello from {name}. This is its answer number {number}.\n{method} {path} with {body} bytes, from {from} over {proto}\n"
            );
            (StatusCode::OK, text)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        "text/plain; charset=utf-8".parse().expect("a valid value"),
    );
    headers.insert("x-server", name.parse().expect("a valid value"));
    Ok(response)
}

/// A TCP server that greets, then sends back every line.
pub(super) async fn echo(name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let greeting = format!("{name} repeats what you say\n");
                if stream.write_all(greeting.as_bytes()).await.is_err() {
                    return;
                }
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// A UDP server that answers each datagram with who it is and what it got.
pub(super) async fn datagrams(name: &'static str) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let Ok((n, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let mut reply = format!("{name} got: ").into_bytes();
            reply.extend_from_slice(&buffer[..n]);
            let _ = socket.send_to(&reply, from).await; // the asker may be gone
        }
    });
    Ok(address)
}
