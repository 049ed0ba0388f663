//! Closing many connections one by one, so that their peers don't all dial again in the same second.

use std::collections::VecDeque;

use crate::Millis;

/// A plan that gives out `n` things over a window of time, each once.
///
/// The window is cut into `n` equal slices, and each slice has its close at a random moment: an even rate without a
/// beat that clients could fall into step with. The last one falls at the end of the window.
///
/// The order is random too, but things of one group come one after the other: a relay that is going away must not keep
/// a daemon's phones waiting for it in its grace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Drain<T> {
    start: Millis,
    window_ms: u64,
    total: usize,
    random: SplitMix64,
    left: VecDeque<T>,
    /// When the next one is due.
    due: Millis,
}

impl<T> Drain<T> {
    /// Plans the members of all `groups`, over `window_ms` milliseconds from `now`. The same `seed` gives the same plan.
    pub fn new(now: Millis, window_ms: u64, mut groups: Vec<Vec<T>>, seed: u64) -> Self {
        let mut random = SplitMix64(seed);
        shuffle(&mut groups, &mut random);
        let left: VecDeque<T> = groups.into_iter().flatten().collect();
        let mut drain = Self {
            start: now,
            window_ms,
            total: left.len(),
            random,
            left,
            due: now,
        };
        drain.plan_next();
        drain
    }

    /// When the next one is due; None if all have been given out.
    pub fn deadline(&self) -> Option<Millis> {
        (!self.left.is_empty()).then_some(self.due)
    }

    /// The next one that is due at `now`: to be called until it returns None.
    pub fn due(&mut self, now: Millis) -> Option<T> {
        if self.due > now {
            return None;
        }
        let next = self.left.pop_front()?;
        self.plan_next();
        Some(next)
    }

    /// How many have not been given out yet.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Whether all have been given out.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn plan_next(&mut self) {
        let offset_ms = if self.left.len() <= 1 {
            self.window_ms
        } else {
            let slice = self.total - self.left.len();
            let from_ms = self.slice_start_ms(slice);
            from_ms + self.random.below(self.slice_start_ms(slice + 1) - from_ms)
        };
        self.due = self.start.plus(offset_ms);
    }

    fn slice_start_ms(&self, slice: usize) -> u64 {
        let start = self.window_ms as u128 * slice as u128 / self.total.max(1) as u128;
        // Not beyond the window, which is a u64.
        start as u64
    }
}

/// Puts `items` in a random order; each order is equally likely (Fisher and Yates).
fn shuffle<T>(items: &mut [T], random: &mut SplitMix64) {
    for n in (1..items.len()).rev() {
        items.swap(n, random.below(n as u64 + 1) as usize);
    }
}

/// Steele, Lea and Flood's generator: small, fast, good enough to spread things; no secret may depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SplitMix64(u64);

impl SplitMix64 {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything in its order, each with the moment it was due.
    fn run<T>(mut drain: Drain<T>) -> Vec<(Millis, T)> {
        let mut given = Vec::new();
        while let Some(at) = drain.deadline() {
            let left = drain.len();
            if at > Millis::ZERO {
                assert!(
                    drain.due(Millis(at.0 - 1)).is_none(),
                    "not before it is due"
                );
            }
            given.push((at, drain.due(at).unwrap()));
            assert_eq!(drain.len(), left - 1);
        }
        assert!(drain.is_empty() && drain.due(Millis::NEVER).is_none());
        given
    }

    #[test]
    fn nothing_to_close_is_never_due() {
        assert_eq!(run(Drain::<()>::new(Millis(5), 100, vec![vec![]], 1)), []);
    }

    #[test]
    fn one_alone_has_the_whole_window() {
        let given = run(Drain::new(Millis(5), 100, vec![vec!['a']], 1));
        assert_eq!(given, [(Millis(105), 'a')]);
    }

    #[test]
    fn no_window_is_all_at_once() {
        let mut drain = Drain::new(Millis(5), 0, vec![vec![1, 2], vec![3]], 1);
        let all: Vec<_> = std::iter::from_fn(|| drain.due(Millis(5))).collect();
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_late_caller_gets_all_that_is_due() {
        let mut drain = Drain::new(Millis(0), 1_000, vec![(0..10).collect()], 1);
        let half: Vec<_> = std::iter::from_fn(|| drain.due(Millis(500))).collect();
        assert_eq!(half, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn endless_windows_do_not_wrap() {
        let given = run(Drain::new(
            Millis(u64::MAX - 5),
            u64::MAX,
            vec![vec![1], vec![2, 3]],
            7,
        ));
        assert_eq!(given.last().map(|(at, _)| *at), Some(Millis::NEVER));
    }

    #[test]
    fn every_group_has_its_turn_first() {
        let first = |seed| {
            run(Drain::new(
                Millis(0),
                9,
                vec![vec![0], vec![1], vec![2]],
                seed,
            ))[0]
                .1
        };
        let mut counts = [0; 3];
        (0..300).for_each(|seed| counts[first(seed)] += 1);
        assert!(counts.iter().all(|n| (60..140).contains(n)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn each_once_in_time_and_groups_together(
            sizes in prop::collection::vec(0usize..6, 0..40), start in 0u64..1_000, window in 0u64..100_000, seed: u64,
        ) {
            let groups: Vec<Vec<(usize, usize)>> = sizes
                .iter()
                .enumerate()
                .map(|(group, size)| (0..*size).map(|member| (group, member)).collect())
                .collect();
            let mut expected: Vec<_> = groups.iter().flatten().copied().collect();
            let given = run(Drain::new(Millis(start), window, groups, seed));
            prop_assert!(given.windows(2).all(|pair| pair[0].0 <= pair[1].0));
            prop_assert!(given.iter().all(|(at, _)| (start..=start + window).contains(&at.0)));
            if let Some((last, _)) = given.last() {
                prop_assert_eq!(last.0, start + window);
            }
            let mut members: Vec<_> = given.into_iter().map(|(_, member)| member).collect();
            // A group is in one piece, and in its own order.
            for pair in members.windows(2) {
                let ((a, i), (b, j)) = (pair[0], pair[1]);
                let adjacent = if a == b { j == i + 1 } else { i + 1 == sizes[a] && j == 0 };
                prop_assert!(adjacent);
            }
            members.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(members, expected);
        }

        #[test]
        fn no_tenth_of_the_window_has_more_than_its_share_and_a_half(
            n in 100usize..600, window in 1_000u64..1_000_000, seed: u64,
        ) {
            let groups = (0..n).map(|group| vec![group]).collect();
            let given = run(Drain::new(Millis(0), window, groups, seed));
            for (first, (at, _)) in given.iter().enumerate() {
                let end = Millis(at.0 + window / 10);
                let within = given[first..].iter().take_while(|(at, _)| *at < end).count();
                prop_assert!(within * 20 <= n * 3, "{within} of {n} from {at} to {end}");
            }
        }
    }
}
