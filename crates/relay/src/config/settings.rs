//! Every setting of the relay: its name, its default, and what it means. A flag, an environment variable
//! and a key of the configuration file all come from this one list.

use clap::Args;
use ipnet::IpNet;
use relay_core::{Policy, SessionPolicy, WakePolicy, limits};
use std::path::PathBuf;
use std::time::Duration;

use crate::observe::log::{Format, Level};

/// Settings as they are written. Durations look like 500ms, 10s or 2m.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Serve plain HTTP on this address (host:port), for use behind a TLS-terminating proxy
    #[arg(long, value_name = "ADDR", help_heading = "Listeners")]
    pub(super) insecure_listen: Option<String>,
    /// The public host name: its certificate comes by ACME, requests for other hosts get 421
    #[arg(long, value_name = "NAME", help_heading = "Listeners")]
    pub(super) domain: Option<String>,
    /// Serve TLS on this address
    #[arg(
        long,
        value_name = "ADDR",
        default_value = ":443",
        help_heading = "Listeners"
    )]
    pub(super) https_listen: String,
    /// Answer ACME HTTP-01 challenges on this address; nothing else is served there
    #[arg(
        long,
        value_name = "ADDR",
        default_value = ":80",
        help_heading = "Listeners"
    )]
    pub(super) http_listen: String,
    /// Serve /metrics and the admin page on this loopback address; an empty value turns both off
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:9090",
        help_heading = "Listeners"
    )]
    pub(crate) metrics_listen: String,
    /// Serve /healthz, /livez and /readyz, and nothing else, as plain HTTP on this address
    #[arg(long, value_name = "ADDR", help_heading = "Listeners")]
    pub(crate) health_listen: Option<String>,

    /// Keep certificates of the CA and the account key in this directory [default: ~/.pyrycode-relay/certs]
    #[arg(long, value_name = "DIR", help_heading = "Certificates")]
    pub(super) cert_cache: Option<PathBuf>,
    /// The CA's ACME directory
    #[arg(long, value_name = "URL", default_value = LETS_ENCRYPT, help_heading = "Certificates")]
    pub(super) acme_directory: String,
    /// Trust these PEM certificates, and no others, for the connection to the ACME directory
    #[arg(long, value_name = "FILE", help_heading = "Certificates")]
    pub(super) acme_ca: Option<PathBuf>,
    /// Use this PEM certificate chain instead of ACME; reloaded when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE", help_heading = "Certificates")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert
    #[arg(long, value_name = "FILE", help_heading = "Certificates")]
    pub(crate) tls_key: Option<PathBuf>,
    /// How often --tls-cert and --tls-key are looked at
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive, help_heading = "Certificates")]
    pub(super) tls_reload: Duration,
    /// Make a certificate for trying the relay out; its fingerprint is logged
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_name = "BOOL", value_parser = boolean, help_heading = "Certificates")]
    pub(crate) self_signed: std::primitive::bool,

    /// Every connection to the public listener starts with a PROXY protocol header, v1 or v2
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_name = "BOOL", value_parser = boolean, help_heading = "Proxies in front")]
    pub(super) proxy_protocol: std::primitive::bool,
    /// The same, for TLS listeners only: the name this setting has in the Go relay
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_name = "BOOL", value_parser = boolean, help_heading = "Proxies in front")]
    pub(super) https_proxy_protocol: std::primitive::bool,
    /// Your proxies: X-Forwarded-For is read from the right through them, and only they may send PROXY headers
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = network,
        help_heading = "Proxies in front"
    )]
    pub(crate) trust_proxy: Vec<IpNet>,
    /// Use the first element of X-Forwarded-For as the client's address, whoever sent it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_name = "BOOL", value_parser = boolean, help_heading = "Proxies in front")]
    pub(crate) trust_x_forwarded_for: std::primitive::bool,

    /// The Firebase project whose app is woken
    #[arg(
        long,
        value_name = "NAME",
        default_value = "pyrycode-mobile",
        help_heading = "Push"
    )]
    pub(crate) fcm_project: String,
    /// Where push wakes are posted: an https origin
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://fcm.googleapis.com",
        help_heading = "Push"
    )]
    pub(crate) fcm_endpoint: String,
    /// Push wakes one server-id may ask for at once; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = WakePolicy::default().wake_burst, help_heading = "Push")]
    pub(super) wake_burst: u32,
    /// How long until a server-id gets one wake back
    #[arg(long, value_name = "TIME", default_value = millis(WakePolicy::default().wake_refill_ms), value_parser = positive, help_heading = "Push")]
    pub(super) wake_refill: Duration,
    /// Wakes being sent at a time, of all server-ids together; further ones are dropped
    #[arg(long, value_name = "N", default_value_t = WakePolicy::default().wakes_in_flight,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = "Push")]
    pub(super) wakes_in_flight: u32,
    /// For each of: fetching an access token, sending a wake with its retries
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive, help_heading = "Push")]
    pub(crate) push_timeout: Duration,

    /// Live connections over both endpoints [default: from the descriptor limit and memory]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        help_heading = "Limits"
    )]
    pub(crate) max_connections: Option<i64>,
    /// Live connections from one address (IPv6: one /64); 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Limits")]
    pub(super) max_connections_per_ip: usize,
    /// Connections that are accepted and not answered yet; beyond it the oldest of the address with the most makes room [default: from memory, and the descriptors that connections leave or do not use yet]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) max_handshakes: Option<usize>,
    /// The same from one address, but never more than a quarter of them all; further ones are closed at once; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Limits")]
    pub(super) max_handshakes_per_ip: u32,
    /// TCP connections one address may open at once before more are closed unanswered; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 512, help_heading = "Limits")]
    pub(super) connect_burst: u32,
    /// TCP connections an address gets back each second
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Limits")]
    pub(super) connect_per_second: u32,
    /// Upgrade attempts one address may make at once, for each endpoint; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 60, help_heading = "Limits")]
    pub(super) rate_burst: u32,
    /// Attempts an address gets back each minute
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub(super) rate_per_minute: u32,
    /// Phones one server-id may have
    #[arg(long, value_name = "N", default_value_t = Policy::default().phones_per_server,
          value_parser = at_least_one, help_heading = "Limits")]
    pub(super) phones_per_server: usize,
    /// Largest message accepted from a peer, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = limits::MESSAGE_BYTES, value_parser = at_least_one, help_heading = "Limits")]
    pub(super) message_limit: usize,
    /// Frames queued for one phone, in bytes (64 more for each)
    #[arg(long, value_name = "BYTES", default_value_t = limits::OUTBOX_BYTES, value_parser = at_least_one, help_heading = "Limits")]
    pub(super) outbox_limit: usize,
    /// Frames queued or half received, of all peers together, beyond the first 64 KiB of each, in bytes [default: a quarter of memory, less below 768 MiB]
    #[arg(long, value_name = "BYTES", value_parser = at_least_a_mebibyte, help_heading = "Limits")]
    pub(super) queue_bytes: Option<usize>,
    /// Frames kept for all waiting phones together, in bytes [default: a sixteenth of memory, at most 32 MiB]
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub(super) park_bytes: Option<usize>,
    /// Frames kept for one waiting phone, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = limits::PARK_PHONE_BYTES, value_parser = at_least_one, help_heading = "Limits")]
    pub(super) park_phone_bytes: usize,
    /// Tenures of under a second a server-id may have in a row, one more each second; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = Policy::default().redial_burst, help_heading = "Limits")]
    pub(super) redial_burst: u32,

    /// How long a departed binary keeps its server-id
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().grace_ms), value_parser = duration, help_heading = "Times")]
    pub(super) grace: Duration,
    /// For a holder to answer the probe that a second claim causes
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().probe_timeout_ms), value_parser = positive, help_heading = "Times")]
    pub(super) probe_timeout: Duration,
    /// Take over earlier when the kernel got no acknowledgement from the holder for this long
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().probe_dead_path_ms), value_parser = positive, help_heading = "Times")]
    pub(super) probe_dead_path: Duration,
    /// How long a phone waits for a binary that is about to return; 0 = not at all
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().park_ms), value_parser = duration, help_heading = "Times")]
    pub(super) park: Duration,
    /// How long after the start phones also wait for server-ids nobody has claimed yet; 0 = not at all
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().boot_park_ms), value_parser = duration, help_heading = "Times")]
    pub(super) boot_park: Duration,
    /// Time between pings to every peer
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().ping_interval_ms), value_parser = positive, help_heading = "Times")]
    pub(super) ping_interval: Duration,
    /// For the pong
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().pong_timeout_ms), value_parser = positive, help_heading = "Times")]
    pub(super) pong_timeout: Duration,
    /// From the first byte of a message to its last
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().read_deadline_ms), value_parser = positive, help_heading = "Times")]
    pub(super) message_timeout: Duration,
    /// For writing one message to a peer
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().write_timeout_ms), value_parser = positive, help_heading = "Times")]
    pub(super) write_timeout: Duration,
    /// For writing a close frame
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().control_write_timeout_ms), value_parser = positive, help_heading = "Times")]
    pub(super) control_timeout: Duration,
    /// For the peer's half of a closing handshake
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().close_wait_ms), value_parser = positive, help_heading = "Times")]
    pub(super) close_timeout: Duration,
    /// For each of: a PROXY header, a TLS handshake, a complete HTTP request head
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive, help_heading = "Times")]
    pub(super) header_timeout: Duration,
    /// For a whole HTTP exchange that does not become a WebSocket
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = positive, help_heading = "Times")]
    pub(super) http_timeout: Duration,
    /// Spread the closes at shutdown over this time; 0 = all at once
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration, help_heading = "Times")]
    pub(super) drain: Duration,
    /// For everything to close after the drain
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive, help_heading = "Times")]
    pub(super) shutdown_timeout: Duration,

    /// How log lines are written
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        value_enum,
        help_heading = "Log"
    )]
    pub(super) log_format: Format,
    /// The least level that is logged
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        value_enum,
        help_heading = "Log"
    )]
    pub(super) log_level: Level,

    /// Export figures of the process (memory, processor time, descriptors) with the relay's own metrics
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_name = "BOOL", value_parser = boolean, help_heading = "Metrics")]
    pub(super) process_metrics: std::primitive::bool,
    /// Show server-ids on the admin page, instead of a hash of them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_name = "BOOL", value_parser = boolean, help_heading = "Metrics")]
    pub(super) admin_show_ids: std::primitive::bool,
}

/// The production directory of Let's Encrypt.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// A duration in whole milliseconds.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn millis(ms: u64) -> clap::builder::OsStr {
    humantime::format_duration(Duration::from_millis(ms))
        .to_string()
        .replace(' ', "")
        .into()
}

/// A year: beyond it, adding times could overflow, and no setting means anything.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("longer than a year; write something like 500ms, 10s or 2m".into()),
        Err(error) => Err(format!("{error}; write something like 500ms, 10s or 2m")),
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        long if long.as_millis() > 0 => Ok(long),
        _ => Err("must be at least 1ms".into()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}; write a whole number")),
    }
}

/// The words of Go's flags, in which some operators think.
fn boolean(text: &str) -> Result<std::primitive::bool, String> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
        _ => Err("write true or false".into()),
    }
}

/// With less, one full-sized message on an otherwise empty queue could be refused.
fn at_least_a_mebibyte(text: &str) -> Result<usize, String> {
    match at_least_one(text)? {
        n if n >= 1024 * 1024 => Ok(n),
        _ => Err("must be at least 1048576".into()),
    }
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    if let Ok(ip) = text.parse() {
        return Ok(IpNet::from(std::net::IpAddr::to_canonical(&ip)));
    }
    match text.parse() {
        // Peers are known by their IPv4 address, so such a network would contain nobody.
        Ok(IpNet::V6(network)) if network.network().to_ipv4_mapped().is_some() => {
            Err("an IPv4 network in IPv6's spelling; write it as IPv4, like 10.0.0.0/8".into())
        }
        Ok(network) => Ok(network),
        Err(_) => Err("no network; write something like 10.0.0.0/8 or 2001:db8::/32".into()),
    }
}
