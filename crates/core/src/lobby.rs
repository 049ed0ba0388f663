//! Connections that were accepted and not answered yet: in their PROXY header, their TLS handshake or their request.

use std::collections::BTreeMap;

use crate::Concurrent;

/// One connection in the [`Lobby`]. Never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What becomes of a connection that enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Its key has its maximum: close it.
    Refused,
    /// It is in.
    Entered {
        /// To be given back with [`Lobby::leave`], whatever becomes of it.
        ticket: Ticket,
        /// There was no room: this one had to leave for it, and is to be closed.
        evicted: Option<Ticket>,
    },
}

/// A bounded number of connections, in the order they came, and a maximum for each key (who calls).
///
/// When it is full, the one that has been in it longest makes room: honest handshakes are over in milliseconds, so that
/// is one that dawdles. All operations take O(log n).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lobby<K> {
    capacity: usize,
    keys: Concurrent<K>,
    /// A ticket is older than all greater ones.
    inside: BTreeMap<Ticket, Option<K>>,
    next: Ticket,
}

impl<K: Ord + Clone> Lobby<K> {
    /// An empty lobby for `capacity` connections (at least 1), of which each key may have `per_key_max`; 0 is no limit.
    pub const fn new(capacity: usize, per_key_max: u32) -> Self {
        let capacity = if capacity == 0 { 1 } else { capacity };
        let max = if per_key_max == 0 {
            u32::MAX
        } else {
            per_key_max
        };
        Self {
            capacity,
            keys: Concurrent::new(max),
            inside: BTreeMap::new(),
            next: Ticket(0),
        }
    }

    /// A connection was accepted. One without a key comes from a proxy, whose header says later who calls.
    #[must_use]
    pub fn enter(&mut self, key: Option<K>) -> Entry {
        if key.as_ref().is_some_and(|key| !self.keys.enter(key)) {
            return Entry::Refused;
        }
        let evicted = (self.inside.len() >= self.capacity)
            .then(|| self.inside.first_key_value().map(|(oldest, _)| *oldest))
            .flatten();
        if let Some(oldest) = evicted {
            self.leave(oldest);
        }
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        self.inside.insert(ticket, key);
        Entry::Entered { ticket, evicted }
    }

    /// Who calls is known now: `key`, in place of what was known before. False if the connection is not in the lobby
    /// any more: it was evicted, or has just left because its key has its maximum. Then it is to be closed.
    #[must_use]
    pub fn identify(&mut self, ticket: Ticket, key: K) -> bool {
        let Some(known) = self.inside.get_mut(&ticket) else {
            return false;
        };
        if let Some(before) = known.take() {
            self.keys.leave(&before);
        }
        if self.keys.enter(&key) {
            *known = Some(key);
            return true;
        }
        self.inside.remove(&ticket);
        false
    }

    /// The connection is answered or closed. A ticket that left before is left alone.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Some(Some(key)) = self.inside.remove(&ticket) {
            self.keys.leave(&key);
        }
    }

    /// Connections inside.
    pub fn len(&self) -> usize {
        self.inside.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.inside.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entered(entry: Entry) -> (Ticket, Option<Ticket>) {
        match entry {
            Entry::Entered { ticket, evicted } => (ticket, evicted),
            Entry::Refused => panic!("refused"),
        }
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut lobby = Lobby::new(2, 0);
        let (a, _) = entered(lobby.enter(Some('a')));
        let (b, none) = entered(lobby.enter(Some('a')));
        assert_eq!(none, None);
        let (c, evicted) = entered(lobby.enter(None));
        assert_eq!(evicted, Some(a));
        lobby.leave(b);
        assert_eq!(entered(lobby.enter(None)).1, None);
        assert_eq!(entered(lobby.enter(None)).1, Some(c));
        assert_eq!(lobby.len(), 2);
    }

    #[test]
    fn a_key_with_its_maximum_is_refused_and_evicts_nobody() {
        let mut lobby = Lobby::new(2, 2);
        let (first, _) = entered(lobby.enter(Some('a')));
        entered(lobby.enter(Some('a')));
        assert_eq!(lobby.enter(Some('a')), Entry::Refused);
        assert_eq!(lobby.len(), 2);
        lobby.leave(first);
        lobby.leave(first);
        entered(lobby.enter(Some('a')));
        assert_eq!(lobby.enter(Some('a')), Entry::Refused);
    }

    #[test]
    fn an_evicted_connection_counts_no_longer() {
        let mut lobby = Lobby::new(1, 1);
        let (a, _) = entered(lobby.enter(Some('a')));
        assert_eq!(entered(lobby.enter(Some('b'))).1, Some(a));
        assert!(!lobby.identify(a, 'c'));
        assert_ne!(lobby.enter(Some('a')), Entry::Refused);
    }

    #[test]
    fn who_calls_may_be_known_later() {
        let mut lobby = Lobby::new(9, 1);
        let (one, _) = entered(lobby.enter(None));
        let (two, _) = entered(lobby.enter(None));
        assert!(lobby.identify(one, 'a'));
        assert!(lobby.identify(one, 'a'), "its own key is no obstacle");
        assert!(!lobby.identify(two, 'a'));
        assert_eq!(lobby.len(), 1);
        assert!(lobby.identify(one, 'b'));
        assert_eq!(lobby.enter(Some('b')), Entry::Refused);
        entered(lobby.enter(Some('a')));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Enter(Option<u8>),
        Identify(prop::sample::Index, u8),
        Leave(prop::sample::Index),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => prop::option::of(0u8..4).prop_map(Op::Enter),
            2 => (any::<prop::sample::Index>(), 0u8..4).prop_map(|(at, key)| Op::Identify(at, key)),
            1 => any::<prop::sample::Index>().prop_map(Op::Leave),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            capacity in 1usize..6, max in 0u32..4, ops in prop::collection::vec(op(), 0..80),
        ) {
            let mut lobby = Lobby::new(capacity, max);
            let mut inside = Vec::<(Ticket, Option<u8>)>::new();
            let mut given = Vec::<Ticket>::new();
            let has_room = |inside: &[(Ticket, Option<u8>)], key: Option<u8>| {
                let count = inside.iter().filter(|(_, other)| key.is_some() && *other == key).count();
                max == 0 || count < max as usize
            };
            for op in ops {
                match op {
                    Op::Enter(key) if !has_room(&inside, key) => {
                        prop_assert_eq!(lobby.enter(key), Entry::Refused);
                    }
                    Op::Enter(key) => {
                        let expected = (inside.len() == capacity).then(|| inside.remove(0).0);
                        let (ticket, evicted) = entered(lobby.enter(key));
                        prop_assert_eq!(evicted, expected);
                        prop_assert!(!given.contains(&ticket));
                        inside.push((ticket, key));
                        given.push(ticket);
                    }
                    Op::Identify(at, key) if !given.is_empty() => {
                        let ticket = *at.get(&given);
                        let found = inside.iter().position(|(other, _)| *other == ticket);
                        let expected = found.is_some_and(|n| {
                            inside[n].1 = None;
                            let stays = has_room(&inside, Some(key));
                            if stays {
                                inside[n].1 = Some(key);
                            } else {
                                inside.remove(n);
                            }
                            stays
                        });
                        prop_assert_eq!(lobby.identify(ticket, key), expected);
                    }
                    Op::Leave(at) if !given.is_empty() => {
                        let ticket = *at.get(&given);
                        inside.retain(|(other, _)| *other != ticket);
                        lobby.leave(ticket);
                    }
                    Op::Identify(..) | Op::Leave(_) => {}
                }
                let list: Vec<_> = lobby.inside.iter().map(|(ticket, key)| (*ticket, *key)).collect();
                prop_assert_eq!(&list, &inside);
                let keys: std::collections::BTreeSet<u8> = inside.iter().filter_map(|(_, key)| *key).collect();
                prop_assert_eq!(lobby.keys.len(), keys.len());
            }
        }
    }
}
