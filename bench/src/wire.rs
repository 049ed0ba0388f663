//! Just enough of the wire to keep the generator cheap: frames made once and sent many times, and
//! frames counted without being copied.

use relay_proto::ws::{self, Control};

/// A fixed mask: a client must mask, the relay must unmask, and which key it is costs neither more nor less.
const MASK: [u8; 4] = [0x9d, 0x2f, 0x61, 0xc8];

/// A masked text message as a client sends it.
pub(crate) fn message(payload: &[u8]) -> Box<[u8]> {
    let mut out = Vec::new();
    ws::client::masked_text(payload, MASK, &mut out);
    out.into_boxed_slice()
}

/// A masked Close frame, 1000.
pub(crate) fn close() -> Box<[u8]> {
    let mut out = Vec::new();
    ws::client::masked_close(1000, "", MASK, &mut out);
    out.into_boxed_slice()
}

/// A masked Pong with the payload of this ping.
pub(crate) fn pong(ping: &[u8]) -> Box<[u8]> {
    let mut out = Vec::new();
    ws::client::masked_control(Control::Pong, ping, MASK, &mut out);
    out.into_boxed_slice()
}

/// A frame as the real apps send it, `bytes` long: one long base64 string in a little JSON.
pub(crate) fn payload(bytes: usize) -> Vec<u8> {
    let (start, end) = (&br#"{"v":2,"type":"noise_msg","data":""#[..], &br#""}"#[..]);
    let room = bytes.saturating_sub(start.len() + end.len());
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let data: Vec<u8> = alphabet.iter().copied().cycle().take(room).collect();
    [start, &data, end].concat()
}

/// The `conn_id` at the start of an envelope.
pub(crate) fn conn_id(envelope: &[u8]) -> Option<&[u8]> {
    let rest = envelope.strip_prefix(br#"{"conn_id":""#)?;
    Some(&rest[..rest.iter().position(|byte| *byte == b'"')?])
}

/// How much of a message a [`Scanner`] keeps: the longest start of an envelope.
const KEPT_BYTES: usize = 128;

/// A frame that has passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload_bytes: usize,
    /// The first bytes of the payload, as they are on the wire.
    pub(crate) start: &'a [u8],
}

/// Counts the frames of a stream, masked or not, as they pass.
#[derive(Debug)]
pub(crate) struct Scanner {
    header: [u8; 14],
    header_bytes: usize,
    kept: Vec<u8>,
    payload_bytes: usize,
    left: usize,
}

impl Scanner {
    pub(crate) fn new() -> Self {
        Self {
            header: [0; 14],
            header_bytes: 0,
            kept: Vec::new(),
            payload_bytes: 0,
            left: 0,
        }
    }

    /// Takes the next bytes and reports each frame that ends in them.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut passed: impl FnMut(Passed<'_>)) {
        while !bytes.is_empty() {
            if !self.header_complete() {
                self.header[self.header_bytes] = bytes[0];
                self.header_bytes += 1;
                bytes = &bytes[1..];
                if !self.header_complete() {
                    continue;
                }
                self.payload_bytes = self.length();
                self.left = self.payload_bytes;
                self.kept.clear();
            }
            let here = self.left.min(bytes.len());
            let keep = here.min(KEPT_BYTES - self.kept.len().min(KEPT_BYTES));
            self.kept.extend_from_slice(&bytes[..keep]);
            self.left -= here;
            bytes = &bytes[here..];
            if self.left == 0 {
                self.header_bytes = 0;
                passed(Passed {
                    opcode: self.header[0] & 0x0f,
                    payload_bytes: self.payload_bytes,
                    start: &self.kept,
                });
            }
        }
    }

    /// Bytes of a length beyond the seven bits of the second byte (RFC 6455 §5.2).
    fn extended(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_complete(&self) -> bool {
        let mask = if self.header[1] & 0x80 != 0 { 4 } else { 0 };
        self.header_bytes >= 2 && self.header_bytes == 2 + self.extended() + mask
    }

    fn length(&self) -> usize {
        match self.extended() {
            0 => usize::from(self.header[1] & 0x7f),
            more => self.header[2..2 + more]
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_of_their_size() {
        for bytes in [64, 256, 4096, 65_536] {
            let payload = payload(bytes);
            assert_eq!(payload.len(), bytes);
            assert!(relay_proto::json::validate(&payload).is_ok());
        }
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let sizes = [0, 1, 125, 126, 127, 128, 129, 65_535, 65_536];
        let unmasked = |size: usize| [&ws::text_header(size)[..], &vec![b'x'; size]].concat();
        let masked: Vec<u8> = sizes
            .iter()
            .flat_map(|size| message(&vec![b'x'; *size]))
            .collect();
        let plain: Vec<u8> = sizes.iter().flat_map(|size| unmasked(*size)).collect();
        for stream in [masked, plain] {
            for cut in [1, 2, 3, 7, 1000, stream.len()] {
                let (mut scanner, mut seen) = (Scanner::new(), Vec::new());
                for piece in stream.chunks(cut) {
                    scanner.feed(piece, |frame| {
                        seen.push((frame.opcode, frame.payload_bytes))
                    });
                }
                let expected: Vec<_> = sizes.iter().map(|size| (1, *size)).collect();
                assert_eq!(seen, expected, "cut {cut}");
            }
        }
    }

    #[test]
    fn an_envelope_tells_its_phone() {
        let envelope = [&relay_proto::envelope::prefix("client-a-1")[..], b"1}"].concat();
        let framed = [&ws::text_header(envelope.len())[..], &envelope].concat();
        let (mut scanner, mut seen) = (Scanner::new(), Vec::new());
        scanner.feed(&framed, |frame| {
            seen.push(conn_id(frame.start).map(<[u8]>::to_vec))
        });
        assert_eq!(seen, [Some(b"client-a-1".to_vec())]);
        assert_eq!(conn_id(b"{}"), None);
    }
}
