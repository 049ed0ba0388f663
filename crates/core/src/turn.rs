//! How much a connection may take at once before everybody else has their turn, and when it lets them go first.

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

/// Bytes that wait to be written from which on they go out at once: more in one system call gains nothing, and they are
/// still in a near cache.
pub const GATHERED_BYTES: usize = 64 * 1024;

/// Of one writer: whether it lets everybody who can run now run first. A runtime runs a task that was woken by another
/// at once, when a single item is there; those that are about to come go out with the same system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gather {
    /// The last write had several items, and there was no wait since.
    due: bool,
}

impl Gather {
    /// Whether to wait a turn before `waiting_bytes` are written. They are looked up only if it depends on them.
    pub fn waits(&mut self, waiting_bytes: impl FnOnce() -> usize) -> bool {
        let waits = self.due && (1..GATHERED_BYTES).contains(&waiting_bytes());
        self.due &= !waits;
        waits
    }

    /// So many items are written at once.
    pub const fn writes(&mut self, items: usize) {
        self.due = items > 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn a_writer_waits_only_for_what_may_be_few_of_many() {
        for (waiting_bytes, waits) in [
            (0, false),
            (1, true),
            (64 * 1024 - 1, true),
            (64 * 1024, false),
        ] {
            let mut gather = Gather::default();
            gather.writes(2);
            assert_eq!(gather.waits(|| waiting_bytes), waits, "{waiting_bytes}");
        }
    }

    proptest! {
        #[test]
        fn a_writer_waits_once_after_a_write_of_several(
            steps in prop::collection::vec(prop::option::of(0usize..4), 0..50),
        ) {
            let (mut gather, mut waits_left) = (Gather::default(), 0);
            for step in steps {
                match step {
                    Some(items) => {
                        gather.writes(items);
                        waits_left = usize::from(items >= 2);
                    }
                    None => {
                        let waits = gather.waits(|| 1);
                        prop_assert_eq!(waits, waits_left == 1);
                        waits_left = 0;
                    }
                }
            }
        }
    }

    #[test]
    fn what_waits_is_not_looked_up_in_vain() {
        let mut gather = Gather::default();
        gather.writes(1);
        assert!(!gather.waits(|| unreachable!("this may take a lock")));
    }
}
