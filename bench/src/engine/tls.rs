//! A client's side of TLS: the same offer to everyone, as cheap for the load's core as it can be.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme,
};

/// What a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A full handshake each time.
    Full,
    /// The ticket from the connection before.
    Resumption,
}

/// TLS over one client's connection (after another).
pub(super) struct Session {
    config: Arc<ClientConfig>,
    connection: ClientConnection,
    outgoing: Vec<u8>,
}

impl Session {
    pub(super) fn new(offer: Offer) -> io::Result<Self> {
        let config = config(offer);
        let connection = connect(&config)?;
        Ok(Self {
            config,
            connection,
            outgoing: Vec::new(),
        })
    }

    /// For a new connection.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.outgoing.clear();
        self.connection = connect(&self.config)?;
        Ok(())
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Sends `bytes`, the handshake before them if need be.
    pub(super) fn send(&mut self, stream: &TcpStream, bytes: &[u8]) -> Result<usize, Errno> {
        // On a retry (the connection was not there yet) they are already inside.
        if self.outgoing.is_empty() {
            self.connection
                .writer()
                .write_all(bytes)
                .map_err(|_| Errno::IO)?;
        }
        self.flush(stream)?;
        Ok(bytes.len())
    }

    fn flush(&mut self, stream: &TcpStream) -> Result<(), Errno> {
        while self.connection.wants_write() {
            self.connection
                .write_tls(&mut self.outgoing)
                .map_err(|_| Errno::IO)?;
        }
        if !self.outgoing.is_empty() {
            let sent = send(stream, &self.outgoing, SendFlags::NOSIGNAL)?;
            self.outgoing.drain(..sent);
        }
        Ok(())
    }

    /// Takes the `n` bytes in `buffer` and leaves there what they say; gives its length.
    pub(super) fn received(
        &mut self,
        stream: &TcpStream,
        buffer: &mut [u8],
        n: usize,
    ) -> io::Result<usize> {
        let mut wire = &buffer[..n];
        let mut plain = Vec::new();
        while !wire.is_empty() {
            self.connection.read_tls(&mut wire)?;
            let state = self
                .connection
                .process_new_packets()
                .map_err(io::Error::other)?;
            let begin = plain.len();
            plain.resize(begin + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[begin..])?;
        }
        self.flush(stream)?;
        buffer[..plain.len()].copy_from_slice(&plain);
        Ok(plain.len())
    }
}

fn connect(config: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    let name = ServerName::try_from("bench.example").map_err(io::Error::other)?;
    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)
}

/// TLS 1.3, X25519, AES-128-GCM: what every contender has, so that all do the same sums.
fn config(offer: Offer) -> Arc<ClientConfig> {
    static FULL: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = |resumption| {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider = Arc::new(provider);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap_or_else(|e| unreachable!("constant: {e}"))
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = resumption;
        Arc::new(config)
    };
    match offer {
        Offer::Full => Arc::clone(FULL.get_or_init(|| make(Resumption::disabled()))),
        // A store for each client: a ticket is good once, and nobody takes another's.
        Offer::Resumption => make(Resumption::store(Arc::new(ClientSessionMemoryCache::new(
            2,
        )))),
    }
}

/// Takes every certificate: checking them would only load the load's core.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
