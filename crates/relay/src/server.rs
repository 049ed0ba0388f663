//! A running relay, and the way it stops.

use crate::admin::Admin;
use crate::config::{AdminToken, Config, address::AddressError};
use crate::net::door::Door;
use crate::observe::log::{Event, Key, Log};
use crate::os::systemd::Inherited;
use crate::phase::{Phase, Phases};
use crate::router::Router;
use crate::start;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration names no public listener.
    #[error("no listener given; set `public`")]
    NoListener,
    /// An address that cannot be listened on by its form.
    #[error("listener address {address:?} {source}")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// The system refuses to listen there.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As configured.
        address: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// Push cannot be set up as configured.
    #[error("push cannot be set up: {0}")]
    Push(String),
    /// The certificate cannot be used.
    #[error("no usable certificate: {0}")]
    Certificate(String),
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Every connection is closed.
    Complete,
    /// Some peers did not finish their closing handshake in time.
    Incomplete,
}

/// A running relay. Only [`Self::shutdown`] stops it: dropped, it goes on until the runtime ends.
pub struct Relay {
    pub(crate) router: Arc<Router>,
    /// Of the public listeners.
    pub(crate) door: Arc<Door>,
    pub(crate) log: Log,
    pub(crate) phases: Phases,
    pub(crate) local_addr: SocketAddr,
    /// Let peers in, and stop first.
    pub(crate) entrances: Vec<JoinHandle<()>>,
    /// Stays for the drain, and stops before the wait for the last closes.
    pub(crate) admin: Option<AdminPage>,
    /// Run until the last connection is closed.
    pub(crate) services: Vec<JoinHandle<()>>,
    /// Tells the service manager; ends by itself with the last phase.
    pub(crate) report: JoinHandle<()>,
    pub(crate) reload: Arc<Notify>,
    pub(crate) hurry: Arc<watch::Sender<u32>>,
}

/// The admin page, served beside `/metrics`.
pub(crate) struct AdminPage {
    pub(crate) admin: Arc<Admin>,
    pub(crate) runs: Vec<JoinHandle<()>>,
    pub(crate) local_addr: SocketAddr,
    /// The token, if nobody chose one.
    pub(crate) made: Option<AdminToken>,
}

impl Relay {
    /// Binds the listeners and starts serving.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let log = Log::start(config.log);
        Self::start_with(config, log, Inherited::default()).await
    }

    /// As [`Self::start`], with a log and listening sockets that are there already.
    pub(crate) async fn start_with(
        config: Config,
        log: Log,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let started = start::start(config, log.clone(), &mut inherited).await;
        if let Err(StartError::Bind { address, source }) = &started {
            log.write(
                Event::ListenerFailed,
                &[(Key::Addr, address), (Key::Err, source)],
            );
            log.write(Event::ListenerErrorDraining, &[]);
        }
        for address in inherited.unused() {
            log.write(Event::UnusedSocket, &[(Key::Addr, &address)]);
        }
        log.flush();
        started
    }

    /// Where the public listener is.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the admin page is, and the token that was made for it. `None` if there is no such page, or somebody chose
    /// the token.
    pub(crate) fn admin_line(&self) -> Option<String> {
        let page = self.admin.as_ref()?;
        let token = page.made.as_ref()?.reveal();
        Some(format!(
            "admin page: http://{}/ token: {token}",
            page.local_addr
        ))
    }

    /// Reads again what can change while the relay runs: certificate files.
    pub(crate) fn reload(&self) {
        self.log.write(Event::ReloadRequested, &[]);
        self.reload.notify_one();
    }

    /// How often somebody was impatient: once ends the drain of a shutdown, twice the wait for the peers' closes.
    pub(crate) fn hurry(&self) -> Arc<watch::Sender<u32>> {
        self.hurry.clone()
    }

    /// Stops listening, closes every connection with 1001 `shutting down`, spread over the configured window,
    /// and waits for the peers' closes for at most the configured time. Push wakes that are being sent by then are broken
    /// off.
    pub async fn shutdown(self) -> Shutdown {
        self.log.write(Event::ShutdownSignal, &[]);
        self.phases.enter(Phase::Draining);
        for entrance in self.entrances {
            end(entrance).await;
        }
        let config = &self.router.config;
        if !config.drain.is_zero() {
            tokio::select! {
                () = self.router.drain(config.drain) => {}
                () = hurried(&self.hurry, 1) => {}
            }
        }
        if let Some(page) = self.admin {
            page.admin.stop();
            for run in page.runs {
                drop(run.await);
            }
        }
        let ended = async {
            self.router.close_all().await;
            // Who is in the middle of a request gets an answer, if it is quick; others may be there to wait for ever.
            drop(timeout(LAST_ANSWERS, self.door.emptied()).await);
        };
        let outcome = tokio::select! {
            biased;
            () = ended => Shutdown::Complete,
            () = tokio::time::sleep(config.shutdown_timeout) => Shutdown::Incomplete,
            () = hurried(&self.hurry, 2) => Shutdown::Incomplete,
        };
        self.router.push.shutdown().await;
        match outcome {
            Shutdown::Complete => self.log.write(Event::ShutdownComplete, &[]),
            Shutdown::Incomplete => {
                self.log.write(Event::ShutdownDeadlineExceeded, &[]);
                self.log.write(Event::DrainIncomplete, &[]);
            }
        }
        self.phases.enter(Phase::Stopped);
        for service in self.services {
            service.abort();
        }
        // A service manager that does not listen is no reason to stay.
        drop(timeout(LAST_WORDS, self.report).await);
        self.log.flush();
        outcome
    }
}

/// Until somebody was impatient so often.
async fn hurried(hurry: &watch::Sender<u32>, times: u32) {
    // The sender is at hand, so there is no error.
    let _ = hurry
        .subscribe()
        .wait_for(|presses| *presses >= times)
        .await;
}

/// For a request that is under way: some round trips.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// For the service manager to hear that the relay stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ends a task; it is gone, and its socket with it, when this returns.
async fn end(task: JoinHandle<()>) {
    task.abort();
    drop(task.await);
}
