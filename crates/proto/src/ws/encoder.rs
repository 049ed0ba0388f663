//! Frames as the server sends them: whole messages, unmasked, small parts inline.

use super::{ControlPayload, MAX_CONTROL_BYTES, Opcode, opcode, sendable_close_code};
use crate::close::NO_STATUS;
use std::fmt;
use std::ops::Deref;

/// The longest header without a mask.
const SERVER_HEADER_BYTES: usize = 10;
const FIN: u8 = 0x80;

/// The header of an unmasked frame; its payload follows on the wire as it is.
#[derive(Clone, Copy)]
pub struct FrameHeader {
    bytes: [u8; SERVER_HEADER_BYTES],
    len: u8,
}

impl FrameHeader {
    pub(super) fn new(first: u8, payload_bytes: usize) -> Self {
        let mut bytes = [0; SERVER_HEADER_BYTES];
        bytes[0] = first;
        let len = match payload_bytes {
            0..=125 => {
                bytes[1] = payload_bytes as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
                10
            }
        };
        Self { bytes, len }
    }

    /// Announces a mask; its key has to follow the header.
    pub(super) fn set_masked(&mut self) {
        self.bytes[1] |= 0x80;
    }
}

impl Deref for FrameHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for FrameHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameHeader({:02x?})", &**self)
    }
}

/// The header of an unfragmented text message from the server.
pub fn text_header(payload_bytes: usize) -> FrameHeader {
    data_header(Opcode::Text, payload_bytes)
}

/// The header of an unfragmented message from the server.
pub fn data_header(kind: Opcode, payload_bytes: usize) -> FrameHeader {
    let opcode = match kind {
        Opcode::Text => opcode::TEXT,
        Opcode::Binary => opcode::BINARY,
    };
    FrameHeader::new(FIN | opcode, payload_bytes)
}

/// The kind of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Asks for a pong.
    Ping,
    /// Answers a ping, with its payload.
    Pong,
    /// Ends the connection.
    Close,
}

impl Control {
    pub(super) fn opcode(self) -> u8 {
        match self {
            Self::Ping => opcode::PING,
            Self::Pong => opcode::PONG,
            Self::Close => opcode::CLOSE,
        }
    }
}

/// A whole unmasked control frame, inline.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; 2 + MAX_CONTROL_BYTES],
    len: u8,
}

impl ControlFrame {
    /// The frame's payload.
    pub fn payload(&self) -> &[u8] {
        &self[2..]
    }
}

impl Deref for ControlFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlFrame({:02x?})", &**self)
    }
}

/// A control frame from the server. The payload is cut at 125 bytes.
pub fn control_frame(kind: Control, payload: &[u8]) -> ControlFrame {
    let payload = ControlPayload::new(payload);
    let mut bytes = [0; 2 + MAX_CONTROL_BYTES];
    bytes[0] = FIN | kind.opcode();
    bytes[1] = payload.len() as u8;
    bytes[2..2 + payload.len()].copy_from_slice(&payload);
    ControlFrame {
        bytes,
        len: 2 + payload.len() as u8,
    }
}

/// A Close frame from the server. The reason is cut, between characters, to fit.
///
/// [`NO_STATUS`] (1005) gives an empty payload. `None`: a Close frame can't carry the code.
pub fn close_frame(code: u16, reason: &str) -> Option<ControlFrame> {
    close_payload(code, reason).map(|payload| control_frame(Control::Close, &payload))
}

/// The payload of a Close frame, as [`close_frame`] has it.
pub(super) fn close_payload(code: u16, reason: &str) -> Option<ControlPayload> {
    if code == NO_STATUS {
        return Some(ControlPayload::EMPTY);
    }
    let mut payload = ControlPayload::new(&code.to_be_bytes());
    payload.append(&reason.as_bytes()[..reason.floor_char_boundary(MAX_CONTROL_BYTES - 2)]);
    sendable_close_code(code).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        assert_eq!(*text_header(0), [0x81, 0]);
        assert_eq!(*text_header(125), [0x81, 125]);
        assert_eq!(*text_header(126), [0x81, 126, 0, 126]);
        assert_eq!(*text_header(0xffff), [0x81, 126, 0xff, 0xff]);
        assert_eq!(*text_header(0x10000), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(*data_header(Opcode::Binary, 1), [0x82, 1]);
    }

    #[test]
    fn control_frames_fit_their_limit() {
        assert_eq!(*control_frame(Control::Ping, b"ab"), [0x89, 2, b'a', b'b']);
        assert_eq!(*control_frame(Control::Pong, b""), [0x8a, 0]);
        assert_eq!(control_frame(Control::Pong, &[7; 200]).len(), 127);
        assert_eq!(control_frame(Control::Pong, b"xyz").payload(), b"xyz");
    }

    #[test]
    fn close_frames_carry_what_may_be_carried() {
        assert_eq!(
            *close_frame(4404, "no").unwrap(),
            [0x88, 4, 0x11, 0x34, b'n', b'o']
        );
        assert_eq!(*close_frame(NO_STATUS, "dropped").unwrap(), [0x88, 0]);
        for code in [0, 999, 1004, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(close_frame(code, "").is_none(), "{code}");
        }
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert!(close_frame(code, "").is_some(), "{code}");
        }
        let cut = close_frame(1000, &"漢".repeat(100)).unwrap();
        assert_eq!(cut.payload()[2..], *"漢".repeat(41).as_bytes());
        let cut = close_frame(1000, &format!("a{}", "漢".repeat(100))).unwrap();
        assert_eq!(
            cut.payload()[2..],
            *format!("a{}", "漢".repeat(40)).as_bytes()
        );
    }
}
