//! A daemon's process: answers its phones, speaks by itself, and checks every frame and notice that comes.

use crate::backoff::ladder;
use crate::book::{Book, Conn, Daemon, End, How, Spoken};
use crate::message::{Down, Session, Up};
use crate::net::{Dials, Host, Net};
use crate::rng::Rng;
use crate::traffic::Traffic;
use relay_client::{AfterDrop, DaemonEvent, DaemonLink, Options, Stop};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a daemon is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take nothing that comes, for a while.
    Pause(Duration),
    /// Say a lot to one phone.
    Flood,
    /// Say nothing by itself any more.
    Hush,
    /// End without a Close; a new process starts after a while.
    Crash(Duration),
    /// Close; a new process starts after a while.
    Restart(Duration),
    /// Close, for good.
    End,
}

/// A process.
pub(crate) struct Actor {
    /// Its number.
    pub(crate) process: u64,
    /// The number of its server-id.
    pub(crate) server: usize,
    /// The server-id.
    pub(crate) server_id: String,
    /// It names its process.
    pub(crate) resumable: bool,
    /// It should not be there.
    pub(crate) rival: bool,
    /// Its machine.
    pub(crate) host: Host,
    /// The network.
    pub(crate) net: Net,
    /// Where it writes down what it knows.
    pub(crate) book: Book,
    /// Its chance.
    pub(crate) rng: Rng,
}

/// Why a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The next one starts after this time.
    Again(Duration),
    /// Another one holds the server-id.
    Conflict,
    /// For good.
    End,
}

/// Codes with which daemons end phones that may come back.
const DIRECTIVES: [u16; 4] = [1000, 4408, 4410, 4413];

impl Actor {
    fn name(&self) -> String {
        let kind = if self.rival { "rival" } else { "daemon" };
        format!("{kind} {}/{}", self.server, self.process)
    }

    fn note(&self, what: impl AsRef<str>) {
        self.book.history.note(&self.name(), what);
    }

    fn violation(&self, what: impl AsRef<str>) {
        self.book.history.violation(&self.name(), what);
    }

    fn with<T>(&self, change: impl FnOnce(&mut Daemon) -> T) -> T {
        let mut book = self.book.open();
        change(book.daemons.entry(self.process).or_default())
    }

    /// Runs until it ends.
    pub(crate) async fn run(mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Exit {
        self.with(|daemon| {
            daemon.server = self.server;
            daemon.resumable = self.resumable;
            daemon.rival = self.rival;
        });
        let dials = Dials::default();
        let options = Options {
            dialer: Some(self.net.dialer(self.host, dials.clone())),
            ..Options::default()
        };
        let after_drop = match self.rng.percent(70) {
            true => AfterDrop::AtOnce,
            false => AfterDrop::Wait,
        };
        let mut builder = DaemonLink::builder("ws://relay.test", &self.server_id)
            .options(options)
            .after_drop(after_drop)
            .ladder(ladder(&mut self.rng));
        if self.resumable {
            builder = builder.instance(&format!("process-{}", self.process));
        }
        let Ok(link) = builder.start() else {
            self.violation("cannot start");
            return Exit::End;
        };
        self.note(format!(
            "starts, {after_drop:?}{}",
            if self.resumable { ", resumable" } else { "" }
        ));
        let mut program = Program {
            traffic: Traffic::new(self.rng.fork()),
            rng: self.rng.fork(),
            paused_until: None,
            slow_until_ms: 0,
            next_send: Instant::now(),
            hush: false,
            dials,
            names: BTreeMap::new(),
            order: Vec::new(),
        };
        let exit = program.run(&self, link, orders).await;
        self.with(|daemon| daemon.ended = true);
        exit
    }

    fn ended(&self, how: How) {
        let at_ms = self.book.history.ms();
        self.with(|daemon| {
            let was_connected = std::mem::take(&mut daemon.connected);
            if let Some(conn) = daemon.conns.last_mut().filter(|_| was_connected) {
                conn.end = Some(End { at_ms, how });
            }
        });
    }
}

/// What a phone's frame calls for.
enum Reply {
    Answer(Session, u64),
    End(Session),
    Nothing,
}

fn prove(daemon: &mut Daemon, now_ms: u64) {
    if let Some(conn) = daemon.conns.last_mut() {
        conn.proven_ms.get_or_insert(now_ms);
    }
}

struct Program {
    traffic: Traffic,
    rng: Rng,
    paused_until: Option<Instant>,
    slow_until_ms: u64,
    next_send: Instant,
    hush: bool,
    dials: Dials,
    /// Sessions by conn_id. `None`: a phone that went before it said anything.
    names: BTreeMap<String, Option<Session>>,
    /// The conn_ids in the order of their sessions' beginning.
    order: Vec<(String, Session)>,
}

impl Program {
    async fn run(
        &mut self,
        me: &Actor,
        mut link: DaemonLink,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Exit {
        loop {
            let connected = me.with(|daemon| daemon.connected);
            let paused = self.paused_until;
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Pause(time)) => {
                        me.note(format!("takes nothing for {time:?}"));
                        self.paused_until = Some(Instant::now() + time);
                        me.with(|daemon| daemon.conns.iter_mut().last().map(|conn| conn.slow = true));
                    }
                    Some(Order::Flood) => self.flood(me, &link).await,
                    Some(Order::Hush) => self.hush = true,
                    Some(Order::Crash(away)) => {
                        me.note(format!("crashes; the next one in {away:?}"));
                        me.ended(How::Killed);
                        return Exit::Again(away);
                    }
                    Some(Order::Restart(away)) => {
                        me.note(format!("quits; the next one in {away:?}"));
                        me.ended(How::Quit);
                        link.shutdown().await;
                        return Exit::Again(away);
                    }
                    Some(Order::End) | None => {
                        me.note("quits for good");
                        me.ended(How::Quit);
                        link.shutdown().await;
                        return Exit::End;
                    }
                },
                event = link.recv(), if paused.is_none() => match event {
                    Some(DaemonEvent::Stopped { why: Stop::Conflict }) => {
                        let at_ms = me.book.history.ms();
                        me.note(format!("gives up after too many conflicts at {at_ms} ms"));
                        me.ended(How::Close(4409, "server-id already claimed".to_owned()));
                        return Exit::Conflict;
                    }
                    Some(event) => self.take(me, &link, event).await,
                    None => return Exit::Again(Duration::from_secs(1)),
                },
                () = sleep_until(paused.unwrap_or_else(Instant::now)), if paused.is_some() => {
                    self.paused_until = None;
                    self.slow_until_ms = me.book.history.ms();
                }
                () = sleep_until(self.next_send), if connected && !self.hush => {
                    self.next_send = Instant::now() + self.traffic.pause();
                    self.speak(me, &link).await;
                }
            }
        }
    }

    /// One of its sessions that goes on.
    fn choose(&mut self, me: &Actor) -> Option<(String, Session)> {
        me.with(|daemon| {
            let open = |session: &Session| {
                let spoken = &daemon.sessions[session];
                spoken.directed.is_none() && spoken.notice.is_none()
            };
            self.order.retain(|(_, session)| open(session));
        });
        self.rng.choose(&self.order).cloned()
    }

    /// Eight megabytes: twice what a phone's outbox holds.
    async fn flood(&mut self, me: &Actor, link: &DaemonLink) {
        let Some((conn_id, session)) = self.choose(me) else {
            return;
        };
        me.note(format!("floods {session:?}"));
        // Meanwhile it takes nothing.
        me.with(|daemon| daemon.conns.iter_mut().last().map(|conn| conn.slow = true));
        for _ in 0..100 {
            self.say(me, link, &conn_id, session, None, 80_000).await;
        }
        self.slow_until_ms = me.book.history.ms();
    }

    /// Something of the daemon's own for one of its phones, or its end.
    async fn speak(&mut self, me: &Actor, link: &DaemonLink) {
        let Some((conn_id, session)) = self.choose(me) else {
            return;
        };
        if !me.book.open().calm && self.rng.percent(4) {
            return self.direct(me, link, &conn_id, session).await;
        }
        for pad in self.traffic.frames() {
            self.say(me, link, &conn_id, session, None, pad).await;
        }
    }

    async fn direct(&mut self, me: &Actor, link: &DaemonLink, conn_id: &str, session: Session) {
        let code = *self.rng.pick(&DIRECTIVES);
        me.note(format!("ends {session:?} with {code}"));
        let frame = self
            .rng
            .percent(50)
            .then(|| self.down(me, session, None, 40).text());
        me.book.open().directives.insert((session, code));
        me.with(|daemon| {
            let connection = daemon.conns.len() as u64;
            if let Some(spoken) = daemon.sessions.get_mut(&session) {
                spoken.directed = Some(code);
                spoken.directed_on = connection;
            }
        });
        let frame = frame.as_ref().map(String::as_bytes);
        let _ = link.close_phone(conn_id, frame, code).await;
    }

    fn down(&self, me: &Actor, session: Session, answers: Option<u64>, pad: usize) -> Down {
        me.with(|daemon| {
            let spoken = daemon.sessions.entry(session).or_default();
            let number = spoken.sent;
            spoken.sent += 1;
            Down {
                session,
                process: me.process,
                number,
                since: spoken.sent_before,
                answers,
                pad,
            }
        })
    }

    async fn say(
        &self,
        me: &Actor,
        link: &DaemonLink,
        conn_id: &str,
        session: Session,
        answers: Option<u64>,
        pad: usize,
    ) {
        let down = self.down(me, session, answers, pad);
        let _ = link.send(conn_id, down.text().as_bytes()).await;
    }

    async fn take(&mut self, me: &Actor, link: &DaemonLink, event: DaemonEvent) {
        match event {
            DaemonEvent::Connected { attempt } => {
                let conn = Conn::of(self.dials.next(), self.slow_until_ms);
                me.note(format!(
                    "connected on #{}, dial {attempt}",
                    conn.dialled.number
                ));
                me.with(|daemon| {
                    daemon.connected = true;
                    daemon.conns.push(conn);
                    for spoken in daemon.sessions.values_mut() {
                        spoken.sent_before = spoken.sent;
                    }
                });
                if !me.resumable {
                    // Phones of the connection before are gone: the relay turned them away.
                    self.order.clear();
                }
                self.next_send = Instant::now() + self.traffic.pause();
            }
            DaemonEvent::Frame { conn_id, frame } => match self.frame(me, &conn_id, &frame) {
                Reply::Answer(session, number) => {
                    let pad = self.traffic.answer();
                    self.say(me, link, &conn_id, session, Some(number), pad)
                        .await;
                }
                Reply::End(session) => self.direct(me, link, &conn_id, session).await,
                Reply::Nothing => {}
            },
            DaemonEvent::PhoneGone { conn_id, code } => self.gone(me, &conn_id, code),
            DaemonEvent::Malformed { why } => me.violation(format!("got no envelope: {why}")),
            DaemonEvent::Disconnected {
                code,
                reason,
                next_retry_in,
                ..
            } => {
                me.note(format!(
                    "lost: {code:?} {reason}; again in {next_retry_in:?}"
                ));
                me.ended(match code {
                    Some(code) => How::Close(code, reason),
                    None => How::Broken(reason),
                });
            }
            DaemonEvent::DialFailed {
                error,
                next_retry_in,
            } => {
                me.note(format!(
                    "no connection: {error}; again in {next_retry_in:?}"
                ));
                crate::check::refusal(&me.book, &me.name(), &self.dials.next(), &error, true);
            }
            DaemonEvent::Stopped { why } => me.violation(format!("stopped for good: {why:?}")),
        }
    }

    /// Checks a phone's frame.
    fn frame(&mut self, me: &Actor, conn_id: &str, frame: &[u8]) -> Reply {
        let Some(up) = Up::read(frame) else {
            me.violation("got what no phone sent");
            return Reply::Nothing;
        };
        let (session, number) = (up.session, up.number);
        let mut wrong: Vec<String> = Vec::new();
        let now_ms = me.book.history.ms();
        let mut book = me.book.open();
        if book
            .phones
            .get(session.0)
            .is_none_or(|phone| phone.server != me.server)
        {
            wrong.push(format!("{session:?} is another server-id's"));
        }
        let first = *book.heard.entry(session).or_insert(me.process);
        if first != me.process {
            wrong.push(format!("{session:?} was heard by process {first} already"));
        }
        let daemon = book.daemons.entry(me.process).or_default();
        let connection = daemon.conns.len() as u64;
        prove(daemon, now_ms);
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
        if !me.resumable && spoken.began != connection {
            wrong.push(format!("{session:?}: frame {number} outlived its tenure"));
        }
        spoken.next = number + 1;
        let ended = spoken.directed.is_some();
        // What it said of the end was on its way when a connection broke: it says so again.
        let again = ended && spoken.directed_on != connection;
        drop(book);
        wrong.into_iter().for_each(|what| me.violation(what));
        match (ended, again) {
            (false, _) => Reply::Answer(session, number),
            (true, true) => Reply::End(session),
            (true, false) => Reply::Nothing,
        }
    }

    fn gone(&mut self, me: &Actor, conn_id: &str, code: u16) {
        let known = self.names.entry(conn_id.to_owned()).or_insert(None);
        let Some(session) = *known else {
            return me.note(format!(
                "hears that a phone it never heard of ended with {code}"
            ));
        };
        me.note(format!("hears that {session:?} ended with {code}"));
        let now_ms = me.book.history.ms();
        let before = me.with(|daemon| {
            prove(daemon, now_ms);
            daemon
                .sessions
                .get_mut(&session)
                .and_then(|spoken| spoken.notice.replace(code))
        });
        if let Some(before) = before {
            me.violation(format!("{session:?} ended twice: {before}, then {code}"));
        }
    }
}
