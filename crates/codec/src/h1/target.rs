//! The four forms of a request-target (RFC 9112 §3.2), and what a host may look like.

use memchr::memchr;

use super::Malformed;
use crate::head::{Method, Span};

/// A request-target taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) authority: Option<Span>,
    /// Empty means `/`.
    pub(super) path: Span,
    pub(super) query: Option<Span>,
}

pub(super) fn parse_target(
    bytes: &[u8],
    target: Span,
    method: Method,
) -> Result<Target, Malformed> {
    let text = target.of(bytes);
    // No controls and no SP. `#` never belongs to a target (RFC 9112 §3.2 has no fragment); what some would cut off
    // others would send on. Bytes over 0x7f do not either, but every client sends them as the user typed them.
    if !text
        .iter()
        .fold(true, |ok, b| ok & (*b > b' ') & (*b != 0x7f) & (*b != b'#'))
    {
        return Err(Malformed::Target);
    }
    match text.first() {
        Some(b'/') => {
            let (path, query) = split_query(bytes, target);
            Ok(Target {
                authority: None,
                path,
                query,
            })
        }
        // RFC 9112 §3.2.4: asterisk-form is only for OPTIONS.
        Some(b'*') if text.len() == 1 && method == Method::Options => Ok(Target {
            authority: None,
            path: target,
            query: None,
        }),
        Some(_) => absolute(bytes, target),
        None => Err(Malformed::Target),
    }
}

/// RFC 9112 §3.2.2: absolute-form, which a server MUST accept.
fn absolute(bytes: &[u8], target: Span) -> Result<Target, Malformed> {
    let text = target.of(bytes);
    let scheme = ["http://", "https://"]
        .iter()
        .find(|s| text.len() > s.len() && text[..s.len()].eq_ignore_ascii_case(s.as_bytes()))
        .ok_or(Malformed::Target)?
        .len();
    let rest = &text[scheme..];
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    // RFC 9110 §4.2.4: userinfo SHOULD be treated as an error; §4.2.1: an empty host is invalid.
    if end == 0 || rest[0] == b':' || !valid_host(&rest[..end]) {
        return Err(Malformed::Target);
    }
    let start = target.start as usize + scheme;
    let (path, query) = split_query(bytes, Span::new(start + end, target.end as usize));
    Ok(Target {
        authority: Some(Span::new(start, start + end)),
        path,
        query,
    })
}

/// Path and query of an origin-form target.
pub(crate) fn split_query(bytes: &[u8], target: Span) -> (Span, Option<Span>) {
    match memchr(b'?', target.of(bytes)) {
        Some(at) => {
            let mark = target.start as usize + at;
            (
                Span::new(target.start as usize, mark),
                Some(Span::new(mark + 1, target.end as usize)),
            )
        }
        None => (target, None),
    }
}

/// RFC 9110 §7.2: Host = uri-host [ ":" port ]; empty when the target has no authority.
pub(crate) fn valid_host(value: &[u8]) -> bool {
    let (host, port) = match value.first() {
        Some(b'[') => {
            let Some(end) = memchr(b']', value) else {
                return false;
            };
            let literal = &value[1..end];
            if literal.is_empty()
                || !literal
                    .iter()
                    .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'v'))
            {
                return false;
            }
            (&b""[..], &value[end + 1..])
        }
        _ => value.split_at(memchr(b':', value).unwrap_or(value.len())),
    };
    // RFC 3986 §3.2.2: reg-name = *( unreserved / pct-encoded / sub-delims )
    let name_ok = host.iter().all(|b| {
        b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            )
    });
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    name_ok && port_ok
}
