//! A phone: a fresh session on every connection, numbered frames, and a check of every frame that comes.

use crate::backoff::ladder;
use crate::book::{Book, Conn, End, How, Phone};
use crate::message::{Down, Up};
use crate::net::{Dials, Host, Net};
use crate::rng::Rng;
use crate::traffic::Traffic;
use relay_client::{App, Options, PhoneEvent, PhoneLink};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a phone is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take nothing that comes, for a while.
    Pause(Duration),
    /// Say nothing more.
    Hush,
    /// Close, stay away for a while, and come back.
    Quit(Duration),
    /// As [`Self::Quit`], without a Close.
    Crash(Duration),
    /// Close, for good.
    End,
}

/// What a phone is made of.
pub(crate) struct Actor {
    /// Its number.
    pub(crate) number: usize,
    /// The server-id it dials.
    pub(crate) server_id: String,
    /// Its machine.
    pub(crate) host: Host,
    /// The network.
    pub(crate) net: Net,
    /// Where it writes down what it knows.
    pub(crate) book: Book,
    /// Its chance.
    pub(crate) rng: Rng,
}

/// Why a phone's program ended, and for how long.
enum Exit {
    Quit(Duration),
    Crash(Duration),
    End,
}

impl Actor {
    fn name(&self) -> String {
        format!("phone {}", self.number)
    }

    fn note(&self, what: impl AsRef<str>) {
        self.book.history.note(&self.name(), what);
    }

    fn violation(&self, what: impl AsRef<str>) {
        self.book.history.violation(&self.name(), what);
    }

    fn with<T>(&self, change: impl FnOnce(&mut Phone) -> T) -> T {
        change(&mut self.book.open().phones[self.number])
    }

    /// Runs until it is told to end.
    pub(crate) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let dials = Dials::default();
            let app = *self.rng.pick(&[App::Mobile, App::Desktop]);
            let options = Options {
                message_bytes: if app == App::Mobile { 131_072 } else { 1 << 20 },
                dialer: Some(self.net.dialer(self.host, dials.clone())),
                ..Options::default()
            };
            let builder = PhoneLink::builder("ws://relay.test", &self.server_id);
            let builder = builder
                .app(app)
                .options(options)
                .ladder(ladder(&mut self.rng));
            let Ok(link) = builder.start() else {
                return self.violation("cannot start");
            };
            let mut program = Program {
                traffic: Traffic::new(self.rng.fork()),
                paused_until: None,
                slow_until_ms: 0,
                next_send: Instant::now(),
                hush: false,
                dials,
                process: None,
            };
            let exit = program.run(&self, link, &mut orders).await;
            let away = match exit {
                Exit::Quit(away) | Exit::Crash(away) => away,
                Exit::End => return,
            };
            tokio::time::sleep(away).await;
        }
    }

    fn ended(&self, how: How) {
        let at_ms = self.book.history.ms();
        self.with(|phone| {
            let was_connected = std::mem::take(&mut phone.connected);
            if let Some(conn) = phone.conns.last_mut().filter(|_| was_connected) {
                conn.end = Some(End { at_ms, how });
            }
        });
    }
}

/// One start of the app.
struct Program {
    traffic: Traffic,
    paused_until: Option<Instant>,
    slow_until_ms: u64,
    next_send: Instant,
    hush: bool,
    dials: Dials,
    /// The daemon's process that speaks in this session.
    process: Option<u64>,
}

impl Program {
    async fn run(
        &mut self,
        me: &Actor,
        mut link: PhoneLink,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Exit {
        loop {
            let connected = me.with(|phone| phone.connected);
            let paused = self.paused_until;
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Pause(time)) => {
                        me.note(format!("takes nothing for {time:?}"));
                        self.paused_until = Some(Instant::now() + time);
                        me.with(|phone| phone.conns.iter_mut().last().map(|conn| conn.slow = true));
                    }
                    Some(Order::Hush) => self.hush = true,
                    Some(Order::Quit(away)) => {
                        me.note(format!("quits for {away:?}"));
                        me.ended(How::Quit);
                        link.shutdown().await;
                        return Exit::Quit(away);
                    }
                    Some(Order::Crash(away)) => {
                        me.note(format!("crashes for {away:?}"));
                        me.ended(How::Killed);
                        return Exit::Crash(away);
                    }
                    Some(Order::End) | None => {
                        me.note("quits for good");
                        me.ended(How::Quit);
                        link.shutdown().await;
                        return Exit::End;
                    }
                },
                event = link.recv(), if paused.is_none() => match event {
                    Some(event) => self.take(me, &link, event).await,
                    None => return Exit::Crash(Duration::from_secs(1)),
                },
                () = sleep_until(paused.unwrap_or_else(Instant::now)), if paused.is_some() => {
                    self.paused_until = None;
                    self.slow_until_ms = me.book.history.ms();
                }
                () = sleep_until(self.next_send), if connected && !self.hush => {
                    self.next_send = Instant::now() + self.traffic.pause();
                    for pad in self.traffic.frames() {
                        self.say(me, &link, pad).await;
                    }
                }
            }
        }
    }

    async fn say(&self, me: &Actor, link: &PhoneLink, pad: usize) {
        let up = {
            let mut book = me.book.open();
            let calm = book.calm;
            let phone = &mut book.phones[me.number];
            let number = phone.sent;
            phone.sent += 1;
            if calm {
                phone.calm_number.get_or_insert(number);
            }
            Up {
                session: (me.number, phone.conns.len() as u64),
                number,
                pad,
            }
        };
        // It may be gone already: then the session is over, and its numbers mean nothing.
        let _ = link.send(up.text().as_bytes()).await;
    }

    async fn take(&mut self, me: &Actor, link: &PhoneLink, event: PhoneEvent) {
        match event {
            PhoneEvent::Connected { attempt } => {
                let conn = Conn::of(self.dials.next(), self.slow_until_ms);
                self.process = None;
                let session = me.with(|phone| {
                    phone.connected = true;
                    phone.conns.push(conn.clone());
                    (phone.sent, phone.next) = (0, 0);
                    (phone.answered, phone.calm_number) = (None, None);
                    phone.conns.len()
                });
                me.note(format!(
                    "session {session} on #{}, dial {attempt}",
                    conn.dialled.number
                ));
                // As the real ones: the handshake's first message goes out at once.
                self.say(me, link, 90).await;
                self.next_send = Instant::now() + self.traffic.pause();
            }
            PhoneEvent::Frame(frame) => self.frame(me, &frame),
            PhoneEvent::Disconnected {
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
            PhoneEvent::DialFailed {
                error,
                next_retry_in,
            } => {
                me.note(format!(
                    "no connection: {error}; again in {next_retry_in:?}"
                ));
                crate::check::refusal(&me.book, &me.name(), &self.dials.next(), &error, false);
            }
            PhoneEvent::Stopped { why } => me.violation(format!("stopped for good: {why:?}")),
        }
    }

    fn frame(&mut self, me: &Actor, frame: &[u8]) {
        let Some(down) = Down::read(frame) else {
            return me.violation("got what no daemon sent");
        };
        let now_ms = me.book.history.ms();
        let mut book = me.book.open();
        let calm = book.calm;
        let phone = &mut book.phones[me.number];
        let session = (me.number, phone.conns.len() as u64);
        let expected = phone.next;
        phone.next = down.number + 1;
        if let Some(answered) = down.answers {
            phone.answered = Some(answered);
            if calm && phone.calm_number.is_some_and(|first| answered >= first) {
                phone.recovered_ms.get_or_insert(now_ms);
            }
        }
        drop(book);
        if down.session != session {
            me.violation(format!("got a frame of {:?} in {session:?}", down.session));
        }
        if *self.process.get_or_insert(down.process) != down.process {
            me.violation(format!(
                "process {} speaks in another one's session",
                down.process
            ));
        }
        // What was on its way when the daemon's connection broke is lost; it may resume behind that.
        let resumed = down.number == down.since && down.number > expected;
        if resumed {
            me.book.open().lost_down += down.number - expected;
        }
        if down.number != expected && !resumed {
            me.violation(format!("got frame {} and expected {expected}", down.number));
        }
    }
}
