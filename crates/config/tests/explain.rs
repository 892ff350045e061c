//! `explain` and `diff`, as people see them.
#![allow(clippy::unwrap_used)]

use fathom_config::{ExplainRequest, Outcome, diff, explain, load_str};
use fathom_core::plan::Plan;

const FILE: &str = r#"
[listeners.web]
bind = [":80", ":443"]
depth = "http"
trusted_proxies = ["10.0.0.0/8"]
[listeners.web.tls]
bind = ":443"
certificates = [{ cert = "a.pem", key = "a.key" }]
[[listeners.web.routes]]
match = { host = "example.com", path = "/api/*", method = "POST" }
pool = "api"
[[listeners.web.routes]]
name = "api"
match = { host = "example.com", path = "/api/*" }
pool = "api"
request_headers = { set = { X-Env = "prod" }, remove = ["X-Internal"] }
response_headers = { remove = ["Server"] }
rewrite = { strip_prefix = "/api" }
retry = { attempts = 1, on = ["connect-failure", "503"] }
[[listeners.web.routes]]
match = { path = "/old/*" }
redirect = { to = "https://$host/new/$1", status = 301 }
[[listeners.web.routes]]
match = { sni = "vault.example.com" }
passthrough = true
pool = "vault"
[listeners.db]
bind = ":5432"
depth = "stream"
pool = "vault"
[pools.api]
servers = ["10.0.0.10:3000", { address = "10.0.0.11:3000", weight = 2, name = "api2" }, { address = "app:80", backup = true }]
[pools.vault]
balance = "hash"
servers = ["10.0.0.40:8200", "10.0.0.41:8200"]
"#;

fn plan(text: &str) -> Plan {
    load_str("t.toml", text)
        .unwrap_or_else(|e| panic!("{e}"))
        .plan
}

fn request(method: &str, url: &str) -> ExplainRequest {
    let from = Some("192.0.2.7".parse().unwrap());
    ExplainRequest {
        method: method.into(),
        url: url.into(),
        from,
        ..ExplainRequest::default()
    }
}

#[test]
fn every_rule_and_what_the_server_gets() {
    let mut request = request("GET", "http://Example.com/api/users?page=2");
    request.headers = vec![
        ("X-Internal".into(), "1".into()),
        ("Accept".into(), "*/*".into()),
    ];
    let explanation = explain(&plan(FILE), &request).unwrap();
    let want = r#"listener web (t.toml:2), http depth, client 192.0.2.7

routes, as they are considered
  x web/1  the method is "GET", not POST  (t.toml:9)
 => api    the most specific that matches: host example.com, path /api/*  (t.toml:12)
  x web/3  the path "/api/users" does not begin with /old/  (t.toml:20)

pool api (t.toml:31)
  balance   round-robin: one after the other, by weight
     server 10.0.0.10:3000  weight 1
     server api2            weight 2
     server app:80          weight 1  backup
  connect   within 5s
  response  within 60s
  retry     once, on connect-failure, 503, within a budget of 20%

the server gets
  GET /users?page=2 HTTP/1.1
  Host: Example.com
  Accept: */*
  X-Forwarded-For: 192.0.2.7
  X-Forwarded-Proto: http
  X-Forwarded-Host: Example.com
  X-Forwarded-Port: 80
  X-Env: prod

the client gets the response with
  remove Server
"#;
    assert_eq!(explanation.to_text(), want);
    let json = explanation.to_json();
    assert_eq!(json["steps"][1]["verdict"], "wins");
    assert_eq!(json["outcome"]["pool"], "api");
    assert_eq!(json["outcome"]["servers"][1]["weight"], 2);
}

#[test]
fn other_endings() {
    let plan = plan(FILE);
    let outcome = |url: &str| explain(&plan, &request("GET", url)).unwrap().outcome;
    let Outcome::Answer {
        status: 301,
        location,
        ..
    } = outcome("http://a.com/old/x%20y")
    else {
        panic!()
    };
    assert_eq!(location.as_deref(), Some("https://a.com/new/x%20y"));
    assert!(matches!(
        outcome("https://a.com/nothing"),
        Outcome::Answer { status: 404, .. }
    ));
    let Outcome::Forward(through) = outcome("https://vault.example.com/") else {
        panic!()
    };
    assert_eq!(
        (&*through.pool, through.request_line.is_none()),
        ("vault", true)
    );
    let Outcome::Forward(db) = outcome("tcp://localhost:5432") else {
        panic!()
    };
    // The same client always gets the same server, so it can be named.
    assert_eq!(through.server, db.server);
    assert!(db.server.is_some());
}

#[test]
fn the_client_behind_a_trusted_proxy() {
    let mut request = request("GET", "http://example.com/api/");
    request.from = Some("10.1.1.1".parse().unwrap());
    request.headers = vec![(
        "X-Forwarded-For".into(),
        "6.6.6.6, 192.0.2.9, 10.2.2.2".into(),
    )];
    let explanation = explain(&plan(FILE), &request).unwrap();
    assert_eq!(explanation.client.to_string(), "192.0.2.9");
    let Outcome::Forward(to) = explanation.outcome else {
        panic!()
    };
    let chain = to
        .headers
        .iter()
        .find(|(n, _)| n == "X-Forwarded-For")
        .unwrap();
    assert_eq!(chain.1, "6.6.6.6, 192.0.2.9, 10.2.2.2, 10.1.1.1");
}

#[test]
fn listeners_are_found_by_url() {
    let plan = plan(
        &FILE
            .replace("\":80\", \":443\"", "\":8080\", \":8443\"")
            .replace("bind = \":443\"", "bind = \":8443\""),
    );
    let by_name = explain(&plan, &request("GET", "http://example.com/api/")).unwrap();
    assert_eq!(by_name.notes, ["taken to arrive at listener `web`, :8080"]);
    let fails = |url: &str| explain(&plan, &request("GET", url)).unwrap_err().0;
    assert_eq!(
        fails("http://example.com:81/"),
        "no listener takes example.com:81; there are: `web` at :8080 :8443, `db` at :5432"
    );
    assert_eq!(
        fails("http://example.com:8443/"),
        "listener `web` speaks TLS there: write https://"
    );
    assert!(fails("example.com").contains("is not a URL"));
}

#[test]
fn changes_in_words() {
    let old = plan(FILE);
    assert!(
        diff(&old, &plan(&format!("\n\n{FILE}"))).is_empty(),
        "where things stand does not count"
    );
    let new = FILE
        .replace("balance = \"hash\"\n", "")
        .replace("weight = 2", "weight = 3")
        .replace(
            "[listeners.db]\nbind = \":5432\"",
            "[listeners.db2]\nbind = \":5433\"",
        )
        .replace("strip_prefix = \"/api\"", "strip_prefix = \"/api/v1\"");
    let changes: Vec<String> = diff(&old, &plan(&new))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        changes,
        [
            "~ listener web\n    ~ route api: rewrite changes",
            "+ listener db2",
            "- listener db",
            "~ pool api\n    ~ server api2: weight: 2 -> 3",
            "~ pool vault\n    balance: Hash -> RoundRobin",
        ]
    );
}
