//! The names of things: connections, server-ids, daemon instances.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::hint::black_box;
use std::sync::Arc;

/// One connection, unique in this process and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(pub u64);

/// A server-id: the opaque key that pairs a binary with its phones. Compared byte for byte; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(Arc<str>);

impl ServerId {
    /// The id spelled `id`. Any string will do.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The id as received.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A phone's conn_id: unique over restarts of the relay, and hard to guess if `suffix` is random.
pub fn phone_conn_id(server: &ServerId, suffix: u32) -> String {
    format!("client-{server}-{suffix:08x}")
}

/// The last part of a phone's conn_id, if it is one of this server-id in the exact spelling of [`phone_conn_id`].
pub fn phone_suffix(server: &str, conn_id: &str) -> Option<u32> {
    let digits = conn_id
        .strip_prefix("client-")?
        .strip_prefix(server)?
        .strip_prefix('-')?;
    suffix_of_digits(digits)
}

/// The number that eight lower-case hex digits are; upper-case ones are somebody else's.
pub fn suffix_of_digits(digits: &str) -> Option<u32> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 8 || !digits.bytes().all(hex) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

/// What a daemon process calls itself, so that it can resume its tenure: a secret between it and the relay.
///
/// Comparing takes the same time wherever two values of one length differ, and nothing prints it.
#[derive(Clone)]
pub struct Instance(Arc<[u8]>);

impl Instance {
    /// The instance with this value, as it came in the header.
    pub fn new(value: &[u8]) -> Self {
        Self(value.into())
    }
}

impl PartialEq for Instance {
    fn eq(&self, other: &Self) -> bool {
        // black_box keeps the compiler from leaving the loop at the first difference.
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(other.0.iter())
                .fold(0, |diff, (a, b)| black_box(diff | (a ^ b)))
                == 0
    }
}

impl Eq for Instance {}

impl Hash for Instance {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instance(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_equal_only_byte_for_byte() {
        let a = Instance::new(b"one process");
        assert_eq!(a, Instance::new(b"one process"));
        assert_ne!(a, Instance::new(b"One process"));
        assert_ne!(a, Instance::new(b"one procesS"));
        assert_ne!(a, Instance::new(b"one process "));
        assert_ne!(a, Instance::new(b""));
    }

    #[test]
    fn an_instance_never_prints_its_value() {
        assert_eq!(format!("{:?}", Instance::new(b"hunter2")), "Instance(..)");
    }

    #[test]
    fn server_ids_order_and_print_as_their_text() {
        assert!(ServerId::new("a") < ServerId::new("b"));
        assert_eq!(ServerId::new("8f7e").to_string(), "8f7e");
    }

    #[test]
    fn a_conn_id_is_found_only_in_its_exact_spelling() {
        let server = ServerId::new("a-b");
        let conn_id = phone_conn_id(&server, 0x00ab_cdef);
        assert_eq!(conn_id, "client-a-b-00abcdef");
        assert_eq!(phone_suffix("a-b", &conn_id), Some(0x00ab_cdef));
        for other in [
            "client-a-b-00ABCDEF",
            "client-a-b-abcdef",
            "client-a-b-+0abcdef",
            "client-a-00abcdef",
            "client-a-b-00abcdef ",
            "client-a-b-00abcdef0",
            "server-a-b-00abcdef",
            "a-b",
            "",
        ] {
            assert_eq!(phone_suffix("a-b", other), None, "{other}");
        }
    }
}
