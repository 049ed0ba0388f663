//! The files of the certificate cache: PEM in a directory, laid out as Go's `autocert` does it, so that a
//! volume can go from one relay to the other without a new issuance. One file more, which `autocert` does not look at,
//! says where a certificate came from.

use super::key::{EcKey, EcKeyError};
use super::pem;
use crate::net::tls::{Certificate, ChainError, KeyError, PairError, chain_from_pem, key_from_pem};
use rustls_pki_types::CertificateDer;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The account's key.
pub(super) const ACCOUNT: &str = "acme_account+key";

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

    /// The URL of the directory that issued `certificate` for `domain`; `None` if that was not noted, as in a cache of
    /// `autocert`, or for another certificate.
    pub(super) fn origin(
        &self,
        domain: &str,
        certificate: &Certificate,
    ) -> io::Result<Option<String>> {
        let text = self.read(&origin_of(domain))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let noted = text.split_once('\n');
        Ok(noted.and_then(|(directory, _)| {
            (text == origin_entry(directory, certificate)).then(|| directory.to_owned())
        }))
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

/// The name of the file that says where the certificate of `domain` came from. It is written after the certificate: the
/// file's name sorts behind.
pub(super) fn origin_of(domain: &str) -> String {
    format!("{domain}+directory")
}

/// That file's content. The fingerprint ties it to the certificate, which another program may replace.
pub(super) fn origin_entry(directory: &str, certificate: &Certificate) -> String {
    format!("{directory}\n{}\n", certificate.fingerprint())
}

/// The content of a certificate's file.
pub(super) fn entry(key: &EcKey, chain: &[CertificateDer<'_>]) -> String {
    let mut text = key.to_pem();
    for certificate in chain {
        text.push_str(&pem::block("CERTIFICATE", certificate));
    }
    text
}
