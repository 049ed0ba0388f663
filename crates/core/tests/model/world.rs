//! A hub with one server-id, and everything around it: connections, pongs and answers under way, the clock.
//!
//! The world keeps its own account of what is owed to whom, from the effects alone. So it does not ask the hub whether
//! the hub is right.

use std::hash::Hash;

use relay_core::{
    Conn, Counts, Effect, Effects, Hub, Input, Instance, Millis, Path, PhoneEnd, Policy, ServerId,
    SlotState, SlotView, invariant,
};

use crate::canon::{Digest, FIRST_CONN, START, instance_bytes};
use crate::search::{Model, Rule, rule};

/// How much there can be at a time. Connections that ended make room for new ones, without an end.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Connections of binaries, those that lost the slot included.
    pub(crate) binaries: usize,
    /// Connections of phones, those that were evicted included.
    pub(crate) phones: usize,
    /// Different instances that binaries give; each may also give none.
    pub(crate) instances: u8,
    /// Frames one phone sends while it is parked.
    pub(crate) frames: u64,
    /// Whether the relay may shut down.
    pub(crate) shutdown: bool,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(super) bounds: Bounds,
    pub(super) policy: Policy,
    pub(super) server: ServerId,
    pub(super) hub: Hub,
    pub(super) now: Millis,
    next_conn: u64,
    /// Open connections, in the order of their claims.
    pub(super) binaries: Vec<Binary>,
    /// Open connections, and those that are kept for a binary that may resume.
    pub(super) phones: Vec<Phone>,
    pub(super) holder: Option<Conn>,
    pub(super) grace_until: Option<Millis>,
    /// Since when the slot is what it is.
    pub(super) since: Millis,
    pub(super) tenure: Option<Tenure>,
    pub(super) last_tenure: u64,
    pub(super) last_probe: u32,
    /// When a holder ended right after its claim.
    pub(super) last_short_tenure: Option<Millis>,
    shutting_down: bool,
}

/// A holder's time in the slot; if it can be resumed, by whom.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) number: u64,
    pub(super) instance: Option<u8>,
}

#[derive(Clone)]
pub(super) struct Binary {
    pub(super) conn: Conn,
    pub(super) instance: Option<u8>,
    pub(super) role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Claimed just now: the answer is due in the same step.
    New,
    Waiting(Wait),
    Holder,
    /// Refused or displaced.
    Out,
}

/// What a claimant waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// The ping the holder was sent for it.
    pub(super) probe: Option<u32>,
    /// When the kernel is asked about the path to the holder.
    pub(super) check_at: Option<Millis>,
    /// It was asked, and the answer is under way.
    pub(super) asked: bool,
    /// When the holder has had its time.
    pub(super) takeover_at: Millis,
}

#[derive(Clone)]
pub(super) struct Phone {
    pub(super) conn: Conn,
    pub(super) state: PhoneState,
    /// Frames it sent, and how many of them a binary got.
    pub(super) sent: u64,
    pub(super) delivered: u64,
    /// Of those sent, the last ones that wait.
    pub(super) waiting: u64,
    /// The tenure that got frames of it.
    pub(super) tenure: Option<u64>,
    /// The end a binary would be told of.
    pub(super) code: u16,
    /// It is out, and kept until the tenure is resumed or over.
    pub(super) departed: bool,
    /// Its last frames were delivered, the notice was not.
    pub(super) owed_notice: bool,
    pub(super) noticed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PhoneState {
    /// It dialled just now: the answer is due in the same step.
    New,
    /// Registered, and its next frame asks.
    Asks,
    Parked {
        until: Millis,
    },
    Linked {
        to: Conn,
    },
    /// Not registered any more; its connection is open.
    Evicted,
    /// Its connection is over.
    Gone,
}

impl Phone {
    pub(super) const fn is_registered(&self) -> bool {
        matches!(
            self.state,
            PhoneState::Asks | PhoneState::Parked { .. } | PhoneState::Linked { .. }
        )
    }

    pub(super) const fn is_parked(&self) -> bool {
        matches!(self.state, PhoneState::Parked { .. })
    }
}

/// What happens. Connections are named by their place in the list of open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A binary dials, and claims.
    Claims { instance: Option<u8> },
    /// A binary's connection ends: it crashed, its cable was cut, or the relay is done with it.
    BinaryEnds { nth: u8 },
    /// The holder answers the ping that it was sent for this claimant.
    Pong { nth: u8 },
    /// The kernel answers what it was asked for this claimant.
    Path { nth: u8, path: Path },
    /// A phone dials.
    Registers,
    /// A phone without a link has a frame.
    Frame { nth: u8 },
    /// A phone's connection ends, because its binary wanted that or not.
    PhoneEnds { nth: u8, directed: bool },
    /// The clock moves on, whether or not a timer is due.
    Tick,
    /// The timers fire that are due.
    Timers,
    /// The relay shuts down: nobody new comes.
    ShutDown,
}

/// What a step is about, for whoever checks its effects.
pub(super) struct Step {
    pub(super) event: Event,
    /// The connection that it is about.
    pub(super) conn: Option<Conn>,
    pub(super) claimed: Option<relay_core::Claim>,
    pub(super) grace_expired: bool,
    /// The last holder lost the slot to a claimant.
    pub(super) succession: bool,
    /// A phone's registration was answered.
    pub(super) registration: bool,
}

impl World {
    pub(crate) fn new(policy: Policy, bounds: Bounds) -> Self {
        Self {
            bounds,
            hub: Hub::new(policy.clone(), START),
            policy,
            server: ServerId::new("s"),
            now: START,
            next_conn: FIRST_CONN,
            binaries: Vec::new(),
            phones: Vec::new(),
            holder: None,
            grace_until: None,
            since: START,
            tenure: None,
            last_tenure: 0,
            last_probe: 0,
            last_short_tenure: None,
            shutting_down: false,
        }
    }

    fn next_conn(&mut self) -> Conn {
        self.next_conn += 1;
        Conn(self.next_conn)
    }

    /// How it came to the connection, and the input for the hub. `None`: only the clock or the timers.
    fn input(&mut self, event: Event) -> Option<Input> {
        Some(match event {
            Event::Claims { instance } => {
                let conn = self.next_conn();
                let role = Role::New;
                self.binaries.push(Binary {
                    conn,
                    instance,
                    role,
                });
                let instance = instance.map(|n| Instance::new(&instance_bytes(n)));
                Input::Claim { conn, instance }
            }
            Event::BinaryEnds { nth } => {
                let conn = self.binaries[nth as usize].conn;
                Input::BinaryGone { conn }
            }
            Event::Pong { nth } => Input::Pong {
                conn: self.holder?,
                probe: self.wait(nth)?.probe?,
            },
            Event::Path { nth, path } => {
                let probe = self.wait(nth)?.probe?;
                let conn = self.holder?;
                Input::Path { conn, probe, path }
            }
            Event::Registers => {
                let conn = self.next_conn();
                self.phones.push(Phone {
                    conn,
                    state: PhoneState::New,
                    sent: 0,
                    delivered: 0,
                    waiting: 0,
                    tenure: None,
                    code: 0,
                    departed: false,
                    owed_notice: false,
                    noticed: false,
                });
                Input::Register { conn }
            }
            Event::Frame { nth } => {
                let phone = &mut self.phones[nth as usize];
                phone.sent += 1;
                phone.waiting += 1;
                Input::PhoneFrame { conn: phone.conn }
            }
            Event::PhoneEnds { nth, directed } => {
                let phone = &mut self.phones[nth as usize];
                if phone.is_registered() {
                    phone.code = if directed { DIRECTED } else { OWN_END };
                }
                let (conn, code) = (phone.conn, phone.code);
                Input::PhoneGone {
                    conn,
                    end: PhoneEnd {
                        code,
                        silent: directed,
                    },
                }
            }
            Event::Tick | Event::Timers | Event::ShutDown => return None,
        })
    }

    fn wait(&self, nth: u8) -> Option<Wait> {
        match self.binaries.get(nth as usize)?.role {
            Role::Waiting(wait) => Some(wait),
            _ => None,
        }
    }

    /// The frame of a parked phone that has announced itself waits behind the others.
    fn waits_silently(&self, event: Event) -> bool {
        matches!(event, Event::Frame { nth } if {
            let phone = &self.phones[nth as usize];
            phone.is_parked() && phone.waiting > 0
        })
    }

    fn step(&mut self, event: Event, said: &mut Effects) -> Result<(), Rule> {
        let conn = match event {
            Event::BinaryEnds { nth } => Some(self.binaries[nth as usize].conn),
            Event::Frame { nth } | Event::PhoneEnds { nth, .. } => {
                Some(self.phones[nth as usize].conn)
            }
            _ => None,
        };
        if self.waits_silently(event) {
            if let Event::Frame { nth } = event {
                self.phones[nth as usize].sent += 1;
                self.phones[nth as usize].waiting += 1;
            }
            return Ok(());
        }
        let input = self.input(event);
        match input {
            Some(input) => self.hub.step(self.now, &self.server, input, said),
            None => self.hub.expire(self.now, said),
        }
        let conn = conn.or_else(|| match event {
            Event::Claims { .. } => self.binaries.last().map(|binary| binary.conn),
            Event::Registers => self.phones.last().map(|phone| phone.conn),
            _ => None,
        });
        let of_this = said.iter().all(|(server, _)| *server == self.server);
        rule(of_this, "a step touches one server-id")?;
        self.obey(
            &Step {
                event,
                conn,
                claimed: None,
                grace_expired: false,
                succession: false,
                registration: false,
            },
            said,
        )
    }

    /// A relay that shuts down lets the claimants go first: nobody takes over from a holder that goes with it.
    fn shut_down(&mut self, said: &mut Effects) -> Result<(), Rule> {
        self.shutting_down = true;
        let is_waiting = |binary: &Binary| matches!(binary.role, Role::Waiting(_));
        while let Some(nth) = self.binaries.iter().position(is_waiting) {
            self.step(Event::BinaryEnds { nth: nth as u8 }, said)?;
        }
        Ok(())
    }

    pub(super) const fn shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// The moments at which something is owed.
    pub(super) fn obligations(&self) -> impl Iterator<Item = Millis> + '_ {
        let parked = self.phones.iter().filter_map(|phone| match phone.state {
            PhoneState::Parked { until } => Some(until),
            _ => None,
        });
        let claims = self.binaries.iter().filter_map(|binary| match binary.role {
            Role::Waiting(wait) => Some(
                wait.check_at
                    .unwrap_or(wait.takeover_at)
                    .min(wait.takeover_at),
            ),
            _ => None,
        });
        parked.chain(claims).chain(self.grace_until)
    }

    pub(super) fn counts(&self) -> Counts {
        let phones = self
            .phones
            .iter()
            .filter(|phone| phone.is_registered())
            .count();
        let parked = self.phones.iter().filter(|phone| phone.is_parked()).count();
        Counts {
            binaries: usize::from(self.holder.is_some()),
            grace: usize::from(self.grace_until.is_some()),
            waiting: usize::from(self.holder.is_none() && self.grace_until.is_none() && phones > 0),
            phones,
            parked,
        }
    }

    pub(super) fn view(&self) -> Option<SlotView<'_>> {
        let counts = self.counts();
        let state = match counts {
            Counts { binaries: 1, .. } => SlotState::Live,
            Counts { grace: 1, .. } => SlotState::Grace,
            Counts { waiting: 1, .. } => SlotState::Waiting,
            _ => return None,
        };
        Some(SlotView {
            server: &self.server,
            state,
            since: self.since,
            holder: self.holder,
            phones: counts.phones,
            parked: counts.parked,
        })
    }
}

/// How a phone ends a conversation.
const OWN_END: u16 = 1000;

/// A code of a close directive. The binary that chose it is not told.
const DIRECTED: u16 = 4401;

impl Model for World {
    type Event = Event;
    type Effect = (ServerId, Effect);

    fn events(&self, out: &mut Vec<Event>) {
        out.extend([Event::Tick, Event::Timers]);
        if !self.shutting_down {
            if self.bounds.shutdown {
                out.push(Event::ShutDown);
            }
            let admitted = self.hub.admit(self.now, &self.server).is_ok();
            if admitted && self.binaries.len() < self.bounds.binaries {
                let names = (1..=self.bounds.instances).map(Some);
                out.extend(
                    names
                        .chain([None])
                        .map(|instance| Event::Claims { instance }),
                );
            }
            let open = self
                .phones
                .iter()
                .filter(|phone| phone.state != PhoneState::Gone);
            if open.count() < self.bounds.phones {
                out.push(Event::Registers);
            }
        }
        for (nth, binary) in (0..).zip(&self.binaries) {
            out.push(Event::BinaryEnds { nth });
            if let Role::Waiting(wait) = binary.role {
                out.push(Event::Pong { nth });
                if wait.asked {
                    let silent =
                        (0..=self.policy.probe_dead_path_ms).map(|for_ms| Path::Silent { for_ms });
                    let paths = silent.chain([Path::Unknown, Path::Acknowledged]);
                    out.extend(paths.map(|path| Event::Path { nth, path }));
                }
            }
        }
        for (nth, phone) in (0..).zip(&self.phones) {
            let asks = match phone.state {
                PhoneState::Gone => continue,
                PhoneState::Asks => true,
                PhoneState::Parked { .. } => phone.waiting < self.bounds.frames,
                _ => false,
            };
            if asks {
                out.push(Event::Frame { nth });
            }
            out.extend([false, true].map(|directed| Event::PhoneEnds { nth, directed }));
        }
    }

    fn take(&mut self, event: Event, said: &mut Effects) -> Result<(), Rule> {
        match event {
            Event::Tick => {
                self.now = self.now.plus(1);
                Ok(())
            }
            Event::ShutDown => self.shut_down(said),
            event => self.step(event, said),
        }?;
        self.check_books()
    }

    fn key(&self) -> Result<u128, Rule> {
        let mut digest = Digest::new(self.now, self.past_ms());
        self.hub.hash(&mut digest);
        let mut known = 0;
        let mut others = Vec::new();
        let binaries = self
            .binaries
            .iter()
            .map(|binary| (binary.conn, self.binary_word(&digest, binary)));
        let phones = self
            .phones
            .iter()
            .map(|phone| (phone.conn, self.phone_word(&digest, phone)));
        let mut words = vec![0; digest.conns.len()];
        for (conn, word) in binaries.chain(phones) {
            match digest.conns.iter().position(|of_hub| *of_hub == conn) {
                Some(at) => {
                    words[at] = word;
                    known += 1;
                }
                None => others.push(word),
            }
        }
        rule(
            known == digest.conns.len(),
            "no connection that is over is remembered",
        )?;
        others.sort_unstable();
        for word in words.into_iter().chain(others) {
            digest.word(word);
        }
        digest.word(self.shutting_down.into());
        if let Some(at) = self.last_short_tenure.filter(|_| self.past_ms() > 0) {
            digest.word(digest.moment(at));
        }
        Ok(digest.key())
    }

    fn quiet(&self) -> Option<Event> {
        let due = self.hub.deadline()?;
        Some(if due <= self.now {
            Event::Timers
        } else {
            Event::Tick
        })
    }

    fn check(&self) -> Result<(), Rule> {
        invariant::check(&self.hub).map_err(|violation| violation.rule)?;
        self.check_admission()?;
        self.check_deaf()
    }

    fn at_rest(&self) -> Result<(), Rule> {
        let waiting = |binary: &Binary| matches!(binary.role, Role::New | Role::Waiting(_));
        rule(
            !self.binaries.iter().any(waiting),
            "every claimant gets an answer",
        )?;
        rule(
            !self.phones.iter().any(Phone::is_parked),
            "every parked phone leaves or is delivered",
        )?;
        rule(
            !self.phones.iter().any(|phone| phone.departed),
            "nobody is kept for a binary that does not come",
        )?;
        if self.holder.is_none() {
            rule(
                self.hub.slot(&self.server).is_none() && self.hub.counts() == Counts::default(),
                "a slot whose binary stays away becomes empty",
            )?;
        }
        Ok(())
    }

    fn describe(&self, event: Event) -> String {
        let at = self.now.since(START);
        let binary = |nth: u8| self.name(self.binaries[nth as usize].conn);
        let phone = |nth: u8| self.name(self.phones[nth as usize].conn);
        let what = match event {
            Event::Claims { instance: None } => "a binary claims".to_owned(),
            Event::Claims { instance: Some(n) } => format!("process {n} claims"),
            Event::BinaryEnds { nth } => format!("the connection of {} ends", binary(nth)),
            Event::Pong { nth } => format!("the holder answers the ping for {}", binary(nth)),
            Event::Path { nth, path } => {
                format!("the kernel answers for {}: {path:?}", binary(nth))
            }
            Event::Registers => "a phone dials".to_owned(),
            Event::Frame { nth } => format!("{} sends a frame", phone(nth)),
            Event::PhoneEnds {
                nth,
                directed: false,
            } => format!("the connection of {} ends", phone(nth)),
            Event::PhoneEnds {
                nth,
                directed: true,
            } => format!("{} is closed, as its binary asked", phone(nth)),
            Event::Tick => "time passes".to_owned(),
            Event::Timers => "timers fire".to_owned(),
            Event::ShutDown => "the relay shuts down".to_owned(),
        };
        format!("at {at:2}  {what}")
    }

    fn describe_effect(&self, (_, effect): &Self::Effect) -> String {
        let mut text = format!("{effect:?}");
        for conn in (FIRST_CONN..=self.next_conn).map(Conn) {
            text = text.replace(&format!("{conn:?}"), &self.name(conn));
        }
        text
    }
}

impl World {
    /// For how long it matters that a holder ended right after its claim.
    pub(super) fn past_ms(&self) -> u64 {
        let forgotten_ms = self.policy.redial_refill_ms * u64::from(self.policy.redial_burst);
        forgotten_ms.max(self.policy.redial_short_tenure_ms * u64::from(forgotten_ms > 0))
    }

    fn name(&self, conn: Conn) -> String {
        format!("#{}", conn.0 - FIRST_CONN)
    }

    fn binary_word(&self, digest: &Digest, binary: &Binary) -> u64 {
        match binary.role {
            Role::New => 1,
            Role::Out => 2,
            Role::Holder => 3,
            Role::Waiting(wait) => {
                let check = wait.check_at.map_or(0, |at| digest.moment(at) + 1);
                4 | u64::from(wait.asked) << 3 | check << 8 | digest.moment(wait.takeover_at) << 16
            }
        }
    }

    fn phone_word(&self, digest: &Digest, phone: &Phone) -> u64 {
        let state = match phone.state {
            PhoneState::New => 1,
            PhoneState::Asks => 2,
            PhoneState::Linked { .. } => 3,
            PhoneState::Evicted => 4,
            PhoneState::Gone => 5,
            PhoneState::Parked { until } => 6 | digest.moment(until) << 3,
        };
        let tenure = match (phone.tenure, self.tenure) {
            (None, _) => 0,
            (Some(its), Some(now)) if its == now.number => 1,
            _ => 2,
        };
        // Nothing tells the ends of an evicted phone apart but whether it is kept.
        let code = if phone.departed {
            u64::from(phone.code)
        } else {
            0
        };
        let gap = u64::from(phone.delivered + phone.waiting < phone.sent);
        let flags = u64::from(phone.departed) | gap << 1 | u64::from(phone.noticed) << 2;
        1 << 63 | code << 32 | phone.waiting << 24 | flags << 20 | tenure << 16 | state
    }

    /// The books balance, and the hub says what they say.
    fn check_books(&self) -> Result<(), Rule> {
        self.check_promises()?;
        rule(
            self.hub.counts() == self.counts(),
            "the counts equal reality",
        )?;
        rule(
            self.hub.slot(&self.server) == self.view(),
            "whoever looks at the slot sees what it is",
        )?;
        rule(
            self.hub.deadline() == self.obligations().min(),
            "there is a timer for what is owed next, and for nothing else",
        )
    }
}
