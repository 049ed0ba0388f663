//! The part that both links share: one task that dials, serves the connection, and dials again.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use relay_proto::headers::{self, NAME_BYTES};
use relay_proto::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::{Next, Reconnect};
use crate::endpoint::{Endpoint, EndpointError};
use crate::keepalive::{Due, Keepalive, PingPolicy, after};
use crate::policy::{App, Verdict};
use crate::socket::{ConnectError, Options, Received, Socket, SocketError, sendable};

/// Above this much unsent output a link takes no more messages from its senders.
const OUTPUT_BYTES: usize = 256 * 1024;
/// Messages waiting between a sender and the link's task.
const COMMANDS: usize = 64;

/// Why a link can't be started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The relay's address is no usable URL.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A value that travels in a header is empty or holds characters a header can't carry.
    #[error("the value for {name} is empty or can't be sent in a header")]
    Header {
        /// The header's name.
        name: &'static str,
    },
    /// A server-id or an instance that every dial would be refused for.
    #[error("the value for {name} is longer than the {limit} bytes that a relay takes")]
    TooLong {
        /// The header's name.
        name: &'static str,
        /// [`relay_proto::headers::NAME_BYTES`].
        limit: usize,
    },
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection that [`recv`](crate::DaemonLink::recv) reported last is gone. Nothing is
    /// kept for the next one: its peers know nothing of this one's sessions.
    #[error("the link is not connected")]
    NotConnected,
    /// The frame is not one JSON value in UTF-8, or it is a daemon's `null`, which means that there is no frame; the
    /// relay would end the connection or drop the message.
    #[error("the frame is not JSON: {0}")]
    NotJson(String),
    /// A phone was to be closed with the code 0. To a relay it means that there is no code, and it would close nobody.
    #[error("a close code of 0 closes nobody: a relay takes it for none")]
    NoCloseCode,
}

/// Why a link gave up for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// This close code means that dialling again is of no use to the app: see [`Verdict::Stop`].
    Refused {
        /// The close code.
        code: u16,
    },
    /// Another daemon holds the server-id, and it is alive: 4409 too many times in a row.
    Conflict,
    /// The link's owner shut it down.
    Shutdown,
}

/// What a link's task tells its owner, before daemon or phone read meaning into a message.
#[derive(Debug)]
pub(crate) enum Raw {
    Connected {
        attempt: u32,
        epoch: u64,
    },
    Message(Vec<u8>),
    Disconnected {
        code: Option<u16>,
        reason: String,
        verdict: Verdict,
        next_retry_in: Duration,
    },
    DialFailed {
        error: ConnectError,
        next_retry_in: Duration,
    },
    Stopped(Stop),
}

/// Everything a link's task needs.
pub(crate) struct Setup {
    pub(crate) app: App,
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) options: Options,
    pub(crate) reconnect: Reconnect,
    pub(crate) ping: PingPolicy,
    pub(crate) events: usize,
}

impl Setup {
    /// Starts the task on the current Tokio runtime.
    pub(crate) fn start(self) -> Result<Link, BuildError> {
        for (name, value) in &self.headers {
            if value.trim().is_empty() || !sendable(name, value) {
                return Err(BuildError::Header { name });
            }
            // What else a link says of itself a relay cuts.
            let is_refused = [headers::SERVER, headers::INSTANCE].contains(name);
            if is_refused && value.trim_matches([' ', '\t']).len() > NAME_BYTES {
                let limit = NAME_BYTES;
                return Err(BuildError::TooLong { name, limit });
            }
        }
        let (commands, command_source) = mpsc::channel(COMMANDS);
        let (event_sink, events) = mpsc::channel(self.events.max(1));
        let (stop, stopped) = oneshot::channel();
        let task = Task {
            setup: self,
            commands: command_source,
            events: event_sink,
            stopped,
            epoch: 0,
            attempt: 0,
        };
        let sender = Sender {
            commands,
            seen: Arc::default(),
        };
        Ok(Link {
            sender,
            events,
            stop: Some(stop),
            task: tokio::spawn(task.run()),
        })
    }
}

/// The owner's end of a link's task. Dropping it ends the connection without a close frame.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) sender: Sender,
    events: mpsc::Receiver<Raw>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Link {
    /// Cancel-safe. `None` after [`Raw::Stopped`].
    pub(crate) async fn recv(&mut self) -> Option<Raw> {
        let event = self.events.recv().await;
        match &event {
            Some(Raw::Connected { epoch, .. }) => self.sender.seen.store(*epoch, Ordering::Release),
            Some(Raw::Message(_)) => {}
            _ => self.sender.seen.store(0, Ordering::Release),
        }
        event
    }

    /// Close handshake, then the end.
    pub(crate) async fn shutdown(mut self) {
        drop(self.stop.take());
        // Events nobody reads any more must not keep the task from ending.
        self.events.close();
        // An error would mean that the task panicked; there is nothing left to end then.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands messages to a link's task.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    commands: mpsc::Sender<Command>,
    /// The connection the owner knows of, 0 for none: what it sends is meant for that one only.
    seen: Arc<AtomicU64>,
}

impl Sender {
    /// Cancel-safe: the message is either taken or not.
    pub(crate) async fn send(&self, message: Vec<u8>) -> Result<(), SendError> {
        let epoch = self.seen.load(Ordering::Acquire);
        if epoch == 0 {
            return Err(SendError::NotConnected);
        }
        let sent = self.commands.send(Command { epoch, message }).await;
        sent.map_err(|_| SendError::NotConnected)
    }
}

/// Refuses what a relay would refuse.
pub(crate) fn check_json(frame: &[u8]) -> Result<(), SendError> {
    std::str::from_utf8(frame).map_err(|error| SendError::NotJson(error.to_string()))?;
    json::validate_member(frame).map_err(|error| SendError::NotJson(error.to_string()))
}

#[derive(Debug)]
struct Command {
    epoch: u64,
    message: Vec<u8>,
}

struct Task {
    setup: Setup,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Raw>,
    /// Completes when the owner shuts the link down; never polled again after that.
    stopped: oneshot::Receiver<()>,
    epoch: u64,
    attempt: u32,
}

/// How one connection ended.
enum End {
    /// The peer closed, or this side did for a fault of the peer.
    Code {
        code: Option<u16>,
        reason: String,
        sent_by_us: bool,
    },
    /// Without a close frame.
    Broken(String),
    Shutdown,
}

impl Task {
    async fn run(mut self) {
        let why = self.live().await;
        // Its owner may be waiting for room for a command, and read no event meanwhile.
        self.commands.close();
        // The owner may be gone already.
        let _ = self.events.send(Raw::Stopped(why)).await;
    }

    async fn live(&mut self) -> Stop {
        loop {
            self.attempt = self.attempt.saturating_add(1);
            let dial = dial(&self.setup);
            let dialled = match between(&mut self.stopped, &mut self.commands, dial).await {
                Some(dialled) => dialled,
                None => return Stop::Shutdown,
            };
            let (event, next) = match dialled {
                Err(error) => self.dial_failed(error),
                Ok(socket) => match self.connected(socket).await {
                    Ok(ended) => ended,
                    Err(why) => return why,
                },
            };
            let told = async { self.events.send(event).await.is_ok().then(|| sleep(next)) };
            let wait = match between(&mut self.stopped, &mut self.commands, told).await {
                Some(Some(wait)) => wait,
                _ => return Stop::Shutdown,
            };
            if between(&mut self.stopped, &mut self.commands, wait)
                .await
                .is_none()
            {
                return Stop::Shutdown;
            }
        }
    }

    fn dial_failed(&mut self, error: ConnectError) -> (Raw, Duration) {
        let retry_after = match &error {
            ConnectError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        };
        let next = self.setup.reconnect.dial_failed(retry_after, random());
        (
            Raw::DialFailed {
                error,
                next_retry_in: next,
            },
            next,
        )
    }

    /// Serves one connection to its end: what to report and how long to wait, or why never to dial again.
    async fn connected(&mut self, mut socket: Socket) -> Result<(Raw, Duration), Stop> {
        self.epoch += 1;
        let since = Instant::now();
        let end = self.serve(&mut socket).await;
        let uptime = since.elapsed();
        let (code, reason) = match end {
            End::Shutdown => {
                self.queue_the_rest(&mut socket);
                let reason = if self.setup.app == App::Daemon {
                    "client closing"
                } else {
                    ""
                };
                socket.close(1000, reason).await;
                return Err(Stop::Shutdown);
            }
            End::Code {
                code,
                reason,
                sent_by_us,
            } => {
                socket
                    .close(code.unwrap_or(1005), if sent_by_us { &reason } else { "" })
                    .await;
                (code, reason)
            }
            End::Broken(reason) => (None, reason),
        };
        match self.setup.reconnect.dropped(code, uptime, random()) {
            (Verdict::Conflict, Next::Stop) => Err(Stop::Conflict),
            (_, Next::Stop) => Err(Stop::Refused {
                code: code.unwrap_or(1005),
            }),
            (verdict, Next::Dial(next_retry_in)) => {
                self.attempt = 0;
                let event = Raw::Disconnected {
                    code,
                    reason,
                    verdict,
                    next_retry_in,
                };
                Ok((event, next_retry_in))
            }
        }
    }

    /// Moves messages, pings and events until the connection ends.
    ///
    /// While the owner doesn't take its events nothing more is read, but sending goes on: an owner that
    /// sends and receives in one task can't lock itself out.
    async fn serve(&mut self, socket: &mut Socket) -> End {
        let write_timeout = self.setup.options.timeouts.write;
        let mut keepalive = Keepalive::new(self.setup.ping, Instant::now());
        let mut waiting = Some(Raw::Connected {
            attempt: self.attempt,
            epoch: self.epoch,
        });
        loop {
            let blocked = after(
                socket.blocked_since().unwrap_or_else(Instant::now),
                write_timeout,
            );
            let timer = keepalive.deadline().min(blocked);
            let room = socket.queued_bytes() < OUTPUT_BYTES;
            tokio::select! {
                biased;
                _ = &mut self.stopped => return End::Shutdown,
                permit = self.events.reserve(), if waiting.is_some() => match (permit, waiting.take()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    _ => return End::Shutdown,
                },
                received = socket.drive(waiting.is_none(), OUTPUT_BYTES) => match received.transpose() {
                    // There is room for a command again.
                    None => {}
                    Some(received) => match self.take(received, &mut keepalive) {
                        Ok(event) => waiting = event,
                        Err(end) => return end,
                    },
                },
                command = self.commands.recv(), if room => match command {
                    Some(command) => if let Err(end) = queue(socket, &mut self.commands, self.epoch, command) {
                        return end;
                    },
                    None => return End::Shutdown,
                },
                () = sleep_until(timer) => {
                    let now = Instant::now();
                    if socket.blocked_since().is_some_and(|since| now - since >= write_timeout) {
                        return End::Broken(SocketError::WriteTimeout { after: write_timeout }.to_string());
                    }
                    match keepalive.fire(now) {
                        Due::Nothing => {}
                        Due::Dead => return End::Broken("the relay did not answer a ping".to_owned()),
                        Due::Ping(payload) => if let Err(error) = socket.queue_ping(payload.as_bytes()) {
                            return End::Broken(error.to_string());
                        },
                    }
                }
            }
        }
    }

    /// What was taken before a shutdown leaves before the Close; nothing more is taken.
    fn queue_the_rest(&mut self, socket: &mut Socket) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            // Without a mask there is no Close either: the connection is cut.
            if command.epoch == self.epoch && socket.queue_text(&command.message).is_err() {
                return;
            }
        }
    }

    /// What to make of an arrival: an event, nothing, or the end.
    fn take(
        &self,
        received: Result<Received, SocketError>,
        keepalive: &mut Keepalive,
    ) -> Result<Option<Raw>, End> {
        let own = |code, reason: &str| End::Code {
            code: Some(code),
            reason: reason.to_owned(),
            sent_by_us: true,
        };
        // The mobile app takes nothing but text frames of JSON, and ends the connection otherwise.
        let strict = self.setup.app == App::Mobile;
        match received {
            Ok(Received::Pong(payload)) => {
                keepalive.pong(&payload);
                Ok(None)
            }
            Ok(Received::Binary(_)) if strict => Err(own(1003, "binary frame")),
            Ok(Received::Text(bytes)) if strict && json::validate(&bytes).is_err() => {
                Err(own(1002, "malformed frame"))
            }
            Ok(Received::Text(bytes) | Received::Binary(bytes)) => Ok(Some(Raw::Message(bytes))),
            Ok(Received::Close { code, reason }) => Err(End::Code {
                code,
                reason,
                sent_by_us: false,
            }),
            Err(SocketError::Protocol(error)) => Err(own(error.close_code(), &error.to_string())),
            Err(error) => Err(End::Broken(error.to_string())),
        }
    }
}

/// Queues this message and those right behind it, so that they leave in one write. Those meant
/// for an earlier connection than `epoch` are dropped.
fn queue(
    socket: &mut Socket,
    commands: &mut mpsc::Receiver<Command>,
    epoch: u64,
    first: Command,
) -> Result<(), End> {
    let mut next = Some(first);
    while let Some(command) = next {
        if command.epoch == epoch {
            let queued = socket.queue_text(&command.message);
            queued.map_err(|error| End::Broken(error.to_string()))?;
        }
        let room = socket.queued_bytes() < OUTPUT_BYTES;
        next = if room { commands.try_recv().ok() } else { None };
    }
    Ok(())
}

/// Waits for `work` while there is no connection; `None` if the link is shut down meanwhile.
///
/// What its owner still sends is meant for the connection that is gone, and dropped: who waits in a send cannot take
/// the event that tells of the end.
async fn between<T>(
    stopped: &mut oneshot::Receiver<()>,
    commands: &mut mpsc::Receiver<Command>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            _ = &mut *stopped => return None,
            done = &mut work => return Some(done),
            Some(_) = commands.recv() => {}
        }
    }
}

async fn dial(setup: &Setup) -> Result<Socket, ConnectError> {
    let headers: Vec<(&str, &str)> = setup
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Socket::connect(&setup.endpoint, &headers, &setup.options).await
}

/// For the spread of the waits; without randomness every wait is the middle one.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
