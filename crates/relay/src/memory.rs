//! Registered sessions without listeners, over whatever streams: to measure what one of them costs.

use crate::clock::Clock;
use crate::config::Config;
use crate::http::upgrade::serve;
use crate::observe::log::Log;
use crate::os::rlimit::Machine;
use crate::router::Router;
use crate::session::Transport;
use crate::session::binary::Binary;
use crate::session::phone::Phone;
use bytes::Bytes;
use relay_core::ServerId;
use std::sync::Arc;

/// The registry of a relay that nobody can dial.
pub struct Registry(Arc<Router>);

impl Registry {
    /// An empty one.
    pub fn new(config: Config) -> Self {
        let log = Log::start(config.log);
        let router = Router::new(config, Machine::look(), Clock::start(), log, None);
        Self(Arc::new(router))
    }

    /// A daemon connects. Call within a Tokio runtime.
    pub fn binary<S: Transport>(&self, server_id: &str, socket: S) {
        let server = ServerId::new(server_id);
        let seat = self.0.claim(&server, VERSION.to_owned(), None, REMOTE);
        serve(seat, Binary::new, socket, Bytes::new());
    }

    /// A phone connects. Call within a Tokio runtime.
    pub fn phone<S: Transport>(&self, server_id: &str, socket: S) {
        let server = ServerId::new(server_id);
        let seat = self.0.phone_seat(&server, VERSION.to_owned(), REMOTE);
        let phone = |seat: crate::router::Seat| {
            seat.register();
            Phone::new(seat)
        };
        serve(seat, phone, socket, Bytes::new());
    }

    /// Registered now: binaries and phones.
    pub fn counts(&self) -> (usize, usize) {
        let counts = self.0.counts();
        (counts.binaries, counts.phones)
    }
}

/// As long as that of a real daemon, and the name of a real phone.
const VERSION: &str = "0.1.0";
const REMOTE: &str = "192.0.2.100";
