//! The only source of chance. One seed gives the same numbers on every machine.

use std::ops::Range;
use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough to choose faults.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed);
        // Neighbouring seeds have nothing in common after the first step.
        Self(rng.next())
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A generator of its own for one part of the world: what one part draws changes nothing for the others.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// A number of the range, which is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        let width = (range.end - range.start).max(1);
        range.start + self.next() % width
    }

    /// True this often.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// A time of the range in milliseconds, short ones as likely as long ones by their magnitude.
    pub fn time_ms(&mut self, range: Range<u64>) -> Duration {
        let (low, high) = (range.start.max(1) as f64, range.end.max(2) as f64);
        let place = self.within(0..1 << 30) as f64 / (1u64 << 30) as f64;
        let ms = low * (high / low).powf(place);
        Duration::from_millis(ms as u64)
    }

    /// One of these, of which there is at least one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.within(0..of.len() as u64) as usize]
    }

    /// As [`Self::pick`]; `None` if there are none.
    pub fn choose<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| self.pick(of))
    }
}
