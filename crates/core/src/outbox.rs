//! The queue in front of one connection's writer.

use std::collections::VecDeque;

use crate::limits;

/// Why an item was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Overflow {
    /// The budget is exceeded for the first time: close the connection. What was waiting is gone.
    #[error("outbox is full")]
    First,
    /// It was exceeded before: the connection is being closed already.
    #[error("outbox was full before")]
    Later,
    /// The outbox was closed.
    #[error("outbox is closed")]
    Closed,
}

/// A first-in, first-out queue with a budget in bytes.
///
/// An item costs its bytes plus [`limits::OUTBOX_ITEM_BYTES`], and is charged from its push until the writer says
/// that it is written. An empty outbox keeps next to no memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbox<T> {
    items: VecDeque<(T, usize)>,
    budget_bytes: usize,
    charged_bytes: usize,
    refusal: Option<Overflow>,
}

impl<T> Outbox<T> {
    /// An empty outbox; what is charged never exceeds `budget_bytes`.
    pub const fn new(budget_bytes: usize) -> Self {
        Self {
            items: VecDeque::new(),
            budget_bytes,
            charged_bytes: 0,
            refusal: None,
        }
    }

    /// Queues `item`, which holds `bytes` bytes.
    ///
    /// # Errors
    /// [`Overflow`] if it was refused. The first overflow drops everything that waits, and from then on every item
    /// is refused: a connection that lost one item must not get the next one.
    pub fn push(&mut self, item: T, bytes: usize) -> Result<(), Overflow> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if !self.fits(bytes) {
            self.clear();
            self.refusal = Some(Overflow::Later);
            return Err(Overflow::First);
        }
        let cost = cost_bytes(bytes);
        self.charged_bytes += cost;
        self.items.push_back((item, cost));
        Ok(())
    }

    /// Whether an item of `bytes` bytes would be accepted now.
    pub fn fits(&self, bytes: usize) -> bool {
        self.refusal.is_none()
            && self.charged_bytes.saturating_add(cost_bytes(bytes)) <= self.budget_bytes
    }

    /// Takes the oldest item and what it costs. It stays charged until [`written`](Self::written) is told that
    /// cost; several items may be under way.
    pub fn pop(&mut self) -> Option<(T, usize)> {
        let popped = self.items.pop_front();
        self.shrink();
        popped
    }

    /// The oldest item.
    pub fn front(&self) -> Option<&T> {
        self.items.front().map(|(item, _)| item)
    }

    /// Items of this total cost, popped before, are written or given up.
    pub const fn written(&mut self, cost_bytes: usize) {
        self.charged_bytes = self.charged_bytes.saturating_sub(cost_bytes);
    }

    /// Drops everything that waits and refuses later items.
    pub fn close(&mut self) {
        self.clear();
        self.refusal = Some(Overflow::Closed);
    }

    /// Drops everything that waits. Items under way stay charged.
    pub fn clear(&mut self) {
        let waiting: usize = self.items.iter().map(|(_, cost)| cost).sum();
        self.charged_bytes -= waiting;
        self.items.clear();
        self.shrink();
    }

    /// Bytes charged now, those under way included.
    pub const fn queued_bytes(&self) -> usize {
        self.charged_bytes
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether items are refused, after [`close`](Self::close) or an overflow.
    pub const fn is_closed(&self) -> bool {
        self.refusal.is_some()
    }

    fn shrink(&mut self) {
        if self.items.is_empty() && self.items.capacity() > limits::OUTBOX_KEPT_ITEMS {
            self.items.shrink_to(limits::OUTBOX_KEPT_ITEMS);
        }
    }
}

const fn cost_bytes(bytes: usize) -> usize {
    bytes.saturating_add(limits::OUTBOX_ITEM_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sixteen_of_the_largest_envelopes_fill_the_budget() {
        let mut outbox = Outbox::new(limits::OUTBOX_BYTES);
        for n in 0..16 {
            assert_eq!(outbox.push(n, 262_069), Ok(()));
        }
        assert_eq!(outbox.push(16, 262_069), Err(Overflow::First));
    }

    #[test]
    fn empty_items_are_bounded_too() {
        let mut outbox = Outbox::new(limits::OUTBOX_BYTES);
        let accepted = (0..70_000)
            .take_while(|_| outbox.push((), 0).is_ok())
            .count();
        assert_eq!(accepted, 65_536);
    }

    #[test]
    fn the_first_overflow_drops_what_waits_and_later_ones_stay_quiet() {
        let mut outbox = Outbox::new(200);
        assert_eq!(outbox.push('a', 36), Ok(()));
        assert_eq!(outbox.push('b', 36), Ok(()));
        assert_eq!(outbox.pop(), Some(('a', 100)));
        assert_eq!(outbox.push('c', 0), Err(Overflow::First));
        assert_eq!((outbox.len(), outbox.queued_bytes()), (0, 100));
        assert_eq!(outbox.push('d', 0), Err(Overflow::Later));
        outbox.written(100);
        assert_eq!(outbox.push('e', 0), Err(Overflow::Later));
        assert_eq!(outbox.queued_bytes(), 0);
    }

    #[test]
    fn an_item_stays_charged_until_it_is_written() {
        let mut outbox = Outbox::new(100);
        assert_eq!(outbox.push((), 36), Ok(()));
        let (_, cost) = outbox.pop().unwrap();
        assert!(!outbox.fits(0));
        outbox.written(cost);
        assert!(outbox.fits(36) && !outbox.fits(37));
    }

    #[test]
    fn a_closed_outbox_refuses() {
        let mut outbox = Outbox::new(1_000);
        assert_eq!(outbox.push((), 1), Ok(()));
        outbox.close();
        assert!(outbox.is_empty() && outbox.is_closed());
        assert_eq!(outbox.push((), 1), Err(Overflow::Closed));
    }

    #[test]
    fn an_emptied_outbox_gives_its_memory_back() {
        let mut outbox = Outbox::new(limits::OUTBOX_BYTES);
        for n in 0..1_000 {
            assert_eq!(outbox.push(n, 10), Ok(()));
        }
        while outbox.pop().is_some() {}
        assert!(outbox.items.capacity() <= limits::OUTBOX_KEPT_ITEMS);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize),
        Pop,
        Written,
        Clear,
        Close,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (0usize..300).prop_map(Op::Push),
            6 => Just(Op::Pop),
            5 => Just(Op::Written),
            1 => Just(Op::Clear),
            1 => Just(Op::Close),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_two_lists_and_a_sum(ops in prop::collection::vec(op(), 0..200)) {
            const BUDGET: usize = 1_500;
            let mut outbox = Outbox::new(BUDGET);
            let (mut waiting, mut under_way) = (Vec::<(usize, usize)>::new(), Vec::<usize>::new());
            let mut refusal = None;
            for (n, op) in ops.into_iter().enumerate() {
                let charged = |waiting: &[(usize, usize)], under_way: &[usize]| -> usize {
                    waiting.iter().map(|(_, cost)| cost).sum::<usize>() + under_way.iter().sum::<usize>()
                };
                match op {
                    Op::Push(bytes) => {
                        let expected = if let Some(refusal) = refusal {
                            Err(refusal)
                        } else if charged(&waiting, &under_way) + bytes + 64 <= BUDGET {
                            waiting.push((n, bytes + 64));
                            Ok(())
                        } else {
                            waiting.clear();
                            refusal = Some(Overflow::Later);
                            Err(Overflow::First)
                        };
                        prop_assert_eq!(outbox.push(n, bytes), expected);
                    }
                    Op::Pop => {
                        let expected = (!waiting.is_empty()).then(|| waiting.remove(0));
                        under_way.extend(expected.map(|(_, cost)| cost));
                        prop_assert_eq!(outbox.pop(), expected);
                    }
                    Op::Written => {
                        if let Some(cost) = under_way.pop() {
                            outbox.written(cost);
                        }
                    }
                    Op::Clear => {
                        waiting.clear();
                        outbox.clear();
                    }
                    Op::Close => {
                        waiting.clear();
                        refusal = Some(Overflow::Closed);
                        outbox.close();
                    }
                }
                prop_assert_eq!(outbox.queued_bytes(), charged(&waiting, &under_way));
                prop_assert_eq!(outbox.len(), waiting.len());
                prop_assert!(outbox.queued_bytes() <= BUDGET);
            }
        }
    }
}
