//! When a frame was read, of a sample of the frames: reading the clock for each would cost more than counting it.

use crate::clock::Clock;
use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

/// One frame in this many is sampled, on average. It takes two looks at the clock, so there is one for each 32 frames.
const SAMPLE: u32 = 64;

/// A moment in 4 bytes, which fit into an item's padding: in 256 ns since the clock started, so that it comes round
/// after 18 minutes. No frame is under way for that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(NonZeroU32);

impl Stamp {
    /// Now, for one frame in 64 of a thread.
    pub(crate) fn sample(clock: Clock) -> Option<Self> {
        thread_local!(static TURN: Cell<Turn> = const { Cell::new(Turn::FIRST) });
        let (turn, mine) = TURN.get().next();
        TURN.set(turn);
        if mine {
            Self::at(clock.elapsed())
        } else {
            None
        }
    }

    /// `None` in the first 256 ns.
    fn at(since_start: Duration) -> Option<Self> {
        NonZeroU32::new(ticks(since_start)).map(Self)
    }

    /// How long ago this was.
    pub(crate) fn age(self, clock: Clock) -> Duration {
        self.age_at(clock.elapsed())
    }

    fn age_at(self, since_start: Duration) -> Duration {
        let ticks = ticks(since_start).wrapping_sub(self.0.get());
        Duration::from_nanos(u64::from(ticks) << 8)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the high bits are what comes round"
)]
fn ticks(since_start: Duration) -> u32 {
    (since_start.as_nanos() >> 8) as u32
}

/// Whose turn it is: a countdown from numbers that differ, so that no rhythm of the traffic hides any peer.
#[derive(Clone, Copy)]
struct Turn {
    left: u32,
    random: u32,
}

impl Turn {
    const FIRST: Self = Self {
        left: SAMPLE / 2,
        random: 1,
    };

    fn next(self) -> (Self, bool) {
        if self.left > 0 {
            let left = self.left - 1;
            return (Self { left, ..self }, false);
        }
        // A linear congruential generator (Numerical Recipes); its high bits are good enough for this.
        let random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        // 0 to 126, so 63 on average, and then the one that is sampled.
        let left = (random >> 8) % (2 * SAMPLE - 1);
        (Self { left, random }, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_in_64_is_sampled_without_a_rhythm() {
        let mut turn = Turn::FIRST;
        let mut gaps = std::collections::BTreeSet::new();
        let (mut sampled, mut gap) = (0, 0);
        for _ in 0..640_000 {
            let mine;
            (turn, mine) = turn.next();
            gap += 1;
            if mine {
                sampled += 1;
                gaps.insert(std::mem::take(&mut gap));
            }
        }
        assert!((9_700..10_300).contains(&sampled), "{sampled}");
        assert_eq!(gaps.len(), 2 * SAMPLE as usize - 1);
    }

    #[test]
    fn a_queued_item_is_no_larger_for_it() {
        assert_eq!(size_of::<Option<Stamp>>(), 4);
        assert_eq!(size_of::<crate::session::item::Item>(), 104);
    }

    #[test]
    fn an_age_survives_the_end_of_the_range() {
        let range = Duration::from_nanos(1 << 40);
        let stamp = Stamp::at(range - Duration::from_micros(10)).unwrap();
        let age = stamp.age_at(range + Duration::from_micros(20));
        assert!(age.abs_diff(Duration::from_micros(30)) < Duration::from_nanos(512));
        assert_eq!(Stamp::at(Duration::ZERO), None);
    }
}
