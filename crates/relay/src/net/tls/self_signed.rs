//! A certificate nobody has signed, for tries and for networks of one's own.

use super::{Certificate, PairError};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// How long it is valid: longer than a process runs, as each start makes a new one.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How far a client's clock may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfSignedError {
    #[error("cannot make a self-signed certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("cannot make a self-signed certificate: {0}")]
    Use(#[from] PairError),
}

/// An ECDSA P-256 certificate for `domain`; without one, for this machine: its host name, `localhost`,
/// the loopback addresses, and `listen` if that is an address of its own.
///
/// # Errors
/// [`SelfSignedError`] if a name cannot be put into a certificate.
pub(crate) fn make(
    domain: Option<&str>,
    listen: Option<IpAddr>,
) -> Result<Certificate, SelfSignedError> {
    let names = match domain {
        Some(domain) => vec![domain.to_owned()],
        None => names_of_this_machine(listen),
    };
    let key = KeyPair::generate()?;
    let now = SystemTime::now();
    let mut params = CertificateParams::new(names.clone())?;
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + LIFETIME).into();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
        .distinguished_name
        .push(DnType::CommonName, &*names[0]);
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Certificate::new(vec![certificate.der().clone()], &key)?)
}

fn names_of_this_machine(listen: Option<IpAddr>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    // Whatever the machine is called, there is a certificate.
    if host.is_ascii() && ServerName::try_from(&*host).is_ok() {
        names.push(host.into_owned());
    }
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    names.extend(
        listen
            .filter(|ip| !ip.is_unspecified())
            .map(|ip| ip.to_string()),
    );
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}
