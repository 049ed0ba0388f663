//! How a slot is called where its server-id is not to be seen.

use crate::os::random;
use aws_lc_rs::hmac;
use relay_core::ServerId;
use std::fmt;

/// A slot's name: the beginning of a keyed hash of its server-id. Who does not have the key can neither find the
/// server-id nor tell whether a guess is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotHash([u8; 6]);

impl SlotHash {
    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 12 || !text.bytes().all(lower_hex) {
            return None;
        }
        let number = u64::from_str_radix(text, 16).ok()?;
        number.to_be_bytes()[2..].try_into().ok().map(Self)
    }
}

impl fmt::Display for SlotHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Makes the hashes, with a key of its own that is gone with the process.
pub(crate) struct SlotHasher(hmac::Key);

impl SlotHasher {
    pub(crate) fn new() -> Self {
        // With a key that can be guessed the hashes would hide nothing.
        let key: [u8; 32] = random::bytes();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    pub(crate) fn hash(&self, server: &ServerId) -> SlotHash {
        let tag = hmac::sign(&self.0, server.as_str().as_bytes());
        let mut hash = SlotHash::default();
        hash.0.copy_from_slice(&tag.as_ref()[..6]);
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_for_one_process_and_another_one_for_the_next() {
        let (one, other) = (SlotHasher::new(), SlotHasher::new());
        let server = ServerId::new("8f7e1c0a");
        assert_eq!(one.hash(&server), one.hash(&server));
        assert_ne!(one.hash(&server), one.hash(&ServerId::new("8f7e1c0b")));
        assert_ne!(one.hash(&server), other.hash(&server));
    }

    #[test]
    fn what_is_written_is_read() {
        let hash = SlotHash([0x00, 0x1a, 0xb2, 0xc3, 0xd4, 0xff]);
        assert_eq!(hash.to_string(), "001ab2c3d4ff");
        assert_eq!(SlotHash::parse("001ab2c3d4ff"), Some(hash));
        for bad in [
            "",
            "001ab2c3d4f",
            "001ab2c3d4ff0",
            "001AB2C3D4FF",
            "+01ab2c3d4ff",
            "001ab2c3d4fg",
        ] {
            assert_eq!(SlotHash::parse(bad), None, "{bad}");
        }
    }
}
