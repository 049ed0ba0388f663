//! A model of everything around the hub: it does what the effects say, moves numbered frames along the links, and
//! objects to whatever no peer should ever see.

mod views;

use std::collections::{BTreeMap, BTreeSet};

use relay_core::{
    Claim, Conn, Effect, Effects, Hub, Input, Instance, Millis, Path, PhoneEnd, Policy, ServerId,
};
use relay_proto::close::Cause;

pub(crate) struct Shell {
    pub(crate) hub: Hub,
    pub(crate) now: Millis,
    pub(crate) binaries: BTreeMap<Conn, Binary>,
    pub(crate) phones: BTreeMap<Conn, Phone>,
    /// How the kernel answers questions about paths.
    pub(crate) path: Path,
    policy: Policy,
    holders: BTreeMap<ServerId, Conn>,
    graces: BTreeSet<ServerId>,
    /// Since when each slot is what it is.
    since: BTreeMap<ServerId, Millis>,
    tenures: BTreeMap<ServerId, (u64, Option<u8>)>,
    tick: u64,
    /// The pong that is being processed.
    pong: Option<(Conn, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Claimed just now; the answer is due in the same step.
    New,
    Waiting,
    Holder,
    /// Refused, displaced, or gone.
    Out,
}

pub(crate) struct Binary {
    pub(crate) server: ServerId,
    pub(crate) role: Role,
    pub(crate) open: bool,
    /// The probes it was sent: number, and the tick at which it was.
    pub(crate) probes: Vec<(u32, u64)>,
    instance: Option<u8>,
    claimed: u64,
}

#[derive(Default)]
pub(crate) struct Phone {
    pub(crate) registered: bool,
    /// Its connection, which outlives an eviction by the time the closing takes.
    pub(crate) open: bool,
    server: Option<ServerId>,
    link: Option<Conn>,
    parked_since: Option<Millis>,
    parked: Vec<u64>,
    hand: Option<u64>,
    sent: u64,
    delivered: u64,
    tenure: Option<u64>,
    evicted: Option<Cause>,
    directed: bool,
    noticed: bool,
    /// Its conn_id and parked frames are kept for a binary that may resume.
    pub(crate) departed: bool,
}

impl Shell {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            hub: Hub::new(policy.clone(), Millis(0)),
            now: Millis(0),
            binaries: BTreeMap::new(),
            phones: BTreeMap::new(),
            path: Path::Unknown,
            policy,
            holders: BTreeMap::new(),
            graces: BTreeSet::new(),
            since: BTreeMap::new(),
            tenures: BTreeMap::new(),
            tick: 0,
            pong: None,
        }
    }

    pub(crate) fn claim(&mut self, server: &ServerId, instance: Option<u8>) {
        let conn = self.next_conn();
        let binary = Binary {
            server: server.clone(),
            role: Role::New,
            open: true,
            probes: Vec::new(),
            instance,
            claimed: self.tick,
        };
        self.binaries.insert(conn, binary);
        let instance = instance.map(|n| Instance::new(&[n]));
        self.step(server, Input::Claim { conn, instance });
        assert_ne!(
            self.binaries[&conn].role,
            Role::New,
            "every claim gets an answer"
        );
    }

    /// A binary's connection ends, whatever its role is.
    pub(crate) fn end_binary(&mut self, conn: Conn) {
        let binary = self.binaries.get_mut(&conn).unwrap();
        let (server, was) = (binary.server.clone(), binary.role);
        binary.open = false;
        binary.role = Role::Out;
        if was == Role::Holder {
            self.holders.remove(&server);
        }
        let effects = self.step(&server, Input::BinaryGone { conn });
        assert!(
            was == Role::Holder || effects == 0,
            "only the holder's end changes the slot"
        );
    }

    pub(crate) fn register(&mut self, server: &ServerId) {
        let conn = self.next_conn();
        let phone = Phone {
            server: Some(server.clone()),
            ..Phone::default()
        };
        self.phones.insert(conn, phone);
        self.step(server, Input::Register { conn });
    }

    /// A phone sends its next frame.
    pub(crate) fn frame(&mut self, conn: Conn) {
        let phone = self.phones.get_mut(&conn).unwrap();
        let frame = phone.sent;
        phone.sent += 1;
        if let Some(binary) = phone.link {
            self.deliver(conn, binary, &[frame]);
        } else if phone.parked_since.is_some() && !phone.parked.is_empty() {
            phone.parked.push(frame);
        } else {
            phone.hand = Some(frame);
            let server = phone.server.clone().unwrap();
            self.step(&server, Input::PhoneFrame { conn });
            let phone = self.phones.get_mut(&conn).unwrap();
            if !phone.registered {
                // It was evicted, now or before: what it says is discarded.
                phone.hand = None;
            }
            assert_eq!(phone.hand, None, "a frame finds its place at once");
        }
    }

    /// A phone's connection ends: by itself, because the binary asked for it, or because it was evicted.
    pub(crate) fn end_phone(&mut self, conn: Conn, directed: bool) {
        let phone = self.phones.get_mut(&conn).unwrap();
        let was_registered = std::mem::take(&mut phone.registered);
        phone.open = false;
        phone.directed = directed;
        phone.link = None;
        phone.parked_since = None;
        let server = phone.server.clone().unwrap();
        let end = PhoneEnd {
            code: 1000,
            silent: directed,
        };
        let forgettable = phone.departed && directed;
        let effects = self.step(&server, Input::PhoneGone { conn, end });
        assert!(
            was_registered || forgettable || effects == 0,
            "an evicted phone is out already"
        );
        let phone = self.phones.get_mut(&conn).unwrap();
        if !phone.departed {
            phone.parked.clear();
        }
    }

    /// The holder answers a probe it was sent, the last but `missed`.
    pub(crate) fn pong(&mut self, server: &ServerId, missed: usize) {
        let Some(&conn) = self.holders.get(server) else {
            return;
        };
        let probes = &self.binaries[&conn].probes;
        let Some(&(probe, _)) = probes.iter().rev().nth(missed) else {
            return;
        };
        self.pong = Some((conn, probe));
        self.step(server, Input::Pong { conn, probe });
        self.pong = None;
    }

    /// Time passes, and each timer fires at its moment.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until = self.now.plus(ms);
        while let Some(at) = self.hub.deadline().filter(|at| *at <= until) {
            // A timer that came due while the relay slept fires now.
            self.now = at.max(self.now);
            self.expire();
        }
        self.now = until;
    }

    /// Time passes, and the timers fire late.
    pub(crate) fn oversleep(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        self.expire();
    }

    fn expire(&mut self) {
        let mut out = Effects::new();
        self.hub.expire(self.now, &mut out);
        self.apply(out);
        assert!(
            self.hub.deadline().is_none_or(|at| at > self.now),
            "what is due has been done"
        );
        for phone in self.phones.values() {
            let waited_ms = phone.parked_since.map_or(0, |since| self.now.since(since));
            assert!(
                waited_ms < self.policy.park_ms.max(1),
                "nobody waits longer than the bound"
            );
        }
    }

    fn step(&mut self, server: &ServerId, input: Input) -> usize {
        self.tick += 1;
        let mut out = Effects::new();
        self.hub.step(self.now, server, input, &mut out);
        let effects = out.len();
        assert!(
            out.iter().all(|(of, _)| of == server),
            "a step touches one server-id"
        );
        self.apply(out);
        effects
    }

    fn apply(&mut self, effects: Effects) {
        let mut questions = Vec::new();
        for (server, effect) in effects {
            match effect {
                Effect::CheckPath { conn, probe } => questions.push((server, conn, probe)),
                effect => self.apply_one(&server, effect),
            }
        }
        self.check();
        self.check_views();
        for (server, conn, probe) in questions {
            let path = self.path;
            self.step(&server, Input::Path { conn, probe, path });
        }
    }

    fn apply_one(&mut self, server: &ServerId, effect: Effect) {
        match effect {
            Effect::Claimed { conn, how } => {
                self.graces.remove(server);
                self.since.insert(server.clone(), self.now);
                self.claimed(server, conn, how);
            }
            Effect::Probing { conn } => self.change_role(conn, &[Role::New], Role::Waiting),
            Effect::ClaimRefused { conn } => self.refused(conn),
            Effect::Displaced { conn } => {
                self.change_role(conn, &[Role::Holder], Role::Out);
                self.holders.remove(server);
            }
            Effect::Released { conn } => {
                assert!(!self.binaries[&conn].open);
                self.graces.insert(server.clone());
                self.since.insert(server.clone(), self.now);
            }
            Effect::Probe { conn, probe } => {
                assert_eq!(
                    self.holders.get(server),
                    Some(&conn),
                    "only the holder is probed"
                );
                let tick = self.tick;
                let probes = &mut self.binaries.get_mut(&conn).unwrap().probes;
                assert!(
                    probes.last().is_none_or(|(last, _)| *last < probe),
                    "numbers grow"
                );
                probes.push((probe, tick));
            }
            Effect::CheckPath { .. } => unreachable!("answered by apply"),
            Effect::Registered { conn } => {
                let phone = self.phones.get_mut(&conn).unwrap();
                (phone.registered, phone.open) = (true, true);
                self.since.entry(server.clone()).or_insert(self.now);
            }
            Effect::RegisterRefused { conn, cause } => {
                let held = self.holders.contains_key(server);
                assert!(!self.phones[&conn].registered, "a phone gets one answer");
                assert!(
                    !held || cause == Cause::TooManyPhones,
                    "a held slot has a server"
                );
            }
            Effect::GraceExpired => {
                assert!(self.graces.remove(server));
                assert!(
                    !self.holders.contains_key(server),
                    "grace is for slots without a holder"
                );
                self.tenures.remove(server);
            }
            effect => self.apply_to_phone(server, effect),
        }
    }

    fn apply_to_phone(&mut self, server: &ServerId, effect: Effect) {
        match effect {
            Effect::Link { phone, binary } => {
                assert_eq!(
                    self.holders.get(server),
                    Some(&binary),
                    "links lead to the holder"
                );
                let waiting = self.registered(phone).take_waiting();
                self.registered(phone).link = Some(binary);
                self.deliver(phone, binary, &waiting);
            }
            Effect::Unlink { phone } => {
                let phone = self.registered(phone);
                assert!(phone.parked.is_empty(), "what was kept is not forgotten");
                (phone.link, phone.parked_since) = (None, None);
            }
            Effect::Park { phone } => {
                let now = self.now;
                let phone = self.registered(phone);
                phone.link = None;
                phone.parked_since.get_or_insert(now);
                phone.parked.extend(phone.hand.take());
            }
            Effect::Evict { phone, cause } => {
                let phone = self.registered(phone);
                (phone.registered, phone.evicted) = (false, Some(cause));
                (phone.link, phone.parked_since) = (None, None);
                phone.take_waiting();
            }
            Effect::Departed { phone } => {
                let phone = self.phones.get_mut(&phone).unwrap();
                assert!(
                    !std::mem::replace(&mut phone.departed, true),
                    "a phone departs once"
                );
            }
            Effect::DeliverDeparted { phone, binary } => {
                let waiting = self.departed(phone).take_waiting();
                self.deliver(phone, binary, &waiting);
            }
            Effect::ForgetDeparted { phone } => drop(self.departed(phone).take_waiting()),
            Effect::Notice {
                binary,
                phone,
                code,
            } => self.notice(server, binary, phone, code),
            Effect::Unnoticed { phone, code } => {
                assert!(self.graces.contains(server), "its binary is away");
                let phone = self.phones.get_mut(&phone).unwrap();
                assert!(!phone.registered && !phone.directed && !phone.departed);
                assert!(!std::mem::replace(&mut phone.noticed, true) && code == 1000);
            }
            effect => unreachable!("{effect:?} is no phone's"),
        }
    }

    fn claimed(&mut self, server: &ServerId, conn: Conn, how: Claim) {
        self.change_role(conn, &[Role::New, Role::Waiting], Role::Holder);
        assert_eq!(
            self.holders.insert(server.clone(), conn),
            None,
            "one holder"
        );
        let instance = self.binaries[&conn].instance;
        let before = self.tenures.get(server).copied();
        if how == Claim::Resume {
            assert!(instance.is_some() && before.map(|(_, last)| last) == Some(instance));
        } else {
            assert_eq!(
                how == Claim::Fresh,
                before.is_none(),
                "fresh is a claim of an empty slot"
            );
            self.tenures.insert(server.clone(), (conn.0, instance));
        }
    }

    /// 4409 needs a pong to a ping that was sent after the claim.
    fn refused(&mut self, conn: Conn) {
        self.change_role(conn, &[Role::Waiting], Role::Out);
        let (holder, probe) = self.pong.expect("only a pong refuses a claim");
        let probes = &self.binaries[&holder].probes;
        let sent = probes
            .iter()
            .find(|(number, _)| *number == probe)
            .unwrap()
            .1;
        assert!(
            sent > self.binaries[&conn].claimed,
            "the proof of life is newer than the claim"
        );
    }

    fn notice(&mut self, server: &ServerId, binary: Conn, conn: Conn, code: u16) {
        assert_eq!(
            self.holders.get(server),
            Some(&binary),
            "notices go to the holder"
        );
        let tenure = self.tenures[server].0;
        let phone = self.phones.get_mut(&conn).unwrap();
        assert!(!phone.registered && !phone.directed && phone.parked.is_empty());
        assert!(
            !std::mem::replace(&mut phone.noticed, true),
            "a notice is sent once"
        );
        assert!(
            phone.tenure.is_none_or(|own| own == tenure),
            "a notice stays in the tenure"
        );
        match phone.evicted {
            None => assert_eq!(code, 1000),
            // A resumed process knew the phone, and must learn that it waited in vain.
            Some(cause) => {
                assert!(matches!(cause, Cause::NoServer | Cause::BinaryAway) && code == 4404);
                assert_eq!(phone.tenure, Some(tenure));
            }
        }
    }

    fn deliver(&mut self, conn: Conn, binary: Conn, frames: &[u64]) {
        let tenure = self.tenures[&self.binaries[&binary].server].0;
        assert_eq!(self.binaries[&binary].role, Role::Holder);
        let phone = self.phones.get_mut(&conn).unwrap();
        for &frame in frames {
            assert_eq!(
                *phone.tenure.get_or_insert(tenure),
                tenure,
                "one tenure for one phone"
            );
            assert_eq!(frame, phone.delivered, "in order, without a gap");
            phone.delivered += 1;
        }
    }

    fn change_role(&mut self, conn: Conn, from: &[Role], to: Role) {
        let binary = self.binaries.get_mut(&conn).unwrap();
        assert!(
            binary.open && from.contains(&binary.role),
            "{conn:?}: {:?} -> {to:?}",
            binary.role
        );
        binary.role = to;
    }

    fn registered(&mut self, conn: Conn) -> &mut Phone {
        let phone = self.phones.get_mut(&conn).unwrap();
        assert!(phone.registered, "{conn:?} is not registered");
        phone
    }

    fn departed(&mut self, conn: Conn) -> &mut Phone {
        let phone = self.phones.get_mut(&conn).unwrap();
        assert!(
            std::mem::take(&mut phone.departed),
            "{conn:?} has not departed, or was settled"
        );
        phone
    }

    fn next_conn(&self) -> Conn {
        Conn((self.binaries.len() + self.phones.len()) as u64 + 1)
    }
}

impl Phone {
    /// What it has parked, and the frame that asked.
    fn take_waiting(&mut self) -> Vec<u64> {
        self.parked_since = None;
        let mut waiting = std::mem::take(&mut self.parked);
        waiting.extend(self.hand.take());
        waiting
    }
}
