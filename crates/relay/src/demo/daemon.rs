//! A daemon in a thread of its own, so that it can be killed or get stuck like a process.

use std::collections::HashMap;
use std::sync::mpsc as blocking;
use std::thread;

use relay_client::{DaemonEvent, DaemonLink, Ladder};
use tokio::sync::mpsc;

use super::SERVER_ID;
use super::noise::{self, NoiseError, Session};

/// What a daemon tells the play.
#[derive(Debug)]
pub(super) enum News {
    /// The relay answered its claim with 101.
    Connected,
    /// A phone said this; `frame` is what the relay carried.
    Heard {
        conn_id: String,
        frame: Vec<u8>,
        text: String,
    },
    /// Its connection ended.
    Disconnected { code: Option<u16>, reason: String },
    /// It can't go on.
    Failed(String),
}

/// What the play tells a daemon.
enum Order {
    /// Say this to a phone, unasked.
    Say { conn_id: String, text: String },
    /// Stand still, as a stopped process does, until the sender is dropped.
    Hang(blocking::Receiver<()>),
}

/// A running daemon. Dropping it kills it: no close frame, just the end of its connections.
pub(super) struct Daemon {
    orders: mpsc::UnboundedSender<Order>,
    news: mpsc::UnboundedReceiver<News>,
}

impl Daemon {
    /// Starts one. `private` is its Noise key, which outlives it.
    pub(super) fn start(url: &str, private: &[u8]) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (outbox, news) = mpsc::unbounded_channel();
        let (url, private) = (url.to_owned(), private.to_vec());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("demo-daemon".into())
            .spawn(move || {
                let life = Life {
                    private,
                    sessions: HashMap::new(),
                    news: outbox,
                };
                if let Err(failed) = runtime.block_on(life.live(&url, inbox)) {
                    // Whoever killed this daemon doesn't listen any more.
                    let _ = failed.0.send(News::Failed(failed.1));
                }
            })?;
        Ok(Self { orders, news })
    }

    /// What it tells next; `None` when it is gone.
    pub(super) async fn news(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// Says something to a phone.
    pub(super) fn say(&self, conn_id: &str, text: &str) {
        let order = Order::Say {
            conn_id: conn_id.to_owned(),
            text: text.to_owned(),
        };
        // A daemon that is gone shows in its news.
        let _ = self.orders.send(order);
    }

    /// Gets stuck until the result is dropped: it neither reads nor answers, and its sockets stay open.
    pub(super) fn hang(&self) -> blocking::Sender<()> {
        let (release, held) = blocking::channel();
        let _ = self.orders.send(Order::Hang(held));
        release
    }
}

/// The daemon's own state; gone with the thread.
struct Life {
    private: Vec<u8>,
    sessions: HashMap<String, Session>,
    news: mpsc::UnboundedSender<News>,
}

type Failed = (mpsc::UnboundedSender<News>, String);

impl Life {
    async fn live(
        mut self,
        url: &str,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) -> Result<(), Failed> {
        let link = DaemonLink::builder(url, SERVER_ID)
            .ladder(Ladder::default())
            .start();
        let mut link = link.map_err(|error| (self.news.clone(), error.to_string()))?;
        loop {
            let done = tokio::select! {
                order = orders.recv() => match order {
                    None => return Ok(()),
                    Some(Order::Hang(held)) => {
                        // Blocks the whole runtime of this thread, on purpose.
                        let _ = held.recv();
                        Ok(())
                    }
                    Some(Order::Say { conn_id, text }) => self.say(&link, &conn_id, &text).await,
                },
                event = link.recv() => self.take(&link, event).await,
            };
            done.map_err(|error| (self.news.clone(), error))?;
        }
    }

    async fn take(&mut self, link: &DaemonLink, event: Option<DaemonEvent>) -> Result<(), String> {
        match event {
            Some(DaemonEvent::Connected { .. }) => self.tell(News::Connected),
            Some(DaemonEvent::Frame { conn_id, frame }) => {
                let heard = self.frame(link, &conn_id, &frame).await;
                heard.map_err(|error| format!("a frame it can't read: {error}"))?;
            }
            Some(DaemonEvent::PhoneGone { conn_id, .. }) => drop(self.sessions.remove(&conn_id)),
            Some(DaemonEvent::Disconnected { code, reason, .. }) => {
                self.tell(News::Disconnected { code, reason });
            }
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }

    /// Answers a handshake, and every word with an echo.
    async fn frame(
        &mut self,
        link: &DaemonLink,
        conn_id: &str,
        frame: &[u8],
    ) -> Result<(), NoiseError> {
        let (kind, message) = noise::open_frame(frame)?;
        let answer = if kind == "noise_init" {
            let (session, answer) = noise::respond(&self.private, &message)?;
            self.sessions.insert(conn_id.to_owned(), session);
            answer
        } else {
            let session = self.sessions.get_mut(conn_id).ok_or(NoiseError::Frame)?;
            let text = session.open(&message)?;
            let answer = session.seal(&format!("echo: {text}"))?;
            let frame = frame.to_vec();
            self.tell(News::Heard {
                conn_id: conn_id.to_owned(),
                frame,
                text,
            });
            answer
        };
        // A link that is down meanwhile tells so as its next event.
        let _ = link.send(conn_id, &answer).await;
        Ok(())
    }

    async fn say(&mut self, link: &DaemonLink, conn_id: &str, text: &str) -> Result<(), String> {
        let session = self.sessions.get_mut(conn_id).ok_or("no such phone")?;
        let frame = session.seal(text).map_err(|error| error.to_string())?;
        link.send(conn_id, &frame)
            .await
            .map_err(|error| error.to_string())
    }

    fn tell(&self, news: News) {
        // Nobody listens once the play has killed this daemon.
        let _ = self.news.send(news);
    }
}
