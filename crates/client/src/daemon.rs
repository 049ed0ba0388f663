//! A daemon's link: the binary leg.

use std::time::Duration;

use relay_proto::envelope::{self, Directive};
use relay_proto::headers;

use crate::backoff::{AfterDrop, Ladder, Reconnect};
use crate::endpoint::{Endpoint, SERVER_PATH};
use crate::keepalive::PingPolicy;
use crate::link::{BuildError, Link, Raw, SendError, Sender, Setup, Stop, check_json};
use crate::policy::{App, CONFLICT_LIMIT, Verdict};
use crate::socket::{ConnectError, Options};

/// From a phone it is a frame like any other; from a daemon it stands for no frame.
const NULL: &[u8] = b"null";

/// What a daemon learns from its link.
#[derive(Debug)]
pub enum DaemonEvent {
    /// The relay accepted the claim of the server-id. Whether it lasts shows only later: a server-id
    /// that is held by somebody else is accepted first and then closed with 4409.
    Connected {
        /// Dials it took, counted from the end of the last connection; 1 is the first.
        attempt: u32,
    },
    /// A phone sent a frame. The first frame of a `conn_id` is all there is to tell of a new phone.
    Frame {
        /// The phone's connection; opaque, never used again for another one.
        conn_id: String,
        /// The phone's message as it is: one JSON value.
        frame: Vec<u8>,
    },
    /// A phone is gone, and not because this daemon asked for it.
    PhoneGone {
        /// The phone's connection.
        conn_id: String,
        /// The code the phone closed with, or the relay closed it with; 1001 if it vanished.
        code: u16,
    },
    /// The relay sent something that is no envelope. It was dropped.
    Malformed {
        /// What is wrong with it; never holds any of it.
        why: String,
    },
    /// The connection ended; the link dials again.
    Disconnected {
        /// The close code; `None` if there was no close frame, or one without a code.
        code: Option<u16>,
        /// The close reason, or what broke.
        reason: String,
        /// What the code means to a daemon.
        verdict: Verdict,
        /// When the link dials again.
        next_retry_in: Duration,
    },
    /// A dial failed; the link dials again.
    DialFailed {
        /// Why.
        error: ConnectError,
        /// When the link dials again.
        next_retry_in: Duration,
    },
    /// The link gave up for good. The last event.
    Stopped {
        /// Why.
        why: Stop,
    },
}

/// A daemon's link to its relay, kept up by a task in the background.
///
/// ```
/// use relay_client::{DaemonEvent, DaemonLink, PhoneEvent, PhoneLink, testing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let relay = testing::Router::start().await?; // in earnest: the URL of a relay
/// let mut daemon = DaemonLink::builder(&relay.url(), "my-server-id").version("1.0").start()?;
/// assert!(matches!(daemon.recv().await, Some(DaemonEvent::Connected { attempt: 1 })));
///
/// let mut phone = PhoneLink::builder(&relay.url(), "my-server-id").start()?;
/// assert!(matches!(phone.recv().await, Some(PhoneEvent::Connected { .. })));
/// phone.send(br#"{"hello":"daemon"}"#).await?;
///
/// // A daemon answers whoever spoke.
/// if let Some(DaemonEvent::Frame { conn_id, frame }) = daemon.recv().await {
///     assert_eq!(frame, br#"{"hello":"daemon"}"#);
///     daemon.send(&conn_id, br#"{"hello":"phone"}"#).await?;
/// }
/// match phone.recv().await {
///     Some(PhoneEvent::Frame(frame)) => assert_eq!(frame, br#"{"hello":"phone"}"#),
///     other => panic!("{other:?}"),
/// }
/// daemon.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # Back-pressure
/// Events wait in a channel of [`DaemonBuilder::events`] places. While it is full the link reads nothing from the relay,
/// pongs included, and goes on pinging. A pong that still waits behind the backlog [`PingPolicy::timeout`] after its ping
/// ends the connection. So an owner that takes no event may lose it after that long, and has lost it after
/// [`PingPolicy::every`] more:
///
/// | policy | from | at the latest |
/// |---|---|---|
/// | [`PingPolicy::DAEMON`]: daemon and desktop | 30 s | 60 s |
/// | [`PingPolicy::MOBILE`] | 20 s | 40 s |
///
/// # Ending it
/// [`shutdown`](Self::shutdown) closes in an orderly way; dropping the link ends the TCP
/// connection without a close frame, as a crash would.
#[derive(Debug)]
pub struct DaemonLink {
    link: Link,
}

impl DaemonLink {
    /// A daemon for `server_id`, of at most 256 bytes, at the relay `url`. A URL without a path means
    /// `/v1/server`; any other path is dialled as it is.
    pub fn builder(url: &str, server_id: &str) -> DaemonBuilder {
        DaemonBuilder {
            url: url.to_owned(),
            server_id: server_id.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            user_agent: None,
            instance: None,
            ladder: Ladder::default(),
            after_drop: AfterDrop::Wait,
            conflict_limit: CONFLICT_LIMIT,
            ping: PingPolicy::DAEMON,
            options: Options::default(),
            events: 64,
        }
    }

    /// The next event; `None` after [`DaemonEvent::Stopped`]. Cancel-safe.
    pub async fn recv(&mut self) -> Option<DaemonEvent> {
        Some(match self.link.recv().await? {
            Raw::Connected { attempt, .. } => DaemonEvent::Connected { attempt },
            Raw::Message(bytes) => read_envelope(&bytes),
            Raw::Disconnected {
                code,
                reason,
                verdict,
                next_retry_in,
            } => DaemonEvent::Disconnected {
                code,
                reason,
                verdict,
                next_retry_in,
            },
            Raw::DialFailed {
                error,
                next_retry_in,
            } => DaemonEvent::DialFailed {
                error,
                next_retry_in,
            },
            Raw::Stopped(why) => DaemonEvent::Stopped { why },
        })
    }

    /// Sends a frame to a phone; see [`DaemonSender::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, conn_id: &str, frame: &[u8]) -> Result<(), SendError> {
        send(&self.link.sender, conn_id, frame).await
    }

    /// Ends a phone's connection; see [`DaemonSender::close_phone`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn close_phone(
        &self,
        conn_id: &str,
        frame: Option<&[u8]>,
        code: u16,
    ) -> Result<(), SendError> {
        close_phone(&self.link.sender, conn_id, frame, code).await
    }

    /// A handle that sends on this link, for other tasks.
    #[must_use]
    pub fn sender(&self) -> DaemonSender {
        DaemonSender {
            sender: self.link.sender.clone(),
        }
    }

    /// Closes with 1000 `client closing` behind all that was sent before, as long as something of it
    /// leaves; waits for the relay's half (at most [`Timeouts::close`](crate::Timeouts::close)), and
    /// ends the link. Events not yet taken are lost.
    pub async fn shutdown(self) {
        self.link.shutdown().await;
    }
}

/// Sends on a [`DaemonLink`] from any task; does not keep the link alive.
#[derive(Clone, Debug)]
pub struct DaemonSender {
    sender: Sender,
}

impl DaemonSender {
    /// Sends `frame`, one JSON value but `null`, to the phone `conn_id`. A phone that is gone meanwhile is not an error:
    /// the relay drops the frame. Waits only while the link has plenty to write. Cancel-safe:
    /// a message is taken whole or not at all. Taken means queued, not delivered.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, conn_id: &str, frame: &[u8]) -> Result<(), SendError> {
        send(&self.sender, conn_id, frame).await
    }

    /// Asks the relay to deliver `frame`, if there is one (`null` is none), and then to close the phone with `code`.
    /// No [`DaemonEvent::PhoneGone`] follows. Cancel-safe as [`send`](Self::send).
    ///
    /// A close frame can carry 1000 to 1003, 1007 to 1014 and 3000 to 4999 (RFC 6455 §7.4). With 1005 the phone gets one
    /// without a code, and with any other code none: behind `frame` the relay drops its connection.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn close_phone(
        &self,
        conn_id: &str,
        frame: Option<&[u8]>,
        code: u16,
    ) -> Result<(), SendError> {
        close_phone(&self.sender, conn_id, frame, code).await
    }
}

async fn send(sender: &Sender, conn_id: &str, frame: &[u8]) -> Result<(), SendError> {
    check_json(frame)?;
    if frame.trim_ascii() == NULL {
        let why = "a daemon's null means that there is no frame";
        return Err(SendError::NotJson(why.to_owned()));
    }
    let prefix = envelope::prefix(conn_id);
    sender
        .send([&prefix, frame, envelope::SUFFIX].concat())
        .await
}

async fn close_phone(
    sender: &Sender,
    conn_id: &str,
    frame: Option<&[u8]>,
    code: u16,
) -> Result<(), SendError> {
    if code == 0 {
        return Err(SendError::NoCloseCode);
    }
    // The real daemon's encoder always has a `frame` key.
    let frame = frame.unwrap_or(NULL);
    check_json(frame)?;
    let prefix = envelope::prefix(conn_id);
    let end = format!(r#","close_code":{code}}}"#);
    sender.send([&prefix, frame, end.as_bytes()].concat()).await
}

/// The relay's envelopes have the shape of a binary's: a notice is a close without a frame.
fn read_envelope(message: &[u8]) -> DaemonEvent {
    // Of a binary message nobody has checked it, and the parser does not look into strings.
    if let Err(error) = std::str::from_utf8(message) {
        let why = error.to_string();
        return DaemonEvent::Malformed { why };
    }
    match envelope::parse(message) {
        Ok(Directive::Frame { conn_id, frame }) => DaemonEvent::Frame {
            conn_id: conn_id.into_owned(),
            frame: frame.to_vec(),
        },
        Ok(Directive::Close { conn_id, code, .. }) => DaemonEvent::PhoneGone {
            conn_id: conn_id.into_owned(),
            code,
        },
        Ok(Directive::PushWake(_)) => DaemonEvent::Malformed {
            why: "a push wake is nothing a relay sends".to_owned(),
        },
        Err(error) => match null_from(message) {
            Some(conn_id) => DaemonEvent::Frame {
                conn_id,
                frame: NULL.to_vec(),
            },
            None => DaemonEvent::Malformed {
                why: error.to_string(),
            },
        },
    }
}

/// The phone whose frame is `null`, which [`envelope::parse`] takes for absent. In a relay's envelope the frame comes last.
fn null_from(message: &[u8]) -> Option<String> {
    let members = message.trim_ascii_end().strip_suffix(envelope::SUFFIX)?;
    let before_null = members.trim_ascii_end().strip_suffix(NULL)?;
    // With any other value in its place there is a frame, if the frame it was.
    let filled = [before_null, b"0", envelope::SUFFIX].concat();
    match envelope::parse(&filled) {
        Ok(Directive::Frame { conn_id, .. }) => Some(conn_id.into_owned()),
        _ => None,
    }
}

/// Settings of a [`DaemonLink`]; the defaults are the real daemon's, except [`after_drop`](Self::after_drop).
#[derive(Clone)]
#[must_use = "a builder does nothing until start()"]
pub struct DaemonBuilder {
    url: String,
    server_id: String,
    version: String,
    user_agent: Option<String>,
    instance: Option<String>,
    ladder: Ladder,
    after_drop: AfterDrop,
    conflict_limit: u32,
    ping: PingPolicy,
    options: Options,
    events: usize,
}

impl DaemonBuilder {
    /// `x-pyrycode-version`; default: this crate's.
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// `user-agent`; default `pyry/<version>`.
    pub fn user_agent(mut self, user_agent: &str) -> Self {
        self.user_agent = Some(user_agent.to_owned());
        self
    }

    /// `x-pyrycode-instance`: asks the relay to resume. Text of at most 256 bytes without control characters that stays
    /// the same for the life of this process and is hard to guess; it is a secret. If the connection breaks and the link is
    /// back within the relay's grace, the phones stay, and what they sent meanwhile is delivered. Only for
    /// a daemon that keeps its sessions over a reconnect.
    pub fn instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    /// The waits between dials.
    pub fn ladder(mut self, ladder: Ladder) -> Self {
        self.ladder = ladder;
        self
    }

    /// Default [`AfterDrop::Wait`]; the real daemon dials [`AfterDrop::AtOnce`].
    pub fn after_drop(mut self, after_drop: AfterDrop) -> Self {
        self.after_drop = after_drop;
        self
    }

    /// After how many 4409 in a row the link gives up; 0 means never. Default 8.
    pub fn conflict_limit(mut self, limit: u32) -> Self {
        self.conflict_limit = limit;
        self
    }

    /// The link's own pings.
    pub fn ping(mut self, ping: PingPolicy) -> Self {
        self.ping = ping;
        self
    }

    /// Timeouts, the message limit and TLS.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Events that may wait for the owner; at least 1, default 64.
    pub fn events(mut self, events: usize) -> Self {
        self.events = events;
        self
    }

    /// Starts dialling, in a task on the current Tokio runtime.
    ///
    /// # Errors
    /// See [`BuildError`]; that the relay can't be reached is an event, not an error.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(self) -> Result<DaemonLink, BuildError> {
        let user_agent = self
            .user_agent
            .unwrap_or_else(|| format!("pyry/{}", self.version));
        let mut names = vec![
            (headers::SERVER, self.server_id),
            (headers::VERSION, self.version),
            (headers::USER_AGENT, user_agent),
        ];
        names.extend(self.instance.map(|instance| (headers::INSTANCE, instance)));
        let reconnect = Reconnect::new(App::Daemon, self.ladder, self.after_drop);
        let setup = Setup {
            app: App::Daemon,
            endpoint: Endpoint::parse(&self.url)?.or_path(SERVER_PATH),
            headers: names,
            options: self.options,
            reconnect: reconnect.conflict_limit(self.conflict_limit),
            ping: self.ping,
            events: self.events,
        };
        Ok(DaemonLink {
            link: setup.start()?,
        })
    }
}
