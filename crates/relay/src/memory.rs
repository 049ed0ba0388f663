//! A relay without listeners, over whatever streams: to measure what a session costs, and to simulate.

use crate::clock::Clock;
use crate::config::Config;
use crate::http::upgrade::serve;
use crate::http::{self, Arrival};
use crate::net::front::Front;
use crate::observe::log::Log;
use crate::observe::metrics::Format;
use crate::os::rlimit::Machine;
use crate::phase::Phase;
pub use crate::router::Holdings;
use crate::router::Router;
use crate::server::{self, Shutdown};
use crate::session::Transport;
use crate::session::binary::Binary;
use crate::session::phone::Phone;
use crate::start::Parts;
use bytes::Bytes;
use relay_core::ServerId;
use relay_core::invariant::Violation;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::time::Instant;

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

/// A whole relay behind streams that somebody else accepts: its limits, its HTTP, its sessions, its registry and its
/// shutdown, without sockets.
pub struct Relay {
    server: server::Relay,
    front: Arc<Front>,
}

impl Relay {
    /// Starts it. Call within a Tokio runtime.
    pub fn start(config: Config) -> Self {
        // Whatever the machine at hand has, a simulation is the same everywhere.
        let machine = Machine {
            descriptors: 20_000,
            memory_bytes: Some(1 << 30),
        };
        let log = Log::start(config.log);
        let parts = Parts::new(config, machine, Clock::start(), log.clone(), None);
        let (front, timers) = parts.open(None);
        let site = &front.site;
        site.phases.enter(Phase::Ready);
        let server = server::Relay {
            router: site.router.clone(),
            door: front.door.clone(),
            log,
            phases: site.phases.clone(),
            local_addr: SocketAddr::from(([0, 0, 0, 0], 0)),
            entrances: Vec::new(),
            admin: None,
            services: vec![timers],
            report: tokio::spawn(async {}),
            reload: Arc::default(),
            hurry: Arc::default(),
        };
        Self { server, front }
    }

    /// As its surroundings see it, also when it is gone.
    pub fn handle(&self) -> Handle {
        Handle(self.front.clone())
    }

    /// The shutdown of the program.
    pub async fn shutdown(self) -> Shutdown {
        self.server.shutdown().await
    }

    /// Ends the timers, as the end of the process would.
    pub fn kill(self) {
        for service in self.server.services {
            service.abort();
        }
    }
}

/// A relay as its surroundings see it.
#[derive(Clone)]
pub struct Handle(Arc<Front>);

impl Handle {
    /// A connection from this address comes in.
    pub fn accept<S: Transport>(&self, remote: IpAddr, socket: S) {
        let site = self.0.site.clone();
        let arrival = Arrival {
            remote,
            at: Instant::now(),
        };
        self.0.door.enter(remote, true, |place| {
            http::serve(site, socket, arrival, place)
        });
    }

    /// What the registry holds.
    ///
    /// # Errors
    /// The rule of the hub that does not hold.
    pub fn audit(&self) -> Result<Holdings, Violation> {
        self.0.site.router.audit()
    }

    /// What `/metrics` says.
    pub fn metrics(&self) -> String {
        let gauges = http::metrics::gauges(&self.0);
        let metrics = &self.0.site.router.metrics;
        metrics.text(Format::Classic, &gauges)
    }
}
