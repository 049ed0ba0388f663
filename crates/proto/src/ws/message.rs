//! What comes out of the decoder.

use super::{Error, MAX_CONTROL_BYTES, Opcode, sendable_close_code};
use std::fmt;
use std::ops::Deref;

/// What the peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A complete data message.
    Message {
        /// Its kind, from its first frame.
        opcode: Opcode,
        /// Its content.
        payload: Payload<'a>,
    },
    /// A ping: a pong with the same payload is due.
    Ping(ControlPayload),
    /// A pong.
    Pong(ControlPayload),
    /// A Close. The peer sends nothing after it.
    Close(Option<CloseFrame>),
}

/// The content of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// It was complete in the input, and still lies there.
    Borrowed(&'a [u8]),
    /// It arrived in pieces; this is the very memory they were collected in.
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// The content with memory of its own; copies only what was borrowed.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// The content of a control frame: at most 125 bytes, kept inline.
#[derive(Clone, Copy)]
pub struct ControlPayload {
    bytes: [u8; MAX_CONTROL_BYTES],
    len: u8,
}

impl ControlPayload {
    /// No bytes.
    pub const EMPTY: Self = Self {
        bytes: [0; MAX_CONTROL_BYTES],
        len: 0,
    };

    /// Holds `bytes`, cut at 125.
    pub fn new(bytes: &[u8]) -> Self {
        let mut payload = Self::EMPTY;
        payload.append(bytes);
        payload
    }

    /// Adds `more`, cut where 125 bytes are reached.
    pub(super) fn append(&mut self, more: &[u8]) {
        let had = usize::from(self.len);
        let new = more.len().min(MAX_CONTROL_BYTES - had);
        self.bytes[had..had + new].copy_from_slice(&more[..new]);
        self.len = (had + new) as u8;
    }
}

impl Deref for ControlPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

impl PartialEq for ControlPayload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ControlPayload {}

/// A Close frame with a status: its code may be on the wire, and its reason is valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code.
    pub code: u16,
    payload: ControlPayload,
}

impl CloseFrame {
    /// The reason, at most 123 bytes, often empty.
    pub fn reason(&self) -> &str {
        // It was found valid when this value was made.
        std::str::from_utf8(&self.payload[2..]).unwrap_or_default()
    }

    /// Reads a Close frame's payload (RFC 6455 §5.5.1, §7.4). An empty one is `None`.
    pub(super) fn parse(payload: &ControlPayload) -> Result<Option<Self>, Error> {
        let (code, reason) = match **payload {
            [] => return Ok(None),
            [_] => return Err(Error::Protocol("close payload of one byte")),
            [high, low, ref reason @ ..] => (u16::from_be_bytes([high, low]), reason),
        };
        if !sendable_close_code(code) {
            return Err(Error::Protocol("close code not allowed on the wire"));
        }
        super::utf8::check(reason)?;
        Ok(Some(Self {
            code,
            payload: *payload,
        }))
    }
}
