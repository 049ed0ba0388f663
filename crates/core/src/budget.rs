//! Bytes that many queues share, so that all of them together stay within the machine's memory.
//!
//! A queue's first [`QUEUE_FREE_BYTES`] are its own. What it holds beyond them it draws from the common
//! [`Budget`], in steps of [`QUEUE_STEP_BYTES`], by the rule of dynamic thresholds that switches with a shared
//! memory use (Choudhury and Hahne, 1998): after a draw no queue may hold more of the budget than is left of it. One
//! queue alone gets half of it, `n` greedy ones get an `n + 1`th each and leave as much: the more there are, the less
//! each has, and whoever comes next finds room.

use std::sync::Arc;

use crate::limits::{QUEUE_FREE_BYTES, QUEUE_STEP_BYTES};

/// The shared bytes. The caller keeps their number, because it alone knows who shares them; the rule is
/// [`left_after_draw`].
pub trait Budget {
    /// Takes `more_bytes` for a queue that holds `held_bytes` of the budget. False, and nothing taken, if that is more
    /// than the rule allows.
    fn draw(&self, held_bytes: usize, more_bytes: usize) -> bool;

    /// Takes back what was drawn.
    fn give_back(&self, bytes: usize);
}

impl<B: Budget> Budget for Arc<B> {
    fn draw(&self, held_bytes: usize, more_bytes: usize) -> bool {
        (**self).draw(held_bytes, more_bytes)
    }

    fn give_back(&self, bytes: usize) {
        (**self).give_back(bytes);
    }
}

/// What is left of `left_bytes` after a queue that holds `held_bytes` has drawn `more_bytes`; None if it may not.
pub const fn left_after_draw(
    left_bytes: usize,
    held_bytes: usize,
    more_bytes: usize,
) -> Option<usize> {
    match left_bytes.checked_sub(more_bytes) {
        Some(left) if held_bytes.saturating_add(more_bytes) <= left => Some(left),
        _ => None,
    }
}

/// What one queue has drawn. It is given back at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Share<B: Budget> {
    budget: B,
    drawn_bytes: usize,
}

impl<B: Budget> Share<B> {
    pub(crate) const fn new(budget: B) -> Self {
        Self {
            budget,
            drawn_bytes: 0,
        }
    }

    /// Makes sure that the queue may hold `queued_bytes`, drawing what is missing. False, and nothing drawn, if the
    /// budget doesn't allow it.
    #[must_use]
    pub(crate) fn cover(&mut self, queued_bytes: usize) -> bool {
        let needed_bytes = needed_bytes(queued_bytes);
        let more_bytes = needed_bytes.saturating_sub(self.drawn_bytes);
        let covered = more_bytes == 0 || self.budget.draw(self.drawn_bytes, more_bytes);
        self.drawn_bytes += if covered { more_bytes } else { 0 };
        covered
    }

    /// What the queue may hold without drawing more.
    pub(crate) const fn covered_bytes(&self) -> usize {
        self.drawn_bytes + QUEUE_FREE_BYTES
    }

    /// Gives back what a queue of `queued_bytes` is far from needing: all when half of its own bytes are free again,
    /// and all but one step before that. So a queue that hovers about a boundary doesn't draw and give back in turns.
    pub(crate) fn settle(&mut self, queued_bytes: usize) {
        let kept_bytes = match needed_bytes(queued_bytes) {
            0 if queued_bytes <= QUEUE_FREE_BYTES / 2 => 0,
            needed_bytes => needed_bytes + QUEUE_STEP_BYTES,
        };
        if self.drawn_bytes > kept_bytes {
            self.budget.give_back(self.drawn_bytes - kept_bytes);
            self.drawn_bytes = kept_bytes;
        }
    }
}

impl<B: Budget> Drop for Share<B> {
    fn drop(&mut self) {
        if self.drawn_bytes > 0 {
            self.budget.give_back(self.drawn_bytes);
        }
    }
}

/// What a queue of `queued_bytes` needs of the budget: whole steps.
const fn needed_bytes(queued_bytes: usize) -> usize {
    let beyond_bytes = queued_bytes.saturating_sub(QUEUE_FREE_BYTES);
    beyond_bytes
        .div_ceil(QUEUE_STEP_BYTES)
        .saturating_mul(QUEUE_STEP_BYTES)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    /// As many bytes as anybody wants.
    impl Budget for () {
        fn draw(&self, _held_bytes: usize, _more_bytes: usize) -> bool {
            true
        }

        fn give_back(&self, _bytes: usize) {}
    }

    /// A budget of one thread, which counts how often it is asked.
    #[derive(Debug)]
    pub(crate) struct Counted {
        pub(crate) left_bytes: Cell<usize>,
        pub(crate) calls: Cell<usize>,
    }

    impl Counted {
        pub(crate) const fn new(bytes: usize) -> Self {
            Self {
                left_bytes: Cell::new(bytes),
                calls: Cell::new(0),
            }
        }
    }

    impl Budget for &Counted {
        fn draw(&self, held_bytes: usize, more_bytes: usize) -> bool {
            self.calls.update(|calls| calls + 1);
            let left = left_after_draw(self.left_bytes.get(), held_bytes, more_bytes);
            self.left_bytes.set(left.unwrap_or(self.left_bytes.get()));
            left.is_some()
        }

        fn give_back(&self, bytes: usize) {
            self.calls.update(|calls| calls + 1);
            self.left_bytes.update(|left| left + bytes);
        }
    }

    impl<B: Budget> Share<B> {
        pub(crate) const fn drawn_bytes(&self) -> usize {
            self.drawn_bytes
        }
    }

    const FREE: usize = QUEUE_FREE_BYTES;
    const STEP: usize = QUEUE_STEP_BYTES;

    #[test]
    fn a_draw_leaves_as_much_as_its_queue_holds() {
        assert_eq!(left_after_draw(100, 0, 50), Some(50));
        assert_eq!(left_after_draw(100, 0, 51), None);
        assert_eq!(left_after_draw(100, 40, 30), Some(70));
        assert_eq!(left_after_draw(100, 40, 31), None);
        assert_eq!(left_after_draw(0, 0, 1), None);
        assert_eq!(left_after_draw(10, usize::MAX, usize::MAX), None);
    }

    #[test]
    fn greedy_queues_leave_a_share_for_the_next_one() {
        let budget = Counted::new(120 * STEP);
        let mut shares: Vec<_> = (0..5).map(|_| Share::new(&budget)).collect();
        let greedy = |share: &mut Share<_>| while share.cover(FREE + share.drawn_bytes() + STEP) {};
        greedy(&mut shares[0]);
        assert_eq!(shares[0].drawn_bytes(), 60 * STEP);
        for share in &mut shares[1..] {
            greedy(share);
            assert!(share.drawn_bytes() > 0);
        }
        // The first ones hold more than they could get now, until their queues are written.
        for _ in 0..100 {
            for share in &mut shares {
                let queued = FREE + share.drawn_bytes().saturating_sub(2 * STEP);
                share.settle(queued);
                greedy(share);
            }
        }
        let drawn: Vec<_> = shares
            .iter()
            .map(|share| share.drawn_bytes() / STEP)
            .collect();
        assert!(
            drawn.iter().all(|steps| (18..=22).contains(steps)),
            "{drawn:?}"
        );
        assert!(budget.left_bytes.get() >= 18 * STEP);
    }

    #[test]
    fn a_small_queue_never_asks() {
        let budget = Counted::new(0);
        let mut share = Share::new(&budget);
        for queued in 0..=FREE {
            assert!(share.cover(queued));
            share.settle(queued);
        }
        assert_eq!(budget.calls.get(), 0);
        assert!(!share.cover(FREE + 1));
    }

    #[test]
    fn hovering_about_a_boundary_asks_once() {
        let budget = Counted::new(100 * STEP);
        for boundary in [FREE, FREE + STEP, FREE + 7 * STEP] {
            let mut share = Share::new(&budget);
            assert!(share.cover(boundary));
            budget.calls.set(0);
            for _ in 0..10 {
                assert!(share.cover(boundary + 1_000));
                share.settle(boundary - 1_000);
            }
            assert_eq!(budget.calls.get(), 1, "{boundary}");
        }
        assert_eq!(budget.left_bytes.get(), 100 * STEP);
    }

    #[test]
    fn an_emptied_queue_holds_nothing() {
        let budget = Counted::new(100 * STEP);
        let mut share = Share::new(&budget);
        assert!(share.cover(FREE + 5 * STEP));
        share.settle(FREE / 2);
        assert_eq!(
            (share.drawn_bytes(), budget.left_bytes.get()),
            (0, 100 * STEP)
        );
        assert!(share.cover(FREE + 1));
        drop(share);
        assert_eq!(budget.left_bytes.get(), 100 * STEP);
    }
}
