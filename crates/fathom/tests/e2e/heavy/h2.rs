//! HTTP/2 by curl and h2load: over TLS, in cleartext by prior knowledge, and on to servers.

use std::process::{Command, Stdio};

use fathom_testbed::certs::Authority;
use fathom_testbed::fathom::{Builder, Fathom};
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::need;

use super::drivers;
use crate::support::{Ask, BINARY, Io, run};

const CONFIG: &str = r#"
    [listeners.web]
    bind = "127.0.0.1:{web}"
    depth = "http"
    pool = "app"
    [listeners.web.tls]
    certificates = [{ cert = "a.pem", key = "a.key" }]
    [listeners.clear]
    bind = "127.0.0.1:{clear}"
    depth = "http"
    protocols = ["http1", "h2c"]
    pool = "app"
    [pools.app]
    servers = ["<a>"]
"#;

/// A listener with TLS and one with h2c before `server`.
fn start(io: Io, server: &Server) -> Fathom {
    let builder = Builder::new(BINARY);
    let at = builder.directory();
    let authority = Authority::new();
    std::fs::write(at.join("authority.pem"), authority.pem()).unwrap();
    let _ = authority
        .issue(&["a.test", "localhost", "127.0.0.1"])
        .write(at, "a");
    io.start_by(builder, CONFIG, &[("a", &server.address())])
}

fn curl(fathom: &Fathom, more: &[&str], url: &str) -> String {
    let web = format!("a.test:{}:127.0.0.1", fathom.port("web").number());
    let mut command = Command::new("curl");
    command
        .args([
            "-sS",
            "--max-time",
            "100",
            "--noproxy",
            "*",
            "--resolve",
            &web,
        ])
        .args(["--cacert", "authority.pem"])
        .args(more)
        .arg(url)
        .current_dir(fathom.directory());
    run(&mut command).ok()
}

#[test]
fn http2_of_curl() {
    if need::program("curl").is_none() {
        return;
    }
    let server = Server::start(|seen| match seen.path.as_str() {
        "/big" => Reply::sized(3_000_000),
        "/trailers" => Reply::chunked(&["abc"], &[("X-Sum", "3")]),
        _ => Reply::echo(seen),
    });
    for io in drivers() {
        let fathom = start(io, &server);
        let secure = format!("https://a.test:{}", fathom.port("web").number());
        let clear = format!("http://{}", fathom.address("clear"));
        let prior = ["--http2-prior-knowledge"];
        for (how, base) in [(&["--http2"], &secure), (&prior, &clear)] {
            let get = |more: &[&str], path: &str| {
                curl(
                    &fathom,
                    &[&how[..], more].concat(),
                    &format!("{base}{path}"),
                )
            };
            let version = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
            assert_eq!(get(&version, "/x"), "2 200");
            let seen = get(&["-H", "Cookie: a=1", "-H", "X-Own: y"], "/path?q=1");
            assert!(seen.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{seen}");
            for line in ["x-own: y\r\n", "cookie: a=1\r\n", "host: "] {
                assert!(seen.to_ascii_lowercase().contains(line), "{line}: {seen}");
            }
            let size = ["-o", "/dev/null", "-w", "%{size_download}"];
            assert_eq!(get(&size, "/big"), "3000000");
            assert_eq!(get(&[], "/trailers"), "abc");
            let upload = fathom.directory().join("upload");
            std::fs::write(&upload, vec![b'u'; 2_000_000]).unwrap();
            let body = ["--data-binary", "@upload"];
            let echoed = get(&body, "/post");
            assert_eq!(echoed.matches('u').count() / 1_000_000, 2);
            // Streams of one connection, at a time: in cleartext curl 7.88 cannot even use a connection twice, with any
            // server (h2load can: see below).
            if how[0] == "--http2" {
                let many = ["-Z", "-o", "/dev/null", "-w", "%{http_code}\n"];
                let codes = get(&many, "/many?[1-30]");
                assert_eq!(codes.matches("200").count(), 30, "{codes}");
            }
        }
        // HTTP/1.1 is still spoken to who wants that.
        let version = ["--http1.1", "-o", "/dev/null", "-w", "%{http_version}"];
        for base in [&secure, &clear] {
            assert_eq!(curl(&fathom, &version, &format!("{base}/x")), "1.1");
        }
        fathom.stop();
    }
}

#[test]
fn http2_to_servers() {
    if need::program("curl").is_none() {
        return;
    }
    let server = Server::echo();
    for io in drivers() {
        let inner = start(io, &server);
        let fathom = io.start(
            r#"
            [listeners.web]
            bind = "127.0.0.1:{web}"
            depth = "http"
            pool = "inner"
            [listeners.secure]
            bind = "127.0.0.1:{secure}"
            depth = "http"
            pool = "inner-tls"
            [pools.inner]
            servers = ["<clear>"]
            protocol = "http2"
            [pools.inner-tls]
            servers = ["<tls>"]
            protocol = "http2"
            tls = { server_name = "a.test", ca = "<ca>" }
            "#,
            &[
                ("clear", &inner.address("clear")),
                ("tls", &inner.address("web")),
                ("ca", &inner.directory().join("authority.pem").display()),
            ],
        );
        for listener in ["web", "secure"] {
            let url = format!("http://{}/x?[1-20]", fathom.address(listener));
            let many = ["-Z", "-o", "/dev/null", "-w", "%{http_code}\n"];
            let arguments = [&["-sS", "--max-time", "100", "--noproxy", "*"], &many[..]].concat();
            let codes = run(Command::new("curl").args(arguments).arg(url)).ok();
            assert_eq!(codes.matches("200").count(), 20, "{codes}");
        }
        // Twenty clients' requests, on far fewer connections.
        let connections = inner.metric("fathom_listener_connections_total", &[]);
        assert!(connections < 40.0, "{connections}");
        fathom.stop();
        inner.stop();
    }
}

#[test]
fn h2load_over_reloads() {
    let Some(h2load) = need::program("h2load") else {
        return;
    };
    let server = Server::named("x");
    for io in drivers() {
        let mut fathom = start(io, &server);
        for listener in ["https web", "http clear"] {
            let (scheme, name) = listener.split_once(' ').unwrap();
            let mut load = Command::new(&h2load)
                .args(["-n", "1500", "-c", "4", "-m", "8"])
                .arg(format!("{scheme}://{}/", fathom.address(name)))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut turn = 0;
            while turn < 3 || (turn < 20 && matches!(load.try_wait(), Ok(None))) {
                turn += 1;
                let more = format!(
                    "{}[[listeners.clear.routes]]\nmatch = {{ path = \"/turn{turn}\" }}\npool = \"app\"\n",
                    io.config(CONFIG, &[("a", &server.address())])
                );
                fathom.write_config(&more);
                let (status, body) = fathom.reload();
                assert_eq!(status, 200, "{body}");
            }
            let output = load.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                said.contains("1500 succeeded, 0 failed, 0 errored, 0 timeout"),
                "{listener}: {said}"
            );
        }
        fathom.stop();
    }
}
