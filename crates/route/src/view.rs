//! What routing sees of a request: borrowed parts, so that a lookup allocates nothing.

use std::net::SocketAddr;

/// The header fields of a request, as its owner keeps them.
pub trait Headers {
    /// Calls `test` with the value of each field line named `name` (given in lower case, matched without
    /// case) until it returns true; whether it did.
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// No header fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn any(&self, _name: &str, _test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Headers for [(N, V)] {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.iter()
            .any(|(n, v)| n.as_ref().eq_ignore_ascii_case(name.as_bytes()) && test(v.as_ref()))
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Headers for Vec<(N, V)> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.as_slice().any(name, test)
    }
}

/// A request as routing sees it.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The method, as received.
    pub method: &'a [u8],
    /// The host as received, with or without a port; empty when there is none.
    pub host: &'a [u8],
    /// The path as received, without the query; `*` for `OPTIONS *`, empty for CONNECT.
    pub path: &'a [u8],
    /// What follows the `?`.
    pub query: Option<&'a [u8]>,
    /// The header fields.
    pub headers: &'a dyn Headers,
    /// The client (after PROXY protocol and trusted proxies).
    pub source: SocketAddr,
    /// The name asked for in the TLS handshake.
    pub sni: Option<&'a str>,
}

impl std::fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestView")
            .field("method", &self.method.escape_ascii().to_string())
            .field("host", &self.host.escape_ascii().to_string())
            .field("path", &self.path.escape_ascii().to_string())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The values of query parameter `name`, percent-decoded (`+` is a space), until `test` returns true.
pub(crate) fn any_query(
    query: Option<&[u8]>,
    name: &[u8],
    test: &mut dyn FnMut(&[u8]) -> bool,
) -> bool {
    let Some(query) = query else { return false };
    query
        .split(|&b| b == b'&')
        .filter(|pair| !pair.is_empty())
        .any(|pair| {
            let (key, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            with_decoded(key, |key| key == name) && with_decoded(value, &mut *test)
        })
}

/// The values of cookie `name` (RFC 6265 §4.2.1), until `test` returns true.
pub(crate) fn any_cookie(
    headers: &dyn Headers,
    name: &[u8],
    test: &mut dyn FnMut(&[u8]) -> bool,
) -> bool {
    headers.any("cookie", &mut |line| {
        line.split(|&b| b == b';').any(|pair| {
            let pair = pair.trim_ascii();
            memchr::memchr(b'=', pair)
                .is_some_and(|at| &pair[..at] == name && test(&pair[at + 1..]))
        })
    })
}

fn with_decoded<R>(text: &[u8], f: impl FnOnce(&[u8]) -> R) -> R {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return f(text);
    }
    let mut out = smallvec::SmallVec::<[u8; 128]>::new();
    let mut rest = text;
    while let Some((&b, tail)) = rest.split_first() {
        match crate::path::escape(rest) {
            Some(byte) => {
                out.push(byte);
                rest = &rest[3..];
            }
            None => {
                out.push(if b == b'+' { b' ' } else { b });
                rest = tail;
            }
        }
    }
    f(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded() {
        let seen = |query: &str, name: &str| {
            let mut all = Vec::new();
            any_query(Some(query.as_bytes()), name.as_bytes(), &mut |v| {
                all.push(String::from_utf8_lossy(v).into_owned());
                false
            });
            all
        };
        assert_eq!(seen("a=1&b=2&a=3", "a"), ["1", "3"]);
        assert_eq!(seen("a=x+y%21&&b", "a"), ["x y!"]);
        assert_eq!(seen("%61=1", "a"), ["1"]);
        assert_eq!(seen("b", "b"), [""]);
        assert_eq!(seen("a=%zz", "a"), ["%zz"]);
    }

    #[test]
    fn cookies_of_several_lines_are_seen() {
        let headers = vec![("Cookie", "a=1; b=2"), ("cookie", "c=3")];
        let has = |name: &str, value: &str| {
            any_cookie(&headers, name.as_bytes(), &mut |v| v == value.as_bytes())
        };
        assert!(has("a", "1") && has("b", "2") && has("c", "3"));
        assert!(!has("a", "2") && !has("d", ""));
    }
}
