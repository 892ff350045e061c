//! Host names as servers, against a name server of the test's own.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{pool_plan, runtime, server};
use fathom_core::plan::{PoolPlan, ServerAddress};
use fathom_core::{EndpointAddress, Endpoints, Pool};
use fathom_testbed::wait;
use fathom_upstream::{ResolverOptions, Upstream};

/// What a name stands for.
#[derive(Clone)]
enum Zone {
    Has(Vec<&'static str>),
    NxDomain,
    ServFail,
}

/// A name server that knows only what the test tells it; every record has a time to live of 0.
struct NameServer {
    address: SocketAddr,
    zones: Arc<Mutex<HashMap<String, Zone>>>,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl NameServer {
    fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let zones: Arc<Mutex<HashMap<String, Zone>>> = Arc::default();
        std::thread::spawn({
            let zones = Arc::clone(&zones);
            move || {
                let mut query = [0; 512];
                while let Ok((n, peer)) = socket.recv_from(&mut query) {
                    let answer = answer(&query[..n], &zones.lock().unwrap());
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Self { address, zones }
    }

    fn set(&self, name: &str, zone: Zone) {
        self.zones.lock().unwrap().insert(name.to_owned(), zone);
    }

    fn options(&self) -> ResolverOptions {
        ResolverOptions {
            name_servers: vec![self.address],
            hosts: PathBuf::from("/nonexistent"),
            ..Default::default()
        }
    }
}

/// RFC 1035 §4: the header, the question as it came, the answers with a pointer to the question's name.
fn answer(query: &[u8], zones: &HashMap<String, Zone>) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let question = &query[12..at + 5];
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let zone = zones
        .get(&labels.join("."))
        .cloned()
        .unwrap_or(Zone::NxDomain);
    let (code, addresses) = match zone {
        Zone::Has(addresses) => (0, addresses),
        Zone::ServFail => (2, Vec::new()),
        Zone::NxDomain => (3, Vec::new()),
    };
    let records: Vec<Vec<u8>> = addresses
        .into_iter()
        .filter_map(|text| match text.parse().unwrap() {
            IpAddr::V4(ip) if kind == A => Some(ip.octets().to_vec()),
            IpAddr::V6(ip) if kind == AAAA => Some(ip.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut message = query[..2].to_vec();
    message.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    message.extend_from_slice(question);
    for data in records {
        message.extend_from_slice(&[0xc0, 12]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, data.len() as u8]);
        message.extend_from_slice(&data);
    }
    message
}

fn named_pool(
    name: &str,
    hosts: &[&str],
    registry: &Endpoints,
    previous: Option<&Pool>,
) -> Arc<Pool> {
    let servers = hosts.iter().map(|host| {
        server(
            host,
            ServerAddress::Name {
                host: (*host).into(),
                port: 80,
            },
        )
    });
    let plan = PoolPlan {
        servers: servers.collect(),
        ..pool_plan(name)
    };
    Pool::new(Arc::new(plan), registry, previous)
}

fn addresses(pool: &Pool) -> Vec<String> {
    pool.members()
        .iter()
        .map(|member| member.endpoint().address().to_string())
        .collect()
}

#[test]
fn names_become_servers_and_follow_the_zone() {
    let dns = NameServer::start();
    dns.set(
        "app.test",
        Zone::Has(vec!["192.0.2.2", "192.0.2.1", "2001:db8::1"]),
    );
    dns.set("other.test", Zone::Has(vec!["192.0.2.9"]));
    let upstream = Upstream::new(runtime(), dns.options());
    let pool = named_pool("web", &["app.test", "other.test"], &Endpoints::new(), None);
    upstream.apply(&[Arc::clone(&pool)]);
    runtime().block_on(upstream.names_known(wait::DEADLINE));
    // In file order, each name's sorted.
    let all = [
        "192.0.2.1:80",
        "192.0.2.2:80",
        "[2001:db8::1]:80",
        "192.0.2.9:80",
    ];
    wait::until("both names to be servers", || addresses(&pool) == all);
    let kept = Arc::clone(pool.members()[1].endpoint());

    dns.set("app.test", Zone::Has(vec!["192.0.2.2", "192.0.2.3"]));
    wait::until("the new addresses", || {
        addresses(&pool) == ["192.0.2.2:80", "192.0.2.3:80", "192.0.2.9:80"]
    });
    assert!(
        Arc::ptr_eq(&kept, pool.members()[0].endpoint()),
        "an address that stays is the same endpoint"
    );
}

#[test]
fn what_was_known_outlives_failures_and_reloads() {
    let dns = NameServer::start();
    dns.set("app.test", Zone::Has(vec!["192.0.2.1"]));
    let upstream = Upstream::new(runtime(), dns.options());
    let registry = Endpoints::new();
    let pool = named_pool("web", &["app.test"], &registry, None);
    upstream.apply(&[Arc::clone(&pool)]);
    wait::until("the name to be a server", || {
        addresses(&pool) == ["192.0.2.1:80"]
    });

    dns.set("app.test", Zone::ServFail);
    let problem = || upstream.names(pool.plan()).remove(0).problem;
    wait::until("the failure to be reported", || problem().is_some());
    assert_eq!(addresses(&pool), ["192.0.2.1:80"]);

    // A new pool of another name starts with it, although nobody can be asked now.
    let reloaded = named_pool("web2", &["app.test"], &registry, None);
    upstream.apply(&[Arc::clone(&reloaded)]);
    assert_eq!(addresses(&reloaded), ["192.0.2.1:80"]);

    dns.set("app.test", Zone::NxDomain);
    wait::until("the name's end to be reported", || {
        problem().is_some_and(|p| p.contains("NXDOMAIN"))
    });
    dns.set("app.test", Zone::Has(vec!["192.0.2.7"]));
    wait::until("the name to be back", || {
        addresses(&reloaded) == ["192.0.2.7:80"]
    });
    wait::until("the report to be good", || problem().is_none());
}

#[test]
fn a_name_that_never_resolves_is_reported_and_the_pool_is_empty() {
    let dns = NameServer::start();
    let upstream = Upstream::new(runtime(), dns.options());
    let pool = named_pool("web", &["nowhere.test"], &Endpoints::new(), None);
    upstream.apply(&[Arc::clone(&pool)]);
    runtime().block_on(upstream.names_known(wait::DEADLINE));
    assert_eq!(
        upstream.names(pool.plan())[0].problem.as_deref(),
        Some("no such name (NXDOMAIN)")
    );
    assert!(addresses(&pool).is_empty());
}

#[test]
fn the_hosts_file_comes_first_and_may_change() {
    let dns = NameServer::start();
    dns.set("app.test", Zone::Has(vec!["192.0.2.1"]));
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "192.0.2.200 app.test\n").unwrap();
    let upstream = Upstream::new(
        runtime(),
        ResolverOptions {
            hosts: hosts.clone(),
            ..dns.options()
        },
    );
    let pool = named_pool("web", &["app.test"], &Endpoints::new(), None);
    upstream.apply(&[Arc::clone(&pool)]);
    wait::until("the file's address", || {
        addresses(&pool) == ["192.0.2.200:80"]
    });
    std::fs::write(&hosts, "").unwrap();
    wait::until("the zone's address", || {
        addresses(&pool) == ["192.0.2.1:80"]
    });
}

#[test]
fn no_name_server_at_all_is_a_reported_failure() {
    let options = ResolverOptions {
        resolv_conf: "/nonexistent/resolv.conf".into(),
        ..Default::default()
    };
    let upstream = Upstream::new(runtime(), options);
    let pool = named_pool("web", &["app.invalid"], &Endpoints::new(), None);
    upstream.apply(&[Arc::clone(&pool)]);
    runtime().block_on(upstream.names_known(Duration::from_secs(20)));
    let problem = upstream.names(pool.plan())[0].problem.clone().unwrap();
    assert!(problem.contains("/nonexistent/resolv.conf"), "{problem}");
}

#[test]
fn addresses_are_checked_as_the_zone_brings_them() {
    let dns = NameServer::start();
    let peer = fathom_testbed::tcp::Peer::sink();
    dns.set("app.test", Zone::Has(vec!["127.0.0.1"]));
    let upstream = Upstream::new(runtime(), dns.options());
    let address = ServerAddress::Name {
        host: "app.test".into(),
        port: peer.address().port(),
    };
    let plan = PoolPlan {
        servers: vec![server("app", address)],
        health: Some(common::health(fathom_core::plan::ProbePlan::Tcp)),
        ..pool_plan("web")
    };
    let pool = Pool::new(Arc::new(plan), &Endpoints::new(), None);
    upstream.apply(&[Arc::clone(&pool)]);
    wait::until("the server to be found and up", || {
        let members = pool.members();
        members.first().is_some_and(|m| {
            *m.endpoint().address() == EndpointAddress::Ip(peer.address())
                && m.endpoint().health() == fathom_core::Health::Up
        })
    });
}
