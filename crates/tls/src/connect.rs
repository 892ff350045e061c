//! A pool's side: handshakes with servers.

use std::net::IpAddr;
use std::sync::Arc;

use fathom_core::plan::{ServerProtocol, TlsClientPlan};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{ConfigError, HandshakeError};
use crate::files;

/// A server's TLS connection.
pub type ClientStream<IO> = tokio_rustls::client::TlsStream<IO>;

/// Makes TLS connections to a pool's servers. Sessions are resumed per server name.
#[derive(Debug)]
pub struct Connector {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Connector {
    /// Reads the plan's files. `protocol` decides what ALPN offers.
    ///
    /// # Errors
    /// Each file or name that cannot be used.
    pub fn new(plan: &TlsClientPlan, protocol: ServerProtocol) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut keep = |e: ConfigError| errors.push(e);
        let server_name = plan.server_name.as_ref().and_then(|name| {
            ServerName::try_from(name.clone())
                .map_err(|_| {
                    keep(ConfigError::other(format_args!(
                        "server_name \"{name}\" is not a host name"
                    )))
                })
                .ok()
        });
        let roots = match &plan.ca {
            Some(path) => files::roots(path).map_err(&mut keep).ok(),
            None => Some(Arc::new(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            })),
        };
        let own = plan
            .client
            .as_ref()
            .and_then(|(cert, key)| files::pair(cert, key, None).map_err(&mut keep).ok());
        let (Some(roots), true) = (roots, errors.is_empty()) else {
            return Err(errors);
        };
        let builder = ClientConfig::builder_with_provider(crate::provider().clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| vec![ConfigError::other(e)])?
            .with_root_certificates(roots);
        let mut config = match own {
            Some(pair) => builder
                .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair))),
            None => builder.with_no_client_auth(),
        };
        if !plan.verify {
            config
                .dangerous()
                .set_certificate_verifier(Arc::new(Unverified));
        }
        config.alpn_protocols = match protocol {
            ServerProtocol::Http1 => vec![b"http/1.1".to_vec()],
            ServerProtocol::Http2 | ServerProtocol::Grpc => vec![b"h2".to_vec()],
        };
        Ok(Self {
            config: Arc::new(config),
            server_name,
        })
    }

    /// A connector without ALPN that accepts any certificate: what a `tls = true` probe uses where the pool itself does
    /// not speak TLS. It asks whether a handshake completes, not with whom.
    #[must_use]
    pub fn probe() -> Self {
        let builder = ClientConfig::builder_with_provider(crate::provider().clone())
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has the default versions");
        let mut config = builder
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(Unverified));
        Self {
            config: Arc::new(config),
            server_name: None,
        }
    }

    /// Completes a handshake on `io`. The name verified is the plan's `server_name`, else `host` (a host name from the
    /// configuration), else the address. The caller bounds the time.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn connect<IO>(
        &self,
        io: IO,
        host: Option<&str>,
        address: IpAddr,
    ) -> Result<ClientStream<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match (
            &self.server_name,
            host.and_then(|h| ServerName::try_from(h.to_owned()).ok()),
        ) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name,
            (None, None) => ServerName::IpAddress(address.into()),
        };
        tokio_rustls::TlsConnector::from(self.config.clone())
            .connect(name, io)
            .await
            .map_err(|e| HandshakeError::from_io(&e))
    }
}

/// Accepts any certificate (`verify = false`); the signature over the handshake is still checked.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &crate::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &crate::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crate::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
