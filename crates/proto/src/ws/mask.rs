//! Masking (RFC 6455 §5.3): an XOR with a repeated 4-byte key, its own inverse.

use multiversion::multiversion;

/// Masks or unmasks `bytes`, of which the first is the `phase`-th of the payload.
pub fn apply(key: [u8; 4], phase: usize, bytes: &mut [u8]) {
    let key = rotate(key, phase);
    let (blocks, tail) = bytes.as_chunks_mut::<BLOCK_BYTES>();
    if !blocks.is_empty() {
        apply_to_blocks(key, blocks);
    }
    let (words, tail) = tail.as_chunks_mut::<8>();
    for word in words {
        *word = masked(key, *word);
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Worth a function of its own.
const BLOCK_BYTES: usize = 64;

/// Compiled twice: where the processor has wider vectors, they are used.
#[multiversion(targets("x86_64+avx2"))]
fn apply_to_blocks(key: [u8; 4], blocks: &mut [[u8; BLOCK_BYTES]]) {
    // Words of known size, so that the compiler makes vectors of them.
    for word in blocks.as_flattened_mut().as_chunks_mut().0 {
        *word = masked(key, *word);
    }
}

#[inline(always)]
const fn masked(key: [u8; 4], word: [u8; 8]) -> [u8; 8] {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    (u64::from_ne_bytes(word) ^ wide).to_ne_bytes()
}

/// The key as it applies to a payload's rest, when `taken` bytes have been taken from its front.
pub(super) fn rotate(key: [u8; 4], taken: usize) -> [u8; 4] {
    let bits = taken % 4 * 8;
    u32::from_be_bytes(key)
        .rotate_left(bits as u32)
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_definition_at_every_length_and_phase() {
        let key = [1, 20, 99, 200];
        for len in 0..70 {
            for phase in 0..9 {
                let plain: Vec<u8> = (0..len).collect();
                let mut masked = plain.clone();
                apply(key, phase, &mut masked);
                for (i, byte) in masked.iter().enumerate() {
                    assert_eq!(*byte, plain[i] ^ key[(i + phase) % 4]);
                }
                apply(key, phase, &mut masked);
                assert_eq!(masked, plain);
            }
        }
    }
}
