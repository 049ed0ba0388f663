//! Histograms with exponential buckets, as Prometheus' native ones have them: each bound is √2 times the one before
//! (schema 1), so a quantile is known to within 19 %. They are exposed as classic buckets, which every scraper reads.
//!
//! One observation costs two uncontended additions, of its bucket and of the sum, on cache lines of the thread.

use super::counter::{STRIPES, stripe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a histogram's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    /// Observed in nanoseconds, exposed in seconds.
    Seconds,
}

/// The first bound, and how many there are. Bound `k` is 2^(k/2), rounded down, in bytes or nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    unit: Unit,
    first: u32,
    bounds: u32,
}

const CELLS: usize = 8;

#[repr(align(64))]
#[derive(Debug, Default)]
struct Line([AtomicU64; CELLS]);

/// Counts observations by size. Any number of threads may observe while others take snapshots.
#[derive(Debug)]
pub struct Histogram {
    scale: Scale,
    /// For each stripe as many lines: the sum, then the buckets, the last one without a bound.
    lines: Box<[Line]>,
    lines_per_stripe: usize,
}

impl Histogram {
    fn new(scale: Scale) -> Self {
        let lines_per_stripe = (scale.bounds as usize + 2).div_ceil(CELLS);
        let lines = (0..lines_per_stripe * STRIPES).map(|_| Line::default());
        Self {
            scale,
            lines: lines.collect(),
            lines_per_stripe,
        }
    }

    /// Of bytes, with bounds from 2^`first_exponent` to 2^`last_exponent`.
    pub(super) fn bytes(first_exponent: u32, last_exponent: u32) -> Self {
        Self::new(Scale::new(Unit::Bytes, first_exponent, last_exponent))
    }

    /// Of time, with bounds from 2^`first_exponent` to 2^`last_exponent` nanoseconds.
    pub(super) fn time(first_exponent: u32, last_exponent: u32) -> Self {
        Self::new(Scale::new(Unit::Seconds, first_exponent, last_exponent))
    }

    /// Counts one observation, in bytes or nanoseconds.
    pub(super) fn observe(&self, value: u64) {
        let start = stripe() * self.lines_per_stripe;
        let cell = |at: usize| &self.lines[start + at / CELLS].0[at % CELLS];
        cell(1 + self.scale.bucket(value)).fetch_add(1, Ordering::Relaxed);
        cell(0).fetch_add(value, Ordering::Relaxed);
    }

    /// Counts one time.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What is counted up to now. An observation made meanwhile may be in the count and not in the sum.
    pub fn snapshot(&self) -> Snapshot {
        let mut cells = vec![0_u64; self.scale.bounds as usize + 2];
        for stripe in self.lines.chunks(self.lines_per_stripe) {
            let loaded = stripe.iter().flat_map(|line| &line.0);
            for (cell, loaded) in cells.iter_mut().zip(loaded) {
                *cell = cell.wrapping_add(loaded.load(Ordering::Relaxed));
            }
        }
        let sum = cells.remove(0);
        Snapshot {
            scale: self.scale,
            sum,
            buckets: cells,
        }
    }
}

impl Scale {
    const fn new(unit: Unit, first_exponent: u32, last_exponent: u32) -> Self {
        Self {
            unit,
            first: 2 * first_exponent,
            bounds: 2 * (last_exponent - first_exponent) + 1,
        }
    }

    /// The first bucket whose bound is not below `value`.
    fn bucket(self, value: u64) -> usize {
        // 2^exponent < value <= 2^(exponent + 1), with the bound in the middle between.
        let k = match value.saturating_sub(1).checked_ilog2() {
            None => 0,
            Some(exponent) => 2 * exponent + 1 + u32::from(value > bound(2 * exponent + 1)),
        };
        k.saturating_sub(self.first).min(self.bounds) as usize
    }

    /// The bound of a bucket, in the unit of the exposition.
    fn shown(self, value: f64) -> f64 {
        match self.unit {
            Unit::Bytes => value,
            Unit::Seconds => value / 1e9,
        }
    }
}

/// 2^(k/2), rounded down, for `k` up to 125.
const fn bound(k: u32) -> u64 {
    /// √2 · 2^62.
    const ROOT: u64 = 6_521_908_912_666_391_106;
    match k % 2 {
        0 => 1 << (k / 2),
        // Beyond the largest that fits, no value is greater either.
        _ if k > 125 => u64::MAX,
        _ => ROOT >> (62 - k / 2),
    }
}

/// What a histogram had counted at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    scale: Scale,
    sum: u64,
    buckets: Vec<u64>,
}

impl Snapshot {
    /// What was counted after `earlier`, a snapshot of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            scale: self.scale,
            sum: self.sum.saturating_sub(earlier.sum),
            buckets: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
        }
    }

    /// What was counted in both, snapshots of histograms with the same bounds.
    pub fn plus(&self, other: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&other.buckets);
        Self {
            scale: self.scale,
            sum: self.sum.wrapping_add(other.sum),
            buckets: pairs.map(|(one, other)| one + other).collect(),
        }
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all observations, in bytes or seconds.
    pub fn sum(&self) -> f64 {
        self.scale.shown(self.sum as f64)
    }

    /// The least value that a share `q` of the observations does not exceed, in bytes or seconds, to within 19 %
    /// inside the bounds. `None` without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        let bucket = self.buckets.iter().position(|n| {
            below += n;
            below >= rank
        })?;
        let last = self.buckets.len() - 1;
        // The middle of the bucket, by the measure in which buckets are equally wide.
        let half_octaves = self.scale.first as f64 + bucket.min(last - 1) as f64;
        let middle = if bucket == last { 0.0 } else { 0.5 };
        Some(self.scale.shown(((half_octaves - middle) / 2.0).exp2()))
    }

    /// The classic buckets: each bound with the number of observations up to it, without the last bucket.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        let bounded = self.buckets.iter().take(self.scale.bounds as usize);
        (self.scale.first..).zip(bounded).map(move |(k, n)| {
            below += n;
            (self.scale.shown(bound(k) as f64), below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_holds_it() {
        let scale = Scale::new(Unit::Bytes, 4, 24);
        let values = (0..200).chain((5..=26).flat_map(|e| {
            let bounds = [bound(2 * e - 1), bound(2 * e)];
            bounds.into_iter().flat_map(|b| b - 1..=b + 1)
        }));
        for value in values {
            let bounds = scale.first..scale.first + scale.bounds;
            let expected = bounds.into_iter().position(|k| value <= bound(k));
            let expected = expected.unwrap_or(scale.bounds as usize);
            assert_eq!(scale.bucket(value), expected, "{value}");
        }
        assert_eq!(scale.bucket(u64::MAX), scale.bounds as usize);
        assert_eq!(bound(1), 1);
        assert_eq!(bound(9), 22);
        assert_eq!(bound(125), 6_521_908_912_666_391_106);
    }

    #[test]
    fn one_without_observations_knows_nothing() {
        let snapshot = Histogram::bytes(4, 24).snapshot();
        assert_eq!((snapshot.count(), snapshot.quantile(0.5)), (0, None));
    }

    #[test]
    fn observations_beyond_the_bounds_are_counted() {
        let histogram = Histogram::bytes(4, 8);
        for value in [0, 1, 1_000, u64::MAX / 2] {
            histogram.observe(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 4);
        assert_eq!(snapshot.quantile(1.0), Some(256.0), "the last bound");
        assert_eq!(snapshot.cumulative().last(), Some((256.0, 2)));
    }

    #[test]
    fn time_is_shown_in_seconds() {
        let histogram = Histogram::time(10, 34);
        histogram.observe_time(Duration::from_millis(3));
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.sum(), 0.003);
        let median = snapshot.quantile(0.5).unwrap();
        assert!((0.0025..0.0036).contains(&median), "{median}");
        assert_eq!(snapshot.cumulative().next(), Some((1.024e-6, 0)));
    }

    #[test]
    fn all_threads_are_in_a_snapshot() {
        let histogram = Histogram::bytes(4, 24);
        std::thread::scope(|scope| {
            for thread in 1..=20 {
                let histogram = &histogram;
                scope.spawn(move || (0..1_000).for_each(|_| histogram.observe(thread)));
            }
        });
        assert_eq!(histogram.snapshot().count(), 20_000);
        assert_eq!(histogram.snapshot().sum(), 210_000.0);
    }

    proptest! {
        #[test]
        fn quantiles_are_right_to_within_19_percent(
            mut values in prop::collection::vec(16_u64..16_000_000, 1..200),
            q in 0.0_f64..=1.0,
        ) {
            let histogram = Histogram::bytes(4, 24);
            values.iter().for_each(|value| histogram.observe(*value));
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64;
            let found = histogram.snapshot().quantile(q).unwrap();
            // Bounds are whole numbers: near the smallest ones that is 3 % more.
            prop_assert!((0.81..1.23).contains(&(found / exact)), "{found} for {exact}");
        }

        #[test]
        fn since_has_only_what_came_later(
            before in prop::collection::vec(0_u64..100_000_000, 0..50),
            after in prop::collection::vec(0_u64..100_000_000, 0..50),
        ) {
            let (histogram, fresh) = (Histogram::bytes(4, 24), Histogram::bytes(4, 24));
            before.iter().for_each(|value| histogram.observe(*value));
            let earlier = histogram.snapshot();
            for value in &after {
                histogram.observe(*value);
                fresh.observe(*value);
            }
            prop_assert_eq!(histogram.snapshot().since(&earlier), fresh.snapshot());
        }
    }
}
