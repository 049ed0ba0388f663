//! Which certificate a handshake gets.

use super::Certificate;
use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;

/// The protocol by which a CA looks at a TLS-ALPN-01 challenge (RFC 8737).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// The certificate in force, for one host name or for any. It can be replaced at any time; connections
/// that are up are not affected.
pub(crate) struct Certificates {
    domain: Option<String>,
    current: ArcSwapOption<Certificate>,
    challenge: ArcSwapOption<CertifiedKey>,
}

impl Certificates {
    /// With a `domain`, only handshakes that ask for it (SNI, in any case of letters) get a certificate,
    /// and others fail.
    pub(crate) fn new(domain: Option<&str>) -> Self {
        Self {
            domain: domain.map(str::to_ascii_lowercase),
            current: ArcSwapOption::empty(),
            challenge: ArcSwapOption::empty(),
        }
    }

    /// The host name, in lower case.
    pub(crate) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// What is served, if there is anything yet.
    pub(crate) fn current(&self) -> Option<Arc<Certificate>> {
        self.current.load_full()
    }

    /// Serves this one from now on.
    pub(crate) fn install(&self, certificate: Arc<Certificate>) {
        self.current.store(Some(certificate));
    }

    /// What a CA that validates by `acme-tls/1` is shown; `None`: such handshakes fail.
    pub(crate) fn set_challenge(&self, challenge: Option<Arc<CertifiedKey>>) {
        self.challenge.store(challenge);
    }

    fn is_asked_for(&self, name: Option<&str>) -> bool {
        let Some(domain) = &self.domain else {
            return true;
        };
        name.is_some_and(|name| name.eq_ignore_ascii_case(domain))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !self.is_asked_for(hello.server_name()) {
            return None;
        }
        if hello.alpn().is_some_and(is_validation) {
            return self.challenge.load_full();
        }
        let current = self.current.load();
        current.as_ref().map(|current| current.certified().clone())
    }
}

/// A validating CA offers this protocol and no other (RFC 8737, section 3).
fn is_validation<'a>(mut offered: impl Iterator<Item = &'a [u8]>) -> bool {
    offered.next() == Some(ACME_TLS) && offered.next().is_none()
}
