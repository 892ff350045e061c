//! A listener's side: handshakes with clients.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use fathom_core::plan::{ClientAuthPlan, TlsListenerPlan, TlsProtocol};
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificates::{BySni, CertificateStatus, Entry};
use crate::error::{ConfigError, HandshakeError};
use crate::{files, tickets};

/// Buffered plaintext to be written that a connection may hold, bytes: backpressure beyond it.
const WRITE_BUFFER: usize = 64 * 1024;

/// Makes TLS connections of a listener's connections. Shared by all workers.
#[derive(Debug)]
pub struct Acceptor {
    plan: TlsListenerPlan,
    ticket_source: tickets::Source,
    current: ArcSwap<Current>,
}

/// What files gave when they were last read.
#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    entries: Vec<Entry>,
    /// How clients are authenticated, and the keys of the tickets that vouch for those who were.
    scope: tickets::Scope,
    tickets: Arc<dyn ProducesTickets>,
    /// Why the other files (client CA, CRLs) as they are now cannot be used.
    error: Option<String>,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The name the client asked for, lower case.
    pub sni: Option<String>,
    /// Whether HTTP/2 was agreed on by ALPN.
    pub h2: bool,
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// Whether the session was resumed.
    pub resumed: bool,
    /// The verified client certificate's subject (RFC 4514 as x509-parser prints it), printable ASCII only.
    pub client: Option<String>,
}

impl Acceptor {
    /// Reads every file of `plan`. Ticket keys are taken over from `previous`, so that a reload costs no resumption;
    /// unless clients are now authenticated in another way, which no older ticket may get around.
    ///
    /// # Errors
    /// Each file that cannot be used.
    pub fn new(
        plan: &TlsListenerPlan,
        previous: Option<&Self>,
    ) -> Result<Arc<Self>, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut keep = |result: Result<Entry, ConfigError>| result.map_err(|e| errors.push(e)).ok();
        let entries: Vec<_> = plan
            .certificates
            .iter()
            .filter_map(|c| keep(Entry::load(c)))
            .collect();
        let mut keep = |result: Result<_, ConfigError>| result.map_err(|e| errors.push(e)).ok();
        let clients = keep(Clients::read(plan.client_auth.as_ref()));
        let ticket_source = tickets::Source::of(plan).map_err(|e| errors.push(e)).ok();
        let built = clients.zip(ticket_source).map(|(clients, source)| {
            let old = previous
                .filter(|p| p.plan.ticket_keys.is_none() && plan.ticket_keys.is_none())
                .map(|p| p.current.load_full());
            let current = Current::build(plan, entries, &clients, &source, old.as_deref())?;
            Ok(Self {
                plan: plan.clone(),
                ticket_source: source,
                current: ArcSwap::from_pointee(current),
            })
        });
        match built {
            Some(Ok(acceptor)) if errors.is_empty() => Ok(Arc::new(acceptor)),
            Some(Err(error)) => {
                errors.push(error);
                Err(errors)
            }
            _ => Err(errors),
        }
    }

    /// Reads the files again and swaps what changed; a bad file keeps what it gave before.
    /// Connections made before are not touched, but tickets of clients that were authenticated by other roots or
    /// revocation lists are no longer good. Returns whether anything new is in force.
    pub fn refresh(&self) -> bool {
        let before = self.current.load_full();
        let entries: Vec<_> = before.entries.iter().map(Entry::again).collect();
        let pairs_changed = entries
            .iter()
            .zip(&before.entries)
            .any(|(new, old)| !new.same_pair(old));
        let built = Clients::read(self.plan.client_auth.as_ref()).and_then(|clients| {
            let entries = entries.clone();
            Current::build(
                &self.plan,
                entries,
                &clients,
                &self.ticket_source,
                Some(&before),
            )
        });
        let current = built.unwrap_or_else(|error| Current {
            config: before.config.clone(),
            entries,
            scope: before.scope,
            tickets: before.tickets.clone(),
            error: Some(error.to_string()),
        });
        let changed = pairs_changed || current.scope != before.scope;
        self.current.store(Arc::new(current));
        changed
    }

    /// The certificates as they are served now.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        self.current
            .load()
            .entries
            .iter()
            .map(Entry::status)
            .collect()
    }

    /// What is wrong with the files as they are now, if anything.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let current = self.current.load();
        let pairs = current.entries.iter().filter_map(|e| e.status().error);
        pairs.chain(current.error.clone()).collect()
    }

    /// Every file that is read, for watching.
    #[must_use]
    pub fn files(&self) -> HashSet<PathBuf> {
        let mut files = HashSet::new();
        for entry in &self.current.load().entries {
            let plan = entry.plan();
            files.extend([plan.cert.clone(), plan.key.clone()]);
            files.extend(plan.ocsp.clone());
        }
        if let Some(auth) = &self.plan.client_auth {
            files.insert(auth.ca.clone());
            files.extend(auth.crl.iter().cloned());
        }
        files
    }

    /// The plan it was made from.
    #[must_use]
    pub fn plan(&self) -> &TlsListenerPlan {
        &self.plan
    }

    /// Completes a handshake. `peeked` is what was already read from `io`. The caller bounds the time: dropping the
    /// future ends the attempt.
    ///
    /// # Errors
    /// Why there is no session; the client has been sent an alert where one fits.
    pub async fn accept<IO>(
        &self,
        io: IO,
        peeked: Bytes,
    ) -> Result<(ServerStream<IO>, Session), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.current.load().config.clone();
        let io = Prefixed { prefix: peeked, io };
        let stream = tokio_rustls::TlsAcceptor::from(config)
            .accept_with(io, |connection| {
                connection.set_buffer_limit(Some(WRITE_BUFFER))
            })
            .await
            .map_err(|e| HandshakeError::from_io(&e))?;
        let (_, connection) = stream.get_ref();
        let session = Session {
            sni: connection.server_name().map(str::to_ascii_lowercase),
            h2: connection.alpn_protocol() == Some(b"h2"),
            version: version_name(connection.protocol_version()),
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            client: connection
                .peer_certificates()
                .and_then(|chain| subject(chain.first()?)),
        };
        Ok((ServerStream(stream), session))
    }
}

fn version_name(version: Option<rustls::ProtocolVersion>) -> &'static str {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

/// A certificate's subject in a form that is safe in a header field: whatever is not printable ASCII becomes `?`.
fn subject(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let text = parsed.subject().to_string();
    Some(
        text.chars()
            .map(|c| {
                if c.is_ascii_graphic() || c == ' ' {
                    c
                } else {
                    '?'
                }
            })
            .collect(),
    )
}

impl Current {
    /// `old` gives its ticket keys if its clients were authenticated in the same way.
    fn build(
        plan: &TlsListenerPlan,
        entries: Vec<Entry>,
        clients: &Clients,
        source: &tickets::Source,
        old: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let scope = clients.scope;
        let tickets = match old.filter(|old| old.scope == scope) {
            Some(old) => old.tickets.clone(),
            None => source.keys(scope)?,
        };
        let mut config = ServerConfig::builder_with_provider(crate::provider().clone())
            .with_protocol_versions(crate::versions(plan.min_version))
            .map_err(ConfigError::other)?
            .with_client_cert_verifier(clients.verifier.clone())
            .with_cert_resolver(Arc::new(BySni::new(&entries)));
        config.alpn_protocols = plan
            .protocols
            .iter()
            .map(|p| match p {
                TlsProtocol::H2 => b"h2".to_vec(),
                TlsProtocol::Http1 => b"http/1.1".to_vec(),
            })
            .collect();
        // Resumption is by tickets alone: nothing is kept here per session, and a fleet can share the keys.
        config.ticketer = tickets.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config: Arc::new(config),
            entries,
            scope,
            tickets,
            error: None,
        })
    }
}

/// How clients are authenticated.
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Of the very bytes the verifier was made of.
    scope: tickets::Scope,
}

impl Clients {
    fn read(auth: Option<&ClientAuthPlan>) -> Result<Self, ConfigError> {
        let Some(auth) = auth else {
            return Ok(Self {
                verifier: WebPkiClientVerifier::no_client_auth(),
                scope: tickets::Scope::anonymous(),
            });
        };
        let ca = files::read(&auth.ca)?;
        let roots = files::roots_in(&ca, &auth.ca)?;
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(roots, crate::provider().clone());
        let mut lists = Vec::with_capacity(auth.crl.len());
        for path in &auth.crl {
            let bytes = files::read(path)?;
            builder = builder.with_crls(files::crls_in(&bytes, path)?);
            lists.push(bytes);
        }
        if !auth.crl.is_empty() {
            // A list speaks for its issuer only; clients of other issuers are judged by their signatures.
            builder = builder
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status();
        }
        if !auth.required {
            builder = builder.allow_unauthenticated();
        }
        let lists = lists.iter().map(Vec::as_slice);
        Ok(Self {
            scope: tickets::Scope::authenticated(auth.required, &ca, lists),
            verifier: builder
                .build()
                .map_err(|e| ConfigError::file(&auth.ca, e))?,
        })
    }
}

/// A client's TLS connection.
#[derive(Debug)]
pub struct ServerStream<IO>(tokio_rustls::server::TlsStream<Prefixed<IO>>);

impl<IO> ServerStream<IO> {
    /// What it runs on.
    #[must_use]
    pub fn io(&self) -> &IO {
        &self.0.get_ref().0.io
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Gives back first what was read ahead.
#[derive(Debug)]
struct Prefixed<IO> {
    prefix: Bytes,
    io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix.split_to(n));
        if self.prefix.is_empty() {
            self.prefix = Bytes::new(); // lets go of the allocation
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
