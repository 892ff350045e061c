//! What can be typed: messages, exit codes, and commands that act on the running process.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use fathom_testbed::fathom::Builder;
use fathom_testbed::http1::Server;
use fathom_testbed::tcp::Refusing;
use fathom_testbed::{client, need, wait};
use tempfile::TempDir;

use crate::support::{Ask, BINARY, Io, fathom_in, filled, run};

const VALID: &str = r#"[listeners.web]
bind = "127.0.0.1:<port>"
depth = "http"

[[listeners.web.routes]]
match = { path = "/api/*" }
pool = "api"

[pools.api]
servers = ["127.0.0.1:3000"]
"#;

fn directory_with(name: &str, text: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(name), text).unwrap();
    directory
}

fn valid(port: u16) -> String {
    filled(VALID, &[("port", &port)])
}

#[test]
fn check_says_what_is_valid() {
    let directory = directory_with("fathom.toml", &valid(8080));
    let said = fathom_in(directory.path(), &["check"]).ok();
    assert!(said.contains("valid"), "{said}");
    let said = fathom_in(directory.path(), &["check", "fathom.toml", "--json"]).ok();
    assert_eq!(said.trim(), "[]");
}

#[test]
fn check_shows_every_mistake_at_its_place() {
    let text = "[listeners.web]\nbind = \":80\"\ndepth = \"http\"\npol = \"api\"\n\n\
                [pools.api]\nservers = [\"127.0.0.1:3000\"]\nbalance = \"round-robbin\"\n";
    let directory = directory_with("bad.toml", text);
    let said = fathom_in(directory.path(), &["check", "bad.toml"]);
    assert_eq!(said.stdout, "");
    let stderr = said.failed(1);
    for expected in [
        "bad.toml:4:1",
        "pol = \"api\"",
        "^^^",
        "did you mean `pool`?",
        "bad.toml:8:11",
        "did you mean `round-robin`?",
    ] {
        assert!(stderr.contains(expected), "{expected}\n{stderr}");
    }

    let said = fathom_in(directory.path(), &["check", "bad.toml", "--json"]);
    assert_eq!(said.code, Some(1));
    let found: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let lines: Vec<u64> = found
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["line"].as_u64())
        .collect();
    assert!(lines.contains(&4) && lines.contains(&8), "{found:#}");
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (section, key) in [
        ("[pools.api]\nsticky = { cookie = \"FATHOM\" }", "sticky"),
        ("[waf]", "waf"),
        ("[cache]", "cache"),
    ] {
        let text = if section.starts_with("[pools.api]") {
            valid(8080).replace("[pools.api]", section)
        } else {
            format!("{}\n{section}\n", valid(8080))
        };
        let directory = directory_with("fathom.toml", &text);
        let said = fathom_in(directory.path(), &["check"]);
        if said.code == Some(0) {
            continue; // by now it is built
        }
        let stderr = said.failed(1);
        let expected = format!("`{key}` is not built yet");
        assert!(stderr.contains(&expected), "{stderr}");
    }
}

#[test]
fn exit_codes_say_who_is_to_blame() {
    let directory = directory_with("fathom.toml", "[listeners.web]\nbind = 3\n");
    let at = directory.path();
    // The input: a bad file, no file, words that are none.
    fathom_in(at, &["run"]).failed(1);
    let stderr = fathom_in(at, &["run", "-c", "absent.toml"]).failed(1);
    assert!(stderr.contains("absent.toml"), "{stderr}");
    fathom_in(at, &["run", "--no-such-flag"]).failed(1);
    fathom_in(at, &["no-such-command"]).failed(1);
    fathom_in(at, &[]).failed(1);
    // The machine: somebody else has the port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    fs::write(at.join("taken.toml"), valid(port)).unwrap();
    let stderr = fathom_in(at, &["run", "-c", "taken.toml"]).failed(2);
    for expected in [
        "taken.toml:2",
        &format!("127.0.0.1:{port}"),
        "another process has the port",
    ] {
        assert!(stderr.contains(expected), "{expected}\n{stderr}");
    }
    // Nobody there.
    let nobody = Refusing::new();
    let address = nobody.address().to_string();
    for words in [
        &["status"][..],
        &["reload"],
        &["drain", "api/x"],
        &["weight", "api/x", "3"],
    ] {
        let words = [words, &["--admin", &address]].concat();
        let stderr = fathom_in(at, &words).failed(3);
        assert!(stderr.contains(&address), "{stderr}");
    }
    // A server that nobody knows how to name.
    fathom_in(at, &["drain", "no-slash", "--admin", &address]).failed(1);
}

#[test]
fn a_port_shared_with_another_fathom_is_refused() {
    // With SO_REUSEPORT the second would silently take half of the first's clients.
    let server = Server::named("first");
    let first = Io::Epoll.start(
        "[listeners.web]\nbind = \"127.0.0.1:{web}\"\ndepth = \"http\"\npool = \"a\"\n\
         [pools.a]\nservers = [\"<a>\"]",
        &[("a", &server.address())],
    );
    let directory = directory_with("fathom.toml", &valid(first.port("web").number()));
    let stderr = fathom_in(directory.path(), &["run"]).failed(2);
    assert!(stderr.contains("another process has the port"), "{stderr}");
    for _ in 0..5 {
        assert_eq!(client::get(first.address("web"), "/").text(), "first");
    }
    first.stop();
}

#[test]
fn version_help_schema_completions() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let version = fathom_in(at, &["version"]).ok();
    assert_eq!(version.split(' ').next(), Some("fathom"));
    assert_eq!(fathom_in(at, &["--version"]).ok(), version);
    assert!(fathom_in(at, &["--help"]).ok().contains("explain"));
    let schema: serde_json::Value = serde_json::from_str(&fathom_in(at, &["schema"]).ok()).unwrap();
    assert!(schema["properties"]["listeners"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let script = fathom_in(at, &["completions", shell]).ok();
        assert!(script.contains("explain"), "{shell}");
    }
    if let Some(bash) = need::program("bash") {
        let script = fathom_in(at, &["completions", "bash"]).ok();
        run(Command::new(bash).args(["-n", "-c", &script])).ok();
    }
}

#[test]
fn explains_offline() {
    let directory = directory_with("fathom.toml", &valid(8080));
    let at = directory.path();
    let url = "http://example.com:8080/api/x";
    let text = fathom_in(at, &["explain", "GET", url, "--from", "192.0.2.1"]).ok();
    for expected in ["fathom.toml:5", "/api/*", "api"] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let json = fathom_in(at, &["explain", "fathom.toml", "GET", url, "--json"]).ok();
    let _: serde_json::Value = serde_json::from_str(&json).unwrap();
    let text = fathom_in(at, &["explain", "GET", "http://example.com:8080/else"]).ok();
    assert!(text.contains("404"), "{text}");
    fathom_in(at, &["explain", "GET"]).failed(1);
    fathom_in(at, &["explain", "GET", url, "-H", "no colon"]).failed(1);
}

#[test]
fn acts_on_the_running_process() {
    let (a, b) = (Server::named("a"), Server::named("b"));
    let mut fathom = Io::Epoll.start(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [pools.app]
        servers = [{ address = "<a>", name = "a" }, { address = "<b>", name = "b" }]
        "#,
        &[("a", &a.address()), ("b", &b.address())],
    );
    let status = fathom.command(&["status"]).ok();
    for expected in ["web", "POOL app", "epoll"] {
        assert!(status.contains(expected), "{expected}\n{status}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&fathom.command(&["status", "--json"]).ok()).unwrap();
    assert_eq!(json["pools"][0]["servers"][1]["name"], "b");

    let mut client = client::Connection::open(fathom.address("web"));
    let mut answers =
        |n: usize| -> Vec<String> { (0..n).map(|_| client.get("/").unwrap().text()).collect() };
    assert!(
        fathom
            .command(&["drain", "app/a"])
            .ok()
            .contains("draining")
    );
    assert!(answers(6).iter().all(|name| name == "b"));
    fathom.command(&["undrain", "app/a"]).ok();
    assert!(answers(6).contains(&"a".to_owned()));
    fathom.command(&["weight", "app/b", "0"]).ok();
    assert!(answers(6).iter().all(|name| name == "a"));
    assert_eq!(fathom.server("app", "b")["weight"], 0);
    fathom.command(&["weight", "app/b", "3"]).ok();
    let share = answers(16).iter().filter(|name| *name == "b").count();
    assert_eq!(share, 12);

    // Names that nobody has.
    let stderr = fathom.command(&["drain", "app/nobody"]).failed(1);
    assert!(stderr.contains("nobody"), "{stderr}");
    let stderr = fathom.command(&["drain", "nowhere/a"]).failed(1);
    assert!(stderr.contains("nowhere"), "{stderr}");

    let live = fathom
        .command(&[
            "explain",
            "GET",
            "http://example.com/",
            "--live",
            "--listener",
            "web",
        ])
        .ok();
    assert!(live.contains("app"), "{live}");

    // What a reload would change, and the reload.
    let new = Io::Epoll.config(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        pool = "app"
        [listeners.more]
        bind = "127.0.0.1:{more}"
        depth = "stream"
        pool = "app"
        [pools.app]
        servers = [{ address = "<a>", name = "a" }]
        "#,
        &[("a", &a.address()), ("b", &b.address())],
    );
    fathom.write_config(&new);
    let plan = fathom.command(&["plan", "fathom.toml"]).ok();
    assert!(plan.contains("+ listener more"), "{plan}");
    assert!(plan.contains("pool app"), "{plan}");
    assert_eq!(fathom.status()["reloads"]["ok"], 0);
    let reloaded = fathom.command(&["reload"]).ok();
    assert!(reloaded.starts_with("reloaded\n"), "{reloaded}");
    assert!(reloaded.contains("+ listener more"), "{reloaded}");
    assert_eq!(client::get(fathom.address("more"), "/").text(), "a");
    let plan = fathom.command(&["plan", "fathom.toml"]).ok();
    assert!(plan.contains("nothing changes"), "{plan}");
    fathom.stop();
}

#[test]
fn a_token_is_asked_for() {
    let builder = Builder::new(BINARY).env("ADMIN_TOKEN", "open sesame");
    let fathom = Io::Epoll.start_by(
        builder,
        "[admin]\nbind = \"127.0.0.1:{admin}\"\ntoken = \"${ADMIN_TOKEN}\"",
        &[],
    );
    assert_eq!(fathom.admin("/api/v1/status").status, 401);
    assert_eq!(fathom.admin("/metrics").status, 401);
    let stderr = fathom.command(&["status"]).failed(1);
    assert!(stderr.contains("token"), "{stderr}");
    fathom.command(&["status", "--token", "wrong"]).failed(1);
    fathom.command(&["status", "--token", "open sesame"]).ok();
    // From the file, as the operator on the same machine would.
    let file = ["status", "-c", "fathom.toml"];
    let said = run(Command::new(BINARY)
        .args(file)
        .env("ADMIN_TOKEN", "open sesame")
        .current_dir(fathom.directory()));
    said.ok();
    fathom.stop();
}

#[test]
fn a_token_is_required_for_the_world() {
    let directory = directory_with("fathom.toml", "[admin]\nbind = \"0.0.0.0:9400\"\n");
    let stderr = fathom_in(directory.path(), &["check"]).failed(1);
    assert!(stderr.contains("token"), "{stderr}");
    assert!(stderr.contains("fathom.toml:2:8"), "{stderr}");
}

#[test]
fn the_admin_side_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let socket = at.join("admin.sock");
    let text = format!("[admin]\nbind = \"unix:{}\"\n", socket.display());
    fs::write(at.join("fathom.toml"), text).unwrap();
    let mut process = Command::new(BINARY)
        .arg("run")
        .current_dir(at)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = format!("unix:{}", socket.display());
    wait::until("the admin side", || ask(&socket).is_some());
    let status = fathom_in(at, &["status", "--admin", &address]).ok();
    assert!(status.contains("fathom"), "{status}");
    // Without a word, `fathom.toml` here says where.
    fathom_in(at, &["reload"]).ok();
    assert!(ask(&socket).unwrap().contains("fathom_reloads_total"));

    let id = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success());
    fathom_in(at, &["status"]).failed(3);
}

/// The metrics, by the unix socket.
fn ask(socket: &Path) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(wait::DEADLINE)).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
