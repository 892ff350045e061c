//! Clients and servers of HTTP/2: whole ones of the `h2` crate, and ones that send frames by hand.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses a part of it"
)]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};

/// Far beyond what anything here needs.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a client's side.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, future)
            .await
            .expect("in time")
    })
}

/// Waits for a condition while the client's tasks go on.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub struct Client {
    pub send: SendRequest<Bytes>,
    pub connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

#[derive(Debug)]
pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Whole {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn trailer(&self, name: &str) -> &str {
        self.trailers
            .as_ref()
            .and_then(|t| t.get(name))
            .map_or("", |v| v.to_str().unwrap())
    }
}

pub async fn connect(address: SocketAddr) -> Client {
    connect_with(address, h2::client::Builder::new()).await
}

pub async fn connect_with(address: SocketAddr, builder: h2::client::Builder) -> Client {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (send, connection) = builder.handshake(socket).await.unwrap();
    Client {
        send,
        connection: tokio::spawn(connection),
    }
}

pub fn get(path: &str) -> Request<()> {
    request("GET", path)
}

pub fn request(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("http://example.com{path}"))
        .body(())
        .unwrap()
}

impl Client {
    pub async fn start(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        std::future::poll_fn(|cx| self.send.poll_ready(cx))
            .await
            .unwrap();
        self.send.send_request(request, end).unwrap()
    }

    pub async fn ask(&mut self, request: Request<()>) -> Whole {
        let (response, _) = self.start(request, true).await;
        whole(response.await.unwrap()).await.unwrap()
    }

    pub async fn post(&mut self, request: Request<()>, body: &[u8]) -> Whole {
        let (response, mut up) = self.start(request, false).await;
        up.send_data(Bytes::copy_from_slice(body), true).unwrap();
        whole(response.await.unwrap()).await.unwrap()
    }
}

/// Reads a response to its end.
pub async fn whole(response: Response<RecvStream>) -> Result<Whole, h2::Error> {
    let (parts, mut recv) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = recv.data().await {
        let data = data?;
        recv.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    Ok(Whole {
        status: parts.status,
        headers: parts.headers,
        body,
        trailers: recv.trailers().await?,
    })
}

/// Sends all of it as the peer takes it.
pub async fn send_all(up: &mut SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        up.reserve_capacity(data.len());
        match std::future::poll_fn(|cx| up.poll_capacity(cx)).await {
            Some(Ok(n)) => {
                let part = data.split_to(n.min(data.len()));
                up.send_data(part, end && data.is_empty()).unwrap();
            }
            _ => return,
        }
    }
}

/// A client that writes frames by hand.
pub struct Raw(pub TcpStream);

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// `GET /`, by HPACK's static table and literals without indexing.
pub fn head_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84];
    for (name, value) in [(":authority", "example.com")].iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut this = Self(stream);
        this.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        this.send(&frame(4, 0, 0, &[]));
        this
    }

    /// Whether the peer still takes it.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// Reads until such a frame comes; `None` when the connection ends first.
    pub fn until(&mut self, kind: u8) -> Option<Frame> {
        std::iter::from_fn(|| self.read()).find(|f| f.kind == kind)
    }
}

/// The code of a GOAWAY frame.
pub fn goaway_code(frame: &Frame) -> u32 {
    u32::from_be_bytes(frame.payload[4..8].try_into().unwrap())
}

pub const ENHANCE_YOUR_CALM: u32 = 11;
pub const PROTOCOL_ERROR: u32 = 1;

/// A server of the `h2` crate, on a runtime of its own.
pub struct Server {
    pub address: SocketAddr,
    pub connections: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

pub type Asked = Request<RecvStream>;
pub type Responder = h2::server::SendResponse<Bytes>;

impl Server {
    /// Each request is answered by `script`, in a task of its own.
    pub fn start<F, T>(script: F) -> Self
    where
        F: Fn(Asked, Responder) -> T + Clone + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(h2::server::Builder::new(), script)
    }

    pub fn start_with<F, T>(builder: h2::server::Builder, script: F) -> Self
    where
        F: Fn(Asked, Responder) -> T + Clone + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let connections = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let count = connections.clone();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let (builder, script) = (builder.clone(), script.clone());
                tokio::spawn(async move {
                    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(script(request, respond));
                    }
                });
            }
        });
        Self {
            address,
            connections,
            _runtime: runtime,
        }
    }
}

/// Reads a request to its end.
pub async fn read_all(request: Asked) -> (http::request::Parts, Vec<u8>, Option<HeaderMap>) {
    let (parts, mut recv) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(data)) = recv.data().await {
        recv.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    let trailers = recv.trailers().await.unwrap_or_default();
    (parts, body, trailers)
}

pub fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse().unwrap());
    }
    map
}

/// A response's head.
pub fn head(status: u16, fields: &[(&'static str, &str)]) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    *response.headers_mut() = map(fields);
    response
}

/// A server that writes frames by hand: `script` gets a connection whose preface and SETTINGS are exchanged.
pub fn raw_server(
    script: impl Fn(&mut Raw, usize) + Send + Sync + 'static,
) -> fathom_testbed::tcp::Peer {
    fathom_testbed::tcp::Peer::script(move |stream, nth| {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut raw = Raw(stream);
        let mut preface = [0; 24];
        if raw.0.read_exact(&mut preface).is_ok() && raw.send(&frame(4, 0, 0, &[])) {
            script(&mut raw, nth);
        }
    })
}
