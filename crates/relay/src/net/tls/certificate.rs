//! A certificate chain with its private key, checked and ready to be served.

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A certificate chain whose first certificate belongs to the private key.
pub(crate) struct Certificate {
    certified: Arc<CertifiedKey>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// What is wrong with a file that should hold a certificate chain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error(
        "holds no certificate; it must consist of PEM blocks named CERTIFICATE, the server's own first"
    )]
    Empty,
    #[error("is not PEM ({0}); convert it with `openssl x509 -inform DER`, or copy it again")]
    Pem(String),
}

/// What is wrong with a file that should hold a private key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(
        "holds no private key; it must have a PEM block named PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY"
    )]
    Empty,
    #[error("holds a private key with a passphrase; store it without one: `openssl pkey -in FILE`")]
    Encrypted,
    #[error("is not PEM ({0}); copy it again")]
    Pem(String),
}

/// Why a chain and a key cannot be served together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PairError {
    #[error(
        "the private key cannot be used ({0}); take ECDSA (P-256, P-384), RSA (2048 bits or more) or Ed25519"
    )]
    Key(rustls::Error),
    #[error("certificate no. {number} of the chain is damaged ({detail}); copy it again")]
    Certificate { number: usize, detail: String },
    #[error("the private key does not belong to the certificate; take both from the same issuance")]
    Mismatch,
    #[error(
        "the private key belongs to certificate no. {0} of the chain; put that one first, its issuers after it"
    )]
    Order(usize),
}

impl Certificate {
    /// Puts a chain and a key together. Nothing is said about validity in time, or for a name.
    ///
    /// # Errors
    /// [`PairError`] if a certificate cannot be parsed, the key is of no supported kind, or it is not
    /// the first certificate's key.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
    ) -> Result<Self, PairError> {
        let key = any_supported_type(key).map_err(PairError::Key)?;
        let mut validity = None;
        for (index, certificate) in chain.iter().enumerate() {
            let parsed = parse(certificate).map_err(|detail| PairError::Certificate {
                number: index + 1,
                detail,
            })?;
            validity.get_or_insert(parsed);
        }
        let Some((not_before, not_after)) = validity else {
            return Err(PairError::Mismatch);
        };
        let certified = CertifiedKey::new(chain, key);
        if certified.keys_match().is_err() {
            return Err(mismatch(&certified));
        }
        Ok(Self {
            certified: Arc::new(certified),
            not_before,
            not_after,
        })
    }

    /// What rustls serves.
    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The certificate's own bytes (DER), without its issuers.
    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        // A chain that has no first certificate is refused in `new`.
        &self.certified.cert[0]
    }

    /// From when it is valid.
    pub(crate) fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when it is valid.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// [`Self::not_after`] for the log.
    pub(crate) fn shown_not_after(&self) -> impl fmt::Display + use<> {
        humantime::format_rfc3339_seconds(self.not_after)
    }

    /// Whether it names this host.
    pub(crate) fn is_for(&self, domain: &str) -> bool {
        let Ok(name) = ServerName::try_from(domain) else {
            return false;
        };
        ParsedCertificate::try_from(self.leaf())
            .is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
    }

    /// The SHA-256 fingerprint as `openssl x509 -fingerprint` shows it: hex bytes with colons.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.leaf());
        let bytes: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        bytes.join(":")
    }
}

/// The certificates of a PEM text, in its order.
pub(crate) fn chain_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ChainError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ChainError::Pem(shown(&error)))?;
    if chain.is_empty() {
        return Err(ChainError::Empty);
    }
    Ok(chain)
}

/// The first private key of a PEM text: PKCS#8, PKCS#1 or SEC1.
pub(crate) fn key_from_pem(pem: &[u8]) -> Result<PrivateKeyDer<'static>, KeyError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        _ if is_encrypted(pem) => KeyError::Encrypted,
        pem::Error::NoItemsFound => KeyError::Empty,
        error => KeyError::Pem(shown(&error)),
    })
}

/// PKCS#8 says it in the block's name, the older forms in a header inside the block.
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// Of a PEM error, what is no part of the file: that may be a key.
fn shown(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a block has no END line".into(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is damaged".into(),
        pem::Error::Base64Decode(_) => "a block is not base64".into(),
        _ => "no blocks".into(),
    }
}

fn mismatch(certified: &CertifiedKey) -> PairError {
    let belongs = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], certified.key.clone())
            .keys_match()
            .is_ok()
    };
    match certified.cert.iter().position(belongs) {
        Some(index) => PairError::Order(index + 1),
        None => PairError::Mismatch,
    }
}

/// From when and until when a certificate is valid.
fn parse(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let validity = parsed.validity();
    Ok((
        system_time(validity.not_before.timestamp()),
        system_time(validity.not_after.timestamp()),
    ))
}

/// What is before 1970 counts as 1970: long past, and a time that can be shown.
fn system_time(unix_seconds: i64) -> SystemTime {
    let since = Duration::from_secs(unix_seconds.try_into().unwrap_or(0));
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
