//! The key that `balance = "hash"` chooses by.

use std::net::SocketAddr;

use fathom_core::hash;
use fathom_core::plan::HashOn;

use crate::host::Host;
use crate::path::Path;
use crate::view::{RequestView, any_cookie, any_query};

/// The key of a request. `None`: it has none (no such header, parameter, cookie or name); the balancer then
/// chooses as it would without one.
#[must_use]
pub fn hash_request(on: &HashOn, request: &RequestView<'_>) -> Option<u64> {
    let mut key = None;
    let mut keep = |value: &[u8]| {
        key = Some(hash::bytes(value));
        true
    };
    match on {
        HashOn::Path => return Some(hash::bytes(Path::new(request.path).as_bytes())),
        HashOn::Query(name) => any_query(request.query, name.as_bytes(), &mut keep),
        HashOn::Header(name) => request.headers.any(name, &mut keep),
        HashOn::Cookie(name) => any_cookie(request.headers, name.as_bytes(), &mut keep),
        HashOn::SourceIp | HashOn::SourceIpPort | HashOn::Sni => {
            return hash_connection(on, request.source, request.sni);
        }
    };
    key
}

/// The key of a connection or datagram flow. `None` for what only a request has (`check` refuses that), and for
/// a connection without SNI.
#[must_use]
pub fn hash_connection(on: &HashOn, source: SocketAddr, sni: Option<&str>) -> Option<u64> {
    match on {
        HashOn::SourceIp => Some(hash::ip(source.ip())),
        HashOn::SourceIpPort => Some(hash::socket(source)),
        HashOn::Sni => sni.map(|name| hash::bytes(Host::new(name.as_bytes()).as_bytes())),
        HashOn::Path | HashOn::Query(_) | HashOn::Header(_) | HashOn::Cookie(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::NoHeaders;

    #[test]
    fn keys_are_stable() {
        // Changing these moves every client of every fleet once.
        let v4: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5001".parse().unwrap();
        let on = HashOn::SourceIp;
        assert_eq!(
            hash_connection(&on, v4, None),
            hash_connection(&on, mapped, None)
        );
        assert_ne!(
            hash_connection(&HashOn::SourceIpPort, v4, None),
            hash_connection(&HashOn::SourceIpPort, mapped, None)
        );
        assert_eq!(
            hash_connection(&HashOn::Sni, v4, Some("A.b")),
            hash_connection(&HashOn::Sni, v4, Some("a.b."))
        );
        assert_eq!(hash_connection(&HashOn::Sni, v4, None), None);
    }

    #[test]
    fn a_request_without_the_key_has_none() {
        let headers = vec![("X-User", "7"), ("Cookie", "sid=9")];
        let mut request = RequestView {
            method: b"GET",
            host: b"h",
            path: b"/a",
            query: Some(b"q=1"),
            headers: &headers,
            source: "192.0.2.1:5000".parse().unwrap(),
            sni: None,
        };
        let all = [
            HashOn::Header("x-user".into()),
            HashOn::Cookie("sid".into()),
            HashOn::Query("q".into()),
        ];
        assert!(all.iter().all(|on| hash_request(on, &request).is_some()));
        request.headers = &NoHeaders;
        request.query = None;
        assert!(all.iter().all(|on| hash_request(on, &request).is_none()));
        assert!(hash_request(&HashOn::Path, &request).is_some());
    }
}
