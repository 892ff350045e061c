//! Out of descriptors: accepting says so and goes on when there are some again. (One test, because
//! it lowers the limit of the process.)
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::io::Write;
use std::net::TcpStream;

use common::local;
use fathom_io::{Driver, timer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn accepting_goes_on_after_running_out_of_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(256),
            maximum: limit.maximum,
        },
    )
    .unwrap();
    for driver in [Driver::Epoll, Driver::Uring] {
        common::run(driver, run_out());
    }
}

async fn run_out() {
    let (listener, address) = local("127.0.0.1");
    let mut old = TcpStream::connect(address).unwrap();
    let (served, _) = listener.accept().await.unwrap();
    let mut new = TcpStream::connect(address).unwrap();
    new.write_all(b"patience").unwrap();
    let mut hoard: Vec<std::fs::File> = Vec::new();
    let mut held = Vec::new();
    let error = loop {
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        // The ring may have accepted one ahead.
        match timer::timeout(std::time::Duration::from_secs(20), listener.accept()).await {
            Ok(Ok((stream, _))) => {
                held.push(stream);
                drop(hoard.pop());
                new = TcpStream::connect(address).unwrap();
                new.write_all(b"patience").unwrap();
            }
            Ok(Err(error)) => break error,
            Err(_) => panic!("accept said nothing"),
        }
    };
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::MFILE.raw_os_error())
    );
    // Old connections go on.
    old.write_all(b"still here").unwrap();
    assert_eq!(common::read_exact(&served, 10).await, b"still here");
    hoard.clear();
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(common::read_exact(&stream, 8).await, b"patience");
}
