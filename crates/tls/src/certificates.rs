//! A listener's certificates: by name, with wildcards, several kinds of key side by side.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use fathom_core::plan::CertificatePlan;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::ConfigError;
use crate::files;

/// What an operator wants to know of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The chain's file.
    pub path: PathBuf,
    /// Names it is for: DNS names of the subject alternative names, else the common name.
    pub names: Vec<String>,
    /// End of validity, Unix seconds.
    pub not_after: i64,
    /// Why the files as they are now cannot be used; what was read before goes on serving.
    pub error: Option<String>,
}

/// One configured pair, as it was last read well.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    plan: CertificatePlan,
    pair: Arc<CertifiedKey>,
    names: Vec<String>,
    not_after: i64,
    error: Option<String>,
}

impl Entry {
    pub(crate) fn load(plan: &CertificatePlan) -> Result<Self, ConfigError> {
        let pair = files::pair(&plan.cert, &plan.key, plan.ocsp.as_deref())?;
        let (names, not_after) = describe(&pair)
            .ok_or_else(|| ConfigError::file(&plan.cert, "the first certificate is not X.509"))?;
        Ok(Self {
            plan: plan.clone(),
            pair: Arc::new(pair),
            names,
            not_after,
            error: None,
        })
    }

    /// Reads the files again; keeps what it had, with the error, when they are bad.
    pub(crate) fn again(&self) -> Self {
        Self::load(&self.plan).unwrap_or_else(|error| Self {
            error: Some(error.to_string()),
            ..self.clone()
        })
    }

    pub(crate) fn plan(&self) -> &CertificatePlan {
        &self.plan
    }

    pub(crate) fn same_pair(&self, other: &Self) -> bool {
        self.pair.cert == other.pair.cert && self.pair.ocsp == other.pair.ocsp
    }

    pub(crate) fn status(&self) -> CertificateStatus {
        CertificateStatus {
            path: self.plan.cert.clone(),
            names: self.names.clone(),
            not_after: self.not_after,
            error: self.error.clone(),
        }
    }
}

/// Names and end of validity of a pair's leaf.
fn describe(pair: &CertifiedKey) -> Option<(Vec<String>, i64)> {
    let (_, leaf) = X509Certificate::from_der(pair.cert.first()?).ok()?;
    let mut names: Vec<String> = leaf
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|san| {
            san.value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
                    _ => None,
                })
                .collect()
        })
        .unwrap_or_default();
    if names.is_empty() {
        // RFC 9525 §2 has done away with common names, but a test certificate of that kind should still be found.
        names.extend(
            leaf.subject()
                .iter_common_name()
                .filter_map(|cn| cn.as_str().ok())
                .map(str::to_ascii_lowercase),
        );
    }
    Some((names, leaf.validity().not_after.timestamp()))
}

/// Chooses by SNI: the exact name, then the wildcard of its parent, then the first certificate of the listener.
#[derive(Debug)]
pub(crate) struct BySni {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// Those with the first one's names.
    default: Vec<Arc<CertifiedKey>>,
}

impl BySni {
    pub(crate) fn new(entries: &[Entry]) -> Self {
        let mut by = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: Vec::new(),
        };
        for entry in entries {
            for name in &entry.names {
                match name.strip_prefix("*.") {
                    Some(parent) => by.wildcard.entry(parent.to_owned()),
                    None => by.exact.entry(name.clone()),
                }
                .or_default()
                .push(entry.pair.clone());
            }
        }
        if let Some(first) = entries.first() {
            by.default = entries
                .iter()
                .filter(|e| e.names == first.names)
                .map(|e| e.pair.clone())
                .collect();
        }
        by
    }

    fn candidates(&self, sni: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = sni else {
            return &self.default;
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(found) = self.exact.get(&name) {
            return found;
        }
        // RFC 9525 §6.3: a wildcard stands for exactly one label.
        match name
            .split_once('.')
            .and_then(|(_, parent)| self.wildcard.get(parent))
        {
            Some(found) => found,
            None => &self.default,
        }
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable =
            |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        let candidates = self.candidates(hello.server_name());
        // An ECDSA signature costs a tenth of an RSA one: prefer it wherever the client can.
        candidates
            .iter()
            .filter(usable)
            .min_by_key(|pair| pair.key.algorithm() == rustls::SignatureAlgorithm::RSA)
            .cloned()
    }
}
