//! Lines about what a binary sends that goes nowhere. One that goes on with it would crowd out all others, and fill a disk.

use super::Router;
use crate::observe::log::{Event, Key};
use crate::session::peer::Peer;
use relay_core::{Buckets, Conn, Overflow};
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

/// Lines about one binary at once, and the time until there may be one more.
const BURST: u32 = 20;
const REFILL_MS: u64 = 1_000;

/// Binaries of which that is remembered.
const BINARIES: usize = 4_096;

/// How much was complained of each binary lately.
pub(super) struct Complaints(Mutex<Buckets<Conn>>);

impl Complaints {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Buckets::new(BURST, REFILL_MS, BINARIES)))
    }
}

impl Router {
    /// Writes a line about what this binary does wrong, or counts it with those that are left out.
    pub(crate) fn complain(&self, binary: &Peer, event: Event, fields: &[(Key, &dyn Display)]) {
        let lines = self.complaints.0.lock();
        // Plain arithmetic: nothing panics under this lock.
        let mut lines = lines.unwrap_or_else(PoisonError::into_inner);
        let allowed = lines.take(self.clock.now(), &binary.conn).is_ok();
        drop(lines);
        match allowed {
            true => self.log.write(event, fields),
            false => self.log.leave_out(),
        }
    }

    pub(crate) fn log_unknown_conn_id(&self, binary: &Peer, conn_id: &str) {
        let server = &binary.table.server;
        let fields: [(Key, &dyn Display); 2] = [(Key::ServerId, server), (Key::ConnId, &conn_id)];
        self.complain(binary, Event::BinaryForwarderUnknownConnId, &fields);
    }

    pub(crate) fn log_refused_frame(&self, binary: &Peer, phone: &Peer, overflow: Overflow) {
        let fields: [(Key, &dyn Display); 3] = [
            (Key::ServerId, &phone.table.server),
            (Key::ConnId, &phone.conn_id),
            (Key::Err, &overflow),
        ];
        self.complain(binary, Event::BinaryForwarderPhoneEnqueueFailed, &fields);
    }
}

#[cfg(test)]
mod tests {
    use crate::router::home::Home;

    #[test]
    fn one_binary_does_not_fill_the_log() {
        let home = Home::new();
        let (binary, other) = (home.claim(), home.claim());
        for _ in 0..1_000 {
            home.0.log_unknown_conn_id(&binary.peer, "nobody");
        }
        let left_out = home.0.log.dropped_lines();
        // It may have taken some seconds.
        assert!((900..=980).contains(&left_out), "{left_out}");
        home.0.log_unknown_conn_id(&other.peer, "nobody");
        assert_eq!(home.0.log.dropped_lines(), left_out);
    }
}
