//! The public certificate, by ACME (RFC 8555): ordered when there is none, renewed in the background,
//! kept in a cache directory.
//!
//! Whatever goes wrong here, the certificate in force keeps serving; the log says what failed and when
//! it is tried again.

mod cache;
mod client;
pub(crate) mod directory;
mod http01;
mod key;
mod order;
mod pem;

#[cfg(test)]
mod tests;

pub(crate) use http01::Http01;

use super::tls::{Certificate, Certificates};
use crate::net::tls::roots::RootsError;
use crate::observe::log::{Event, Key, Log};
use cache::{ACCOUNT, Cache, origin_of};
use client::AcmeClient;
use instant_acme::Account;
use key::EcKey;
use order::{Failure, Issued, Method, Progress, RESULT, Stage};
use relay_core::{Counted, Renewal, UnixSeconds, Validity};
use rustls_pki_types::ServerName;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The longest sleep: a clock that was set, or a machine that was suspended, is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(relay_core::renewal::ASK_AGAIN_S);

/// For one attempt: a CA that hangs must not keep the next attempt from coming. Time for both of its results, and a
/// minute for the requests around them.
const ATTEMPT: Duration = Duration::from_secs(2 * RESULT.as_secs() + 60);

/// How often a step is tried when the CA wants newer nonces: it may have several servers, which don't
/// always know each other's. (Each request is repeated twice already.)
const NONCE_TRIES: u32 = 4;

/// What a clock that makes a new certificate look old costs the CA: one order in this time.
const TOO_SOON_S: u64 = 24 * 3600;

/// What is ordered where.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The host name, without a port.
    pub(crate) domain: String,
    /// URL of the CA's directory.
    pub(crate) directory: String,
    /// PEM certificates the directory's own TLS is trusted by; `None`: what the system trusts.
    pub(crate) ca_file: Option<PathBuf>,
    /// The cache directory, which [`directory::prepare`] has seen.
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
    #[error("--acme-ca {0}")]
    Roots(#[from] RootsError),
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
    renewal: Renewal,
    method: Method,
    progress: Progress,
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
        let mut acme = Self {
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
            renewal: Renewal::new(None),
            method: Method::TlsAlpn01,
            progress: Progress::new(),
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
    fn load(&mut self) {
        let cached = self.cache.certificate(&self.stage.domain, |path, error| {
            self.log.write(
                Event::CertificateCacheUnusable,
                &[(Key::Path, &path.display()), (Key::Err, error)],
            );
        });
        if let Some(certificate) = cached {
            let certificate = Arc::new(certificate);
            self.renewal.renewed(validity(&certificate));
            self.stage.certificates.install(certificate.clone());
            self.log.write(
                Event::CertificateLoaded,
                &[
                    (Key::Domain, &self.stage.domain),
                    (Key::NotAfter, &certificate.shown_not_after()),
                ],
            );
            self.check_origin(&certificate);
        }
    }

    /// A certificate that another directory issued is replaced now: clients may not trust that one, as they don't trust
    /// what a CA issues for tests.
    fn check_origin(&mut self, certificate: &Certificate) {
        let domain = &self.stage.domain;
        match self.cache.origin(domain, certificate) {
            Ok(Some(origin)) if origin != self.directory => {
                self.renewal.unwanted();
                let odd = format_args!(
                    "it came from {origin}; one from {} is ordered in its place",
                    self.directory
                );
                self.log.write(Event::CertificateUnfit, &[(Key::Err, &odd)]);
            }
            Ok(_) => {}
            Err(error) => {
                let path = self.cache.path(&origin_of(domain));
                self.log.write(
                    Event::CertificateCacheUnusable,
                    &[(Key::Path, &path.display()), (Key::Err, &error)],
                );
            }
        }
    }

    /// Orders and renews until dropped. The listeners must be open: the CA comes to look.
    pub(crate) async fn run(mut self) {
        loop {
            self.save().await;
            match self.renewal.wait_s(now()) {
                0 => self.attempt().await,
                wait_s => {
                    let wait = Duration::from_secs(wait_s).min(LONGEST_SLEEP);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn attempt(&mut self) {
        // What a CA asked for in an exchange that went well after all is over.
        let _ = self.client.take_retry_after_s();
        self.progress.counted = Counted::Nothing;
        let key = match self.account_key().await {
            Ok(key) => key,
            Err(failure) => return self.failed(&failure),
        };
        match tokio::time::timeout(ATTEMPT, self.issue(&key)).await {
            Ok(Ok((method, issued))) => self.succeeded(method, issued).await,
            Ok(Err(failure)) => self.failed(&failure),
            Err(_) => self.failed(&format_args!("not done after {} s", ATTEMPT.as_secs())),
        }
    }

    async fn succeeded(&mut self, method: Method, issued: Issued) {
        let Issued { certificate, key } = issued;
        let domain = &self.stage.domain;
        let entry = cache::entry(&key, &certificate.certified().cert);
        let origin = cache::origin_entry(&self.directory, &certificate);
        self.unsaved.insert(domain.clone(), entry);
        self.unsaved.insert(origin_of(domain), origin);
        let certificate = Arc::new(certificate);
        self.renewal.renewed(validity(&certificate));
        self.stage.certificates.install(certificate.clone());
        self.log.write(
            Event::CertificateIssued,
            &[
                (Key::Domain, &self.stage.domain),
                (Key::NotAfter, &certificate.shown_not_after()),
                (Key::Challenge, &method.name()),
            ],
        );
        if self.renewal.wait_s(now()) == 0 {
            let odd = "it is due for renewal already; check this machine's clock";
            self.log.write(Event::CertificateUnfit, &[(Key::Err, &odd)]);
            self.renewal.too_soon(now(), TOO_SOON_S);
        }
        self.save().await;
    }

    fn failed(&mut self, why: &dyn Display) {
        let retry_after_s = self.client.take_retry_after_s();
        let counted = self.progress.counted;
        self.renewal.failed(now(), counted, retry_after_s, random());
        let pause = Duration::from_secs(self.renewal.wait_s(now()));
        self.log.write(
            Event::CertificateRenewalFailed,
            &[
                (Key::Domain, &self.stage.domain),
                (Key::RetryIn, &humantime::format_duration(pause)),
                (Key::Err, why),
            ],
        );
    }

    /// One certificate. Each attempt tries one method, since a validation that fails counts against the CA's limits;
    /// the next attempt tries the other one. What has worked is tried first again.
    async fn issue(&mut self, key: &EcKey) -> Result<(Method, Issued), Failure> {
        let method = self.method;
        let account = self.sign_in(key).await?;
        let issued = self.order(&account, method).await;
        if let Err(Failure::Validation(text)) = &issued {
            self.challenge_failed(method, text);
            self.method = method.other();
        }
        Ok((method, issued?))
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

    async fn order(&mut self, account: &Account, method: Method) -> Result<Issued, Failure> {
        let (stage, progress) = (&self.stage, &mut self.progress);
        for _ in 1..NONCE_TRIES {
            match stage.order(account, method, progress).await {
                Err(Failure::Nonce) => {}
                done => return done,
            }
        }
        stage.order(account, method, progress).await
    }

    /// The account of this key, which is made if the CA does not know it.
    async fn sign_in(&self, key: &EcKey) -> Result<Account, Failure> {
        for _ in 1..NONCE_TRIES {
            match self.try_sign_in(key).await {
                Err(Failure::Nonce) => {}
                done => return done,
            }
        }
        self.try_sign_in(key).await
    }

    async fn try_sign_in(&self, key: &EcKey) -> Result<Account, Failure> {
        let signing = instant_acme::Key::from_pkcs8_der(key.pkcs8())?;
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let key = (signing, key.pkcs8().into());
        let (account, _) = builder.create_from_key(key, self.directory.clone()).await?;
        Ok(account)
    }

    /// The stored account key, or a new one if there is none that can be used.
    async fn account_key(&mut self) -> Result<Arc<EcKey>, Failure> {
        if let Some(key) = &self.account {
            return Ok(key.clone());
        }
        let cache = self.cache.clone();
        let stored = blocking(move || cache.account()).await;
        let key = match stored.map_err(Failure::Other)? {
            Ok(Some(key)) => key,
            Ok(None) => self.new_account_key(true).await?,
            Err(error) => {
                let path = self.cache.path(ACCOUNT);
                self.log.write(
                    Event::CertificateCacheUnusable,
                    &[(Key::Path, &path.display()), (Key::Err, &error)],
                );
                // What cannot be read now may be in order.
                self.new_account_key(error.is_about_content()).await?
            }
        };
        Ok(self.account.insert(Arc::new(key)).clone())
    }

    async fn new_account_key(&mut self, store: bool) -> Result<EcKey, Failure> {
        let key = EcKey::generate()?;
        if store {
            self.unsaved.insert(ACCOUNT.into(), key.to_pem());
            self.save().await;
        }
        Ok(key)
    }

    /// Writes what the cache doesn't have yet, in order: a note of where a certificate is from must not come without it.
    /// The log hears once that it doesn't work, and once that it works again.
    async fn save(&mut self) {
        let mut failed = None;
        while let Some((name, text)) = self.unsaved.pop_first() {
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
                    failed = Some((path, error));
                    break;
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

fn now() -> UnixSeconds {
    unix_seconds(SystemTime::now())
}

fn validity(certificate: &Certificate) -> Validity {
    Validity {
        not_before: unix_seconds(certificate.not_before()),
        not_after: unix_seconds(certificate.not_after()),
    }
}

fn unix_seconds(time: SystemTime) -> UnixSeconds {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    UnixSeconds(since.unwrap_or_default().as_secs())
}

/// For jitter: without randomness there is none.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// Runs what blocks elsewhere.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())
}
