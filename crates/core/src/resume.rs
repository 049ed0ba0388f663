//! Which phones may go on when the process of their binary comes back: those of which every frame is known to have
//! reached it, or is kept for it. A gap would break a phone's encryption, in a way from which some apps do not recover.

use std::collections::BTreeMap;

use crate::ids::Conn;

/// What is known of a tenure's frames in the moment in which it is resumed.
///
/// Frames written to a binary are numbered, over all of its phones and connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    lost: bool,
    proven: u64,
    /// Of the frames that are delivered now.
    kept_bytes: BTreeMap<Conn, usize>,
}

/// What is known of one phone's frames in that moment.
///
/// A frame is numbered before it is in flight no more; so must these be read: what is in flight first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Charged to the phone for those that are not written, wherever they are.
    pub in_flight_bytes: usize,
    /// The number of its last one that was written; `u64::MAX` once one was given up.
    pub last_written: u64,
}

impl Resume {
    /// All frames up to the number `proven` have arrived. With `lost`, some were dropped, and nobody knows whose.
    pub const fn new(lost: bool, proven: u64) -> Self {
        Self {
            lost,
            proven,
            kept_bytes: BTreeMap::new(),
        }
    }

    /// A frame is kept for the binary, for which `phone` is charged `bytes`.
    pub fn keep(&mut self, phone: Conn, bytes: usize) {
        *self.kept_bytes.entry(phone).or_default() += bytes;
    }

    /// Whether a frame of `phone` may be missing: one that was written without proof that it was read, or that is
    /// neither written nor kept.
    pub fn has_gap(&self, phone: Conn, sent: Sent) -> bool {
        let kept_bytes = self.kept_bytes.get(&phone).copied().unwrap_or(0);
        self.lost || sent.in_flight_bytes != kept_bytes || sent.last_written > self.proven
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PHONE: Conn = Conn(1);

    #[test]
    fn a_phone_that_said_nothing_goes_on_unless_something_was_lost() {
        let sent = Sent {
            in_flight_bytes: 0,
            last_written: 0,
        };
        assert!(!Resume::new(false, 0).has_gap(PHONE, sent));
        assert!(Resume::new(true, 0).has_gap(PHONE, sent));
    }

    #[test]
    fn who_lost_a_frame_that_was_given_up_has_a_gap_for_ever() {
        let sent = Sent {
            in_flight_bytes: 0,
            last_written: u64::MAX,
        };
        assert!(Resume::new(false, u64::MAX - 1).has_gap(PHONE, sent));
    }

    proptest! {
        /// Frames of some phones in their order: of the oldest it is known that they arrived, the next ones are written,
        /// the next ones were about to be, and the others are kept.
        #[test]
        fn a_gap_is_a_frame_that_neither_arrived_nor_is_kept(
            frames in prop::collection::vec((0u64..4, 1usize..500), 0..40),
            cuts in prop::array::uniform3(0usize..41),
        ) {
            let mut cuts = cuts.map(|cut| cut.min(frames.len()));
            cuts.sort_unstable();
            let [proven, written, taken] = cuts;
            let mut resume = Resume::new(false, proven as u64);
            for (phone, bytes) in &frames[taken..] {
                resume.keep(Conn(*phone), *bytes);
            }
            for phone in 0..4 {
                let is_its = |(_, frame): &(usize, &(u64, usize))| frame.0 == phone;
                let its = || frames.iter().enumerate().filter(is_its);
                let sent = Sent {
                    in_flight_bytes: its().filter(|(n, _)| *n >= written).map(|(_, frame)| frame.1).sum(),
                    last_written: its().filter(|(n, _)| *n < written).map(|(n, _)| n as u64 + 1).max().unwrap_or(0),
                };
                let missing = its().any(|(n, _)| (proven..taken).contains(&n));
                prop_assert_eq!(resume.has_gap(Conn(phone), sent), missing);
            }
        }
    }
}
