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
}
