//! Counters: plain ones, sets of them by a label, and striped ones for what happens with every frame.

use super::labels::Label;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L>(Box<[Counter]>, PhantomData<L>);

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        let counters = L::ALL.iter().map(|_| Counter::default());
        Self(counters.collect(), PhantomData)
    }
}

impl<L: Label> Counters<L> {
    /// Adds one.
    pub fn inc(&self, label: L) {
        self.0[label.index()].inc();
    }

    /// The number of one value now.
    pub fn get(&self, label: L) -> u64 {
        self.0[label.index()].get()
    }

    /// The sum over all values.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// Threads beyond this number share.
pub(super) const STRIPES: usize = 16;

/// This thread's stripe of everything that is striped.
pub(super) fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> =
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES));
    MINE.get()
}

/// One cache line per stripe.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Stripe(AtomicU64);

/// A counter that threads add to without sharing a cache line.
#[derive(Debug, Default)]
pub struct Striped([Stripe; STRIPES]);

impl Striped {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0[stripe()].0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum over all threads.
    pub fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|stripe| stripe.0.load(Ordering::Relaxed))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads() {
        let striped = Striped::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| (0..1_000).for_each(|n| striped.add(n)));
            }
        });
        assert_eq!(striped.sum(), 2 * STRIPES as u64 * (999 * 1_000 / 2));
    }

    #[test]
    fn neighbouring_threads_do_not_share_a_stripe() {
        let stripes: Vec<usize> = (0..4)
            .map(|_| std::thread::spawn(stripe).join().unwrap())
            .collect();
        let mut different = stripes.clone();
        different.sort_unstable();
        different.dedup();
        // Other tests' threads take stripes in between, so two may meet again; all four cannot.
        assert!(different.len() > 1, "{stripes:?}");
    }
}
