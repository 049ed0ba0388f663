//! The slots for an operator who looks, and closes some. Whoever looks at all of them holds the lock for a few slots
//! at a time: no frame and no claim waits for an operator.

use super::{Router, SlotHash, State, Table};
use crate::session::peer::{Leg, Peer};
use relay_core::{Millis, ServerId, SlotState, SlotView};
use relay_proto::close::Cause;
use std::sync::Arc;

/// Slots that are looked at before others can get the lock: some ten microseconds' worth.
const AT_ONCE: usize = 64;

/// Slots after which the processor is offered to others. More often, a list would take long on a busy machine, where
/// each offer is taken.
const PAUSE: usize = 16 * AT_ONCE;

/// One slot at one moment.
#[derive(Clone)]
pub(crate) struct SlotSnapshot {
    pub(crate) server: ServerId,
    pub(crate) hash: SlotHash,
    pub(crate) state: SlotState,
    pub(crate) since: Millis,
    pub(crate) phones: usize,
    pub(crate) parked: usize,
    pub(crate) holder: Option<Arc<Peer>>,
    /// `None`: no connection belongs to it.
    table: Option<Arc<Table>>,
}

impl SlotSnapshot {
    fn new(state: &State, view: SlotView<'_>) -> Self {
        let table = state
            .tables
            .get(view.server)
            .map(|(table, _)| table.clone());
        Self {
            server: view.server.clone(),
            hash: table.as_ref().map(|table| table.hash).unwrap_or_default(),
            state: view.state,
            since: view.since,
            phones: view.phones,
            parked: view.parked,
            holder: view.holder.and_then(|conn| state.peers.get(&conn).cloned()),
            table,
        }
    }

    /// Its registered phones, oldest first.
    pub(crate) fn phones(&self) -> Vec<Arc<Peer>> {
        let table = self.table.as_ref();
        table.map(|table| table.phones()).unwrap_or_default()
    }

    /// Bytes queued for its binary and its phones.
    pub(crate) fn queue_bytes(&self) -> usize {
        let peers = self.phones().into_iter().chain(self.holder.clone());
        peers.map(|peer| peer.queued_bytes()).sum()
    }

    /// Closes its phone with this suffix. False: it has none.
    pub(crate) fn close_phone(&self, suffix: u32) -> bool {
        let its = Leg::Phone { suffix };
        let phone = self.phones().into_iter().find(|phone| phone.leg == its);
        phone.is_some_and(|phone| {
            phone.close(Cause::ClosedByOperator);
            true
        })
    }

    /// Closes its phones and its binary, and says how many connections these are.
    pub(crate) fn close(&self) -> usize {
        let peers = self.phones().into_iter().chain(self.holder.clone());
        peers
            .inspect(|peer| peer.close(Cause::ClosedByOperator))
            .count()
    }
}

impl Router {
    /// Every slot. Those that come or go meanwhile may be among them or not.
    pub(crate) fn slots(&self) -> Vec<SlotSnapshot> {
        let mut slots = Vec::new();
        self.look(|slot| {
            slots.push(slot);
            true
        });
        slots
    }

    /// The slot with this hash.
    pub(crate) fn slot(&self, hash: SlotHash) -> Option<SlotSnapshot> {
        let mut found = None;
        self.look(|slot| {
            if slot.hash == hash {
                found = Some(slot);
            }
            found.is_none()
        });
        found
    }

    /// Shows slots to `see` until it has seen enough.
    fn look(&self, mut see: impl FnMut(SlotSnapshot) -> bool) {
        let mut last = None;
        for round in 1.. {
            let state = self.lock();
            let views = state.hub.slots_after(last.as_ref()).take(AT_ONCE);
            let mut some: Vec<_> = views.map(|view| SlotSnapshot::new(&state, view)).collect();
            drop(state);
            for slot in some.iter_mut().filter(|slot| slot.table.is_none()) {
                slot.hash = self.hasher.hash(&slot.server);
            }
            if (round * AT_ONCE).is_multiple_of(PAUSE) {
                // Whoever waits for the lock is woken now, and may find it taken again each time.
                std::thread::yield_now();
            }
            let Some(end) = some.last() else { return };
            last = Some(end.server.clone());
            if !some.into_iter().all(&mut see) {
                return;
            }
        }
    }
}
