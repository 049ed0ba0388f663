//! The table of connection ends: for every way a connection ends its close code, the reason on the wire, the label
//! in metrics and logs, who ended it, and what the peer's software does about it.

use crate::ws::sendable_close_code;

/// Normal end.
pub const NORMAL: u16 = 1000;
/// The endpoint goes away; also what a close notice says of a phone that vanished.
pub const GOING_AWAY: u16 = 1001;
/// RFC 6455 violation.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Pseudo-code: the peer's Close carried no code. Never on the wire.
pub const NO_STATUS: u16 = 1005;
/// Content that isn't what the message type promises (here: not UTF-8, not JSON).
pub const INVALID_PAYLOAD: u16 = 1007;
/// Policy violation.
pub const POLICY: u16 = 1008;
/// Message too big.
pub const TOO_BIG: u16 = 1009;
/// The relay gave up on this connection.
pub const INTERNAL: u16 = 1011;
/// The relay has no room for more (IANA's registry of close codes: "Try Again Later").
pub const TRY_AGAIN_LATER: u16 = 1013;
/// From the binary: the device token isn't accepted.
pub const UNAUTHORIZED: u16 = 4401;
/// From the relay: no binary for that server-id.
pub const DAEMON_ABSENT: u16 = 4404;
/// From the binary: the phone was idle for too long.
pub const IDLE_TIMEOUT: u16 = 4408;
/// From the relay: another, living binary holds the server-id.
pub const ALREADY_CLAIMED: u16 = 4409;
/// From the binary: the session is gone.
pub const SESSION_GONE: u16 = 4410;
/// From the binary: the app is too old.
pub const UPDATE_REQUIRED: u16 = 4412;
/// From the binary: its queue for this phone overflowed.
pub const QUEUE_OVERFLOW: u16 = 4413;
/// From the binary: protocol mismatch.
pub const PROTOCOL_MISMATCH: u16 = 4421;
/// From the binary: the end-to-end handshake failed.
pub const HANDSHAKE_FAILED: u16 = 4426;
/// From the relay: the server-id has its full number of phones.
pub const TOO_MANY_PHONES: u16 = 4429;

/// Every code that has a meaning here, in order. Metrics tell these apart, and no others: a peer may invent more.
pub const KNOWN: [u16; 20] = [
    NORMAL,
    GOING_AWAY,
    PROTOCOL_ERROR,
    NO_STATUS,
    INVALID_PAYLOAD,
    POLICY,
    TOO_BIG,
    INTERNAL,
    TRY_AGAIN_LATER,
    UNAUTHORIZED,
    DAEMON_ABSENT,
    IDLE_TIMEOUT,
    ALREADY_CLAIMED,
    SESSION_GONE,
    UPDATE_REQUIRED,
    QUEUE_OVERFLOW,
    PROTOCOL_MISMATCH,
    HANDSHAKE_FAILED,
    TOO_MANY_PHONES,
    OTHER,
];

/// Stands for all codes that are not among the [`KNOWN`]. Never on the wire.
pub const OTHER: u16 = u16::MAX;

/// Where `code` is among the [`KNOWN`]; the place of [`OTHER`] if it isn't.
pub fn known_index(code: u16) -> usize {
    KNOWN.binary_search(&code).unwrap_or(KNOWN.len() - 1)
}

/// Codes on which apps stop for good. Only a binary may cause them; the relay never invents one.
pub const NEVER_ORIGINATED: [u16; 4] = [
    UNAUTHORIZED,
    UPDATE_REQUIRED,
    PROTOCOL_MISMATCH,
    HANDSHAKE_FAILED,
];

/// What goes into a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The status code. [`NO_STATUS`] stands for a Close frame with an empty payload.
    pub code: u16,
    /// The reason, at most 123 bytes.
    pub reason: &'static str,
}

/// Why a connection ended. One variant for each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A phone found no binary under its server-id, or waited in vain for one to return.
    NoServer,
    /// A binary took the slot over or came back as a new process: the phone's session is gone.
    BinaryReclaimed,
    /// The grace window passed without a claim.
    BinaryDidNotReturn,
    /// The phone's own session is with a binary that is away; its frame has nowhere to go.
    BinaryAway,
    /// The server-id has a holder that proved to be alive after this claim arrived.
    AlreadyClaimed,
    /// The server-id has its full number of phones.
    TooManyPhones,
    /// The relay shuts down.
    ShuttingDown,
    /// An operator closed it, or its whole slot.
    ClosedByOperator,
    /// No pong in time.
    HeartbeatTimeout,
    /// The holder failed its probe, and another binary has the slot now.
    Displaced,
    /// The phone's outbox is over its budget.
    BacklogFull,
    /// As [`Cause::BacklogFull`], met by a close directive with this code, which is used.
    DirectiveOverflow(u16),
    /// Writing to the phone failed.
    WriteFailed,
    /// A phone's message isn't one JSON value.
    NotJson,
    /// A message isn't valid UTF-8.
    InvalidUtf8,
    /// A message is over the size limit.
    MessageTooBig,
    /// A message wasn't complete in time.
    MessageTooSlow,
    /// A message, or its beginning, finds no room: too much is queued or half received in the whole relay.
    Overloaded,
    /// RFC 6455 violation, in the codec's words.
    Protocol(&'static str),
    /// The binary asked for this end, with this code.
    Directive(u16),
    /// The peer sent a Close, which was echoed.
    PeerClosed,
    /// The connection broke or ended without a Close.
    PeerVanished,
    /// The peer didn't take our bytes in time.
    WriteTimeout,
    /// A plain end.
    Normal,
}

/// Who brought a connection's end about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// The peer itself: it sent the Close, or broke the protocol.
    Peer,
    /// The relay: its registry, its limits, or its patience.
    Relay,
    /// A phone's binary: it asked for this end, or left.
    Binary,
    /// Nobody: the connection broke.
    Network,
}

impl By {
    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Relay => "relay",
            Self::Binary => "binary",
            Self::Network => "network",
        }
    }
}

/// Which connections can end for a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Legs {
    /// Phones'.
    Phone,
    /// Binaries'.
    Binary,
    /// All.
    Both,
    /// None: nothing in this relay ends one so.
    Neither,
}

/// What the software at the other end does when it meets a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reaction {
    /// Dials again on its back-off ladder (1, 2, 4, 8, 16, 30 s).
    Retry,
    /// Dials again, and shows "daemon absent" instead of "offline".
    DaemonAbsent,
    /// A daemon counts it, and exits after eight in a row (old ones at the first).
    Conflict,
    /// At least one of the apps stops until its user acts.
    Stop,
}

/// What the real peers do on `code`: the most drastic reaction among daemon, mobile and desktop app.
pub fn reaction(code: u16) -> Reaction {
    match code {
        DAEMON_ABSENT => Reaction::DaemonAbsent,
        ALREADY_CLAIMED => Reaction::Conflict,
        code if NEVER_ORIGINATED.contains(&code) => Reaction::Stop,
        _ => Reaction::Retry,
    }
}

impl Cause {
    /// Every cause once. Those with a payload carry a sample of it; labels don't depend on it.
    pub const ALL: [Self; 24] = [
        Self::NoServer,
        Self::BinaryReclaimed,
        Self::BinaryDidNotReturn,
        Self::BinaryAway,
        Self::AlreadyClaimed,
        Self::TooManyPhones,
        Self::ShuttingDown,
        Self::ClosedByOperator,
        Self::HeartbeatTimeout,
        Self::Displaced,
        Self::BacklogFull,
        Self::DirectiveOverflow(NORMAL),
        Self::WriteFailed,
        Self::NotJson,
        Self::InvalidUtf8,
        Self::MessageTooBig,
        Self::MessageTooSlow,
        Self::Overloaded,
        Self::Protocol("protocol error"),
        Self::Directive(NORMAL),
        Self::PeerClosed,
        Self::PeerVanished,
        Self::WriteTimeout,
        Self::Normal,
    ];

    /// The row of the table: code (0: no Close frame of our own making), reason, label, who ended it, whose it was.
    fn row(self) -> (u16, &'static str, &'static str, By, Legs) {
        use By::{Network, Peer, Relay};
        use Legs::{Both, Neither, Phone};
        const NO: (u16, &str) = (0, "");
        let ((code, reason), label, by, legs) = match self {
            Self::NoServer => (
                (DAEMON_ABSENT, "no server with that id"),
                "no_server",
                Relay,
                Phone,
            ),
            Self::BinaryReclaimed => (
                (DAEMON_ABSENT, "binary reclaimed server-id"),
                "binary_reclaimed",
                By::Binary,
                Phone,
            ),
            Self::BinaryDidNotReturn => (
                (DAEMON_ABSENT, "binary did not return"),
                "binary_did_not_return",
                By::Binary,
                Phone,
            ),
            Self::BinaryAway => (
                (DAEMON_ABSENT, "binary is away"),
                "binary_away",
                By::Binary,
                Phone,
            ),
            Self::AlreadyClaimed => (
                (ALREADY_CLAIMED, "server-id already claimed"),
                "already_claimed",
                Relay,
                Legs::Binary,
            ),
            Self::TooManyPhones => (
                (TOO_MANY_PHONES, "too many phones for server-id"),
                "too_many_phones",
                Relay,
                Phone,
            ),
            Self::ShuttingDown => ((GOING_AWAY, "shutting down"), "shutting_down", Relay, Both),
            Self::ClosedByOperator => (
                (GOING_AWAY, "closed by the operator"),
                "operator",
                Relay,
                Both,
            ),
            Self::HeartbeatTimeout => (
                (INTERNAL, "heartbeat timeout"),
                "heartbeat_timeout",
                Relay,
                Both,
            ),
            Self::Displaced => (
                (INTERNAL, "heartbeat timeout"),
                "displaced",
                Relay,
                Legs::Binary,
            ),
            Self::BacklogFull => (
                (INTERNAL, "phone backlog full"),
                "backlog_full",
                Relay,
                Phone,
            ),
            Self::DirectiveOverflow(code) => (
                (code, "phone backlog full"),
                "directive_overflow",
                By::Binary,
                Phone,
            ),
            Self::WriteFailed => (
                (INTERNAL, "phone write failed"),
                "write_failed",
                Network,
                Neither,
            ),
            Self::NotJson => (
                (INVALID_PAYLOAD, "frame is not valid JSON"),
                "not_json",
                Peer,
                Phone,
            ),
            Self::InvalidUtf8 => (
                (INVALID_PAYLOAD, "message is not valid UTF-8"),
                "invalid_utf8",
                Peer,
                Both,
            ),
            Self::MessageTooBig => ((TOO_BIG, "message too big"), "message_too_big", Peer, Both),
            Self::MessageTooSlow => (
                (POLICY, "message took too long"),
                "message_too_slow",
                Relay,
                Both,
            ),
            Self::Overloaded => (
                (TRY_AGAIN_LATER, "relay is overloaded"),
                "overloaded",
                Relay,
                Both,
            ),
            Self::Protocol(reason) => ((PROTOCOL_ERROR, reason), "protocol_error", Peer, Both),
            Self::Directive(code) => ((code, ""), "directive", By::Binary, Phone),
            Self::PeerClosed => (NO, "peer_closed", Peer, Both),
            Self::PeerVanished => (NO, "peer_vanished", Network, Both),
            Self::WriteTimeout => (NO, "write_timeout", Relay, Both),
            Self::Normal => ((NORMAL, ""), "normal", Relay, Neither),
        };
        (code, reason, label, by, legs)
    }

    /// The Close frame to send, or `None` where there is none to make up: the peer's own is echoed
    /// ([`Cause::PeerClosed`]), the socket can't be written, or a directive's code can't be put on
    /// the wire. Except for the echo, `None` means that the TCP connection is dropped.
    pub fn close(&self) -> Option<Close> {
        let (code, reason, ..) = self.row();
        // A frame without a code has no room for a reason either.
        let reason = if code == NO_STATUS { "" } else { reason };
        (code == NO_STATUS || sendable_close_code(code)).then_some(Close { code, reason })
    }

    /// The label in metrics and the reason in logs: snake_case, unique, free of payload.
    pub fn label(&self) -> &'static str {
        self.row().2
    }

    /// Who brings this end about.
    pub fn by(&self) -> By {
        self.row().3
    }

    /// Which connections can end so.
    pub fn legs(&self) -> Legs {
        self.row().4
    }

    /// The place in [`Self::ALL`].
    pub fn index(&self) -> usize {
        let kind = std::mem::discriminant(self);
        let same = |cause: &Self| std::mem::discriminant(cause) == kind;
        Self::ALL.iter().position(same).unwrap_or_default()
    }

    /// What the peer's software does about this end. A connection dropped without a Close is
    /// retried.
    pub fn peer_reaction(&self) -> Reaction {
        self.close()
            .map_or(Reaction::Retry, |close| reaction(close.code))
    }
}

#[cfg(test)]
mod tests;
