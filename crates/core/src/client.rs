//! Who is at the other end of a client's connection, as every depth knows it.

use std::net::SocketAddr;
use std::sync::Arc;

/// A client's connection: addresses, what a PROXY header said, what TLS found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client: from the socket, or from a PROXY protocol header of a trusted peer.
    pub peer: SocketAddr,
    /// The address the client asked for: of the socket, or from the PROXY header.
    pub local: SocketAddr,
    /// The peer of the socket itself; differs from `peer` behind a PROXY header.
    pub transport_peer: SocketAddr,
    /// TLVs of a PROXY v2 header (type, value), to be passed on.
    pub proxy_tlvs: Vec<(u8, Vec<u8>)>,
    /// What TLS found out; `None` on cleartext (and before passthrough).
    pub tls: Option<Arc<TlsInfo>>,
}

impl ClientInfo {
    /// A plain connection.
    #[must_use]
    pub const fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            peer,
            local,
            transport_peer: peer,
            proxy_tlvs: Vec::new(),
            tls: None,
        }
    }
}

/// What the TLS handshake with a client found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// The name the client asked for, lower case.
    pub sni: Option<Arc<str>>,
    /// The protocol agreed on by ALPN.
    pub alpn: Option<Vec<u8>>,
    /// `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// Whether the session was resumed.
    pub resumed: bool,
    /// The verified client certificate.
    pub identity: Option<ClientIdentity>,
}

/// A verified client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The subject's distinguished name (RFC 4514).
    pub subject: String,
    /// DNS, URI and email names.
    pub names: Vec<String>,
    /// SHA-256 of the certificate's DER, lower-case hexadecimal.
    pub fingerprint: String,
}
