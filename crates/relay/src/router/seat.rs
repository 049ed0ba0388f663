//! A connection's place in the registry. Giving it up, in whatever way a task ends, leaves the
//! registry clean.

use super::Router;
use crate::http::gate::Permit;
use crate::observe::log::{Event, Key};
use crate::session::item::Item;
use crate::session::peer::{Leg, Peer};
use relay_core::PhoneEnd;
use relay_proto::close::GOING_AWAY;
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;

/// Held by a connection's task from its claim, or its dial as a phone, until its end.
pub(crate) struct Seat {
    pub(crate) router: Arc<Router>,
    pub(crate) peer: Arc<Peer>,
    left: bool,
    /// Its share of the connection limits, given back with the seat.
    pub(crate) permit: Option<Permit>,
}

impl Seat {
    pub(super) fn new(router: Arc<Router>, peer: Arc<Peer>) -> Self {
        Self {
            router,
            peer,
            left: false,
            permit: None,
        }
    }

    /// Registers the phone. The answer comes as an order.
    pub(crate) fn register(&self) {
        self.router.register(&self.peer);
    }

    /// The phone's reading side is over.
    pub(crate) fn phone_gone(&mut self, end: PhoneEnd) {
        if !std::mem::replace(&mut self.left, true) {
            self.router.phone_gone(&self.peer, end);
            if self.peer.was_admitted() {
                self.log(Event::PhoneUnregistered, &[]);
            }
        }
    }

    /// The binary's reading side is over. `unwritten` did not reach it.
    pub(crate) fn binary_gone(&mut self, unwritten: VecDeque<(Item, usize)>) {
        if !std::mem::replace(&mut self.left, true) {
            self.end_complaints();
            self.router.binary_gone(&self.peer, unwritten);
        }
    }

    /// Whether there may be a line with this event about what this binary does wrong. If lines were left out before it,
    /// that is written now.
    pub(crate) fn may_complain(&self, event: Event) -> bool {
        let key = (self.peer.conn, self.router.log.writes(event));
        let left_out = self.router.complaints().take(self.router.clock.now(), &key);
        self.log_left_out(key.1, left_out.unwrap_or(0));
        left_out.is_some()
    }

    /// There is nothing more to say about this binary.
    fn end_complaints(&self) {
        for written in [true, false] {
            let left_out = self.router.complaints().forget(&(self.peer.conn, written));
            self.log_left_out(written, left_out);
        }
    }

    fn log_left_out(&self, written: bool, count: u64) {
        // Nobody misses in the log what is not for it.
        if written && count > 0 {
            self.log(Event::BinaryForwarderLinesLeftOut, &[(Key::Count, &count)]);
        }
    }

    /// Writes a record with this connection's `server_id` and id in front.
    pub(crate) fn log(&self, event: Event, fields: &[(Key, &dyn Display)]) {
        let id = match self.peer.leg {
            Leg::Binary { .. } => Key::BinaryConnId,
            Leg::Phone { .. } => Key::ConnId,
        };
        let mut all: Vec<(Key, &dyn Display)> = Vec::with_capacity(fields.len() + 2);
        all.push((Key::ServerId, &self.peer.table.server));
        all.push((id, &self.peer.conn_id));
        all.extend_from_slice(fields);
        self.router.log.write(event, &all);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        match self.peer.leg {
            Leg::Binary { .. } => self.binary_gone(VecDeque::new()),
            Leg::Phone { .. } => self.phone_gone(PhoneEnd {
                code: GOING_AWAY,
                silent: false,
            }),
        }
        self.router.forget(&self.peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::observe::log::{Level, Log, LogSettings};
    use crate::os::rlimit::Machine;
    use crate::router::home::Home;

    #[test]
    fn lines_that_are_not_written_cost_none_that_are_and_in_the_end_all_are_accounted_for() {
        let settings = LogSettings {
            level: Level::Warn,
            ..LogSettings::silent()
        };
        let (machine, log) = (Machine::look(), Log::start(settings));
        let router = Router::new(Config::default(), machine, Clock::start(), log, None);
        let home = Home(Arc::new(router));
        let seat = home.claim();
        let complains = |event| (0..100).filter(|_| seat.may_complain(event)).count();
        assert_eq!(complains(Event::BinaryForwarderPhoneEnqueueFailed), 20);
        assert_eq!(complains(Event::BinaryForwarderUnknownConnId), 20);
        let _ = home.0.log.recent().take();
        drop(seat);
        let (shown, _) = home.0.log.recent().take();
        let left_out = Event::BinaryForwarderLinesLeftOut;
        let left_out: Vec<_> = shown.iter().filter(|h| h.event == left_out).collect();
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].detail, "count=80");
    }
}
