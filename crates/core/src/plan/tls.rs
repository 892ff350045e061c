//! TLS, towards clients and towards servers. Paths are absolute or relative to the file that names them (already joined).

use std::path::PathBuf;

use super::Rate;

/// `[listeners.NAME.tls]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsListenerPlan {
    /// Pairs chosen by SNI; the first is the default. Files are watched.
    pub certificates: Vec<CertificatePlan>,
    /// Default 1.2.
    pub min_version: TlsVersion,
    /// Offered by ALPN in this order. Default h2, http1.
    pub protocols: Vec<TlsProtocol>,
    /// Ask for client certificates signed by these.
    pub client_auth: Option<ClientAuthPlan>,
    /// `ticket_keys`: a file of 48- or 80-byte keys shared by a fleet (newest first); `None` = own keys, rotated.
    pub ticket_keys: Option<PathBuf>,
    /// `handshake_rate`: new handshakes of the listener; `None` = no limit.
    pub handshake_rate: Option<Rate>,
    /// `redirect_http = true`: cleartext binds answer 308 to https.
    pub redirect_http: bool,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePlan {
    /// PEM chain, leaf first.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// DER OCSP response to staple.
    pub ocsp: Option<PathBuf>,
}

/// `client_ca`, `client_auth`, `client_crl`, `client_identity_header`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthPlan {
    /// PEM bundle.
    pub ca: PathBuf,
    /// Whether a client without one is refused.
    pub required: bool,
    /// PEM revocation lists.
    pub crl: Vec<PathBuf>,
    /// Header that carries the client's identity (subject) to servers; stripped from what clients send.
    pub identity_header: Option<String>,
}

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// What ALPN offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TlsProtocol {
    H2,
    Http1,
}

/// `tls` of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsClientPlan {
    /// Name sent and verified; default the server's host name.
    pub server_name: Option<String>,
    /// PEM bundle; default the public web roots.
    pub ca: Option<PathBuf>,
    /// Certificate and key Fathom shows.
    pub client: Option<(PathBuf, PathBuf)>,
    /// `verify = false` turns verification off. Default true.
    pub verify: bool,
}
