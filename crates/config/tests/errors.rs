//! Everything that is wrong is said, at its place, in one go.
#![allow(clippy::unwrap_used)]

use fathom_config::{load, load_str_with};

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

const BASE: &str = "[pools.api]\nservers = [\"10.0.0.1:80\"]\n";

/// Each problem as `line:column code: message`.
fn problems(text: &str) -> Vec<String> {
    match load_str_with("t.toml", text, &env) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .problems()
            .map(|p| {
                let place = p
                    .line
                    .zip(p.column)
                    .map_or("?".into(), |(l, c)| format!("{l}:{c}"));
                format!("{place} {}: {}", p.code, p.message)
            })
            .collect(),
    }
}

fn warnings(text: &str) -> Vec<String> {
    load_str_with("t.toml", text, &env)
        .unwrap()
        .warnings
        .problems()
        .map(|p| p.message)
        .collect()
}

/// Text after a valid pool, and what is wrong with it; lines are counted from the first of the text.
fn one(text: &str) -> String {
    let found = problems(&format!("{text}\n{BASE}"));
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    found.into_iter().next().unwrap()
}

#[test]
fn all_in_one_go_and_sorted() {
    let text = r#"
[runtime]
wrokers = 3

[listeners.web]
bind = [":80", "10.0.0.1:80"]
depth = "http"
timeouts = { header = 10, idle = "5 s" }
[[listeners.web.routes]]
match = { path = "/a" }
pool = "aip"
[[listeners.web.routes]]
match = { path = "/a" }
pool = "api"
[[listeners.web.routes]]
match = { path = "/a" }
pool = "api"

[pools.api]
servers = ["a:80", "${NOPE}"]
sticky = { cookie = "X" }
"#;
    assert_eq!(
        problems(text),
        [
            "3:1 unknown-key: `runtime` has no key `wrokers`",
            "6:16 duplicate-bind: listener `web` binds this address twice",
            "8:23 type: `header` must be a duration, not an integer",
            "8:34 value: `idle`: `5 s` is not a duration: ` s` is none of us, ms, s, m, h, d",
            "11:8 unknown-pool: there is no pool `aip`",
            "15:1 unreachable-route: this route can never win: the one at t.toml:12 takes all it would match",
            "20:20 variable: the environment variable `NOPE` is not set",
            "21:1 not-built: `sticky` is not built yet",
        ]
    );
}

#[test]
fn shown_with_line_caret_and_suggestion() {
    let text = "[listeners.web]\nbind = \":80\"\ndepth = \"http\"\npool = \"aip\"\n[pools.api]\nservers = [\"a:1\"]\n";
    let errors = load_str_with("t.toml", text, &env).unwrap_err();
    let want = r#"error[unknown-pool]: there is no pool `aip`
 --> t.toml:4:8
  |
4 | pool = "aip"
  |        ^^^^^
  |
help: did you mean `api`?
  |
4 - pool = "aip"
4 + pool = "api"
  |

1 error
"#;
    assert_eq!(errors.render(false), want);
    assert!(errors.render(true).contains("\u{1b}["));
    let json = serde_json::json!([{
        "file": "t.toml", "line": 4, "column": 8, "code": "unknown-pool",
        "message": "there is no pool `aip`", "help": "did you mean `api`?",
    }]);
    assert_eq!(errors.to_json(), json);
}

#[test]
fn meaningless_combinations_are_refused() {
    for (text, want) in [
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"stream\"\npool = \"api\"\ntrusted_proxies = \"::/0\"",
            "5:1 no-effect: `trusted_proxies` has no effect at `stream` depth",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"stream\"\npool = \"api\"\ntls = { certificates = [{ cert = \"a\", key = \"b\" }] }",
            "5:1 no-effect: `tls` has no effect at `stream` depth",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"stream\"\nroutes = [{ match = { path = \"/x\" }, pool = \"api\" }]",
            "4:23 no-effect: `path` has no effect at `stream` depth: only `http` depth sees requests",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nprotocol = \"udp\"\npool = \"api\"",
            "4:1 no-effect: `protocol` has no effect at `http` depth",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\npool = \"api\"\npacket = { interface = \"e\" }",
            "5:1 no-effect: `packet` has no effect at `http` depth",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"stream\"\nprotocol = \"udp\"\npool = \"api\"\naccept_proxy_protocol = \"::/0\"",
            "6:1 no-effect: `accept_proxy_protocol` has no effect at `stream` depth over UDP",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nroutes = [{ match = { sni = \"a\" }, pool = \"api\" }]",
            "4:23 no-effect: `sni` has no effect without `passthrough`, since requests are routed by `host`",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nroutes = [{ match = { sni = \"a\" }, passthrough = true, pool = \"api\" }]",
            "4:36 no-effect: `passthrough` has no effect: the listener does not speak TLS",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nroutes = [{ respond = {}, retry = {} }]",
            "4:27 no-effect: `retry` has no effect on a route without a pool",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nroutes = [{ pool = \"api\", request_headers = { remove = [\"Host\"] } }]",
            "4:57 no-effect: `Host` can neither be removed nor added",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nroutes = [{ pool = \"api\", request_headers = { set = { Content-Length = \"1\" } } }]",
            "4:55 name: `Content-Length` belongs to one connection and is written by Fathom itself",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nroutes = [{ pool = \"api\", rewrite = { strip_prefix = \"/a\", to = \"/b\" } }]",
            "4:60 no-effect: `to` has no effect with `strip_prefix`",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"packet\"\npool = \"api\"",
            "3:1 missing: a packet listener needs `packet`",
        ),
        (
            "[listeners.a]\nbind = \":1\"\ndepth = \"http\"",
            "1:12 no-route: the listener has neither `pool` nor `routes`",
        ),
        (
            "[pools.x]\nservers = [\"a:1\"]\nhash_on = \"path\"",
            "3:1 no-effect: `hash_on` has no effect without `balance = \"hash\"`",
        ),
        (
            "[pools.x]\nservers = [\"a:1\"]\nqueue = { length = 5 }",
            "3:1 no-effect: `queue` has no effect: no server of the pool has `max_connections`",
        ),
        (
            "[pools.x]\nservers = [\"a:1\"]\nhealth = { tcp = true, expect_body = \"x\" }",
            "3:24 no-effect: `expect_body` has no effect with a `tcp` check",
        ),
        (
            "[pools.x]\nservers = [\"a:1\"]\nhealth = { tcp = true, http = \"/\" }",
            "3:1 health-kind: `health` checks one thing, not tcp and http",
        ),
        (
            "[pools.x]\nservers = []",
            "2:11 empty: a pool needs at least one server",
        ),
        (
            "[pools.x]\nservers = [\"a:1\", \"a:1\"]",
            "2:19 duplicate: the pool has two servers called `a:1`",
        ),
        (
            "[admin]\nbind = \"0.0.0.0:9400\"",
            "2:8 admin-token: the admin side is open to the network and has no token",
        ),
    ] {
        assert_eq!(one(text), want, "{text}");
    }
}

#[test]
fn pools_must_fit_the_depth_that_uses_them() {
    let misfit = |listener: &str, pool: &str| -> Vec<String> {
        let text =
            format!("[listeners.a]\nbind = \":1\"\n{listener}\npool = \"p\"\n[pools.p]\n{pool}\n");
        problems(&text)
            .into_iter()
            .map(|p| p.split_once(": ").unwrap().1.to_owned())
            .collect()
    };
    let (stream, udp, packet) = (
        "depth = \"stream\"",
        "depth = \"stream\"\nprotocol = \"udp\"",
        "depth = \"packet\"\npacket = { interface = \"eth0\" }",
    );
    let ip = "servers = [\"10.0.0.1:1\"]\n";
    let said = |why: &str| vec![format!("the pool `p` cannot be used here: {why}")];
    assert_eq!(
        misfit(
            stream,
            &format!("{ip}balance = \"hash\"\nhash_on = \"path\"")
        ),
        said("`stream` depth does not see what it hashes on")
    );
    assert_eq!(
        misfit(
            stream,
            &format!("{ip}balance = \"hash\"\nhash_on = \"sni\"")
        ),
        [] as [String; 0]
    );
    assert_eq!(
        misfit(stream, &format!("{ip}protocol = \"grpc\"")),
        said("`stream` depth speaks no HTTP to servers")
    );
    assert_eq!(
        misfit(udp, &format!("{ip}proxy_protocol = \"v2\"")),
        said("a PROXY protocol header with datagrams is not built yet")
    );
    assert_eq!(
        misfit(udp, "servers = [\"unix:/a\"]"),
        said("UDP cannot reach a unix socket")
    );
    assert_eq!(misfit(stream, "servers = [\"unix:/a\"]"), [] as [String; 0]);
    assert_eq!(
        misfit(packet, &format!("{ip}proxy_protocol = \"v2\"")),
        said("`packet` depth adds nothing to packets")
    );
    assert_eq!(misfit(packet, &format!("{ip}balance = \"first\"")).len(), 1);
    assert_eq!(misfit(packet, ip), [] as [String; 0]);
}

#[test]
fn binds_collide_by_transport_and_address() {
    let two = |a: &str, b: &str| {
        let text = format!(
            "[listeners.a]\n{a}\npool = \"api\"\n[listeners.b]\n{b}\npool = \"api\"\n{BASE}"
        );
        problems(&text)
    };
    let tcp = |bind: &str| format!("bind = \"{bind}\"\ndepth = \"stream\"");
    let udp = |bind: &str| format!("bind = \"{bind}\"\ndepth = \"stream\"\nprotocol = \"udp\"");
    let packet = |bind: &str, i: &str| {
        format!("bind = \"{bind}\"\ndepth = \"packet\"\npacket = {{ interface = \"{i}\" }}")
    };
    for (a, b) in [
        (tcp(":80"), tcp(":80")),
        (tcp(":80"), tcp("10.0.0.1:80")),
        (tcp("[::1]:80"), tcp(":80")),
        (tcp("0.0.0.0:80"), tcp("10.0.0.1:80")),
        (packet("10.0.0.1:80", "eth0"), packet("10.0.0.1:80", "eth0")),
    ] {
        assert_eq!(two(&a, &b).len(), 1, "{a} {b}");
        assert!(two(&a, &b)[0].contains("listener `a` and listener `b` bind the same address"));
    }
    for (a, b) in [
        (tcp(":80"), udp(":80")),
        (tcp("10.0.0.2:80"), tcp("10.0.0.1:80")),
        (tcp("[::]:80"), tcp("10.0.0.1:80")),
        (tcp(":0"), tcp(":0")),
        (packet("10.0.0.1:80", "eth0"), packet("10.0.0.1:80", "eth1")),
        (packet("10.0.0.1:80", "eth0"), tcp(":80")),
    ] {
        assert_eq!(two(&a, &b), [] as [String; 0], "{a} {b}");
    }
    let admin = format!(
        "[admin]\nbind = \"127.0.0.1:80\"\n[listeners.a]\n{}\npool = \"api\"\n{BASE}",
        tcp(":80")
    );
    assert_eq!(problems(&admin).len(), 1);
}

#[test]
fn reserved_words_are_refused_by_name() {
    let web = "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\n";
    for (text, name) in [
        (
            format!("{web}routes = [{{ split = {{ a = 1 }} }}]"),
            "split",
        ),
        (format!("{web}pool = \"api\"\ncache = {{}}"), "cache"),
        (format!("{web}pool = \"api\"\nhttp3 = true"), "http3"),
        (
            format!("{web}routes = [{{ match = {{ body = \"x\" }}, pool = \"api\" }}]"),
            "body",
        ),
        ("[waf]\nx = 1".to_owned(), "waf"),
        (
            "[pools.x]\nservers = [\"a:1\"]\nsticky = { application_cookie = \"J\" }".to_owned(),
            "sticky",
        ),
    ] {
        assert!(
            one(&text).ends_with(&format!("not-built: `{name}` is not built yet")),
            "{text}"
        );
    }
    let tls = format!(
        "{web}pool = \"api\"\ntls = {{ certificates = [{{ cert = \"a\", key = \"b\" }}], protocols = [\"h3\"] }}"
    );
    assert_eq!(one(&tls), "5:66 not-built: `h3` is not built yet");
}

#[test]
fn variables_expand_inside_strings() {
    let bind = |text: &str| {
        let text =
            format!("[listeners.a]\nbind = \"{text}\"\ndepth = \"http\"\npool = \"api\"\n{BASE}");
        load_str_with("t.toml", &text, &env)
            .map(|l| format!("{:?}", l.plan.listeners[0].binds[0].address))
    };
    assert_eq!(bind(":${PORT}").unwrap(), "Any(8080)");
    assert_eq!(bind(":${NOPE:-81}").unwrap(), "Any(81)");
    assert_eq!(bind(":${EMPTY:-82}").unwrap(), "Any(82)");
    assert!(bind("${NOPE}").is_err() && bind("${").is_err() && bind("${a b}").is_err());
    let text = format!(
        "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nroutes = [{{ respond = {{ body = \"$${{X}} $x\" }} }}]\n{BASE}"
    );
    let plan = load_str_with("t.toml", &text, &env).unwrap().plan;
    assert!(format!("{plan:?}").contains("body: \"${X} $x\""));
}

#[test]
fn includes_merge_and_name_both_places() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "fathom.toml",
        "include = [\"conf.d/*.toml\", \"none/*.toml\"]\n[listeners.a]\nbind = \":1\"\ndepth = \"http\"\npool = \"api\"\n",
    );
    write(
        "conf.d/api.toml",
        "include = [\"../*.toml\"]\n[pools.api]\nservers = [\"a:1\"]\n",
    );
    write(
        "conf.d/b.toml",
        "[pools.b]\nservers = [\"a:1\"]\ntls = { ca = \"ca.pem\" }\n",
    );
    write("conf.d/ca.pem", "");
    let loaded = load(dir.path().join("fathom.toml")).unwrap();
    assert_eq!(loaded.plan.files.len(), 3);
    assert!(loaded.plan.files[0].ends_with("fathom.toml"));
    let names: Vec<&str> = loaded.plan.pools.iter().map(|p| &*p.name).collect();
    assert_eq!(names, ["api", "b"]);
    assert!(
        loaded.plan.pools[1]
            .tls
            .as_ref()
            .unwrap()
            .ca
            .as_ref()
            .unwrap()
            .ends_with("conf.d/ca.pem")
    );
    assert_eq!(
        &*loaded.plan.pools[1].origin.file,
        dir.path().join("conf.d/b.toml").to_str().unwrap()
    );

    write("conf.d/c.toml", "[pools.b]\nservers = [\"a:1\"]\n");
    std::fs::remove_file(dir.path().join("conf.d/ca.pem")).unwrap();
    write(
        "fathom.toml",
        "include = [\"conf.d/*.toml\", \"gone.toml\"]\n",
    );
    let shown = load(dir.path().join("fathom.toml"))
        .unwrap_err()
        .render(false);
    assert!(
        shown.contains("`pools.b` is defined twice")
            && shown.contains("b.toml:1:8")
            && shown.contains("c.toml:1:8"),
        "{shown}"
    );
    assert!(shown.contains("there is no file gone.toml"), "{shown}");
    assert!(shown.contains("ca.pem: No such file"), "{shown}");
    let missing = load(dir.path().join("no.toml")).unwrap_err();
    assert!(missing.render(false).contains("cannot read"));
}

#[test]
fn broken_toml_is_said_once() {
    assert_eq!(
        problems("[pools.api]\nservers = [\"a:1\"\nbalance = \n[pools.b]\n").len(),
        1
    );
    let twice = load_str_with(
        "t.toml",
        "[pools.api]\nservers = [\"a:1\"]\n[pools.api]\n",
        &env,
    )
    .unwrap_err();
    let shown = twice.render(false);
    assert!(
        shown.contains("again here") && shown.contains("first defined here"),
        "{shown}"
    );
    // What is wrong beside it is said too.
    let text = "a = 1\n[pools.api]\nservers = [\"a:1\"]\nservers = [\"a:2\"]\n";
    assert_eq!(
        problems(text),
        [
            "1:1 unknown-key: the file has no key `a`",
            "4:1 duplicate: `servers` is defined twice"
        ]
    );
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let web = "[listeners.a]\nbind = \":1\"\ndepth = \"http\"\nroutes = [{ respond = {} }]\n";
    assert_eq!(
        warnings(&format!("{web}{BASE}")),
        ["nothing sends to the pool `api`"]
    );
    assert_eq!(
        warnings(""),
        ["there is no listener, so nothing will be served"]
    );
}
