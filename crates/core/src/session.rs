//! One connection's life after its upgrade: heartbeat, deadlines, and the closing handshake.
//!
//! ```text
//!   Open ── close_requested ──> Closing ── close_sent ──> Waiting ── Fin ──> Lingering ── Drop ──> Over
//!     └───── peer_closed ──────────┘ │                       │  the peer's Close, or close_wait
//!     │                              └ Cut: the Close can't be written in time ──────────────> Over
//!     └ Cut: a message can't be written in time ─────────────────────────────────────────────> Over
//! ```
//!
//! A close is complete only when the peer had the chance to read it, so the connection is half-closed (`Fin`)
//! before it is dropped; reading goes on in every state, else unread input would turn the end into a reset, and
//! the peer would lose the code. Every state but `Open` has a deadline: a close always ends, whatever the peer does.

use relay_proto::close::{Cause, Close};

use crate::{Millis, SessionPolicy};

/// How long the FIN of a peer that left our Close unanswered is waited for.
const SILENT_LINGER_MS: u64 = 500;

/// What the owner of the connection has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send a ping.
    Ping {
        /// The number it carries.
        number: u32,
        /// The probe that is unanswered: its ping is sent again, behind this one.
        probe: Option<u32>,
    },
    /// Close the connection for this cause: pass it to [`Session::close_requested`].
    Close(Cause),
    /// The peer doesn't take our bytes: drop the connection without a word.
    Cut(Cause),
    /// Shut the sending side down. Go on reading, and discard.
    Fin,
    /// Drop the connection.
    Drop,
}

/// The state of one connection. All durations come from the [`SessionPolicy`] it was made with.
///
/// The caller reports what happens, and calls [`expire`](Self::expire) when [`deadline`](Self::deadline) has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    times: Times,
    phase: Phase,
    /// The number of the last ping sent; the first is 1.
    last_ping: u32,
    /// The first ping whose pong is awaited, while there is a deadline for it.
    awaited_ping: u32,
    cause: Option<Cause>,
}

/// [`SessionPolicy`] in half the memory: there is one per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Times {
    ping_interval: u32,
    pong_timeout: u32,
    read_deadline: u32,
    write_timeout: u32,
    control_write_timeout: u32,
    close_wait: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Messages flow. A deadline that isn't running is [`Millis::NEVER`].
    Open {
        ping_at: Millis,
        pong_due: Millis,
        read_due: Millis,
        write_due: Millis,
        /// Nobody knows the round trip of the last ping yet.
        unmeasured: bool,
        /// The peer is not read, so neither `pong_due` nor `read_due` counts.
        held_back: bool,
        /// The newest probe, and how many of those up to it are unanswered. Probes count from 1.
        probed: u32,
        unanswered_probes: u16,
    },
    /// Our Close is to be written, and is the last thing that is.
    Closing { due: Millis, peer_closed: bool },
    /// Our Close is out; the peer's isn't in. When it comes, this is due at once.
    Waiting { due: Millis, answered: bool },
    /// Both are through, or the peer had its time; our side is shut. The peer ends the connection now.
    Lingering { due: Millis },
    /// Nothing is left to do.
    Over,
}

impl Session {
    /// A connection that has just been upgraded. It has no heartbeat before it is registered.
    pub fn new(policy: &SessionPolicy) -> Self {
        Self {
            times: Times::new(policy),
            phase: Phase::Open {
                ping_at: Millis::NEVER,
                pong_due: Millis::NEVER,
                read_due: Millis::NEVER,
                write_due: Millis::NEVER,
                unmeasured: false,
                held_back: false,
                probed: 0,
                unanswered_probes: 0,
            },
            last_ping: 0,
            awaited_ping: 1,
            cause: None,
        }
    }

    /// The connection is registered: its heartbeat starts, with the first ping after one interval.
    pub fn registered(&mut self, now: Millis) {
        let interval = self.times.ping_interval;
        if let Phase::Open { ping_at, .. } = &mut self.phase {
            start(ping_at, now, interval);
        }
    }

    /// The first header of a data message arrived. May be repeated until the message is finished.
    pub fn message_started(&mut self, now: Millis) {
        let limit = self.times.read_deadline;
        if let Phase::Open { read_due, .. } = &mut self.phase {
            start(read_due, now, limit);
        }
    }

    /// The message is complete.
    pub fn message_finished(&mut self) {
        if let Phase::Open { read_due, .. } = &mut self.phase {
            *read_due = Millis::NEVER;
        }
    }

    /// Whether the owner keeps from reading the peer. What it owes may wait behind what isn't read, so nothing of it is
    /// late meanwhile; once it is read again, it has the whole time for each. May be repeated.
    pub fn held_back(&mut self, now: Millis, held: bool) {
        let Times {
            pong_timeout,
            read_deadline,
            ..
        } = self.times;
        if let Phase::Open {
            pong_due,
            read_due,
            held_back,
            ..
        } = &mut self.phase
            && *held_back != held
        {
            *held_back = held;
            restart(pong_due, now, pong_timeout);
            restart(read_due, now, read_deadline);
        }
    }

    /// A pong with this number arrived. It answers the ping of that number and those before. A number that was never
    /// sent, or was answered before the last ping went out, answers nothing, and false is returned.
    pub fn pong(&mut self, number: u32) -> bool {
        let answers = (self.awaited_ping..=self.last_ping).contains(&number);
        match &mut self.phase {
            Phase::Open { pong_due, .. } if answers => {
                *pong_due = Millis::NEVER;
                true
            }
            _ => false,
        }
    }

    /// A ping is to be sent with the number of this probe, which is higher than those before.
    pub fn probed(&mut self, probe: u32) {
        if let Phase::Open {
            probed,
            unanswered_probes,
            ..
        } = &mut self.phase
        {
            let more = match *unanswered_probes {
                // The last before it may have been another connection's.
                0 => 1,
                _ => u16::try_from(probe.saturating_sub(*probed)).unwrap_or(u16::MAX),
            };
            *unanswered_probes = unanswered_probes.saturating_add(more);
            *probed = probe;
        }
    }

    /// The newest probe, while it is unanswered. Its ping is to be sent again behind every other: a peer may answer only
    /// the newest of several (RFC 6455, section 5.5.3), and a probe that it passes over costs it its slot.
    pub const fn unanswered_probe(&self) -> Option<u32> {
        match self.phase {
            Phase::Open {
                probed,
                unanswered_probes: 1..,
                ..
            } => Some(probed),
            _ => None,
        }
    }

    /// A pong with the number of a probe arrived. It answers the probes up to that number, once. To any before the first
    /// that is unanswered, or behind the newest, false is returned: nobody waits for it.
    pub fn probe_answered(&mut self, probe: u32) -> bool {
        if let Phase::Open {
            probed,
            unanswered_probes,
            ..
        } = &mut self.phase
            && let Some(newer) = probed.checked_sub(probe)
            && let Ok(newer) = u16::try_from(newer)
            && newer < *unanswered_probes
        {
            *unanswered_probes = newer;
            self.is_alive();
            return true;
        }
        false
    }

    /// The pong to a proof that was asked for arrived.
    pub fn proof_answered(&mut self) {
        self.is_alive();
    }

    /// A ping was answered for which the peer may have passed over the last of the heartbeat. If that went out behind it,
    /// a peer that has died in between is noticed one interval later.
    fn is_alive(&mut self) {
        self.pong(self.last_ping);
    }

    /// The time from the last ping to the pong with this number that arrived now, in milliseconds. `None` if it is no
    /// answer to that ping, or not the first.
    pub fn round_trip_ms(&mut self, now: Millis, number: u32) -> Option<u64> {
        let Phase::Open {
            ping_at,
            unmeasured,
            ..
        } = &mut self.phase
        else {
            return None;
        };
        // The next ping is due one interval after this one.
        let since_ping_ms = u64::from(self.times.ping_interval).saturating_sub(ping_at.since(now));
        (number == self.last_ping && std::mem::take(unmeasured)).then_some(since_ping_ms)
    }

    /// Bytes wait in front of a full socket. May be repeated; the first time counts.
    pub fn write_blocked(&mut self, now: Millis) {
        let limit = self.times.write_timeout;
        if let Phase::Open { write_due, .. } = &mut self.phase {
            start(write_due, now, limit);
        }
    }

    /// A message was written completely, and more wait: the next one has its own time.
    pub fn write_advanced(&mut self, now: Millis) {
        let limit = self.times.write_timeout;
        if let Phase::Open { write_due, .. } = &mut self.phase {
            restart(write_due, now, limit);
        }
    }

    /// Nothing waits to be written.
    pub fn write_idle(&mut self) {
        if let Phase::Open { write_due, .. } = &mut self.phase {
            *write_due = Millis::NEVER;
        }
    }

    /// The connection is to end for this cause. Returns the Close to send, to be followed by
    /// [`close_sent`](Self::close_sent) when it is written. None if the connection is ending already (the first
    /// cause counts), or if this cause ends it without a Close: then [`Action::Drop`] is due now. A Close from the
    /// peer is not a cause to pass here: see [`peer_closed`](Self::peer_closed).
    #[must_use]
    pub fn close_requested(&mut self, now: Millis, cause: Cause) -> Option<Close> {
        if !self.is_open() {
            return None;
        }
        self.cause = Some(cause);
        let close = cause.close();
        self.phase = match close {
            Some(_) => Phase::Closing {
                due: self.control_due(now),
                peer_closed: false,
            },
            None => Phase::Lingering { due: now },
        };
        close
    }

    /// Our Close was written to the socket.
    pub fn close_sent(&mut self, now: Millis) {
        if let Phase::Closing { peer_closed, .. } = self.phase {
            let due = if peer_closed {
                now
            } else {
                now.plus(self.times.close_wait.into())
            };
            self.phase = Phase::Waiting {
                due,
                answered: peer_closed,
            };
        }
    }

    /// The peer's Close arrived. True if it is to be echoed (and [`close_sent`](Self::close_sent) to follow),
    /// false if it answers ours or comes too late.
    #[must_use]
    pub fn peer_closed(&mut self, now: Millis) -> bool {
        match &mut self.phase {
            Phase::Open { .. } => {
                self.cause = Some(Cause::PeerClosed);
                self.phase = Phase::Closing {
                    due: self.control_due(now),
                    peer_closed: true,
                };
                return true;
            }
            Phase::Closing { peer_closed, .. } => *peer_closed = true,
            Phase::Waiting { due, answered } => {
                *due = now;
                *answered = true;
            }
            Phase::Lingering { .. } | Phase::Over => {}
        }
        false
    }

    /// Our sending side was shut, by [`Action::Fin`] or before it was asked for.
    pub fn fin_sent(&mut self, now: Millis) {
        if let Phase::Waiting { answered, .. } = self.phase {
            self.linger(now, answered);
        }
    }

    /// Whether messages flow: no side has begun to close.
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Why the connection is ending, once it is: the first cause there was.
    pub const fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// When the next of its timers is due.
    pub fn deadline(&self) -> Option<Millis> {
        let due = match self.phase {
            Phase::Open {
                ping_at,
                pong_due,
                read_due,
                write_due,
                held_back,
                ..
            } => {
                let ours = ping_at.min(write_due);
                if held_back {
                    ours
                } else {
                    ours.min(pong_due).min(read_due)
                }
            }
            Phase::Closing { due, .. } | Phase::Waiting { due, .. } | Phase::Lingering { due } => {
                due
            }
            Phase::Over => Millis::NEVER,
        };
        (due != Millis::NEVER).then_some(due)
    }

    /// What is due at `now`, one thing at a time: to be called until it returns None. Each call moves the state
    /// on, so the deadline is never left in the past.
    pub fn expire(&mut self, now: Millis) -> Option<Action> {
        match &mut self.phase {
            Phase::Open { .. } => self.expire_open(now),
            Phase::Closing { due, .. } if *due <= now => Some(self.cut()),
            Phase::Waiting { due, answered } if *due <= now => {
                let answered = *answered;
                self.linger(now, answered);
                Some(Action::Fin)
            }
            Phase::Lingering { due } if *due <= now => {
                self.phase = Phase::Over;
                Some(Action::Drop)
            }
            _ => None,
        }
    }

    fn expire_open(&mut self, now: Millis) -> Option<Action> {
        let Times {
            ping_interval,
            pong_timeout,
            ..
        } = self.times;
        let probe = self.unanswered_probe();
        let Phase::Open {
            ping_at,
            pong_due,
            read_due,
            write_due,
            unmeasured,
            held_back,
            ..
        } = &mut self.phase
        else {
            return None;
        };
        if *write_due <= now {
            return Some(self.cut());
        }
        if *pong_due <= now && !*held_back {
            *pong_due = Millis::NEVER;
            return Some(Action::Close(Cause::HeartbeatTimeout));
        }
        if *read_due <= now && !*held_back {
            *read_due = Millis::NEVER;
            return Some(Action::Close(Cause::MessageTooSlow));
        }
        if *ping_at > now {
            return None;
        }
        *ping_at = now.plus(ping_interval.into());
        *unmeasured = true;
        self.last_ping = self.last_ping.wrapping_add(1);
        // While one pong is awaited, further pings go out without a deadline of their own.
        if *pong_due == Millis::NEVER {
            self.awaited_ping = self.last_ping;
            *pong_due = now.plus(pong_timeout.into());
        }
        Some(Action::Ping {
            number: self.last_ping,
            probe,
        })
    }

    fn cut(&mut self) -> Action {
        self.cause.get_or_insert(Cause::WriteTimeout);
        self.phase = Phase::Over;
        Action::Cut(Cause::WriteTimeout)
    }

    /// A peer that didn't answer our Close has had its time: it gets a moment for the FIN, no more.
    fn linger(&mut self, now: Millis, answered: bool) {
        let wait = u64::from(self.times.close_wait);
        let wait = if answered {
            wait
        } else {
            wait.min(SILENT_LINGER_MS)
        };
        self.phase = Phase::Lingering {
            due: now.plus(wait),
        };
    }

    fn control_due(&self, now: Millis) -> Millis {
        now.plus(self.times.control_write_timeout.into())
    }
}

/// Starts a deadline that isn't running.
fn start(due: &mut Millis, now: Millis, after_ms: u32) {
    if *due == Millis::NEVER {
        *due = now.plus(after_ms.into());
    }
}

/// Gives a deadline that is running its whole time again.
fn restart(due: &mut Millis, now: Millis, after_ms: u32) {
    if *due != Millis::NEVER {
        *due = now.plus(after_ms.into());
    }
}

impl Times {
    fn new(policy: &SessionPolicy) -> Self {
        let short = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        Self {
            // Not 0, which would be a ping without end.
            ping_interval: short(policy.ping_interval_ms).max(1),
            pong_timeout: short(policy.pong_timeout_ms),
            read_deadline: short(policy.read_deadline_ms),
            write_timeout: short(policy.write_timeout_ms),
            control_write_timeout: short(policy.control_write_timeout_ms),
            close_wait: short(policy.close_wait_ms),
        }
    }
}

#[cfg(test)]
mod tests;
