//! The shared half of a connection: what other tasks may do to it.
//!
//! Each connection has one task, which alone touches its socket. Everybody else holds a [`Peer`]:
//! they queue items in its outbox or leave it an order, and wake the task.
//!
//! Lock order: the router's state, then a phone's [`Peer`], then its binary's.

use super::budget::QueueBudget;
use super::item::{Item, Meaning};
use super::stock::{self, Ring};
use super::tally::Tally;
use super::window::Window;
use crate::observe::metrics;
use crate::router::Table;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{AtomicWaker, Mutex, MutexGuard};
use relay_core::limits::NOTICE_BYTES;
use relay_core::outbox::{Outbox, Overflow};
use relay_core::{Conn, Millis, Sent};
use relay_proto::close::Cause;
use relay_proto::ws::Payload;
use std::sync::{Arc, PoisonError};

/// Which kind of peer a connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// A user's daemon.
    Binary {
        /// It named its process, and may continue its tenure after a disconnect.
        resumable: bool,
    },
    /// An app.
    Phone {
        /// The last part of its conn_id; unique among the phones of its server-id.
        suffix: u32,
    },
}

impl Leg {
    pub(crate) const fn is_phone(self) -> bool {
        matches!(self, Self::Phone { .. })
    }

    /// As metrics name it.
    pub(crate) fn label(self) -> metrics::Leg {
        match self {
            Self::Binary { .. } => metrics::Leg::binary,
            Self::Phone { .. } => metrics::Leg::phone,
        }
    }
}

/// Where a phone's frames go.
#[derive(Debug)]
pub(crate) enum Route {
    /// Nowhere yet: the next frame asks the router.
    Ask,
    /// Into the outbox of this binary.
    To(Arc<Peer>),
    /// Kept here, in order, until the binary returns.
    Parked(Parked),
}

/// The frames of a phone that waits for its binary.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    /// Oldest first.
    pub(crate) frames: Vec<Vec<u8>>,
    /// What they are charged: their lengths, and as much for each as in an outbox.
    pub(crate) bytes: usize,
    /// The router knows that there are frames.
    pub(crate) announced: bool,
}

/// Why a binary does not get a phone's frame.
#[derive(Debug)]
pub(crate) enum Refused<'a> {
    /// There is no room.
    Full,
    /// There would be room, but the common budget is used up.
    Overloaded,
    /// It takes nothing any more. The frame comes back.
    Closed(Payload<'a>),
}

/// What a connection's task is asked to do, and has not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Begin the closing handshake. The first cause stays.
    pub(crate) close: Option<Cause>,
    /// Send a ping with this probe number, the newest.
    pub(crate) probe: Option<u32>,
    /// Say whether the kernel still hears from the peer, for each of these probes.
    pub(crate) check_path: Vec<u32>,
    /// The registry took the connection in.
    pub(crate) admitted: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) outbox: Outbox<Item, Arc<QueueBudget>>,
    pub(crate) orders: Orders,
    pub(crate) route: Route,
    /// The task has nothing to write and wants to know when that changes.
    pub(crate) idle: bool,
    /// The binary asked for the end of this phone: it wants no close notice.
    pub(crate) directed: bool,
}

impl Inner {
    fn push(&mut self, item: Item, cost_bytes: usize) -> Result<(), Overflow> {
        if self.outbox.outgrows_idle()
            && let Some(room) = stock::ring()
        {
            self.outbox.move_to(room);
        }
        match item.meaning {
            // It is a promise to its binary, and no reason to end it: others may have used up what all share.
            Meaning::Notice => self.outbox.push_exempt(item, cost_bytes),
            _ => self.outbox.push(item, cost_bytes),
        }
    }
}

/// The shared half of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) conn: Conn,
    pub(crate) leg: Leg,
    pub(crate) table: Arc<Table>,
    /// The conn_id: on the wire for a phone, in logs for both.
    pub(crate) conn_id: Box<str>,
    /// Host part of the TCP peer's address.
    pub(crate) remote: Box<str>,
    /// What the peer says of itself, for the log: a binary's version, a phone's device name.
    pub(crate) label: Box<str>,
    pub(crate) waker: AtomicWaker,
    admitted: AtomicBool,
    ending: AtomicBool,
    /// For a phone: the number of its last frame that was written to a binary that may resume.
    pub(crate) last_written: AtomicU64,
    /// For a phone: what its frames may take up of its binary's outbox.
    pub(crate) window: Window,
    /// Tenths of a second from the relay's start to this connection's upgrade.
    connected_at_ds: u32,
    /// A phone's frames.
    pub(crate) tally: Tally,
    inner: Mutex<Inner>,
}

impl Peer {
    pub(crate) fn new(
        conn: Conn,
        leg: Leg,
        table: Arc<Table>,
        conn_id: String,
        remote: &str,
        label: String,
        outbox: Outbox<Item, Arc<QueueBudget>>,
    ) -> Self {
        Self {
            conn,
            leg,
            table,
            conn_id: conn_id.into(),
            remote: remote.into(),
            label: label.into(),
            waker: AtomicWaker::new(),
            admitted: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            last_written: AtomicU64::new(0),
            window: Window::new(),
            connected_at_ds: 0,
            tally: Tally::default(),
            inner: Mutex::new(Inner {
                outbox,
                orders: Orders::default(),
                route: Route::Ask,
                idle: false,
                directed: false,
            }),
        }
    }

    /// The same, connected at this time.
    pub(crate) fn connected_at(self, at: Millis) -> Self {
        Self {
            connected_at_ds: u32::try_from(at.0 / 100).unwrap_or(u32::MAX),
            ..self
        }
    }

    /// For how long it has been connected, in seconds.
    pub(crate) fn connected_seconds(&self, now: Millis) -> f64 {
        (now.0 / 100).saturating_sub(self.connected_at_ds.into()) as f64 / 10.0
    }

    /// Bytes queued for it.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.lock().outbox.queued_bytes()
    }

    /// Of a phone: what is known of its frames.
    pub(crate) fn sent(&self) -> Sent {
        // In this order: a frame is numbered before its credit is given back.
        let in_flight_bytes = self.window.used_bytes();
        Sent {
            in_flight_bytes,
            last_written: self.last_written.load(Ordering::SeqCst),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock; if one did, the state is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves an order and wakes the task.
    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.lock().orders);
        self.waker.wake();
    }

    /// Tells the task that the registry took the connection in.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
        self.order(|orders| orders.admitted = true);
    }

    /// Whether the registry ever took the connection in.
    pub(crate) fn was_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Whether it is a binary whose claim is not decided.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.leg, Leg::Binary { .. }) && !self.was_admitted()
    }

    /// Orders the closing handshake. The first order stands.
    pub(crate) fn close(&self, cause: Cause) {
        self.ending.store(true, Ordering::SeqCst);
        self.order(|orders| {
            orders.close.get_or_insert(cause);
        });
    }

    /// Whether it was ordered to close.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Queues an item. A task that is busy writing finds it by itself; an idle one is woken.
    pub(crate) fn push(&self, item: Item, cost_bytes: usize) -> Result<(), Overflow> {
        self.push_locked(self.lock(), item, cost_bytes)
    }

    fn push_locked(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        item: Item,
        cost_bytes: usize,
    ) -> Result<(), Overflow> {
        let pushed = inner.push(item, cost_bytes);
        let wake = pushed.is_ok() && std::mem::take(&mut inner.idle);
        drop(inner);
        if wake {
            self.waker.wake();
        }
        if pushed == Err(Overflow::First) && matches!(self.leg, Leg::Binary { .. }) {
            // It takes nothing, and what it lost cannot be made up for: its tenure is over.
            self.table.lose();
            self.close(Cause::WriteTimeout);
        }
        pushed
    }

    /// Queues a phone's frame for this binary, leaving room for close notices.
    pub(crate) fn push_frame<'a>(
        &self,
        cost_bytes: usize,
        frame: Payload<'a>,
        item: impl FnOnce(Payload<'a>) -> Item,
    ) -> Option<Refused<'a>> {
        let mut inner = self.lock();
        if inner.outbox.is_closed() {
            return Some(Refused::Closed(frame));
        }
        if !inner.outbox.fits(cost_bytes, NOTICE_BYTES) {
            return Some(Refused::Full);
        }
        if !inner.outbox.has_room(cost_bytes, NOTICE_BYTES)
            || inner.push(item(frame), cost_bytes).is_err()
        {
            return Some(Refused::Overloaded);
        }
        let wake = std::mem::take(&mut inner.idle);
        drop(inner);
        if wake {
            self.waker.wake();
        }
        None
    }

    /// Queues an item that was kept for this binary, leaving room for close notices.
    ///
    /// # Errors
    /// For what its phone is to be closed: it must not go on without this item, which is lost. The outbox has room for all
    /// that may be kept, but others may have used up what all share, or the binary may be gone again.
    pub(crate) fn push_kept(&self, item: Item, cost_bytes: usize) -> Result<(), Cause> {
        let mut inner = self.lock();
        if inner.outbox.is_closed() {
            return Err(Cause::BinaryAway);
        }
        let is_notice = matches!(item.meaning, Meaning::Notice);
        if !is_notice && !inner.outbox.has_room(cost_bytes, NOTICE_BYTES) {
            return Err(Cause::Overloaded);
        }
        self.push_locked(inner, item, cost_bytes)
            .map_err(|_| Cause::Overloaded)
    }

    /// Takes what waits in the outbox, at the taker's charge, and closes it.
    pub(crate) fn drain(&self) -> Vec<(Item, usize)> {
        let mut inner = self.lock();
        let items: Vec<_> = std::iter::from_fn(|| inner.outbox.pop()).collect();
        inner.outbox.written(cost_bytes(&items));
        inner.outbox.close();
        items
    }

    /// These items, taken from the outbox before, are not written by this connection.
    pub(crate) fn give_up(&self, items: &Ring) {
        if !items.is_empty() {
            self.lock().outbox.written(cost_bytes(items));
        }
    }

    /// Empties the outbox for good: the connection's task is over, and whatever it had under way is gone with it.
    pub(crate) fn retire(&self) {
        drop(self.drain());
        let mut inner = self.lock();
        let under_way_bytes = inner.outbox.queued_bytes();
        inner.outbox.written(under_way_bytes);
        // What it had sent of a message goes with its decoder; nothing is always covered.
        let _ = inner.outbox.hold(0);
    }

    /// Queues what its `binary` sends to this phone. After a close directive nothing more is taken, and
    /// the end of this phone is no news to the binary. Nor is anything taken from one that has been displaced: behind
    /// what its successor has sent it would be out of order.
    pub(crate) fn deliver(
        &self,
        binary: &Self,
        item: Item,
        cost_bytes: usize,
        close_code: Option<u16>,
    ) -> Result<(), Overflow> {
        let mut inner = self.lock();
        if inner.directed || !self.table.is_holder(binary.conn) {
            return Err(Overflow::Closed);
        }
        inner.directed = close_code.is_some() && !inner.outbox.is_closed();
        self.push_locked(inner, item, cost_bytes)
    }

    /// If it is parked, what it has sent since, for delivery or to be dropped; it asks from now on.
    pub(crate) fn take_parked(&self) -> Option<Parked> {
        let mut inner = self.lock();
        match std::mem::replace(&mut inner.route, Route::Ask) {
            Route::Parked(parked) => Some(parked),
            other => {
                inner.route = other;
                None
            }
        }
    }
}

fn cost_bytes<'a>(items: impl IntoIterator<Item = &'a (Item, usize)>) -> usize {
    items.into_iter().map(|(_, cost)| cost).sum()
}
