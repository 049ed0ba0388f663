//! Skipping the plain content of strings: a frame is mostly one long string, so this is where a
//! validator's time goes.

/// Strings up to here aren't worth the wide steps.
const SHORT_BYTES: usize = 32;
/// One wide step: a multiple of what every vector unit takes at once.
const BLOCK_BYTES: usize = 64;

/// How many bytes at the front are plain string content: no quote, no backslash, no control
/// character.
#[inline]
pub(super) fn prefix(bytes: &[u8]) -> usize {
    // Most keys and short values end within a word.
    match bytes.first_chunk() {
        Some(word) => match first_special(*word) {
            Some(at) => at,
            None => 8 + long_prefix(&bytes[8..]),
        },
        None => short_prefix(bytes),
    }
}

fn long_prefix(bytes: &[u8]) -> usize {
    let (head, rest) = bytes.split_at(bytes.len().min(SHORT_BYTES));
    let at = words(head);
    if at < head.len() || rest.is_empty() {
        return at;
    }
    let blocks = blocks(rest);
    at + blocks + words(&rest[blocks..])
}

/// Length of the longest front of whole blocks without a special byte.
fn blocks(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
    // No early exit within a block: that lets the compiler compare it in a few instructions.
    let is_plain = |block: &&[u8; BLOCK_BYTES]| {
        block
            .iter()
            .fold(0, |any, byte| any | u8::from(is_special(*byte)))
            == 0
    };
    blocks.iter().take_while(is_plain).count() * BLOCK_BYTES
}

/// Length of the longest front without a special byte, found a word at a time.
fn words(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks();
    for (i, word) in words.iter().enumerate() {
        if let Some(at) = first_special(*word) {
            return i * 8 + at;
        }
    }
    words.len() * 8 + short_prefix(tail)
}

fn short_prefix(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|b| is_special(*b))
        .unwrap_or(bytes.len())
}

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < b' ')
}

/// The first special byte of a word.
#[inline]
fn first_special(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    // Each term marks (with the high bit) bytes below a value. The lowest mark is always right;
    // above it a borrow may have left false ones.
    let word = u64::from_le_bytes(word);
    let below = |word: u64, value: u8| word.wrapping_sub(ONES * u64::from(value)) & !word;
    let quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    let marks = (quote | backslash | below(word, b' ')) & HIGH;
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_special_byte_wherever_it_is() {
        for special in (0..32).chain([b'"', b'\\']) {
            for at in 0..200 {
                let mut bytes = vec![0xff; 210];
                bytes[at] = special;
                bytes[at + 1] = b'!'; // one above the quote: a false mark, if anything
                assert_eq!(prefix(&bytes), at, "byte {special}");
                assert_eq!(prefix(&bytes[..=at]), at);
                assert_eq!(prefix(&bytes[..at]), at);
            }
        }
    }

    #[test]
    fn every_other_byte_is_plain() {
        for byte in 0..=255 {
            if !is_special(byte) {
                assert_eq!(prefix(&[byte; 99]), 99, "byte {byte}");
            }
        }
    }
}
