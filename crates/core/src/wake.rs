//! Push wakes: which are sent, when a send is tried again, and what became of it.
//!
//! Nothing here can say more than it should: [`Refusal`] and [`Failure`] are closed, and of what the push service
//! answers only a status and words that look like the names of an enum ever become text.

use relay_proto::envelope::{PushWake, Wake};
use std::fmt;
use std::io;

use crate::limits::WAKE_IDS;
use crate::{Buckets, Millis, ServerId, WakePolicy};

/// The one platform there is.
const PLATFORM: &str = "fcm";

/// Why a wake is not sent. Its text is the `err` of the log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// There are no credentials, so there is no [`Admission`] either.
    #[error("push is off")]
    Off,
    /// The relay shuts down.
    #[error("push is off: the relay shuts down")]
    ShuttingDown,
    /// It is no object with string members.
    #[error("malformed push_wake")]
    Malformed,
    /// Not `fcm`.
    #[error("unsupported platform")]
    Platform,
    /// Nobody to wake.
    #[error("empty token")]
    EmptyToken,
    /// The server-id has used up its wakes.
    #[error("rate limited")]
    RateLimited,
    /// Too many sends of the whole relay are under way.
    #[error("too many wakes in flight")]
    InFlight,
}

impl Refusal {
    /// Whether it is one of the relay's limits that refuses, and not the wake itself: those are counted.
    pub const fn is_limit(self) -> bool {
        matches!(self, Self::RateLimited | Self::InFlight)
    }
}

/// Decides which wakes are sent, and counts those that are under way.
#[derive(Clone, Debug)]
pub struct Admission {
    closed: bool,
    /// None: wakes of one server-id are not limited.
    buckets: Option<Buckets<ServerId>>,
    in_flight: u32,
    max_in_flight: u32,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(&WakePolicy::default())
    }
}

impl Admission {
    /// With nothing under way.
    pub fn new(policy: &WakePolicy) -> Self {
        let limited = policy.wake_burst > 0;
        let buckets = || Buckets::new(policy.wake_burst, policy.wake_refill_ms, WAKE_IDS);
        Self {
            closed: false,
            buckets: limited.then(buckets),
            in_flight: 0,
            max_in_flight: policy.wakes_in_flight,
        }
    }

    /// Whether the wake that a binary of `server` asks for is sent. If so, it is in flight until [`Self::leave`].
    ///
    /// # Errors
    /// The first reason against it. Those about the wake itself cost the server-id nothing.
    pub fn admit(
        &mut self,
        now: Millis,
        server: &ServerId,
        wake: &PushWake<'_>,
    ) -> Result<Wake, Refusal> {
        if self.closed {
            return Err(Refusal::ShuttingDown);
        }
        let wake = wake.parse().map_err(|_| Refusal::Malformed)?;
        if wake.platform != PLATFORM {
            return Err(Refusal::Platform);
        }
        if wake.token.is_empty() {
            return Err(Refusal::EmptyToken);
        }
        if let Some(buckets) = &mut self.buckets {
            let taken = buckets.take(now, server);
            taken.map_err(|_| Refusal::RateLimited)?;
        }
        if self.in_flight >= self.max_in_flight {
            return Err(Refusal::InFlight);
        }
        self.in_flight += 1;
        Ok(wake)
    }

    /// The outcome of an admitted wake is known.
    pub fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Wakes under way.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Server-ids that have asked for wakes not long ago.
    pub fn limited_ids(&self) -> usize {
        self.buckets.as_ref().map_or(0, Buckets::len)
    }

    /// Refuses every further wake: the relay shuts down.
    pub fn close(&mut self) {
        self.closed = true;
    }
}

/// A word of the push service's answer that looks like the name of an enum's value: 1 to 64 of `A-Z`, `0-9` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Code(String);

impl Code {
    /// `word`, if it looks like that.
    pub fn new(word: &str) -> Option<Self> {
        let inside = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        ((1..=64).contains(&word.len()) && word.bytes().all(inside)).then(|| Self(word.to_owned()))
    }
}

/// The two codes of an error answer, as far as they look like codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reasons {
    /// `error.status`, such as `NOT_FOUND`.
    pub status: Option<Code>,
    /// `errorCode` of FCM's own detail, such as `UNREGISTERED`.
    pub error_code: Option<Code>,
}

impl Reasons {
    /// Whether the device's token is no longer valid.
    fn is_unregistered(&self) -> bool {
        matches!(&self.error_code, Some(Code(code)) if code == "UNREGISTERED")
    }
}

impl fmt::Display for Reasons {
    /// ` (NOT_FOUND, UNREGISTERED)`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.status, &self.error_code) {
            (Some(Code(status)), Some(Code(code))) => write!(f, " ({status}, {code})"),
            (Some(Code(one)), None) | (None, Some(Code(one))) => write!(f, " ({one})"),
            (None, None) => Ok(()),
        }
    }
}

/// Why an HTTP call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CallError {
    /// No connection. With the system's kind of error, which names no peer.
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    /// The server could not prove who it is, or speaks another TLS.
    #[error("cannot connect: TLS handshake failed")]
    Tls,
    /// The connection ended before the answer did.
    #[error("connection lost")]
    Lost,
    /// The answer did not come in time.
    #[error("timed out")]
    TimedOut,
}

/// Why an admitted wake did not reach the push service. Its text is the `err` of the log line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The token endpoint did not answer.
    #[error("access token: {0}")]
    TokenCall(CallError),
    /// The token endpoint refused.
    #[error("access token: status {0}")]
    TokenStatus(u16),
    /// The token endpoint's answer has no access token in it.
    #[error("access token: unusable reply")]
    TokenReply,
    /// The credentials could not sign.
    #[error("access token: cannot sign")]
    TokenSignature,
    /// FCM did not answer.
    #[error("fcm: {0}")]
    Call(CallError),
    /// FCM refused.
    #[error("status {status}{reasons}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What else may be told.
        reasons: Reasons,
    },
    /// The relay shut down before there was an answer.
    #[error("cancelled: the relay shuts down")]
    Cancelled,
}

/// How a failure is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The device's token is no longer valid.
    Unregistered,
    /// Anything else went wrong at or before FCM.
    SendFailed,
    /// There was no access token for FCM.
    TokenFetchFailed,
}

impl Failure {
    /// As it is counted.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::TokenCall(_) | Self::TokenStatus(_) | Self::TokenReply | Self::TokenSignature => {
                FailureKind::TokenFetchFailed
            }
            Self::Status { reasons, .. } if reasons.is_unregistered() => FailureKind::Unregistered,
            Self::Call(_) | Self::Status { .. } | Self::Cancelled => FailureKind::SendFailed,
        }
    }
}

/// The `name` of a message that FCM took, if it may be shown: 1 to 256 of `A-Z a-z 0-9 / : % _ -`.
pub fn message_id(name: &str) -> Option<&str> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"/:%_-".contains(&b);
    ((1..=256).contains(&name.len()) && name.bytes().all(inside)).then_some(name)
}

/// When a send that FCM could not take now is tried again: twice at most, and never beyond its deadline.
#[derive(Clone, Debug)]
pub struct Retries {
    deadline: Millis,
    made: u32,
}

/// Tries beyond the first.
const RETRIES: u32 = 2;

/// Before the first retry; the next waits twice as long. FCM asks for exponential back-off; a wake is worth nothing
/// after some seconds.
const BACKOFF_MS: u64 = 500;

impl Retries {
    /// For a send that must be over at `deadline`.
    pub const fn new(deadline: Millis) -> Self {
        Self { deadline, made: 0 }
    }

    /// When to try again after `status`; None: it is over.
    ///
    /// `retry_after_ms` is what the answer asks for, if it does. Otherwise a 5xx is tried again after a back-off between
    /// its half and its whole, as `random` says, so that refused senders don't come back together; and a 429 isn't:
    /// where FCM names no time, it asks for a minute at least.
    pub fn next(
        &mut self,
        now: Millis,
        status: u16,
        retry_after_ms: Option<u64>,
        random: u32,
    ) -> Option<Millis> {
        let half_ms = (BACKOFF_MS << self.made) / 2;
        let backoff_ms = half_ms + u64::from(random) % (half_ms + 1);
        let wait_ms = match status {
            429 => retry_after_ms,
            500..=599 => Some(retry_after_ms.unwrap_or(backoff_ms)),
            _ => None,
        };
        let at = now.plus(wait_ms.filter(|_| self.made < RETRIES)?);
        if at >= self.deadline {
            return None;
        }
        self.made += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests;
