//! Session tickets: keys of our own, rotated; or keys from a file that a fleet shares.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use rustls::server::ProducesTickets;

use crate::error::ConfigError;

/// How long a ticket from a shared file is worth offering: the operator rotates the file.
const SHARED_LIFETIME_SECONDS: u32 = 12 * 3600;
/// Bytes of a ticket before the ciphertext: the key's name and the nonce.
const HEADER: usize = NAME + NONCE_LEN;
const NAME: usize = 16;

/// Keys of this process, rotated every six hours by rustls and accepted for twelve.
pub(crate) fn rotating() -> Result<Arc<dyn ProducesTickets>, ConfigError> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
        .map_err(|e| ConfigError::other(format_args!("cannot make session ticket keys: {e}")))
}

/// Keys from a file: 48 or 80 bytes each, as nginx's `ssl_session_ticket_key` takes them, the newest first.
///
/// The newest encrypts, all decrypt. The first 16 bytes of a key are its name; the cipher key is derived
/// (HKDF-SHA256) from the rest, so a file of either size gives AES-256-GCM.
pub(crate) fn shared(path: &Path) -> Result<Arc<dyn ProducesTickets>, ConfigError> {
    let bytes = std::fs::read(path).map_err(|e| ConfigError::file(path, e))?;
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
        .map(Key::derive)
        .collect::<Option<Vec<_>>>();
    let keys = keys.ok_or_else(|| ConfigError::file(path, "a ticket key could not be derived"))?;
    Ok(Arc::new(Shared { keys }))
}

struct Key {
    name: [u8; NAME],
    cipher: LessSafeKey,
}

impl Key {
    fn derive(material: &[u8]) -> Option<Self> {
        struct Length;
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                32
            }
        }
        let (name, secret) = material.split_first_chunk::<NAME>()?;
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"fathom session tickets").extract(secret);
        let mut key = [0; 32];
        prk.expand(&[b"aes-256-gcm"], Length)
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

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("written");
        file
    }

    #[test]
    fn a_fleet_opens_each_others_tickets_and_old_keys_still_open() {
        let (old, new) = ([7_u8; 48], [9_u8; 48]);
        let before = shared(file(&old).path()).expect("48 bytes");
        let both = [new.as_slice(), &old].concat();
        let after = shared(file(&both).path()).expect("96 bytes");
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
        let keys = shared(file(&[1; 80]).path()).expect("80 bytes");
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
            let error = shared(file(&vec![0; size]).path()).expect_err("refused");
            assert!(error.what.contains("48 or 80"), "{error}");
        }
    }
}
