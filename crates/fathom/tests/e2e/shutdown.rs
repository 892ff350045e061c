//! SIGTERM: stop accepting, finish, close.

use std::io::{Read, Write};
use std::net::TcpStream;

use fathom_testbed::client::Connection;
use fathom_testbed::fathom::Fathom;
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::{Gate, tcp, wait};
use rustix::process::Signal;

use crate::support::Io;

on_both_drivers!(
    finishes_what_is_in_flight,
    closes_what_outlasts_the_grace,
    closes_at_once_when_asked_twice,
    interrupt_ends_it_too,
);

struct Waiting {
    fathom: Fathom,
    server: Server,
    _echo: tcp::Peer,
    gate: Gate,
}

/// A process whose requests wait for a gate.
fn waiting(io: Io, grace: &str) -> Waiting {
    let gate = Gate::new();
    let server = Server::start({
        let gate = gate.clone();
        move |seen| match seen.path.as_str() {
            "/slow" => Reply::new()
                .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
                .wait(&gate)
                .send("56789"),
            _ => Reply::ok("fast"),
        }
    });
    let echo = tcp::Peer::echo();
    let fathom = io.start(
        r#"
        [runtime]
        shutdown_grace = "<grace>"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [listeners.raw]
        bind = "127.0.0.1:{raw}"
        depth = "stream"
        pool = "echo"
        [pools.app]
        servers = ["<a>"]
        [pools.echo]
        servers = ["<echo>"]
        "#,
        &[
            ("grace", &grace),
            ("a", &server.address()),
            ("echo", &echo.address()),
        ],
    );
    Waiting {
        fathom,
        server,
        _echo: echo,
        gate,
    }
}

impl Waiting {
    /// A client whose response has begun.
    fn client(&self) -> Connection {
        let mut client = Connection::open(self.fathom.address("web"));
        let before = self.server.count();
        client
            .send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n")
            .unwrap();
        wait::until("the request at the server", || self.server.count() > before);
        client
    }

    fn terminate(&self) {
        self.fathom.signal(Signal::TERM);
        for listener in ["web", "raw"] {
            let address = self.fathom.address(listener);
            wait::until("no new connections", || {
                TcpStream::connect(address).is_err()
            });
        }
    }
}

fn finishes_what_is_in_flight(io: Io) {
    let mut waiting = waiting(io, "600s");
    let mut idle = Connection::open(waiting.fathom.address("web"));
    assert_eq!(idle.get("/").unwrap().text(), "fast");
    let mut stream = TcpStream::connect(waiting.fathom.address("raw")).unwrap();
    stream.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    let mut echo = || {
        let mut back = [0; 4];
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"ping");
    };
    echo();
    let mut slow = waiting.client();

    waiting.terminate();
    assert_eq!(idle.rest().unwrap(), b"", "idle connections are closed");
    echo();
    assert!(waiting.fathom.is_running());
    waiting.gate.open();
    let response = slow.receive().unwrap();
    assert_eq!((response.status, &*response.text()), (200, "0123456789"));
    assert_eq!(slow.rest().unwrap(), b"");
    drop(stream);
    let status = waiting.fathom.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", waiting.fathom.stderr());
}

fn closes_what_outlasts_the_grace(io: Io) {
    let mut waiting = waiting(io, "300ms");
    let mut slow = waiting.client();
    waiting.terminate();
    let status = waiting.fathom.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", waiting.fathom.stderr());
    // Cut off, and recognisably so: half a body is no whole one.
    if let Ok(response) = slow.receive() {
        assert!(!response.body.whole);
    }
    assert!(waiting.fathom.stderr().contains("shutdown_grace"));
    waiting.gate.open();
}

fn closes_at_once_when_asked_twice(io: Io) {
    let mut waiting = waiting(io, "600s");
    let _slow = waiting.client();
    waiting.terminate();
    assert!(waiting.fathom.is_running());
    wait::until("the second signal to be taken", || {
        waiting.fathom.signal(Signal::TERM);
        std::thread::sleep(std::time::Duration::from_millis(50));
        !waiting.fathom.is_running()
    });
    let status = waiting.fathom.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", waiting.fathom.stderr());
    waiting.gate.open();
}

fn interrupt_ends_it_too(io: Io) {
    let mut waiting = waiting(io, "600s");
    waiting.fathom.signal(Signal::INT);
    let status = waiting.fathom.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", waiting.fathom.stderr());
}
