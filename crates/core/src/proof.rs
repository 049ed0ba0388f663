//! What a binary has proven to have read: behind its frames goes a ping, whose pong says that they arrived. Written bytes
//! may wait in a kernel or a proxy, and be lost with it.

/// The account of one connection's proofs. Frames are numbered as for [`Resume`](crate::Resume), and a proof has the
/// number of the last one it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proofs {
    /// The last frame that was written to this connection.
    written: u64,
    /// The last ping that was sent to this connection.
    asked: u64,
    proven: u64,
    /// The peer may never answer the last ping.
    passed_over: bool,
}

impl Proofs {
    /// The frame with this number, higher than those before, was written.
    pub const fn written(&mut self, number: u64) {
        self.written = number;
    }

    /// The number of a ping to send now, behind all that is written. One at a time, unless that may have been passed
    /// over: the next is due with its pong, if more was written since.
    ///
    /// `is_holder` is asked only if one would be due. The numbers of a connection that has lost its slot go on with those
    /// of its successor's frames, which it never saw: it is asked for no more.
    pub fn due(&mut self, is_holder: impl FnOnce() -> bool) -> Option<u64> {
        let under_way = self.asked > self.proven && !self.passed_over;
        if under_way || self.written <= self.proven || !is_holder() {
            return None;
        }
        self.asked = self.written;
        self.passed_over = false;
        Some(self.asked)
    }

    /// A pong with this number arrived. True if it proves that all frames up to it did, which was not known; that holds
    /// for older pings than the last, and for a connection that has lost its slot. For a number that is proven already,
    /// or beyond the last ping's, false is returned.
    pub const fn answered(&mut self, number: u64) -> bool {
        let proves = self.proven < number && number <= self.asked;
        if proves {
            self.proven = number;
        }
        proves
    }

    /// Another ping was answered. That may have gone out behind the last of these, and a peer may answer only the newest
    /// of several (RFC 6455, section 5.5.3).
    pub const fn passed_over(&mut self) {
        self.passed_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(proofs: &mut Proofs) -> Option<u64> {
        proofs.due(|| true)
    }

    #[test]
    fn one_is_under_way_at_a_time() {
        let mut proofs = Proofs::default();
        assert_eq!(due(&mut proofs), None, "nothing is written");
        proofs.written(3);
        assert_eq!(due(&mut proofs), Some(3));
        proofs.written(4);
        assert_eq!(due(&mut proofs), None);
        assert!(proofs.answered(3));
        assert_eq!(due(&mut proofs), Some(4));
        assert!(proofs.answered(4));
        assert_eq!(due(&mut proofs), None, "all is proven");
    }

    #[test]
    fn an_answer_that_comes_late_counts_once() {
        let mut proofs = Proofs::default();
        proofs.written(1);
        assert_eq!(due(&mut proofs), Some(1));
        proofs.written(2);
        proofs.passed_over();
        assert_eq!(due(&mut proofs), Some(2));
        assert!(proofs.answered(1), "it was not passed over");
        proofs.written(3);
        assert_eq!(due(&mut proofs), None, "the other is under way");
        assert!(!proofs.answered(1), "again");
        assert!(!proofs.answered(3), "beyond the last that was sent");
        assert!(proofs.answered(2));
        assert_eq!(due(&mut proofs), Some(3));
    }

    #[test]
    fn what_was_passed_over_is_asked_for_again() {
        let mut proofs = Proofs::default();
        proofs.written(1);
        assert_eq!(due(&mut proofs), Some(1));
        proofs.passed_over();
        assert_eq!(due(&mut proofs), Some(1));
        assert_eq!(due(&mut proofs), None);
    }

    #[test]
    fn who_has_lost_its_slot_is_asked_for_no_more_but_heard() {
        let mut proofs = Proofs::default();
        proofs.written(1);
        assert_eq!(due(&mut proofs), Some(1));
        proofs.written(5);
        proofs.passed_over();
        assert_eq!(proofs.due(|| false), None);
        assert!(!proofs.answered(5));
        assert!(proofs.answered(1));
    }
}
