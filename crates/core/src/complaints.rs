//! Which lines about what somebody does wrong are written. One that goes on with it would crowd out all others, and fill a
//! disk.

use crate::limits::{COMPLAINT_BURST, COMPLAINT_KEYS, COMPLAINT_REFILL_MS};
use crate::{Buckets, Millis};
use std::collections::BTreeMap;

/// How much was complained of each lately: [`COMPLAINT_BURST`] lines at once, then one each [`COMPLAINT_REFILL_MS`].
///
/// Remembers a number for each that went beyond that, until there is a line again or it is [forgotten](Self::forget).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Complaints<K> {
    lines: Buckets<K>,
    /// Since the last line about that one.
    left_out: BTreeMap<K, u64>,
}

impl<K: Ord + Clone> Complaints<K> {
    /// Nobody did anything wrong yet.
    pub fn new() -> Self {
        Self {
            lines: Buckets::new(COMPLAINT_BURST, COMPLAINT_REFILL_MS, COMPLAINT_KEYS),
            left_out: BTreeMap::new(),
        }
    }

    /// Whether there may be a line about `key` now, and how many were left out before it. `None`: this one is, too.
    pub fn take(&mut self, now: Millis, key: &K) -> Option<u64> {
        if self.lines.take(now, key).is_ok() {
            return Some(self.left_out.remove(key).unwrap_or(0));
        }
        *self.left_out.entry(key.clone()).or_default() += 1;
        None
    }

    /// There will be no more about `key`: how many lines were left out after its last one.
    pub fn forget(&mut self, key: &K) -> u64 {
        self.left_out.remove(key).unwrap_or(0)
    }
}

impl<K: Ord + Clone> Default for Complaints<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_does_not_fill_the_log_and_the_next_line_says_how_many_are_missing() {
        let mut complaints = Complaints::new();
        let mut lines = |now, key| {
            (0..100)
                .filter_map(|_| complaints.take(Millis(now), &key))
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(0, 1), [0; 20]);
        assert_eq!(lines(999, 1).len(), 0);
        assert_eq!(lines(1_000, 1), [180]);
        assert_eq!(lines(1_000, 2), [0; 20]);
        assert_eq!(lines(60_000, 1)[..2], [99, 0]);
    }

    #[test]
    fn who_is_forgotten_leaves_the_number_of_missing_lines_and_nothing_else() {
        let mut complaints = Complaints::new();
        for key in 0..100 {
            for _ in 0..=COMPLAINT_BURST {
                let _ = complaints.take(Millis(0), &key);
            }
            assert_eq!(complaints.forget(&key), 1);
            assert_eq!(complaints.forget(&key), 0);
        }
        assert!(complaints.left_out.is_empty());
    }
}
