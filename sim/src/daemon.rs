//! A daemon's process: answers its phones, speaks by itself, and checks every frame and notice that comes.

use crate::actor::{Actor, Exit, Home, Next, Order, Who};
use crate::backoff::ladder;
use crate::book::{Daemon, How, Spoken};
use crate::message::{Down, Session, Up};
use crate::net::Dials;
use crate::rng::Rng;
use crate::traffic::Traffic;
use relay_client::{AfterDrop, App, DaemonEvent, DaemonLink, Stop};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// A process.
pub(crate) struct Process {
    /// Its number.
    pub(crate) number: u64,
    /// The number of its server-id.
    pub(crate) server: usize,
    /// It names its process.
    pub(crate) resumable: bool,
    /// It should not be there.
    pub(crate) rival: bool,
    /// Where it runs.
    pub(crate) home: Home,
}

/// Codes with which daemons end phones that may come back.
const DIRECTIVES: [u16; 4] = [1000, 4408, 4410, 4413];

impl Process {
    /// Runs until it ends.
    pub(crate) async fn run(mut self, orders: &mut UnboundedReceiver<Order>) -> Exit {
        let book = self.home.book.clone();
        {
            let mut book = book.open();
            let daemon = book.daemons.entry(self.number).or_default();
            daemon.server = self.server;
            daemon.resumable = self.resumable;
            daemon.rival = self.rival;
        }
        let kind = if self.rival { "rival" } else { "daemon" };
        let name = format!("{kind} {}/{}", self.server, self.number);
        let dials = Dials::default();
        let after_drop = match self.home.rng.percent(70) {
            true => AfterDrop::AtOnce,
            false => AfterDrop::Wait,
        };
        let mut builder = DaemonLink::builder("ws://relay.test", &self.home.server_id)
            .options(self.home.options(App::Daemon, &dials))
            .after_drop(after_drop)
            .ladder(ladder(&mut self.home.rng));
        if self.resumable {
            builder = builder.instance(&format!("process-{}", self.number));
        }
        let Ok(link) = builder.start() else {
            book.history.violation(&name, "cannot start");
            return Exit::End;
        };
        let traffic = Traffic::new(self.home.rng.fork());
        let me = Actor::new(Who::Daemon(self.number), name, book.clone(), dials, traffic);
        me.note(format!(
            "starts, {after_drop:?}{}",
            if self.resumable { ", resumable" } else { "" }
        ));
        let program = Program {
            me,
            link,
            process: self.number,
            server: self.server,
            resumable: self.resumable,
            rng: self.home.rng.fork(),
            names: BTreeMap::new(),
            order: Vec::new(),
        };
        let exit = program.run(orders).await;
        let mut book = book.open();
        book.daemons.entry(self.number).or_default().ended = true;
        exit
    }
}

/// What a phone's frame calls for.
enum Reply {
    Answer(Session, u64),
    End(Session),
    Nothing,
}

struct Program {
    me: Actor,
    link: DaemonLink,
    process: u64,
    server: usize,
    resumable: bool,
    rng: Rng,
    /// Sessions by conn_id. `None`: a phone that went before it said anything.
    names: BTreeMap<String, Option<Session>>,
    /// The conn_ids in the order of their sessions' beginning.
    order: Vec<(String, Session)>,
}

impl Program {
    fn with<T>(&self, change: impl FnOnce(&mut Daemon) -> T) -> T {
        let mut book = self.me.book.open();
        change(book.daemons.entry(self.process).or_default())
    }

    async fn run(mut self, orders: &mut UnboundedReceiver<Order>) -> Exit {
        loop {
            match self.me.next(orders, self.link.recv()).await {
                Next::Flood => self.flood().await,
                Next::Speak => self.speak().await,
                Next::Leave { closes, exit } => {
                    if closes {
                        self.link.shutdown().await;
                    }
                    return exit;
                }
                Next::Event(None) => return Exit::Again(Duration::from_secs(1)),
                Next::Event(Some(DaemonEvent::Stopped {
                    why: Stop::Conflict,
                })) => {
                    let at_ms = self.me.book.history.ms();
                    let text = format!("gives up after too many conflicts at {at_ms} ms");
                    self.me.note(text);
                    let reason = "server-id already claimed".to_owned();
                    self.me.ended(How::Close(4409, reason));
                    return Exit::Conflict;
                }
                Next::Event(Some(event)) => self.take(event).await,
            }
        }
    }

    /// One of its sessions that goes on.
    fn choose(&mut self) -> Option<(String, Session)> {
        let mut book = self.me.book.open();
        let daemon = book.daemons.entry(self.process).or_default();
        let open = |session: &Session| {
            let spoken = &daemon.sessions[session];
            spoken.directed.is_none() && spoken.notice.is_none()
        };
        self.order.retain(|(_, session)| open(session));
        self.rng.choose(&self.order).cloned()
    }

    /// Eight megabytes: twice what a phone's outbox holds.
    async fn flood(&mut self) {
        let Some((conn_id, session)) = self.choose() else {
            return;
        };
        self.me.note(format!("floods {session:?}"));
        // Meanwhile it takes nothing.
        self.me.falls_behind();
        for _ in 0..100 {
            self.say(&conn_id, session, None, 80_000).await;
        }
        self.me.caught_up();
    }

    /// Something of the daemon's own for one of its phones, or its end.
    async fn speak(&mut self) {
        let Some((conn_id, session)) = self.choose() else {
            return;
        };
        let calm = self.me.book.open().calm;
        if !calm && self.rng.percent(4) {
            return self.direct(&conn_id, session).await;
        }
        for pad in self.me.traffic.frames() {
            self.say(&conn_id, session, None, pad).await;
        }
    }

    async fn direct(&mut self, conn_id: &str, session: Session) {
        let code = *self.rng.pick(&DIRECTIVES);
        self.me.note(format!("ends {session:?} with {code}"));
        let frame = self
            .rng
            .percent(50)
            .then(|| self.down(session, None, 40).text());
        self.me.book.open().directives.insert((session, code));
        self.with(|daemon| {
            let connection = daemon.conns.number();
            if let Some(spoken) = daemon.sessions.get_mut(&session) {
                spoken.directed = Some(code);
                spoken.directed_on = connection;
            }
        });
        let frame = frame.as_ref().map(String::as_bytes);
        let _ = self.link.close_phone(conn_id, frame, code).await;
    }

    fn down(&self, session: Session, answers: Option<u64>, pad: usize) -> Down {
        self.with(|daemon| {
            let spoken = daemon.sessions.entry(session).or_default();
            let number = spoken.sent;
            spoken.sent += 1;
            Down {
                session,
                process: self.process,
                number,
                since: spoken.sent_before,
                answers,
                pad,
            }
        })
    }

    async fn say(&self, conn_id: &str, session: Session, answers: Option<u64>, pad: usize) {
        let down = self.down(session, answers, pad);
        let _ = self.link.send(conn_id, down.text().as_bytes()).await;
    }

    async fn take(&mut self, event: DaemonEvent) {
        match event {
            DaemonEvent::Connected { attempt } => {
                let number = self.me.connected();
                self.me
                    .note(format!("connected on #{number}, dial {attempt}"));
                self.with(|daemon| {
                    for spoken in daemon.sessions.values_mut() {
                        spoken.sent_before = spoken.sent;
                    }
                });
                if !self.resumable {
                    // Phones of the connection before are gone: the relay turned them away.
                    self.order.clear();
                }
                self.me.speak_later();
            }
            DaemonEvent::Frame { conn_id, frame } => match self.frame(&conn_id, &frame) {
                Reply::Answer(session, number) => {
                    let pad = self.me.traffic.answer();
                    self.say(&conn_id, session, Some(number), pad).await;
                }
                Reply::End(session) => self.direct(&conn_id, session).await,
                Reply::Nothing => {}
            },
            DaemonEvent::PhoneGone { conn_id, code } => self.gone(&conn_id, code),
            DaemonEvent::Malformed { why } => {
                self.me.violation(format!("got no envelope: {why}"));
            }
            DaemonEvent::Disconnected {
                code,
                reason,
                next_retry_in,
                ..
            } => self.me.lost(code, reason, next_retry_in),
            DaemonEvent::DialFailed {
                error,
                next_retry_in,
            } => self.me.dial_failed(&error, next_retry_in),
            DaemonEvent::Stopped { why } => self.me.stopped(why),
        }
    }

    /// Checks a phone's frame.
    fn frame(&mut self, conn_id: &str, frame: &[u8]) -> Reply {
        let Some(up) = Up::read(frame) else {
            self.me.violation("got what no phone sent");
            return Reply::Nothing;
        };
        let (session, number) = (up.session, up.number);
        let mut wrong: Vec<String> = Vec::new();
        let now_ms = self.me.book.history.ms();
        let mut book = self.me.book.open();
        if book
            .phones
            .get(session.0)
            .is_none_or(|phone| phone.server != self.server)
        {
            wrong.push(format!("{session:?} is another server-id's"));
        }
        let first = *book.heard.entry(session).or_insert(self.process);
        if first != self.process {
            wrong.push(format!("{session:?} was heard by process {first} already"));
        }
        let daemon = book.daemons.entry(self.process).or_default();
        let connection = daemon.conns.number();
        daemon.conns.prove(now_ms);
        match self.names.get(conn_id) {
            None => {
                if daemon.sessions.contains_key(&session) {
                    wrong.push(format!("{session:?} has a second conn_id"));
                }
                self.names.insert(conn_id.to_owned(), Some(session));
                self.order.push((conn_id.to_owned(), session));
                let began = connection;
                daemon.sessions.insert(
                    session,
                    Spoken {
                        began,
                        ..Spoken::default()
                    },
                );
            }
            Some(known) if *known != Some(session) => {
                wrong.push(format!(
                    "the conn_id of {known:?} sends frames of {session:?}"
                ));
            }
            Some(_) => {}
        }
        let spoken = daemon.sessions.entry(session).or_default();
        if spoken.next != number {
            wrong.push(format!(
                "{session:?}: got frame {number} and expected {}",
                spoken.next
            ));
        }
        if spoken.notice.is_some() {
            wrong.push(format!(
                "{session:?}: frame {number} after the notice of its end"
            ));
        }
        if !self.resumable && spoken.began != connection {
            wrong.push(format!("{session:?}: frame {number} outlived its tenure"));
        }
        spoken.next = number + 1;
        let ended = spoken.directed.is_some();
        // What it said of the end was on its way when a connection broke: it says so again.
        let again = ended && spoken.directed_on != connection;
        drop(book);
        wrong.into_iter().for_each(|what| self.me.violation(what));
        match (ended, again) {
            (false, _) => Reply::Answer(session, number),
            (true, true) => Reply::End(session),
            (true, false) => Reply::Nothing,
        }
    }

    fn gone(&mut self, conn_id: &str, code: u16) {
        let known = self.names.entry(conn_id.to_owned()).or_insert(None);
        let Some(session) = *known else {
            return self.me.note(format!(
                "hears that a phone it never heard of ended with {code}"
            ));
        };
        self.me
            .note(format!("hears that {session:?} ended with {code}"));
        let now_ms = self.me.book.history.ms();
        let before = self.with(|daemon| {
            daemon.conns.prove(now_ms);
            let spoken = daemon.sessions.get_mut(&session)?;
            spoken.noticed_on = daemon.conns.number();
            spoken.notice.replace(code)
        });
        if let Some(before) = before {
            self.me
                .violation(format!("{session:?} ended twice: {before}, then {code}"));
        }
    }
}
