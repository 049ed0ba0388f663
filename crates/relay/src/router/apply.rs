//! What each effect of the hub means for connections, metrics and the log.

use super::{Carried, Router, State};
use crate::observe::log::{Event, Key};
use crate::observe::metrics::{Endpoint, Outcome, Unparked};
use crate::session::item::{Credit, Item, Meaning};
use crate::session::peer::{Leg, Orders, Parked, Peer, Route};
use relay_core::{Claim, Conn, Effect, Resume, ServerId};
use relay_proto::close::Cause;
use relay_proto::envelope;
use relay_proto::ws::Payload;
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;

impl Router {
    /// Carries out the effects of a step, in their order.
    pub(super) fn apply(&self, state: &mut State) {
        let mut effects = std::mem::take(&mut state.effects);
        for (server, effect) in effects.drain(..) {
            self.apply_one(state, &server, &effect);
        }
        state.effects = effects;
    }

    fn apply_one(&self, state: &mut State, server: &ServerId, effect: &Effect) {
        let peer = |conn: &Conn| state.peers.get(conn).cloned();
        match effect {
            Effect::Claimed { conn, how } => self.claimed(state, server, *conn, *how),
            // Its task waits for an order, and keeps what the claimant says.
            Effect::Probing { .. } => {}
            Effect::ClaimRefused { conn } => {
                self.refused(server, peer(conn), Cause::AlreadyClaimed);
            }
            Effect::Displaced { conn } => {
                if let Some(binary) = peer(conn) {
                    self.surrender(state, &binary, VecDeque::new());
                    binary.close(Cause::Displaced);
                }
            }
            Effect::Released { .. } => {
                set_holder(state, server, None);
                self.event(Event::ServerReleased, server, &[]);
            }
            Effect::Probe { conn, probe } => {
                order(peer(conn), |orders| orders.probe = Some(*probe));
            }
            Effect::CheckPath { conn, probe } => {
                order(peer(conn), |orders| orders.check_path.push(*probe));
            }
            Effect::Registered { conn } => self.registered(peer(conn)),
            Effect::RegisterRefused { conn, cause } => self.refused(server, peer(conn), *cause),
            Effect::Link { phone, binary } => {
                if let (Some(phone), Some(binary)) = (peer(phone), peer(binary)) {
                    self.link(&phone, binary);
                }
            }
            Effect::Unlink { phone } => {
                if let Some(phone) = peer(phone) {
                    self.drop_parked(&phone, Unparked::delivered);
                    phone.lock().route = Route::Ask;
                    phone.waker.wake();
                }
            }
            Effect::Park { phone } => self.park(peer(phone)),
            Effect::Evict { phone, cause } => self.evict(peer(phone), *cause),
            Effect::Notice {
                binary,
                phone,
                code,
            } => {
                self.notice(state, server, *binary, *phone, *code);
            }
            Effect::Unnoticed { phone, code } => {
                if let Some(phone) = peer(phone) {
                    self.unnoticed(server, &phone, *code, "binary is gone");
                }
            }
            Effect::Departed { phone } => {
                if let Some(peer) = peer(phone) {
                    state.departed.insert(*phone, peer);
                }
            }
            Effect::DeliverDeparted { phone, binary } => {
                let binary = peer(binary);
                if let (Some(phone), Some(binary)) = (state.departed.get(phone), binary)
                    && !phone.is_ending()
                {
                    self.deliver_parked(phone, &binary);
                }
            }
            Effect::ForgetDeparted { phone } => {
                if let Some(phone) = state.departed.remove(phone) {
                    self.drop_parked(&phone, Unparked::left);
                }
            }
            Effect::GraceExpired => {
                drop(self.take_carried(state, server));
                self.metrics.grace_expiries.inc();
            }
        }
    }

    fn claimed(&self, state: &mut State, server: &ServerId, conn: Conn, how: Claim) {
        let Some(peer) = state.peers.get(&conn).cloned() else {
            return;
        };
        set_holder(state, server, Some(conn));
        let carried = self.take_carried(state, server);
        match how {
            Claim::Fresh => {}
            Claim::Reclaim => self.metrics.reclaims.inc(),
            Claim::Resume => {
                self.metrics.resumes.inc();
                self.event(Event::ServerResumed, server, &[(Key::Remote, &peer.remote)]);
            }
            Claim::Takeover => {
                self.metrics.takeovers.inc();
                self.event(
                    Event::ServerIdTakeover,
                    server,
                    &[(Key::Remote, &peer.remote)],
                );
            }
        }
        let fields: [(Key, &dyn Display); 2] = [
            (Key::BinaryVersion, &peer.label),
            (Key::Remote, &peer.remote),
        ];
        self.event(Event::ServerClaimed, server, &fields);
        self.metrics.attempt(Endpoint::server, Outcome::accept);
        if how == Claim::Resume {
            self.end_uncertain(state, &peer, &carried);
            let ending = |item: &Item| item.credit.as_ref().is_some_and(|c| c.phone.is_ending());
            for (item, _) in carried.into_iter().filter(|(item, _)| !ending(item)) {
                let bytes = item.len();
                let phone = item.credit.as_ref().map(|credit| credit.phone.clone());
                if let (Err(cause), Some(phone)) = (peer.push_kept(item, bytes), phone) {
                    phone.close(cause);
                }
            }
        } else {
            // A new tenure has lost nothing.
            peer.table.take_lost();
        }
        peer.admit();
    }

    /// Ends the phones whose frames may not all have reached the process that resumes: those written
    /// to its old connection without proof that it read them, and those still on their way there.
    fn end_uncertain(&self, state: &State, binary: &Peer, carried: &VecDeque<(Item, usize)>) {
        let table = &binary.table;
        let mut resume = Resume::new(table.take_lost(), table.proven());
        let credits = || carried.iter().filter_map(|(item, _)| item.credit.as_ref());
        for credit in credits() {
            resume.keep(credit.phone.conn, credit.bytes());
        }
        let registered = table.phones();
        let registered = registered.iter().map(|phone| (phone, true));
        // Of those that have left nothing is delivered behind a gap either.
        let departed = state.departed.values();
        let departed = departed.filter(|phone| phone.table.server == table.server);
        let senders = credits().map(|credit| &credit.phone);
        let left = departed.chain(senders).map(|phone| (phone, false));
        for (phone, registered) in registered.chain(left) {
            if phone.is_ending() || !resume.has_gap(phone.conn, phone.sent()) {
                continue;
            }
            if registered {
                self.metrics.evictions.inc();
            }
            phone.close(Cause::BinaryReclaimed);
        }
    }

    fn registered(&self, peer: Option<Arc<Peer>>) {
        let Some(peer) = peer else { return };
        peer.table.insert(&peer);
        self.metrics.attempt(Endpoint::client, Outcome::accept);
        let fields: [(Key, &dyn Display); 3] = [
            (Key::ConnId, &peer.conn_id),
            (Key::DeviceName, &peer.label),
            (Key::Remote, &peer.remote),
        ];
        self.event(Event::PhoneRegistered, &peer.table.server, &fields);
        peer.admit();
    }

    /// A connection the registry does not take.
    fn refused(&self, server: &ServerId, peer: Option<Arc<Peer>>, cause: Cause) {
        let Some(peer) = peer else { return };
        let (event, endpoint, outcome) = match cause {
            Cause::AlreadyClaimed => (
                Event::ServerIdConflict,
                Endpoint::server,
                Outcome::reject_409,
            ),
            Cause::TooManyPhones => (
                Event::PhoneRegisterAtCap,
                Endpoint::client,
                Outcome::reject_429,
            ),
            _ => (
                Event::PhoneRegisterNoServer,
                Endpoint::client,
                Outcome::reject_404,
            ),
        };
        self.event(event, server, &[(Key::Remote, &peer.remote)]);
        self.metrics.attempt(endpoint, outcome);
        peer.close(cause);
    }

    /// Connects a phone to its binary, what it has parked first.
    fn link(&self, phone: &Arc<Peer>, binary: Arc<Peer>) {
        if phone.is_ending() {
            return self.drop_parked(phone, Unparked::left);
        }
        self.deliver_parked(phone, &binary);
        if phone.is_ending() {
            // Behind what was lost nothing may follow.
            return;
        }
        phone.lock().route = Route::To(binary);
        phone.waker.wake();
    }

    fn park(&self, phone: Option<Arc<Peer>>) {
        let Some(phone) = phone else { return };
        let mut inner = phone.lock();
        if matches!(inner.route, Route::Parked(_)) {
            return;
        }
        inner.route = Route::Parked(Parked::default());
        drop(inner);
        phone.waker.wake();
        self.metrics.phones_parked.inc();
        self.event(
            Event::PhoneParked,
            &phone.table.server,
            &[(Key::ConnId, &phone.conn_id)],
        );
    }

    fn evict(&self, phone: Option<Arc<Peer>>, cause: Cause) {
        let Some(phone) = phone else { return };
        phone.table.remove(&phone);
        let outcome = match cause {
            Cause::NoServer | Cause::BinaryDidNotReturn => Unparked::expired,
            _ => Unparked::evicted,
        };
        self.drop_parked(&phone, outcome);
        if cause == Cause::BinaryReclaimed {
            self.metrics.evictions.inc();
        }
        phone.close(cause);
    }

    fn notice(&self, state: &mut State, server: &ServerId, binary: Conn, phone: Conn, code: u16) {
        let departed = state.departed.remove(&phone);
        if let Some(phone) = &departed {
            // What it had parked was handed over just now, or cannot be any more.
            self.drop_parked(phone, Unparked::left);
        }
        let Some(phone) = departed.or_else(|| state.peers.get(&phone).cloned()) else {
            return;
        };
        let text = envelope::close_notice(&phone.conn_id, code);
        let sent = match state.peers.get(&binary) {
            Some(binary) => binary
                .push(Item::notice(&text), text.len())
                .map_err(|e| e.to_string()),
            None => Err("binary is gone".to_owned()),
        };
        if let Err(error) = sent {
            self.unnoticed(server, &phone, code, &error);
        }
    }

    fn unnoticed(&self, server: &ServerId, phone: &Peer, code: u16, error: &str) {
        let fields: [(Key, &dyn Display); 3] = [
            (Key::ConnId, &phone.conn_id),
            (Key::CloseCode, &code),
            (Key::Err, &error),
        ];
        self.event(Event::PhoneCloseNoticeSendFailed, server, &fields);
    }

    /// Hands over what a phone has parked, in order.
    fn deliver_parked(&self, phone: &Arc<Peer>, binary: &Peer) {
        let prefix = envelope::prefix(&phone.conn_id);
        let parked = self.unpark(phone, Unparked::delivered);
        for frame in parked.frames {
            let cost = frame.len() + prefix.len();
            let credit = Credit::take(phone, frame.len(), prefix.len());
            let item = Item::envelope(&prefix, Payload::Owned(frame), credit);
            if let Err(cause) = binary.push_kept(item, cost) {
                return phone.close(cause);
            }
        }
    }

    /// Forgets what a phone has parked, if it is parked.
    pub(super) fn drop_parked(&self, phone: &Peer, outcome: Unparked) {
        drop(self.unpark(phone, outcome));
    }

    /// Ends the wait of a phone, if it is parked, and takes what it has sent meanwhile.
    fn unpark(&self, phone: &Peer, outcome: Unparked) -> Parked {
        let Some(parked) = phone.take_parked() else {
            return Parked::default();
        };
        self.park_budget().release(parked.bytes);
        self.metrics.phones_parked_ended.inc(outcome);
        parked
    }

    /// Takes what a leaving binary did not receive. The holder's is kept if its process may come back
    /// for it. Otherwise a phone that lost a frame cannot go on: its frames must arrive without a gap.
    pub(super) fn surrender(
        &self,
        state: &mut State,
        binary: &Peer,
        unwritten: VecDeque<(Item, usize)>,
    ) {
        let mut items = unwritten;
        // If they are delivered after all, it is not the relay that took so long.
        let forget_age = |(item, cost): (Item, usize)| (item.read_at(None), cost);
        items.extend(binary.drain());
        let mut items: VecDeque<_> = items.into_iter().map(forget_age).collect();
        items.retain(|(item, _)| !matches!(item.meaning, Meaning::Control));
        let may_resume = binary.leg == Leg::Binary { resumable: true };
        if !may_resume || !binary.table.is_holder(binary.conn) {
            return;
        }
        let mut bytes = items.iter().map(|(item, _)| item.len()).sum();
        if !self.park_budget().reserve_shared(bytes) {
            for credit in items.iter().filter_map(|(item, _)| item.credit.as_ref()) {
                credit.phone.close(Cause::BinaryReclaimed);
            }
            // Notices are few, and bounded by the room that they had.
            items.retain(|(item, _)| matches!(item.meaning, Meaning::Notice));
            bytes = 0;
        }
        let table = binary.table.clone();
        let carried = Carried {
            table: table.clone(),
            items,
            bytes,
        };
        state.carried.insert(table.server.clone(), carried);
    }

    fn take_carried(&self, state: &mut State, server: &ServerId) -> VecDeque<(Item, usize)> {
        let Some(carried) = state.carried.remove(server) else {
            return VecDeque::new();
        };
        self.park_budget().release(carried.bytes);
        carried.items
    }

    fn event(&self, event: Event, server: &ServerId, fields: &[(Key, &dyn Display)]) {
        let mut all: Vec<(Key, &dyn Display)> = Vec::with_capacity(fields.len() + 1);
        all.push((Key::ServerId, server));
        all.extend_from_slice(fields);
        self.log.write(event, &all);
    }
}

fn set_holder(state: &State, server: &ServerId, holder: Option<Conn>) {
    if let Some((table, _)) = state.tables.get(server) {
        table.set_holder(holder);
    }
}

fn order(peer: Option<Arc<Peer>>, change: impl FnOnce(&mut Orders)) {
    if let Some(peer) = peer {
        peer.order(change);
    }
}
