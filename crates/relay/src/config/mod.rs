//! Everything that can be set, with its default.

pub mod address;

use crate::observe::log::LogTarget;
use relay_core::{Policy, SessionPolicy, limits};
use std::net::SocketAddr;
use std::time::Duration;

pub use address::ListenAddress;

/// The settings of one relay. [`Config::default`] is what the program runs with when no flag is
/// given, except that nothing is listened on.
#[derive(Clone, Debug)]
pub struct Config {
    /// Plain-HTTP address of the public routes: `host:port`.
    pub insecure_listen: Option<String>,
    /// Loopback address of `/metrics`; `None`: no such listener.
    pub metrics_listen: Option<SocketAddr>,
    /// Live WebSocket connections over both endpoints; `None`: from the descriptor limit and the
    /// memory of this machine.
    pub max_connections: Option<usize>,
    /// Live connections from one address (IPv6: from one /64); 0: no such limit.
    pub max_connections_per_ip: usize,
    /// Upgrade attempts one address may make at once, for each endpoint; 0: no limit.
    pub rate_burst: u32,
    /// Attempts an address gets back each minute.
    pub rate_per_minute: u32,
    /// Take the client's address from the first element of `X-Forwarded-For`.
    pub trust_x_forwarded_for: bool,
    /// Largest message accepted from a peer, in bytes.
    pub message_bytes: usize,
    /// Frames queued for one phone at most, in bytes, with 64 more for each.
    pub outbox_bytes: usize,
    /// Frames queued for all peers together at most, in bytes, beyond the first 64 KiB of each; `None`: a quarter of
    /// the memory of this machine. A queue may take no more of it than it leaves for the others: half, if it is the
    /// only one.
    pub queue_bytes: Option<usize>,
    /// Frames kept for all parked phones at most, in bytes.
    pub park_total_bytes: usize,
    /// Frames kept for one parked phone at most, in bytes.
    pub park_phone_bytes: usize,
    /// The slots' times and bounds.
    pub policy: Policy,
    /// The connections' times.
    pub session: SessionPolicy,
    /// From the accepted TCP connection to its complete HTTP request head.
    pub header_timeout: Duration,
    /// From the accepted TCP connection to the end of its HTTP exchange, when it stays HTTP.
    pub http_timeout: Duration,
    /// From the shutdown signal until the process ends, whatever is still open.
    pub shutdown_timeout: Duration,
    /// Where log lines go.
    pub log: LogTarget,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure_listen: None,
            metrics_listen: None,
            max_connections: None,
            max_connections_per_ip: 256,
            rate_burst: 60,
            rate_per_minute: 60,
            trust_x_forwarded_for: false,
            message_bytes: limits::MESSAGE_BYTES,
            outbox_bytes: limits::OUTBOX_BYTES,
            queue_bytes: None,
            park_total_bytes: limits::PARK_TOTAL_BYTES,
            park_phone_bytes: limits::PARK_PHONE_BYTES,
            policy: Policy::default(),
            session: SessionPolicy::default(),
            header_timeout: Duration::from_secs(5),
            http_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(10),
            log: LogTarget::Stderr,
        }
    }
}
