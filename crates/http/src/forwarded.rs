//! Who the client is, and how servers are told: `trusted_proxies`, X-Forwarded-*, X-Real-IP, RFC 7239.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use fathom_codec::head::{Name, Request};
use fathom_core::ClientInfo;
use fathom_core::plan::ForwardedPlan;
use ipnet::IpNet;

/// What is known of a request's client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// Who asks: the peer, or whom trusted proxies name. Port 0 where only an address was named.
    pub(crate) source: SocketAddr,
    /// The peer is a trusted proxy: what it says of its client is kept.
    pub(crate) trusted: bool,
}

impl Client {
    pub(crate) fn of(info: &ClientInfo, trusted: &[IpNet], request: Request<'_>) -> Self {
        let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip.to_canonical()));
        if trusted.is_empty() || !is_trusted(info.peer.ip()) {
            return Self {
                source: info.peer,
                trusted: false,
            };
        }
        // From the right: each proxy appended whom it saw. The first that is not one of ours is the client; what
        // stands left of it is only what that client claimed.
        let mut source = info.peer;
        let lines: smallvec::SmallVec<[&[u8]; 4]> = request
            .fields()
            .filter(|f| f.id == Name::XForwardedFor)
            .map(|f| f.value)
            .collect();
        let hops = lines
            .iter()
            .rev()
            .flat_map(|line| line.rsplit(|b| *b == b','));
        for hop in hops {
            let Some(address) = parse_hop(hop.trim_ascii()) else {
                break;
            };
            source = address;
            if !is_trusted(address.ip()) {
                break;
            }
        }
        Self {
            source,
            trusted: true,
        }
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn parse_hop(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 0));
    }
    text.parse().ok().or_else(|| {
        let bare = text.strip_prefix('[')?.strip_suffix(']')?;
        Some(SocketAddr::new(IpAddr::V6(bare.parse().ok()?), 0))
    })
}

/// Writes one field, its value in parts.
type Put<'a> = dyn FnMut(&[u8], &[&[u8]]) + 'a;

/// Whether this field as it came is replaced by one of [`write`].
pub(crate) fn replaces(plan: &ForwardedPlan, name: Name) -> bool {
    match name {
        Name::XForwardedFor => plan.x_forwarded_for,
        Name::XForwardedProto => plan.x_forwarded_proto,
        Name::XForwardedHost => plan.x_forwarded_host,
        Name::XForwardedPort => plan.x_forwarded_port,
        Name::XRealIp => plan.x_real_ip,
        Name::Forwarded => plan.forwarded,
        _ => false,
    }
}

/// Whether this field says on whose behalf a request is made.
pub(crate) fn is_forwarding(name: Name) -> bool {
    matches!(
        name,
        Name::XForwardedFor
            | Name::XForwardedProto
            | Name::XForwardedHost
            | Name::XForwardedPort
            | Name::XRealIp
            | Name::Forwarded
    )
}

/// Writes the forwarding fields. What a trusted proxy said is kept and added to; what anyone else said is replaced.
pub(crate) fn write(
    plan: &ForwardedPlan,
    info: &ClientInfo,
    client: Client,
    request: Request<'_>,
    mut put: impl FnMut(&[u8], &[&[u8]]),
) {
    let peer = IpText::new(info.peer.ip());
    let proto: &[u8] = if info.tls.is_some() {
        b"https"
    } else {
        b"http"
    };
    let said = |name: Name| client.trusted.then(|| request.known(name)).flatten();
    let chain = |name: Name, own: &[u8], put: &mut Put<'_>, label: &[u8]| {
        if !client.trusted || request.known(name).is_none() {
            return put(label, &[own]);
        }
        let mut parts: smallvec::SmallVec<[&[u8]; 8]> = smallvec::SmallVec::new();
        for field in request
            .fields()
            .filter(|f| f.id == name && !f.value.is_empty())
        {
            parts.extend_from_slice(&[field.value, b", "]);
        }
        parts.push(own);
        put(label, &parts);
    };
    if plan.x_forwarded_for {
        chain(
            Name::XForwardedFor,
            peer.as_bytes(),
            &mut put,
            b"X-Forwarded-For",
        );
    }
    if plan.x_forwarded_proto {
        put(
            b"X-Forwarded-Proto",
            &[said(Name::XForwardedProto).unwrap_or(proto)],
        );
    }
    if plan.x_forwarded_host && !request.authority().is_empty() {
        put(
            b"X-Forwarded-Host",
            &[said(Name::XForwardedHost).unwrap_or(request.authority())],
        );
    }
    if plan.x_forwarded_port {
        let mut port = [0; 5];
        let own = decimal(info.local.port(), &mut port);
        put(
            b"X-Forwarded-Port",
            &[said(Name::XForwardedPort).unwrap_or(own)],
        );
    }
    if plan.x_real_ip {
        put(b"X-Real-IP", &[IpText::new(client.source.ip()).as_bytes()]);
    }
    if plan.forwarded {
        let element = rfc7239(info.peer.ip(), request.authority(), proto);
        chain(Name::Forwarded, &element, &mut put, b"Forwarded");
    }
}

/// RFC 7239 §4, §6: IPv6 in brackets and quoted; a host with a port is quoted.
fn rfc7239(peer: IpAddr, host: &[u8], proto: &[u8]) -> Vec<u8> {
    let mut text = match peer.to_canonical() {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    }
    .into_bytes();
    if !host.is_empty() {
        text.extend_from_slice(b";host=\"");
        // A valid host has neither quotes nor backslashes.
        text.extend_from_slice(host);
        text.push(b'"');
    }
    text.extend_from_slice(b";proto=");
    text.extend_from_slice(proto);
    text
}

/// An address as text, on the stack.
struct IpText {
    text: [u8; 46],
    len: usize,
}

impl IpText {
    fn new(ip: IpAddr) -> Self {
        let mut this = Self {
            text: [0; 46],
            len: 0,
        };
        match ip.to_canonical() {
            // By hand: the formatting machinery costs more than the rest of the head.
            IpAddr::V4(ip) => {
                for (i, octet) in ip.octets().into_iter().enumerate() {
                    if i > 0 {
                        this.push(b".");
                    }
                    this.push(decimal(u16::from(octet), &mut [0; 5]));
                }
            }
            IpAddr::V6(ip) => {
                // Cannot fail: 45 characters are the longest there are.
                let _ = write!(this, "{ip}");
            }
        }
        this
    }

    fn push(&mut self, bytes: &[u8]) {
        self.text[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl std::fmt::Write for IpText {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        if self.len + s.len() > self.text.len() {
            return Err(std::fmt::Error);
        }
        self.push(s.as_bytes());
        Ok(())
    }
}

fn decimal(mut n: u16, memory: &mut [u8; 5]) -> &[u8] {
    let mut at = 5;
    loop {
        at -= 1;
        memory[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &memory[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fathom_codec::h1::Limits;
    use fathom_codec::head::RequestHead;

    const ALL: ForwardedPlan = ForwardedPlan {
        x_forwarded_for: true,
        x_forwarded_proto: true,
        x_forwarded_host: true,
        x_forwarded_port: true,
        x_real_ip: true,
        forwarded: true,
    };

    fn run(peer: &str, trusted: &[&str], fields: &str) -> (String, Vec<String>) {
        let text = format!("GET / HTTP/1.1\r\nHost: a:81\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &Limits::default()).unwrap();
        let request = head.view(text.as_bytes());
        let info = ClientInfo::new(peer.parse().unwrap(), "10.0.0.9:8080".parse().unwrap());
        let trusted: Vec<IpNet> = trusted.iter().map(|t| t.parse().unwrap()).collect();
        let client = Client::of(&info, &trusted, request);
        let mut out = Vec::new();
        write(&ALL, &info, client, request, |name, value| {
            out.push(format!(
                "{}: {}",
                name.escape_ascii(),
                value.concat().escape_ascii()
            ));
        });
        (client.source.to_string(), out)
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let (source, out) = run(
            "192.0.2.7:5",
            &[],
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n",
        );
        assert_eq!(source, "192.0.2.7:5");
        assert_eq!(
            out,
            [
                "X-Forwarded-For: 192.0.2.7",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: a:81",
                "X-Forwarded-Port: 8080",
                "X-Real-IP: 192.0.2.7",
                "Forwarded: for=192.0.2.7;host=\\\"a:81\\\";proto=http",
            ]
        );
    }

    #[test]
    fn trusted_proxies_are_walked_from_the_right() {
        let table = [
            (
                "10.0.0.1:5",
                "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.2\r\n",
                "192.0.2.1:0",
            ),
            (
                "10.0.0.1:5",
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2\r\n",
                "192.0.2.1:0",
            ),
            (
                "10.0.0.1:5",
                "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n",
                "10.0.0.3:0",
            ),
            (
                "10.0.0.1:5",
                "X-Forwarded-For: 192.0.2.1, junk, 10.0.0.2\r\n",
                "10.0.0.2:0",
            ),
            (
                "10.0.0.1:5",
                "X-Forwarded-For: [2001:db8::1]:77\r\n",
                "[2001:db8::1]:77",
            ),
            ("10.0.0.1:5", "", "10.0.0.1:5"),
            ("192.0.2.9:5", "X-Forwarded-For: 1.1.1.1\r\n", "192.0.2.9:5"),
        ];
        for (peer, fields, source) in table {
            assert_eq!(
                run(peer, &["10.0.0.0/8"], fields).0,
                source,
                "{peer} {fields}"
            );
        }
    }

    #[test]
    fn what_a_trusted_proxy_said_is_added_to() {
        let (_, out) = run(
            "[2001:db8::9]:5",
            &["2001:db8::/32"],
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n",
        );
        assert_eq!(out[0], "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 2001:db8::9");
        assert_eq!(out[1], "X-Forwarded-Proto: https");
        assert_eq!(out[4], "X-Real-IP: 2.2.2.2");
        assert!(
            out[5].starts_with("Forwarded: for=1.1.1.1, for=\\\"[2001:db8::9]\\\";"),
            "{}",
            out[5]
        );
    }
}
