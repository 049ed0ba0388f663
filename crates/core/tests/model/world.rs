//! A hub with one server-id, and everything around it: connections, pongs and answers under way, the clock.
//!
//! The world keeps its own account of what is owed to whom, from the effects alone. So it does not ask the hub whether
//! the hub is right.

use relay_core::{
    Claim, Conn, Counts, Effects, Hub, Input, Instance, Millis, Path, PhoneEnd, Policy, ServerId,
    SlotState, SlotView,
};

use crate::canon::{FIRST_CONN, START, instance_bytes};
use crate::search::{Rule, rule};

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
    pub(super) next_conn: u64,
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
    pub(super) shutting_down: bool,
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
    /// Its notice was sent, or could not be.
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
    const fn new(conn: Conn) -> Self {
        Self {
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
        }
    }

    /// Sends one more frame. False: it waits behind others that wait, and nobody has to be asked.
    const fn send(&mut self) -> bool {
        let asks = !self.is_parked() || self.waiting == 0;
        self.sent += 1;
        self.waiting += 1;
        asks
    }

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
    pub(super) claimed: Option<Claim>,
    pub(super) grace_expired: bool,
    /// The last holder lost the slot to a claimant.
    pub(super) succession: bool,
    /// A phone's registration was answered.
    pub(super) registration: bool,
}

impl Step {
    const fn new(event: Event, conn: Option<Conn>) -> Self {
        Self {
            event,
            conn,
            claimed: None,
            grace_expired: false,
            succession: false,
            registration: false,
        }
    }
}

/// The connection that an input is about.
const fn subject(input: &Input) -> Conn {
    match *input {
        Input::Claim { conn, .. }
        | Input::BinaryGone { conn }
        | Input::Register { conn }
        | Input::PhoneFrame { conn }
        | Input::PhoneGone { conn, .. }
        | Input::Pong { conn, .. }
        | Input::Path { conn, .. } => conn,
    }
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

    /// What the hub is told. `None`: only that time has passed.
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
                self.phones.push(Phone::new(conn));
                Input::Register { conn }
            }
            Event::Frame { nth } => Input::PhoneFrame {
                conn: self.phones[nth as usize].conn,
            },
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

    pub(super) fn step(&mut self, event: Event, said: &mut Effects) -> Result<(), Rule> {
        if let Event::Frame { nth } = event
            && !self.phones[nth as usize].send()
        {
            return Ok(());
        }
        let input = self.input(event);
        let step = Step::new(event, input.as_ref().map(subject));
        match input {
            Some(input) => self.hub.step(self.now, &self.server, input, said),
            None => self.hub.expire(self.now, said),
        }
        let of_this = said.iter().all(|(server, _)| *server == self.server);
        rule(of_this, "a step touches one server-id")?;
        self.obey(step, said)
    }

    /// A relay that shuts down lets the claimants go first: nobody takes over from a holder that goes with it.
    pub(super) fn shut_down(&mut self, said: &mut Effects) -> Result<(), Rule> {
        self.shutting_down = true;
        let is_waiting = |binary: &Binary| matches!(binary.role, Role::Waiting(_));
        while let Some(nth) = self.binaries.iter().position(is_waiting) {
            self.step(Event::BinaryEnds { nth: nth as u8 }, said)?;
        }
        Ok(())
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
