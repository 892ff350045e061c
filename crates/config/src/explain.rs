//! What Fathom would do with one request, without doing it: every rule tried and why, then pool, servers,
//! retries, timeouts, and the request as the server gets it.

mod forward;
mod headers;
mod listener;
mod target;
mod text;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fathom_core::plan::*;
use fathom_route::{RequestView, Router, StreamRouter, Verdict, expand};
use serde_json::{Value, json};

pub use forward::Forwarding;
pub(crate) use listener::show as show_bind;
use target::Target;

/// A request to explain.
#[derive(Clone, Debug, Default)]
pub struct ExplainRequest {
    /// `GET`... (not used at `stream` depth).
    pub method: String,
    /// `http://host:port/path?query`, `https://...`; `tcp://host:port`, `tls://name:port`, `udp://host:port`.
    pub url: String,
    /// Header fields, in order; `Host` comes from the URL unless it is here.
    pub headers: Vec<(String, String)>,
    /// The peer; loopback if not given.
    pub from: Option<IpAddr>,
    /// The listener by name, instead of by the URL.
    pub listener: Option<String>,
}

/// Why a request cannot be explained: the user's input is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotExplain(pub String);

impl std::fmt::Display for CannotExplain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotExplain {}

/// What would happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The listener that takes the connection.
    pub listener: String,
    /// Where it was written.
    pub origin: Origin,
    /// `http`, `stream` or `packet`.
    pub depth: &'static str,
    /// The client, as seen behind PROXY protocol and trusted proxies.
    pub client: IpAddr,
    /// What had to be assumed.
    pub notes: Vec<String>,
    /// Every route in the order in which it is considered.
    pub steps: Vec<ExplainStep>,
    /// What is done in the end.
    pub outcome: Outcome,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainStep {
    /// Its name.
    pub route: String,
    /// Where it was written.
    pub origin: Origin,
    /// What became of it.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An answer of Fathom's own.
    Answer {
        /// Status code.
        status: u16,
        /// Of a redirect.
        location: Option<String>,
        /// The body.
        body: String,
        /// Header fields of it.
        headers: Vec<(String, String)>,
        /// The code in Fathom-Reason.
        why: &'static str,
    },
    /// Nothing takes the connection: it is closed.
    Close(String),
    /// It goes to a pool.
    Forward(Box<Forwarding>),
}

/// Explains a request.
///
/// # Errors
/// If the URL makes no sense, or no listener takes it.
pub fn explain(plan: &Plan, request: &ExplainRequest) -> Result<Explanation, CannotExplain> {
    let target = Target::parse(&request.url)?;
    let (listener, bind, mut notes) = listener::choose(plan, &target, request.listener.as_deref())?;
    let peer = request.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if request.from.is_none() {
        notes.push(format!(
            "the client is taken to be {peer}; --from says another"
        ));
    }
    if listener
        .accept_proxy_protocol
        .iter()
        .any(|net| net.contains(&peer))
    {
        notes.push(format!(
            "from {peer} a PROXY protocol header is required; the client is whom it names"
        ));
    }
    let mut out = Explanation {
        listener: listener.name.to_string(),
        origin: listener.origin.clone(),
        depth: "http",
        client: peer,
        notes,
        steps: Vec::new(),
        outcome: Outcome::Close(String::new()),
    };
    let sni = target.tls.then_some(&*target.host);
    match &listener.depth {
        DepthPlan::Http(http) => {
            explain_http(plan, listener, http, bind, request, &target, &mut out)
        }
        DepthPlan::Stream(stream) => {
            out.depth = "stream";
            let chosen = streams(&stream.routes, sni, peer, &mut out.steps);
            let pool = chosen
                .map(|r| r.target.pool.clone())
                .or_else(|| stream.pool.clone());
            out.outcome = match pool {
                Some(pool) => forward::stream(
                    plan,
                    &pool,
                    peer,
                    sni,
                    stream.connect_timeout,
                    stream.idle_timeout,
                ),
                None => Outcome::Close(
                    "no route takes the connection, and the listener has no pool".into(),
                ),
            };
        }
        DepthPlan::Datagram(datagram) => {
            out.depth = "stream";
            out.outcome = forward::stream(
                plan,
                &datagram.pool,
                peer,
                None,
                Default::default(),
                datagram.idle_timeout,
            );
        }
        DepthPlan::Packet(packet) => {
            out.depth = "packet";
            out.outcome = match packet.deny.iter().any(|n| n.contains(&peer)) {
                true => Outcome::Close(format!("{peer} is in `deny`")),
                false
                    if !packet.allow.is_empty()
                        && !packet.allow.iter().any(|n| n.contains(&peer)) =>
                {
                    Outcome::Close(format!("{peer} is not in `allow`"))
                }
                false => forward::stream(
                    plan,
                    &packet.pool,
                    peer,
                    None,
                    Default::default(),
                    Default::default(),
                ),
            };
        }
    }
    Ok(out)
}

/// The route by SNI; the steps are added.
fn streams<'r>(
    routes: &'r [StreamRoutePlan],
    sni: Option<&str>,
    source: IpAddr,
    steps: &mut Vec<ExplainStep>,
) -> Option<&'r StreamRoutePlan> {
    let alpn = [&b"h2"[..], b"http/1.1"];
    let found = StreamRouter::new(routes).explain(sni, alpn.into_iter(), source);
    let winner = found
        .iter()
        .find(|s| s.verdict == Verdict::Wins)
        .map(|s| &routes[s.index]);
    steps.extend(found.into_iter().map(|s| ExplainStep {
        route: format!("to {}", routes[s.index].target.pool),
        origin: routes[s.index].origin.clone(),
        verdict: s.verdict,
        why: s.why,
    }));
    winner
}

fn explain_http(
    plan: &Plan,
    listener: &ListenerPlan,
    http: &HttpPlan,
    bind: &BindPlan,
    request: &ExplainRequest,
    target: &Target,
    out: &mut Explanation,
) {
    if bind.tls && !http.passthrough.is_empty() {
        let chosen = streams(
            &http.passthrough,
            Some(&target.host),
            out.client,
            &mut out.steps,
        );
        if let Some(route) = chosen {
            out.depth = "stream";
            let (connect, idle) = (
                std::time::Duration::from_secs(5),
                std::time::Duration::from_secs(3600),
            );
            out.outcome = forward::stream(
                plan,
                &route.target.pool,
                out.client,
                Some(&target.host),
                connect,
                idle,
            );
            return;
        }
    }
    let mut headers = request.headers.clone();
    let host = headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case("host"))
        .map(|(_, v)| v.clone());
    let host = host.unwrap_or_else(|| {
        headers.insert(0, ("Host".into(), target.authority.clone()));
        target.authority.clone()
    });
    if let (Some(tls), false) = (&listener.tls, bind.tls)
        && tls.redirect_http
    {
        let location = format!("https://{}{}", target.host, target.path_and_query());
        out.outcome = Outcome::answer(308, Some(location), String::new(), Vec::new(), "redirect");
        return;
    }
    let client = headers::client(out.client, &http.trusted_proxies, &headers);
    out.client = client;
    let view = RequestView {
        method: request.method.as_bytes(),
        host: host.as_bytes(),
        path: target.path.as_bytes(),
        query: target.query.as_deref().map(str::as_bytes),
        headers: &headers,
        source: SocketAddr::new(client, 0),
        sni: target.tls.then_some(&*target.host),
    };
    let router = Router::new(&http.routes);
    out.steps
        .extend(router.explain(&view).into_iter().map(|s| ExplainStep {
            route: s.route.name.to_string(),
            origin: s.route.origin.clone(),
            verdict: s.verdict,
            why: s.why,
        }));
    let Some(found) = router.find(&view) else {
        out.outcome = Outcome::answer(404, None, String::new(), Vec::new(), "no-route");
        return;
    };
    out.outcome = match &found.route.action {
        ActionPlan::Redirect { to, status } => {
            let location = expand(to, &found.captures, &view);
            let location = String::from_utf8_lossy(&location).into_owned();
            Outcome::answer(
                *status,
                Some(location),
                String::new(),
                edited_answer(found.route, Vec::new()),
                "redirect",
            )
        }
        ActionPlan::Respond {
            status,
            body,
            headers,
        } => Outcome::answer(
            *status,
            None,
            body.clone(),
            edited_answer(found.route, headers.clone()),
            "respond",
        ),
        ActionPlan::Forward(to) => {
            let peer = request.from.unwrap_or(client);
            forward::http(
                plan, listener, http, bind, &to.pool, &found, &view, peer, &headers,
            )
        }
    };
}

fn edited_answer(route: &RoutePlan, mut headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers::edit(&mut headers, &route.response_headers);
    headers
}

impl Outcome {
    fn answer(
        status: u16,
        location: Option<String>,
        body: String,
        headers: Vec<(String, String)>,
        why: &'static str,
    ) -> Self {
        Self::Answer {
            status,
            location,
            body,
            headers,
            why,
        }
    }
}

impl Explanation {
    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::render(self)
    }

    /// For machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|s| {
                let verdict = match s.verdict {
                    Verdict::Wins => "wins",
                    Verdict::Outranked => "outranked",
                    Verdict::Fails => "fails",
                };
                json!({ "route": s.route, "origin": s.origin.to_string(), "verdict": verdict, "why": s.why })
            })
            .collect();
        let outcome = match &self.outcome {
            Outcome::Close(why) => json!({ "action": "close", "why": why }),
            Outcome::Answer {
                status,
                location,
                body,
                headers,
                why,
            } => json!({
                "action": "answer", "status": status, "location": location, "body": body,
                "headers": headers, "why": why,
            }),
            Outcome::Forward(forwarding) => forwarding.to_json(),
        };
        json!({
            "listener": self.listener, "origin": self.origin.to_string(), "depth": self.depth,
            "client": self.client.to_string(), "notes": self.notes, "steps": steps, "outcome": outcome,
        })
    }
}
