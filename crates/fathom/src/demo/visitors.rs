//! A trickle of visitors, so that there is something to see.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Where the visitors go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doors {
    pub(super) web: SocketAddr,
    pub(super) echo: SocketAddr,
    pub(super) datagrams: SocketAddr,
}

/// What they ask for: mostly pages, now and then something slow, broken or missing.
const PATHS: [&str; 12] = [
    "/",
    "/",
    "/api/users",
    "/",
    "/api/orders/7",
    "/slow",
    "/",
    "/old/page",
    "/broken",
    "/",
    "/hello",
    "/api/users",
];

/// About ten visits a second, until it is dropped.
pub(super) async fn trickle(doors: Doors) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for turn in 0_usize.. {
        tick.tick().await;
        tokio::spawn(async move {
            // Visitors do not report errors; the dashboard does.
            let visit = async {
                match turn % 20 {
                    7 => say(doors.echo).await,
                    13 => ask(doors.datagrams).await,
                    _ => fetch(doors.web, PATHS[turn % PATHS.len()]).await,
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(5), visit).await;
        });
    }
}

async fn fetch(to: SocketAddr, path: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: demo.localhost\r\nUser-Agent: fathom-demo\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn say(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(b"good day\n").await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn ask(to: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(to).await?;
    socket.send(b"what time is it?").await?;
    socket.recv(&mut [0; 2048]).await?;
    Ok(())
}
