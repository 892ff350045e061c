//! What a reload would change, in words.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::Hash;

use fathom_core::plan::*;

/// One thing that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happens to it.
    pub kind: ChangeKind,
    /// `listener web`, `pool api`, `runtime`...
    pub what: String,
    /// What changes within it; empty for what is added or removed.
    pub details: Vec<String>,
}

/// What happens to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        write!(f, "{sign} {}", self.what)?;
        for detail in &self.details {
            write!(f, "\n    {detail}")?;
        }
        Ok(())
    }
}

/// What changes from `old` to `new`. Where things were written does not count.
#[must_use]
pub fn diff(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut out = Vec::new();
    let mut changed = |what: &str, details: Details| {
        if !details.0.is_empty() {
            out.push(Change {
                kind: ChangeKind::Changed,
                what: what.into(),
                details: details.0,
            });
        }
    };
    changed("admin", admin(old.admin.as_ref(), new.admin.as_ref()));
    let mut details = Details::default();
    details.field("workers", &old.runtime.workers, &new.runtime.workers);
    details.field("io", &old.runtime.io, &new.runtime.io);
    details.field("user", &old.runtime.user, &new.runtime.user);
    details.field(
        "shutdown_grace",
        &old.runtime.shutdown_grace,
        &new.runtime.shutdown_grace,
    );
    if !details.0.is_empty()
        && (old.runtime.workers, old.runtime.io, &old.runtime.user)
            != (new.runtime.workers, new.runtime.io, &new.runtime.user)
    {
        details
            .0
            .push("(workers, io and user take effect at the next start)".into());
    }
    changed("runtime", details);
    let mut details = Details::default();
    details.field("level", &old.log.level, &new.log.level);
    details.field("access", &old.log.access, &new.log.access);
    details.field("format", &old.log.format, &new.log.format);
    changed("log", details);
    let listeners = |plan: &Plan| {
        plan.listeners
            .iter()
            .map(|l| (l.name.to_string(), l.clone()))
            .collect()
    };
    named(
        "listener",
        listeners(old),
        listeners(new),
        listener,
        &mut out,
    );
    let pools = |plan: &Plan| {
        plan.pools
            .iter()
            .map(|p| (p.name.to_string(), PoolPlan::clone(p)))
            .collect()
    };
    named("pool", pools(old), pools(new), pool, &mut out);
    out
}

/// Lines of `key: old -> new`.
#[derive(Default)]
struct Details(Vec<String>);

impl Details {
    fn field<T: PartialEq + Debug>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.0
                .push(format!("{name}: {} -> {}", show(old), show(new)));
        }
    }

    /// For what is too long to show.
    fn whole<T: PartialEq>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(format!("{name} changes"));
        }
    }

    fn within(&mut self, changes: Vec<Change>) {
        for change in changes {
            let inner = change.details.join("; ");
            let sign = change.to_string().chars().next().unwrap_or('~');
            self.0.push(match inner.is_empty() {
                true => format!("{sign} {}", change.what),
                false => format!("{sign} {}: {inner}", change.what),
            });
        }
    }
}

/// A value as near to the file as its debug form comes.
fn show<T: Debug>(value: &T) -> String {
    let text = format!("{value:?}");
    let text = text
        .strip_prefix("Some(")
        .and_then(|t| t.strip_suffix(')'))
        .unwrap_or(&text);
    if text == "None" {
        "(none)".into()
    } else {
        text.to_owned()
    }
}

/// Things with names: added and removed ones, and what changes in the others.
fn named<T>(
    kind: &str,
    old: Vec<(String, T)>,
    new: Vec<(String, T)>,
    compare: impl Fn(&T, &T) -> Details,
    out: &mut Vec<Change>,
) {
    let index = |list: &[(String, T)]| -> HashMap<String, usize> {
        list.iter()
            .enumerate()
            .map(|(i, (name, _))| (name.clone(), i))
            .collect()
    };
    let (before, after) = (index(&old), index(&new));
    let mut push = |kind: ChangeKind, what: String, details: Vec<String>| {
        out.push(Change {
            kind,
            what,
            details,
        })
    };
    for (name, value) in &new {
        match before.get(name) {
            None => push(ChangeKind::Added, format!("{kind} {name}"), Vec::new()),
            Some(&i) => {
                let details = compare(&old[i].1, value).0;
                if !details.is_empty() {
                    push(ChangeKind::Changed, format!("{kind} {name}"), details);
                }
            }
        }
    }
    for (name, _) in old.iter().filter(|(name, _)| !after.contains_key(name)) {
        push(ChangeKind::Removed, format!("{kind} {name}"), Vec::new());
    }
}

/// Values of which one is there or not.
fn set<T: Eq + Hash>(
    name: &str,
    old: &[T],
    new: &[T],
    show: impl Fn(&T) -> String,
    details: &mut Details,
) {
    for value in new.iter().filter(|v| !old.contains(v)) {
        details.0.push(format!("+ {name} {}", show(value)));
    }
    for value in old.iter().filter(|v| !new.contains(v)) {
        details.0.push(format!("- {name} {}", show(value)));
    }
}

fn admin(old: Option<&AdminPlan>, new: Option<&AdminPlan>) -> Details {
    let mut details = Details::default();
    details.field("bind", &old.map(|a| &a.bind), &new.map(|a| &a.bind));
    // Never shown: it is a secret.
    details.whole("token", &old.map(|a| &a.token), &new.map(|a| &a.token));
    details
}

fn listener(old: &ListenerPlan, new: &ListenerPlan) -> Details {
    let mut details = Details::default();
    let binds = |l: &ListenerPlan| -> Vec<(BindAddress, bool)> {
        l.binds.iter().map(|b| (b.address, b.tls)).collect()
    };
    let show_bind = |(address, tls): &(BindAddress, bool)| {
        format!(
            "{}{}",
            crate::explain::show_bind(address),
            if *tls { " (TLS)" } else { "" }
        )
    };
    set("bind", &binds(old), &binds(new), show_bind, &mut details);
    details.field(
        "accept_proxy_protocol",
        &old.accept_proxy_protocol,
        &new.accept_proxy_protocol,
    );
    details.field("limits", &old.limits, &new.limits);
    details.whole("tls", &old.tls, &new.tls);
    match (&old.depth, &new.depth) {
        (DepthPlan::Http(a), DepthPlan::Http(b)) => http(a, b, &mut details),
        (DepthPlan::Stream(a), DepthPlan::Stream(b)) => {
            details.field("pool", &a.pool, &b.pool);
            streams(&a.routes, &b.routes, &mut details);
            details.field("timeouts.idle", &a.idle_timeout, &b.idle_timeout);
            details.field("timeouts.connect", &a.connect_timeout, &b.connect_timeout);
            details.field("timeouts.header", &a.peek_timeout, &b.peek_timeout);
        }
        (DepthPlan::Datagram(a), DepthPlan::Datagram(b)) => {
            details.field("pool", &a.pool, &b.pool);
            details.field("timeouts.idle", &a.idle_timeout, &b.idle_timeout);
            details.field("limits.connections", &a.max_flows, &b.max_flows);
        }
        (DepthPlan::Packet(a), DepthPlan::Packet(b)) => {
            details.field("pool", &a.pool, &b.pool);
            details.field("packet.interface", &a.interface, &b.interface);
            details.field("packet.forward", &a.forward, &b.forward);
            let rest = |p: &PacketPlan| PacketPlan {
                pool: "".into(),
                interface: String::new(),
                forward: Forward::Nat,
                ..p.clone()
            };
            details.whole("packet", &rest(a), &rest(b));
        }
        (a, b) => details.0.push(format!(
            "depth: {} -> {} (established connections end where they began)",
            depth(a),
            depth(b)
        )),
    }
    details
}

fn depth(plan: &DepthPlan) -> &'static str {
    match plan {
        DepthPlan::Http(_) => "http",
        DepthPlan::Stream(_) => "stream",
        DepthPlan::Datagram(_) => "stream (udp)",
        DepthPlan::Packet(_) => "packet",
    }
}

fn http(old: &HttpPlan, new: &HttpPlan, details: &mut Details) {
    details.field(
        "trusted_proxies",
        &old.trusted_proxies,
        &new.trusted_proxies,
    );
    details.whole("forwarded", &old.forwarded, &new.forwarded);
    details.whole("protocols", &old.cleartext, &new.cleartext);
    details.field("timeouts.header", &old.header_timeout, &new.header_timeout);
    details.field("timeouts.idle", &old.idle_timeout, &new.idle_timeout);
    details.field("timeouts.body", &old.body_timeout, &new.body_timeout);
    details.field("max_body", &old.max_body, &new.max_body);
    streams(&old.passthrough, &new.passthrough, details);
    let routes = |plan: &HttpPlan| {
        plan.routes
            .iter()
            .map(|r| (r.name.to_string(), RoutePlan::clone(r)))
            .collect()
    };
    let mut changes = Vec::new();
    named("route", routes(old), routes(new), route, &mut changes);
    details.within(changes);
}

fn streams(old: &[StreamRoutePlan], new: &[StreamRoutePlan], details: &mut Details) {
    let bare = |list: &[StreamRoutePlan]| -> Vec<_> {
        list.iter()
            .map(|r| {
                (
                    r.sni.clone(),
                    r.alpn.clone(),
                    r.source.clone(),
                    r.target.pool.clone(),
                )
            })
            .collect()
    };
    details.whole("routes by server name", &bare(old), &bare(new));
}

fn route(old: &RoutePlan, new: &RoutePlan) -> Details {
    let mut details = Details::default();
    details.whole("match", &old.matches, &new.matches);
    match (&old.action, &new.action) {
        (ActionPlan::Forward(a), ActionPlan::Forward(b)) => details.field("pool", &a.pool, &b.pool),
        (a, b) => details.whole("action", a, b),
    }
    details.whole(
        "request_headers",
        &old.request_headers,
        &new.request_headers,
    );
    details.whole(
        "response_headers",
        &old.response_headers,
        &new.response_headers,
    );
    details.whole("rewrite", &old.rewrite, &new.rewrite);
    details.field(
        "timeouts.connect",
        &old.connect_timeout,
        &new.connect_timeout,
    );
    details.field(
        "timeouts.response",
        &old.response_timeout,
        &new.response_timeout,
    );
    details.whole("retry", &old.retry, &new.retry);
    details.field("max_body", &old.max_body, &new.max_body);
    details
}

fn pool(old: &PoolPlan, new: &PoolPlan) -> Details {
    let mut details = Details::default();
    details.field("balance", &old.balance.algorithm, &new.balance.algorithm);
    details.field("hash_on", &old.balance.hash_on, &new.balance.hash_on);
    details.field(
        "bounded_load",
        &old.balance.bounded_load,
        &new.balance.bounded_load,
    );
    let bare = |h: &Option<HealthPlan>| {
        h.clone().map(|h| HealthPlan {
            origin: Origin {
                file: "".into(),
                line: 0,
            },
            ..h
        })
    };
    details.whole("health", &bare(&old.health), &bare(&new.health));
    details.whole("outliers", &old.outliers, &new.outliers);
    details.field("slow_start", &old.slow_start, &new.slow_start);
    details.whole("affinity", &old.affinity, &new.affinity);
    details.whole("tls", &old.tls, &new.tls);
    details.field("protocol", &old.protocol, &new.protocol);
    details.whole("keepalive", &old.keepalive, &new.keepalive);
    details.whole("queue", &old.queue, &new.queue);
    details.field("proxy_protocol", &old.proxy_protocol, &new.proxy_protocol);
    let servers = |p: &PoolPlan| {
        p.servers
            .iter()
            .map(|s| (s.name.to_string(), s.clone()))
            .collect()
    };
    let mut changes = Vec::new();
    let server = |a: &ServerPlan, b: &ServerPlan| {
        let mut details = Details::default();
        details.field("address", &a.address, &b.address);
        details.field("weight", &a.weight, &b.weight);
        details.field("backup", &a.backup, &b.backup);
        details.field("max_connections", &a.max_connections, &b.max_connections);
        details
    };
    named("server", servers(old), servers(new), server, &mut changes);
    details.within(changes);
    details
}
