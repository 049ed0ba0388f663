//! `pyrycode-relay top`: the figures of the admin page in a terminal, read from the metrics listener.
//!
//! `model` and `keys` know what is shown and what to ask next, `view` and `text` how it looks, `client` asks, and
//! `live` ties them to a terminal.

mod api;
mod client;
mod figures;
#[cfg(test)]
mod fixture;
mod keys;
mod lines;
mod live;
mod model;
mod query;
mod sse;
mod text;
mod units;
mod view;

use crate::config::address::metrics_address;
use crate::config::layers::Loaded;
use client::{Client, Source};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

/// Nobody answers, or not as a relay does.
const EXIT_UNREACHABLE: u8 = 1;

/// The command line, or the settings, name no relay.
const EXIT_USAGE: u8 = 2;

/// Which relay, and how to show it.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The relay's metrics listener, like http://127.0.0.1:9090 [default: that of the settings]
    url: Option<String>,
    /// Print one snapshot as plain text and exit
    #[arg(long)]
    once: bool,
    /// Print the relay's summary as JSON, one line each interval; with --once a single time
    #[arg(long)]
    json: bool,
    /// How often the relay is asked for its slots, or for what is printed
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    interval: Duration,
}

impl Args {
    /// Whether the settings are needed to know whom to ask.
    pub(crate) fn needs_settings(&self) -> bool {
        self.url.is_none()
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if (100..=3_600_000).contains(&time.as_millis()) => Ok(time),
        _ => Err("write a time from 100ms to 1h, like 2s".to_owned()),
    }
}

/// Shows the relay that `args` names, else the one that runs with the settings in `loaded`.
///
/// Exit codes: 0 when it was shown, 1 when it cannot be reached, 2 when it is not known whom to ask.
pub(crate) async fn run(args: Args, loaded: Option<Loaded>) -> ExitCode {
    let source = match (&args.url, loaded) {
        (Some(url), _) => {
            Source::parse(url).map_err(|error| format!("cannot ask {url:?}: {error}"))
        }
        (None, Some(loaded)) => described(&loaded),
        (None, None) => {
            Err("no relay is named; give its address, like http://127.0.0.1:9090".to_owned())
        }
    };
    let client = match source {
        Ok(source) => Client::new(source),
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let shown = match args.json || args.once || !std::io::stdout().is_terminal() {
        true => lines::run(&client, &args).await,
        false => live::run(client, args.interval).await,
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_UNREACHABLE, &error),
    }
}

/// The relay that runs with these settings.
fn described(loaded: &Loaded) -> Result<Source, String> {
    let listen = &loaded.settings().metrics_listen;
    match metrics_address(listen) {
        Ok(Some(address)) => Ok(Source::from(address)),
        Ok(None) => Err(
            "--metrics-listen is empty, so this relay has nothing to ask; set it to a loopback address, \
             like 127.0.0.1:9090, and start the relay with it"
                .to_owned(),
        ),
        Err(error) => Err(format!("--metrics-listen {listen:?} {error}")),
    }
}

fn fail(code: u8, message: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("pyrycode-relay: {message}");
    ExitCode::from(code)
}
