//! Skipping the plain content of strings: a frame is mostly one long string, so this is where a
//! validator's time goes.

use multiversion::multiversion;

/// One step: most keys and short values end within it.
const STEP_BYTES: usize = 8;
/// One wide step, for long strings.
const BLOCK_BYTES: usize = 8 * STEP_BYTES;

/// How many bytes at the front are plain string content: no quote, no backslash, no control
/// character.
#[inline]
pub(super) fn prefix(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(step) = bytes[at..].first_chunk() {
        if let Some(special) = first_special(step) {
            return at + special;
        }
        at += STEP_BYTES;
        if at == BLOCK_BYTES {
            at += blocks(&bytes[at..]);
        }
    }
    match bytes.last_chunk() {
        // What it has of the bytes before is known to be plain.
        Some(step) => {
            let start = bytes.len() - STEP_BYTES;
            first_special(step).map_or(bytes.len(), |special| start + special)
        }
        None => {
            let special = bytes.iter().position(|byte| is_special(*byte));
            special.unwrap_or(bytes.len())
        }
    }
}

/// Length of the longest front of whole blocks without a special byte. Compiled twice: where the processor has wider
/// vectors, they are used.
#[multiversion(targets("x86_64+avx2"))]
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

/// The XOR exchanges the quote with the space, and control characters only among themselves, so that all of them
/// are found with one comparison.
const fn is_special(byte: u8) -> bool {
    (byte ^ 2 <= b' ') | (byte == b'\\')
}

/// Where the first special byte is.
#[inline]
fn first_special(step: &[u8; STEP_BYTES]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    // As `is_special`, for all at once. Each term marks (with the high bit) bytes below a value. The lowest mark is
    // always right; above it a borrow may have left false ones.
    let bytes = u64::from_le_bytes(*step);
    let below = |bytes: u64, value: u8| bytes.wrapping_sub(ONES * u64::from(value)) & !bytes;
    let low = below(bytes ^ (ONES * 2), b' ' + 1);
    let backslash = below(bytes ^ (ONES * u64::from(b'\\')), 1);
    let marks = (low | backslash) & HIGH;
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
