//! Session tickets: keys of our own, rotated; or keys from a file that a fleet shares.
//!
//! A resumed session is not asked for its client certificate again: the ticket vouches for the client. So no ticket may
//! be good for anything but the [`Scope`] it was made in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, rand};
use fathom_core::plan::TlsListenerPlan;
use rustls::server::ProducesTickets;

use crate::error::ConfigError;

/// How long a ticket from a shared file is worth offering: the operator rotates the file.
const SHARED_LIFETIME_SECONDS: u32 = 12 * 3600;
/// Bytes of a ticket before the ciphertext: the key's name and the nonce.
const HEADER: usize = NAME + NONCE_LEN;
const NAME: usize = 16;

/// How clients are authenticated, as a hash: whether they are at all, whether they must be, by which roots and
/// revocation lists. Where the two are equal, a ticket of one may be accepted by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope([u8; 32]);

impl Scope {
    /// Clients are not asked who they are.
    pub(crate) fn anonymous() -> Self {
        Self::of(b"none", [])
    }

    /// Clients are asked, by the contents of these files.
    pub(crate) fn authenticated<'a>(
        required: bool,
        ca: &'a [u8],
        crls: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let how: &[u8] = if required { b"required" } else { b"optional" };
        Self::of(how, std::iter::once(ca).chain(crls))
    }

    fn of<'a>(how: &'a [u8], files: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in std::iter::once(how).chain(files) {
            // With its length, so that no two lists of parts look the same.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut scope = [0; 32];
        scope.copy_from_slice(hash.finish().as_ref());
        Self(scope)
    }
}

/// Where a listener's keys come from.
pub(crate) enum Source {
    /// Made here.
    Own,
    /// What the file held, kept: after the start it may no longer be readable.
    Shared(Box<[u8]>, PathBuf),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("Own"),
            Self::Shared(_, path) => write!(f, "Shared({})", path.display()),
        }
    }
}

impl Source {
    pub(crate) fn of(plan: &TlsListenerPlan) -> Result<Self, ConfigError> {
        let Some(path) = &plan.ticket_keys else {
            return Ok(Self::Own);
        };
        let bytes = std::fs::read(path).map_err(|e| ConfigError::file(path, e))?;
        Ok(Self::Shared(bytes.into(), path.clone()))
    }

    /// Keys for that scope: new ones, or those every machine of the fleet has for it.
    pub(crate) fn keys(&self, scope: Scope) -> Result<Arc<dyn ProducesTickets>, ConfigError> {
        match self {
            Self::Own => rotating(),
            Self::Shared(bytes, path) => shared(bytes, path, scope),
        }
    }
}

/// Keys of this process, rotated every six hours by rustls and accepted for twelve.
fn rotating() -> Result<Arc<dyn ProducesTickets>, ConfigError> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
        .map_err(|e| ConfigError::other(format_args!("cannot make session ticket keys: {e}")))
}

/// Keys from a file: 48 or 80 bytes each, as nginx's `ssl_session_ticket_key` takes them, the newest first.
///
/// The newest encrypts, all decrypt. The first 16 bytes of a key are its name; the cipher key is derived
/// (HKDF-SHA256) from the rest and the scope, so a file of either size gives AES-256-GCM, and listeners that
/// authenticate clients differently do not accept each other's tickets.
fn shared(
    bytes: &[u8],
    path: &Path,
    scope: Scope,
) -> Result<Arc<dyn ProducesTickets>, ConfigError> {
    let size = match bytes.len() {
        0 => {
            return Err(ConfigError::file(
                path,
                "is empty; ticket keys are 48 or 80 random bytes each",
            ));
        }
        n if n % 80 == 0 => 80,
        n if n % 48 == 0 => 48,
        n => {
            return Err(ConfigError::file(
                path,
                format_args!("has {n} bytes; ticket keys are 48 or 80 random bytes each"),
            ));
        }
    };
    let keys = bytes
        .chunks_exact(size)
        .map(|material| Key::derive(material, scope))
        .collect::<Option<Vec<_>>>();
    let keys = keys.ok_or_else(|| ConfigError::file(path, "a ticket key could not be derived"))?;
    Ok(Arc::new(Shared { keys }))
}

struct Key {
    name: [u8; NAME],
    cipher: LessSafeKey,
}

impl Key {
    fn derive(material: &[u8], scope: Scope) -> Option<Self> {
        struct Length;
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                32
            }
        }
        let (name, secret) = material.split_first_chunk::<NAME>()?;
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"fathom session tickets").extract(secret);
        let mut key = [0; 32];
        prk.expand(&[b"aes-256-gcm", &scope.0], Length)
            .ok()?
            .fill(&mut key)
            .ok()?;
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?);
        Some(Self {
            name: *name,
            cipher,
        })
    }
}

struct Shared {
    keys: Vec<Key>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({} keys)", self.keys.len())
    }
}

impl ProducesTickets for Shared {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        SHARED_LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.cipher
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&key.name),
                &mut sealed,
            )
            .ok()?;
        let mut ticket = Vec::with_capacity(HEADER + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = self.keys.iter().find(|key| key.name == *name)?;
        let mut plain = sealed.to_vec();
        let length = key
            .cipher
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(&key.name),
                &mut plain,
            )
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared_in(bytes: &[u8], scope: Scope) -> Result<Arc<dyn ProducesTickets>, ConfigError> {
        Source::Shared(bytes.into(), "ticket.keys".into()).keys(scope)
    }

    fn shared(bytes: &[u8]) -> Result<Arc<dyn ProducesTickets>, ConfigError> {
        shared_in(bytes, Scope::anonymous())
    }

    #[test]
    fn a_ticket_is_good_only_where_clients_are_authenticated_the_same_way() {
        let scopes = [
            Scope::anonymous(),
            Scope::authenticated(false, b"roots", []),
            Scope::authenticated(true, b"roots", []),
            Scope::authenticated(true, b"others", []),
            Scope::authenticated(true, b"roots", [b"revoked".as_slice()]),
            Scope::authenticated(true, b"roots", [b"rev".as_slice(), b"oked"]),
            Scope::authenticated(true, b"rootsrevoked", []),
        ];
        for (i, made) in scopes.iter().enumerate() {
            let ticket = shared_in(&[7; 48], *made)
                .expect("48 bytes")
                .encrypt(b"state")
                .expect("encrypted");
            for (j, shown) in scopes.iter().enumerate() {
                let there = shared_in(&[7; 48], *shown).expect("48 bytes");
                assert_eq!(there.decrypt(&ticket).is_some(), i == j, "{i} at {j}");
            }
        }
    }

    #[test]
    fn a_fleet_opens_each_others_tickets_and_old_keys_still_open() {
        let (old, new) = ([7_u8; 48], [9_u8; 48]);
        let before = shared(&old).expect("48 bytes");
        let both = [new.as_slice(), &old].concat();
        let after = shared(&both).expect("96 bytes");
        let ticket = before.encrypt(b"state").expect("encrypted");
        assert_eq!(after.decrypt(&ticket).as_deref(), Some(b"state".as_slice()));
        let ticket = after.encrypt(b"state").expect("encrypted");
        assert_eq!(
            before.decrypt(&ticket),
            None,
            "made with a key it does not have"
        );
    }

    #[test]
    fn a_changed_or_short_ticket_is_refused() {
        let keys = shared(&[1; 80]).expect("80 bytes");
        let mut ticket = keys.encrypt(b"state").expect("encrypted");
        *ticket.last_mut().expect("not empty") ^= 1;
        assert_eq!(keys.decrypt(&ticket), None);
        for cut in 0..HEADER + 16 {
            assert_eq!(keys.decrypt(&ticket[..cut]), None, "{cut} bytes");
        }
    }

    #[test]
    fn a_file_of_another_size_is_refused() {
        for size in [0, 1, 47, 49, 100] {
            let error = shared(&vec![0; size]).expect_err("refused");
            assert!(error.what.contains("48 or 80"), "{error}");
        }
    }
}
