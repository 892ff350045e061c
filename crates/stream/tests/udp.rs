//! UDP flows through a listener: who gets which answer, and what happens when a server goes.
#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::*;
use fathom_core::plan::Algorithm;
use fathom_core::{Health, Reason, Tick};
use fathom_testbed::udp::Peer;
use fathom_testbed::wait;

fn client() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// Asks, and expects the answer of one of these from the address asked.
fn name(socket: &UdpSocket, to: SocketAddr, names: &[&str]) -> String {
    let is_name = |data: &[u8], from| from == to && names.iter().any(|n| n.as_bytes() == data);
    String::from_utf8(ask(socket, to, b"who?", is_name)).unwrap()
}

on_both_drivers! {
    fn answers_come_from_the_address_asked(driver) {
        let server = Peer::echo();
        let balancer = Balancer::datagram(driver, "0.0.0.0:0", datagram_plan(), main_pool([server.address()]));
        let (one, other) = (client(), client());
        for ip in ["127.0.0.1", "127.0.0.2", "127.7.7.7"] {
            let to = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), balancer.address.port());
            for socket in [&one, &other] {
                // The same client to another address is another flow; what it asks is answered from there.
                let question = format!("{ip} {}", socket.local_addr().unwrap());
                ask(socket, to, question.as_bytes(), |data, from| from == to && data == question.as_bytes());
            }
        }
        assert_eq!(balancer.flows(), 6);
        assert_eq!(balancer.server(0).in_flight(), 6);
    }

    fn sizes_from_nothing_to_the_largest(driver) {
        let server = Peer::echo();
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", datagram_plan(), main_pool([server.address()]));
        let socket = client();
        for size in [0, 1, 512, 1472, 9000, 65_507] {
            let data = vec![size as u8; size];
            ask(&socket, balancer.address, &data, |back, from| from == balancer.address && back == data);
        }
        let cells = balancer.stats.listener(&"front".into());
        wait::until("the counters", || {
            cells.sum(|c| &c.datagrams_in) >= 6
                && cells.sum(|c| &c.datagrams_out) >= 6
                && cells.sum(|c| &c.bytes_out) >= 65_507
        });
    }

    fn a_flow_keeps_its_server_and_many_flows_share_them(driver) {
        let servers = [Peer::named("a"), Peer::named("b"), Peer::named("c")];
        let mut pool = main_pool(servers.iter().map(Peer::address));
        pool.balance.algorithm = Algorithm::RoundRobin;
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", datagram_plan(), pool);
        let mut counts = [0; 3];
        let clients: Vec<_> = (0..60).map(|_| client()).collect();
        for socket in &clients {
            let first = name(socket, balancer.address, &["a", "b", "c"]);
            for _ in 0..3 {
                assert_eq!(name(socket, balancer.address, &["a", "b", "c"]), first);
            }
            counts[usize::from(first.as_bytes()[0] - b'a')] += 1;
        }
        assert_eq!(counts, [20, 20, 20]);
    }

    fn bursts_of_many_clients_reach_the_right_one(driver) {
        let server = Peer::script(|datagram, _| vec![datagram.to_vec(); 3]);
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", datagram_plan(), main_pool([server.address()]));
        let clients: Vec<_> = (0..100).map(|_| client()).collect();
        for round in 0..5u8 {
            for (number, socket) in clients.iter().enumerate() {
                socket.send_to(&[number as u8, round], balancer.address).unwrap();
            }
        }
        for (number, socket) in clients.iter().enumerate() {
            let mine = [number as u8, 4];
            ask(socket, balancer.address, &mine, |data, _| {
                assert_eq!(data[0], number as u8, "an answer of somebody else's");
                data == mine
            });
        }
        assert_eq!(balancer.flows(), 100);
    }

    fn a_dead_server_loses_its_flows_to_others(driver) {
        let (first, second) = (Peer::named("first"), Peer::named("second"));
        let pool = main_pool([first.address(), second.address()]);
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", datagram_plan(), pool);
        let sockets = [client(), client()];
        for socket in &sockets {
            assert_eq!(name(socket, balancer.address, &["first", "second"]), "first");
        }
        // Its port answers with ICMP from now on; no check has said anything.
        first.kill();
        for socket in &sockets {
            assert_eq!(name(socket, balancer.address, &["second"]), "second");
        }
        assert!(balancer.server(0).stats().sum(|c| c.failures.of(Reason::ConnectFailed)) >= 2);
        assert_eq!((balancer.open(0), balancer.open(1)), (0, 2));
        assert_eq!((balancer.server(0).in_flight(), balancer.server(1).in_flight()), (0, 2));
        assert_eq!(balancer.flows(), 2);
    }

    fn a_server_found_down_loses_its_flows_too(driver) {
        let (first, second) = (Peer::named("first"), Peer::named("second"));
        let pool = checked_pool([first.address(), second.address()]);
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", datagram_plan(), pool);
        let socket = client();
        for server in 0..2 {
            balancer.server(server).set_health(Tick(1), Health::Up);
        }
        assert_eq!(name(&socket, balancer.address, &["first", "second"]), "first");
        balancer.server(0).set_health(Tick(1), Health::Down);
        assert_eq!(name(&socket, balancer.address, &["second"]), "second");
        // It stays there, whoever comes back.
        balancer.server(0).set_health(Tick(2), Health::Up);
        for _ in 0..3 {
            assert_eq!(name(&socket, balancer.address, &["first", "second"]), "second");
        }
    }

    fn a_server_that_is_alone_may_come_back(driver) {
        let server = Peer::named("only");
        let address = server.address();
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", datagram_plan(), main_pool([address]));
        let socket = client();
        name(&socket, balancer.address, &["only"]);
        server.kill();
        wait::until("the refusal to be seen", || {
            let _ = socket.send_to(b"?", balancer.address);
            balancer.server(0).stats().sum(|c| c.failures.of(Reason::ConnectFailed)) > 0
        });
        // The port is not ours in between: somebody may have taken it.
        let Ok(again) = UdpSocket::bind(address) else { return };
        drop(again);
        let _server = Peer::script_at(address, |_, _| vec![b"only".to_vec()]);
        name(&socket, balancer.address, &["only"]);
    }

    fn idle_flows_end(driver) {
        let server = Peer::echo();
        let mut plan = datagram_plan();
        plan.idle_timeout = Duration::from_secs(100);
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", plan, main_pool([server.address()]));
        let (kept, idle) = (client(), client());
        let ping = |socket: &UdpSocket, text: &[u8]| {
            ask(socket, balancer.address, text, |data, _| data == text);
        };
        ping(&idle, b"once");
        ping(&kept, b"1");
        assert_eq!(balancer.flows(), 2);
        balancer.advance(Duration::from_secs(60));
        ping(&kept, b"2");
        balancer.advance(Duration::from_secs(60));
        wait::until("the idle flow to end", || balancer.flows() == 1);
        ping(&kept, b"3");
        assert_eq!(balancer.flows(), 1);
        balancer.advance(Duration::from_secs(101));
        wait::until("both to have ended", || balancer.flows() == 0);
        assert_eq!(balancer.server(0).in_flight(), 0);
        ping(&idle, b"a new flow");
        assert_eq!(balancer.flows(), 1);
    }

    fn the_longest_idle_makes_room(driver) {
        let server = Peer::echo();
        let mut plan = datagram_plan();
        plan.max_flows = 3;
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", plan, main_pool([server.address()]));
        let sockets: Vec<_> = (0..10).map(|_| client()).collect();
        for (n, socket) in sockets.iter().enumerate() {
            ask(socket, balancer.address, &[n as u8], |data, _| data == [n as u8]);
            assert!(balancer.flows() <= 3);
        }
        assert_eq!(balancer.server(0).in_flight(), 3);
    }

    fn flows_of_before_a_reload_count(driver) {
        let server = Peer::echo();
        let mut plan = datagram_plan();
        plan.max_flows = 3;
        let pool = main_pool([server.address()]);
        let balancer = Balancer::reloaded_datagram(driver, "127.0.0.1:0", plan, pool, 8);
        let sockets: Vec<_> = (0..10).map(|_| client()).collect();
        for (n, socket) in sockets.iter().enumerate() {
            ask(socket, balancer.address, &[n as u8], |data, _| data == [n as u8]);
            assert_eq!(balancer.flows(), 3.min(n as i64 + 1));
        }
        assert_eq!(balancer.server(0).in_flight(), 3);
    }

    fn without_a_server_datagrams_are_dropped_and_counted(driver) {
        let server = Peer::echo();
        let balancer = Balancer::datagram(driver, "127.0.0.1:0", datagram_plan(), checked_pool([server.address()]));
        balancer.server(0).set_health(Tick(1), Health::Down);
        let socket = client();
        wait::until("the count", || {
            socket.send_to(b"?", balancer.address).unwrap();
            balancer.reasons(Reason::NoServer) > 0
        });
        assert_eq!((balancer.flows(), server.received()), (0, 0));
        balancer.server(0).set_health(Tick(2), Health::Up);
        ask(&socket, balancer.address, b"!", |data, _| data == b"!");
    }

    fn ipv6_clients_and_servers(driver) {
        if UdpSocket::bind("[::1]:0").is_err() {
            return eprintln!("no IPv6 here");
        }
        let server = Peer::script_at("[::1]:0".parse().unwrap(), |data, _| vec![data.to_vec()]);
        let balancer = Balancer::datagram(driver, "[::]:0", datagram_plan(), main_pool([server.address()]));
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        let to = SocketAddr::new("::1".parse().unwrap(), balancer.address.port());
        ask(&socket, to, b"six", |data, from| data == b"six" && from == to);
    }

    fn a_drained_listener_gives_the_last_answers_and_ends(driver) {
        let gate = fathom_testbed::Gate::new();
        let server = Peer::script({
            let gate = gate.clone();
            move |data, _| {
                gate.wait();
                vec![data.to_vec()]
            }
        });
        let mut balancer = Balancer::datagram(driver, "127.0.0.1:0", datagram_plan(), main_pool([server.address()]));
        let socket = client();
        wait::until("the question to arrive", || {
            socket.send_to(b"late", balancer.address).unwrap();
            server.received() > 0
        });
        gate.open();
        balancer.finish();
        socket.set_read_timeout(Some(fathom_testbed::wait::DEADLINE)).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 4);
        assert_eq!(balancer.flows(), 0);
    }
}
