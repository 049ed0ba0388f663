//! The public certificate, by ACME (RFC 8555): ordered when there is none, renewed in the background,
//! kept in a cache directory.
//!
//! Whatever goes wrong here, the certificate in force keeps serving; the log says what failed and when
//! it is tried again.

pub(crate) mod cache;
mod client;
mod http01;
mod key;
mod order;
mod pem;

#[cfg(test)]
mod tests;

pub(crate) use client::ClientError;
pub(crate) use http01::Http01;

use super::tls::Certificates;
use crate::observe::log::{Event, Key, Log};
use cache::{ACCOUNT, Cache};
use client::AcmeClient;
use instant_acme::Account;
use key::EcKey;
use order::{Failure, Issued, Method, Stage};
use rustls_pki_types::ServerName;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The longest sleep: a clock that was set, or a machine that was suspended, is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// For one attempt, with every method: a CA that hangs must not keep the next attempt from coming.
const ATTEMPT: Duration = Duration::from_secs(180);

/// How often an attempt starts over because the CA wants newer nonces.
const NONCE_RETRIES: u32 = 3;

/// What is ordered where.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The host name, without a port.
    pub(crate) domain: String,
    /// URL of the CA's directory.
    pub(crate) directory: String,
    /// PEM certificates the directory's own TLS is trusted by; `None`: what the system trusts.
    pub(crate) ca_file: Option<PathBuf>,
    /// The cache directory, which [`cache::prepare`] has seen.
    pub(crate) cache: PathBuf,
}

/// Why ACME cannot be used with these settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcmeError {
    #[error(
        "--domain {0:?} is no host name that certificates are issued for; give it without port or path, like relay.example.org"
    )]
    Domain(String),
    #[error("--acme-directory {0:?} is not an https:// URL")]
    Directory(String),
    #[error("{0}")]
    Client(#[from] ClientError),
}

/// Whether a certificate can be had with these settings; the client that would ask for it.
///
/// # Errors
/// [`AcmeError`] if not.
pub(crate) fn check(settings: &Settings) -> Result<AcmeClient, AcmeError> {
    let domain = settings.domain.to_ascii_lowercase();
    if !matches!(ServerName::try_from(&*domain), Ok(ServerName::DnsName(_))) {
        return Err(AcmeError::Domain(domain));
    }
    let url: Result<hyper::Uri, _> = settings.directory.parse();
    if !url.is_ok_and(|url| url.scheme_str() == Some("https") && url.host().is_some()) {
        return Err(AcmeError::Directory(settings.directory.clone()));
    }
    Ok(AcmeClient::new(settings.ca_file.as_deref())?)
}

/// The ACME client of one domain.
pub(crate) struct Acme {
    directory: String,
    client: AcmeClient,
    cache: Cache,
    stage: Stage,
    log: Log,
    account: Option<Arc<EcKey>>,
    failures: u32,
    /// No attempt before this.
    pause_until: Instant,
    /// Files that could not be written yet, by name.
    unsaved: BTreeMap<String, String>,
    /// What the log was last told about writing.
    write_error: Option<String>,
}

impl Acme {
    /// Installs the cached certificate, if there is one. Reads files, but asks nobody.
    ///
    /// # Errors
    /// [`AcmeError`] for settings with which no certificate can ever be had.
    pub(crate) fn open(
        settings: Settings,
        certificates: Arc<Certificates>,
        log: Log,
    ) -> Result<Self, AcmeError> {
        let client = check(&settings)?;
        let domain = settings.domain.to_ascii_lowercase();
        let acme = Self {
            directory: settings.directory,
            client,
            cache: Cache::new(settings.cache),
            stage: Stage {
                http01: Arc::new(Http01::new(&domain)),
                domain,
                certificates,
            },
            log,
            account: None,
            failures: 0,
            pause_until: Instant::now(),
            unsaved: BTreeMap::new(),
            write_error: None,
        };
        acme.load();
        Ok(acme)
    }

    /// What port 80 serves.
    pub(crate) fn http01(&self) -> Arc<Http01> {
        self.stage.http01.clone()
    }

    /// A certificate is used whatever its dates say: the clients' clocks may be better than ours, and
    /// a renewal is on its way.
    fn load(&self) {
        let cached = self.cache.certificate(&self.stage.domain, |path, error| {
            self.log.write(
                Event::CertificateCacheUnusable,
                &[(Key::Path, &path.display()), (Key::Err, error)],
            );
        });
        if let Some(certificate) = cached {
            let not_after = certificate.shown_not_after();
            self.log.write(
                Event::CertificateLoaded,
                &[
                    (Key::Domain, &self.stage.domain),
                    (Key::NotAfter, &not_after),
                ],
            );
            self.stage.certificates.install(Arc::new(certificate));
        }
    }

    /// Orders and renews until dropped. The listeners must be open: the CA comes to look.
    pub(crate) async fn run(mut self) {
        loop {
            self.save().await;
            match self.wait() {
                Duration::ZERO => self.attempt().await,
                wait => tokio::time::sleep(wait.min(LONGEST_SLEEP)).await,
            }
        }
    }

    /// How long until the next attempt.
    fn wait(&self) -> Duration {
        let due = match self.stage.certificates.current() {
            None => Duration::ZERO,
            Some(certificate) => {
                let now = SystemTime::now();
                let lifetime = certificate
                    .not_after()
                    .duration_since(certificate.not_before())
                    .unwrap_or_default();
                let early = (lifetime / 3).min(Duration::from_secs(30 * 86400));
                certificate
                    .not_after()
                    .duration_since(now + early)
                    .unwrap_or_default()
            }
        };
        due.max(self.pause_until.saturating_duration_since(Instant::now()))
    }

    async fn attempt(&mut self) {
        let issued = match self.account_key().await {
            Ok(key) => tokio::time::timeout(ATTEMPT, self.issue(&key))
                .await
                .unwrap_or_else(|_| Err(format!("not done after {} s", ATTEMPT.as_secs()))),
            Err(text) => Err(text),
        };
        match issued {
            Ok((method, issued)) => self.succeeded(method, issued).await,
            Err(text) => self.failed(&text),
        }
    }

    async fn succeeded(&mut self, method: Method, issued: Issued) {
        self.failures = 0;
        let Issued { certificate, key } = issued;
        let entry = cache::entry(&key, &certificate.certified().cert);
        let not_after = certificate.shown_not_after();
        self.log.write(
            Event::CertificateIssued,
            &[
                (Key::Domain, &self.stage.domain),
                (Key::NotAfter, &not_after),
                (Key::Challenge, &method.name()),
            ],
        );
        self.stage.certificates.install(Arc::new(certificate));
        self.unsaved.insert(self.stage.domain.clone(), entry);
        self.save().await;
    }

    fn failed(&mut self, text: &str) {
        self.failures = self.failures.saturating_add(1);
        let pause = Duration::from_secs(60) * self.failures.min(60);
        self.pause_until = Instant::now() + pause;
        self.log.write(
            Event::CertificateRenewalFailed,
            &[
                (Key::Domain, &self.stage.domain),
                (Key::RetryIn, &humantime::format_duration(pause)),
                (Key::Err, &text),
            ],
        );
    }

    /// One certificate, by the first method that works.
    async fn issue(&self, key: &EcKey) -> Result<(Method, Issued), String> {
        let mut tries = 0;
        loop {
            match self.try_methods(key).await {
                Ok(issued) => return Ok(issued),
                Err(Failure::Nonce) if tries < NONCE_RETRIES => tries += 1,
                Err(Failure::Nonce) => return Err("the CA accepts no nonce".into()),
                Err(Failure::Validation(text) | Failure::Other(text)) => return Err(text),
            }
        }
    }

    async fn try_methods(&self, key: &EcKey) -> Result<(Method, Issued), Failure> {
        let account = self.sign_in(key).await?;
        match self.stage.order(&account, Method::TlsAlpn01).await {
            Ok(issued) => return Ok((Method::TlsAlpn01, issued)),
            Err(Failure::Validation(text)) => self.challenge_failed(Method::TlsAlpn01, &text),
            Err(other) => return Err(other),
        }
        let issued = self.stage.order(&account, Method::Http01).await;
        if let Err(Failure::Validation(text)) = &issued {
            self.challenge_failed(Method::Http01, text);
        }
        Ok((Method::Http01, issued?))
    }

    fn challenge_failed(&self, method: Method, text: &str) {
        self.log.write(
            Event::CertificateChallengeFailed,
            &[
                (Key::Domain, &self.stage.domain),
                (Key::Challenge, &method.name()),
                (Key::Err, &text),
            ],
        );
    }

    /// The account of this key, which is made if the CA does not know it.
    async fn sign_in(&self, key: &EcKey) -> Result<Account, Failure> {
        let signing = instant_acme::Key::from_pkcs8_der(key.pkcs8())?;
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let (account, _) = builder
            .create_from_key((signing, key.pkcs8().into()), self.directory.clone())
            .await?;
        Ok(account)
    }

    /// The stored account key, or a new one if there is none that can be used.
    async fn account_key(&mut self) -> Result<Arc<EcKey>, String> {
        if let Some(key) = &self.account {
            return Ok(key.clone());
        }
        let path = self.cache.path(ACCOUNT);
        let cache = self.cache.clone();
        let stored = match blocking(move || cache.account()).await? {
            Ok(stored) => stored,
            Err(error) if error.is_about_content() => {
                self.log.write(
                    Event::CertificateCacheUnusable,
                    &[(Key::Path, &path.display()), (Key::Err, &error)],
                );
                None
            }
            Err(error) => return Err(format!("{} {error}", path.display())),
        };
        let key = match stored {
            Some(key) => key,
            None => {
                let key = EcKey::generate().map_err(|error| error.to_string())?;
                self.unsaved.insert(ACCOUNT.into(), key.to_pem());
                self.save().await;
                key
            }
        };
        Ok(self.account.insert(Arc::new(key)).clone())
    }

    /// Writes what the cache doesn't have yet. The log hears once that it doesn't work, and once that
    /// it works again.
    async fn save(&mut self) {
        let mut failed = None;
        for (name, text) in std::mem::take(&mut self.unsaved) {
            let cache = self.cache.clone();
            let path = cache.path(&name);
            let entry = (name.clone(), text.clone());
            let written = blocking(move || cache.write(&name, &text)).await;
            match written.and_then(|written| written.map_err(|error| error.to_string())) {
                Ok(()) if self.write_error.is_some() => {
                    let fields: [(Key, &dyn Display); 1] = [(Key::Path, &path.display())];
                    self.log.write(Event::CertificateCacheWritten, &fields);
                }
                Ok(()) => {}
                Err(error) => {
                    self.unsaved.extend([entry]);
                    failed.get_or_insert((path, error));
                }
            }
        }
        match failed {
            None => self.write_error = None,
            Some((path, error)) => self.write_failed(&path.display(), error),
        }
    }

    fn write_failed(&mut self, path: &dyn Display, error: String) {
        if self.write_error.as_ref() == Some(&error) {
            return;
        }
        self.log.write(
            Event::CertificateCacheWriteFailed,
            &[
                (Key::Path, path),
                (Key::RetryIn, &humantime::format_duration(LONGEST_SLEEP)),
                (Key::Err, &error),
            ],
        );
        self.write_error = Some(error);
    }
}

/// Runs what blocks elsewhere.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())
}
