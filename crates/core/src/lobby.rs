//! Connections that were accepted and not answered yet: in their PROXY header, their TLS handshake or their request.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

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

/// A bounded number of connections, and a maximum for each key (who calls).
///
/// When it is full, the key with the most places, the newcomer's counted, gives up its oldest one; among keys with
/// equally many, the one whose oldest is the oldest. So a key that floods evicts itself, and nobody with fewer places.
/// In a flood of keys with one place each the oldest goes: honest handshakes are over in milliseconds, so that is one
/// that dawdles. Connections without a key count together as one, which has no maximum.
///
/// All operations take O(log n).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lobby<K> {
    capacity: usize,
    per_key_max: usize,
    inside: BTreeMap<Ticket, Option<K>>,
    /// Those inside, by key. A ticket is older than all greater ones. No queue is empty.
    queues: BTreeMap<Option<K>, BTreeSet<Ticket>>,
    /// One of each queue. The oldest of the greatest is the next to make room.
    ranks: BTreeSet<Rank>,
    next: Ticket,
}

/// How many a queue has, and its oldest.
type Rank = (usize, Reverse<Ticket>);

fn rank(queue: &BTreeSet<Ticket>) -> Option<Rank> {
    queue.first().map(|oldest| (queue.len(), Reverse(*oldest)))
}

impl<K: Ord + Clone> Lobby<K> {
    /// An empty lobby for `capacity` connections (at least 1), of which each key may have `per_key_max`, but no more
    /// than a quarter of them (at least 1); 0 is no limit.
    pub fn new(capacity: usize, per_key_max: u32) -> Self {
        let quarter = (capacity / 4).max(1);
        let per_key_max = match per_key_max {
            0 => usize::MAX,
            max => usize::try_from(max).map_or(quarter, |max| max.min(quarter)),
        };
        Self {
            capacity: capacity.max(1),
            per_key_max,
            inside: BTreeMap::new(),
            queues: BTreeMap::new(),
            ranks: BTreeSet::new(),
            next: Ticket(0),
        }
    }

    /// There is room for so many from now on (at least 1). The maximum of each key stays what it is. Where more are inside
    /// already, one makes room for each that enters.
    pub fn resize(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
    }

    /// A connection was accepted. One without a key comes from a proxy, whose header says later who calls.
    #[must_use]
    pub fn enter(&mut self, key: Option<K>) -> Entry {
        if self.has_maximum(&key) {
            return Entry::Refused;
        }
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        self.insert(ticket, key);
        // Never the newcomer: it is its queue's oldest only if alone there, and all others are older.
        let evicted = (self.inside.len() > self.capacity)
            .then(|| self.ranks.last().map(|(_, Reverse(oldest))| *oldest))
            .flatten();
        if let Some(oldest) = evicted {
            self.leave(oldest);
        }
        Entry::Entered { ticket, evicted }
    }

    /// Who calls is known now: `key`, in place of what was known before. False if the connection is not in the lobby
    /// any more: it was evicted, or has just left because its key has its maximum. Then it is to be closed.
    #[must_use]
    pub fn identify(&mut self, ticket: Ticket, key: K) -> bool {
        if !self.inside.contains_key(&ticket) {
            return false;
        }
        self.leave(ticket);
        let key = Some(key);
        let stays = !self.has_maximum(&key);
        if stays {
            self.insert(ticket, key);
        }
        stays
    }

    /// The connection is answered or closed. A ticket that left before is left alone.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Some(key) = self.inside.remove(&ticket) {
            self.change(key, |queue| queue.remove(&ticket));
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

    fn has_maximum(&self, key: &Option<K>) -> bool {
        let full = |queue: &BTreeSet<Ticket>| queue.len() >= self.per_key_max;
        key.is_some() && self.queues.get(key).is_some_and(full)
    }

    fn insert(&mut self, ticket: Ticket, key: Option<K>) {
        self.inside.insert(ticket, key.clone());
        self.change(key, |queue| queue.insert(ticket));
    }

    /// Changes the queue of `key`, and its rank with it.
    fn change(&mut self, key: Option<K>, change: impl FnOnce(&mut BTreeSet<Ticket>) -> bool) {
        let mut queue = self.queues.remove(&key).unwrap_or_default();
        if let Some(before) = rank(&queue) {
            self.ranks.remove(&before);
        }
        change(&mut queue);
        if let Some(after) = rank(&queue) {
            self.ranks.insert(after);
            self.queues.insert(key, queue);
        }
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
        let mut lobby = Lobby::new(8, 2);
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
    fn a_key_may_have_a_quarter_of_the_places_at_most() {
        for (capacity, most) in [(0, 1), (1, 1), (7, 1), (8, 2), (64, 16), (1024, 64)] {
            let mut lobby = Lobby::new(capacity, 64);
            for _ in 0..most {
                entered(lobby.enter(Some('a')));
            }
            assert_eq!(lobby.enter(Some('a')), Entry::Refused, "of {capacity}");
        }
    }

    #[test]
    fn the_key_with_the_most_places_makes_room() {
        let mut lobby = Lobby::new(4, 0);
        let [a, b, c, d] = ['a', 'b', 'b', 'a'].map(|key| entered(lobby.enter(Some(key))).0);
        // The newcomer's counts: this makes three of b.
        assert_eq!(entered(lobby.enter(Some('b'))).1, Some(b));
        // Two of each are left, and the oldest of a is the oldest.
        assert_eq!(entered(lobby.enter(Some('c'))).1, Some(a));
        assert_eq!(entered(lobby.enter(Some('d'))).1, Some(c));
        // All have one.
        assert_eq!(entered(lobby.enter(Some('e'))).1, Some(d));
    }

    #[test]
    fn a_lobby_may_grow_and_shrink() {
        let mut lobby = Lobby::new(2, 1);
        let [one, ..] = ['a', 'b'].map(|key| entered(lobby.enter(Some(key))).0);
        lobby.resize(3);
        assert_eq!(entered(lobby.enter(Some('c'))).1, None);
        assert_eq!(lobby.enter(Some('c')), Entry::Refused);
        lobby.resize(2);
        assert_eq!(lobby.len(), 3);
        assert_eq!(entered(lobby.enter(Some('d'))).1, Some(one));
    }

    #[test]
    fn those_without_a_key_count_together() {
        let mut lobby = Lobby::new(3, 1);
        entered(lobby.enter(Some('a')));
        let [one, two] = [None, None].map(|key| entered(lobby.enter(key)).0);
        assert_eq!(entered(lobby.enter(Some('b'))).1, Some(one));
        assert!(lobby.identify(two, 'c'));
        assert!(!lobby.identify(one, 'd'));
    }

    #[test]
    fn one_key_that_enters_endlessly_evicts_nobody_else() {
        for (capacity, max) in
            (4..=70).flat_map(|capacity| [0, 1, 2, 64].map(|max| (capacity, max)))
        {
            let mut lobby = Lobby::new(capacity, max);
            for other in 1..capacity {
                entered(lobby.enter(Some(other)));
            }
            let mut its = Vec::new();
            for _ in 0..3 * capacity {
                if let Entry::Entered { ticket, evicted } = lobby.enter(Some(0)) {
                    assert!(evicted.is_none_or(|ticket| its.contains(&ticket)));
                    its.push(ticket);
                }
            }
            let others = lobby.inside.values().filter(|key| **key != Some(0));
            assert_eq!(others.count(), capacity - 1);
        }
    }

    #[test]
    fn of_many_keys_with_one_place_the_oldest_goes() {
        let mut lobby = Lobby::new(5, 64);
        let came: Vec<_> = (0..100)
            .map(|key| entered(lobby.enter(Some(key))))
            .collect();
        for (n, (_, evicted)) in came.iter().enumerate() {
            assert_eq!(*evicted, n.checked_sub(5).map(|before| came[before].0));
        }
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
            3 => prop::option::of(0u8..6).prop_map(Op::Enter),
            2 => (any::<prop::sample::Index>(), 0u8..6).prop_map(|(at, key)| Op::Identify(at, key)),
            1 => any::<prop::sample::Index>().prop_map(Op::Leave),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            capacity in 1usize..16, max in 0u32..5, ops in prop::collection::vec(op(), 0..120),
        ) {
            let mut lobby = Lobby::new(capacity, max);
            let mut inside = Vec::<(Ticket, Option<u8>)>::new();
            let mut given = Vec::<Ticket>::new();
            let count = |inside: &[(Ticket, Option<u8>)], key: Option<u8>| {
                inside.iter().filter(|(_, other)| *other == key).count()
            };
            let has_room = |inside: &[(Ticket, Option<u8>)], key: Option<u8>| {
                let most = (capacity / 4).max(1).min(max as usize);
                max == 0 || key.is_none() || count(inside, key) < most
            };
            for op in ops {
                match op {
                    Op::Enter(key) if !has_room(&inside, key) => {
                        prop_assert_eq!(lobby.enter(key), Entry::Refused);
                    }
                    Op::Enter(key) => {
                        let (ticket, evicted) = entered(lobby.enter(key));
                        prop_assert!(!given.contains(&ticket));
                        given.push(ticket);
                        inside.push((ticket, key));
                        // The first of those whose key has the most.
                        let victim = (0..inside.len()).min_by_key(|n| Reverse(count(&inside, inside[*n].1)));
                        let full = inside.len() > capacity;
                        let expected = victim.filter(|_| full).map(|n| inside.remove(n).0);
                        prop_assert_eq!(evicted, expected);
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
                let keys: BTreeSet<_> = inside.iter().map(|(_, key)| *key).collect();
                prop_assert!(lobby.queues.keys().eq(&keys));
                prop_assert!(lobby.ranks.len() == keys.len() && inside.len() <= capacity);
            }
        }
    }
}
