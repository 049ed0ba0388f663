//! `pyrycode-relay probe URL`: checks a running relay from the outside, as a daemon and as a phone.
//!
//! Works with every relay that speaks the protocol. It uses a server-id of its own, so it disturbs nobody.

mod advice;
mod report;
mod stats;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use relay_client::{Endpoint, EndpointError};
use rustls::ClientConfig;

use crate::net::tls::roots::trusting;

pub(crate) use stats::RoundTrips;

/// What to check, and how patiently.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The relay: ws://, wss://, http:// or https://, with or without a path
    url: String,
    /// For each step
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = patience)]
    timeout: Duration,
    /// Echoes to measure
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    round_trips: u32,
    /// Payload of each echo, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=131_072))]
    size: u32,
    /// Leave out the second daemon, which a relay refuses with 4409
    #[arg(long)]
    skip_conflict: bool,
    /// Trust these PEM certificates, and no others
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

fn patience(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if (1..=600_000).contains(&time.as_millis()) => Ok(time),
        _ => Err("write a time from 1ms to 10m, like 10s".to_owned()),
    }
}

/// Runs the checks and prints them. Success means that every check passed.
pub async fn run(args: Args) -> ExitCode {
    let base = match base(&args.url) {
        Ok(base) => base,
        Err(error) => {
            eprintln!("pyrycode-relay: cannot probe {:?}: {error}", args.url);
            return ExitCode::from(2);
        }
    };
    let tls = match args
        .ca
        .as_deref()
        .map(|file| trusting(Some(file)))
        .transpose()
    {
        Ok(tls) => tls.map(Arc::new),
        Err(error) => {
            eprintln!("pyrycode-relay: --ca {error}");
            return ExitCode::from(2);
        }
    };
    if check(&base, &args, tls).await {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn check(relay: &Endpoint, args: &Args, tls: Option<Arc<ClientConfig>>) -> bool {
    let mut report = report::Report::start(relay, args.json);
    steps::run(relay, args, tls, &mut report).await;
    report.finish()
}

/// The relay without the route: whoever copies a daemon's or a phone's URL means the same relay.
fn base(url: &str) -> Result<Endpoint, EndpointError> {
    let endpoint = Endpoint::parse(url)?;
    let path = endpoint.path.split('?').next().unwrap_or_default();
    let routes = [
        "/v1/server",
        "/v1/client",
        "/v2/server",
        "/v2/client",
        "/healthz",
    ];
    let route = routes.iter().find_map(|route| path.strip_suffix(route));
    let path = route.unwrap_or(path).trim_end_matches('/').to_owned();
    Ok(endpoint.with_path(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Public};
    use crate::observe::log::LogSettings;
    use crate::server::Relay;
    use relay_client::testing::Script;
    use relay_core::Policy;

    #[test]
    fn any_url_of_a_relay_names_the_relay() {
        for (url, expected) in [
            ("ws://h", "ws://h"),
            ("https://h/", "wss://h"),
            ("wss://h/v1/server", "wss://h"),
            ("ws://h:81/v1/client?x", "ws://h:81"),
            ("ws://h/relay/v2/client", "ws://h/relay"),
            ("http://h/relay/", "ws://h/relay"),
        ] {
            assert_eq!(base(url).unwrap().to_string(), expected, "{url}");
        }
        assert!(base("relay.example.com").is_err());
    }

    fn args(url: &str) -> Args {
        Args {
            url: url.to_owned(),
            timeout: Duration::from_secs(5),
            round_trips: 10,
            size: 70_000,
            skip_conflict: false,
            ca: None,
            json: true,
        }
    }

    #[tokio::test]
    async fn a_relay_of_ours_is_healthy() {
        let config = Config {
            public: Some(Public::loopback()),
            policy: Policy {
                boot_park_ms: 0,
                ..Policy::default()
            },
            log: LogSettings::silent(),
            ..Config::default()
        };
        let relay = Relay::start(config).await.unwrap();
        let url = format!("http://{}/v1/server", relay.local_addr());
        assert!(check(&base(&url).unwrap(), &args(&url), None).await);
        relay.shutdown().await;
    }

    #[tokio::test]
    async fn what_is_no_relay_is_not_healthy() {
        let nobody = Script::start().await.unwrap().url();
        assert!(!check(&base(&nobody).unwrap(), &args(&nobody), None).await);

        let other = Script::start().await.unwrap();
        let url = other.url();
        tokio::spawn(async move {
            let not_found = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            while other.refuse(not_found).await.is_ok() {}
        });
        assert!(!check(&base(&url).unwrap(), &args(&url), None).await);
    }

    /// Speaks WebSocket, and does to each connection what is written for it.
    async fn unlike_a_relay(closes: &'static [u16]) -> String {
        let script = Script::start().await.unwrap();
        let url = script.url();
        tokio::spawn(async move {
            for code in closes {
                script.accept().await.unwrap().close(*code, "").await;
            }
            // The rest hears nothing.
            let mut silent = Vec::new();
            while let Ok(peer) = script.accept().await {
                silent.push(peer);
            }
        });
        url
    }

    #[tokio::test]
    async fn a_server_that_treats_peers_otherwise_is_not_healthy() {
        for closes in [&[4404, 1001][..], &[1000], &[4404], &[]] {
            let url = unlike_a_relay(closes).await;
            let mut args = args(&url);
            args.timeout = Duration::from_millis(300);
            let healthy = check(&base(&url).unwrap(), &args, None).await;
            assert!(!healthy, "{closes:?}");
        }
    }
}
