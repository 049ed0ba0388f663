//! One connection's request, from its bytes to its answer.

use super::gate::Gate;
use super::{Arrival, Site, protocol};
use crate::clock::Clock;
use crate::config::{Certificate, Config, Proxies, Public};
use crate::observe::log::{Log, LogSettings};
use crate::observe::metrics::Endpoint;
use crate::os::rlimit::Machine;
use crate::phase::{Phase, Phases};
use crate::router::Router;
use crate::session::Transport;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;

/// The relay it is sent to.
pub struct Front {
    /// The only host that is served; any if `None`.
    pub domain: Option<String>,
    /// What stands in front.
    pub proxies: Proxies,
    /// The address the connection comes from.
    pub peer: IpAddr,
}

/// What a session starts from.
pub struct Upgraded<S> {
    /// Whether it is a daemon that dialled.
    pub is_binary: bool,
    /// The server-id.
    pub server_id: String,
    /// Who is calling.
    pub remote: String,
    /// What was read beyond the request.
    pub early: Vec<u8>,
    /// From where the rest comes.
    pub socket: S,
}

/// The whole exchange, with a relay of its own. `None`: no 101 was written.
pub async fn exchange<S: Transport>(socket: S, front: Front) -> Option<Upgraded<S>> {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    let public = front.domain.map(|domain| Public::Tls {
        listen: String::new(),
        domain: Some(domain),
        certificate: Certificate::SelfSigned,
    });
    let config = Config {
        public,
        proxies: front.proxies,
        rate_burst: 0,
        log: LogSettings::silent(),
        ..Config::default()
    };
    let clock = Clock::start();
    let log = Log::start(config.log);
    let machine = *MACHINE.get_or_init(Machine::look);
    let router = Arc::new(Router::new(config, machine, clock, log, None));
    let phases = Phases::default();
    phases.enter(Phase::Ready);
    let site = Arc::new(Site {
        gate: Arc::new(Gate::new(&router.config, 1)),
        http: protocol(&router.config),
        router,
        phases,
        version: "fuzz",
    });
    let arrival = Arrival {
        remote: front.peer,
        at: Instant::now(),
    };
    let (agreed, socket, early) = super::exchange(site, socket, arrival, || {}).await?;
    let peer = &agreed.seat.peer;
    Some(Upgraded {
        is_binary: agreed.endpoint == Endpoint::server,
        server_id: peer.table.server.to_string(),
        remote: peer.remote.to_string(),
        early: early.to_vec(),
        socket,
    })
}
