//! A binary's request to wake a phone by push.

use super::parse::{Malformed, read_object, string};
use std::fmt;

/// The value of `push_wake`, not looked into yet. `Debug` doesn't show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PushWake<'a> {
    raw: &'a [u8],
}

impl<'a> PushWake<'a> {
    /// `raw` is one JSON value.
    pub(super) fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// Reads platform and token. A member that is absent or `null` is an empty string; unknown
    /// members are ignored.
    ///
    /// # Errors
    /// [`WakeError`] if the value isn't an object, or one of the two isn't a string.
    pub fn parse(&self) -> Result<Wake, WakeError> {
        let mut wake = Wake {
            platform: String::new(),
            token: String::new(),
        };
        let outcome = read_object(self.raw, |name, raw| {
            let (field, name) = match name {
                b"platform" => (&mut wake.platform, "platform"),
                b"token" => (&mut wake.token, "token"),
                _ => return Ok(()),
            };
            *field = match raw {
                b"null" => String::new(),
                _ => string(raw).ok_or(Malformed::Member(name))?.into_owned(),
            };
            Ok(())
        });
        outcome.map(|()| wake).map_err(|_| WakeError)
    }
}

impl fmt::Debug for PushWake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PushWake(..)")
    }
}

/// Whom to wake. `Debug` doesn't show the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Wake {
    /// The push service; `fcm` is the one there is. Not checked here.
    pub platform: String,
    /// The device's registration token: a secret. May be empty.
    pub token: String,
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake")
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// A `push_wake` that isn't an object with string members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed push_wake")]
pub struct WakeError;
