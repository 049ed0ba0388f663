//! `pyrycode-relay demo`: a relay, a daemon and three phones on one machine, and what happens when
//! something drops. Every claim it prints is checked; one that doesn't hold makes it fail.

mod daemon;
mod noise;
mod phone;
mod play;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use relay_core::Policy;

use crate::config::Config;
use crate::observe::log::LogTarget;
use crate::server::Relay;
use stage::{Stage, Who};

/// The server-id everybody uses.
const SERVER_ID: &str = "demo";
/// How long the relay waits for the pong of a holder that somebody else wants to replace. The default is ten
/// seconds, too long to watch.
const PROBE_MS: u64 = 1_500;
/// Nothing here takes this long.
const CURTAIN: Duration = Duration::from_secs(20);

/// Settings of the demo.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Without the pauses for reading
    #[arg(long)]
    fast: bool,
}

/// Runs the demo. Success means that everything it claims happened.
pub async fn run(args: Args) -> ExitCode {
    if perform(args).await {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn perform(args: Args) -> bool {
    let stage = Stage::open();
    let config = Config {
        insecure_listen: Some("127.0.0.1:0".to_owned()),
        metrics_listen: None,
        policy: Policy {
            probe_timeout_ms: PROBE_MS,
            ..Policy::default()
        },
        log: LogTarget::Silent,
        ..Config::default()
    };
    let relay = match Relay::start(config).await {
        Ok(relay) => relay,
        Err(error) => {
            eprintln!("pyrycode-relay: the demo's relay does not start: {error}");
            return false;
        }
    };
    let addr = relay.local_addr();
    stage.act("A relay, a daemon and three phones");
    stage.line(Who::Relay, &format!("listens on {addr}, in this process"));

    let pause = if args.fast {
        Duration::ZERO
    } else {
        Duration::from_millis(400)
    };
    let ended = match tokio::time::timeout(CURTAIN, play::perform(&stage, addr, pause)).await {
        Ok(ended) => ended,
        Err(_) => Err(format!("it took longer than {} s", CURTAIN.as_secs())),
    };
    if let Err(what) = ended {
        stage.check("the play goes to its end", Err(what));
    }
    relay.shutdown().await;

    let (passed, total) = stage.passed();
    let seconds = stage.seconds();
    stage.print(&format!(
        "\n{passed} of {total} claims held, in {seconds:.1} s"
    ));
    passed == total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_it_claims_happens() {
        assert!(perform(Args { fast: true }).await);
    }
}
