//! How much of one phone's may wait for its binary.

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of one phone's frames that may wait for its binary before no more is read from it. A frame
/// of the largest legitimate size fits; sixteen phones together stay at about a megabyte.
pub(crate) const WINDOW_BYTES: usize = 64 * 1024;

/// A phone whose window was full is read again when this much is left.
const REOPEN_BYTES: usize = WINDOW_BYTES / 2;

/// A phone's window: its task takes from it and stops at its end, its binary's task gives back and says when to go on.
#[derive(Debug)]
pub(crate) struct Window {
    used_bytes: AtomicUsize,
    /// The phone's task waits for room.
    awaited: AtomicBool,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            used_bytes: AtomicUsize::new(0),
            awaited: AtomicBool::new(false),
        }
    }

    /// Bytes of the phone's frames in its binary's queue.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used_bytes() >= WINDOW_BYTES
    }

    /// Takes room for a frame, also beyond the end: whether there is any was asked before the frame was read.
    pub(crate) fn take(&self, bytes: usize) {
        self.used_bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Gives back what was taken for a frame. True if the phone's task waits for that and is to be woken.
    #[must_use]
    pub(crate) fn give_back(&self, bytes: usize) -> bool {
        let before = self.used_bytes.fetch_sub(bytes, Ordering::SeqCst);
        before - bytes <= REOPEN_BYTES
            && self.awaited.load(Ordering::SeqCst)
            && self.awaited.swap(false, Ordering::SeqCst)
    }

    /// Whether the phone may be read. If not, somebody who gives back will hear that its task is to be woken.
    pub(crate) fn is_open(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        self.awaited.store(true, Ordering::SeqCst);
        // Room may have been made before the mark could be seen. This adds nothing, but unlike a load it is before or after
        // each subtraction: either that sees the mark, or its result is seen here.
        let open = self.used_bytes.fetch_add(0, Ordering::SeqCst) <= REOPEN_BYTES;
        if open {
            self.awaited.store(false, Ordering::SeqCst);
        }
        open
    }
}
