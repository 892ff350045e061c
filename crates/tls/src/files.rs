//! Reading PEM and DER files, with errors that name the file.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::error::ConfigError;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|e| ConfigError::file(path, e))
}

/// The certificates of a PEM file, in file order; at least one.
pub(crate) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    chain_in(&read(path)?, path)
}

fn chain_in(bytes: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let chain = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| ConfigError::file(path, format_args!("not PEM: {e:?}")))?;
    if chain.is_empty() {
        return Err(ConfigError::file(
            path,
            "holds no certificate (looked for BEGIN CERTIFICATE)",
        ));
    }
    Ok(chain)
}

/// A certificate with its key and staple, checked to belong together.
pub(crate) fn pair(
    cert: &Path,
    key: &Path,
    ocsp: Option<&Path>,
) -> Result<CertifiedKey, ConfigError> {
    let chain = chain(cert)?;
    let bytes = read(key)?;
    let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        ConfigError::file(key, "holds no private key in PEM (PKCS#8, PKCS#1 or SEC1)")
    })?;
    let signing = crate::provider()
        .key_provider
        .load_private_key(der)
        .map_err(|e| ConfigError::file(key, format_args!("private key cannot be used: {e}")))?;
    let mut pair = CertifiedKey::new(chain, signing);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(ConfigError::file(
                key,
                format_args!(
                    "this key does not belong to the certificate {}",
                    cert.display()
                ),
            ));
        }
        Err(e) => {
            return Err(ConfigError::file(
                cert,
                format_args!("certificate cannot be used: {e}"),
            ));
        }
    }
    if let Some(path) = ocsp {
        pair.ocsp = Some(read(path)?);
    }
    Ok(pair)
}

/// A bundle of trusted roots.
pub(crate) fn roots(path: &Path) -> Result<Arc<RootCertStore>, ConfigError> {
    roots_in(&read(path)?, path)
}

/// The bundle that `bytes`, read from `path`, are.
pub(crate) fn roots_in(bytes: &[u8], path: &Path) -> Result<Arc<RootCertStore>, ConfigError> {
    let mut store = RootCertStore::empty();
    for cert in chain_in(bytes, path)? {
        store.add(cert).map_err(|e| {
            ConfigError::file(path, format_args!("a certificate cannot be a root: {e}"))
        })?;
    }
    Ok(Arc::new(store))
}

/// The revocation lists that `bytes`, read from the PEM file `path`, hold; at least one.
pub(crate) fn crls_in(
    bytes: &[u8],
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, ConfigError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| ConfigError::file(path, format_args!("not PEM: {e:?}")))?;
    if lists.is_empty() {
        return Err(ConfigError::file(
            path,
            "holds no revocation list (looked for BEGIN X509 CRL)",
        ));
    }
    Ok(lists)
}
