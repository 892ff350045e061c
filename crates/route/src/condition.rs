//! The further conditions of a route (all but host and path): how many, whether they hold, which imply which.

use std::net::IpAddr;

use fathom_core::plan::{MatchPlan, ValuePattern};
use ipnet::IpNet;

use crate::view::{RequestView, any_cookie, any_query};

/// How many further conditions there are; each header, parameter and cookie is one.
pub(crate) fn count(plan: &MatchPlan) -> usize {
    usize::from(!plan.method.is_empty())
        + plan.headers.len()
        + plan.query.len()
        + plan.cookies.len()
        + usize::from(!plan.source.is_empty())
}

/// Whether all hold.
pub(crate) fn hold(plan: &MatchPlan, request: &RequestView<'_>) -> bool {
    first_failure(plan, request, false).is_none()
}

/// Why the first one that does not hold does not.
pub(crate) fn why_not(plan: &MatchPlan, request: &RequestView<'_>) -> Option<String> {
    first_failure(plan, request, true)
}

/// Calls its argument with each value until that returns true; whether it did.
type AnyValue<'a> = dyn Fn(&mut dyn FnMut(&[u8]) -> bool) -> bool + 'a;

/// `explain`: whether the text is wanted; else it stays empty and nothing is allocated.
fn first_failure(plan: &MatchPlan, request: &RequestView<'_>, explain: bool) -> Option<String> {
    let fail = |text: &dyn Fn() -> String| Some(if explain { text() } else { String::new() });
    // RFC 9110 §9.1: the method token is case-sensitive.
    if !plan.method.is_empty() && !plan.method.iter().any(|m| m.as_bytes() == request.method) {
        return fail(&|| {
            format!(
                "the method is {}, not {}",
                show(request.method),
                plan.method.join(" or ")
            )
        });
    }
    if !source_matches(&plan.source, request.source.ip()) {
        return fail(&|| {
            format!(
                "the client {} is not in {}",
                request.source.ip(),
                show_nets(&plan.source)
            )
        });
    }
    let values = |kind: &str, name: &str, pattern: &ValuePattern, any: &AnyValue<'_>| {
        if any(&mut |value| value_matches(pattern, value)) {
            return None;
        }
        fail(&|| {
            let mut seen = Vec::new();
            any(&mut |value| {
                seen.push(show(value));
                false
            });
            match seen.is_empty() {
                true => format!("there is no {kind} {name}"),
                false => format!(
                    "the {kind} {name} is {}, not {}",
                    seen.join(", "),
                    show_value(pattern)
                ),
            }
        })
    };
    for (name, pattern) in &plan.headers {
        let any = |test: &mut dyn FnMut(&[u8]) -> bool| request.headers.any(name, test);
        if let Some(why) = values("header", name, pattern, &any) {
            return Some(why);
        }
    }
    for (name, pattern) in &plan.query {
        let any =
            |test: &mut dyn FnMut(&[u8]) -> bool| any_query(request.query, name.as_bytes(), test);
        if let Some(why) = values("query parameter", name, pattern, &any) {
            return Some(why);
        }
    }
    for (name, pattern) in &plan.cookies {
        let any = |test: &mut dyn FnMut(&[u8]) -> bool| {
            any_cookie(request.headers, name.as_bytes(), test)
        };
        if let Some(why) = values("cookie", name, pattern, &any) {
            return Some(why);
        }
    }
    None
}

pub(crate) fn source_matches(nets: &[IpNet], source: IpAddr) -> bool {
    // A client that came over a dual-stack socket is still its IPv4 self.
    let source = source.to_canonical();
    nets.is_empty() || nets.iter().any(|net| net.contains(&source))
}

fn value_matches(pattern: &ValuePattern, value: &[u8]) -> bool {
    match pattern {
        ValuePattern::Present => true,
        ValuePattern::Exact(text) => text.as_bytes() == value,
        ValuePattern::Regex(regex) => regex.is_match(value),
    }
}

/// Whether every request on which `narrow` holds is one on which `wide` holds; false when it cannot be told.
pub(crate) fn implies(narrow: &MatchPlan, wide: &MatchPlan) -> bool {
    let methods = wide.method.is_empty()
        || (!narrow.method.is_empty() && narrow.method.iter().all(|m| wide.method.contains(m)));
    methods
        && nets_imply(&narrow.source, &wide.source)
        && values_imply(&narrow.headers, &wide.headers)
        && values_imply(&narrow.query, &wide.query)
        && values_imply(&narrow.cookies, &wide.cookies)
}

pub(crate) fn nets_imply(narrow: &[IpNet], wide: &[IpNet]) -> bool {
    wide.is_empty()
        || (!narrow.is_empty() && narrow.iter().all(|n| wide.iter().any(|w| w.contains(n))))
}

fn values_imply(narrow: &[(String, ValuePattern)], wide: &[(String, ValuePattern)]) -> bool {
    wide.iter().all(|(name, w)| {
        narrow
            .iter()
            .any(|(other, n)| other == name && value_implies(n, w))
    })
}

fn value_implies(narrow: &ValuePattern, wide: &ValuePattern) -> bool {
    match (narrow, wide) {
        (_, ValuePattern::Present) => true,
        (ValuePattern::Exact(text), wide) => value_matches(wide, text.as_bytes()),
        (narrow, wide) => narrow == wide,
    }
}

/// A value as shown to people: quoted, escaped, cut.
pub(crate) fn show(value: &[u8]) -> String {
    const LONGEST: usize = 80;
    match value.len() > LONGEST {
        true => format!("\"{}...\"", value[..LONGEST].escape_ascii()),
        false => format!("\"{}\"", value.escape_ascii()),
    }
}

fn show_value(pattern: &ValuePattern) -> String {
    match pattern {
        ValuePattern::Present => "anything".into(),
        ValuePattern::Exact(text) => show(text.as_bytes()),
        ValuePattern::Regex(regex) => format!("~{}", regex.as_str()),
    }
}

pub(crate) fn show_nets(nets: &[IpNet]) -> String {
    nets.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
