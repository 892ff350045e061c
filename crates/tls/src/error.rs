//! What can go wrong, by who is to blame.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file or setting that cannot be used (the operator's to mend).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, where it is about one.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub what: String,
}

impl ConfigError {
    pub(crate) fn file(path: &Path, what: impl fmt::Display) -> Self {
        Self {
            path: Some(path.to_owned()),
            what: what.to_string(),
        }
    }

    pub(crate) fn other(what: impl fmt::Display) -> Self {
        Self {
            path: None,
            what: what.to_string(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why a handshake did not complete. The far side has been sent the matching alert where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The bytes are not TLS, or not a well-formed message of it.
    NotTls,
    /// No protocol version in common.
    Version,
    /// No cipher suite, group or signature scheme in common.
    NoCommonParameters,
    /// No application protocol in common (RFC 7301).
    Alpn,
    /// No certificate that the client can use.
    NoCertificate,
    /// A required client certificate was not shown.
    ClientCertificateMissing,
    /// The far side's certificate was refused; why (revoked, expired, unknown issuer, wrong name ...).
    Certificate(String),
    /// The far side sent this alert.
    Alert(String),
    /// The connection ended in the middle of the handshake.
    Closed,
    /// Anything else, in words.
    Other(String),
}

impl HandshakeError {
    /// A short code for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotTls => "tls-not-tls",
            Self::Version => "tls-version",
            Self::NoCommonParameters => "tls-no-common-parameters",
            Self::Alpn => "tls-alpn",
            Self::NoCertificate => "tls-no-certificate",
            Self::ClientCertificateMissing => "tls-client-certificate-missing",
            Self::Certificate(_) => "tls-certificate-refused",
            Self::Alert(_) => "tls-alert",
            Self::Closed => "tls-closed",
            Self::Other(_) => "tls-error",
        }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        let Some(tls) = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>())
        else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted => Self::Closed,
                _ => Self::Other(error.to_string()),
            };
        };
        Self::from_tls(tls)
    }

    fn from_tls(error: &rustls::Error) -> Self {
        use rustls::{Error as E, PeerIncompatible as P};
        match error {
            E::InvalidMessage(_)
            | E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. } => Self::NotTls,
            E::PeerIncompatible(
                P::Tls12NotOffered
                | P::Tls12NotOfferedOrEnabled
                | P::Tls13RequiredForQuic
                | P::SupportedVersionsExtensionRequired
                | P::ServerDoesNotSupportTls12Or13
                | P::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::Version,
            E::PeerIncompatible(_) => Self::NoCommonParameters,
            E::NoApplicationProtocol => Self::Alpn,
            E::NoCertificatesPresented => Self::ClientCertificateMissing,
            E::InvalidCertificate(why) => Self::Certificate(format!("{why:?}")),
            E::InvalidCertRevocationList(why) => Self::Certificate(format!("{why:?}")),
            E::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            E::General(what) if what.contains("no server certificate chain resolved") => {
                Self::NoCertificate
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("not TLS"),
            Self::Version => f.write_str("no TLS version in common"),
            Self::NoCommonParameters => {
                f.write_str("no cipher, group or signature scheme in common")
            }
            Self::Alpn => f.write_str("no application protocol in common"),
            Self::NoCertificate => f.write_str("no certificate for this client"),
            Self::ClientCertificateMissing => f.write_str("the client showed no certificate"),
            Self::Certificate(why) => write!(f, "certificate refused: {why}"),
            Self::Alert(alert) => write!(f, "the far side sent the alert {alert}"),
            Self::Closed => f.write_str("closed during the handshake"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for HandshakeError {}
