//! TLS as curl and OpenSSL see it: names, client certificates, swaps, redirects, passthrough, resumption.

use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use fathom_testbed::certs::Authority;
use fathom_testbed::client::{self, Connection};
use fathom_testbed::fathom::{Builder, Fathom};
use fathom_testbed::http1::Server;
use fathom_testbed::{message, need, wait};

use crate::support::{Ask, BINARY, Io, Said, run};

on_both_drivers!(
    certificates_are_chosen_by_name,
    client_certificates,
    certificates_are_swapped_under_open_connections,
    cleartext_is_redirected,
    some_names_pass_through_undecrypted,
    servers_are_reached_over_tls,
    sessions_are_resumed,
    what_is_not_tls_hurts_nobody,
);

/// A request by curl to that listener, under that name, trusting `authority.pem` in the process's directory.
fn curl(fathom: &Fathom, listener: &str, host: &str, more: &[&str]) -> Option<Said> {
    let port = fathom.port(listener).number();
    let resolve = format!("{host}:{port}:127.0.0.1");
    let authority = fathom.directory().join("authority.pem");
    let mut command = Command::new(need::program("curl")?);
    command
        .args(["-sS", "--http1.1", "--max-time", "60", "--noproxy", "*"])
        .args(["--resolve", &resolve, "--cacert"])
        .arg(authority)
        .args(more)
        .arg(format!("https://{host}:{port}/"));
    Some(run(command.current_dir(fathom.directory())))
}

fn certificates_are_chosen_by_name(io: Io) {
    let server = Server::named("a");
    let authority = Authority::new();
    let builder = Builder::new(BINARY);
    let at = builder.directory();
    std::fs::write(at.join("authority.pem"), authority.pem()).unwrap();
    let _ = authority.issue(&["default.test"]).write(at, "default");
    let _ = authority.issue(&["a.test"]).write(at, "a");
    let _ = authority.issue(&["*.b.test"]).write(at, "wild");
    let fathom = io.start_by(
        builder,
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [listeners.web.tls]
        certificates = [
          { cert = "default.pem", key = "default.key" },
          { cert = "a.pem", key = "a.key" },
          { cert = "wild.pem", key = "wild.key" },
        ]
        [pools.app]
        servers = ["<a>"]
        "#,
        &[("a", &server.address())],
    );
    for host in ["default.test", "a.test", "x.b.test"] {
        let Some(said) = curl(&fathom, "web", host, &[]) else {
            return;
        };
        assert_eq!(said.ok(), "a");
    }
    // A name of nobody gets the first certificate, which does not bear it.
    let said = curl(&fathom, "web", "other.test", &[]).unwrap();
    assert_eq!(said.code, Some(60), "{said:?}");
    assert_eq!(
        curl(&fathom, "web", "other.test", &["-k"]).unwrap().ok(),
        "a"
    );
    let handshakes = fathom.metric("fathom_listener_tls_handshakes_total", &[]);
    assert!(handshakes >= 4.0, "{handshakes}");
    assert!(fathom.metric("fathom_tls_certificate_not_after_timestamp_seconds", &[]) > 1.7e9);
    fathom.stop();
}

fn client_certificates(io: Io) {
    let server = Server::echo();
    let (authority, clients) = (Authority::new(), Authority::new());
    let builder = Builder::new(BINARY);
    let at = builder.directory();
    std::fs::write(at.join("authority.pem"), authority.pem()).unwrap();
    std::fs::write(at.join("clients.pem"), clients.pem()).unwrap();
    let _ = authority.issue(&["a.test"]).write(at, "a");
    let _ = clients.issue(&["alice"]).write(at, "alice");
    let _ = authority.issue(&["mallory"]).write(at, "mallory");
    let fathom = io.start_by(
        builder,
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [listeners.web.tls]
        certificates = [{ cert = "a.pem", key = "a.key" }]
        client_ca = "clients.pem"
        client_auth = "required"
        client_identity_header = "X-Client"
        [listeners.maybe]
        bind = "127.0.0.1:{maybe}"
        depth = "http"
        pool = "app"
        [listeners.maybe.tls]
        certificates = [{ cert = "a.pem", key = "a.key" }]
        client_ca = "clients.pem"
        client_auth = "optional"
        client_identity_header = "X-Client"
        [pools.app]
        servers = ["<a>"]
        "#,
        &[("a", &server.address())],
    );
    let alice = ["--cert", "alice.pem", "--key", "alice.key"];
    let mallory = ["--cert", "mallory.pem", "--key", "mallory.key"];
    let lie = ["-H", "X-Client: root"];
    let Some(without) = curl(&fathom, "web", "a.test", &[]) else {
        return;
    };
    assert_ne!(without.code, Some(0), "{without:?}");
    let with_anothers = curl(&fathom, "web", "a.test", &mallory).unwrap();
    assert_ne!(with_anothers.code, Some(0), "{with_anothers:?}");
    let seen = curl(&fathom, "web", "a.test", &[&alice[..], &lie].concat())
        .unwrap()
        .ok();
    let client = seen
        .lines()
        .filter(|l| l.to_ascii_lowercase().starts_with("x-client:"))
        .collect::<Vec<_>>();
    assert_eq!(client.len(), 1, "{seen}");
    assert!(client[0].contains("alice"), "{seen}");
    // Where it is optional, who shows none is nobody, whatever the request claims.
    let seen = curl(&fathom, "maybe", "a.test", &lie).unwrap().ok();
    assert!(!seen.to_ascii_lowercase().contains("x-client"), "{seen}");
    wait::until("the refusals to be counted", || {
        fathom.metric("fathom_listener_failures_total", &[("listener", "web")]) >= 2.0
    });
    fathom.stop();
}

/// A connection through `openssl s_client`, kept open.
struct Held {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Held {
    fn open(openssl: &Path, fathom: &Fathom) -> Self {
        let mut process = Command::new(openssl)
            .args(["s_client", "-quiet", "-servername", "a.test", "-connect"])
            .arg(fathom.address("web").to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    fn get(&mut self) -> String {
        self.input
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .unwrap();
        let head = message::read_head(&mut self.output)
            .unwrap()
            .expect("the connection is still there");
        let body = message::read_body(&mut self.output, head.framing(true)).unwrap();
        String::from_utf8(body.bytes).unwrap()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `openssl s_client` tells of a new connection.
fn handshake(openssl: &Path, fathom: &Fathom, more: &[&str]) -> Said {
    let mut command = Command::new(openssl);
    command
        .args(["s_client", "-servername", "a.test", "-connect"])
        .arg(fathom.address("web").to_string())
        .args(more)
        .current_dir(fathom.directory());
    run(&mut command)
}

/// The first name on the certificate that new connections are shown.
fn shown(openssl: &Path, fathom: &Fathom) -> String {
    let said = handshake(openssl, fathom, &[]);
    let subject = said.stdout.lines().find(|l| l.starts_with("subject="));
    let subject = subject.unwrap_or_else(|| panic!("{said:?}"));
    subject.rsplit(['=', ' ']).next().unwrap().to_owned()
}

/// One listener with `a.pem`, for `a.test`.
fn secure(io: Io, more: &str, server: &Server) -> Fathom {
    let authority = Authority::new();
    let builder = Builder::new(BINARY);
    let at = builder.directory();
    std::fs::write(at.join("authority.pem"), authority.pem()).unwrap();
    let _ = authority.issue(&["a.test"]).write(at, "a");
    io.start_by(
        builder,
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [listeners.web.tls]
        certificates = [{ cert = "a.pem", key = "a.key" }]
        <more>
        [pools.app]
        servers = ["<a>"]
        "#,
        &[("more", &more), ("a", &server.address())],
    )
}

fn certificates_are_swapped_under_open_connections(io: Io) {
    let Some(openssl) = need::program("openssl") else {
        return;
    };
    let server = Server::named("body");
    let fathom = secure(io, "", &server);
    let mut held = Held::open(&openssl, &fathom);
    assert_eq!(held.get(), "body");
    assert_eq!(shown(&openssl, &fathom), "a.test");

    let authority = Authority::new();
    let second = authority.issue(&["second.test", "a.test"]);
    let _ = second.write(fathom.directory(), "a");
    wait::until("the new certificate", || {
        shown(&openssl, &fathom) == "second.test"
    });
    assert_eq!(held.get(), "body", "the old connection goes on");
    assert_eq!(fathom.status()["reloads"]["ok"], 0);

    // A pair that does not fit is reported, and the one before it stays.
    let third = authority.issue(&["third.test", "a.test"]);
    let key = fathom.directory().join("a.key");
    std::fs::write(&key, &third.key).unwrap();
    wait::until("the misfit to be reported", || {
        fathom.metric("fathom_tls_certificate_failing", &[]) == 1.0
    });
    assert_eq!(shown(&openssl, &fathom), "second.test");
    assert!(fathom.status()["certificates"][0]["error"].is_string());
    // So does it when the file vanishes.
    std::fs::remove_file(&key).unwrap();
    assert_eq!(shown(&openssl, &fathom), "second.test");
    let _ = third.write(fathom.directory(), "a");
    wait::until("the pair that fits", || {
        shown(&openssl, &fathom) == "third.test"
    });
    wait::until("nothing to be wrong any more", || {
        fathom.metric("fathom_tls_certificate_failing", &[]) == 0.0
    });
    assert_eq!(held.get(), "body");
    drop(held);
    fathom.stop();
}

fn cleartext_is_redirected(io: Io) {
    let server = Server::named("secure");
    let authority = Authority::new();
    let builder = Builder::new(BINARY);
    let at = builder.directory();
    std::fs::write(at.join("authority.pem"), authority.pem()).unwrap();
    let _ = authority.issue(&["a.test"]).write(at, "a");
    let fathom = io.start_by(
        builder,
        r#"
        [listeners.web]
        bind = ["127.0.0.1:{clear}", "127.0.0.1:{web}"]
        depth = "http"
        pool = "app"
        [listeners.web.tls]
        bind = "127.0.0.1:{web}"
        certificates = [{ cert = "a.pem", key = "a.key" }]
        redirect_http = true
        [pools.app]
        servers = ["<a>"]
        "#,
        &[("a", &server.address())],
    );
    let response = client::get(fathom.address("clear"), "/path?query=1");
    let location = format!(
        "https://example.com:{}/path?query=1",
        fathom.port("web").number()
    );
    assert_eq!(response.status, 308);
    assert_eq!(response.header("location"), Some(&*location));
    if let Some(said) = curl(&fathom, "web", "a.test", &[]) {
        assert_eq!(said.ok(), "secure");
    }
    fathom.stop();
}

/// A TLS server for `through.test` under an authority of its own: another Fathom.
fn inner(io: Io, authority: &Authority) -> Fathom {
    let builder = Builder::new(BINARY);
    let _ = authority
        .issue(&["through.test"])
        .write(builder.directory(), "inner");
    io.start_by(
        builder,
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        routes = [{ respond = { status = 200, body = "inner" } }]
        [listeners.web.tls]
        certificates = [{ cert = "inner.pem", key = "inner.key" }]
        "#,
        &[],
    )
}

fn some_names_pass_through_undecrypted(io: Io) {
    let (authority, others) = (Authority::new(), Authority::new());
    let inner = inner(io, &others);
    let server = Server::named("terminated");
    let builder = Builder::new(BINARY);
    let at = builder.directory();
    std::fs::write(at.join("authority.pem"), authority.pem()).unwrap();
    std::fs::write(at.join("others.pem"), others.pem()).unwrap();
    let _ = authority.issue(&["a.test"]).write(at, "a");
    let fathom = io.start_by(
        builder,
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [listeners.web.tls]
        certificates = [{ cert = "a.pem", key = "a.key" }]
        [[listeners.web.routes]]
        match = { sni = "through.test" }
        passthrough = true
        pool = "inner"
        [pools.app]
        servers = ["<a>"]
        [pools.inner]
        servers = ["<inner>"]
        "#,
        &[("a", &server.address()), ("inner", &inner.address("web"))],
    );
    let Some(said) = curl(&fathom, "web", "a.test", &[]) else {
        return;
    };
    assert_eq!(said.ok(), "terminated");
    // Its certificate is the inner server's: nothing was decrypted on the way.
    let through = curl(&fathom, "web", "through.test", &["--cacert", "others.pem"]).unwrap();
    assert_eq!(through.ok(), "inner");
    fathom.stop();
    inner.stop();
}

fn servers_are_reached_over_tls(io: Io) {
    let (authority, wrong) = (Authority::new(), Authority::new());
    let inner = inner(io, &authority);
    let builder = Builder::new(BINARY);
    std::fs::write(builder.directory().join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(builder.directory().join("wrong.pem"), wrong.pem()).unwrap();
    let fathom = io.start_by(
        builder,
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        routes = [
          { match = { path = "/right" }, pool = "right" },
          { match = { path = "/wrong-ca" }, pool = "wrong-ca" },
          { match = { path = "/wrong-name" }, pool = "wrong-name" },
          { match = { path = "/unverified" }, pool = "unverified" },
        ]
        [pools.right]
        servers = ["<inner>"]
        tls = { server_name = "through.test", ca = "ca.pem" }
        [pools.wrong-ca]
        servers = ["<inner>"]
        tls = { server_name = "through.test", ca = "wrong.pem" }
        [pools.wrong-name]
        servers = ["<inner>"]
        tls = { server_name = "other.test", ca = "ca.pem" }
        [pools.unverified]
        servers = ["<inner>"]
        tls = { server_name = "through.test", verify = false }
        "#,
        &[("inner", &inner.address("web"))],
    );
    let get = |path| client::get(fathom.address("web"), path);
    assert_eq!(get("/right").text(), "inner");
    assert_eq!(get("/unverified").text(), "inner");
    for path in ["/wrong-ca", "/wrong-name"] {
        let response = get(path);
        assert_eq!(
            (response.status, response.header("fathom-reason")),
            (502, Some("server-tls")),
            "{path}: {response:?}"
        );
    }
    fathom.stop();
    inner.stop();
}

fn sessions_are_resumed(io: Io) {
    let Some(openssl) = need::program("openssl") else {
        return;
    };
    let server = Server::named("body");
    let fathom = secure(io, "", &server);
    for version in ["-tls1_3", "-tls1_2"] {
        let session = fathom.directory().join("session");
        let get = |flag: &str| {
            let mut process = Command::new(&openssl)
                .args(["s_client", "-ign_eof", "-servername", "a.test", version])
                .args([flag, session.to_str().unwrap(), "-connect"])
                .arg(fathom.address("web").to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut input = process.stdin.take().unwrap();
            input
                .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
                .unwrap();
            let output = process.wait_with_output().unwrap();
            drop(input);
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let first = get("-sess_out");
        assert!(first.contains("New, TLSv1"), "{version}: {first}");
        let second = get("-sess_in");
        assert!(second.contains("Reused, TLSv1"), "{version}: {second}");
        assert!(second.contains("body"), "{version}: {second}");
    }
    assert!(fathom.metric("fathom_listener_tls_resumed_total", &[]) >= 2.0);
    fathom.stop();
}

fn what_is_not_tls_hurts_nobody(io: Io) {
    let Some(openssl) = need::program("openssl") else {
        return;
    };
    let server = Server::named("body");
    let fathom = secure(io, "min_version = \"1.3\"", &server);
    let mut held = Held::open(&openssl, &fathom);
    assert_eq!(held.get(), "body");
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff",
        &[0; 300],
    ] {
        let mut client = Connection::open(fathom.address("web"));
        client.send(garbage).unwrap();
        client.finish();
        // An alert or an answer in cleartext, then the end: nothing hangs, nothing reaches a server.
        let _ = client.rest();
    }
    // A version below what is allowed.
    let old = handshake(&openssl, &fathom, &["-tls1_2"]);
    assert_ne!(old.code, Some(0), "{old:?}");
    assert_eq!(handshake(&openssl, &fathom, &["-tls1_3"]).code, Some(0));
    assert_eq!(held.get(), "body");
    assert_eq!(server.count(), 2);
    wait::until("the failures to be counted", || {
        fathom.metric("fathom_listener_failures_total", &[("listener", "web")]) >= 5.0
    });
    drop(held);
    fathom.stop();
}

#[test]
fn a_bad_certificate_is_a_start_error() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let _ = authority.issue(&["a.test"]).write(directory.path(), "a");
    let _ = authority.issue(&["b.test"]).write(directory.path(), "b");
    let port = fathom_testbed::ports::Port::reserve();
    let check = |cert: &str, key: &str| {
        let text = format!(
            "[listeners.web]\nbind = \"{}\"\ndepth = \"http\"\nroutes = [{{ respond = {{ status = 200 }} }}]\n\
             [listeners.web.tls]\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n",
            port.v4()
        );
        std::fs::write(directory.path().join("fathom.toml"), text).unwrap();
        crate::support::fathom_in(directory.path(), &["run"])
    };
    for (cert, key, word) in [
        ("absent.pem", "a.key", "absent.pem"),
        ("a.pem", "b.key", "b.key"),
        ("a.key", "a.pem", "a."),
    ] {
        let said = check(cert, key);
        assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
        assert!(said.stderr.contains(word), "{said:?}");
    }
}
