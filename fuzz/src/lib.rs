//! What the targets share: inputs of which a few bytes say a lot.

pub mod socket;

/// No input becomes longer than this.
const LONGEST: usize = 300_000;

/// Repeats what the input says: after a byte 1, which no text has, comes how many of the last bytes are repeated, and how
/// many bytes that makes.
pub fn stretch(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut rest = input;
    loop {
        rest = match rest {
            [] => return out,
            [1, unit, high, low, after @ ..] if !out.is_empty() => {
                let unit = usize::from(*unit).clamp(1, out.len());
                let unit = out[out.len() - unit..].to_vec();
                let room = LONGEST.saturating_sub(out.len());
                let more = usize::from(u16::from_be_bytes([*high, *low])).min(room);
                let end = out.len() + more;
                out.extend(unit.repeat(more / unit.len() + 1));
                out.truncate(end);
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
        };
    }
}

/// Frames from descriptions: of each the first byte, the length of a text, how often it is there, a key, the text.
/// Fuzzers are bad at counting, and at writing text through a mask.
pub fn frames(mut descriptions: &[u8], masked: bool) -> Vec<u8> {
    let mut wire = Vec::new();
    while let [first, length, times, key, rest @ ..] = descriptions {
        let (text, next) = rest.split_at(usize::from(*length).min(rest.len()));
        let room = LONGEST.saturating_sub(wire.len());
        let times = (1 + usize::from(*times).pow(2)).min(room / text.len().max(1));
        push_frame(
            &mut wire,
            *first,
            masked.then_some(*key),
            &text.repeat(times),
        );
        descriptions = next;
    }
    wire
}

fn push_frame(wire: &mut Vec<u8>, first: u8, key: Option<u8>, payload: &[u8]) {
    let mask = if key.is_some() { 0x80 } else { 0 };
    wire.push(first);
    match payload.len() {
        short @ 0..126 => wire.push(mask | short as u8),
        medium @ 126..0x1_0000 => {
            wire.push(mask | 126);
            wire.extend((medium as u16).to_be_bytes());
        }
        long => {
            wire.push(mask | 127);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    let Some(key) = key else {
        return wire.extend_from_slice(payload);
    };
    let key = [0, 1, 3, 6].map(|turn| key.rotate_left(turn));
    wire.extend(key);
    wire.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
}

/// A number of bytes, from 1 to half a mebibyte.
pub fn size(byte: u8) -> usize {
    (usize::from(byte >> 4) + 1) << (byte & 15)
}

/// Whether an answer or a line may be shown as it is: one line, and nothing that a terminal would obey.
pub fn is_one_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
