//! What the behaviour tests share.
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use fathom_io::{ConnectOptions, ListenOptions, Listener, Stream, Target, listen};

/// Makes each test run on every driver this machine has.
#[allow(unused_macros, reason = "as above")]
macro_rules! on_both_drivers {
    ($($(#[$meta:meta])* async fn $name:ident() $body:block)*) => {
        mod epoll { use super::*; $($(#[$meta])* #[test] fn $name() {
            common::run(fathom_io::Driver::Epoll, async $body)
        })* }
        mod uring { use super::*; $($(#[$meta])* #[test] fn $name() {
            common::run(fathom_io::Driver::Uring, async $body)
        })* }
    };
}
#[allow(unused_imports, reason = "as above")]
pub(crate) use on_both_drivers;

/// How long any test may wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn run(driver: fathom_io::Driver, test: impl Future<Output = ()>) {
    if driver == fathom_io::Driver::Uring
        && let Err(why) = fathom_io::choose(fathom_core::plan::IoChoice::Uring)
    {
        eprintln!("skipped: {why}");
        return;
    }
    fathom_io::block_on(driver, async {
        // Real time: tests move the worker's own clock.
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the test ends in time");
    });
}

pub(crate) fn local(ip: &str) -> (Listener, SocketAddr) {
    let address = SocketAddr::new(ip.parse().unwrap(), 0);
    let listener = Listener::new(listen(address, &ListenOptions::default()).unwrap()).unwrap();
    let address = listener.local_addr();
    (listener, address)
}

/// Two connected streams: the connecting and the accepted one.
pub(crate) async fn pair() -> (Stream, Stream) {
    pair_on("127.0.0.1").await
}

pub(crate) async fn pair_on(ip: &str) -> (Stream, Stream) {
    let (listener, address) = local(ip);
    let options = ConnectOptions::default();
    let (client, accepted) = tokio::join!(
        Stream::connect(Target::Ip(address), &options),
        listener.accept()
    );
    (client.unwrap(), accepted.unwrap().0)
}

/// A stream to a peer of which nothing reads.
pub(crate) async fn to_a_silent_peer() -> (Stream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Ip(listener.local_addr().unwrap());
    let stream = Stream::connect(target, &ConnectOptions::default()).await;
    (stream.unwrap(), listener.accept().unwrap().0)
}

/// Waits until the connection of `peer` broke, reading nothing from it.
pub(crate) async fn broken(peer: &std::net::TcpStream) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    loop {
        let mut fds = [PollFd::new(peer, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::default())).unwrap();
        if fds[0].revents().contains(PollFlags::ERR) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Reads exactly `n` bytes.
pub(crate) async fn read_exact(stream: &Stream, n: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < n {
        let mut chunk = stream.read().await.unwrap();
        assert!(
            !chunk.is_empty(),
            "end of stream after {} of {n} bytes",
            all.len()
        );
        let rest = chunk.split_to(chunk.len().min(n - all.len()));
        all.extend_from_slice(&rest);
        stream.unread(chunk);
    }
    all
}

/// A long sequence that shows misplaced bytes.
pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n as u64)
        .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}
