//! TLS behind one door: every rustls type of Fathom lives in this crate.
//!
//! [`Acceptor`] is a listener's side: certificates chosen by SNI, swapped when their files change,
//! client certificates, tickets. [`Connector`] is a pool's side. Both work on any
//! `AsyncRead + AsyncWrite`; neither knows sockets, routes or pools.
#![forbid(unsafe_code)]

mod accept;
mod certificates;
mod connect;
mod error;
mod files;
mod tickets;
mod watch;

pub use accept::{Acceptor, ServerStream, Session};
pub use certificates::CertificateStatus;
pub use connect::{ClientStream, Connector};
pub use error::{ConfigError, HandshakeError};
pub use watch::Watcher;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// aws-lc-rs with X25519MLKEM768 offered first (draft-ietf-tls-ecdhe-mlkem).
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// The protocol versions from `min` on.
pub(crate) fn versions(
    min: fathom_core::plan::TlsVersion,
) -> &'static [&'static rustls::SupportedProtocolVersion] {
    match min {
        fathom_core::plan::TlsVersion::V1_2 => rustls::DEFAULT_VERSIONS,
        fathom_core::plan::TlsVersion::V1_3 => {
            static ONLY_1_3: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
            &ONLY_1_3
        }
    }
}
