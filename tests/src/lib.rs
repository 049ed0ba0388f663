//! The black-box tests' harness: it starts the built program and talks to it over real sockets.
//!
//! Nothing here uses the relay's own crates, so a mistake in them can't hide itself: the WebSocket
//! clients are `tokio-tungstenite` ([`Peer`]) and, for everything a decent library refuses to send,
//! a few dozen lines of frames by hand ([`Raw`]).
//!
//! A test reads as a sentence:
//!
//! ```no_run
//! # use relay_tests::{Relay, frame};
//! # async fn example() {
//! let relay = Relay::start(&["--grace", "2s"]).await;
//! let mut daemon = relay.daemon("home").await;
//! let mut phone = relay.phone("home").await;
//! phone.send(&frame(1));
//! let conn_id = daemon.expect_frame(&frame(1)).await;
//! daemon.send_to(&conn_id, &frame(2));
//! phone.expect_frame(&frame(2)).await;
//! # }
//! ```
//!
//! All waiting is on events, with [`PATIENCE`] as the deadline. Only the proof that *nothing*
//! happens ([`Peer::expect_silence`]) waits a fixed time.

mod attack;
pub mod cases;
mod google;
mod http;
mod innocent;
mod launch;
mod log;
mod netns;
mod pebble;
mod peer;
mod privileges;
mod process;
mod proxies;
mod raw;
mod relay;
mod terminal;
mod transport;
mod vocabulary;
pub mod wakes;
mod wire;

use std::future::Future;
use std::io::Write as _;
use std::time::Duration;

pub use attack::Attack;
pub use google::{Answer, Google, Message};
pub use http::{Response, exchange};
pub use innocent::Innocent;
pub use launch::{Ended, Launch, free_port, held_port};
pub use log::{Log, Record};
pub use netns::Namespace;
pub use pebble::{Pebble, Settings, acme_args};
pub use peer::{Daemon, Event, Peer, Phone};
pub use privileges::{as_nobody, is_root};
pub use proxies::{Proxy, packaged, server_program};
pub use raw::{Frame, Raw, masked, op};
pub use relay::{Refused, Relay};
pub use terminal::Terminal;
pub use transport::{HOST, Stream, Transport, Trust, certificate, tcp_from, tls};
pub use vocabulary::complaint;
pub use wire::{
    ADMIN_TOKEN, DAEMON_HEADERS, Envelope, Headers, PHONE_HEADERS, SECRETS, data_envelope,
    directive, frame, json_of,
};

/// How long a test waits for something that must happen. Far beyond what it takes, so that a busy
/// machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long "nothing arrives" is watched before it is believed.
pub const SILENCE: Duration = Duration::from_millis(300);

/// The result of `what`, which must come within [`PATIENCE`].
///
/// # Panics
/// When it doesn't.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(PATIENCE, what, future).await
}

/// The result of `what`, which must come within `limit`.
///
/// # Panics
/// When it doesn't.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} in vain for: {what}"),
    }
}

/// Asks `probe` again and again until it answers `Some`, at most [`PATIENCE`] long.
///
/// # Panics
/// When it never does.
pub async fn eventually<T, F>(what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    soon(what, async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Notes that a test could not run here, and why: on standard error, and in the file that
/// `RELAY_TESTS_SKIPPED` names, from which `scripts/test` prints it at the end.
pub fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}");
    eprintln!("{line}");
    let Some(path) = std::env::var_os("RELAY_TESTS_SKIPPED") else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    if let Ok(mut file) = file {
        // The line on standard error has been written; a lost copy is no reason to fail.
        let _ = writeln!(file, "{line}");
    }
}
