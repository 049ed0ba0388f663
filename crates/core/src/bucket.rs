//! Rates and concurrency per key, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::Millis;

/// "Not now": how long until asking again can succeed, in milliseconds. At least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("try again in {0} ms")]
pub struct RetryAfter(pub u64);

impl RetryAfter {
    /// The value of an HTTP `Retry-After` header: whole seconds, rounded up.
    pub const fn seconds(self) -> u64 {
        self.0.div_ceil(1_000)
    }
}

/// A token bucket per key: `burst` at once, then one more each `refill_ms`.
///
/// A denied take costs nothing and doesn't delay the next token; fractions of a token carry over. Only buckets
/// that aren't full are remembered, at most `capacity` of them: beyond that, the one that would be full first is
/// forgotten, because it has the least to forget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buckets<K> {
    refill_ms: u64,
    depth_ms: u64,
    capacity: usize,
    /// A bucket is one number: the moment it will be full again. Each token taken moves it `refill_ms` on.
    full_at: BTreeMap<K, Millis>,
    by_time: BTreeSet<(Millis, K)>,
}

impl<K: Ord + Clone> Buckets<K> {
    /// Full buckets of `burst` (at least 1) tokens, one of which comes back each `refill_ms`.
    pub fn new(burst: u32, refill_ms: u64, capacity: usize) -> Self {
        Self {
            refill_ms,
            depth_ms: refill_ms.saturating_mul(u64::from(burst.max(1))),
            capacity: capacity.max(1),
            full_at: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }

    /// Takes a token of `key`, if it has one.
    ///
    /// # Errors
    /// [`RetryAfter`] the time until its next token.
    pub fn take(&mut self, now: Millis, key: &K) -> Result<(), RetryAfter> {
        self.forget_full(now);
        let full_at = self.after_a_take(now, key)?;
        if let Some(before) = self.full_at.insert(key.clone(), full_at) {
            self.by_time.remove(&(before, key.clone()));
        }
        self.by_time.insert((full_at, key.clone()));
        if self.full_at.len() > self.capacity {
            self.forget_first();
        }
        Ok(())
    }

    /// Whether [`take`](Self::take) would succeed; takes nothing.
    ///
    /// # Errors
    /// [`RetryAfter`] the time until its next token.
    pub fn check(&self, now: Millis, key: &K) -> Result<(), RetryAfter> {
        self.after_a_take(now, key).map(drop)
    }

    /// Keys remembered now.
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether every bucket is full.
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }

    /// When the bucket of `key` would be full again after one more take.
    fn after_a_take(&self, now: Millis, key: &K) -> Result<Millis, RetryAfter> {
        let full_at = self.full_at.get(key).copied().unwrap_or(now).max(now);
        let after = full_at.plus(self.refill_ms);
        match after.since(now).checked_sub(self.depth_ms) {
            None | Some(0) => Ok(after),
            Some(wait_ms) => Err(RetryAfter(wait_ms)),
        }
    }

    fn forget_full(&mut self, now: Millis) {
        while self
            .by_time
            .first()
            .is_some_and(|(full_at, _)| *full_at <= now)
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.by_time.pop_first() {
            self.full_at.remove(&key);
        }
    }
}

/// How many of something each key has, up to a maximum per key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Concurrent<K> {
    max: u32,
    counts: BTreeMap<K, u32>,
}

impl<K: Ord + Clone> Concurrent<K> {
    /// Nobody has any; each may have `max`.
    pub const fn new(max: u32) -> Self {
        Self {
            max,
            counts: BTreeMap::new(),
        }
    }

    /// Takes one for `key`. False, and nothing taken, if it has its maximum.
    #[must_use]
    pub fn enter(&mut self, key: &K) -> bool {
        match self.counts.get_mut(key) {
            Some(count) if *count >= self.max => false,
            Some(count) => {
                *count += 1;
                true
            }
            None if self.max == 0 => false,
            None => self.counts.insert(key.clone(), 1).is_none(),
        }
    }

    /// Gives back one that [`enter`](Self::enter) took. A key that has none is left alone.
    pub fn leave(&mut self, key: &K) {
        match self.counts.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => drop(self.counts.remove(key)),
            None => {}
        }
    }

    /// Keys that have any.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nobody has any.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// What counts as one source of requests: an IPv4 address, or the /64 an IPv6 address is in, because that is
/// the least a household is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKey {
    /// An IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address.
    V6([u8; 8]),
}

/// The source that `ip` belongs to. An IPv4 address mapped into IPv6 is that IPv4 address.
pub fn source_key(ip: IpAddr) -> SourceKey {
    match ip.to_canonical() {
        IpAddr::V4(v4) => SourceKey::V4(v4.octets()),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            SourceKey::V6([a, b, c, d, e, f, g, h])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_then_one_each_refill() {
        let mut buckets = Buckets::new(20, 6_000, 10);
        for _ in 0..20 {
            assert_eq!(buckets.take(Millis(0), &"a"), Ok(()));
        }
        assert_eq!(buckets.take(Millis(0), &"a"), Err(RetryAfter(6_000)));
        assert_eq!(buckets.take(Millis(5_999), &"a"), Err(RetryAfter(1)));
        assert_eq!(buckets.take(Millis(6_000), &"a"), Ok(()));
        assert_eq!(buckets.take(Millis(6_000), &"a"), Err(RetryAfter(6_000)));
        assert_eq!(buckets.take(Millis(6_000), &"b"), Ok(()));
    }

    #[test]
    fn checking_takes_nothing() {
        let mut buckets = Buckets::new(1, 100, 10);
        assert_eq!(buckets.check(Millis(0), &1), Ok(()));
        assert_eq!(buckets.check(Millis(0), &1), Ok(()));
        assert_eq!(buckets.take(Millis(0), &1), Ok(()));
        assert_eq!(buckets.check(Millis(40), &1), Err(RetryAfter(60)));
    }

    #[test]
    fn full_buckets_are_forgotten_and_the_table_is_bounded() {
        let mut buckets = Buckets::new(2, 100, 3);
        assert_eq!(buckets.take(Millis(0), &0), Ok(()));
        assert_eq!(buckets.take(Millis(0), &0), Ok(()));
        for key in 1..100 {
            assert_eq!(buckets.take(Millis(0), &key), Ok(()));
            assert!(buckets.len() <= 3);
        }
        // The empty bucket survived all the others: it had the most to remember.
        assert!(buckets.take(Millis(0), &0).is_err());
        assert_eq!(buckets.take(Millis(300), &7), Ok(()));
        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn concurrency_is_bounded_per_key_and_returns_to_nothing() {
        let mut counts = Concurrent::new(2);
        assert!(counts.enter(&"a") && counts.enter(&"a") && !counts.enter(&"a"));
        assert!(counts.enter(&"b"));
        counts.leave(&"a");
        assert!(counts.enter(&"a"));
        for key in ["a", "a", "b", "b"] {
            counts.leave(&key);
        }
        assert!(counts.is_empty());
        assert!(!Concurrent::new(0).enter(&"a"));
    }

    #[test]
    fn ipv6_counts_by_the_64_and_mapped_addresses_as_ipv4() {
        let key = |ip: &str| source_key(ip.parse().unwrap());
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::4"), key("2001:db8:1:3::4"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    }

    #[test]
    fn retry_after_rounds_up() {
        assert_eq!(
            [0, 1, 1_000, 1_001].map(|ms| RetryAfter(ms).seconds()),
            [0, 1, 1, 2]
        );
    }

    proptest! {
        /// Against the textbook bucket: a count, topped up by one at each full period since it was last full.
        #[test]
        fn behaves_as_a_counted_bucket(
            burst in 1u32..6, refill in 1u64..50, gaps in prop::collection::vec(0u64..120, 1..80),
        ) {
            let mut buckets = Buckets::new(burst, refill, 4);
            let (mut tokens, mut refilled, mut now) = (burst, 0, 0);
            for gap in gaps {
                now += gap;
                while tokens < burst && now - refilled >= refill {
                    tokens += 1;
                    refilled += refill;
                }
                if tokens == burst {
                    refilled = now;
                }
                let expected = if tokens > 0 {
                    tokens -= 1;
                    Ok(())
                } else {
                    Err(RetryAfter(refilled + refill - now))
                };
                prop_assert_eq!(buckets.take(Millis(now), &()), expected);
            }
        }
    }
}
