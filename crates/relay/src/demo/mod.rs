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

use crate::config::{Config, Public};
use crate::observe::log::LogSettings;
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
        public: Some(Public::loopback()),
        metrics_listen: None,
        policy: Policy {
            probe_timeout_ms: PROBE_MS,
            ..Policy::default()
        },
        log: LogSettings::silent(),
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
    use relay_client::{DaemonEvent, DaemonLink, PhoneEvent, PhoneLink};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_it_claims_happens() {
        assert!(perform(Args { fast: true }).await);
    }

    /// What the demo doesn't show: a daemon whose connection breaks, but whose sessions live.
    #[tokio::test]
    async fn a_daemon_with_an_instance_resumes() {
        let config = Config {
            public: Some(Public::loopback()),
            log: LogSettings::silent(),
            ..Config::default()
        };
        let relay = Relay::start(config).await.unwrap();
        let url = format!("ws://{}", relay.local_addr());
        let daemon = || {
            DaemonLink::builder(&url, SERVER_ID)
                .instance("the same process")
                .start()
        };
        let mut first = daemon().unwrap();
        assert!(matches!(
            first.recv().await,
            Some(DaemonEvent::Connected { .. })
        ));
        let mut phone = PhoneLink::builder(&url, SERVER_ID).start().unwrap();
        assert!(matches!(
            phone.recv().await,
            Some(PhoneEvent::Connected { .. })
        ));
        phone.send(b"1").await.unwrap();
        let Some(DaemonEvent::Frame { conn_id, .. }) = first.recv().await else {
            panic!("no frame");
        };

        first.shutdown().await;
        phone.send(b"2").await.unwrap();
        let mut second = daemon().unwrap();
        assert!(matches!(
            second.recv().await,
            Some(DaemonEvent::Connected { .. })
        ));
        match second.recv().await {
            Some(DaemonEvent::Frame {
                conn_id: same,
                frame,
            }) => {
                assert_eq!((same, &frame[..]), (conn_id.clone(), &b"2"[..]));
            }
            other => panic!("{other:?}"),
        }
        second.send(&conn_id, b"3").await.unwrap();
        assert!(matches!(phone.recv().await, Some(PhoneEvent::Frame(frame)) if frame == b"3"));
        second
            .close_phone(&conn_id, Some(b"4"), 4401)
            .await
            .unwrap();
        assert!(matches!(phone.recv().await, Some(PhoneEvent::Frame(frame)) if frame == b"4"));
        assert!(matches!(
            phone.recv().await,
            Some(PhoneEvent::Stopped { .. })
        ));
        relay.shutdown().await;
    }
}
