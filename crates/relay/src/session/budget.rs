//! The bytes that the outboxes of all connections share.

use crate::observe::metrics::Fill;
use crate::sync::atomic::{AtomicUsize, Ordering};
use relay_core::budget::{Budget, left_after_draw};

/// What is left of `--queue-bytes`. Nothing else is ordered by it, and a queue touches it once in 64 KiB.
#[derive(Debug)]
pub(crate) struct QueueBudget {
    bytes: usize,
    left_bytes: AtomicUsize,
    /// The least that ever was left.
    least_left_bytes: AtomicUsize,
}

impl QueueBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            left_bytes: AtomicUsize::new(bytes),
            least_left_bytes: AtomicUsize::new(bytes),
        }
    }

    /// Bytes that are drawn now, of how many.
    pub(crate) fn fill(&self) -> Fill {
        Fill {
            now: self.bytes - self.left_bytes.load(Ordering::Relaxed).min(self.bytes),
            limit: self.bytes,
        }
    }

    /// The most bytes that ever were drawn.
    pub(crate) fn high_water_bytes(&self) -> usize {
        self.bytes - self.least_left_bytes.load(Ordering::Relaxed)
    }
}

impl Budget for QueueBudget {
    fn draw(&self, held_bytes: usize, more_bytes: usize) -> bool {
        let after_draw = |left_bytes| left_after_draw(left_bytes, held_bytes, more_bytes);
        let drawn = self
            .left_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, after_draw);
        let Ok(before_bytes) = drawn else {
            return false;
        };
        // Not what is left by now: somebody may have given back.
        self.least_left_bytes
            .fetch_min(before_bytes - more_bytes, Ordering::Relaxed);
        true
    }

    fn give_back(&self, bytes: usize) {
        self.left_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::{SlotHash, Table};
    use crate::session::item::Item;
    use crate::session::peer::{Leg, Peer};
    use relay_core::{Conn, Outbox, ServerId};
    use relay_proto::ws::Payload;
    use std::sync::Arc;

    const LARGE: &[u8] = &[b'0'; 100_000];

    fn peer(leg: Leg, outbox: Outbox<Item, Arc<QueueBudget>>) -> Peer {
        Peer::new(
            Conn(1),
            leg,
            Arc::new(Table::new(ServerId::new("home"), SlotHash::default())),
            String::new(),
            "",
            String::new(),
            outbox,
        )
    }

    /// A phone for which 500,000 bytes wait, 200,000 of them on their way into its socket.
    fn phone(budget: &Arc<QueueBudget>) -> Peer {
        let outbox = Outbox::new(4 << 20, budget.clone());
        let phone = peer(Leg::Phone { suffix: 1 }, outbox);
        for _ in 0..5 {
            assert_eq!(phone.push(Item::notice(LARGE), LARGE.len()), Ok(()));
        }
        for _ in 0..2 {
            assert!(phone.lock().outbox.pop().is_some());
        }
        phone
    }

    #[test]
    fn a_connection_that_is_over_holds_nothing_though_its_peer_is_kept() {
        let budget = Arc::new(QueueBudget::new(1 << 20));
        let left = || budget.left_bytes.load(Ordering::Relaxed);
        let kept = phone(&budget);
        assert_eq!(left(), (1 << 20) - 7 * 65_536);
        let drawn = Fill {
            now: 7 * 65_536,
            limit: 1 << 20,
        };
        assert_eq!(budget.fill(), drawn);
        drop(kept.drain());
        assert_eq!(
            left(),
            (1 << 20) - 4 * 65_536,
            "what is under way stays charged"
        );
        kept.retire();
        assert_eq!(left(), 1 << 20);
        drop(phone(&budget));
        assert_eq!(left(), 1 << 20);
        assert_eq!(budget.fill().now, 0);
        assert_eq!(budget.high_water_bytes(), 7 * 65_536);
    }

    #[test]
    fn nor_does_one_that_was_in_the_middle_of_a_large_message() {
        let budget = Arc::new(QueueBudget::new(1 << 20));
        let kept = phone(&budget);
        assert!(kept.lock().outbox.hold(50_000));
        kept.retire();
        assert_eq!(budget.fill().now, 0);
    }

    /// Others have drawn all: its binary is there, and reads.
    #[test]
    fn a_phone_is_told_apart_whose_binary_is_full_from_one_whose_relay_is() {
        let frame = || Payload::Borrowed(LARGE);
        let item = |frame: Payload<'_>| Item::notice(&frame);
        let leg = Leg::Binary { resumable: false };
        let binary = |own_bytes, common_bytes| {
            let budget = Arc::new(QueueBudget::new(common_bytes));
            let binary = peer(leg, Outbox::new(own_bytes, budget));
            let refused = binary.push_frame(LARGE.len(), frame(), item);
            refused.map(|refused| format!("{refused:?}"))
        };
        assert_eq!(binary(4 << 20, 1 << 20), None);
        assert_eq!(binary(1 << 20, 1 << 20).as_deref(), Some("Full"));
        assert_eq!(binary(4 << 20, 65_536).as_deref(), Some("Overloaded"));
    }

    #[test]
    fn what_a_writer_gave_up_is_charged_no_longer() {
        let budget = Arc::new(QueueBudget::new(1 << 20));
        let phone = phone(&budget);
        let all = std::iter::from_fn(|| phone.lock().outbox.pop()).collect();
        phone.give_up(&all);
        // The two before them are still under way.
        assert_eq!(
            budget.left_bytes.load(Ordering::Relaxed),
            (1 << 20) - 4 * 65_536
        );
    }

    #[test]
    fn queues_of_many_threads_leave_nothing_drawn() {
        const BYTES: usize = 8 << 20;
        let budget = Arc::new(QueueBudget::new(BYTES));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let budget = &budget;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let mut outbox = Outbox::new(4 << 20, budget.clone());
                        while outbox.push((), 10_000 * (thread + 1)).is_ok() {}
                        assert!(budget.left_bytes.load(Ordering::Relaxed) <= BYTES);
                    }
                });
            }
        });
        assert_eq!(budget.left_bytes.load(Ordering::Relaxed), BYTES);
    }
}
