//! What a route makes of the request's target.

use std::borrow::Cow;

use fathom_core::plan::RewritePlan;
use regex_automata::util::captures::Captures as Groups;

use crate::router::Captures;
use crate::template::{expand, write_query};
use crate::view::RequestView;

/// The target (path and query) that the server gets: a new one, or the path as received when the rewrite does
/// not apply. The query stays; a template with a query of its own has the request's added behind it.
#[must_use]
pub fn rewrite<'q>(
    plan: &RewritePlan,
    captures: &Captures<'q>,
    request: &RequestView<'q>,
) -> Cow<'q, [u8]> {
    match new_path(plan, captures, request) {
        Some(mut target) => {
            // Whatever was cut, a target in origin form begins with a slash (RFC 9112 §3.2.1).
            if target.first() != Some(&b'/') {
                target.insert(0, b'/');
            }
            let lead = if target.contains(&b'?') { b'&' } else { b'?' };
            write_query(lead, request.query, &mut target);
            Cow::Owned(target)
        }
        None => match request.query {
            None => Cow::Borrowed(request.path),
            Some(query) => Cow::Owned([request.path, b"?", query].concat()),
        },
    }
}

fn new_path(
    plan: &RewritePlan,
    captures: &Captures<'_>,
    request: &RequestView<'_>,
) -> Option<Vec<u8>> {
    let path = &captures.path;
    let matched = path.as_bytes();
    if matched.first() != Some(&b'/') {
        return None;
    }
    let mut out = Vec::with_capacity(matched.len() + 16);
    match plan {
        RewritePlan::StripPrefix(prefix) => {
            let prefix = prefix.trim_end_matches('/').as_bytes();
            let rest = matched.strip_prefix(prefix)?;
            // Only at a segment border: `/api` is no prefix of `/apiary`.
            if !rest.is_empty() && rest[0] != b'/' {
                return None;
            }
            path.write_part(prefix.len(), matched.len(), &mut out);
        }
        RewritePlan::AddPrefix(prefix) => {
            out.extend_from_slice(prefix.trim_end_matches('/').as_bytes());
            path.write_part(0, matched.len(), &mut out);
        }
        RewritePlan::Path(template) => out = expand(template, captures, request),
        RewritePlan::Regex { regex, to } => {
            // On the path as a server would get it, so that what is not replaced keeps its escapes.
            let mut text = Vec::with_capacity(matched.len());
            path.write_part(0, matched.len(), &mut text);
            let mut groups: Groups = regex.compiled().create_captures();
            regex.compiled().captures(&text, &mut groups);
            let found = groups.get_match()?;
            out.extend_from_slice(&text[..found.start()]);
            write_replacement(to, &groups, &text, &mut out);
            out.extend_from_slice(&text[found.end()..]);
        }
    }
    Some(out)
}

fn write_replacement(to: &str, groups: &Groups, text: &[u8], out: &mut Vec<u8>) {
    let mut rest = to.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        match (b, tail.first()) {
            (b'$', Some(digit @ b'1'..=b'9')) => {
                if let Some(span) = groups.get_group(usize::from(digit - b'0')) {
                    out.extend_from_slice(&text[span.range()]);
                }
                rest = &tail[1..];
            }
            (b'$', Some(b'$')) => {
                out.push(b'$');
                rest = &tail[1..];
            }
            _ => {
                out.push(b);
                rest = tail;
            }
        }
    }
}
