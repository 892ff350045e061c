//! The connection a probe talks over, opened as the pool's own connections are: PROXY header, then TLS.

use std::net::{IpAddr, Ipv4Addr};

use fathom_core::EndpointAddress;
use fathom_core::plan::ProxyVersion;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::{Failure, Stage, Target};

/// Any byte stream.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens the bare connection and says the PROXY header.
pub(super) async fn connect(target: &Target) -> Result<Box<dyn Io>, Failure> {
    target.stage.set(Stage::CONNECTING);
    let refused = |e| Failure::io("connect", &e);
    let mut io: Box<dyn Io> = match &target.address {
        EndpointAddress::Ip(address) => {
            let stream = TcpStream::connect(address).await.map_err(refused)?;
            stream
                .set_nodelay(true)
                .map_err(|e| Failure::io("setsockopt(TCP_NODELAY)", &e))?;
            Box::new(stream)
        }
        EndpointAddress::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(refused)?),
    };
    target.stage.set(Stage::WAITING);
    // PROXY protocol §2: a connection of the sender's own, such as a health check, is UNKNOWN (v1) or LOCAL (v2).
    let header: &[u8] = match target.proxy {
        None => return Ok(io),
        Some(ProxyVersion::V1) => b"PROXY UNKNOWN\r\n",
        Some(ProxyVersion::V2) => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    };
    io.write_all(header)
        .await
        .map_err(|e| Failure::io("write", &e))?;
    Ok(io)
}

/// Opens the connection, with TLS if the pool speaks it.
pub(super) async fn connect_as_pool(target: &Target) -> Result<Box<dyn Io>, Failure> {
    let io = connect(target).await?;
    match &target.tls {
        None => Ok(io),
        Some(Ok(connector)) => handshake(io, connector, target).await,
        Some(Err(why)) => Err(Failure::new(format_args!("tls: {why}"))),
    }
}

/// TLS on an open connection.
pub(super) async fn handshake(
    io: Box<dyn Io>,
    connector: &fathom_tls::Connector,
    target: &Target,
) -> Result<Box<dyn Io>, Failure> {
    target.stage.set(Stage::HANDSHAKE);
    let address = match &target.address {
        EndpointAddress::Ip(address) => address.ip(),
        EndpointAddress::Unix(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let io = connector
        .connect(io, target.host.as_deref(), address)
        .await
        .map_err(|e| Failure::new(format_args!("tls: {e}")))?;
    target.stage.set(Stage::WAITING);
    Ok(Box::new(io))
}

/// A connection with what has arrived on it so far, bounded.
pub(super) struct Wire {
    io: Box<dyn Io>,
    /// Everything received and not consumed.
    pub(super) received: Vec<u8>,
    /// Bytes that may still arrive.
    left: usize,
}

impl Wire {
    /// Opens one that will take at most `limit` bytes.
    pub(super) async fn open(target: &Target, limit: usize) -> Result<Self, Failure> {
        Ok(Self {
            io: connect_as_pool(target).await?,
            received: Vec::new(),
            left: limit,
        })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.io
            .write_all(bytes)
            .await
            .map_err(|e| Failure::io("write", &e))?;
        self.io.flush().await.map_err(|e| Failure::io("write", &e))
    }

    /// Sends a farewell; nobody cares whether it arrives.
    pub(super) async fn farewell(&mut self, bytes: &[u8]) {
        let _ = self.send(bytes).await;
    }

    /// Waits for more bytes; `false` when there will be none.
    pub(super) async fn more(&mut self) -> Result<bool, Failure> {
        let mut chunk = [0; 4096];
        let want = chunk.len().min(self.left);
        if want == 0 {
            return Err(Failure::new("the answer is too long"));
        }
        let n = self
            .io
            .read(&mut chunk[..want])
            .await
            .map_err(|e| Failure::io("read", &e))?;
        self.left -= n;
        self.received.extend_from_slice(&chunk[..n]);
        Ok(n > 0)
    }

    /// Whether the limit is reached.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Waits until `n` bytes are there.
    pub(super) async fn at_least(&mut self, n: usize) -> Result<(), Failure> {
        while self.received.len() < n {
            if !self.more().await? {
                return Err(self.closed());
            }
        }
        Ok(())
    }

    /// Takes `n` bytes off the front.
    pub(super) async fn take(&mut self, n: usize) -> Result<Vec<u8>, Failure> {
        self.at_least(n).await?;
        Ok(self.received.drain(..n).collect())
    }

    /// Takes a line off the front, without its end.
    pub(super) async fn line(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = self.received.iter().position(|&b| b == b'\n') {
                let mut line: Vec<u8> = self.received.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            if !self.more().await? {
                return Err(self.closed());
            }
        }
    }

    /// The far side ended it too early.
    pub(super) fn closed(&self) -> Failure {
        Failure::new(if self.received.is_empty() {
            "closed without an answer"
        } else {
            "closed in the middle of the answer"
        })
    }
}
