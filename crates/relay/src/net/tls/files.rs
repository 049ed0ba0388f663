//! A certificate from files, read again when they change.
//!
//! Files are looked at by name and not watched by the system: certbot and Kubernetes replace symbolic
//! links somewhere along the path, which no watch on the file itself notices.

use super::{
    Certificate, Certificates, ChainError, KeyError, PairError, chain_from_pem, key_from_pem,
};
use crate::observe::log::{Event, Key, Log};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// Bytes of a file that are read; a long chain has 20,000.
const MAX_BYTES: u64 = 1 << 20;

/// The PEM files of `--tls-cert` and `--tls-key`. They may be the same file.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What is wrong with the files, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("cannot read {}: {source}; it must exist, and the relay's user must be allowed to read it", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} {source}", path.display())]
    Chain { path: PathBuf, source: ChainError },
    #[error("{} {source}", path.display())]
    Key { path: PathBuf, source: KeyError },
    #[error("{} and {}: {source}", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: PairError,
    },
}

/// What tells one content of the files from the next; equal as long as nobody wrote or replaced one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version([Option<[i64; 7]>; 2]);

impl Files {
    /// Reads and checks them. Blocks.
    ///
    /// # Errors
    /// [`FilesError`] for files that can't be read, or don't hold a chain and the key that belongs to it.
    pub(crate) fn read(&self) -> Result<Certificate, FilesError> {
        let chain = chain_from_pem(&read(&self.certificate)?).map_err(|source| {
            let path = self.certificate.clone();
            FilesError::Chain { path, source }
        })?;
        let key = key_from_pem(&read(&self.key)?).map_err(|source| {
            let path = self.key.clone();
            FilesError::Key { path, source }
        })?;
        Certificate::new(chain, &key).map_err(|source| FilesError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }

    /// Their version now; symbolic links are followed. Blocks.
    pub(crate) fn version(&self) -> Version {
        Version([&self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some(stamp(&found))
        }))
    }
}

/// The change time covers what a modification time can hide: `cp -p`, a permission that is mended.
fn stamp(file: &Metadata) -> [i64; 7] {
    [
        file.dev().cast_signed(),
        file.ino().cast_signed(),
        file.len().cast_signed(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ]
}

fn read(path: &Path) -> Result<Vec<u8>, FilesError> {
    bounded(path).map_err(|source| FilesError::Read {
        path: path.to_owned(),
        source,
    })
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}

/// Installs a certificate that was read, and says until when it is valid and what is odd about it.
pub(crate) fn install(certificates: &Certificates, certificate: Certificate, log: &Log) {
    let certificate = Arc::new(certificate);
    certificates.install(certificate.clone());
    let not_after = certificate.shown_not_after();
    log.write(Event::CertificateLoaded, &[(Key::NotAfter, &not_after)]);
    let now = SystemTime::now();
    let odd = if certificate.not_after() <= now {
        "it has expired; clients refuse it until it is renewed"
    } else if certificate.not_before() > now {
        "it is not valid yet; check this machine's clock"
    } else if certificates
        .domain()
        .is_some_and(|domain| !certificate.is_for(domain))
    {
        "it does not name the domain; clients refuse it"
    } else {
        return;
    };
    log.write(Event::CertificateUnfit, &[(Key::Err, &odd)]);
}

/// Reloads the files whenever they change, looking each `interval`, and at once when `reload` is
/// notified. Bad files leave the certificate as it is, and are logged once. `served` is the version
/// that was installed at start. Runs until dropped.
pub(crate) async fn watch(
    files: Files,
    served: Version,
    interval: Duration,
    reload: Arc<Notify>,
    certificates: Arc<Certificates>,
    log: Log,
) {
    let mut watch = Watch::new(served);
    loop {
        // A timeout is the time to look; a notification asks for an answer.
        let asked = tokio::time::timeout(interval, reload.notified())
            .await
            .is_ok();
        let (files, known) = (files.clone(), watch.served.clone());
        let look = move || {
            let version = files.version();
            let unchanged = version == known && !asked;
            (!unchanged).then(|| (version, files.read()))
        };
        // A panic in there would be a defect of ours; the next look may still work.
        let Ok(seen) = tokio::task::spawn_blocking(look).await else {
            continue;
        };
        match seen {
            None => watch.bad = None,
            Some((version, Ok(certificate))) => {
                watch.good(version);
                let same = certificates.current().is_some_and(|current| {
                    current.certified().cert == certificate.certified().cert
                });
                if asked || !same {
                    install(&certificates, certificate, &log);
                }
            }
            Some((version, Err(error))) => {
                if watch.complains(version, asked) {
                    log.write(Event::CertificateReloadFailed, &[(Key::Err, &error)]);
                }
            }
        }
    }
}

/// What a watch remembers between two looks.
pub(super) struct Watch {
    /// The version in force.
    served: Version,
    /// The version that was bad at the last look.
    bad: Option<Version>,
    /// Whether the log has it.
    complained: bool,
}

impl Watch {
    pub(super) fn new(served: Version) -> Self {
        Self {
            served,
            bad: None,
            complained: false,
        }
    }

    fn good(&mut self, version: Version) {
        self.served = version;
        self.bad = None;
    }

    /// Whether a version that cannot be used is worth a line now. Not at the first look: certificate
    /// and key are replaced one after the other, and don't belong together in between. Not twice.
    pub(super) fn complains(&mut self, version: Version, asked: bool) -> bool {
        let seen_before = self.bad.as_ref() == Some(&version);
        if !seen_before {
            self.bad = Some(version);
            self.complained = false;
        }
        let complains = asked || (seen_before && !self.complained);
        self.complained |= complains;
        complains
    }
}
