//! The queue in front of one connection's writer.

use std::collections::VecDeque;

use crate::budget::{Budget, Share};
use crate::limits;

/// Why an item was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Overflow {
    /// Its own budget, or its share of the common one, is exceeded for the first time: close the connection. What was
    /// waiting is gone.
    #[error("outbox is full")]
    First,
    /// It was exceeded before: the connection is being closed already.
    #[error("outbox was full before")]
    Later,
    /// The outbox was closed.
    #[error("outbox is closed")]
    Closed,
}

/// A first-in, first-out queue with a budget in bytes, and a share of the [`Budget`] `B` of all queues.
///
/// An item costs its bytes plus [`limits::OUTBOX_ITEM_BYTES`], and is charged from its push until the writer says
/// that it is written. An empty outbox keeps next to no memory. What is drawn from the common budget follows what is
/// charged, in steps, and is given back when the outbox is dropped.
#[derive(Debug)]
pub struct Outbox<T, B: Budget> {
    items: VecDeque<(T, usize)>,
    budget_bytes: usize,
    charged_bytes: usize,
    /// Of the peer's message that is not complete; 4 GiB stand for more.
    held_bytes: u32,
    share: Share<B>,
    refusal: Option<Overflow>,
}

impl<T, B: Budget> Outbox<T, B> {
    /// An empty outbox; what is charged never exceeds `budget_bytes`, nor what is drawn from `common` by more than
    /// [`limits::QUEUE_FREE_BYTES`].
    pub const fn new(budget_bytes: usize, common: B) -> Self {
        Self {
            items: VecDeque::new(),
            budget_bytes,
            charged_bytes: 0,
            held_bytes: 0,
            share: Share::new(common),
            refusal: None,
        }
    }

    /// Queues `item`, which holds `bytes` bytes.
    ///
    /// # Errors
    /// [`Overflow`] if it was refused. The first overflow drops everything that waits, and from then on every item
    /// is refused: a connection that lost one item must not get the next one.
    pub fn push(&mut self, item: T, bytes: usize) -> Result<(), Overflow> {
        let has_room = self.has_room(bytes, 0);
        self.queue(item, bytes, has_room)
    }

    /// As [`push`](Self::push), for an item that is not refused because others use up the common budget. Such items must
    /// be few and small: [`limits::NOTICE_BYTES`] of what is charged need not be covered.
    ///
    /// # Errors
    /// As [`push`](Self::push), if that is not enough.
    pub fn push_exempt(&mut self, item: T, bytes: usize) -> Result<(), Overflow> {
        let has_room = self.has_room(bytes, 0) || self.is_exempt(bytes);
        self.queue(item, bytes, has_room)
    }

    fn is_exempt(&self, bytes: usize) -> bool {
        let charged_bytes = self.charged_with(bytes).saturating_add(self.held_bytes());
        let uncovered_bytes = charged_bytes.saturating_sub(self.share.covered_bytes());
        self.fits(bytes, 0) && uncovered_bytes <= limits::NOTICE_BYTES
    }

    fn queue(&mut self, item: T, bytes: usize, has_room: bool) -> Result<(), Overflow> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if !has_room {
            self.clear();
            self.refusal = Some(Overflow::Later);
            return Err(Overflow::First);
        }
        let cost = cost_bytes(bytes);
        self.charged_bytes += cost;
        self.items.push_back((item, cost));
        Ok(())
    }

    /// Whether an item of `bytes` bytes would be accepted now and leave `spare_bytes` of the outbox's own budget free.
    /// If so, its share of the common budget is drawn: with [`limits::QUEUE_SPARE_BYTES`] of the spare ones at most.
    pub fn has_room(&mut self, bytes: usize, spare_bytes: usize) -> bool {
        let covered_bytes = self
            .charged_with(bytes)
            .saturating_add(self.held_bytes())
            .saturating_add(spare_bytes.min(limits::QUEUE_SPARE_BYTES));
        self.refusal.is_none() && self.fits(bytes, spare_bytes) && self.share.cover(covered_bytes)
    }

    /// Whether the outbox's own budget allows an item of `bytes` bytes, and `spare_bytes` beside it.
    pub const fn fits(&self, bytes: usize, spare_bytes: usize) -> bool {
        self.charged_with(bytes).saturating_add(spare_bytes) <= self.budget_bytes
    }

    const fn charged_with(&self, bytes: usize) -> usize {
        self.charged_bytes.saturating_add(cost_bytes(bytes))
    }

    /// `bytes` of a message from the same peer are kept until it is complete. They count in the common budget as if they
    /// were queued. False: it does not allow so many more, and nothing is noted.
    #[must_use]
    pub fn hold(&mut self, bytes: usize) -> bool {
        let held = bytes <= self.held_bytes()
            || self.share.cover(self.charged_bytes.saturating_add(bytes));
        if held {
            self.held_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.settle();
        }
        held
    }

    /// Takes the oldest item and what it costs. It stays charged until [`written`](Self::written) is told that
    /// cost; several items may be under way.
    pub fn pop(&mut self) -> Option<(T, usize)> {
        let popped = self.items.pop_front();
        self.shrink();
        popped
    }

    /// Takes all that waits, as with [`pop`](Self::pop), and leaves the empty `room` in its place.
    pub fn swap(&mut self, room: &mut VecDeque<(T, usize)>) {
        debug_assert!(room.is_empty(), "what it holds was never charged");
        std::mem::swap(&mut self.items, room);
    }

    /// Whether the next item needs more room than an idle outbox keeps.
    pub fn outgrows_idle(&self) -> bool {
        self.refusal.is_none()
            && self.items.len() == self.items.capacity()
            && self.items.len() <= limits::OUTBOX_KEPT_ITEMS
    }

    /// Goes on in `room`, which is empty. What it had before is freed.
    pub fn move_to(&mut self, mut room: VecDeque<(T, usize)>) {
        room.append(&mut self.items);
        self.items = room;
    }

    /// The oldest item.
    pub fn front(&self) -> Option<&T> {
        self.items.front().map(|(item, _)| item)
    }

    /// Items of this total cost, popped before, are written or given up.
    pub fn written(&mut self, cost_bytes: usize) {
        self.charged_bytes = self.charged_bytes.saturating_sub(cost_bytes);
        self.settle();
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
        self.settle();
    }

    const fn held_bytes(&self) -> usize {
        self.held_bytes as usize
    }

    fn settle(&mut self) {
        self.share
            .settle(self.charged_bytes.saturating_add(self.held_bytes()));
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
#[path = "outbox_tests.rs"]
mod tests;
