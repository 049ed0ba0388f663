//! The command line.

use crate::config::{Config, ListenAddress, address};
use crate::{demo, probe};
use clap::{Args, Parser, Subcommand};
use relay_core::{Policy, SessionPolicy, limits};
use std::ffi::OsString;
use std::time::Duration;

/// The program's version: stamped at build time, `dev` otherwise.
pub const VERSION: &str = match option_env!("PYRYCODE_RELAY_VERSION") {
    Some(version) => version,
    None => "dev",
};

/// A relay that pairs phones with a user's daemon by server-id and moves opaque frames between them.
#[derive(Debug, Parser)]
#[command(name = "pyrycode-relay", args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Print the version and exit
    #[arg(long)]
    pub version: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a relay at work: a daemon, three phones, a crash and a comeback, in under 20 seconds
    Demo(demo::Args),
    /// Check a running relay from the outside, as a daemon and as a phone
    Probe(probe::Args),
}

/// Settings of the relay. Durations are written like 500ms, 10s or 2m.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Serve plain HTTP on this address (host:port), for use behind a TLS-terminating proxy
    #[arg(long, value_name = "ADDR")]
    insecure_listen: Option<String>,
    /// Serve /metrics on this loopback address; an empty value turns it off
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    metrics_listen: String,
    /// Live connections over both endpoints [default: from the descriptor limit and memory]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_connections: Option<i64>,
    /// Live connections from one address (IPv6: one /64); 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_connections_per_ip: usize,
    /// Upgrade attempts one address may make at once, for each endpoint; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 60)]
    rate_burst: u32,
    /// Attempts an address gets back each minute
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    rate_per_minute: u32,
    /// Use the first element of X-Forwarded-For as the client's address for rate limits
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_name = "BOOL")]
    trust_x_forwarded_for: std::primitive::bool,
    /// Phones one server-id may have
    #[arg(long, value_name = "N", default_value_t = Policy::default().phones_per_server,
          value_parser = at_least_one)]
    phones_per_server: usize,
    /// Largest message accepted from a peer, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = limits::MESSAGE_BYTES, value_parser = at_least_one)]
    message_limit: usize,
    /// From the first byte of a message to its last
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().read_deadline_ms),
          value_parser = positive)]
    message_timeout: Duration,
    /// For writing one message to a peer
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().write_timeout_ms),
          value_parser = positive)]
    write_timeout: Duration,
    /// Frames queued for one phone, in bytes (64 more for each)
    #[arg(long, value_name = "BYTES", default_value_t = limits::OUTBOX_BYTES, value_parser = at_least_one)]
    outbox_limit: usize,
    /// Time between pings to every peer
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().ping_interval_ms),
          value_parser = positive)]
    ping_interval: Duration,
    /// For the matching pong
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().pong_timeout_ms),
          value_parser = positive)]
    pong_timeout: Duration,
    /// How long a departed binary keeps its server-id
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().grace_ms), value_parser = duration)]
    grace: Duration,
    /// For a holder to answer the probe that a second claim causes
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().probe_timeout_ms),
          value_parser = positive)]
    probe_timeout: Duration,
    /// Take over earlier when the kernel got no acknowledgement from the holder for this long
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().probe_dead_path_ms),
          value_parser = positive)]
    probe_dead_path: Duration,
    /// How long a phone waits for a binary that is about to return; 0 = not at all
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().park_ms), value_parser = duration)]
    park: Duration,
    /// Frames kept for all waiting phones together, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = limits::PARK_TOTAL_BYTES)]
    park_bytes: usize,
    /// Frames kept for one waiting phone, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = limits::PARK_PHONE_BYTES, value_parser = at_least_one)]
    park_phone_bytes: usize,
    /// How long after the start phones also wait for server-ids nobody has claimed yet; 0 = not at all
    #[arg(long, value_name = "TIME", default_value = millis(Policy::default().boot_park_ms), value_parser = duration)]
    boot_park: Duration,
    /// Tenures of under a second a server-id may have in a row, one more each second; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = Policy::default().redial_burst)]
    redial_burst: u32,
    /// For the peer's half of a closing handshake
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().close_wait_ms),
          value_parser = positive)]
    close_timeout: Duration,
    /// For a complete HTTP request head
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive)]
    header_timeout: Duration,
    /// For a whole HTTP exchange that does not become a WebSocket
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = positive)]
    http_timeout: Duration,
    /// For writing a close frame
    #[arg(long, value_name = "TIME", default_value = millis(SessionPolicy::default().control_write_timeout_ms),
          value_parser = positive)]
    control_timeout: Duration,
    /// For everything to close after a shutdown signal
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive)]
    shutdown_timeout: Duration,
}

/// Why the settings cannot be used: what is wrong, the value, and the fix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {fix}")]
pub struct Refusal {
    /// What is wrong, naming the setting and its value.
    pub message: String,
    /// What to do about it.
    pub fix: &'static str,
}

impl Cli {
    /// The configuration to serve with.
    ///
    /// # Errors
    /// [`Refusal`]: the settings make no sense, or are not safe.
    pub fn config(self) -> Result<Config, Refusal> {
        self.serve.config()
    }
}

impl ServeArgs {
    /// The configuration these arguments stand for.
    fn config(self) -> Result<Config, Refusal> {
        let refuse = |message, fix| Err(Refusal { message, fix });
        let Some(listen) = self.insecure_listen.filter(|text| !text.is_empty()) else {
            return refuse(
                "no listener given".into(),
                "give --insecure-listen ADDR, for example --insecure-listen 127.0.0.1:8080",
            );
        };
        let max_connections = match self.max_connections.map(usize::try_from) {
            None => None,
            Some(Ok(n)) if n > 0 => Some(n),
            Some(_) => {
                let value = self.max_connections.unwrap_or_default();
                return refuse(
                    format!("invalid --max-connections {value}"),
                    "give a number of at least 1",
                );
            }
        };
        let metrics_listen = match address::metrics_address(&self.metrics_listen) {
            Ok(address) => address,
            Err(error) => {
                return refuse(
                    format!(
                        "invalid --metrics-listen address {:?}: it {error}",
                        self.metrics_listen
                    ),
                    "metrics are served on loopback only, or not at all with --metrics-listen=",
                );
            }
        };
        if let Err(error) = listen.parse::<ListenAddress>() {
            return refuse(
                format!("invalid listener address {listen:?}: it {error}"),
                "correct --insecure-listen",
            );
        }
        Ok(Config {
            insecure_listen: Some(listen),
            metrics_listen,
            max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
            rate_burst: self.rate_burst,
            rate_per_minute: self.rate_per_minute,
            trust_x_forwarded_for: self.trust_x_forwarded_for,
            message_bytes: self.message_limit,
            outbox_bytes: self.outbox_limit,
            park_total_bytes: self.park_bytes,
            park_phone_bytes: self.park_phone_bytes,
            policy: Policy {
                grace_ms: ms(self.grace),
                probe_timeout_ms: ms(self.probe_timeout),
                probe_dead_path_ms: ms(self.probe_dead_path),
                park_ms: ms(self.park),
                boot_park_ms: ms(self.boot_park),
                phones_per_server: self.phones_per_server,
                redial_burst: self.redial_burst,
                ..Policy::default()
            },
            session: SessionPolicy {
                ping_interval_ms: ms(self.ping_interval),
                pong_timeout_ms: ms(self.pong_timeout),
                read_deadline_ms: ms(self.message_timeout),
                write_timeout_ms: ms(self.write_timeout),
                close_wait_ms: ms(self.close_timeout),
                control_write_timeout_ms: ms(self.control_timeout),
            },
            header_timeout: self.header_timeout,
            http_timeout: self.http_timeout,
            shutdown_timeout: self.shutdown_timeout,
            ..Config::default()
        })
    }
}

fn ms(duration: Duration) -> u64 {
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

/// Parses the command line. `-name` is read as `--name`, as operators of Go programs write it.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(args.into_iter().enumerate().map(|(i, arg)| {
        if i > 0 && is_single_dash_long(&arg) {
            let mut long = OsString::from("-");
            long.push(arg);
            return long;
        }
        arg
    }))
}

fn is_single_dash_long(arg: &OsString) -> bool {
    let bytes = arg.as_encoded_bytes();
    bytes.len() > 2 && bytes[0] == b'-' && bytes[1].is_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, Refusal> {
        let args = std::iter::once("pyrycode-relay").chain(args.iter().copied());
        parse(args.map(OsString::from)).unwrap().config()
    }

    #[test]
    fn all_three_spellings_mean_the_same() {
        for args in [
            &["--insecure-listen", "127.0.0.1:1", "--grace", "2s"][..],
            &["--insecure-listen=127.0.0.1:1", "--grace=2s"],
            &["-insecure-listen", "127.0.0.1:1", "-grace=2s"],
        ] {
            assert_eq!(config(args).unwrap().policy.grace_ms, 2_000, "{args:?}");
        }
    }

    #[test]
    fn the_defaults_of_the_flags_are_the_defaults_of_the_library() {
        let config = config(&["--insecure-listen=127.0.0.1:1", "--metrics-listen="]).unwrap();
        let library = Config {
            insecure_listen: config.insecure_listen.clone(),
            ..Config::default()
        };
        assert_eq!(format!("{config:?}"), format!("{library:?}"));
    }

    #[test]
    fn a_refusal_names_the_setting_the_value_and_the_fix() {
        let text = |args: &[&str]| config(args).unwrap_err().to_string();
        assert!(text(&[]).contains("--insecure-listen"));
        let zero = text(&["--insecure-listen=:1", "--max-connections", "0"]);
        assert!(
            zero.contains("--max-connections 0") && zero.contains("at least 1"),
            "{zero}"
        );
        assert!(text(&["--insecure-listen=:1", "--max-connections=-3"]).contains("-3"));
        assert!(text(&["--insecure-listen=:0"]).contains("1 to 65535"));
        assert!(text(&["--insecure-listen=:1", "--metrics-listen=:9090"]).contains("loopback"));
    }
}
