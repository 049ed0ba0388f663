//! Whom we trust where we are the client: the ACME directory, and the relay that is probed.

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file is no list of certificates to trust.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsError {
    #[error("{}: {detail}; it must be a PEM file with the certificates to trust", path.display())]
    File { path: PathBuf, detail: String },
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS that trusts the certificates in `file` and no others, or those that the system trusts. Blocks.
///
/// # Errors
/// [`RootsError::File`] if there are none in it.
pub(crate) fn trusting(file: Option<&Path>) -> Result<ClientConfig, RootsError> {
    let roots = match file {
        Some(path) => of_file(path)?,
        None => of_system(),
    };
    Ok(
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

fn of_file(path: &Path) -> Result<RootCertStore, RootsError> {
    let refuse = |detail: String| RootsError::File {
        path: path.to_owned(),
        detail,
    };
    let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("no certificate in it".into()));
    }
    Ok(roots)
}

/// What this machine trusts; on one that has nothing (a bare container), what browsers trust.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
