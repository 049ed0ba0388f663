//! One server-id's slot: who holds it, who wants it, which phones it has.
//!
//! A slot is *empty*, *live* (a binary holds it) or in *grace* (the holder's connection ended, and it may come
//! back). A holder's time in the slot is a *tenure*; it outlives its connection only if a claim with the same
//! [`Instance`] resumes it. A phone belongs to one tenure: it leaves with it, unless no binary has heard of it yet.
//!
//! Deadlines are part of the state they belong to, so no timer can fire for something that is over.

mod binary;
mod phone;

use relay_proto::close::Cause;

use crate::{Conn, Instance, Millis, Policy, ServerId};

/// What happened to a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A binary claims the server-id. Answered by [`Effect::Claimed`], or by [`Effect::Probing`] and later by
    /// [`Effect::Claimed`] or [`Effect::ClaimRefused`].
    Claim {
        /// The binary's connection.
        conn: Conn,
        /// What it calls its process, if it says.
        instance: Option<Instance>,
    },
    /// A binary's connection ended: the holder's, a claimant's, or one that lost the slot before.
    BinaryGone {
        /// The connection.
        conn: Conn,
    },
    /// A phone registers. Answered by [`Effect::Registered`] or [`Effect::RegisterRefused`].
    Register {
        /// The phone's connection.
        conn: Conn,
    },
    /// A phone without a link has a frame. Answered by [`Effect::Link`], [`Effect::Park`] or [`Effect::Evict`],
    /// or by nothing if it was evicted before.
    PhoneFrame {
        /// The phone's connection.
        conn: Conn,
    },
    /// A phone's read side ended. To be said once of every registered phone, evicted or not.
    PhoneGone {
        /// The phone's connection.
        conn: Conn,
        /// How it ended.
        end: PhoneEnd,
    },
    /// The holder answered a probe. That answers every claimant whose probe has this number or a smaller one.
    Pong {
        /// The connection that answered.
        conn: Conn,
        /// The probe's number.
        probe: u32,
    },
    /// The answer to [`Effect::CheckPath`].
    Path {
        /// The holder's connection.
        conn: Conn,
        /// The probe it is about.
        probe: u32,
        /// What the kernel knows.
        path: Path,
    },
}

/// How a phone's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PhoneEnd {
    /// The code for a close notice: the one the phone sent, or the one the relay closed it with, or 1001 if it
    /// vanished.
    pub code: u16,
    /// The binary asked for this end, so it gets no notice.
    pub silent: bool,
}

/// What the kernel knows about the path to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Nothing: it doesn't say, or nothing is under way.
    Unknown,
    /// The peer's host acknowledged all bytes.
    Acknowledged,
    /// Bytes are under way, and no acknowledgement has arrived for this long.
    Silent {
        /// Milliseconds since the last acknowledgement.
        for_ms: u64,
    },
}

/// How a claim took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// The slot was empty.
    Fresh,
    /// The slot was in grace; a new tenure begins.
    Reclaim,
    /// The same process is back; its tenure goes on.
    Resume,
    /// The holder was dead; a new tenure begins.
    Takeover,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The binary holds the slot.
    Claimed {
        /// The new holder.
        conn: Conn,
        /// How it got there.
        how: Claim,
    },
    /// The claim waits until the holder is known to be alive or dead. What the claimant sends meanwhile is for later;
    /// should it end, that is [`Input::BinaryGone`].
    Probing {
        /// The claimant.
        conn: Conn,
    },
    /// The holder is alive: close the claimant with [`Cause::AlreadyClaimed`].
    ClaimRefused {
        /// The claimant.
        conn: Conn,
    },
    /// The old holder lost the slot: close it with [`Cause::Displaced`].
    Displaced {
        /// The old holder.
        conn: Conn,
    },
    /// The holder's connection ended. Grace begins, unless a claimant was waiting.
    Released {
        /// The old holder.
        conn: Conn,
    },
    /// Ping the holder with this number now.
    Probe {
        /// The holder.
        conn: Conn,
        /// The probe's number: larger than all before it in this slot.
        probe: u32,
    },
    /// Ask the kernel about the path to the holder; answer with [`Input::Path`].
    CheckPath {
        /// The holder.
        conn: Conn,
        /// The probe to name in the answer.
        probe: u32,
    },
    /// The phone is in. Its first frame asks where to go.
    Registered {
        /// The phone.
        conn: Conn,
    },
    /// The phone is not in: close it.
    RegisterRefused {
        /// The phone.
        conn: Conn,
        /// [`Cause::NoServer`] or [`Cause::TooManyPhones`].
        cause: Cause,
    },
    /// The phone's frames go to this binary from now on, the parked ones first.
    Link {
        /// The phone.
        phone: Conn,
        /// The holder.
        binary: Conn,
    },
    /// The phone's frames have no destination, and it has none parked: the next one must ask.
    Unlink {
        /// The phone.
        phone: Conn,
    },
    /// Keep the phone's frames, in order, until it is linked or evicted. May be said again.
    Park {
        /// The phone.
        phone: Conn,
    },
    /// The phone is out: drop its parked frames and close it.
    Evict {
        /// The phone.
        phone: Conn,
        /// Why.
        cause: Cause,
    },
    /// Send the close notice, after the phone's frames.
    Notice {
        /// The holder.
        binary: Conn,
        /// The phone that left.
        phone: Conn,
        /// The code.
        code: u16,
    },
    /// The phone left, and its binary is away and will not be told: no notice follows. Never said of a phone that was
    /// parked, nor of one that [`Effect::Departed`] keeps.
    Unnoticed {
        /// The phone that left.
        phone: Conn,
        /// The code.
        code: u16,
    },
    /// The phone left, or was evicted just now, and its binary may come back to read what it sent and to be told:
    /// keep its conn_id and its parked frames, if any, until [`Effect::DeliverDeparted`] or
    /// [`Effect::ForgetDeparted`]; one of them follows. Without this effect, the parked frames of a phone that
    /// leaves are to be dropped.
    Departed {
        /// The phone.
        phone: Conn,
    },
    /// Hand over what the departed phone had parked. Its notice follows.
    DeliverDeparted {
        /// The phone.
        phone: Conn,
        /// The holder.
        binary: Conn,
    },
    /// Drop what the departed phone had parked.
    ForgetDeparted {
        /// The phone.
        phone: Conn,
    },
    /// The grace timer fired: the slot is empty again. Evictions follow.
    GraceExpired,
}

/// Effects, each with the server-id it belongs to.
pub type Effects = Vec<(ServerId, Effect)>;

/// What a transition may look at, and where its effects go.
pub(crate) struct Context<'a> {
    pub(crate) now: Millis,
    pub(crate) policy: &'a Policy,
    /// For its binary to come back: there are not too many that do.
    pub(crate) may_wait: bool,
    pub(crate) boot_park_until: Millis,
    pub(crate) server: &'a ServerId,
    pub(crate) out: &'a mut Effects,
}

impl Context<'_> {
    fn emit(&mut self, effect: Effect) {
        self.out.push((self.server.clone(), effect));
    }

    /// When a phone parked now has waited long enough.
    const fn park_until(&self) -> Millis {
        self.now.plus(self.policy.park_ms)
    }
}

/// The state of one server-id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) tenure: Tenure,
    /// Since when it has been empty, in grace, or held by its holder.
    pub(crate) since: Millis,
    /// Every registered phone, in the order of registration. Few, so a search is as fast as a tree.
    pub(crate) phones: Vec<Phone>,
    pub(crate) last_probe: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Tenure {
    /// Nobody's.
    #[default]
    Empty,
    Live(Live),
    Grace(Grace),
}

/// A binary holds the slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Live {
    pub(crate) holder: Conn,
    pub(crate) instance: Option<Instance>,
    /// Longest waiting first.
    pub(crate) claimants: Vec<Claimant>,
}

/// A binary that waits for the outcome of its probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claimant {
    pub(crate) conn: Conn,
    pub(crate) instance: Option<Instance>,
    pub(crate) probe: u32,
    pub(crate) check_at: Option<Millis>,
    pub(crate) takeover_at: Millis,
}

/// The holder's connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grace {
    pub(crate) until: Millis,
    pub(crate) instance: Option<Instance>,
    /// Phones known to the holder that left since, for the notices it gets if it resumes. None if it can't.
    pub(crate) departed: Vec<Departed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Departed {
    pub(crate) conn: Conn,
    pub(crate) code: u16,
}

/// A registered phone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Phone {
    pub(crate) conn: Conn,
    /// A frame of it was forwarded in this tenure: the binary knows it, and in a live slot it has a link.
    pub(crate) heard: bool,
    pub(crate) parked: Option<Parked>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Parked {
    pub(crate) until: Millis,
    /// It has sent something since it was parked.
    pub(crate) frames: bool,
}

impl Slot {
    /// Nobody's, and without phones.
    pub(crate) const fn new(now: Millis) -> Self {
        Self {
            tenure: Tenure::Empty,
            since: now,
            phones: Vec::new(),
            last_probe: 0,
        }
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_vacant(&self) -> bool {
        self.phones.is_empty() && matches!(self.tenure, Tenure::Empty)
    }

    /// When the next of its deadlines is due.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let parked = self
            .phones
            .iter()
            .filter_map(|phone| phone.parked.as_ref())
            .map(|p| p.until);
        let tenure = match &self.tenure {
            Tenure::Empty => None,
            Tenure::Grace(grace) => Some(grace.until),
            Tenure::Live(live) => live.deadline(),
        };
        parked.chain(tenure).min()
    }

    /// Takes one input.
    pub(crate) fn step(&mut self, input: Input, cx: &mut Context<'_>) {
        match input {
            Input::Claim { conn, instance } => self.claim(conn, instance, cx),
            Input::BinaryGone { conn } => self.binary_gone(conn, cx),
            Input::Register { conn } => self.register(conn, cx),
            Input::PhoneFrame { conn } => self.phone_frame(conn, cx),
            Input::PhoneGone { conn, end } => self.phone_gone(conn, end, cx),
            Input::Pong { conn, probe } => self.pong(conn, probe, cx),
            Input::Path { conn, probe, path } => self.path(conn, probe, path, cx),
        }
    }

    /// Does what is due. Afterwards the deadline is another one.
    pub(crate) fn expire(&mut self, cx: &mut Context<'_>) {
        match &self.tenure {
            Tenure::Grace(grace) if grace.until <= cx.now => self.grace_expired(cx),
            Tenure::Live(live) if live.is_over(cx.now) => self.takeover(cx),
            Tenure::Live(_) => self.check_paths(cx),
            Tenure::Empty | Tenure::Grace(_) => {}
        }
        self.end_long_waits(cx);
    }
}

impl Live {
    fn deadline(&self) -> Option<Millis> {
        self.claimants
            .iter()
            .map(|c| c.check_at.unwrap_or(c.takeover_at).min(c.takeover_at))
            .min()
    }

    /// Whether the holder left a probe unanswered for too long.
    fn is_over(&self, now: Millis) -> bool {
        self.claimants
            .iter()
            .any(|claimant| claimant.takeover_at <= now)
    }
}

impl Grace {
    /// Whether the tenure can be resumed, and by whom.
    pub(crate) fn can_resume(&self) -> bool {
        self.instance.is_some()
    }

    /// Whether the binary, should it resume, is to be told that this phone is gone.
    pub(crate) fn may_tell_of(&self, phone: &Phone) -> bool {
        self.can_resume() && phone.heard
    }
}
