//! Routing by what a ClientHello says: whole, in pieces, never, or something else instead.
#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use fathom_core::Reason;
use fathom_core::plan::{
    Algorithm, HashOn, HostPattern, ProxyVersion, RouteTarget, ServerAddress, StreamPlan,
    StreamRoutePlan,
};
use fathom_io::Driver;
use fathom_testbed::tcp::Peer;
use fathom_testbed::wait::DEADLINE;
use fathom_wire::proxy::{Parsed, kind, parse};

/// A server that answers with its name and what it got.
fn named(name: &'static str) -> Peer {
    Peer::script(move |mut stream, _| {
        let mut got = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut got);
        let _ = stream.write_all(&[name.as_bytes(), b":", &got].concat());
    })
}

fn route(sni: &[HostPattern], alpn: &[&str], pool: &str) -> StreamRoutePlan {
    StreamRoutePlan {
        origin: origin(),
        sni: sni.to_vec(),
        alpn: alpn.iter().map(|&a| a.to_owned()).collect(),
        source: Vec::new(),
        target: RouteTarget { pool: pool.into() },
    }
}

struct Setup {
    balancer: Balancer,
    _servers: Vec<Peer>,
}

/// Routes by name, by protocol, and maybe one for the rest.
fn setup(driver: Driver, default: bool) -> Setup {
    let exact = HostPattern::Exact("a.example".into());
    let suffix = HostPattern::Suffix(".b.example".into());
    let plan = StreamPlan {
        routes: vec![
            route(&[exact], &[], "exact"),
            route(&[suffix], &[], "suffix"),
            route(&[], &["h2"], "h2"),
        ],
        pool: default.then(|| "main".into()),
        ..stream_plan()
    };
    let names = ["main", "exact", "suffix", "h2"];
    let servers: Vec<Peer> = names.into_iter().map(named).collect();
    let pools = names
        .iter()
        .zip(&servers)
        .map(|(n, s)| pool(n, [ServerAddress::Ip(s.address())]));
    Setup {
        balancer: Balancer::stream(driver, plan, pools.collect()),
        _servers: servers,
    }
}

impl Setup {
    /// What comes back for `bytes`, sent in pieces of `size`.
    fn send(&self, bytes: &[u8], size: usize) -> Vec<u8> {
        let mut client = self.balancer.connect();
        client.set_nodelay(true).unwrap();
        for piece in bytes.chunks(size) {
            client.write_all(piece).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        rest(&mut client)
    }
}

on_both_drivers! {
    fn names_and_protocols_choose_the_pool(driver) {
        let setup = setup(driver, true);
        for (sni, alpn, pool) in [
            ("a.example", &["http/1.1"][..], "exact"),
            ("A.Example", &[], "exact"),
            ("x.b.example", &[], "suffix"),
            ("other.example", &["http/1.1", "h2"], "h2"),
            ("other.example", &[], "main"),
            ("", &[], "main"),
        ] {
            let bytes = [hello(sni, alpn), b"more".to_vec()].concat();
            assert_eq!(setup.send(&bytes, usize::MAX), [pool.as_bytes(), b":", &bytes].concat(), "{sni} {alpn:?}");
        }
        // Something else than TLS has no name.
        let text = b"GET / HTTP/1.1\r\n\r\n";
        assert_eq!(setup.send(text, usize::MAX), [&b"main:"[..], text].concat());
        assert_eq!(setup.send(text, 1), [&b"main:"[..], text].concat());
    }

    fn a_hello_may_come_byte_by_byte_and_in_many_records(driver) {
        let setup = setup(driver, true);
        let whole = hello("a.example", &["h2"]);
        assert_eq!(setup.send(&whole, 1), [&b"exact:"[..], &whole].concat());
        let message = &whole[5..];
        let records: Vec<u8> = message
            .chunks(3)
            .flat_map(|c| [&[22, 3, 1, 0, c.len() as u8][..], c].concat())
            .collect();
        for size in [1, 4, 1000] {
            assert_eq!(setup.send(&records, size), [&b"exact:"[..], &records].concat());
        }
    }

    fn what_no_route_wants_is_closed(driver) {
        let setup = setup(driver, false);
        assert_eq!(setup.send(&hello("other.example", &[]), usize::MAX), b"");
        setup.balancer.expect_reason(Reason::NoRoute, 1);
        assert_eq!(setup.send(b"\0\x01\x02 not TLS", usize::MAX), b"");
        setup.balancer.expect_reason(Reason::TlsNotTls, 1);
    }

    fn a_broken_hello_is_closed_and_reaches_nobody(driver) {
        let setup = setup(driver, true);
        let mut bytes = hello("a.example", &[]);
        let at = bytes.len() - 12;
        bytes[at] = 0xff;
        assert_eq!(setup.send(&bytes, usize::MAX), b"");
        setup.balancer.expect_reason(Reason::TlsHandshakeFailed, 1);
        // A hello that claims more than there may be.
        assert_eq!(setup.send(b"\x16\x03\x01\x00\x10\x01\xff\xff\xff", 1), b"");
        setup.balancer.expect_reason(Reason::TlsHandshakeFailed, 2);
        // Records without end.
        let endless: Vec<u8> = std::iter::repeat_n([22, 3, 1, 0, 1, 1], 12_000).flatten().collect();
        let mut client = setup.balancer.connect();
        // It may be closed before all is sent.
        let _ = client.write_all(&endless);
        let _ = client.shutdown(Shutdown::Write);
        let mut sink = Vec::new();
        let _ = std::io::Read::read_to_end(&mut client, &mut sink);
        assert!(sink.is_empty());
        setup.balancer.expect_reason(Reason::TlsHandshakeFailed, 3);
        let accepted: usize = setup._servers.iter().map(Peer::accepted).sum();
        assert_eq!(accepted, 0);
    }

    fn a_hello_that_never_ends_is_given_up(driver) {
        let setup = setup(driver, true);
        let mut silent = setup.balancer.connect();
        let mut partly = setup.balancer.connect();
        partly.write_all(&hello("a.example", &[])[..40]).unwrap();
        let gone = setup.balancer.connect();
        gone.shutdown(Shutdown::Write).unwrap();
        setup.balancer.expect_reason(Reason::ClientGone, 1);
        // Time must pass after they were accepted.
        fathom_testbed::wait::until("the deadline", || {
            setup.balancer.advance(Duration::from_secs(11));
            setup.balancer.reasons(Reason::TlsHandshakeTimeout) == 2
        });
        assert_eq!((rest(&mut silent), rest(&mut partly)), (vec![], vec![]));
    }

    fn the_name_goes_into_the_proxy_header(driver) {
        let (got, what) = mpsc::channel();
        let server = Peer::script(move |mut stream, _| {
            let mut bytes = Vec::new();
            let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
            got.send(bytes).unwrap();
        });
        let mut target = main_pool([server.address()]);
        target.proxy_protocol = Some(ProxyVersion::V2);
        let plan = StreamPlan { routes: vec![route(&[HostPattern::Exact("a.example".into())], &[], "main")], pool: None, ..stream_plan() };
        let balancer = Balancer::stream(driver, plan, vec![target]);
        let bytes = hello("a.example", &["h2"]);
        balancer.connect().write_all(&bytes).unwrap();
        let received = what.recv_timeout(DEADLINE).unwrap();
        let Parsed::Complete { header, len } = parse(&received) else { panic!() };
        assert_eq!(header.tlvs.find(kind::AUTHORITY), Some(&b"a.example"[..]));
        assert_eq!(&received[len..], bytes);
    }

    fn hashing_on_the_name_keeps_it_on_one_server(driver) {
        let servers = [named("0"), named("1"), named("2")];
        let mut target = main_pool(servers.iter().map(Peer::address));
        target.balance.algorithm = Algorithm::Hash;
        target.balance.hash_on = HashOn::Sni;
        let balancer = Balancer::stream(driver, stream_plan(), vec![target]);
        let setup = Setup { balancer, _servers: Vec::new() };
        let mut used = std::collections::BTreeSet::new();
        for name in 0..30 {
            let bytes = hello(&format!("n{name}.example"), &[]);
            let first = setup.send(&bytes, usize::MAX)[0];
            assert_eq!(setup.send(&bytes, usize::MAX)[0], first);
            used.insert(first);
        }
        assert_eq!(used.len(), 3);
    }
}
