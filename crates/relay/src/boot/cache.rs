//! The certificate cache at the start: looked at with everything else, changed once nothing is refused.

use super::{Boot, Refusal};
use crate::net::acme::directory::{self, DirectoryError};
use crate::observe::log::{Event, Key, Log};

impl Boot<'_> {
    pub(super) fn cache(&self) -> Option<Refusal> {
        let error = directory::look(&self.acme_config()?.cache).err()?;
        Some(refusal(&error))
    }

    /// Makes the certificate cache's directory ready, where there is one.
    ///
    /// # Errors
    /// It cannot be used safely.
    pub(super) fn prepare_cache(&self, log: &Log) -> Result<(), Refusal> {
        let Some(acme) = self.acme_config() else {
            return Ok(());
        };
        let tightened = directory::prepare(&acme.cache).map_err(|error| refusal(&error))?;
        if let Some(tightened) = tightened {
            let path = acme.cache.display();
            let (from, to) = (tightened.from, tightened.to);
            log.write(
                Event::CertCacheTightened,
                &[(Key::Path, &path), (Key::From, &from), (Key::To, &to)],
            );
        }
        Ok(())
    }
}

fn refusal(error: &DirectoryError) -> Refusal {
    Refusal::new(Event::AutocertSetupFailed)
        .with(Key::Err, error)
        .fix("correct --cert-cache, or the directory's owner and mode (0700)")
}
