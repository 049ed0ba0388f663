//! What holds of a hub after every step.

use crate::slot::{Grace, Live, Slot, Tenure};
use crate::{Counts, Hub, ServerId};

/// A rule that a hub breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule} (server-id {server:?})")]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// The slot that breaks it, if it is about one.
    pub server: Option<ServerId>,
}

/// Checks every rule on every slot. Takes time in proportion to what the hub holds: for tests, simulation, and an
/// operator who asks.
///
/// # Errors
/// The first [`Violation`] found.
pub fn check(hub: &Hub) -> Result<(), Violation> {
    let mut counts = Counts::default();
    let mut deadlines = 0;
    for (server, slot) in &hub.slots {
        let part = slot.counts();
        counts.binaries += part.binaries;
        counts.grace += part.grace;
        counts.waiting += part.waiting;
        counts.phones += part.phones;
        counts.parked += part.parked;
        let indexed = slot.deadline().is_none_or(|at| {
            deadlines += 1;
            hub.timers.contains(&(at, server.clone()))
        });
        check_slot(hub, slot)
            .and_then(|()| rule(indexed, "every deadline is in the index"))
            .map_err(|rule| Violation {
                rule,
                server: Some(server.clone()),
            })?;
    }
    rule(counts == hub.counts, "the counts are those of the slots")
        .and_then(|()| {
            rule(
                deadlines == hub.timers.len(),
                "the index has no timer of its own",
            )
        })
        .map_err(|rule| Violation { rule, server: None })
}

type Checked = Result<(), &'static str>;

const fn rule(holds: bool, rule: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(rule) }
}

fn check_slot(hub: &Hub, slot: &Slot) -> Checked {
    rule(!slot.is_vacant(), "a vacant slot is not kept")?;
    rule(
        slot.phones.len() <= hub.policy.phones_per_server,
        "no more phones than allowed",
    )?;
    rule(
        all_differ(slot.phones.iter().map(|phone| phone.conn)),
        "a phone is registered once",
    )?;
    let parks = hub.policy.parks() || slot.counts().parked == 0;
    rule(parks, "nobody is parked when parking is off")?;
    match &slot.tenure {
        Tenure::Empty => check_empty(slot),
        Tenure::Live(live) => check_live(hub, slot, live),
        Tenure::Grace(grace) => check_grace(hub, slot, grace),
    }
}

fn check_empty(slot: &Slot) -> Checked {
    let waiting = slot
        .phones
        .iter()
        .all(|phone| phone.parked.is_some() && !phone.heard);
    rule(
        waiting,
        "phones of an empty slot are parked, and no binary has heard of them",
    )
}

fn check_live(hub: &Hub, slot: &Slot, live: &Live) -> Checked {
    rule(
        slot.counts().parked == 0,
        "nobody is parked while a binary holds the slot",
    )?;
    let binaries = live
        .claimants
        .iter()
        .map(|claimant| claimant.conn)
        .chain([live.holder]);
    rule(
        all_differ(binaries),
        "a binary holds the slot, or waits for it, once",
    )?;
    let increasing = live.claimants.is_sorted_by(|a, b| a.probe < b.probe);
    rule(increasing, "probe numbers grow in the order of the claims")?;
    let since_claim = live
        .claimants
        .iter()
        .all(|claimant| claimant.takeover_at.since(slot.since) >= hub.policy.probe_timeout_ms);
    rule(since_claim, "a claimant came after the holder")?;
    let sent = live
        .claimants
        .iter()
        .all(|claimant| claimant.probe <= slot.last_probe);
    rule(sent, "a claimant's probe was sent")
}

fn check_grace(hub: &Hub, slot: &Slot, grace: &Grace) -> Checked {
    let lasts = slot.since.plus(hub.policy.grace_ms) == grace.until;
    rule(lasts, "grace ends so long after it began")?;
    let resumable = grace.can_resume();
    for phone in &slot.phones {
        let parked = phone.parked.is_some();
        rule(
            parked || phone.heard || !hub.policy.parks(),
            "an unheard phone is parked in grace",
        )?;
        rule(
            !parked || !phone.heard || resumable,
            "a known phone is parked only for a resume",
        )?;
    }
    rule(
        resumable || grace.departed.is_empty(),
        "only a resumable tenure remembers who left",
    )?;
    let departed = grace.departed.iter().map(|departed| departed.conn);
    let bounded = grace.departed.len() <= hub.policy.phones_per_server;
    rule(
        bounded,
        "no more departed phones than there could be phones",
    )?;
    rule(
        all_differ(departed.chain(slot.phones.iter().map(|phone| phone.conn))),
        "a phone that left is not registered, and left once",
    )
}

fn all_differ(conns: impl Iterator<Item = crate::Conn>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    conns.into_iter().all(|conn| seen.insert(conn))
}
