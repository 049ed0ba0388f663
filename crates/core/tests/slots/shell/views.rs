//! What the hub says of itself, against what has happened.

use std::collections::{BTreeMap, BTreeSet};

use relay_core::{Counts, ServerId, SlotState, SlotView, invariant};

use super::{Role, Shell};

impl Shell {
    /// Whoever looks at the slots sees what has happened.
    pub(super) fn check_views(&mut self) {
        let phones = self.phones.values().filter(|phone| phone.registered);
        let mut registered = BTreeMap::<&ServerId, (usize, usize)>::new();
        for phone in phones {
            let Some(server) = &phone.server else {
                continue;
            };
            let (phones, parked) = registered.entry(server).or_default();
            *phones += 1;
            *parked += usize::from(phone.parked_since.is_some());
        }
        let (holders, graces) = (&self.holders, &self.graces);
        self.since.retain(|server, _| {
            holders.contains_key(server)
                || graces.contains(server)
                || registered.contains_key(server)
        });
        let expected = self.since.iter().map(|(server, since)| {
            let holder = holders.get(server).copied();
            let state = match (holder, graces.contains(server)) {
                (Some(_), _) => SlotState::Live,
                (None, true) => SlotState::Grace,
                (None, false) => SlotState::Waiting,
            };
            let (phones, parked) = registered.get(server).copied().unwrap_or_default();
            SlotView {
                server,
                state,
                since: *since,
                holder,
                phones,
                parked,
            }
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(self.hub.slots_after(None).collect::<Vec<_>>(), expected);
        for (n, view) in expected.iter().enumerate() {
            assert_eq!(self.hub.slot(view.server), Some(*view));
            let behind = self.hub.slots_after(Some(view.server));
            assert!(behind.eq(expected[n + 1..].iter().copied()));
        }
    }

    pub(super) fn check(&self) {
        assert_eq!(invariant::check(&self.hub), Ok(()));
        let phones = self.phones.values();
        let of_nobody = |server: &&ServerId| {
            !self.holders.contains_key(*server) && !self.graces.contains(*server)
        };
        let registered = phones.clone().filter(|phone| phone.registered);
        let servers: BTreeSet<_> = registered
            .filter_map(|phone| phone.server.as_ref())
            .collect();
        let reality = Counts {
            binaries: self.holders.len(),
            grace: self.graces.len(),
            waiting: servers.into_iter().filter(of_nobody).count(),
            phones: phones.clone().filter(|phone| phone.registered).count(),
            parked: phones
                .clone()
                .filter(|phone| phone.parked_since.is_some())
                .count(),
        };
        assert_eq!(self.hub.counts(), reality);
        let waiting = self
            .binaries
            .values()
            .any(|binary| binary.role == Role::Waiting);
        assert!(
            !waiting || self.hub.deadline().is_some(),
            "a claimant's wait has an end"
        );
    }
}
