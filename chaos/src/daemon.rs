//! A daemon, as a process of its own: it answers its phones, speaks by itself, and checks every frame and notice.

use crate::report::{Event, Order, Report, Spoken, orders, tell};
use relay_client::{AfterDrop, DaemonEvent, DaemonLink, PingPolicy};
use relay_sim::message::{Down, Session, Up};
use relay_sim::rng::Rng;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What a daemon is started with.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the relay is
    #[arg(long)]
    pub(crate) url: String,
    /// The server-id
    #[arg(long)]
    pub(crate) server: String,
    /// The number of this process
    #[arg(long)]
    pub(crate) process: u64,
    /// Names its process, and may resume
    #[arg(long)]
    pub(crate) resumable: bool,
    /// Between two frames of its own, on the average; 0: none
    #[arg(long, default_value_t = 700)]
    pub(crate) every_ms: u64,
    /// Between two pings
    #[arg(long, default_value_t = 30_000)]
    pub(crate) ping_ms: u64,
    /// For the pong; otherwise as long
    #[arg(long)]
    pub(crate) pong_ms: Option<u64>,
}

/// A session, as the daemon knows it.
struct Known {
    session: Session,
    /// The number of the next frame from the phone.
    next: u64,
    sent: u64,
    /// Of these, before the present connection.
    sent_before: u64,
    /// The connection on which it began.
    began: u64,
    /// Somebody said so.
    over: bool,
    /// The phone has a later one.
    superseded: bool,
}

struct Daemon {
    args: Args,
    link: DaemonLink,
    rng: Rng,
    connected: bool,
    connections: u64,
    frames: u64,
    sessions: BTreeMap<String, Known>,
    hush: bool,
}

/// Runs until it is told to end.
pub(crate) async fn run(args: Args) {
    let mut builder = DaemonLink::builder(&args.url, &args.server)
        .after_drop(AfterDrop::AtOnce)
        // A daemon that gave up would have to be started again.
        .conflict_limit(0)
        .ping(PingPolicy {
            every: Duration::from_millis(args.ping_ms),
            timeout: Duration::from_millis(args.pong_ms.unwrap_or(args.ping_ms)),
        });
    if args.resumable {
        builder = builder.instance(&format!("process-{}", args.process));
    }
    let link = match builder.start() {
        Ok(link) => link,
        Err(error) => return tell(&Event::Wrong(format!("cannot start: {error}"))),
    };
    let daemon = Daemon {
        link,
        rng: Rng::new(args.process),
        connected: false,
        connections: 0,
        frames: 0,
        sessions: BTreeMap::new(),
        hush: args.every_ms == 0,
        args,
    };
    daemon.run().await;
}

impl Daemon {
    async fn run(mut self) {
        let mut orders = orders();
        let mut next_send = Instant::now();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Flood { phone, frames, pad }) => self.flood(phone, frames, pad).await,
                    Some(Order::Hush) => self.hush = true,
                    Some(Order::Speak) => self.hush = false,
                    Some(Order::Report(number)) => tell(&Event::Report(number, self.report())),
                    Some(Order::Mark(_)) => tell(&Event::Wrong("a daemon has no mark".into())),
                    Some(Order::Quit) | None => return self.link.shutdown().await,
                },
                event = self.link.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
                () = sleep_until(next_send), if self.connected && !self.hush => {
                    let pause = self.rng.within(self.args.every_ms / 2..self.args.every_ms * 3 / 2);
                    next_send = Instant::now() + Duration::from_millis(pause);
                    let open: Vec<String> = self.open().map(|(conn_id, _)| conn_id.clone()).collect();
                    if let Some(conn_id) = self.rng.choose(&open).cloned() {
                        let pad = self.rng.time_ms(1..8_000).as_millis() as usize;
                        self.say(&conn_id, None, pad).await;
                    }
                }
            }
        }
    }

    /// Sessions that go on, as far as it knows.
    fn open(&self) -> impl Iterator<Item = (&String, &Known)> {
        self.sessions
            .iter()
            .filter(|(_, known)| !known.over && !known.superseded)
    }

    async fn flood(&mut self, phone: usize, frames: u64, pad: usize) {
        let conn_id = self.open().find(|(_, known)| known.session.0 == phone);
        // It may just be away.
        if let Some(conn_id) = conn_id.map(|(conn_id, _)| conn_id.clone()) {
            for _ in 0..frames {
                self.say(&conn_id, None, pad).await;
            }
        }
        tell(&Event::Flooded);
    }

    async fn say(&mut self, conn_id: &str, answers: Option<u64>, pad: usize) {
        let Some(known) = self.sessions.get_mut(conn_id) else {
            return;
        };
        let down = Down {
            session: known.session,
            process: self.args.process,
            number: known.sent,
            since: known.sent_before,
            answers,
            pad,
        };
        known.sent += 1;
        // Without a connection it is lost, as everything that was on its way.
        drop(self.link.send(conn_id, down.text().as_bytes()).await);
    }

    async fn take(&mut self, event: DaemonEvent) {
        match event {
            DaemonEvent::Connected { .. } => {
                self.connected = true;
                self.connections += 1;
                for known in self.sessions.values_mut() {
                    known.sent_before = known.sent;
                    known.over |= !self.args.resumable;
                }
                tell(&Event::Connected);
            }
            DaemonEvent::Frame { conn_id, frame } => match Up::read(&frame) {
                Some(up) => {
                    self.check(&conn_id, &up);
                    let pad = self.rng.time_ms(1..2_000).as_millis() as usize;
                    self.say(&conn_id, Some(up.number), pad).await;
                }
                None => tell(&Event::Wrong(format!(
                    "got what no phone sent: {}",
                    String::from_utf8_lossy(&frame[..frame.len().min(200)])
                ))),
            },
            DaemonEvent::PhoneGone { conn_id, code } => {
                // It may never have said anything.
                if let Some(known) = self.sessions.get_mut(&conn_id) {
                    let session = known.session;
                    if std::mem::replace(&mut known.over, true) {
                        tell(&Event::Wrong(format!("{session:?} ended twice")));
                    }
                    tell(&Event::Gone { session, code });
                }
            }
            DaemonEvent::Malformed { why } => tell(&Event::Wrong(format!("no envelope: {why}"))),
            DaemonEvent::Disconnected { code, reason, .. } => {
                self.connected = false;
                tell(&Event::Lost { code, reason });
            }
            DaemonEvent::DialFailed { error, .. } => tell(&Event::Failed {
                error: error.to_string(),
            }),
            DaemonEvent::Stopped { why } => tell(&Event::Stopped {
                why: format!("{why:?}"),
            }),
        }
    }

    fn check(&mut self, conn_id: &str, up: &Up) {
        let wrong = |what: String| tell(&Event::Wrong(what));
        let session = up.session;
        self.frames += 1;
        if !self.sessions.contains_key(conn_id) {
            if self.sessions.values().any(|known| known.session == session) {
                wrong(format!("{session:?} has a second conn_id"));
            }
            let known = Known {
                session,
                next: 0,
                sent: 0,
                sent_before: 0,
                began: self.connections,
                over: false,
                superseded: false,
            };
            let others = self.sessions.values_mut();
            let earlier = others.filter(|known| known.session.0 == session.0);
            earlier.for_each(|known| known.superseded = true);
            self.sessions.insert(conn_id.to_owned(), known);
            tell(&Event::Heard(session));
        }
        let Some(known) = self.sessions.get_mut(conn_id) else {
            return;
        };
        if known.session != session {
            wrong(format!(
                "the conn_id of {:?} sends frames of {session:?}",
                known.session
            ));
        }
        if known.next != up.number {
            wrong(format!(
                "{session:?}: got frame {} and expected {}",
                up.number, known.next
            ));
        }
        if known.over {
            wrong(format!("{session:?}: frame {} after its end", up.number));
        }
        if !self.args.resumable && known.began != self.connections {
            wrong(format!(
                "{session:?}: frame {} outlived its tenure",
                up.number
            ));
        }
        known.next = up.number + 1;
    }

    fn report(&self) -> Report {
        let sessions = self.sessions.values().map(|known| Spoken {
            session: known.session,
            sent: known.sent,
            next: known.next,
            is_open: !known.over,
        });
        Report {
            connected: self.connected,
            sessions: sessions.collect(),
            frames: self.frames,
            lost_down: 0,
        }
    }
}
