//! A gRPC server (unary: every call is answered by a message of its own size) on the `h2` crate.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};

/// Serves on a thread of its own for as long as the process lives; says where.
pub(crate) fn serve() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream));
            }
        });
    });
    Ok(address)
}

async fn connection(stream: tokio::net::TcpStream) {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(1024)
        .initial_connection_window_size(8 << 20);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(call(request.into_body(), respond));
    }
}

/// An error here is a stream that the far side gave up: h2load counts those.
async fn call(
    mut body: h2::RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Option<()> {
    let mut message = Bytes::new();
    while let Some(data) = body.data().await {
        message = data.ok()?;
        body.flow_control().release_capacity(message.len()).ok()?;
    }
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .ok()?;
    let mut stream = respond.send_response(head, false).ok()?;
    stream.send_data(message, false).ok()?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers).ok()
}
