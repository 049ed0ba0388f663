//! The frames of one phone, for an operator who looks: how many went each way, and the sizes of the last ones.

use crate::observe::metrics::Direction;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Frame sizes that are remembered for each direction: as many as there are bytes in a word.
const REMEMBERED: u32 = 8;

/// Counts frames by [`Direction`]. Only the phone's own task writes, so plain loads and stores are enough.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Stays at the largest number that fits.
    counts: [AtomicU32; 2],
    /// One [`Class`] each, the newest lowest.
    sizes: [AtomicU64; 2],
}

impl Tally {
    /// Counts a frame of the phone whose task calls this.
    pub(crate) fn frame(&self, direction: Direction, bytes: usize) {
        let (count, sizes) = self.of(direction);
        let counted = count.load(Ordering::Relaxed).saturating_add(1);
        count.store(counted, Ordering::Relaxed);
        let before = sizes.load(Ordering::Relaxed) << Class::BITS;
        let class = Class::of(bytes).0;
        sizes.store(before | u64::from(class), Ordering::Relaxed);
    }

    /// Frames counted.
    pub(crate) fn count(&self, direction: Direction) -> u32 {
        self.of(direction).0.load(Ordering::Relaxed)
    }

    /// The sizes of the last frames in bytes, rounded, newest last. A look while a frame is counted may miss it.
    pub(crate) fn last_bytes(&self, direction: Direction) -> Vec<usize> {
        let (count, sizes) = self.of(direction);
        let known = count.load(Ordering::Relaxed).min(REMEMBERED) as usize;
        let classes = sizes.load(Ordering::Relaxed).to_be_bytes();
        let known = &classes[classes.len() - known..];
        known.iter().map(|class| Class(*class).bytes()).collect()
    }

    fn of(&self, direction: Direction) -> (&AtomicU32, &AtomicU64) {
        let n = direction as usize;
        (&self.counts[n], &self.sizes[n])
    }
}

/// A size as a floating-point number: five bits of exponent, three of mantissa. Exact up to 15 bytes, and off by
/// 6 % at most beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class(u8);

impl Class {
    const BITS: u32 = u8::BITS;
    const MANTISSA_BITS: u32 = 3;

    fn of(bytes: usize) -> Self {
        // Of sizes below 8, which have no three bits behind their first one, the exponent is 0: as in IEEE 754.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let exponent = bytes
            .checked_ilog2()
            .unwrap_or(0)
            .saturating_sub(Self::MANTISSA_BITS - 1);
        let mantissa = match exponent {
            0 => bytes,
            _ => bytes >> (exponent - 1),
        };
        // Eight bits: the exponent is at most 29, the mantissa's first bit is left out where it is always set.
        Self((exponent << Self::MANTISSA_BITS | mantissa & 0b111) as u8)
    }

    /// The middle of the sizes of this class.
    fn bytes(self) -> usize {
        let (exponent, mantissa) = (self.0 >> Self::MANTISSA_BITS, usize::from(self.0 & 0b111));
        match exponent {
            0 => mantissa,
            _ => {
                let shift = exponent - 1;
                ((0b1000 | mantissa) << shift) + ((1 << shift) >> 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_known_to_six_percent() {
        for bytes in (0..5_000).chain((1..28).flat_map(|e| [(1 << e) - 1, 1 << e, (1 << e) + 1])) {
            let shown = Class::of(bytes).bytes();
            let off = shown.abs_diff(bytes);
            assert!(off * 16 <= bytes, "{bytes} is shown as {shown}");
            assert!(bytes > 15 || shown == bytes, "{bytes} is shown as {shown}");
        }
        assert!(Class::of(usize::MAX).bytes() > 3 << 30);
    }

    #[test]
    fn classes_are_in_the_order_of_sizes() {
        let classes = (0..100_000).map(|bytes| Class::of(bytes).0);
        assert!(classes.is_sorted());
    }

    #[test]
    fn the_last_eight_of_each_way_are_remembered() {
        let tally = Tally::default();
        let (up, down) = (Direction::phone_to_binary, Direction::binary_to_phone);
        assert!(tally.last_bytes(up).is_empty());
        for bytes in 3..=5 {
            tally.frame(up, bytes);
        }
        assert_eq!((tally.count(up), tally.last_bytes(up)), (3, vec![3, 4, 5]));
        for bytes in 0..12 {
            tally.frame(down, bytes);
        }
        assert_eq!(tally.last_bytes(down), [4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!((tally.count(up), tally.count(down)), (3, 12));
    }
}
