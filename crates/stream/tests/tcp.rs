//! TCP connections through a listener: what passes, how ends are passed on, what happens without a server.
#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use fathom_core::plan::{OutlierPlan, ProxyVersion, QueuePlan, ServerAddress};
use fathom_core::{Health, Reason, Tick};
use fathom_testbed::tcp::{self, Hanging, Peer, Refusing};
use fathom_testbed::wait::{self, DEADLINE};
use fathom_wire::proxy::{Addresses, Parsed, Version, parse};

/// Reads to the end however it ends.
fn read_all(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (all, Ok(())),
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) => return (all, Err(error)),
        }
    }
}

on_both_drivers! {
    fn bytes_pass_both_ways_and_are_counted(driver) {
        let server = Peer::echo();
        let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([server.address()])]);
        echo(&mut balancer.connect(), b"a few bytes");
        let many: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        assert!(tcp::exchange(balancer.address, &many).unwrap() == many);
        let total = many.len() as u64 + 11;
        wait::until("the counters", || {
            let listener = balancer.stats.listener(&"front".into());
            let server = balancer.server(0);
            listener.sum(|c| &c.bytes_in) == total
                && listener.sum(|c| &c.bytes_out) == total
                && server.stats().sum(|c| &c.bytes_in) == total
                && server.stats().sum(|c| &c.connections) == 2
                && balancer.open(0) == 0
                && server.in_flight() == 0
        });
    }

    fn bytes_are_counted_while_the_connection_lasts(driver) {
        let server = Peer::echo();
        let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([server.address()])]);
        let mut client = balancer.connect();
        echo(&mut client, &[1; 1000]);
        wait::until("the bytes", || balancer.server(0).stats().sum(|c| &c.bytes_in) == 1000);
        assert_eq!((balancer.open(0), balancer.server(0).in_flight()), (1, 1));
        assert!(balancer.server(0).ewma_ns(Tick(u64::MAX / 2)) > 0);
    }

    fn a_server_may_close_its_half_first(driver) {
        let (got, what) = mpsc::channel();
        let server = Peer::script(move |mut stream, _| {
            stream.write_all(b"that was all").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            got.send(read_all(&mut stream).0).unwrap();
        });
        let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([server.address()])]);
        let mut client = balancer.connect();
        assert_eq!(rest(&mut client), b"that was all");
        client.write_all(b"and yet I speak").unwrap();
        drop(client);
        assert_eq!(what.recv_timeout(DEADLINE).unwrap(), b"and yet I speak");
    }

    fn a_reset_by_the_client_reaches_the_server(driver) {
        let (got, what) = mpsc::channel();
        let server = Peer::script(move |mut stream, _| {
            let _ = stream.write_all(b"!");
            got.send(read_all(&mut stream).1.map_err(|e| e.kind())).unwrap();
        });
        let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([server.address()])]);
        let mut client = balancer.connect();
        client.read_exact(&mut [0]).unwrap();
        tcp::reset(client);
        assert_eq!(what.recv_timeout(DEADLINE).unwrap(), Err(ErrorKind::ConnectionReset));
        balancer.expect_reason(Reason::ClientGone, 1);
    }

    fn a_reset_by_the_server_reaches_the_client(driver) {
        let server = Peer::script(|mut stream, _| {
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"!").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            tcp::reset(stream);
        });
        let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([server.address()])]);
        let mut client = balancer.connect();
        client.write_all(b"?").unwrap();
        client.read_exact(&mut [0]).unwrap();
        client.write_all(b"?").unwrap();
        assert_eq!(read_all(&mut client).1.unwrap_err().kind(), ErrorKind::ConnectionReset);
        balancer.expect_reason(Reason::ServerReset, 1);
    }

    fn resets_before_any_byte_eject_a_server(driver) {
        let bad = Peer::script(|mut stream, _| {
            let _ = stream.read(&mut [0]);
            tcp::reset(stream);
        });
        let good = Peer::echo();
        let mut pool = main_pool([bad.address(), good.address()]);
        pool.outliers = Some(OutlierPlan { consecutive_errors: 3, eject: Duration::from_secs(3600), max_ejected: 0.5 });
        let balancer = Balancer::stream(driver, stream_plan(), vec![pool]);
        for n in 1..=3 {
            let mut client = balancer.connect();
            client.write_all(b"?").unwrap();
            assert!(read_all(&mut client).1.is_err());
            balancer.expect_reason(Reason::ServerReset, n);
        }
        for _ in 0..5 {
            echo(&mut balancer.connect(), b"now to the other");
        }
        assert_eq!(bad.accepted(), 3);
    }

    fn another_server_is_tried_up_to_three(driver) {
        let (a, b, c, d) = (Refusing::new(), Refusing::new(), Refusing::new(), Peer::echo());
        let two = main_pool([a.address(), b.address(), d.address()]);
        let balancer = Balancer::stream(driver, stream_plan(), vec![two]);
        let mut client = balancer.connect();
        echo(&mut client, b"third time lucky");
        assert_eq!(balancer.server(1).stats().sum(|s| s.failures.of(Reason::ConnectFailed)), 1);

        let three = main_pool([a.address(), b.address(), c.address(), d.address()]);
        let balancer = Balancer::stream(driver, stream_plan(), vec![three]);
        let mut client = balancer.connect();
        client.write_all(b"anyone?").unwrap();
        assert_eq!(rest(&mut client), b"");
        balancer.expect_reason(Reason::ServersExhausted, 1);
        assert_eq!(d.accepted(), 1, "the fourth is not tried");
    }

    fn a_server_that_does_not_answer_is_given_up(driver) {
        let (silent, good) = (Hanging::new(), Peer::echo());
        let pool = main_pool([silent.address(), good.address()]);
        let balancer = Balancer::stream(driver, stream_plan(), vec![pool]);
        let mut client = balancer.connect();
        client.write_all(b"patience").unwrap();
        // Time must pass while it connects, so it is moved until it had its effect.
        wait::until("the connect timeout", || {
            balancer.advance(Duration::from_secs(31));
            balancer.server(0).stats().sum(|s| s.failures.of(Reason::ConnectTimeout)) > 0
        });
        let mut back = [0; 8];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"patience");
    }

    fn without_a_server_the_end_is_orderly(driver) {
        let server = Peer::echo();
        let balancer = Balancer::stream(driver, stream_plan(), vec![checked_pool([server.address()])]);
        balancer.server(0).set_health(Tick(1), Health::Down);
        for n in 1..=3 {
            let mut client = balancer.connect();
            // Unread data must not turn the close into a reset.
            client.write_all(&[0; 10_000]).unwrap();
            assert_eq!(rest(&mut client), b"");
            balancer.expect_reason(Reason::NoServer, n);
        }
        assert_eq!(server.accepted(), 0);
        balancer.server(0).set_health(Tick(2), Health::Up);
        echo(&mut balancer.connect(), b"back again");
    }

    fn no_server_refused_alone_says_so(driver) {
        let nobody = Refusing::new();
        let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([nobody.address()])]);
        assert_eq!(rest(&mut balancer.connect()), b"");
        balancer.expect_reason(Reason::ConnectFailed, 1);
        wait::until("the place to be free", || balancer.server(0).in_flight() == 0);
    }

    fn the_proxy_header_comes_first(driver) {
        for (version, expected) in [(ProxyVersion::V1, Version::V1), (ProxyVersion::V2, Version::V2)] {
            let (got, what) = mpsc::channel();
            let server = Peer::script(move |mut stream, _| {
                got.send(read_all(&mut stream).0).unwrap();
            });
            let mut pool = main_pool([server.address()]);
            pool.proxy_protocol = Some(version);
            let balancer = Balancer::stream(driver, stream_plan(), vec![pool]);
            let mut client = balancer.connect();
            client.write_all(b"payload").unwrap();
            let me = client.local_addr().unwrap();
            drop(client);
            let bytes = what.recv_timeout(DEADLINE).unwrap();
            let Parsed::Complete { header, len } = parse(&bytes) else { panic!("{bytes:?}") };
            assert_eq!(header.version, expected);
            let Addresses::Ip { source, destination, .. } = header.addresses else { panic!() };
            assert_eq!((source, destination), (me, balancer.address));
            assert_eq!(&bytes[len..], b"payload");
            // The header is ours and not the client's: it is in no count.
            wait::until("the count", || balancer.server(0).stats().sum(|c| &c.bytes_out) == 7);
        }
    }

    fn an_idle_connection_ends(driver) {
        let server = Peer::echo();
        let mut plan = stream_plan();
        plan.idle_timeout = Duration::from_secs(100);
        let balancer = Balancer::stream(driver, plan, vec![main_pool([server.address()])]);
        let mut client = balancer.connect();
        for _ in 0..3 {
            echo(&mut client, b"still here");
            // Less than the time, and more than the time in all.
            balancer.advance(Duration::from_secs(60));
        }
        echo(&mut client, b"still here");
        balancer.advance(Duration::from_secs(101));
        assert_eq!(rest(&mut client), b"");
        balancer.expect_reason(Reason::Idle, 1);
        wait::until("the server's side to end", || server.open() == 0);
    }

    fn over_max_connections_clients_wait_their_turn(driver) {
        let server = Peer::echo();
        let mut pool = main_pool([server.address()]);
        pool.servers[0].max_connections = Some(1);
        pool.queue = Some(QueuePlan { length: 2, timeout: Duration::from_secs(50) });
        let balancer = Balancer::stream(driver, stream_plan(), vec![pool]);
        let waiting = |n: usize| wait::until("the queue", || balancer.pools[0].queue().waiting() == n);
        let mut first = balancer.connect();
        echo(&mut first, b"one");
        let mut second = balancer.connect();
        second.write_all(b"two").unwrap();
        waiting(1);
        let third = balancer.connect();
        waiting(2);
        let mut fourth = balancer.connect();
        assert_eq!(rest(&mut fourth), b"");
        balancer.expect_reason(Reason::QueueFull, 1);

        drop(first);
        let mut back = [0; 3];
        second.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"two");
        waiting(1);

        // A client that breaks off gives its place in the line up.
        tcp::reset(third);
        balancer.expect_reason(Reason::ClientGone, 1);
        waiting(0);

        let mut fifth = balancer.connect();
        // One that closed its half is still waiting for an answer.
        fifth.shutdown(Shutdown::Write).unwrap();
        waiting(1);
        balancer.advance(Duration::from_secs(51));
        assert_eq!(rest(&mut fifth), b"");
        balancer.expect_reason(Reason::QueueTimeout, 1);
        assert_eq!(server.accepted(), 2);
    }

    fn a_full_pool_without_a_queue_closes(driver) {
        let server = Peer::echo();
        let mut pool = main_pool([server.address()]);
        pool.servers[0].max_connections = Some(1);
        let balancer = Balancer::stream(driver, stream_plan(), vec![pool]);
        let mut first = balancer.connect();
        echo(&mut first, b"one");
        assert_eq!(rest(&mut balancer.connect()), b"");
        balancer.expect_reason(Reason::PoolFull, 1);
        echo(&mut first, b"goes on");
    }

    fn a_reader_that_stalls_holds_its_writer_back(driver) {
        const OFFERED: usize = 256 << 20;
        let (got, what) = mpsc::channel();
        let server = Peer::script(move |mut stream, _| {
            // That nothing more is taken can only be seen by waiting; seen too early, the sum is only smaller.
            stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            let block = [5; 64 << 10];
            let mut taken = 0;
            while taken < OFFERED {
                match stream.write(&block) {
                    Ok(n) => taken += n,
                    Err(_) => break,
                }
            }
            got.send(taken).unwrap();
        });
        let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([server.address()])]);
        let mut client = balancer.connect();
        let taken = what.recv_timeout(DEADLINE).unwrap();
        // Four socket buffers of at most some megabytes each, and our own quarter.
        assert!(taken < OFFERED / 2, "{taken} bytes are somewhere");
        // And nothing of it is lost.
        assert_eq!(rest(&mut client).len(), taken);
    }

    fn servers_on_ipv6_and_unix_sockets(driver) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 64];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..n]).unwrap();
            }
        });
        let unix = pool("main", [ServerAddress::Unix(path)]);
        let balancer = Balancer::stream(driver, stream_plan(), vec![unix]);
        assert_eq!(tcp::exchange(balancer.address, b"by path").unwrap(), b"by path");
        server.join().unwrap();

        if std::net::TcpListener::bind("[::1]:0").is_err() {
            return eprintln!("no IPv6 here");
        }
        let six = Peer::script_at("[::1]:0".parse().unwrap(), |mut stream, _| {
            let _ = stream.write_all(b"six");
        });
        let balancer = Balancer::stream(driver, stream_plan(), vec![main_pool([six.address()])]);
        assert_eq!(rest(&mut balancer.connect()), b"six");
    }

    fn each_connection_leaves_one_record(driver) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = log_to(&path);
        let (nobody, server) = (Refusing::new(), Peer::echo());
        let pool = main_pool([nobody.address(), server.address()]);
        let balancer = Balancer::stream_logged(driver, stream_plan(), vec![pool], Some(log.clone()));
        assert_eq!(tcp::exchange(balancer.address, b"12345").unwrap(), b"12345");
        let line = wait::some("the record", || {
            std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        });
        assert_eq!(line.lines().count(), 1, "{line}");
        for part in ["\"front\"", "\"main\"", "\"s1\"", "fathom.toml:7", "127.0.0.1"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    fn many_at_once(driver) {
        let servers = [Peer::echo(), Peer::echo()];
        let mut pool = main_pool(servers.iter().map(Peer::address));
        pool.balance.algorithm = fathom_core::plan::Algorithm::RoundRobin;
        let balancer = Balancer::stream(driver, stream_plan(), vec![pool]);
        let address = balancer.address;
        std::thread::scope(|scope| {
            for client in 0..20u8 {
                scope.spawn(move || {
                    for round in 0..10u8 {
                        let data = vec![client ^ round; 20_000];
                        assert!(tcp::exchange(address, &data).unwrap() == data);
                    }
                });
            }
        });
        assert_eq!(servers[0].accepted() + servers[1].accepted(), 200);
        assert_eq!(servers[0].accepted(), 100);
        wait::until("all to be over", || balancer.open(0) + balancer.open(1) == 0);
    }
}
