//! A URL, as far as `explain` needs one.

use super::CannotExplain;

/// `scheme://host:port/path?query`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) tls: bool,
    /// Without port, IPv6 in brackets.
    pub(super) host: String,
    /// As written: with the port, if there was one.
    pub(super) authority: String,
    pub(super) port: Option<u16>,
    pub(super) path: String,
    pub(super) query: Option<String>,
}

/// What arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Connection,
    Datagram,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, CannotExplain> {
        let wrong = |why: &str| CannotExplain(format!("`{url}` is not a URL: {why}"));
        if url.bytes().any(|b| b.is_ascii_control() || b == b' ') {
            return Err(wrong("it contains spaces or control characters"));
        }
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("write http://HOST/PATH"))?;
        let (kind, tls) = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => (Kind::Request, false),
            "https" | "wss" => (Kind::Request, true),
            "tcp" => (Kind::Connection, false),
            "tls" => (Kind::Connection, true),
            "udp" => (Kind::Datagram, false),
            other => {
                return Err(wrong(&format!(
                    "`{other}` is none of http, https, tcp, tls, udp"
                )));
            }
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = port
                    .parse()
                    .map_err(|_| wrong(&format!("`{port}` is not a port")))?;
                (host, Some(port))
            }
            _ => (authority, None),
        };
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Ok(Self {
            kind,
            tls,
            host: host.to_ascii_lowercase(),
            authority: authority.to_owned(),
            port,
            path: if path.is_empty() {
                "/".into()
            } else {
                path.to_owned()
            },
            query,
        })
    }

    pub(super) fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let t = Target::parse("HTTPS://Example.com:8443/a/b?c=d#e").unwrap();
        assert_eq!(
            (&*t.host, &*t.authority, t.port),
            ("example.com", "Example.com:8443", Some(8443))
        );
        assert_eq!((t.tls, t.path_and_query()), (true, "/a/b?c=d".into()));
        assert_eq!(Target::parse("http://[::1]").unwrap().host, "[::1]");
        assert_eq!(
            Target::parse("http://[::1]:80?x").unwrap().path_and_query(),
            "/?x"
        );
        for url in [
            "",
            "example.com",
            "ftp://a/",
            "http://",
            "http://a:b/",
            "http://a b/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
