//! What two or three threads do to each other in the relay, with what must be true whoever comes first.

use crate::router::{SlotHash, Table};
use crate::session::budget::QueueBudget;
use crate::session::item::{Credit, Item, Meaning};
use crate::session::peer::{Leg, Peer};
use crate::session::window::WINDOW_BYTES;
use loom::future::block_on;
use loom::thread;
use relay_core::budget::Budget as _;
use relay_core::limits::QUEUE_STEP_BYTES;
use relay_core::{Conn, Outbox, Resume, ServerId};
use relay_proto::close::Cause;
use relay_proto::ws::Payload;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

const STEP: usize = QUEUE_STEP_BYTES;

fn peer(leg: Leg, table: &Arc<Table>) -> Arc<Peer> {
    peer_of(Conn(1), leg, table)
}

fn peer_of(conn: Conn, leg: Leg, table: &Arc<Table>) -> Arc<Peer> {
    let outbox = Outbox::new(4 << 20, Arc::new(QueueBudget::new(1 << 20)));
    Arc::new(Peer::new(
        conn,
        leg,
        table.clone(),
        String::new(),
        "",
        String::new(),
        outbox,
    ))
}

fn phone() -> (Arc<Table>, Arc<Peer>) {
    let table = Arc::new(Table::new(ServerId::new("home"), SlotHash::default()));
    let phone = peer(Leg::Phone { suffix: 1 }, &table);
    (table, phone)
}

/// What a connection's task does: asks to be woken, looks, and sleeps until it is woken if there is nothing.
fn task<T>(peer: &Peer, mut look: impl FnMut() -> Option<T>) -> T {
    block_on(poll_fn(|cx| {
        peer.waker.register(cx.waker());
        look().map_or(Poll::Pending, Poll::Ready)
    }))
}

/// Queues of three connections draw from `--queue-bytes`, for two and a half of which there is room: never more than
/// there is goes out, the high-water mark is exact, and what is given back is there again.
pub fn budget() {
    let budget = Arc::new(QueueBudget::new(5 * STEP));
    let draw = |budget: &Arc<QueueBudget>| {
        let budget = budget.clone();
        move || usize::from(budget.draw(0, 2 * STEP)) * 2 * STEP
    };
    let others = [0; 2].map(|_| thread::spawn(draw(&budget)));
    let mut drawn_bytes = draw(&budget)();
    for other in others {
        drawn_bytes += other.join().unwrap_or_default();
    }
    // The third would hold more than it leaves.
    assert_eq!(drawn_bytes, 2 * STEP, "of {} there may be drawn", 5 * STEP);
    assert_eq!(budget.fill().now, drawn_bytes);
    assert_eq!(budget.high_water_bytes(), drawn_bytes);
    let giver = budget.clone();
    let giving = thread::spawn(move || giver.give_back(2 * STEP));
    let again = budget.draw(0, STEP);
    drop(giving.join());
    assert!(again && budget.fill().now == STEP, "given back");
    budget.give_back(STEP);
    assert_eq!(budget.fill().now, 0);
}

/// A phone's window is full; its binary's task writes the frames that are in it. The phone's task is woken, and reads on.
pub fn window() {
    let (_, phone) = phone();
    let credits = [0; 2].map(|_| Credit::take(&phone, WINDOW_BYTES / 2, 0));
    let binary = thread::spawn(move || credits.map(drop));
    task(&phone, || phone.window.is_open().then_some(()));
    drop(binary.join());
    assert_eq!(phone.window.used_bytes(), 0);
}

/// Two tasks queue an item each for a connection, whose task sleeps when there is none: it gets both.
pub fn outbox() {
    let (_, phone) = phone();
    let senders = [0; 2].map(|_| {
        let phone = phone.clone();
        thread::spawn(move || phone.push(Item::bare(Meaning::Delivered), 1).is_ok())
    });
    let mut taken = 0;
    task(&phone, || {
        let mut inner = phone.lock();
        while inner.outbox.pop().is_some() {
            taken += 1;
        }
        inner.idle = true;
        (taken == 2).then_some(())
    });
    for sender in senders {
        assert!(sender.join().unwrap_or_default(), "there was room");
    }
}

/// The router takes a connection in while somebody else closes it, and somebody else does so for another reason: its task
/// hears of both, and of one reason only.
pub fn admission() {
    let (_, phone) = phone();
    let [one, other] = [phone.clone(), phone.clone()];
    let router = thread::spawn(move || {
        one.admit();
        one.close(Cause::ShuttingDown);
    });
    let operator = thread::spawn(move || other.close(Cause::ClosedByOperator));
    let cause = task(&phone, || {
        let orders = &phone.lock().orders;
        orders.close.filter(|_| orders.admitted)
    });
    assert!(phone.was_admitted() && phone.is_ending());
    drop((router.join(), operator.join()));
    assert_eq!(
        phone.lock().orders.close,
        Some(cause),
        "the first order stands"
    );
}

/// A binary that resumes has two connections for a moment. The first still delivers a frame to a phone while the second,
/// which has the slot now, directs its close: nothing is queued behind the directive.
pub fn directive() {
    let (table, phone) = phone();
    let resumes = Leg::Binary { resumable: true };
    let [first, second] = [1, 2].map(|conn| peer_of(Conn(conn), resumes, &table));
    table.set_holder(Some(first.conn));
    let [one, other] = [phone.clone(), phone.clone()];
    let frame = || Item::frame(Payload::Borrowed(b"{}"), 0..2, Meaning::Delivered);
    let delivering = thread::spawn(move || one.deliver(&first, frame(), 2, None).is_ok());
    let directing = thread::spawn(move || {
        let close = Meaning::Directive {
            code: 4401,
            with_frame: false,
        };
        table.set_holder(Some(second.conn));
        let close = Item::bare(close);
        other.deliver(&second, close, 0, Some(4401)).is_ok()
    });
    let delivered = delivering.join().unwrap_or_default();
    assert!(directing.join().unwrap_or_default());
    let mut inner = phone.lock();
    let items: Vec<Meaning> = std::iter::from_fn(|| inner.outbox.pop())
        .map(|(item, _)| item.meaning)
        .collect();
    assert_eq!(items.len(), 1 + usize::from(delivered));
    assert!(
        matches!(items.last(), Some(Meaning::Directive { .. })),
        "{items:?}"
    );
}

/// The router looks whether a phone's frames have all arrived, while the binary's task has written one of them and is about
/// to give its credit back: that frame has not.
pub fn resume() {
    let (table, phone) = phone();
    let credit = Credit::take(&phone, 100, 0);
    let numbering = table.clone();
    let binary = thread::spawn(move || {
        numbering.number(&credit.phone);
        drop(credit);
    });
    let has_gap = || Resume::new(false, table.proven()).has_gap(phone.conn, phone.sent());
    assert!(has_gap(), "it is on its way");
    drop(binary.join());
    table.prove(1);
    assert!(!has_gap(), "its arrival is proven");
}
