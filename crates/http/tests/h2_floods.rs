//! Clients that send what costs them nothing: each flood is cut, counted, and takes no memory to speak of.
#![allow(clippy::unwrap_used)]

#[path = "support/h2.rs"]
mod h2_support;
mod support;

use fathom_core::Reason;
use fathom_core::plan::CleartextProtocols;
use fathom_io::Driver;
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::wait::until;
use h2_support::*;
use support::{Proxy, Setup};

on_both_drivers!(
    pings,
    settings,
    empty_data,
    continuations,
    rapid_resets,
    priorities,
    window_updates,
    unknown_frames,
    resets_by_errors,
    more_streams_than_allowed_are_refused,
);

/// What all of a flood may make the process grow by.
const CEILING: usize = 64 << 20;
/// Far more than any flood is let through.
const MOST: usize = 200_000;

fn start(driver: Driver, server: &Server) -> Proxy {
    Setup::new(&[server.address()])
        .http(|http| {
            http.cleartext = CleartextProtocols {
                http1: false,
                h2c: true,
            };
        })
        .start(driver)
}

/// Resident memory of this process, which the proxy is a thread of.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Sends `next(i)` until the proxy cuts the connection.
fn flood(driver: Driver, begin: &[u8], next: impl Fn(u32) -> Vec<u8>) {
    let server = Server::start(|_| Reply::ok("yes"));
    let proxy = start(driver, &server);
    let mut raw = Raw::connect(proxy.address);
    // What it answers is read, or a client that only writes would stop by itself.
    let mut answers = Raw(raw.0.try_clone().unwrap());
    let reader = std::thread::spawn(move || {
        let mut goaway = None;
        while let Some(frame) = answers.read() {
            if frame.kind == 7 {
                goaway = Some(goaway_code(&frame));
            }
        }
        goaway
    });
    let before = resident();
    raw.send(begin);
    let mut sent = 0;
    while sent < MOST && raw.send(&next(sent as u32)) {
        sent += 1;
    }
    assert!(sent < MOST, "not cut");
    // What was said last may be lost where the kernel threw it away with what was not read.
    let goaway = reader.join().unwrap();
    assert!(
        matches!(goaway, None | Some(ENHANCE_YOUR_CALM)),
        "{goaway:?}"
    );
    let grown = resident().saturating_sub(before);
    assert!(grown < CEILING, "{grown} bytes");
    until("the flood is counted", || {
        proxy.listener.sum(|c| c.reasons.of(Reason::H2Flood)) == 1
    });
    // Others are served.
    run(async {
        let got = connect(proxy.address).await.ask(get("/")).await;
        assert_eq!(got.text(), "yes");
    });
}

fn pings(driver: Driver) {
    flood(driver, &[], |_| frame(6, 0, 0, &[0; 8]).repeat(10));
}

fn settings(driver: Driver) {
    flood(driver, &[], |_| frame(4, 0, 0, &[]).repeat(10));
}

fn empty_data(driver: Driver) {
    let open = frame(1, 4, 1, &head_block(&[]));
    flood(driver, &open, |_| frame(0, 0, 1, &[]).repeat(10));
}

fn continuations(driver: Driver) {
    let open = frame(1, 0, 1, &head_block(&[]));
    flood(driver, &open, |_| frame(9, 0, 1, &[]).repeat(10));
}

fn rapid_resets(driver: Driver) {
    flood(driver, &[], |i| {
        let head = frame(1, 5, 1 + 2 * i, &head_block(&[]));
        [head, frame(3, 0, 1 + 2 * i, &8_u32.to_be_bytes())].concat()
    });
}

fn priorities(driver: Driver) {
    flood(driver, &[], |_| frame(2, 0, 1, &[0, 0, 0, 3, 0]).repeat(10));
}

fn window_updates(driver: Driver) {
    // Within what a window may be: one byte each.
    flood(driver, &[], |_| frame(8, 0, 0, &[0, 0, 0, 1]).repeat(10));
}

fn unknown_frames(driver: Driver) {
    flood(driver, &[], |_| frame(0xfa, 0, 0, &[]).repeat(10));
}

fn resets_by_errors(driver: Driver) {
    // Streams that the proxy must reset itself: a window that overflows (CVE-2025-8671).
    flood(driver, &[], |i| {
        let head = frame(1, 4, 1 + 2 * i, &head_block(&[]));
        [head, frame(8, 0, 1 + 2 * i, &[0x7f, 0xff, 0xff, 0xff])].concat()
    });
}

fn more_streams_than_allowed_are_refused(driver: Driver) {
    let gate = fathom_testbed::wait::Gate::new();
    let server = Server::start({
        let gate = gate.clone();
        move |_| Reply::new().wait(&gate)
    });
    let proxy = start(driver, &server);
    let mut raw = Raw::connect(proxy.address);
    for i in 0..200 {
        raw.send(&frame(1, 5, 1 + 2 * i, &head_block(&[])));
    }
    let refused = raw.until(3).expect("a RST_STREAM");
    assert_eq!(refused.payload, 7_u32.to_be_bytes(), "REFUSED_STREAM");
    assert!(refused.stream > 2 * 100);
    gate.open();
}
