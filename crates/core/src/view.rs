//! The slots as an operator sees them. Looking changes nothing.

use std::ops::Bound;

use crate::slot::{Slot, Tenure};
use crate::{Conn, Hub, Millis, ServerId};

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotState {
    /// A binary holds it.
    Live,
    /// The holder left, and may come back.
    Grace,
    /// Nobody's, but phones wait for a binary.
    Waiting,
}

/// One slot at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView<'a> {
    /// Its server-id.
    pub server: &'a ServerId,
    /// What it is.
    pub state: SlotState,
    /// Since when; for a live one, since its present holder has it.
    pub since: Millis,
    /// The holder's connection, if it is live.
    pub holder: Option<Conn>,
    /// Registered phones, parked ones included.
    pub phones: usize,
    /// Parked phones.
    pub parked: usize,
}

impl Hub {
    /// The slots behind `after` in the order of their server-ids, or all of them. So a caller that cannot keep
    /// others waiting for long may look at a few at a time.
    pub fn slots_after(&self, after: Option<&ServerId>) -> impl Iterator<Item = SlotView<'_>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.slots.range::<ServerId, _>((start, Bound::Unbounded));
        slots.map(|(server, slot)| view(server, slot))
    }

    /// The slot of `server`, if there is anything to it.
    pub fn slot(&self, server: &ServerId) -> Option<SlotView<'_>> {
        let (server, slot) = self.slots.get_key_value(server)?;
        Some(view(server, slot))
    }
}

fn view<'a>(server: &'a ServerId, slot: &Slot) -> SlotView<'a> {
    let (state, holder) = match &slot.tenure {
        Tenure::Live(live) => (SlotState::Live, Some(live.holder)),
        Tenure::Grace(_) => (SlotState::Grace, None),
        Tenure::Empty => (SlotState::Waiting, None),
    };
    let counts = slot.counts();
    SlotView {
        server,
        state,
        since: slot.since,
        holder,
        phones: counts.phones,
        parked: counts.parked,
    }
}
