//! ECDSA P-256 keys: of the account, and of certificates.

use super::pem;
use crate::net::tls::{KeyError, key_from_pem};
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

/// A key, in the form of the cache files and in the one that libraries want.
pub(super) struct EcKey {
    sec1: Vec<u8>,
    pkcs8: Vec<u8>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum EcKeyError {
    #[error("{0}")]
    Pem(#[from] KeyError),
    #[error("is not an ECDSA key on the curve P-256")]
    Kind,
    #[error("cannot make a key")]
    Make,
}

impl EcKey {
    /// A new one.
    pub(super) fn generate() -> Result<Self, EcKeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::from_pair(&pair.map_err(|_| EcKeyError::Make)?)
    }

    /// From PEM: SEC1 as in the cache, or PKCS#8.
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, EcKeyError> {
        let der = key_from_pem(text)?;
        let pair =
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der());
        Self::from_pair(&pair.map_err(|_| EcKeyError::Kind)?)
    }

    fn from_pair(pair: &EcdsaKeyPair) -> Result<Self, EcKeyError> {
        let sec1: EcPrivateKeyRfc5915Der<'_> =
            pair.private_key().as_der().map_err(|_| EcKeyError::Make)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| EcKeyError::Make)?;
        Ok(Self {
            sec1: sec1.as_ref().to_vec(),
            pkcs8: pkcs8.as_ref().to_vec(),
        })
    }

    /// `EC PRIVATE KEY`.
    pub(super) fn to_pem(&self) -> String {
        pem::block("EC PRIVATE KEY", &self.sec1)
    }

    pub(super) fn sec1(&self) -> PrivateKeyDer<'static> {
        PrivateSec1KeyDer::from(self.sec1.clone()).into()
    }

    pub(super) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        self.pkcs8.clone().into()
    }
}
