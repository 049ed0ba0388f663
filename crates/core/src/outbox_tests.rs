use super::*;
use crate::budget::tests::Counted;
use proptest::prelude::*;

#[test]
fn sixteen_of_the_largest_envelopes_fill_the_budget() {
    let mut outbox = Outbox::new(limits::OUTBOX_BYTES, ());
    for n in 0..16 {
        assert_eq!(outbox.push(n, 262_069), Ok(()));
    }
    assert_eq!(outbox.push(16, 262_069), Err(Overflow::First));
}

#[test]
fn empty_items_are_bounded_too() {
    let mut outbox = Outbox::new(limits::OUTBOX_BYTES, ());
    let accepted = (0..70_000)
        .take_while(|_| outbox.push((), 0).is_ok())
        .count();
    assert_eq!(accepted, 65_536);
}

#[test]
fn the_first_overflow_drops_what_waits_and_later_ones_stay_quiet() {
    let mut outbox = Outbox::new(200, ());
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
fn a_message_that_is_not_complete_counts_in_the_common_budget() {
    let common = Counted::new(4 * limits::QUEUE_STEP_BYTES);
    let mut outbox: Outbox<(), _> = Outbox::new(limits::OUTBOX_BYTES, &common);
    assert!(outbox.hold(limits::QUEUE_FREE_BYTES));
    assert_eq!(common.calls.get(), 0);
    assert!(outbox.hold(3 * limits::QUEUE_FREE_BYTES));
    assert_eq!(common.left_bytes.get(), 2 * limits::QUEUE_STEP_BYTES);
    // One queue gets half of it, whatever it is for.
    assert!(!outbox.hold(4 * limits::QUEUE_FREE_BYTES));
    assert_eq!(outbox.push((), 60_000), Err(Overflow::First));
    assert!(outbox.hold(0));
    assert_eq!(common.left_bytes.get(), 4 * limits::QUEUE_STEP_BYTES);
}

#[test]
fn absurd_sizes_are_refused_not_wrapped() {
    let common = Counted::new(usize::MAX);
    let mut outbox = Outbox::new(usize::MAX, &common);
    assert_eq!(outbox.push((), 1), Ok(()));
    assert!(!outbox.has_room(usize::MAX, usize::MAX));
    assert_eq!(outbox.push((), usize::MAX), Err(Overflow::First));
}

#[test]
fn an_item_stays_charged_until_it_is_written() {
    let mut outbox = Outbox::new(100, ());
    assert_eq!(outbox.push((), 36), Ok(()));
    let (_, cost) = outbox.pop().unwrap();
    assert!(!outbox.has_room(0, 0));
    outbox.written(cost);
    assert!(outbox.has_room(36, 0) && !outbox.has_room(37, 0));
}

#[test]
fn a_closed_outbox_refuses() {
    let mut outbox = Outbox::new(1_000, ());
    assert_eq!(outbox.push((), 1), Ok(()));
    outbox.close();
    assert!(outbox.is_empty() && outbox.is_closed());
    assert_eq!(outbox.push((), 1), Err(Overflow::Closed));
}

#[test]
fn an_emptied_outbox_gives_its_memory_back() {
    let mut outbox = Outbox::new(limits::OUTBOX_BYTES, ());
    for n in 0..1_000 {
        assert_eq!(outbox.push(n, 10), Ok(()));
    }
    while outbox.pop().is_some() {}
    assert!(outbox.items.capacity() <= limits::OUTBOX_KEPT_ITEMS);
}

#[test]
fn all_that_waits_is_taken_at_once_and_stays_charged() {
    let mut outbox = Outbox::new(1_000, ());
    let mut taken = VecDeque::new();
    for n in 0..3 {
        assert_eq!(outbox.push(n, 36), Ok(()));
    }
    outbox.swap(&mut taken);
    assert_eq!(taken, [(0, 100), (1, 100), (2, 100)]);
    assert_eq!((outbox.len(), outbox.queued_bytes()), (0, 300));
    assert_eq!(outbox.items.capacity(), 0);
}

#[test]
fn more_room_is_wanted_before_it_grows_and_never_when_closed() {
    let mut outbox = Outbox::new(limits::OUTBOX_BYTES, ());
    assert!(outbox.outgrows_idle());
    assert_eq!(outbox.push(0, 0), Ok(()));
    assert!(!outbox.outgrows_idle());
    while !outbox.outgrows_idle() {
        assert_eq!(outbox.push(0, 0), Ok(()));
    }
    let waiting = outbox.len();
    assert!(waiting <= limits::OUTBOX_KEPT_ITEMS);
    outbox.move_to(VecDeque::with_capacity(64));
    assert_eq!(outbox.push(1, 0), Ok(()));
    assert_eq!((outbox.len(), outbox.items.capacity()), (waiting + 1, 64));
    assert_eq!(outbox.front(), Some(&0));
    outbox.close();
    assert!(!outbox.outgrows_idle());
}

#[test]
fn what_is_spare_stays_free() {
    let mut outbox = Outbox::new(1_000, ());
    assert_eq!(outbox.push((), 36), Ok(()));
    assert!(outbox.has_room(336, 500) && !outbox.has_room(337, 500));
    assert!(outbox.has_room(836, 0));
    outbox.close();
    assert!(!outbox.has_room(0, 0));
}

const KIB: usize = 1024;

#[test]
fn beyond_its_first_bytes_an_outbox_draws_and_gives_back() {
    let common = Counted::new(1_000 * KIB);
    let mut outbox = Outbox::new(limits::OUTBOX_BYTES, &common);
    let item_bytes = 16 * KIB - limits::OUTBOX_ITEM_BYTES;
    let drawn_after = |outbox: &mut Outbox<(), _>, items: usize| {
        for _ in 0..items {
            assert_eq!(outbox.push((), item_bytes), Ok(()));
        }
        1_000 * KIB - common.left_bytes.get()
    };
    assert_eq!(drawn_after(&mut outbox, 4), 0);
    assert_eq!(drawn_after(&mut outbox, 1), 64 * KIB);
    assert_eq!(drawn_after(&mut outbox, 3), 64 * KIB);
    assert_eq!(drawn_after(&mut outbox, 1), 128 * KIB);
    let costs: Vec<usize> = std::iter::from_fn(|| outbox.pop())
        .map(|(_, cost)| cost)
        .collect();
    assert_eq!(
        1_000 * KIB - common.left_bytes.get(),
        128 * KIB,
        "popped is not written"
    );
    costs.into_iter().for_each(|cost| outbox.written(cost));
    assert_eq!(common.left_bytes.get(), 1_000 * KIB);
}

#[test]
fn the_common_budget_refuses_a_push_as_its_own_does() {
    let common = Counted::new(192 * KIB);
    let mut greedy = Outbox::new(limits::OUTBOX_BYTES, &common);
    let pushed = (0..)
        .take_while(|_| greedy.push((), 10 * KIB) == Ok(()))
        .count();
    assert_eq!(
        pushed, 12,
        "64 KiB are free, and 64 of the 192 can be drawn"
    );
    assert_eq!(greedy.push((), 0), Err(Overflow::Later));
    assert_eq!(
        (greedy.queued_bytes(), common.left_bytes.get()),
        (0, 192 * KIB)
    );
}

#[test]
fn a_question_drops_nothing() {
    let common = Counted::new(0);
    let mut outbox = Outbox::new(limits::OUTBOX_BYTES, &common);
    assert_eq!(outbox.push((), 50 * KIB), Ok(()));
    assert!(!outbox.has_room(64 * KIB, 0));
    assert!(
        !outbox.has_room(6 * KIB, 1024 * KIB),
        "some of what is spare counts"
    );
    assert!(outbox.has_room(5 * KIB, 1024 * KIB), "but not all of it");
    assert_eq!((outbox.len(), outbox.push((), 10 * KIB)), (1, Ok(())));
}

#[test]
fn every_end_gives_everything_back() {
    let common = Counted::new(1_000 * KIB);
    let full = || {
        let mut outbox = Outbox::new(limits::OUTBOX_BYTES, &common);
        (0..30).for_each(|_| assert_eq!(outbox.push((), 10 * KIB), Ok(())));
        outbox
    };
    let ends: [fn(&mut Outbox<(), &Counted>); 4] = [
        |outbox| outbox.clear(),
        |outbox| outbox.close(),
        |outbox| assert_eq!(outbox.push((), 5_000 * KIB), Err(Overflow::First)),
        |outbox| {
            while let Some((_, cost)) = outbox.pop() {
                outbox.written(cost);
            }
        },
    ];
    for end in ends {
        let mut outbox = full();
        end(&mut outbox);
        assert_eq!(common.left_bytes.get(), 1_000 * KIB);
        // With one item under way, what it needs is kept until it is written, or all is dropped.
        let mut outbox = full();
        let (_, cost) = outbox.pop().unwrap();
        end(&mut outbox);
        outbox.written(cost);
        assert_eq!(common.left_bytes.get(), 1_000 * KIB);
    }
    let mut outbox = full();
    let _ = outbox.pop();
    drop(outbox);
    assert_eq!(common.left_bytes.get(), 1_000 * KIB);
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
        let mut outbox = Outbox::new(BUDGET, ());
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

    /// Many outboxes with one common budget: what is drawn is what is missing from it, after every operation; each
    /// queue is covered, and none holds on to what it doesn't need.
    #[test]
    fn nothing_of_the_common_budget_is_lost(
        common_kib in 0usize..3_000,
        ops in prop::collection::vec((0usize..8, op(), any::<bool>()), 0..300),
    ) {
        let common = Counted::new(common_kib * KIB);
        let new = || (Outbox::<(), _>::new(1_000 * KIB, &common), Vec::<usize>::new());
        let mut all: Vec<_> = (0..8).map(|_| new()).collect();
        for (at, op, dropped) in ops {
            let (outbox, under_way) = &mut all[at];
            match op {
                // Up to 300 KiB.
                Op::Push(kib) => {
                    let closed = outbox.is_closed();
                    let (left, held) = (common.left_bytes.get(), outbox.share.drawn_bytes());
                    let after = outbox.queued_bytes() + cost_bytes(kib * KIB);
                    let step = limits::QUEUE_STEP_BYTES;
                    let drawn = after.saturating_sub(limits::QUEUE_FREE_BYTES).next_multiple_of(step).max(held);
                    let fits = after <= 1_000 * KIB && (drawn == held || drawn + drawn - held <= left);
                    prop_assert_eq!(outbox.push((), kib * KIB).is_ok(), !closed && fits);
                }
                Op::Pop => under_way.extend(outbox.pop().map(|(_, cost)| cost)),
                Op::Written => under_way.drain(..).for_each(|cost| outbox.written(cost)),
                Op::Clear => outbox.clear(),
                Op::Close if dropped => all[at] = new(),
                Op::Close => outbox.close(),
            }
            let drawn = |outbox: &Outbox<_, _>| outbox.share.drawn_bytes();
            let total: usize = all.iter().map(|(outbox, _)| drawn(outbox)).sum();
            prop_assert_eq!(total + common.left_bytes.get(), common_kib * KIB);
            for (outbox, _) in &all {
                let queued = outbox.queued_bytes();
                prop_assert!(queued <= limits::QUEUE_FREE_BYTES + drawn(outbox));
                prop_assert!(drawn(outbox) <= queued + limits::QUEUE_STEP_BYTES);
                prop_assert!(queued > limits::QUEUE_FREE_BYTES / 2 || drawn(outbox) == 0);
            }
        }
        drop(all);
        prop_assert_eq!(common.left_bytes.get(), common_kib * KIB);
    }
}

#[test]
fn an_exempt_item_needs_room_in_its_own_queue_only() {
    let budget = Counted::new(limits::QUEUE_STEP_BYTES);
    let mut outbox = Outbox::new(2 * limits::QUEUE_FREE_BYTES, &budget);
    assert_eq!(outbox.push((), limits::QUEUE_FREE_BYTES - 1_000), Ok(()));
    assert_eq!(
        outbox.push_exempt((), 2_000),
        Ok(()),
        "nothing is left of the budget"
    );
    assert_eq!(
        (outbox.len(), budget.left_bytes.get()),
        (2, limits::QUEUE_STEP_BYTES)
    );
    while let Some((_, cost)) = outbox.pop() {
        outbox.written(cost);
    }
    assert_eq!(budget.left_bytes.get(), limits::QUEUE_STEP_BYTES);
    assert_eq!(
        outbox.push_exempt((), 2 * limits::QUEUE_FREE_BYTES),
        Err(Overflow::First)
    );
}

/// Else a binary that takes a notice now and then would have its whole outbox full of what nobody covers.
#[test]
fn what_is_exempt_is_bounded() {
    let budget = Counted::new(0);
    let mut outbox = Outbox::new(64 * limits::NOTICE_BYTES, &budget);
    let cost = 1_000 + limits::OUTBOX_ITEM_BYTES;
    let most = (limits::NOTICE_BYTES + limits::QUEUE_FREE_BYTES) / cost;
    for _ in 0..most {
        assert_eq!(outbox.push_exempt((), 1_000), Ok(()));
    }
    assert_eq!(outbox.push_exempt((), 1_000), Err(Overflow::First));
}

/// What is queued beside it may be exempt, and covered by nothing.
#[test]
fn to_hold_no_more_than_before_is_always_allowed() {
    let budget = Counted::new(2 * limits::QUEUE_STEP_BYTES);
    let mut outbox = Outbox::new(limits::NOTICE_BYTES, &budget);
    assert!(outbox.hold(limits::QUEUE_FREE_BYTES + 1));
    assert_eq!(outbox.push_exempt((), limits::QUEUE_FREE_BYTES), Ok(()));
    assert!(!outbox.hold(limits::QUEUE_FREE_BYTES + 2));
    assert!(outbox.hold(limits::QUEUE_FREE_BYTES + 1));
    assert!(outbox.hold(0));
}
