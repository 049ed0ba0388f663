//! Frames as a client sends them: masked, appended to a buffer.

use super::encoder::{Control, FrameHeader, close_payload};
use super::{mask, opcode};

/// Appends an unfragmented text message.
pub fn masked_text(payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    masked_frame(opcode::TEXT, true, payload, key, out);
}

/// Appends a control frame. The payload must be at most 125 bytes for it to be a legal one.
pub fn masked_control(kind: Control, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    masked_frame(kind.opcode(), true, payload, key, out);
}

/// Appends a Close frame, as [`close_frame`](super::close_frame) makes it. `false`, with nothing
/// appended: a Close frame can't carry the code.
pub fn masked_close(code: u16, reason: &str, key: [u8; 4], out: &mut Vec<u8>) -> bool {
    let Some(payload) = close_payload(code, reason) else {
        return false;
    };
    masked_control(Control::Close, &payload, key, out);
    true
}

/// Appends any frame, legal or not. Only the low four bits of `opcode` are used.
pub fn masked_frame(opcode: u8, fin: bool, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    let mut header = FrameHeader::new(u8::from(fin) << 7 | opcode & 0x0f, payload.len());
    header.set_masked();
    out.reserve(header.len() + key.len() + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(key, 0, &mut out[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let mut out = Vec::new();
        masked_text(b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut out);
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(out, hello);
    }

    #[test]
    fn unsendable_codes_append_nothing() {
        let mut out = Vec::new();
        assert!(!masked_close(1006, "", [0; 4], &mut out));
        assert!(out.is_empty());
        assert!(masked_close(1001, "x", [0; 4], &mut out));
        assert_eq!(out, [0x88, 0x83, 0, 0, 0, 0, 0x03, 0xe9, b'x']);
    }
}
