//! What the fuzz targets call: decisions of the shell that are no function of the public interface. This module is in
//! no other build.

pub use crate::config::fuzzing::{Configuration, configuration};
pub use crate::http::fuzzing::{Front, Upgraded, exchange};
pub use crate::push::fuzzing::{Admitted, access_token, failure, message_id, retry_after_ms, wake};

use crate::net::tls::{Certificate, chain_from_pem, key_from_pem};
use crate::observe::log::{self, Event, Format, Key};
use rustls_pki_types::CertificateDer;

/// A log line about a daemon that calls itself `server_id`.
pub fn log_line(format: Format, server_id: &str, remote: &str) -> String {
    let fields: [(Key, &dyn std::fmt::Display); 2] =
        [(Key::ServerId, &server_id), (Key::Remote, &remote)];
    log::render(format, Event::ServerClaimed, &fields)
}

/// What is said of a certificate and its key, both in PEM, and whether it is for `domain`.
///
/// # Errors
/// Why they cannot be served.
pub fn certificate_in_pem(pem: &[u8], domain: &str) -> Result<(String, bool), String> {
    let chain = chain_from_pem(pem).map_err(|error| error.to_string())?;
    certificate(chain, pem, domain)
}

/// The same for a certificate in DER, whose key is in PEM.
///
/// # Errors
/// The same.
pub fn certificate_in_der(der: &[u8], key: &[u8], domain: &str) -> Result<(String, bool), String> {
    certificate(vec![der.to_vec().into()], key, domain)
}

fn certificate(
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
    domain: &str,
) -> Result<(String, bool), String> {
    let key = key_from_pem(key).map_err(|error| error.to_string())?;
    let certificate = Certificate::new(chain, &key).map_err(|error| error.to_string())?;
    let said = format!(
        "{} {}",
        certificate.fingerprint(),
        certificate.shown_not_after()
    );
    Ok((said, certificate.is_for(domain)))
}
