//! Turns the hub's effects into actions on connections, and what happens to connections into the
//! hub's inputs. The only holder of the registry's lock.
//!
//! Frames do not come through here: a phone that has a link puts them into its binary's outbox
//! itself, and a binary finds its phones in their [`Table`].

mod apply;
mod audit;
#[cfg(test)]
pub(crate) mod home;
#[cfg(test)]
mod kept_tests;
mod seat;
mod slot_hash;
mod table;
mod view;

pub use audit::Holdings;
pub(crate) use seat::Seat;
pub(crate) use slot_hash::{SlotHash, SlotHasher};
pub(crate) use table::Table;
pub(crate) use view::SlotSnapshot;

use crate::clock::Clock;
use crate::config::Config;
use crate::observe::log::Log;
use crate::observe::metrics::{Fill, Metrics, Unparked};
use crate::os::random;
use crate::os::rlimit::Machine;
use crate::push::{Fcm, Push};
use crate::session::budget::QueueBudget;
use crate::session::item::Item;
use crate::session::peer::{Leg, Peer, Route};
use relay_core::bucket::RetryAfter;
use relay_core::drain::Drain;
use relay_core::limits;
use relay_core::{
    Complaints, Conn, Counts, Effects, Hub, Input, Instance, Millis, Outbox, ParkBudget, Path,
    PhoneEnd, ServerId, phone_conn_id,
};
use relay_proto::close::Cause;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The registry of one relay.
pub(crate) struct Router {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) log: Log,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) push: Push,
    pub(crate) hasher: SlotHasher,
    state: Mutex<State>,
    park: Mutex<ParkBudget>,
    /// Shared by the outboxes of all connections.
    queue: Arc<QueueBudget>,
    /// Of each binary; apart, of those that the log's level leaves out and only the page shows.
    complaints: Mutex<Complaints<(Conn, bool)>>,
    next_conn: AtomicU64,
    /// The hub's next deadline may be earlier than the one the timer sleeps for.
    rescheduled: Notify,
    /// The last connection is gone.
    emptied: Notify,
}

struct State {
    hub: Hub,
    /// Every connection from its claim, or its dial as a phone, until its task ends, oldest first: so they are closed.
    peers: BTreeMap<Conn, Arc<Peer>>,
    /// Each with the number of its seats.
    tables: HashMap<ServerId, (Arc<Table>, usize)>,
    /// What a departed binary that may resume left behind.
    carried: HashMap<ServerId, Carried>,
    /// Phones that left while their binary was away but may resume.
    departed: BTreeMap<Conn, Arc<Peer>>,
    shutting_down: bool,
    effects: Effects,
}

/// For a binary that may come back: its frames, and the account of those that it has.
struct Carried {
    /// Outlives the last connection of its server-id.
    table: Arc<Table>,
    items: VecDeque<(Item, usize)>,
    /// Taken from the budget for parked frames.
    bytes: usize,
}

impl State {
    /// The connections of each server-id, its binaries first.
    fn groups(&self) -> Vec<Vec<Arc<Peer>>> {
        let mut groups: BTreeMap<&ServerId, Vec<Arc<Peer>>> = BTreeMap::new();
        for peer in self.peers.values() {
            groups
                .entry(&peer.table.server)
                .or_default()
                .push(peer.clone());
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        for group in &mut groups {
            group.sort_by_key(|peer| matches!(peer.leg, Leg::Phone { .. }));
        }
        groups
    }
}

impl Router {
    pub(crate) fn new(
        config: Config,
        machine: Machine,
        clock: Clock,
        log: Log,
        fcm: Option<Fcm>,
    ) -> Self {
        let metrics = Arc::<Metrics>::default();
        let hub = Hub::new(config.policy.clone(), clock.now());
        let queue_bytes = config.queue_bytes.unwrap_or_else(|| machine.queue_bytes());
        let park_bytes = config.park_total_bytes;
        let park = ParkBudget::new(park_bytes.unwrap_or_else(|| machine.park_bytes()));
        Self {
            queue: Arc::new(QueueBudget::new(queue_bytes)),
            park: Mutex::new(park.with_phone_bytes(config.park_phone_bytes)),
            push: Push::new(fcm, &config.wakes, clock, log.clone(), metrics.clone()),
            config,
            clock,
            log,
            metrics,
            hasher: SlotHasher::new(),
            state: Mutex::new(State {
                hub,
                peers: BTreeMap::new(),
                tables: HashMap::new(),
                carried: HashMap::new(),
                departed: BTreeMap::new(),
                shutting_down: false,
                effects: Effects::new(),
            }),
            complaints: Mutex::default(),
            next_conn: AtomicU64::new(1),
            rescheduled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// One with the defaults that logs nothing.
    #[cfg(test)]
    pub(crate) fn silent() -> Arc<Self> {
        Self::silent_with(Config::default())
    }

    /// The same with this configuration.
    #[cfg(test)]
    pub(crate) fn silent_with(config: Config) -> Arc<Self> {
        let log = Log::start(crate::observe::log::LogSettings::silent());
        let machine = Machine::look();
        Arc::new(Self::new(config, machine, Clock::start(), log, None))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if one did, giving up the relay would be worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connected peers now.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().hub.counts()
    }

    /// Bytes of queued frames that count against the common limit.
    pub(crate) fn queue(&self) -> &QueueBudget {
        &self.queue
    }

    /// Bytes of parked frames.
    pub(crate) fn parked_bytes(&self) -> Fill {
        let budget = self.park_budget();
        Fill {
            now: budget.used_bytes(),
            limit: budget.total_bytes(),
        }
    }

    /// Server-ids whose redials are counted.
    pub(crate) fn redial_entries(&self) -> usize {
        self.lock().hub.redial_entries()
    }

    /// Whether a binary may claim this server-id, asked before its upgrade.
    pub(crate) fn may_claim(&self, server: &ServerId) -> Result<(), RetryAfter> {
        self.lock().hub.admit(self.clock.now(), server)
    }

    fn next_conn(&self) -> Conn {
        Conn(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    fn table(&self, state: &mut State, server: &ServerId) -> Arc<Table> {
        let State {
            tables, carried, ..
        } = state;
        let make = || match carried.get(server) {
            Some(carried) => (carried.table.clone(), 0),
            None => {
                let hash = self.hasher.hash(server);
                (Arc::new(Table::new(server.clone(), hash)), 0)
            }
        };
        let (table, _) = tables.entry(server.clone()).or_insert_with(make);
        table.clone()
    }

    /// Claims a server-id for a new connection. A claim of a free slot has taken effect when this returns.
    pub(crate) fn claim(
        self: &Arc<Self>,
        server: &ServerId,
        version: String,
        instance: Option<Instance>,
        remote: &str,
    ) -> Seat {
        let conn = self.next_conn();
        let outbox = self.outbox(self.binary_outbox_bytes());
        let conn_id = format!("server-{server}-{:08x}", random());
        let mut state = self.lock();
        if let Some(away_ms) = state.hub.away_ms(self.clock.now(), server) {
            // Nothing can keep this claim from ending the grace window.
            let away = Duration::from_millis(away_ms);
            self.metrics.slot_away.observe_time(away);
        }
        let table = self.table(&mut state, server);
        let leg = Leg::Binary {
            resumable: instance.is_some(),
        };
        let peer = Peer::new(conn, leg, table, conn_id, remote, version, outbox);
        let seat = self.seat(&mut state, peer);
        self.step(&mut state, server, Input::Claim { conn, instance });
        drop(state);
        seat
    }

    /// A seat for a phone that is not registered yet.
    pub(crate) fn phone_seat(
        self: &Arc<Self>,
        server: &ServerId,
        device_name: String,
        remote: &str,
    ) -> Seat {
        let conn = self.next_conn();
        let mut state = self.lock();
        let table = self.table(&mut state, server);
        let mut suffix = random();
        while table.has_phone(suffix) {
            suffix = random();
        }
        let conn_id = phone_conn_id(server, suffix);
        let leg = Leg::Phone { suffix };
        let outbox = self.outbox(self.config.outbox_bytes);
        let peer = Peer::new(conn, leg, table, conn_id, remote, device_name, outbox);
        self.seat(&mut state, peer)
    }

    fn seat(self: &Arc<Self>, state: &mut State, peer: Peer) -> Seat {
        let peer = Arc::new(peer.connected_at(self.clock.now()));
        state.peers.insert(peer.conn, peer.clone());
        if let Some((_, seats)) = state.tables.get_mut(&peer.table.server) {
            *seats += 1;
        }
        if state.shutting_down {
            peer.close(Cause::ShuttingDown);
        }
        Seat::new(self.clone(), peer)
    }

    fn outbox(&self, budget_bytes: usize) -> Outbox<Item, Arc<QueueBudget>> {
        Outbox::new(budget_bytes, self.queue.clone())
    }

    /// What may wait for one binary: each phone fills its window, and one read of frames beyond it.
    fn binary_outbox_bytes(&self) -> usize {
        use crate::session::window::WINDOW_BYTES;
        let read_bytes = self.config.message_bytes.max(WINDOW_BYTES);
        let phone_bytes = read_bytes
            .saturating_mul(2)
            .saturating_add(WINDOW_BYTES)
            .saturating_add(self.config.park_phone_bytes);
        let phones = self.config.policy.phones_per_server;
        phones
            .saturating_mul(phone_bytes.saturating_mul(2))
            .saturating_add(limits::NOTICE_BYTES)
    }

    fn register(&self, peer: &Peer) {
        self.input(peer, Input::Register { conn: peer.conn });
    }

    fn phone_gone(&self, peer: &Peer, end: PhoneEnd) {
        let mut state = self.lock();
        peer.table.remove(peer);
        self.step(
            &mut state,
            &peer.table.server,
            Input::PhoneGone {
                conn: peer.conn,
                end,
            },
        );
        if !state.departed.contains_key(&peer.conn) {
            self.drop_parked(peer, Unparked::left);
            // Not to keep the binary's outbox for as long as this phone's closing handshake takes.
            peer.lock().route = Route::Ask;
        }
    }

    fn binary_gone(&self, peer: &Peer, unwritten: VecDeque<(Item, usize)>) {
        let mut state = self.lock();
        self.surrender(&mut state, peer, unwritten);
        self.step(
            &mut state,
            &peer.table.server,
            Input::BinaryGone { conn: peer.conn },
        );
    }

    /// A phone without a link has a frame.
    pub(crate) fn phone_frame(&self, peer: &Peer) {
        self.input(peer, Input::PhoneFrame { conn: peer.conn });
    }

    /// The holder answered a probe.
    pub(crate) fn probe_answered(&self, peer: &Peer, probe: u32) {
        self.input(
            peer,
            Input::Pong {
                conn: peer.conn,
                probe,
            },
        );
    }

    /// What the kernel knows of the path to the holder.
    pub(crate) fn path(&self, peer: &Peer, probe: u32, path: Path) {
        self.input(
            peer,
            Input::Path {
                conn: peer.conn,
                probe,
                path,
            },
        );
    }

    fn input(&self, peer: &Peer, input: Input) {
        self.step(&mut self.lock(), &peer.table.server, input);
    }

    fn step(&self, state: &mut State, server: &ServerId, input: Input) {
        let before = state.hub.deadline();
        state
            .hub
            .step(self.clock.now(), server, input, &mut state.effects);
        self.apply(state);
        if state.hub.deadline() != before {
            self.rescheduled.notify_one();
        }
    }

    /// Fires the hub's timers, for as long as the relay runs.
    pub(crate) async fn run_timers(&self) {
        loop {
            let deadline = {
                let mut state = self.lock();
                let State { hub, effects, .. } = &mut *state;
                hub.expire(self.clock.now(), effects);
                self.apply(&mut state);
                state.hub.deadline()
            };
            match deadline {
                None => self.rescheduled.notified().await,
                Some(deadline) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.clock.instant(deadline)) => {}
                        () = self.rescheduled.notified() => {}
                    }
                }
            }
        }
    }

    /// Closes connections one by one over `window`, and those that come meanwhile at once.
    ///
    /// Cancel-safe: what is not closed yet stays open.
    pub(crate) async fn drain(&self, window: Duration) {
        let mut drain = {
            let mut state = self.lock();
            self.turn_claimants_away(&mut state);
            let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
            let seed = u64::from(random()) << 32 | u64::from(random());
            Drain::new(self.clock.now(), window_ms, state.groups(), seed)
        };
        while let Some(deadline) = drain.deadline() {
            tokio::time::sleep_until(self.clock.instant(deadline)).await;
            while let Some(peer) = drain.due(self.clock.now()) {
                peer.close(Cause::ShuttingDown);
            }
        }
    }

    /// Begins a shutdown. Who waits for a holder waits no more: it goes with the relay, which is no reason for a takeover.
    fn turn_claimants_away(&self, state: &mut State) {
        state.shutting_down = true;
        let waiting = state.peers.values().filter(|peer| peer.is_waiting());
        for peer in waiting.cloned().collect::<Vec<_>>() {
            let gone = Input::BinaryGone { conn: peer.conn };
            self.step(state, &peer.table.server, gone);
            peer.close(Cause::ShuttingDown);
        }
    }

    /// Closes every connection, present and future, and waits until the last one is gone.
    ///
    /// Cancel-safe: the closes go on.
    pub(crate) async fn close_all(&self) {
        {
            let mut state = self.lock();
            self.turn_claimants_away(&mut state);
            for peer in state.peers.values() {
                peer.close(Cause::ShuttingDown);
            }
        }
        loop {
            let emptied = self.emptied.notified();
            if self.lock().peers.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn forget(&self, peer: &Peer) {
        let mut state = self.lock();
        state.peers.remove(&peer.conn);
        let server = &peer.table.server;
        if let Some((_, seats)) = state.tables.get_mut(server) {
            *seats -= 1;
            if *seats == 0 {
                state.tables.remove(server);
            }
        }
        // Others may hold on to it for its name: not to what it never got.
        peer.retire();
        if state.peers.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Bytes of frames one parked phone may have waiting.
    pub(crate) fn park_phone_bytes(&self) -> usize {
        self.config.park_phone_bytes
    }

    /// Takes room for a parked frame. False: there is none.
    pub(crate) fn reserve_park(&self, phone_bytes_now: usize, bytes: usize) -> bool {
        self.park_budget().reserve(phone_bytes_now, bytes)
    }

    fn park_budget(&self) -> MutexGuard<'_, ParkBudget> {
        // Plain arithmetic: nothing panics under this lock.
        self.park.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complaints(&self) -> MutexGuard<'_, Complaints<(Conn, bool)>> {
        // Plain arithmetic: nothing panics under this lock.
        let complaints = self.complaints.lock();
        complaints.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whole milliseconds since the relay started.
    pub(crate) fn uptime(&self) -> Millis {
        self.clock.now()
    }
}

/// 32 bits that nobody can guess: with others a binary's phones could be confused after a restart.
fn random() -> u32 {
    u32::from_ne_bytes(random::bytes())
}
