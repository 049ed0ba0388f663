//! A phone's link: mobile or desktop.

use std::time::Duration;

use relay_proto::headers;

use crate::backoff::{AfterDrop, Ladder, Reconnect};
use crate::endpoint::{CLIENT_PATH, Endpoint};
use crate::keepalive::PingPolicy;
use crate::link::{BuildError, Link, Raw, SendError, Sender, Setup, Stop, check_json};
use crate::policy::{App, Verdict};
use crate::socket::{ConnectError, Options};

/// What a phone learns from its link.
#[derive(Debug)]
pub enum PhoneEvent {
    /// The relay accepted the connection. That the daemon isn't there shows only now, as
    /// [`Verdict::DaemonAbsent`].
    Connected {
        /// Dials it took, counted from the end of the last connection; 1 is the first.
        attempt: u32,
    },
    /// The daemon sent a frame: one JSON value, as a relay sees to. Only [`App::Mobile`] checks it.
    Frame(Vec<u8>),
    /// The connection ended; the link dials again.
    Disconnected {
        /// The close code; `None` if there was no close frame, or one without a code.
        code: Option<u16>,
        /// The close reason, or what broke.
        reason: String,
        /// What the code means to the app.
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

/// A phone's link to its daemon, by way of a relay, kept up by a task in the background.
///
/// ```
/// use relay_client::{App, PhoneEvent, PhoneLink, Verdict, testing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let relay = testing::Router::start().await?; // in earnest: the URL of a relay
/// let mut phone = PhoneLink::builder(&relay.url(), "nobody-home").app(App::Desktop).start()?;
/// assert!(matches!(phone.recv().await, Some(PhoneEvent::Connected { attempt: 1 })));
/// // There is no such daemon: the app shows that, and the link tries again.
/// match phone.recv().await {
///     Some(PhoneEvent::Disconnected { code, verdict, .. }) => {
///         assert_eq!((code, verdict), (Some(4404), Verdict::DaemonAbsent));
///     }
///     other => panic!("{other:?}"),
/// }
/// phone.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// A reconnected phone has a new connection id at the daemon: start a fresh handshake on every
/// [`PhoneEvent::Connected`]. Back-pressure and ending are as with
/// [`DaemonLink`](crate::DaemonLink#back-pressure): an owner that takes no event may lose the connection after 20 s as
/// [`App::Mobile`], and after 30 s as [`App::Desktop`].
#[derive(Debug)]
pub struct PhoneLink {
    link: Link,
}

impl PhoneLink {
    /// A phone of the daemon `server_id`, of at most 256 bytes, at the relay `url`. A URL without a path means
    /// `/v1/client`; any other path is dialled as it is.
    pub fn builder(url: &str, server_id: &str) -> PhoneBuilder {
        PhoneBuilder {
            url: url.to_owned(),
            server_id: server_id.to_owned(),
            app: App::Mobile,
            token: None,
            device_name: None,
            user_agent: None,
            ladder: Ladder::default(),
            ping: None,
            options: None,
            events: 64,
        }
    }

    /// The next event; `None` after [`PhoneEvent::Stopped`]. Cancel-safe.
    pub async fn recv(&mut self) -> Option<PhoneEvent> {
        Some(match self.link.recv().await? {
            Raw::Connected { attempt, .. } => PhoneEvent::Connected { attempt },
            Raw::Message(bytes) => PhoneEvent::Frame(bytes),
            Raw::Disconnected {
                code,
                reason,
                verdict,
                next_retry_in,
            } => PhoneEvent::Disconnected {
                code,
                reason,
                verdict,
                next_retry_in,
            },
            Raw::DialFailed {
                error,
                next_retry_in,
            } => PhoneEvent::DialFailed {
                error,
                next_retry_in,
            },
            Raw::Stopped(why) => PhoneEvent::Stopped { why },
        })
    }

    /// Sends a frame to the daemon; see [`PhoneSender::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, frame: &[u8]) -> Result<(), SendError> {
        send(&self.link.sender, frame).await
    }

    /// A handle that sends on this link, for other tasks.
    #[must_use]
    pub fn sender(&self) -> PhoneSender {
        PhoneSender {
            sender: self.link.sender.clone(),
        }
    }

    /// Closes with 1000 behind all that was sent before, as long as something of it leaves; waits for
    /// the relay's half (at most [`Timeouts::close`](crate::Timeouts::close)), and ends the link.
    /// Events not yet taken are lost.
    pub async fn shutdown(self) {
        self.link.shutdown().await;
    }
}

/// Sends on a [`PhoneLink`] from any task; does not keep the link alive.
#[derive(Clone, Debug)]
pub struct PhoneSender {
    sender: Sender,
}

impl PhoneSender {
    /// Sends `frame`, one JSON value, to the daemon. Waits only while the link has plenty to write.
    /// Cancel-safe: a message is taken whole or not at all. Taken means queued, not delivered.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, frame: &[u8]) -> Result<(), SendError> {
        send(&self.sender, frame).await
    }
}

async fn send(sender: &Sender, frame: &[u8]) -> Result<(), SendError> {
    check_json(frame)?;
    sender.send(frame.to_vec()).await
}

/// Settings of a [`PhoneLink`]; the defaults are the mobile app's.
#[derive(Clone)]
#[must_use = "a builder does nothing until start()"]
pub struct PhoneBuilder {
    url: String,
    server_id: String,
    app: App,
    token: Option<String>,
    device_name: Option<String>,
    user_agent: Option<String>,
    ladder: Ladder,
    ping: Option<PingPolicy>,
    options: Option<Options>,
    events: usize,
}

impl PhoneBuilder {
    /// Which app to behave like: [`App::Mobile`] or [`App::Desktop`]. It decides what close codes
    /// mean, the pings, the timeouts and the message limit ([`Options::of`]) and what is refused (mobile:
    /// binary messages with 1003, text that is no JSON with 1002).
    pub fn app(mut self, app: App) -> Self {
        self.app = app;
        self
    }

    /// `x-pyrycode-token`. The reference relay demands one, without ever reading it. Left out by default.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// `x-pyrycode-device-name`; left out by default, and when blank.
    pub fn device_name(mut self, name: &str) -> Self {
        self.device_name = Some(name.to_owned()).filter(|name| !name.trim().is_empty());
        self
    }

    /// `user-agent`; default `relay-client/<version>`.
    pub fn user_agent(mut self, user_agent: &str) -> Self {
        self.user_agent = Some(user_agent.to_owned());
        self
    }

    /// The waits between dials.
    pub fn ladder(mut self, ladder: Ladder) -> Self {
        self.ladder = ladder;
        self
    }

    /// The link's own pings; default: the app's.
    pub fn ping(mut self, ping: PingPolicy) -> Self {
        self.ping = Some(ping);
        self
    }

    /// Timeouts, the message limit and TLS; default: the app's.
    pub fn options(mut self, options: Options) -> Self {
        self.options = Some(options);
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
    pub fn start(self) -> Result<PhoneLink, BuildError> {
        let own = concat!("relay-client/", env!("CARGO_PKG_VERSION"));
        let mut names = vec![
            (headers::SERVER, self.server_id),
            (
                headers::USER_AGENT,
                self.user_agent.unwrap_or_else(|| own.to_owned()),
            ),
        ];
        names.extend(self.token.map(|token| (headers::TOKEN, token)));
        names.extend(self.device_name.map(|name| (headers::DEVICE_NAME, name)));
        let ping = match self.app {
            App::Mobile => PingPolicy::MOBILE,
            App::Daemon | App::Desktop => PingPolicy::DAEMON,
        };
        let setup = Setup {
            app: self.app,
            endpoint: Endpoint::parse(&self.url)?.or_path(CLIENT_PATH),
            headers: names,
            options: self.options.unwrap_or_else(|| Options::of(self.app)),
            reconnect: Reconnect::new(self.app, self.ladder, AfterDrop::Wait),
            ping: self.ping.unwrap_or(ping),
            events: self.events,
        };
        Ok(PhoneLink {
            link: setup.start()?,
        })
    }
}
