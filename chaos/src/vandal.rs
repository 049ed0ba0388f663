//! What a relay must never do to a message, done by the proxy instead: whether the checks would notice.

use clap::ValueEnum;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vandalism {
    /// A message is lost.
    Lose,
    /// A message comes twice.
    Repeat,
    /// A letter of a message is another one.
    Change,
}

/// The message of a connection to which it is done, counted from 1. The first ones are still about who is there.
const VICTIM: u64 = 3;

/// Follows the frames that a relay sends on one connection.
pub(crate) struct Vandal {
    what: Vandalism,
    head_is_over: bool,
    waiting: Vec<u8>,
    messages: u64,
}

impl Vandal {
    /// At the beginning of a connection.
    pub(crate) fn new(what: Vandalism) -> Self {
        Self {
            what,
            head_is_over: false,
            waiting: Vec::new(),
            messages: 0,
        }
    }

    /// What the peer gets of these bytes. A frame is kept until it is complete.
    pub(crate) fn pass(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.waiting.extend(bytes);
        let mut out = Vec::new();
        if !self.head_is_over {
            let end = self.waiting.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else { return out };
            out.extend(self.waiting.drain(..end + 4));
            self.head_is_over = true;
        }
        while let Some(length) = frame_length(&self.waiting) {
            let mut frame: Vec<u8> = self.waiting.drain(..length).collect();
            // A relay sends every message whole, as text.
            let is_message = frame[0] & 0x0f == 1;
            self.messages += u64::from(is_message);
            if !is_message || self.messages != VICTIM {
                out.extend(frame);
                continue;
            }
            match self.what {
                Vandalism::Lose => {}
                Vandalism::Repeat => {
                    out.extend(&frame);
                    out.extend(&frame);
                }
                Vandalism::Change => {
                    // The last letter of the padding, or of the last key.
                    let letter = frame.iter_mut().rfind(|byte| byte.is_ascii_lowercase());
                    if let Some(letter) = letter {
                        *letter = if *letter == b'z' { b'a' } else { *letter + 1 };
                    }
                    out.extend(&frame);
                }
            }
        }
        out
    }
}

/// Bytes of the frame at the front, when it is complete. A server's frames have no mask.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let (head, length) = match bytes.get(1)? & 0x7f {
        126 => (4, bytes.get(2..4)?.iter()),
        127 => (10, bytes.get(2..10)?.iter()),
        _ => (2, bytes.get(1..2)?.iter()),
    };
    let length = length.fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    (bytes.len() >= head + length).then_some(head + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(of: &str) -> Vec<u8> {
        [&[0x81, of.len() as u8], of.as_bytes()].concat()
    }

    /// Whatever the pieces are in which it comes.
    #[test]
    fn only_the_victim_is_touched() {
        let ping = [0x89, 0];
        let long = [&[0x81, 126, 1, 0], &[b'x'; 256][..]].concat();
        let before = [&b"HTTP/1.1 101\r\n\r\n"[..], &text("{}"), &ping, &long].concat();
        let input = [&before, &text("\"ab\"")[..], &text("1")].concat();
        for (what, victim) in [
            (Vandalism::Lose, vec![]),
            (Vandalism::Repeat, text("\"ab\"").repeat(2)),
            (Vandalism::Change, text("\"ac\"")),
        ] {
            for size in [1, 3, 1000] {
                let mut vandal = Vandal::new(what);
                let chunks = input.chunks(size);
                let output: Vec<u8> = chunks.flat_map(|c| vandal.pass(c.to_vec())).collect();
                assert_eq!(
                    output,
                    [&before, &victim, &text("1")[..]].concat(),
                    "{what:?}"
                );
            }
        }
    }
}
