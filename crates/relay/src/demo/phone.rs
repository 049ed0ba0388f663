//! A phone: a link, a Noise session on it, and what the play wants to see of both.

use std::time::Duration;

use relay_client::{App, PhoneEvent, PhoneLink};
use snow::Keypair;
use tokio::time::timeout;

use super::SERVER_ID;
use super::noise::{self, Handshake, Session};
use super::stage::{Stage, Who};

/// Anything that takes longer than this will not happen.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) struct Phone {
    pub(super) who: Who,
    link: PhoneLink,
    keys: Keypair,
    daemon_public: Vec<u8>,
    handshake: Option<Handshake>,
    session: Option<Session>,
    /// Connections it has had.
    pub(super) connections: u32,
}

/// How a phone's connection ended.
pub(super) type Ended = (Option<u16>, String);

impl Phone {
    pub(super) fn start(
        name: &'static str,
        app: App,
        url: &str,
        daemon_public: &[u8],
    ) -> Result<Self, String> {
        let link = PhoneLink::builder(url, SERVER_ID)
            .app(app)
            .device_name(name)
            .token("demo");
        Ok(Self {
            who: Who::Phone(name),
            link: link.start().map_err(|error| error.to_string())?,
            keys: noise::keys().map_err(|error| error.to_string())?,
            daemon_public: daemon_public.to_vec(),
            handshake: None,
            session: None,
            connections: 0,
        })
    }

    /// Connects and says `noise_init`, without waiting for the answer.
    pub(super) async fn hello(&mut self, stage: &Stage) -> Result<(), String> {
        match self.event(PATIENCE).await? {
            PhoneEvent::Connected { .. } => {}
            other => return Err(format!("{other:?}")),
        }
        self.connections += 1;
        let started = Handshake::start(&self.keys, &self.daemon_public);
        let (handshake, init) = started.map_err(|error| error.to_string())?;
        self.handshake = Some(handshake);
        self.session = None;
        stage.line(self.who, "connected, sends noise_init");
        self.link
            .send(&init)
            .await
            .map_err(|error| error.to_string())
    }

    /// Waits for the daemon's answer to [`hello`](Self::hello).
    pub(super) async fn answered(&mut self, stage: &Stage) -> Result<(), String> {
        let (kind, message) = self.frame().await?;
        let handshake = self.handshake.take().ok_or("no handshake under way")?;
        if kind != "noise_resp" {
            return Err(format!("{kind} instead of noise_resp"));
        }
        self.session = Some(
            handshake
                .finish(&message)
                .map_err(|error| error.to_string())?,
        );
        stage.line(self.who, "got noise_resp: encrypted end to end");
        Ok(())
    }

    /// Connects again after its connection ended.
    pub(super) async fn back(&mut self, stage: &Stage) -> Result<(), String> {
        self.hello(stage).await?;
        self.answered(stage).await
    }

    /// Says something to the daemon.
    pub(super) async fn say(&mut self, text: &str) -> Result<(), String> {
        let session = self.session.as_mut().ok_or("no session")?;
        let frame = session.seal(text).map_err(|error| error.to_string())?;
        self.link
            .send(&frame)
            .await
            .map_err(|error| error.to_string())
    }

    /// What the daemon says next.
    pub(super) async fn hear(&mut self) -> Result<String, String> {
        let (_, message) = self.frame().await?;
        let session = self.session.as_mut().ok_or("no session")?;
        session.open(&message).map_err(|error| error.to_string())
    }

    /// Waits for the end of its connection, and tells when it dials again.
    pub(super) async fn ended(&mut self, stage: &Stage) -> Result<Ended, String> {
        match self.event(PATIENCE).await? {
            PhoneEvent::Disconnected {
                code,
                reason,
                next_retry_in,
                ..
            } => {
                let shown = code.map_or("without a code".to_owned(), |code| code.to_string());
                let wait = next_retry_in.as_secs_f64();
                stage.line(
                    self.who,
                    &format!("closed {shown} {reason:?}, redials in {wait:.1} s"),
                );
                self.session = None;
                Ok((code, reason))
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Whether nothing at all happens to it for this long.
    pub(super) async fn undisturbed(&mut self, time: Duration) -> Result<(), String> {
        match timeout(time, self.link.recv()).await {
            Err(_) => Ok(()),
            Ok(event) => Err(format!("{event:?}")),
        }
    }

    async fn frame(&mut self) -> Result<(String, Vec<u8>), String> {
        match self.event(PATIENCE).await? {
            PhoneEvent::Frame(frame) => {
                noise::open_frame(&frame).map_err(|error| error.to_string())
            }
            other => Err(format!("{other:?}")),
        }
    }

    async fn event(&mut self, within: Duration) -> Result<PhoneEvent, String> {
        match timeout(within, self.link.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err("its link stopped".to_owned()),
            Err(_) => Err(format!("nothing came within {} s", within.as_secs())),
        }
    }
}
