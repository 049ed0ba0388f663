//! How much of one phone's may wait for its binary.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one phone's frames that may wait for its binary before no more is read from it. A frame
/// of the largest legitimate size fits; sixteen phones together stay at about a megabyte.
pub(crate) const WINDOW_BYTES: usize = 64 * 1024;

/// A phone whose window was full is read again when this much is left.
const REOPEN_BYTES: usize = WINDOW_BYTES / 2;

/// Set while the phone's task waits for room.
const AWAITED: usize = 1 << (usize::BITS - 1);

/// A phone's window: its task takes from it and stops at its end, its binary's task gives back and says when to go on.
#[derive(Debug)]
pub(crate) struct Window {
    /// The bytes that are used, with [`AWAITED`]: in one word, neither of the two tasks can miss what the other did.
    state: AtomicUsize,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicUsize::new(0),
        }
    }

    /// Bytes of the phone's frames in its binary's queue.
    pub(crate) fn used_bytes(&self) -> usize {
        self.state.load(Ordering::SeqCst) & !AWAITED
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used_bytes() >= WINDOW_BYTES
    }

    /// Takes room for a frame, also beyond the end: whether there is any was asked before the frame was read.
    pub(crate) fn take(&self, bytes: usize) {
        self.state.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Gives back what was taken for a frame. True if the phone's task waits for that and is to be woken.
    #[must_use]
    pub(crate) fn give_back(&self, bytes: usize) -> bool {
        let left = self.state.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        left & AWAITED != 0 && left & !AWAITED <= REOPEN_BYTES && self.end_waiting()
    }

    /// Whether the phone may be read. If not, somebody who gives back will hear that its task is to be woken.
    pub(crate) fn is_open(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        let used_bytes = self.state.fetch_or(AWAITED, Ordering::SeqCst) & !AWAITED;
        let open = used_bytes <= REOPEN_BYTES;
        if open {
            self.end_waiting();
        }
        open
    }

    /// Whether anybody waited.
    fn end_waiting(&self) -> bool {
        self.state.fetch_and(!AWAITED, Ordering::SeqCst) & AWAITED != 0
    }
}
