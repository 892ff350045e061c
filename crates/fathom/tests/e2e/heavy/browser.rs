//! Chromium, headless, over HTTPS.

use std::process::Command;

use fathom_testbed::certs::Authority;
use fathom_testbed::fathom::Builder;
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::need;

use super::drivers;
use crate::support::{BINARY, run};

const PAGE: &str = r#"<!DOCTYPE html>
<title>A page</title>
<link rel="stylesheet" href="/style.css">
<p id="got">nothing yet</p>
<script src="/script.js"></script>
"#;

const SCRIPT: &str = r#"
const protocol = performance.getEntriesByType("navigation")[0].nextHopProtocol;
const ask = n => fetch("/data?" + n, { method: "POST", body: "x" }).then(r => r.text());
Promise.all([...Array(20).keys()].map(ask)).then(all => {
    document.getElementById("got").textContent = all.join("") + " over " + protocol;
});
"#;

#[test]
fn chromium_shows_a_page() {
    let Some(chromium) = need::program("chromium") else {
        return;
    };
    let server = Server::start(|seen| match seen.path.as_str() {
        "/" => Reply::ok(PAGE).header("Content-Type", "text/html"),
        "/script.js" => Reply::ok(SCRIPT).header("Content-Type", "text/javascript"),
        "/style.css" => Reply::ok("p { color: green }").header("Content-Type", "text/css"),
        path if path.starts_with("/data") => Reply::ok("."),
        _ => Reply::status(404, ""),
    });
    let authority = Authority::new();
    for io in drivers() {
        let builder = Builder::new(BINARY);
        let _ = authority
            .issue(&["localhost"])
            .write(builder.directory(), "a");
        let fathom = io.start_by(
            builder,
            r#"
            [listeners.web]
            bind = "127.0.0.1:{web}"
            depth = "http"
            pool = "app"
            [listeners.web.tls]
            certificates = [{ cert = "a.pem", key = "a.key" }]
            [pools.app]
            servers = ["<a>"]
            "#,
            &[("a", &server.address())],
        );
        let profile = tempfile::tempdir().unwrap();
        let show = || {
            let mut command = Command::new(&chromium);
            command
                .args(["--headless", "--no-sandbox", "--disable-gpu"])
                .args([
                    "--disable-dev-shm-usage",
                    "--no-first-run",
                    "--no-proxy-server",
                ])
                .args(["--ignore-certificate-errors", "--dump-dom"])
                // Of the page's time, which stands still while it waits for the network.
                .arg("--virtual-time-budget=20000")
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg(format!("https://{}/", fathom.address("web")))
                .env("HOME", profile.path())
                .current_dir(profile.path());
            run(&mut command)
        };
        let expected = format!("{} over h2", ".".repeat(20));
        // On a busy machine a browser sometimes gives up before it has begun.
        let shown = (0..3)
            .map(|_| show())
            .find(|s| s.stdout.contains(&expected));
        assert!(shown.is_some(), "{:?}", show());
        fathom.stop();
    }
}
