//! How much a connection may take at once before everybody else has their turn.

/// Bytes of a turn. What somebody else waits for is the sum of such turns, one for each peer that sends without a pause;
/// the fewer bytes, the less is written with one system call.
pub const TURN_BYTES: usize = 64 * 1024;

/// Bytes of a phone's turn once it has not paused for [`PATIENT_TURNS`]. At a quarter a frame costs up to
/// twice as much (`docs/performance.md`), which the one who floods pays for.
pub const SHORT_TURN_BYTES: usize = TURN_BYTES / 4;

/// Full turns in a row after which a phone floods. Its window towards its binary is one turn; a phone that waits for
/// answers has sent all that it may long before.
pub const PATIENT_TURNS: u8 = 4;

/// Of one connection: whether it lets others wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Turns {
    full: u8,
}

impl Turns {
    /// Bytes to take in the next turn. A binary carries the frames of all of its phones: it never gets less than
    /// [`TURN_BYTES`].
    pub const fn bytes(self, is_phone: bool) -> usize {
        if is_phone && self.full >= PATIENT_TURNS {
            SHORT_TURN_BYTES
        } else {
            TURN_BYTES
        }
    }

    /// All that it might take was there, and perhaps more.
    pub const fn was_full(&mut self) {
        self.full = self.full.saturating_add(1);
    }

    /// There was nothing left to take: it paused.
    pub const fn ran_dry(&mut self) {
        self.full = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(full_turns: usize) -> Turns {
        let mut turns = Turns::default();
        for _ in 0..full_turns {
            turns.was_full();
        }
        turns
    }

    #[test]
    fn a_phone_that_never_pauses_gets_short_turns_until_it_does() {
        for full_turns in 0..4 {
            assert_eq!(after(full_turns).bytes(true), 64 * 1024);
        }
        for full_turns in [4, 5, 1000] {
            let mut turns = after(full_turns);
            assert_eq!(turns.bytes(true), 16 * 1024);
            turns.ran_dry();
            assert_eq!(turns.bytes(true), 64 * 1024);
        }
    }

    #[test]
    fn a_binary_always_gets_whole_turns() {
        assert_eq!(after(1000).bytes(false), 64 * 1024);
    }
}
