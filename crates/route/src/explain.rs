//! Why a route won: every route, in the order of specificity, with the reason for its fate.
//!
//! Written apart from the tables of the router, straight from the rule, so that a test can hold one to the other.

use std::cmp::Reverse;
use std::sync::Arc;

use fathom_core::plan::{HostPattern, PathPattern, RoutePlan};

use crate::condition;
use crate::host::{Host, host_matches, show_host};
use crate::path::Path;
use crate::router::{Entry, Router};
use crate::view::RequestView;

/// One route, and what became of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its place in the file.
    pub index: usize,
    /// The route.
    pub route: Arc<RoutePlan>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
}

/// What became of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It wins.
    Wins,
    /// It matches too, but another is more specific.
    Outranked,
    /// One of its conditions does not hold.
    Fails,
}

/// Lower is more specific. The last part of a rule that two ranks share decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    host: (u8, Reverse<usize>),
    path: (u8, Reverse<usize>, usize),
    conditions: Reverse<usize>,
    index: usize,
}

impl Router {
    /// Every route in the order in which it is considered for `request`, and why it wins or not. Routes of other
    /// hosts come last.
    #[must_use]
    pub fn explain(&self, request: &RequestView<'_>) -> Vec<Step> {
        let host = Host::new(request.host);
        let path = Path::new(request.path);
        let mut ranked: Vec<(bool, Rank, &Entry)> = self
            .routes
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let (fits, rank) = self.rank(index, entry, host.as_bytes());
                (!fits, rank, entry)
            })
            .collect();
        ranked.sort_by_key(|(other_host, rank, _)| (*other_host, *rank));
        let mut winner: Option<Rank> = None;
        ranked
            .into_iter()
            .map(|(_, rank, entry)| {
                let plan = &entry.plan;
                let (verdict, why) = match (why_not(plan, &host, &path, request), winner) {
                    (Some(why), _) => (Verdict::Fails, why),
                    (None, None) => {
                        winner = Some(rank);
                        (
                            Verdict::Wins,
                            specificity(plan, entry.conditions, host.as_bytes()),
                        )
                    }
                    (None, Some(won)) => (Verdict::Outranked, outranked(won, rank).into()),
                };
                Step {
                    index: rank.index,
                    route: plan.clone(),
                    verdict,
                    why,
                }
            })
            .collect()
    }

    fn rank(&self, index: usize, entry: &Entry, host: &[u8]) -> (bool, Rank) {
        let matches = &entry.plan.matches;
        let tier = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(name) => (0, Reverse(name.len())),
            HostPattern::Suffix(suffix) => (1, Reverse(suffix.len())),
        };
        let (fits, tier) = match matches.host.is_empty() {
            true => (true, (2, Reverse(0))),
            false => {
                let best = matches
                    .host
                    .iter()
                    .filter(|p| host_matches(p, host))
                    .map(tier)
                    .min();
                (
                    best.is_some(),
                    best.or_else(|| matches.host.iter().map(tier).min())
                        .unwrap_or((2, Reverse(0))),
                )
            }
        };
        let path = match &matches.path {
            Some(PathPattern::Exact(text)) => (0, Reverse(text.len()), 0),
            Some(PathPattern::Prefix(text)) => {
                (1, Reverse(Path::new(text.as_bytes()).as_bytes().len()), 0)
            }
            Some(regex @ PathPattern::Regex(_)) => {
                let same = |e: &Entry| e.plan.matches.path.as_ref() == Some(regex);
                (
                    2,
                    Reverse(0),
                    self.routes.iter().position(same).unwrap_or(index),
                )
            }
            None => (3, Reverse(0), 0),
        };
        (
            fits,
            Rank {
                host: tier,
                path,
                conditions: Reverse(entry.conditions),
                index,
            },
        )
    }
}

fn why_not(
    plan: &RoutePlan,
    host: &Host<'_>,
    path: &Path<'_>,
    request: &RequestView<'_>,
) -> Option<String> {
    let matches = &plan.matches;
    let host = host.as_bytes();
    if !matches.host.is_empty() && !matches.host.iter().any(|p| host_matches(p, host)) {
        let wanted: Vec<String> = matches.host.iter().map(show_host).collect();
        return Some(format!(
            "the host is {}, not {}",
            condition::show(host),
            wanted.join(" or ")
        ));
    }
    let matched = path.as_bytes();
    let shown = || match matched == path.original() {
        true => condition::show(matched),
        false => format!(
            "{} (received as {})",
            condition::show(matched),
            condition::show(path.original())
        ),
    };
    let why = match &matches.path {
        None => None,
        Some(PathPattern::Exact(text)) => (Path::new(text.as_bytes()).as_bytes() != matched)
            .then(|| format!("the path is {}, not {text}", shown())),
        Some(PathPattern::Prefix(text)) => (!matched
            .starts_with(Path::new(text.as_bytes()).as_bytes()))
        .then(|| format!("the path {} does not begin with {text}", shown())),
        Some(PathPattern::Regex(regex)) => (!regex.is_match(matched))
            .then(|| format!("the path {} does not match ~{}", shown(), regex.as_str())),
    };
    why.or_else(|| condition::why_not(matches, request))
}

fn specificity(plan: &RoutePlan, conditions: usize, host: &[u8]) -> String {
    let mut parts = Vec::new();
    match plan.matches.host.iter().find(|p| host_matches(p, host)) {
        Some(HostPattern::Exact(name)) => parts.push(format!("host {name}")),
        Some(suffix) => parts.push(format!("host {}", show_host(suffix))),
        None => parts.push("any host".into()),
    }
    parts.push(match &plan.matches.path {
        Some(PathPattern::Exact(text)) => format!("path {text}"),
        Some(PathPattern::Prefix(text)) => format!("path {text}*"),
        Some(PathPattern::Regex(regex)) => format!("path ~{}", regex.as_str()),
        None => "any path".into(),
    });
    match conditions {
        0 => {}
        1 => parts.push("1 further condition".into()),
        n => parts.push(format!("{n} further conditions")),
    }
    format!("the most specific that matches: {}", parts.join(", "))
}

fn outranked(won: Rank, rank: Rank) -> &'static str {
    if won.host != rank.host {
        "matches too, but the winner's host is more specific"
    } else if won.path != rank.path {
        match (won.path.0, rank.path.0) {
            (2, 2) => "matches too, but the winner's expression comes first in the file",
            _ => "matches too, but the winner's path is more specific",
        }
    } else if won.conditions != rank.conditions {
        "matches too, but the winner has more conditions"
    } else {
        "matches too, but the winner comes first in the file"
    }
}
