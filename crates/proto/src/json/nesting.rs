//! Which of the open containers are objects: one bit each.

use super::MAX_DEPTH;

const WORD_BITS: usize = 64;
const WORDS: usize = MAX_DEPTH.div_ceil(WORD_BITS);

/// A stack of bits. The top 64 or fewer are in a register; the rest, which real documents don't
/// have, in an array that isn't even zeroed before it is needed.
pub(super) struct Nesting {
    depth: usize,
    top: u64,
    below: Option<[u64; WORDS]>,
}

impl Nesting {
    pub(super) fn new() -> Self {
        Self {
            depth: 0,
            top: 0,
            below: None,
        }
    }

    /// How many containers are open.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Whether the innermost container is an object.
    pub(super) fn in_object(&self) -> bool {
        self.top & 1 != 0
    }

    /// Opens a container. `false`: that would be one too many.
    pub(super) fn open(&mut self, is_object: bool) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        if self.depth.is_multiple_of(WORD_BITS) && self.depth > 0 {
            self.save();
        }
        self.top = self.top << 1 | u64::from(is_object);
        self.depth += 1;
        true
    }

    /// Closes the innermost container. There must be one.
    pub(super) fn close(&mut self) {
        self.top >>= 1;
        self.depth -= 1;
        if self.depth.is_multiple_of(WORD_BITS) && self.depth > 0 {
            self.restore();
        }
    }

    #[cold]
    fn save(&mut self) {
        self.below.get_or_insert([0; WORDS])[self.depth / WORD_BITS - 1] = self.top;
    }

    #[cold]
    fn restore(&mut self) {
        self.top = self.below.get_or_insert([0; WORDS])[self.depth / WORD_BITS - 1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_every_level_up_to_the_limit() {
        let is_object = |level: usize| level.is_multiple_of(3) || level.is_multiple_of(7);
        let mut nesting = Nesting::new();
        for level in 0..MAX_DEPTH {
            assert!(nesting.open(is_object(level)));
        }
        assert!(!nesting.open(true));
        // Back and forth over a word boundary, then all the way out.
        nesting.close();
        assert!(nesting.open(true));
        assert!(nesting.in_object());
        nesting.close();
        for level in (0..MAX_DEPTH - 1).rev() {
            assert_eq!(nesting.in_object(), is_object(level), "level {level}");
            nesting.close();
        }
        assert_eq!(nesting.depth(), 0);
    }
}
