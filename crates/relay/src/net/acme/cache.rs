//! The certificate cache: a directory of PEM files, laid out as Go's `autocert` does it, so that a
//! volume can go from one relay to the other without a new issuance.

use super::key::{EcKey, EcKeyError};
use super::pem;
use crate::net::tls::{Certificate, ChainError, KeyError, PairError, chain_from_pem, key_from_pem};
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The account's key.
pub(super) const ACCOUNT: &str = "acme_account+key";

/// Why the directory is no place for keys, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    #[error("cannot make the certificate cache {}: {source}; make the directory yourself, owned by the relay's user", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot look at the certificate cache {}: {source}; the relay's user must be allowed to", path.display())]
    Look { path: PathBuf, source: io::Error },
    #[error("the certificate cache {} is not a directory; name another with --cert-cache", path.display())]
    NotADirectory { path: PathBuf },
    #[error(
        "the certificate cache {} is open to others (mode {mode}) and belongs to user {owner}; run `chmod 700` on it as that user, or give it to the relay's user",
        path.display()
    )]
    Foreign {
        path: PathBuf,
        mode: Mode,
        owner: u32,
    },
    #[error("the certificate cache {} is open to others (mode {mode}) and cannot be closed: {source}; run `chmod 700` on it", path.display())]
    Tighten {
        path: PathBuf,
        mode: Mode,
        source: io::Error,
    },
}

/// Permission bits, shown in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// The permissions of a directory before and after it was closed to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tightened {
    pub(crate) from: Mode,
    pub(crate) to: Mode,
}

/// Makes the directory (and its parents) if it is missing, and takes the permissions of other users
/// away if it is ours. `Some` says that this was done. Blocks.
///
/// # Errors
/// [`DirectoryError`] if it is no directory, is another user's and not closed, or the system refuses.
pub(crate) fn prepare(path: &Path) -> Result<Option<Tightened>, DirectoryError> {
    const CLOSED: Mode = Mode(0o700);
    let path_buf = || path.to_owned();
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(CLOSED.0)
                .create(path);
            return made.map(|()| None).map_err(|source| {
                let path = path_buf();
                DirectoryError::Create { path, source }
            });
        }
        Err(source) => {
            let path = path_buf();
            return Err(DirectoryError::Look { path, source });
        }
    };
    if !found.is_dir() {
        return Err(DirectoryError::NotADirectory { path: path_buf() });
    }
    let mode = Mode(found.mode() & 0o777);
    if mode.0 & 0o077 == 0 {
        return Ok(None);
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(DirectoryError::Foreign {
            path: path_buf(),
            mode,
            owner: found.uid(),
        });
    }
    std::fs::set_permissions(path, Permissions::from_mode(CLOSED.0)).map_err(|source| {
        DirectoryError::Tighten {
            path: path_buf(),
            mode,
            source,
        }
    })?;
    Ok(Some(Tightened {
        from: mode,
        to: CLOSED,
    }))
}

/// Why a file of the cache is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("{0}")]
    Chain(#[from] ChainError),
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("{0}")]
    Pair(#[from] PairError),
    #[error("{0}")]
    Account(#[from] EcKeyError),
    #[error("is for another host")]
    Host,
}

impl EntryError {
    /// The file is there, but what it holds is of no use to anyone.
    pub(super) fn is_about_content(&self) -> bool {
        !matches!(self, Self::Read(_))
    }
}

/// The directory. Everything here blocks.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The stored certificate of `domain`; `None` if there is none. `unusable` is told of each file
    /// that had to be left aside.
    pub(super) fn certificate(
        &self,
        domain: &str,
        mut unusable: impl FnMut(&Path, &EntryError),
    ) -> Option<Certificate> {
        // The second is what the Go relay made for clients without ECDSA.
        [domain.to_owned(), format!("{domain}+rsa")]
            .iter()
            .find_map(|name| {
                self.read_certificate(name, domain)
                    .inspect_err(|error| unusable(&self.path(name), error))
                    .ok()
                    .flatten()
            })
    }

    fn read_certificate(
        &self,
        name: &str,
        domain: &str,
    ) -> Result<Option<Certificate>, EntryError> {
        let Some(text) = self.read(name)? else {
            return Ok(None);
        };
        let certificate = Certificate::new(chain_from_pem(&text)?, &key_from_pem(&text)?)?;
        if !certificate.is_for(domain) {
            return Err(EntryError::Host);
        }
        Ok(Some(certificate))
    }

    /// The stored account key; `None` if there is none.
    pub(super) fn account(&self) -> Result<Option<EcKey>, EntryError> {
        let Some(text) = self.read(ACCOUNT)? else {
            return Ok(None);
        };
        Ok(Some(EcKey::from_pem(&text)?))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, io::Error> {
        match std::fs::read(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file: whole or not at all, whatever happens meanwhile; mode 0600.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let temporary = self.path(&format!(".{name}.{random:016x}"));
        let written = self
            .write_temporary(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, self.path(name)));
        if written.is_err() {
            // Best effort: it holds a key, but nobody else can read the directory.
            let _ = std::fs::remove_file(&temporary);
            return written;
        }
        // The name must survive a loss of power, too.
        File::open(&self.directory)?.sync_all()
    }

    fn write_temporary(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

/// The content of a certificate's file.
pub(super) fn entry(key: &EcKey, chain: &[CertificateDer<'_>]) -> String {
    let mut text = key.to_pem();
    for certificate in chain {
        text.push_str(&pem::block("CERTIFICATE", certificate));
    }
    text
}
