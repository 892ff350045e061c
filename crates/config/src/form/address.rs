//! Addresses, prefixes, host names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use fathom_core::plan::{AdminBind, BindAddress, HostPattern, ServerAddress};
use ipnet::IpNet;

use super::Wrong;

fn port(text: &str) -> Result<u16, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(Wrong::new(format!("`{text}` is not a port (0 to 65535)"))),
    }
}

/// `10.0.0.1:80` or `[::1]:80`; `Ok(None)` for what does not look like an address.
fn socket(text: &str) -> Result<Option<SocketAddr>, Wrong> {
    if let Ok(addr) = text.parse() {
        return Ok(Some(addr));
    }
    if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return Err(Wrong::help(
            format!("`{text}` lacks a port"),
            format!("write \"[{text}]:80\""),
        ));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((ip, rest)) = rest.split_once(']') else {
            return Err(Wrong::new(format!("`{text}`: the bracket is not closed")));
        };
        if ip.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(Wrong::new(format!("`{ip}` is not an IPv6 address")));
        }
        return match rest.strip_prefix(':') {
            Some(p) => port(p).map(|_| None),
            None => Err(Wrong::help(
                format!("`{text}` lacks a port"),
                format!("write \"{text}:80\""),
            )),
        };
    }
    Ok(None)
}

/// `:80`, `10.0.0.1:80`, `[::1]:80`.
pub(crate) fn bind(text: &str) -> Result<BindAddress, Wrong> {
    if let Some(p) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
        return port(p).map(BindAddress::Any);
    }
    if text.starts_with("unix:") {
        return Err(Wrong::new("a listener cannot be bound to a unix socket"));
    }
    if let Some(addr) = socket(text)? {
        return Ok(BindAddress::Ip(addr));
    }
    if let Some((host, p)) = text.rsplit_once(':') {
        port(p)?;
        let message = format!("`{host}` is not an IP address");
        return Err(Wrong::help(
            message,
            "a listener is bound to an address of this machine: \"10.0.0.1:80\", \"[::1]:80\" or \":80\" for all",
        ));
    }
    let help = match text.parse::<u16>() {
        Ok(p) => format!("write \":{p}\" to listen on every local address"),
        Err(_) => format!("write \"{text}:80\""),
    };
    Err(Wrong::help(format!("`{text}` lacks a port"), help))
}

/// `127.0.0.1:9400`, `:9400` or `unix:/run/fathom.sock`.
pub(crate) fn admin_bind(text: &str) -> Result<AdminBind, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path).map(AdminBind::Unix);
    }
    Ok(AdminBind::Tcp(match bind(text)? {
        // One socket for both families.
        BindAddress::Any(port) => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port),
        BindAddress::Ip(addr) => addr,
    }))
}

fn unix(path: &str) -> Result<PathBuf, Wrong> {
    // The kernel's limit (unix(7)): sun_path is 108 bytes with its NUL.
    const LONGEST: usize = 107;
    if !path.starts_with('/') {
        return Err(Wrong::help(
            "the path of a unix socket must be absolute",
            "such as \"unix:/run/app.sock\"",
        ));
    }
    if path.len() > LONGEST || path.contains('\0') {
        return Err(Wrong::new(format!(
            "the path of a unix socket is at most {LONGEST} bytes"
        )));
    }
    Ok(path.into())
}

/// `10.0.0.10:3000`, `[::1]:80`, `unix:/run/app.sock`, `name.example:80`.
pub(crate) fn server(text: &str) -> Result<ServerAddress, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path).map(ServerAddress::Unix);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let message = format!("`{text}` is a URL, not an address");
        return Err(Wrong::help(
            message,
            format!(
                "write \"{}\" (without `{scheme}://`)",
                rest.trim_end_matches('/')
            ),
        ));
    }
    if let Some(addr) = socket(text)? {
        if addr.port() == 0 {
            return Err(Wrong::new("a server cannot be reached at port 0"));
        }
        return Ok(ServerAddress::Ip(addr));
    }
    let Some((host, p)) = text.rsplit_once(':') else {
        return Err(Wrong::help(
            format!("`{text}` lacks a port"),
            format!("write \"{text}:80\""),
        ));
    };
    if host.is_empty() {
        return Err(Wrong::help(
            format!("`{text}` lacks a host"),
            format!("write \"127.0.0.1{text}\""),
        ));
    }
    let port = port(p)?;
    if port == 0 {
        return Err(Wrong::new("a server cannot be reached at port 0"));
    }
    Ok(ServerAddress::Name {
        host: host_name(host)?,
        port,
    })
}

/// `10.0.0.0/8`, or one address.
pub(crate) fn net(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    let help = "such as \"10.0.0.0/8\", \"2001:db8::/32\" or one address";
    let net: IpNet = text
        .parse()
        .map_err(|_| Wrong::help(format!("`{text}` is not an address prefix"), help))?;
    match net.trunc() == net {
        true => Ok(net),
        false => {
            let message = format!("`{text}` has bits set beyond its length");
            Err(Wrong::help(
                message,
                format!(
                    "write \"{}\", or \"{}\" for the one address",
                    net.trunc(),
                    net.addr()
                ),
            ))
        }
    }
}

pub(crate) fn ip(text: &str) -> Result<IpAddr, Wrong> {
    text.parse()
        .map_err(|_| Wrong::new(format!("`{text}` is not an IP address")))
}

/// A name made of labels, in lower case, without trailing dot.
pub(crate) fn host_name(text: &str) -> Result<String, Wrong> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let wrong = |why: &str| Wrong::new(format!("`{text}` is not a host name{why}"));
    if name.len() > 253 {
        return Err(wrong(": it is longer than 253 characters"));
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(wrong(": each part has 1 to 63 characters"));
        }
        if let Some(c) = label
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
        {
            return Err(match c.is_ascii() {
                true => wrong(&format!(": it contains `{c}`")),
                false => Wrong::help(
                    wrong("").message,
                    "write international names in their ASCII form (xn--...)",
                ),
            });
        }
    }
    // A name such as 10.0.0.256 is a mistyped address.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong(" and not an IP address"));
    }
    Ok(name.to_ascii_lowercase())
}

/// `example.com`, `*.example.com`, or an address.
pub(crate) fn host(text: &str) -> Result<HostPattern, Wrong> {
    if let Some(suffix) = text.strip_prefix("*.") {
        return Ok(HostPattern::Suffix(format!(".{}", host_name(suffix)?)));
    }
    if text == "*" {
        return Err(Wrong::help(
            "`*` alone matches every host",
            "leave `host` out to match every host",
        ));
    }
    if text.contains('*') {
        return Err(Wrong::help(
            format!("`{text}`: a `*` stands only at the beginning"),
            "such as \"*.example.com\"",
        ));
    }
    if let Ok(v4) = text.parse::<std::net::Ipv4Addr>() {
        return Ok(HostPattern::Exact(v4.to_string()));
    }
    if let Some(v6) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return match v6.parse::<std::net::Ipv6Addr>() {
            Ok(v6) => Ok(HostPattern::Exact(format!("[{v6}]"))),
            Err(_) => Err(Wrong::new(format!("`{v6}` is not an IPv6 address"))),
        };
    }
    if let Some((name, p)) = text.rsplit_once(':')
        && port(p).is_ok()
    {
        return Err(Wrong::help(
            "a host is matched without its port",
            format!("write \"{name}\""),
        ));
    }
    host_name(text).map(HostPattern::Exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds() {
        assert_eq!(bind(":80"), Ok(BindAddress::Any(80)));
        assert_eq!(
            bind("[::1]:80"),
            Ok(BindAddress::Ip("[::1]:80".parse().unwrap()))
        );
        for text in [
            "80",
            "10.0.0.1",
            "::1",
            "[::1]",
            "[::1:80",
            ":99999",
            ":+80",
            "example.com:80",
            "unix:/a",
            "",
        ] {
            assert!(bind(text).is_err(), "{text}");
        }
        assert_eq!(
            bind("80").unwrap_err().help.unwrap(),
            "write \":80\" to listen on every local address"
        );
    }

    #[test]
    fn servers() {
        assert_eq!(
            server("10.0.0.1:80"),
            Ok(ServerAddress::Ip("10.0.0.1:80".parse().unwrap()))
        );
        assert_eq!(
            server("App.example.:80"),
            Ok(ServerAddress::Name {
                host: "app.example".into(),
                port: 80
            })
        );
        assert_eq!(
            server("unix:/run/x"),
            Ok(ServerAddress::Unix("/run/x".into()))
        );
        for text in [
            ":80",
            "10.0.0.1",
            "a",
            "a:0",
            "10.0.0.256:80",
            "http://a:80",
            "unix:x",
            "a b:80",
            "a..b:1",
        ] {
            assert!(server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_and_nets() {
        assert_eq!(
            host("*.Example.com"),
            Ok(HostPattern::Suffix(".example.com".into()))
        );
        assert_eq!(host("10.0.0.1"), Ok(HostPattern::Exact("10.0.0.1".into())));
        assert_eq!(host("[::1]"), Ok(HostPattern::Exact("[::1]".into())));
        assert!(
            host("*").is_err()
                && host("a.*").is_err()
                && host("a:80").is_err()
                && host("*.*.a").is_err()
        );
        assert!(net("10.0.0.0/8").is_ok() && net("10.1.1.1").is_ok());
        assert!(net("10.0.0.1/8").is_err() && net("10.0.0.0/33").is_err());
    }
}
