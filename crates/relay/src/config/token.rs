//! The token without which the admin page closes nothing.

use crate::os::random;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use std::ffi::OsStr;
use std::fmt;

/// What an operator must know to close a slot or a phone. Nothing prints it by accident.
#[derive(Clone)]
pub struct AdminToken(Box<str>);

impl AdminToken {
    /// Fewer characters could be guessed.
    const SHORTEST: usize = 16;

    /// The token that somebody chose. The error says what is wrong, and nothing of the value.
    ///
    /// # Errors
    /// It is too short, or contains something that cannot be sent as a header's value.
    pub fn new(text: &OsStr) -> Result<Self, &'static str> {
        let text = text.to_str().ok_or("not printable ASCII")?;
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("not printable ASCII without spaces");
        }
        if text.len() < Self::SHORTEST {
            return Err("shorter than 16 characters");
        }
        Ok(Self(text.into()))
    }

    /// 128 bits that nobody knows yet.
    ///
    /// # Panics
    /// When the system's random generator fails, which it does not once the system is up.
    pub fn random() -> Self {
        let bits: [u8; 16] = random::bytes();
        let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(hex.into())
    }

    /// Whether this is it. Takes the same time wherever they differ.
    pub fn is(&self, text: &[u8]) -> bool {
        let (own, other) = (digest(&SHA256, self.0.as_bytes()), digest(&SHA256, text));
        verify_slices_are_equal(own.as_ref(), other.as_ref()).is_ok()
    }

    /// The token itself, for the one line that tells it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

impl PartialEq for AdminToken {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for AdminToken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_enough_and_fits_into_a_header() {
        assert!(AdminToken::new(OsStr::new("0123456789abcde~")).is_ok());
        for bad in [
            "",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789\nabcdef",
            "0123456789abcdéf",
        ] {
            assert!(AdminToken::new(OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_only_itself_and_is_not_printed() {
        let token = AdminToken::new(OsStr::new("0123456789abcdef")).unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789abcdeF",
        ] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "AdminToken(..)");
    }

    #[test]
    fn random_tokens_differ() {
        let (one, other) = (AdminToken::random(), AdminToken::random());
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), 32);
        assert!(AdminToken::new(OsStr::new(one.reveal())).is_ok());
    }
}
