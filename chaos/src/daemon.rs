//! A daemon, as a process of its own: it answers its phones, speaks by itself, and checks every frame and notice.

use crate::actor::{self, Actor, Next, wrong};
use crate::report::{Event, Order, Report, Spoken, tell};
use relay_client::{AfterDrop, DaemonEvent, DaemonLink, PingPolicy};
use relay_sim::message::{Down, Session, Up};
use std::collections::BTreeMap;
use std::time::Duration;

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
    actor: Actor,
    connections: u64,
    frames: u64,
    sessions: BTreeMap<String, Known>,
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
        Err(error) => return wrong(format!("cannot start: {error}")),
    };
    let daemon = Daemon {
        link,
        actor: Actor::new(args.process, args.every_ms),
        connections: 0,
        frames: 0,
        sessions: BTreeMap::new(),
        args,
    };
    daemon.run().await;
}

impl Daemon {
    async fn run(mut self) {
        loop {
            match self.actor.next(self.link.recv()).await {
                Next::Event(Some(event)) => self.take(event).await,
                Next::Event(None) => return,
                Next::Speak => self.speak().await,
                Next::Order(Order::Flood { phone, frames, pad }) => {
                    self.flood(phone, frames, pad).await;
                }
                Next::Order(order) => wrong(format!("no order for a daemon: {order:?}")),
                Next::Report(number) => tell(&Event::Report(number, self.report())),
                Next::Quit => return self.link.shutdown().await,
            }
        }
    }

    async fn speak(&mut self) {
        let open: Vec<String> = self.open().map(|(conn_id, _)| conn_id.clone()).collect();
        if let Some(conn_id) = self.actor.choose(&open) {
            let pad = self.actor.pad(8_000);
            self.say(conn_id, None, pad).await;
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
                self.connections += 1;
                for known in self.sessions.values_mut() {
                    known.sent_before = known.sent;
                    known.over |= !self.args.resumable;
                }
                self.actor.connected();
            }
            DaemonEvent::Frame { conn_id, frame } => match Up::read(&frame) {
                Some(up) => {
                    self.check(&conn_id, &up);
                    let pad = self.actor.pad(2_000);
                    self.say(&conn_id, Some(up.number), pad).await;
                }
                None => actor::not_understood(&frame),
            },
            DaemonEvent::PhoneGone { conn_id, code } => {
                // It may never have said anything.
                if let Some(known) = self.sessions.get_mut(&conn_id) {
                    let session = known.session;
                    if std::mem::replace(&mut known.over, true) {
                        wrong(format!("{session:?} ended twice"));
                    }
                    tell(&Event::Gone { session, code });
                }
            }
            DaemonEvent::Malformed { why } => wrong(format!("no envelope: {why}")),
            DaemonEvent::Disconnected { code, reason, .. } => self.actor.lost(code, reason),
            DaemonEvent::DialFailed { error, .. } => actor::dial_failed(&error),
            DaemonEvent::Stopped { why } => actor::stopped(why),
        }
    }

    fn check(&mut self, conn_id: &str, up: &Up) {
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
            connected: self.actor.connected,
            sessions: sessions.collect(),
            frames: self.frames,
            lost_down: 0,
        }
    }
}
