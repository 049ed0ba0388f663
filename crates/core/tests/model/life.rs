//! One connection's session between a peer, a socket and an owner who do what they can, in any order.

use std::hash::Hash;

use relay_core::{Action, Millis, Session, SessionPolicy};
use relay_proto::close::Cause;

use crate::canon::{Digest, START};
use crate::search::{Model, Rule, rule};

/// So many may be unanswered at a time: the first, the last, and one that is neither.
const PROBES: u32 = 3;

#[derive(Clone)]
pub(crate) struct Life {
    policy: SessionPolicy,
    session: Session,
    now: Millis,
    /// When the next ping goes out: it is registered.
    ping_at: Option<Millis>,
    last_ping: u32,
    /// The first ping that is unanswered, and when its time is over.
    awaited: Option<(u32, Millis)>,
    /// Those behind `answered_probe` are unanswered.
    last_probe: u32,
    answered_probe: u32,
    unmeasured: bool,
    read_due: Option<Millis>,
    /// Nothing is read from it: what it owes has time, and when it was due is not looked at.
    held_back: bool,
    write_due: Option<Millis>,
    end: End,
    cause: Option<Cause>,
}

/// How far the end of the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Closing { due: Millis, peer_closed: bool },
    Waiting { due: Millis, peer_closed: bool },
    Lingering { due: Millis },
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Registered,
    MessageStarts,
    MessageEnds,
    HeldBack,
    ReadAgain,
    WriteBlocked,
    WriteAdvanced,
    WriteIdle,
    /// The peer answers the last ping, or the first that is unanswered.
    Pong {
        last: bool,
    },
    /// The registry wants to know whether it is alive.
    Probed,
    /// The peer answers the last probe, or the first that is unanswered.
    ProbeAnswered {
        last: bool,
    },
    /// The peer answers a proof.
    ProofAnswered,
    /// Somebody wants it to end.
    Close(Cause),
    PeerCloses,
    CloseSent,
    FinSent,
    Tick,
    Timers,
}

impl Life {
    pub(crate) fn new(policy: SessionPolicy) -> Self {
        Self {
            session: Session::new(&policy),
            policy,
            now: START,
            ping_at: None,
            last_ping: 0,
            awaited: None,
            last_probe: 0,
            answered_probe: 0,
            unmeasured: false,
            read_due: None,
            held_back: false,
            write_due: None,
            end: End::Open,
            cause: None,
        }
    }

    fn is_open(&self) -> bool {
        self.end == End::Open
    }

    fn deadline(&self) -> Option<Millis> {
        match self.end {
            End::Open => {
                let pong_due = self.awaited.map(|(_, due)| due);
                let owed = [pong_due, self.read_due].map(|due| due.filter(|_| !self.held_back));
                let ours = [self.ping_at, self.write_due];
                ours.into_iter().chain(owed).flatten().min()
            }
            End::Closing { due, .. } | End::Waiting { due, .. } | End::Lingering { due } => {
                Some(due)
            }
            End::Over => None,
        }
    }

    fn begin_close(&mut self, peer_closed: bool) {
        let due = self.now.plus(self.policy.control_write_timeout_ms);
        self.end = End::Closing { due, peer_closed };
    }

    fn close(&mut self, cause: Cause) -> Result<(), Rule> {
        let close = self.session.close_requested(self.now, cause);
        let expected = cause.close().filter(|_| self.is_open());
        rule(close == expected, "one Close is sent, for the first cause")?;
        if self.is_open() {
            self.cause = Some(cause);
            match close {
                Some(_) => self.begin_close(false),
                None => self.end = End::Lingering { due: self.now },
            }
        }
        Ok(())
    }

    fn peer_closes(&mut self) -> Result<(), Rule> {
        let echo = self.session.peer_closed(self.now);
        rule(
            echo == self.is_open(),
            "a Close is answered, and no answer is",
        )?;
        match &mut self.end {
            End::Open => {
                self.cause = Some(Cause::PeerClosed);
                self.begin_close(true);
            }
            End::Closing { peer_closed, .. } => *peer_closed = true,
            End::Waiting { due, peer_closed } => (*due, *peer_closed) = (self.now, true),
            End::Lingering { .. } | End::Over => {}
        }
        Ok(())
    }

    fn close_sent(&mut self) {
        self.session.close_sent(self.now);
        if let End::Closing { peer_closed, .. } = self.end {
            let wait_ms = if peer_closed {
                0
            } else {
                self.policy.close_wait_ms
            };
            let due = self.now.plus(wait_ms);
            self.end = End::Waiting { due, peer_closed };
        }
    }

    /// The peer that has answered gets time to read on and end; the other one had it. (Its last half second is longer
    /// than all of this.)
    fn fin(&mut self) {
        let due = self.now.plus(self.policy.close_wait_ms);
        self.end = End::Lingering { due };
    }

    /// What it owes has its whole time again.
    fn read_again(&mut self) {
        self.session.held_back(self.now, false);
        self.held_back = false;
        let pong_due = self.now.plus(self.policy.pong_timeout_ms);
        self.awaited = self.awaited.map(|(first, _)| (first, pong_due));
        let read_due = self.now.plus(self.policy.read_deadline_ms);
        self.read_due = self.read_due.map(|_| read_due);
    }

    fn pong(&mut self, last: bool) -> Result<(), Rule> {
        let number = match self.awaited {
            Some((first, _)) if !last => first,
            _ => self.last_ping,
        };
        rule(self.session.pong(number), "an awaited pong is taken")?;
        self.awaited = None;
        let measured = self.session.round_trip_ms(self.now, number);
        let first = number == self.last_ping && std::mem::take(&mut self.unmeasured);
        rule(measured.is_some() == first, "a round trip is measured once")
    }

    fn probed(&mut self) {
        self.last_probe += 1;
        self.session.probed(self.last_probe);
    }

    fn probe_answered(&mut self, last: bool) -> Result<(), Rule> {
        let first = self.answered_probe + 1;
        self.answered_probe = if last { self.last_probe } else { first };
        let asked = self.session.probe_answered(self.answered_probe);
        self.awaited = None;
        rule(asked, "an answer that was asked for is taken")
    }

    /// What has to be the last ping.
    fn unanswered_probe(&self) -> Option<u32> {
        let unanswered = self.is_open() && self.answered_probe < self.last_probe;
        unanswered.then_some(self.last_probe)
    }

    fn timers(&mut self, said: &mut Vec<Action>) -> Result<(), Rule> {
        while let Some(action) = self.session.expire(self.now) {
            said.push(action);
            rule(said.len() < 8, "what is due comes to an end")?;
            self.obey(action)?;
        }
        let done = self.session.deadline().is_none_or(|at| at > self.now);
        rule(done, "what is due has been done")
    }

    fn obey(&mut self, action: Action) -> Result<(), Rule> {
        let now = self.now;
        let is_due = |due: Option<Millis>| due.is_some_and(|at| at <= now);
        match (action, self.end) {
            (Action::Ping { number, probe }, End::Open) => {
                rule(
                    is_due(self.ping_at) && number == self.last_ping + 1,
                    "a ping has its time and its number",
                )?;
                rule(
                    probe == self.unanswered_probe(),
                    "the last ping is the probe's until it is answered",
                )?;
                self.last_ping = number;
                self.ping_at = Some(now.plus(self.policy.ping_interval_ms));
                self.unmeasured = true;
                self.awaited
                    .get_or_insert((number, now.plus(self.policy.pong_timeout_ms)));
                Ok(())
            }
            (Action::Close(cause), End::Open) => {
                let due = match cause {
                    Cause::HeartbeatTimeout => self.awaited.take().map(|(_, due)| due),
                    Cause::MessageTooSlow => self.read_due.take(),
                    _ => None,
                };
                rule(
                    is_due(due) && !self.held_back,
                    "a connection is closed for what is late, when it is",
                )?;
                self.close(cause)
            }
            (Action::Cut(Cause::WriteTimeout), End::Open) if is_due(self.write_due) => {
                self.cause = Some(Cause::WriteTimeout);
                self.end = End::Over;
                Ok(())
            }
            (Action::Cut(_), End::Closing { due, .. }) | (Action::Drop, End::Lingering { due })
                if due <= now =>
            {
                self.end = End::Over;
                Ok(())
            }
            (Action::Fin, End::Waiting { due, .. }) if due <= now => {
                self.fin();
                Ok(())
            }
            _ => Err("each end of a connection has its time and its turn"),
        }
    }

    /// What it says of itself is what has happened.
    fn agrees(&self) -> Result<(), Rule> {
        rule(
            self.session.is_open() == self.is_open(),
            "messages flow until somebody closes",
        )?;
        rule(self.session.cause() == self.cause, "the first cause counts")?;
        rule(
            self.session.unanswered_probe() == self.unanswered_probe(),
            "a probe is asked for until it is answered",
        )?;
        rule(
            self.session.deadline() == self.deadline(),
            "there is a timer for what is owed next, and for nothing else",
        )
    }

    /// What comes too late, or was never asked for, changes nothing.
    fn check_deaf(&self) -> Result<(), Rule> {
        let mut session = self.session.clone();
        let first = self.awaited.map_or(self.last_ping + 1, |(first, _)| first);
        session.pong(first.wrapping_sub(1));
        let taken = session.pong(self.last_ping + 1)
            || session.probe_answered(self.answered_probe)
            || session.probe_answered(self.last_probe + 1);
        let mut measured = session.round_trip_ms(self.now, self.last_ping + 1);
        session.held_back(self.now, self.held_back);
        if !self.is_open() {
            session.registered(self.now);
            session.message_started(self.now);
            session.message_finished();
            session.held_back(self.now, !self.held_back);
            session.pong(self.last_ping);
            session.probed(self.last_probe + 1);
            session.probe_answered(self.last_probe);
            session.proof_answered();
            session.write_blocked(self.now);
            session.write_advanced(self.now);
            session.write_idle();
            measured = measured.or(session.round_trip_ms(self.now, self.last_ping));
        }
        let early = self.deadline().is_none_or(|at| at > self.now);
        let action = early.then(|| session.expire(self.now)).flatten();
        rule(
            session == self.session && !taken && measured.is_none() && action.is_none(),
            "what is stale, early, repeated or invented changes nothing",
        )
    }
}

impl Model for Life {
    type Event = Event;
    type Effect = Action;

    fn events(&self, out: &mut Vec<Event>) {
        out.extend([
            Event::Tick,
            Event::Timers,
            Event::PeerCloses,
            Event::Close(Cause::ClosedByOperator),
            Event::Close(Cause::PeerVanished),
        ]);
        match self.end {
            End::Open => out.extend([
                Event::Registered,
                Event::MessageStarts,
                Event::MessageEnds,
                if self.held_back {
                    Event::ReadAgain
                } else {
                    Event::HeldBack
                },
                Event::WriteBlocked,
                Event::WriteAdvanced,
                Event::WriteIdle,
                Event::ProofAnswered,
            ]),
            End::Closing { .. } => out.push(Event::CloseSent),
            End::Waiting { .. } | End::Lingering { .. } => out.push(Event::FinSent),
            End::Over => {}
        }
        if self.is_open() && self.last_probe - self.answered_probe < PROBES {
            out.push(Event::Probed);
        }
        if self.unanswered_probe().is_some() {
            out.extend([false, true].map(|last| Event::ProbeAnswered { last }));
        }
        if self.awaited.is_some() && self.is_open() {
            out.extend([false, true].map(|last| Event::Pong { last }));
        }
    }

    fn take(&mut self, event: Event, said: &mut Vec<Action>) -> Result<(), Rule> {
        let now = self.now;
        let after = |ms: u64| Some(now.plus(ms));
        match event {
            Event::Registered => {
                self.session.registered(now);
                self.ping_at = self.ping_at.or(after(self.policy.ping_interval_ms));
            }
            Event::MessageStarts => {
                self.session.message_started(now);
                self.read_due = self.read_due.or(after(self.policy.read_deadline_ms));
            }
            Event::MessageEnds => {
                self.session.message_finished();
                self.read_due = None;
            }
            Event::HeldBack => {
                self.session.held_back(now, true);
                self.held_back = true;
            }
            Event::ReadAgain => self.read_again(),
            Event::WriteBlocked => {
                self.session.write_blocked(now);
                self.write_due = self.write_due.or(after(self.policy.write_timeout_ms));
            }
            Event::WriteAdvanced => {
                self.session.write_advanced(now);
                self.write_due = self.write_due.and(after(self.policy.write_timeout_ms));
            }
            Event::WriteIdle => {
                self.session.write_idle();
                self.write_due = None;
            }
            Event::Pong { last } => self.pong(last)?,
            Event::Probed => self.probed(),
            Event::ProbeAnswered { last } => self.probe_answered(last)?,
            Event::ProofAnswered => {
                self.session.proof_answered();
                self.awaited = None;
            }
            Event::Close(cause) => self.close(cause)?,
            Event::PeerCloses => self.peer_closes()?,
            Event::CloseSent => self.close_sent(),
            Event::FinSent => {
                self.session.fin_sent(now);
                if matches!(self.end, End::Waiting { .. }) {
                    self.fin();
                }
            }
            Event::Tick => self.now = now.plus(1),
            Event::Timers => self.timers(said)?,
        }
        self.agrees()
    }

    fn key(&self) -> Result<u128, Rule> {
        let mut digest = Digest::new(self.now, 0);
        self.session.hash(&mut digest);
        // Whether anything is unanswered, and whether the last ping is all that is.
        let behind = self
            .awaited
            .map_or(0, |(first, _)| self.last_ping - first + 1);
        digest.word(behind.min(2).into());
        digest.word((self.last_ping > 0).into());
        digest.word((self.last_probe > 0).into());
        Ok(digest.key())
    }

    fn quiet(&self) -> Option<Event> {
        if self.held_back && self.is_open() {
            return Some(Event::ReadAgain);
        }
        let due = self.session.deadline()?;
        Some(if due <= self.now {
            Event::Timers
        } else {
            Event::Tick
        })
    }

    fn check(&self) -> Result<(), Rule> {
        self.check_deaf()
    }

    fn at_rest(&self) -> Result<(), Rule> {
        let idle = self.is_open() && self.ping_at.is_none();
        rule(
            idle || self.end == End::Over,
            "a connection that is closed, or does not answer, ends",
        )
    }

    fn describe(&self, event: Event) -> String {
        format!("at {:2}  {event:?}", self.now.since(START))
    }
}
