//! Every slot of a relay, with their deadlines and counts.

use std::collections::{BTreeMap, BTreeSet};

use crate::bucket::{Buckets, RetryAfter};
use crate::slot::{Context, Effects, Input, Slot, Tenure};
use crate::{Millis, Policy, ServerId, limits};

/// Every slot. It touches one of them per step, so several hubs can share the server-ids between them.
///
/// It never looks at a clock: the caller tells the time with each call, in any order of calls that its clock
/// allows, and calls [`expire`](Self::expire) when [`deadline`](Self::deadline) has come. A step doesn't fire
/// timers that are due: an input that arrived in time but is processed late still counts.
///
/// ```
/// use relay_core::{Claim, Conn, Effect, Hub, Input, Millis, Policy, ServerId};
///
/// let mut hub = Hub::new(Policy::default(), Millis::ZERO);
/// let (server, daemon, phone) = (ServerId::new("8f7e1c0a"), Conn(1), Conn(2));
/// let (now, mut out) = (Millis(60_000), Vec::new());
/// hub.step(now, &server, Input::Claim { conn: daemon, instance: None }, &mut out);
/// hub.step(now, &server, Input::Register { conn: phone }, &mut out);
/// hub.step(now, &server, Input::PhoneFrame { conn: phone }, &mut out);
/// let effects: Vec<Effect> = out.into_iter().map(|(_, effect)| effect).collect();
/// assert_eq!(effects, [
///     Effect::Claimed { conn: daemon, how: Claim::Fresh },
///     Effect::Registered { conn: phone },
///     Effect::Link { phone, binary: daemon },
/// ]);
/// assert_eq!(hub.deadline(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hub {
    pub(crate) policy: Policy,
    boot_park_until: Millis,
    pub(crate) slots: BTreeMap<ServerId, Slot>,
    /// The deadline of every slot that has one.
    pub(crate) timers: BTreeSet<(Millis, ServerId)>,
    pub(crate) counts: Counts,
    short_tenures: Buckets<ServerId>,
}

/// How many there are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Slots with a holder; those in grace have none.
    pub binaries: usize,
    /// Slots in grace: the holder left, and may come back.
    pub grace: usize,
    /// Slots of nobody, in which phones are parked.
    pub waiting: usize,
    /// Registered phones, parked ones included.
    pub phones: usize,
    /// Parked phones.
    pub parked: usize,
}

impl Hub {
    /// An empty hub, at the start of the relay: phones are parked for [`Policy::boot_park_ms`] from `now`.
    pub fn new(mut policy: Policy, now: Millis) -> Self {
        // A probe takes time: with none it would be due again in the very step that fires it.
        policy.probe_timeout_ms = policy.probe_timeout_ms.max(1);
        policy.probe_dead_path_ms = policy.probe_dead_path_ms.max(1);
        let short_tenures = Buckets::new(
            policy.redial_burst,
            policy.redial_refill_ms,
            limits::REDIAL_IDS,
        );
        Self {
            boot_park_until: now.plus(policy.boot_park_ms),
            policy,
            slots: BTreeMap::new(),
            timers: BTreeSet::new(),
            counts: Counts::default(),
            short_tenures,
        }
    }

    /// Whether a binary may claim `server`; to be asked before its upgrade. It takes nothing.
    ///
    /// # Errors
    /// [`RetryAfter`] if holders of `server` keep ending right after their claim, or if
    /// [`limits::CLAIMANTS_PER_SERVER`] are waiting for it already.
    pub fn admit(&self, now: Millis, server: &ServerId) -> Result<(), RetryAfter> {
        if self.policy.redial_burst > 0 {
            self.short_tenures.check(now, server)?;
        }
        match self.slots.get(server).map(|slot| &slot.tenure) {
            Some(Tenure::Live(live)) if live.claimants.len() >= limits::CLAIMANTS_PER_SERVER => {
                let decided = live
                    .claimants
                    .iter()
                    .map(|claimant| claimant.takeover_at)
                    .min();
                Err(RetryAfter(decided.unwrap_or(now).since(now).max(1)))
            }
            _ => Ok(()),
        }
    }

    /// Takes one input for `server`, and appends what is to be done.
    pub fn step(&mut self, now: Millis, server: &ServerId, input: Input, out: &mut Effects) {
        self.note_short_tenure(now, server, &input);
        self.update(now, server, out, |slot, cx| slot.step(input, cx));
    }

    /// When the next timer is due.
    pub fn deadline(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Fires every timer that is due at `now`, and appends what is to be done.
    pub fn expire(&mut self, now: Millis, out: &mut Effects) {
        while self.deadline().is_some_and(|at| at <= now) {
            // Taken out first: whatever the slot does with it, this loop moves on.
            if let Some((_, server)) = self.timers.pop_first() {
                self.update(now, &server, out, Slot::expire);
            }
        }
    }

    /// For how long, in milliseconds, the slot of `server` has been without the binary that may come back. `None` if
    /// it isn't in grace.
    pub fn away_ms(&self, now: Millis, server: &ServerId) -> Option<u64> {
        let slot = self.slots.get(server)?;
        matches!(slot.tenure, Tenure::Grace(_)).then(|| now.since(slot.since))
    }

    /// Server-ids of which short tenures are remembered.
    pub fn redial_entries(&self) -> usize {
        self.short_tenures.len()
    }

    /// How many there are now.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Changes one slot, and keeps the timers and the counts true.
    fn update(
        &mut self,
        now: Millis,
        server: &ServerId,
        out: &mut Effects,
        change: impl FnOnce(&mut Slot, &mut Context<'_>),
    ) {
        let mut cx = Context {
            now,
            policy: &self.policy,
            may_wait: self.counts.grace < self.policy.grace_slots,
            boot_park_until: self.boot_park_until,
            server,
            out,
        };
        let slot = self.slots.entry(server.clone());
        let slot = slot.or_insert_with(|| Slot::new(now));
        let (counts, deadline) = (slot.counts(), slot.deadline());
        change(slot, &mut cx);
        self.counts = self.counts.replacing(counts, slot.counts());
        let next = slot.deadline();
        if slot.is_vacant() {
            self.slots.remove(server);
        }
        if next != deadline {
            deadline.map(|at| self.timers.remove(&(at, server.clone())));
            next.map(|at| self.timers.insert((at, server.clone())));
        }
    }

    /// A holder that ends right after its claim will be back at once: count it.
    fn note_short_tenure(&mut self, now: Millis, server: &ServerId, input: &Input) {
        let (Input::BinaryGone { conn }, Some(slot)) = (input, self.slots.get(server)) else {
            return;
        };
        let short = slot.is_short_tenure(*conn, self.policy.redial_short_tenure_ms, now);
        if self.policy.redial_burst > 0 && short {
            // If there is none left to take, further claims are refused already.
            let _ = self.short_tenures.take(now, server);
        }
    }
}

impl Counts {
    const fn replacing(self, old: Self, new: Self) -> Self {
        Self {
            binaries: self.binaries + new.binaries - old.binaries,
            grace: self.grace + new.grace - old.grace,
            waiting: self.waiting + new.waiting - old.waiting,
            phones: self.phones + new.phones - old.phones,
            parked: self.parked + new.parked - old.parked,
        }
    }
}

impl Slot {
    /// Its part of the counts.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            binaries: usize::from(matches!(self.tenure, Tenure::Live(_))),
            grace: usize::from(matches!(self.tenure, Tenure::Grace(_))),
            waiting: usize::from(matches!(self.tenure, Tenure::Empty) && !self.is_vacant()),
            phones: self.phones.len(),
            parked: self
                .phones
                .iter()
                .filter(|phone| phone.parked.is_some())
                .count(),
        }
    }
}
