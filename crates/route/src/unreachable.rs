//! Routes that can never win: another, ranked before, takes every request they would take.
//!
//! Compared pair by pair (per host pattern), so a route whose requests are taken by several others together is
//! not found. What is reported is certain.

use std::sync::Arc;

use fathom_core::plan::{HostPattern, PathPattern, RoutePlan, StreamRoutePlan};

use crate::condition::{count, implies, nets_imply};
use crate::path::Path;
use crate::router::host_tiers;

/// A route that can never win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// Its place in the file.
    pub index: usize,
    /// The place of one that wins instead.
    pub by: usize,
}

/// Path patterns that are equal for matching have equal keys.
#[derive(PartialEq, Eq, Hash)]
enum PathKey {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Regex(String),
    Any,
}

impl PathKey {
    fn of(path: Option<&PathPattern>) -> Self {
        let bytes = |text: &str| Path::new(text.as_bytes()).as_bytes().to_vec();
        match path {
            Some(PathPattern::Exact(text)) => Self::Exact(bytes(text)),
            Some(PathPattern::Prefix(text)) => Self::Prefix(bytes(text)),
            Some(PathPattern::Regex(regex)) => Self::Regex(regex.as_str().into()),
            None => Self::Any,
        }
    }
}

/// Those that can shadow others: of each host pattern, by path, and the ones that cover every path.
#[derive(Default)]
struct Rivals {
    by_path: foldhash::HashMap<PathKey, Vec<usize>>,
    cover_all: Vec<usize>,
}

/// The routes of one listener that can never win.
#[must_use]
pub fn unreachable(routes: &[Arc<RoutePlan>]) -> Vec<Shadowed> {
    // Only these are compared, so that thousands of routes are checked in no time.
    let mut by_host = foldhash::HashMap::<Option<&HostPattern>, Rivals>::default();
    for (index, route) in routes.iter().enumerate() {
        let path = route.matches.path.as_ref();
        for host in host_tiers(route) {
            let rivals = by_host.entry(host).or_default();
            rivals
                .by_path
                .entry(PathKey::of(path))
                .or_default()
                .push(index);
            if covers(path, None) == Some(false) {
                rivals.cover_all.push(index);
            }
        }
    }
    let shadow = |index: usize| {
        let key = PathKey::of(routes[index].matches.path.as_ref());
        let mut by = None;
        for host in host_tiers(&routes[index]) {
            let rivals = by_host.get(&host)?;
            let mut all = rivals.by_path.get(&key)?.iter().chain(&rivals.cover_all);
            by = Some(*all.find(|&&rival| rival != index && shadows(routes, rival, index))?);
        }
        Some(Shadowed { index, by: by? })
    };
    (0..routes.len()).filter_map(shadow).collect()
}

/// Whether `a` is considered before `b` and takes all that `b` would, on a host pattern both have.
fn shadows(routes: &[Arc<RoutePlan>], a: usize, b: usize) -> bool {
    let (wide, narrow) = (&routes[a].matches, &routes[b].matches);
    let Some(same_path) = covers(wide.path.as_ref(), narrow.path.as_ref()) else {
        return false;
    };
    if !implies(narrow, wide) {
        return false;
    }
    match same_path {
        // The same pattern: more conditions first, then file order.
        true => (std::cmp::Reverse(count(wide)), a) < (std::cmp::Reverse(count(narrow)), b),
        // Two expressions: the order of their first uses, which is not known here; file order is certain only
        // if the first use of neither is another route.
        false => match (&wide.path, &narrow.path) {
            (Some(PathPattern::Regex(_)), Some(PathPattern::Regex(_))) => {
                let first = |path: &Option<PathPattern>| {
                    routes.iter().position(|r| r.matches.path == *path)
                };
                first(&wide.path) < first(&narrow.path)
            }
            _ => true,
        },
    }
}

/// Whether a pattern that ranks before or with `narrow` takes all its paths: `Some(true)` for the same pattern,
/// `Some(false)` for one that ranks before.
fn covers(wide: Option<&PathPattern>, narrow: Option<&PathPattern>) -> Option<bool> {
    use PathPattern::{Exact, Prefix, Regex};
    match (wide, narrow) {
        (None, None) => Some(true),
        (Some(Exact(a)), Some(Exact(b))) | (Some(Prefix(a)), Some(Prefix(b))) => {
            (Path::new(a.as_bytes()).as_bytes() == Path::new(b.as_bytes()).as_bytes())
                .then_some(true)
        }
        (Some(Regex(a)), Some(Regex(b))) if a == b => Some(true),
        // Every path of a request begins with a slash (but `OPTIONS *`, for which nobody writes a route).
        (Some(Prefix(a)), Some(Regex(_)) | None) => (a == "/").then_some(false),
        (Some(Regex(a)), Some(Regex(_)) | None) => matches!(
            a.as_str(),
            "" | ".*" | "^" | "^.*" | "^.*$" | "/" | "^/" | "^/.*" | "^/.*$" | "/.*"
        )
        .then_some(false),
        _ => None,
    }
}

/// The same for routes by SNI and ALPN.
#[must_use]
pub fn unreachable_streams(routes: &[StreamRoutePlan]) -> Vec<Shadowed> {
    let conditions =
        |r: &StreamRoutePlan| usize::from(!r.alpn.is_empty()) + usize::from(!r.source.is_empty());
    let shadows = |a: usize, b: usize, sni: Option<&HostPattern>| {
        let (wide, narrow) = (&routes[a], &routes[b]);
        let same_name = match sni {
            Some(name) => wide.sni.contains(name),
            None => wide.sni.is_empty(),
        };
        let alpn = wide.alpn.is_empty()
            || (!narrow.alpn.is_empty() && narrow.alpn.iter().all(|p| wide.alpn.contains(p)));
        same_name
            && alpn
            && nets_imply(&narrow.source, &wide.source)
            && (std::cmp::Reverse(conditions(wide)), a) < (std::cmp::Reverse(conditions(narrow)), b)
    };
    let shadow = |index: usize| {
        let route = &routes[index];
        let any = route.sni.is_empty().then_some(None);
        let mut by = None;
        for sni in route.sni.iter().map(Some).chain(any) {
            by = Some(
                (0..routes.len()).find(|&rival| rival != index && shadows(rival, index, sni))?,
            );
        }
        Some(Shadowed { index, by: by? })
    };
    (0..routes.len()).filter_map(shadow).collect()
}
