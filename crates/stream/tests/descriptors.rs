//! Out of file descriptors: who is there goes on, who comes waits or is closed, and it passes.
#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;

use common::*;
use fathom_core::Reason;
use fathom_io::Driver;
use fathom_testbed::tcp::Peer;
use fathom_testbed::wait::DEADLINE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Takes every descriptor that the process may still have.
fn take_all() -> Vec<File> {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken
}

/// A client that has its descriptor already.
struct Ready(Socket);

impl Ready {
    fn new() -> Self {
        Self(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
    }

    fn connect(self, balancer: &Balancer) -> TcpStream {
        // The kernel completes this, whether or not anybody can accept it.
        self.0.connect(&balancer.address.into()).unwrap();
        let stream = TcpStream::from(self.0);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }
}

fn run(driver: Driver) {
    let server = Peer::echo();
    let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([server.address()])]);
    let mut established: Vec<_> = (0..5).map(|_| balancer.connect()).collect();
    established
        .iter_mut()
        .for_each(|client| echo(client, b"before"));
    let newcomers: Vec<_> = (0..5).map(|_| Ready::new()).collect();

    // Low enough to be filled quickly; what is open above the new limit stays open.
    let before = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(256),
            ..before
        },
    )
    .unwrap();
    let mut taken = take_all();

    let mut waiting: Vec<_> = newcomers
        .into_iter()
        .map(|client| client.connect(&balancer))
        .collect();
    waiting
        .iter_mut()
        .for_each(|client| client.write_all(b"hello").unwrap());
    for _ in 0..10 {
        established
            .iter_mut()
            .for_each(|client| echo(client, b"goes on"));
    }
    // One descriptor accepts a client and finds none for its server: closed, counted, and not the server's fault.
    taken.pop();
    fathom_testbed::wait::until("a client to be closed", || {
        balancer.reasons(Reason::OutOfDescriptors) > 0
    });
    established
        .iter_mut()
        .for_each(|client| echo(client, b"still goes on"));
    let failures = balancer
        .server(0)
        .stats()
        .sum(|c| c.failures.of(Reason::ConnectFailed));
    assert_eq!(failures, 0);

    drop(taken);
    setrlimit(Resource::Nofile, before).unwrap();
    // Who waited is served now, or was closed; nobody hangs.
    for mut client in waiting {
        let mut back = [0; 5];
        match client.read(&mut back) {
            Ok(0) => {}
            Ok(n) => assert_eq!(&back[..n], &b"hello"[..n]),
            // Closed while what it had sent was not read yet.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    established
        .iter_mut()
        .for_each(|client| echo(client, b"after"));
    echo(&mut balancer.connect(), b"and new ones");
}

/// One test for both drivers: the limit is the whole process's.
#[test]
fn running_out_of_descriptors_costs_only_newcomers() {
    for driver in [Driver::Epoll, Driver::Uring] {
        if has(driver) {
            run(driver);
        }
    }
}
