//! How much the frames of parked phones may weigh.

use crate::limits;

/// Accounts for the bytes that parked phones have waiting, over the whole relay. It holds no frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParkBudget {
    total_bytes: usize,
    phone_bytes: usize,
    used_bytes: usize,
}

impl ParkBudget {
    /// At most `total_bytes` over the relay, and [`limits::PARK_PHONE_BYTES`] per phone.
    pub const fn new(total_bytes: usize) -> Self {
        Self {
            total_bytes,
            phone_bytes: limits::PARK_PHONE_BYTES,
            used_bytes: 0,
        }
    }

    /// The same with another bound per phone.
    #[must_use]
    pub const fn with_phone_bytes(mut self, phone_bytes: usize) -> Self {
        self.phone_bytes = phone_bytes;
        self
    }

    /// Takes `n` bytes that belong to several phones. False, and nothing taken, if the relay would have too much.
    #[must_use]
    pub const fn reserve_shared(&mut self, n: usize) -> bool {
        let fits = self.used_bytes.saturating_add(n) <= self.total_bytes;
        if fits {
            self.used_bytes += n;
        }
        fits
    }

    /// Takes `n` bytes for a phone that has `phone_bytes_now` waiting. False, and nothing taken, if the phone or
    /// the relay would have too much: then the phone isn't read any further.
    #[must_use]
    pub const fn reserve(&mut self, phone_bytes_now: usize, n: usize) -> bool {
        phone_bytes_now.saturating_add(n) <= self.phone_bytes && self.reserve_shared(n)
    }

    /// Gives back `n` bytes that were taken.
    pub const fn release(&mut self, n: usize) {
        self.used_bytes = self.used_bytes.saturating_sub(n);
    }

    /// Bytes taken now.
    pub const fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Bytes that may be taken.
    pub const fn total_bytes(&self) -> usize {
        self.total_bytes
    }
}

impl Default for ParkBudget {
    fn default() -> Self {
        Self::new(limits::PARK_TOTAL_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_gets_exactly_its_own_bound() {
        let mut budget = ParkBudget::default();
        assert!(budget.reserve(0, limits::PARK_PHONE_BYTES));
        assert!(!budget.reserve(limits::PARK_PHONE_BYTES, 1));
        assert!(budget.reserve(0, 1));
        assert_eq!(budget.used_bytes(), limits::PARK_PHONE_BYTES + 1);
    }

    #[test]
    fn all_phones_together_get_exactly_the_total() {
        let mut budget = ParkBudget::new(100);
        assert!(budget.reserve(0, 60));
        assert!(!budget.reserve(0, 41));
        assert!(budget.reserve(0, 40));
        budget.release(60);
        assert!(budget.reserve(40, 60));
        budget.release(100);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn shared_bytes_count_against_the_total_only() {
        let mut budget = ParkBudget::new(100).with_phone_bytes(10);
        assert!(!budget.reserve(0, 11));
        assert!(budget.reserve_shared(90));
        assert!(!budget.reserve_shared(11));
        assert!(budget.reserve(0, 10));
        assert_eq!(budget.used_bytes(), 100);
    }

    #[test]
    fn absurd_sizes_are_refused_not_wrapped() {
        let mut budget = ParkBudget::default();
        assert!(!budget.reserve(1, usize::MAX));
        assert!(!budget.reserve(usize::MAX, 1));
        assert_eq!(budget.used_bytes(), 0);
    }
}
