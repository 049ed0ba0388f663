//! The server-id "home" without sockets, for tests: who claims it, and its phones.

use super::{Router, Seat};
use crate::config::Config;
use crate::session::peer::Peer;
use crate::session::phone::Phone;
use relay_core::{Instance, ServerId};
use std::sync::Arc;

pub(crate) struct Home(pub(crate) Arc<Router>);

impl Home {
    pub(crate) fn new() -> Self {
        Self(Router::silent())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self(Router::silent_with(config))
    }

    /// The same process, again and again.
    pub(crate) fn claim(&self) -> Seat {
        self.claim_by(b"process")
    }

    pub(crate) fn claim_by(&self, process: &[u8]) -> Seat {
        let process = Some(Instance::new(process));
        let server = ServerId::new("home");
        self.0.claim(&server, String::new(), process, "192.0.2.1")
    }

    pub(crate) fn phone(&self) -> (Phone, Arc<Peer>) {
        let server = ServerId::new("home");
        let seat = self.0.phone_seat(&server, String::new(), "192.0.2.2");
        seat.register();
        let peer = seat.peer.clone();
        (Phone::new(seat), peer)
    }
}
