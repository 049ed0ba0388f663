//! Lines about what a binary sends that goes nowhere. One that goes on with it would crowd out all others, and fill a disk.

use super::Router;
use crate::observe::log::{Event, Key};
use crate::session::peer::Peer;
use relay_core::{Buckets, Conn, Millis, Overflow};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

/// Lines about one binary at once, and the time until there may be one more.
const BURST: u32 = 20;
const REFILL_MS: u64 = 1_000;

/// Binaries of which that is remembered.
const BINARIES: usize = 4_096;

/// How much was complained of each binary lately.
pub(super) struct Complaints(Mutex<Inner>);

struct Inner {
    lines: Buckets<Conn>,
    /// Since the last line about that binary.
    left_out: BTreeMap<Conn, u64>,
}

impl Complaints {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            lines: Buckets::new(BURST, REFILL_MS, BINARIES),
            left_out: BTreeMap::new(),
        }))
    }

    /// Whether there may be a line about this binary now, and how many were left out before it.
    fn take(&self, now: Millis, binary: Conn) -> Option<u64> {
        // Plain arithmetic: nothing panics under this lock.
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.lines.take(now, &binary).is_ok() {
            return Some(inner.left_out.remove(&binary).unwrap_or(0));
        }
        *inner.left_out.entry(binary).or_default() += 1;
        if inner.left_out.len() > BINARIES {
            inner.left_out.pop_first();
        }
        None
    }
}

impl Router {
    /// Writes a line about what this binary does wrong, unless there were too many; the next one has their number before
    /// it.
    pub(crate) fn complain(&self, binary: &Peer, event: Event, fields: &[(Key, &dyn Display)]) {
        let Some(left_out) = self.complaints.take(self.clock.now(), binary.conn) else {
            return;
        };
        if left_out > 0 {
            let fields: [(Key, &dyn Display); 3] = [
                (Key::ServerId, &binary.table.server),
                (Key::BinaryConnId, &binary.conn_id),
                (Key::Count, &left_out),
            ];
            self.log.write(Event::BinaryForwarderLinesLeftOut, &fields);
        }
        self.log.write(event, fields);
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
    use super::*;

    #[test]
    fn one_binary_does_not_fill_the_log() {
        let complaints = Complaints::new();
        let (binary, other) = (Conn(1), Conn(2));
        let lines = |now, binary| {
            (0..100)
                .filter_map(|_| complaints.take(Millis(now), binary))
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(0, binary), [0; 20]);
        assert_eq!(lines(999, binary).len(), 0);
        assert_eq!(lines(1_000, binary), [180]);
        assert_eq!(lines(1_000, other), [0; 20]);
        assert_eq!(lines(60_000, binary)[..2], [99, 0]);
    }
}
