//! RFC 6455 without IO: bytes to messages ([`Decoder`]) and messages to bytes (the functions), for
//! both roles. No extensions.
//!
//! A decoder takes what it can straight from the caller's read buffer, so that an idle connection
//! costs a few dozen bytes, and an incomplete message as much as has arrived of it.

pub mod client;
mod decoder;
mod encoder;
mod header;
pub mod mask;
mod message;
mod utf8;

pub use decoder::{Beyond, Decoder, Filled};
pub use encoder::{
    Control, ControlFrame, FrameHeader, close_frame, control_frame, data_header, text_header,
};
pub use message::{CloseFrame, ControlPayload, Event, Payload};

/// The longest frame header: 2 bytes, 8 of length, 4 of mask.
pub const MAX_HEADER_BYTES: usize = 14;
/// The longest control frame payload (RFC 6455 §5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// Opcodes as they stand in a frame's first byte (RFC 6455 §11.8).
pub mod opcode {
    /// Continues a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// Text message.
    pub const TEXT: u8 = 1;
    /// Binary message.
    pub const BINARY: u8 = 2;
    /// Close.
    pub const CLOSE: u8 = 8;
    /// Ping.
    pub const PING: u8 = 9;
    /// Pong.
    pub const PONG: u8 = 10;
}

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Receives masked frames, sends unmasked ones.
    Server,
    /// Receives unmasked frames, sends masked ones.
    Client,
}

/// The kind of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Text.
    Text,
    /// Binary.
    Binary,
}

/// Which messages must be valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Utf8 {
    /// Text messages, as RFC 6455 §8.1 has it.
    TextOnly,
    /// Binary messages too: for an endpoint that sends them on as text.
    Every,
}

/// What a decoder lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, as the sum of its fragments. Exactly this length is fine.
    pub message_bytes: usize,
    /// Which messages must be valid UTF-8.
    pub utf8: Utf8,
}

/// Why a stream can't be decoded any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer broke RFC 6455, in words fit for a Close reason.
    #[error("{0}")]
    Protocol(&'static str),
    /// A message or a Close reason isn't valid UTF-8.
    #[error("message is not valid UTF-8")]
    InvalidUtf8,
    /// A message is longer than allowed.
    #[error("message is longer than {limit} bytes")]
    TooBig {
        /// What is allowed.
        limit: usize,
    },
}

impl Error {
    /// The code to close with: 1002, 1007 or 1009.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Protocol(_) => crate::close::PROTOCOL_ERROR,
            Self::InvalidUtf8 => crate::close::INVALID_PAYLOAD,
            Self::TooBig { .. } => crate::close::TOO_BIG,
        }
    }
}

/// Whether a Close frame may carry `code` (RFC 6455 §7.4, with the codes registered since).
pub fn sendable_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
