//! The crate's promise: which route wins, what it makes of the request, which routes never can.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::*;
use fathom_route::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn route(name: &str, matches: MatchPlan) -> Arc<RoutePlan> {
    Arc::new(RoutePlan {
        name: name.into(),
        origin: Origin {
            file: "t".into(),
            line: 1,
        },
        matches,
        action: ActionPlan::Redirect {
            to: "/new/$1/$2".into(),
            status: 302,
        },
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(60),
        retry: RetryPlan {
            attempts: 0,
            on: vec![],
            budget: 0.2,
        },
        max_body: None,
    })
}

fn host(text: &str) -> HostPattern {
    match text.strip_prefix('*') {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(text.into()),
    }
}

fn path(text: &str) -> PathPattern {
    if let Some(regex) = text.strip_prefix('~') {
        PathPattern::Regex(Regex::new(regex).unwrap())
    } else if let Some(prefix) = text.strip_suffix('*') {
        PathPattern::Prefix(prefix.into())
    } else {
        PathPattern::Exact(text.into())
    }
}

/// `"host path [METHOD] [h=v]"`, `-` for none.
fn matches(text: &str) -> MatchPlan {
    let mut words = text.split(' ');
    let mut plan = MatchPlan::default();
    plan.host.extend(
        words
            .next()
            .filter(|w| *w != "-")
            .into_iter()
            .flat_map(|w| w.split(','))
            .map(host),
    );
    plan.path = words.next().filter(|w| *w != "-").map(path);
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => plan
                .headers
                .push((name.into(), ValuePattern::Exact(value.into()))),
            None => plan.method.push(word.into()),
        }
    }
    plan
}

fn routes(list: &[&str]) -> Vec<Arc<RoutePlan>> {
    list.iter().map(|text| route(text, matches(text))).collect()
}

fn source() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

fn view<'a>(
    method: &'a str,
    host: &'a str,
    target: &'a str,
    headers: &'a dyn Headers,
) -> RequestView<'a> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (target, None),
    };
    let (method, host) = (method.as_bytes(), host.as_bytes());
    RequestView {
        method,
        host,
        path: path.as_bytes(),
        query,
        headers,
        source: source(),
        sni: None,
    }
}

#[test]
fn the_most_specific_wins() {
    let list = routes(&[
        "- -",
        "- /*",
        "*.example.com /*",
        "*.a.example.com -",
        "example.com /api/*",
        "example.com /api/v1/*",
        "example.com /api/v1/users",
        "example.com ~^/r/([0-9]+)/(x?)",
        "example.com ~^/r/",
        "example.com /api/* POST",
        "example.com /api/* x=1",
        "example.com /api/* POST x=1",
        "- /healthz",
    ]);
    let router = Router::new(&list);
    let yes = vec![("X", "1")];
    for (method, host, target, headers, want) in [
        (
            "GET",
            "example.com",
            "/api/v1/users?x",
            &NoHeaders as &dyn Headers,
            "example.com /api/v1/users",
        ),
        (
            "GET",
            "EXAMPLE.COM.:8080",
            "/api/v1/u",
            &NoHeaders,
            "example.com /api/v1/*",
        ),
        (
            "GET",
            "example.com",
            "/api/x",
            &NoHeaders,
            "example.com /api/*",
        ),
        (
            "POST",
            "example.com",
            "/api/x",
            &NoHeaders,
            "example.com /api/* POST",
        ),
        (
            "POST",
            "example.com",
            "/api/x",
            &yes,
            "example.com /api/* POST x=1",
        ),
        (
            "GET",
            "example.com",
            "/api/x",
            &yes,
            "example.com /api/* x=1",
        ),
        ("GET", "example.com", "/api", &NoHeaders, "- /*"),
        (
            "GET",
            "example.com",
            "/r/12/x",
            &NoHeaders,
            "example.com ~^/r/([0-9]+)/(x?)",
        ),
        (
            "GET",
            "example.com",
            "/r/no",
            &NoHeaders,
            "example.com ~^/r/",
        ),
        (
            "GET",
            "b.example.com",
            "/healthz",
            &NoHeaders,
            "*.example.com /*",
        ),
        (
            "GET",
            "b.a.example.com",
            "/healthz",
            &NoHeaders,
            "*.a.example.com -",
        ),
        ("GET", "other", "/healthz", &NoHeaders, "- /healthz"),
        ("GET", "", "/", &NoHeaders, "- /*"),
        ("OPTIONS", "other", "*", &NoHeaders, "- -"),
        (
            "GET",
            "example.com",
            "/x/..%2fapi/%2e/v1/users",
            &NoHeaders,
            "example.com /api/v1/users",
        ),
    ] {
        let request = view(method, host, target, headers);
        let found = router.find(&request).unwrap();
        assert_eq!(&*found.route.name, want, "{method} {host} {target}");
        let steps = router.explain(&request);
        assert_eq!(steps.len(), list.len());
        let winner = steps.iter().find(|s| s.verdict == Verdict::Wins).unwrap();
        assert_eq!(
            &*winner.route.name, want,
            "explain {method} {host} {target}"
        );
    }
    assert!(
        Router::new(&routes(&["a -"]))
            .find(&view("GET", "b", "/", &NoHeaders))
            .is_none()
    );
}

#[test]
fn source_query_and_cookie() {
    let mut inside = matches("- -");
    inside.source.push("192.0.2.0/24".parse().unwrap());
    inside.query.push((
        "v".into(),
        ValuePattern::Regex(Regex::new("^[0-9]+$").unwrap()),
    ));
    inside.cookies.push(("beta".into(), ValuePattern::Present));
    let list = [route("inside", inside), route("rest", matches("- -"))];
    let router = Router::new(&list);
    let cookie = vec![("Cookie", "a=b; beta=")];
    let name = |request: RequestView<'_>| router.find(&request).unwrap().route.name.to_string();
    assert_eq!(name(view("GET", "h", "/?v=12", &cookie)), "inside");
    assert_eq!(name(view("GET", "h", "/?v=x", &cookie)), "rest");
    assert_eq!(name(view("GET", "h", "/?v=12", &NoHeaders)), "rest");
    let mut outside = view("GET", "h", "/?v=12", &cookie);
    outside.source = "[2001:db8::1]:1".parse().unwrap();
    assert_eq!(name(outside), "rest");
    let why: Vec<String> = router
        .explain(&view("GET", "h", "/?v=x", &cookie))
        .into_iter()
        .map(|s| s.why)
        .collect();
    assert_eq!(
        why,
        [
            "the query parameter v is \"x\", not ~^[0-9]+$",
            "the most specific that matches: any host, any path"
        ]
    );
}

fn expanded(pattern: &str, template: &str, target: &str) -> String {
    let list = routes(&[pattern]);
    let router = Router::new(&list);
    let request = view("GET", "Example.com:80", target, &NoHeaders);
    let found = router.find(&request).unwrap();
    String::from_utf8(expand(template, &found.captures, &request)).unwrap()
}

#[test]
fn redirects_are_filled_in() {
    assert_eq!(
        expanded("- /old/*", "https://e.com/new/$1", "/old/a/b?c=d"),
        "https://e.com/new/a/b"
    );
    assert_eq!(
        expanded("- /old/*", "https://$host$path", "/old/a?c=d"),
        "https://example.com/old/a?c=d"
    );
    assert_eq!(expanded("- ~^/(a+)/(b)?", "/$2/$1", "/aa/"), "//aa");
    // No way to another host through what a client writes.
    assert_eq!(expanded("- /old/*", "/$1", "/old//evil.com"), "/evil.com");
    assert_eq!(expanded("- /old/*", "/$1", "/old/%2Fevil.com"), "/evil.com");
    assert_eq!(
        expanded("- /old/*", "/$1", "/old/\\evil.com"),
        "/%5Cevil.com"
    );
    assert_eq!(expanded("- /old/*", "/$1", "/old/a%0d%0ab"), "/a%0d%0ab");
}

fn rewritten(plan: RewritePlan, target: &str) -> String {
    let list = routes(&["- /api/*", "- -"]);
    let router = Router::new(&list);
    let request = view("GET", "h", target, &NoHeaders);
    let found = router.find(&request).unwrap();
    String::from_utf8(rewrite(&plan, &found.captures, &request).into_owned()).unwrap()
}

#[test]
fn rewrites() {
    let strip = |target: &str| rewritten(RewritePlan::StripPrefix("/api".into()), target);
    assert_eq!(strip("/api/a?b=c"), "/a?b=c");
    assert_eq!(strip("/api"), "/");
    assert_eq!(strip("/api?x"), "/?x");
    assert_eq!(strip("/apiary"), "/apiary");
    assert_eq!(
        strip("/api/group%2Fproject/../x"),
        "/group/x".replace("group/", "group%2F")
    );
    assert_eq!(strip("/x/../api//a"), "/a");
    assert_eq!(
        rewritten(RewritePlan::AddPrefix("/v1/".into()), "/a/../b?c"),
        "/v1/b?c"
    );
    assert_eq!(
        rewritten(RewritePlan::Path("/n?x=$1".into()), "/api/q?y=2"),
        "/n?x=q&y=2"
    );
    let regex = |regex: &str, to: &str, target: &str| {
        rewritten(
            RewritePlan::Regex {
                regex: Regex::new(regex).unwrap(),
                to: to.into(),
            },
            target,
        )
    };
    assert_eq!(regex("^/a/(.*)$", "/b/$1", "/a/x%20y?q"), "/b/x%20y?q");
    assert_eq!(regex("^/a/(.*)$", "/b/$1", "/c"), "/c");
    assert_eq!(regex("/a", "", "/a"), "/");
}

#[test]
fn routes_that_never_win_are_found() {
    let never = |list: &[&str]| -> Vec<(usize, usize)> {
        unreachable(&routes(list))
            .into_iter()
            .map(|s| (s.index, s.by))
            .collect()
    };
    assert_eq!(never(&["- /a", "- /a"]), [(1, 0)]);
    assert_eq!(never(&["- /a", "- /a GET"]), []);
    assert_eq!(never(&["- /a GET", "- /a GET"]), [(1, 0)]);
    assert_eq!(never(&["- /a GET POST", "- /a POST"]), [(1, 0)]);
    assert_eq!(never(&["a.com,b.com /a", "a.com /a"]), [(1, 0)]);
    assert_eq!(never(&["a.com /a", "a.com,b.com /a"]), []);
    assert_eq!(
        never(&["- /*", "- ~^/x", "- -", "a.com -"]),
        [(1, 0), (2, 0)]
    );
    assert_eq!(never(&["- ~^/x", "- /*"]), [(0, 1)]);
    assert_eq!(never(&["- ~^/x", "- /* GET"]), []);
    assert_eq!(never(&["- ~/a", "- ~/a"]), [(1, 0)]);
}

#[test]
fn stream_routes() {
    let plan = |sni: &[&str], alpn: &[&str], pool: &str| StreamRoutePlan {
        origin: Origin {
            file: "t".into(),
            line: 1,
        },
        sni: sni.iter().map(|s| host(s)).collect(),
        alpn: alpn.iter().map(ToString::to_string).collect(),
        source: vec![],
        target: RouteTarget { pool: pool.into() },
    };
    let list = [
        plan(&[], &[], "any"),
        plan(&["*.example.com"], &[], "suffix"),
        plan(&["*.example.com"], &["h2"], "suffix-h2"),
        plan(&["a.example.com"], &[], "exact"),
    ];
    let router = StreamRouter::new(&list);
    assert!(router.needs_hello());
    let find = |sni, alpn: &[&str]| {
        &*router
            .find(sni, alpn.iter().map(|p| p.as_bytes()), source().ip())
            .unwrap()
            .target
            .pool
    };
    assert_eq!(find(Some("A.example.com"), &[]), "exact");
    assert_eq!(find(Some("b.example.com"), &["h2"]), "suffix-h2");
    assert_eq!(find(Some("b.example.com"), &["http/1.1"]), "suffix");
    assert_eq!(find(None, &[]), "any");
    assert_eq!(
        router.explain(
            Some("b.example.com"),
            [&b"h2"[..]].into_iter(),
            source().ip()
        )[0]
        .index,
        2
    );
    assert!(unreachable_streams(&list).is_empty());
    let twice = [list[1].clone(), list[1].clone()];
    assert_eq!(unreachable_streams(&twice), [Shadowed { index: 1, by: 0 }]);
}

proptest! {
    #![proptest_config(Config { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() })]

    /// The tables and the rule (as `explain` applies it) agree; what is called unreachable is never found.
    #[test]
    fn router_and_rule_agree(
        list in prop::collection::vec(
            ("(-|a|b\\.a|\\*\\.a|\\*\\.b\\.a|a,\\*\\.a)", "(-|/|/\\*|/x|/x/\\*|/x/y/\\*|~x|~\\^/y|~/)", "(| GET| POST| GET POST)", "(| h=1| h=2)"),
            0..10,
        ),
        requests in prop::collection::vec(("(a|b\\.a|c\\.b\\.a|z)", "(/|/x|/x/|/x/y/z|/y)", "(GET|POST)", "[12]"), 1..10),
    ) {
        let list: Vec<_> = list.iter().map(|(h, p, m, x)| format!("{h} {p}{m}{x}")).collect();
        let list = routes(&list.iter().map(String::as_str).collect::<Vec<_>>());
        let router = Router::new(&list);
        let never = unreachable(&list);
        for (host, target, method, value) in &requests {
            let headers = vec![("h", value.as_str())];
            let request = view(method, host, target, &headers);
            let found = router.find(&request).map(|m| m.index);
            let steps = router.explain(&request);
            let told = steps.iter().find(|s| s.verdict == Verdict::Wins).map(|s| s.index);
            prop_assert_eq!(found, told);
            prop_assert!(never.iter().all(|s| Some(s.index) != found));
        }
    }
}
