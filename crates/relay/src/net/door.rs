//! The way in: connections that are accepted and not answered yet. An address that opens too many of them loses
//! its own, and nobody else's.

use crate::clock::Clock;
use crate::config::Config;
use crate::http::gate::Gate;
use crate::observe::log::{Event, Key, Log};
use crate::observe::metrics::{Dropped, Fill, Label, Metrics};
use crate::os::rlimit::Machine;
use crate::router::Router;
use relay_core::bucket::{Buckets, SourceKey, source_key};
use relay_core::lobby::{Entry, Lobby, Ticket};
use relay_core::{Millis, limits};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Time between two lines about dropped connections: whoever causes them must not fill the log.
const LOG_EVERY_MS: u64 = 1_000;

/// Who is on the way in.
pub(crate) struct Door {
    room: Room,
    clock: Clock,
    log: Log,
    metrics: Arc<Metrics>,
    /// Nobody is on the way in.
    emptied: Notify,
    inner: Mutex<Inner>,
}

struct Inner {
    lobby: Lobby<SourceKey>,
    /// The tasks of those in the lobby, from the moment on when they run.
    tasks: BTreeMap<Ticket, Option<AbortHandle>>,
    /// TCP connections of each address.
    connects: Option<Buckets<SourceKey>>,
    /// Drops since the last line about them.
    unreported: u64,
    next_report: Millis,
}

/// A connection's place in the lobby, given up when dropped.
pub(crate) struct Place {
    door: Arc<Door>,
    ticket: Ticket,
    answered: bool,
}

/// How many may be on the way in.
pub(crate) struct Places {
    /// Altogether.
    pub(crate) all: Room,
    /// From one address; 0: no limit.
    pub(crate) per_address: u32,
    /// TCP connections of one address: at once, and back each second. No limit if the first is 0.
    pub(crate) connects: (u32, u32),
}

/// How many may be on the way in altogether.
pub(crate) enum Room {
    Fixed(usize),
    /// What the machine has for them, and the descriptors that its connections could have and do not use.
    Beside(Machine, Arc<Gate>),
}

impl Room {
    fn places(&self) -> usize {
        match self {
            Self::Fixed(places) => *places,
            Self::Beside(machine, gate) => machine.handshakes_beside(gate.fill()),
        }
    }

    /// The default, unless it is configured.
    pub(crate) fn of(config: &Config, machine: Machine, gate: &Arc<Gate>) -> Self {
        let beside = || Self::Beside(machine, gate.clone());
        config.max_handshakes.map_or_else(beside, Self::Fixed)
    }

    /// However many peers are connected.
    fn least(&self) -> usize {
        match self {
            Self::Fixed(places) => *places,
            Self::Beside(machine, _) => machine.max_handshakes(),
        }
    }
}

impl Places {
    /// With the configured limits for one address.
    pub(crate) fn of(config: &Config, all: Room) -> Self {
        Self {
            all,
            per_address: config.max_handshakes_per_ip,
            connects: (config.connect_burst, config.connect_per_second),
        }
    }
}

impl Door {
    pub(crate) fn new(places: Places, router: &Router) -> Self {
        let (burst, per_second) = places.connects;
        let refill_ms = 1_000 / u64::from(per_second.clamp(1, 1_000));
        let connects = (burst > 0).then(|| Buckets::new(burst, refill_ms, limits::RATE_SOURCES));
        let lobby = Lobby::new(places.all.least(), places.per_address);
        Self {
            room: places.all,
            clock: router.clock,
            log: router.log.clone(),
            metrics: router.metrics.clone(),
            emptied: Notify::new(),
            inner: Mutex::new(Inner {
                lobby,
                tasks: BTreeMap::new(),
                connects,
                unreported: 0,
                next_report: Millis(0),
            }),
        }
    }

    /// Connections that are in, of how many.
    pub(crate) fn fill(&self) -> Fill {
        Fill {
            now: self.lock().lobby.len(),
            limit: self.room.places(),
        }
    }

    /// Waits until nobody is on the way in.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().lobby.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Addresses whose TCP connections are counted.
    pub(crate) fn connect_entries(&self) -> usize {
        self.lock().connects.as_ref().map_or(0, Buckets::len)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Plain bookkeeping: nothing panics under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection from `peer` in a task of its own, or drops it at once. With `known` its address is
    /// the client's; otherwise that of a proxy, which says later who is calling.
    pub(crate) fn enter<F>(
        self: &Arc<Self>,
        peer: IpAddr,
        known: bool,
        serve: impl FnOnce(Place) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(ticket) = self.admit(peer, known) else {
            return;
        };
        let place = Place {
            door: self.clone(),
            ticket,
            answered: false,
        };
        let task = tokio::spawn(serve(place)).abort_handle();
        match self.lock().tasks.get_mut(&ticket) {
            Some(slot) => *slot = Some(task),
            // It is over already, or had to make room; to abort it a second time changes nothing.
            None => task.abort(),
        }
    }

    /// A place in the lobby, at the cost of somebody with many if it is full. `None`: the address has no room.
    fn admit(&self, peer: IpAddr, known: bool) -> Option<Ticket> {
        let mut inner = self.lock();
        let key = known.then(|| source_key(peer));
        if let Some(key) = &key
            && !inner.may_connect(self.clock.now(), key)
        {
            self.dropped(&mut inner, Dropped::address_rate, Some(peer));
            return None;
        }
        inner.lobby.resize(self.room.places());
        match inner.lobby.enter(key) {
            Entry::Refused => {
                self.dropped(&mut inner, Dropped::address_full, Some(peer));
                None
            }
            Entry::Entered { ticket, evicted } => {
                // Whether it lost anything by that, its place knows.
                if let Some(oldest) = evicted
                    && let Some(Some(task)) = inner.tasks.remove(&oldest)
                {
                    task.abort();
                }
                inner.tasks.insert(ticket, None);
                Some(ticket)
            }
        }
    }

    /// Counts a connection of a `peer` that is none of the proxies, where only they may connect, as dropped.
    pub(crate) fn turn_away(&self, peer: IpAddr) {
        self.dropped(&mut self.lock(), Dropped::untrusted_proxy, Some(peer));
    }

    /// Counts a connection that is dropped before it was answered; `blamed` is the address that is the reason.
    fn dropped(&self, inner: &mut Inner, why: Dropped, blamed: Option<IpAddr>) {
        self.metrics.connections_dropped.inc(why);
        inner.unreported += 1;
        let now = self.clock.now();
        if now >= inner.next_report {
            inner.next_report = now.plus(LOG_EVERY_MS);
            let count = std::mem::take(&mut inner.unreported);
            let reason = why.value();
            let mut fields: Vec<(Key, &dyn std::fmt::Display)> =
                vec![(Key::Reason, &reason), (Key::Count, &count)];
            if let Some(blamed) = &blamed {
                fields.push((Key::Remote, blamed));
            }
            self.log.write(Event::ConnectionsDropped, &fields);
        }
    }
}

impl Inner {
    fn may_connect(&mut self, now: Millis, key: &SourceKey) -> bool {
        self.connects
            .as_mut()
            .is_none_or(|connects| connects.take(now, key).is_ok())
    }
}

impl Place {
    /// The connection came from a proxy, which says that `client` is calling. False: that address has no room, or the
    /// connection had to make room already.
    pub(crate) fn identify(&self, client: IpAddr) -> bool {
        let door = &self.door;
        let mut inner = door.lock();
        if !inner.tasks.contains_key(&self.ticket) {
            // It had to make room. That is counted when the place is given up, and is nothing the client did.
            return false;
        }
        let key = source_key(client);
        let why = if !inner.may_connect(door.clock.now(), &key) {
            Dropped::address_rate
        } else if !inner.lobby.identify(self.ticket, key) {
            Dropped::address_full
        } else {
            return true;
        };
        door.dropped(&mut inner, why, Some(client));
        false
    }

    /// The connection is answered, or will not be: if it has to make room from now on, nothing is lost by that.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.door.lock();
        inner.lobby.leave(self.ticket);
        if inner.lobby.is_empty() {
            self.door.emptied.notify_waiters();
        }
        let evicted = inner.tasks.remove(&self.ticket).is_none();
        if evicted && !self.answered {
            // With all places taken, nobody in particular is to blame.
            self.door.dropped(&mut inner, Dropped::all_full, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_connection_that_made_room_in_its_header_is_counted_once() {
        let router = Router::silent();
        let places = Places {
            all: Room::Fixed(1),
            per_address: 0,
            connects: (1, 1),
        };
        let door = Arc::new(Door::new(places, &router));
        let (proxy, client) = ([192, 0, 2, 1].into(), [198, 51, 100, 1].into());
        let (sender, entered) = mpsc::channel();
        for _ in 0..2 {
            let sender = sender.clone();
            door.enter(proxy, false, |place| {
                sender.send(place).unwrap();
                std::future::pending()
            });
        }
        let (evicted, inside) = (entered.recv().unwrap(), entered.recv().unwrap());
        assert!(!evicted.identify(client));
        drop(evicted);
        assert!(inside.identify(client), "nobody has taken its token");
        let dropped = &router.metrics.connections_dropped;
        assert_eq!((dropped.get(Dropped::all_full), dropped.sum()), (1, 1));
    }
}
