//! Every example of the repository, and the example of the user's contract, loads.

use std::path::PathBuf;
use std::time::Duration;

use fathom_config::{Options, load_str, load_with};
use fathom_core::plan::*;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn example(name: &str) -> Plan {
    match load_with(examples().join(name), Options { check_files: false }) {
        Ok(loaded) => loaded.plan,
        Err(errors) => panic!("{name}:\n{errors}"),
    }
}

#[test]
fn all_examples_check() {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            example(path.file_name().unwrap().to_str().unwrap());
            seen += 1;
        }
    }
    assert!(seen >= 7);
}

#[test]
fn minimal_means_what_it_says() {
    let plan = example("minimal.toml");
    let [listener] = &plan.listeners[..] else {
        panic!()
    };
    assert_eq!(listener.binds[0].address, BindAddress::Any(8080));
    let DepthPlan::Http(http) = &listener.depth else {
        panic!()
    };
    let [route] = &http.routes[..] else { panic!() };
    assert_eq!(&*route.name, "web/1");
    assert_eq!(route.matches, MatchPlan::default());
    assert_eq!(
        route.action,
        ActionPlan::Forward(RouteTarget { pool: "app".into() })
    );
    assert_eq!(
        (route.connect_timeout, route.response_timeout),
        (Duration::from_secs(5), Duration::from_secs(60))
    );
    assert_eq!(route.origin.line, 6);
    assert!(http.forwarded.x_forwarded_for && !http.forwarded.x_real_ip);
    assert!(http.cleartext.http1 && !http.cleartext.h2c);
    assert_eq!(
        plan.pools[0].keepalive,
        KeepalivePlan {
            idle: 256,
            timeout: Duration::from_secs(60)
        }
    );
    assert_eq!(&*plan.pools[0].servers[1].name, "127.0.0.1:3001");
    assert_eq!(plan.runtime.shutdown_grace, Duration::from_secs(30));
    assert_eq!(plan.log.access, AccessTarget::Stdout);
    assert!(plan.admin.is_none());
}

#[test]
fn everything_means_what_it_says() {
    let plan = example("everything.toml");
    let web = &plan.listeners[0];
    assert_eq!(&*web.name, "web", "file order is kept");
    assert_eq!(
        web.binds.iter().map(|b| b.tls).collect::<Vec<_>>(),
        [false, true]
    );
    let tls = web.tls.as_ref().unwrap();
    assert!(tls.certificates[0].cert.ends_with("examples/example.pem"));
    assert_eq!(tls.min_version, TlsVersion::V1_3);
    assert!(tls.client_auth.as_ref().unwrap().required);
    let DepthPlan::Http(http) = &web.depth else {
        panic!()
    };
    assert_eq!(http.routes.len(), 7, "six routes and the listener's pool");
    assert_eq!(http.passthrough.len(), 1);
    let first = &http.routes[0];
    assert_eq!(&*first.name, "everything");
    assert_eq!(first.matches.headers[0].0, "user-agent");
    assert_eq!(first.matches.headers[1].1, ValuePattern::Present);
    assert_eq!(first.retry.on.len(), 5);
    assert_eq!(first.max_body, Some(1_000_000_000));
    let DepthPlan::Packet(edge) = &plan.listeners[3].depth else {
        panic!()
    };
    assert_eq!(
        edge.syn_cookies,
        Some(Rate {
            count: 10_000,
            per: Duration::from_secs(1)
        })
    );
    let health = plan.pools[0].health.as_ref().unwrap();
    assert_eq!(
        (health.port, health.fast_interval),
        (Some(8081), Duration::from_millis(500))
    );
    let ProbePlan::Http(probe) = &health.probe else {
        panic!()
    };
    assert_eq!(probe.expect_status, [(200, 299), (304, 304)]);
    assert_eq!(probe.expect_json.as_ref().unwrap().equals, "\"ok\"");
    let fast = plan.pool("postgres").unwrap().health.as_ref().unwrap();
    assert_eq!(
        fast.fast_interval,
        Duration::from_millis(100),
        "half the interval"
    );
    assert_eq!(
        plan.pool("by-user").unwrap().balance.hash_on,
        HashOn::Header("x-user".into())
    );
    assert_eq!(
        plan.pool("api").unwrap().servers[2].address,
        ServerAddress::Unix("/run/app.sock".into())
    );
}

/// Section 2 of the contract, less what is not built yet.
#[test]
fn the_contract_loads() {
    let text = include_str!("contract.toml");
    let loaded = load_str("contract.toml", text).unwrap_or_else(|e| panic!("{e}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.plan.listeners.len(), 5);
}
