//! What a daemon's process and a phone have in common: both own a link, do what they are told, take what comes unless
//! they pause, say something now and then, and write down what they know.

use crate::book::{Book, Conn, Conns, How};
use crate::net::{Dials, Host, Net};
use crate::rng::Rng;
use crate::traffic::Traffic;
use relay_client::{App, ConnectError, Options, Stop};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

/// What one is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take nothing that comes, for a while.
    Pause(Duration),
    /// Say a lot to one phone. Phones do not.
    Flood,
    /// Say nothing by itself any more.
    Hush,
    /// End without a Close, and start again after a while.
    Crash(Duration),
    /// Close, and start again after a while.
    Quit(Duration),
    /// Close, for good.
    End,
}

/// Why one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It starts again after this time.
    Again(Duration),
    /// Another process holds the server-id.
    Conflict,
    /// For good.
    End,
}

/// What is next for one.
#[derive(Debug)]
pub(crate) enum Next<E> {
    /// Its link says something; `None`: nothing more.
    Event(Option<E>),
    /// It is time to say something.
    Speak,
    /// It is to say a lot.
    Flood,
    /// It ends; with a Close first, if so told.
    Leave {
        /// Close.
        closes: bool,
        /// Then.
        exit: Exit,
    },
}

/// Which one, in the [`Book`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A daemon's process.
    Daemon(u64),
    /// A phone.
    Phone(usize),
}

/// Where one lives, and what it dials.
pub(crate) struct Home {
    /// The server-id.
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

impl Home {
    /// For a link of this app that dials from here.
    pub(crate) fn options(&self, app: App, dials: &Dials) -> Options {
        Options {
            dialer: Some(self.net.dialer(self.host, dials.clone())),
            ..Options::of(app)
        }
    }
}

/// The owner of one link.
pub(crate) struct Actor {
    who: Who,
    name: String,
    /// Where it writes down what it knows.
    pub(crate) book: Book,
    dials: Dials,
    /// What it says, and when.
    pub(crate) traffic: Traffic,
    paused_until: Option<Instant>,
    slow_until_ms: u64,
    next_send: Instant,
    hush: bool,
}

impl Actor {
    /// One whose link has just been started, with these dials.
    pub(crate) fn new(who: Who, name: String, book: Book, dials: Dials, traffic: Traffic) -> Self {
        Self {
            who,
            name,
            book,
            dials,
            traffic,
            paused_until: None,
            slow_until_ms: 0,
            next_send: Instant::now(),
            hush: false,
        }
    }

    /// Adds a line to the history.
    pub(crate) fn note(&self, what: impl AsRef<str>) {
        self.book.history.note(&self.name, what);
    }

    /// Adds a line about a check that failed.
    pub(crate) fn violation(&self, what: impl AsRef<str>) {
        self.book.history.violation(&self.name, what);
    }

    fn conns<T>(&self, change: impl FnOnce(&mut Conns) -> T) -> T {
        change(self.book.open().conns(self.who))
    }

    /// Waits for what is next. What comes by the link is left there while it pauses.
    pub(crate) async fn next<E>(
        &mut self,
        orders: &mut UnboundedReceiver<Order>,
        event: impl Future<Output = Option<E>>,
    ) -> Next<E> {
        let mut event = std::pin::pin!(event);
        loop {
            let connected = self.conns(|conns| conns.is_open);
            let paused = self.paused_until;
            tokio::select! {
                biased;
                order = orders.recv() => {
                    if let Some(next) = self.obey(order.unwrap_or(Order::End)) {
                        return next;
                    }
                }
                event = &mut event, if paused.is_none() => return Next::Event(event),
                () = sleep_until(paused.unwrap_or_else(Instant::now)), if paused.is_some() => {
                    self.paused_until = None;
                    self.caught_up();
                }
                () = sleep_until(self.next_send), if connected && !self.hush => {
                    self.speak_later();
                    return Next::Speak;
                }
            }
        }
    }

    fn obey<E>(&mut self, order: Order) -> Option<Next<E>> {
        match order {
            Order::Pause(time) => {
                self.note(format!("takes nothing for {time:?}"));
                self.paused_until = Some(Instant::now() + time);
                self.falls_behind();
                None
            }
            Order::Flood => Some(Next::Flood),
            Order::Hush => {
                self.hush = true;
                None
            }
            Order::Crash(away) => {
                self.note(format!("crashes for {away:?}"));
                self.leaves(How::Killed);
                let (closes, exit) = (false, Exit::Again(away));
                Some(Next::Leave { closes, exit })
            }
            Order::Quit(away) => {
                self.note(format!("quits for {away:?}"));
                self.leaves(How::Quit);
                let (closes, exit) = (true, Exit::Again(away));
                Some(Next::Leave { closes, exit })
            }
            Order::End => {
                self.note("quits for good");
                self.leaves(How::Quit);
                let (closes, exit) = (true, Exit::End);
                Some(Next::Leave { closes, exit })
            }
        }
    }

    /// What comes is left where it is from now on.
    pub(crate) fn falls_behind(&self) {
        self.conns(Conns::slow);
    }

    /// What comes is taken again.
    pub(crate) fn caught_up(&mut self) {
        self.slow_until_ms = self.book.history.ms();
    }

    /// It says nothing more by itself for a moment.
    pub(crate) fn speak_later(&mut self) {
        self.next_send = Instant::now() + self.traffic.pause();
    }

    /// Its link is connected. The number of the connection in the network.
    pub(crate) fn connected(&self) -> u64 {
        let dialled = self.dials.next();
        let slow = dialled.at_ms < self.slow_until_ms;
        let conn = Conn::of(dialled, slow);
        let number = conn.dialled.number;
        self.conns(|conns| conns.begin(conn));
        number
    }

    /// Its connection, if there is one, ended.
    pub(crate) fn ended(&self, how: How) {
        let at_ms = self.book.history.ms();
        self.conns(|conns| conns.end(at_ms, how));
    }

    /// It ends, and with it what its link has dialled meanwhile: it need not have heard of that, but the relay has.
    fn leaves(&self, how: How) {
        self.ended(how.clone());
        while let Some(dialled) = self.dials.next_connected() {
            self.conns(|conns| conns.begin(Conn::of(dialled, true)));
            self.ended(how.clone());
        }
    }

    /// Its link lost the connection.
    pub(crate) fn lost(&self, code: Option<u16>, reason: String, next_retry_in: Duration) {
        self.note(format!(
            "lost: {code:?} {reason}; again in {next_retry_in:?}"
        ));
        self.ended(match code {
            Some(code) => How::Close(code, reason),
            None => How::Broken(reason),
        });
    }

    /// Its link got no connection.
    pub(crate) fn dial_failed(&self, error: &ConnectError, next_retry_in: Duration) {
        self.note(format!(
            "no connection: {error}; again in {next_retry_in:?}"
        ));
        let is_daemon = matches!(self.who, Who::Daemon(_));
        let dialled = self.dials.next();
        crate::check::refusal(&self.book, &self.name, &dialled, error, is_daemon);
    }

    /// Its link gave up, for which there is no reason.
    pub(crate) fn stopped(&self, why: Stop) {
        self.violation(format!("stopped for good: {why:?}"));
    }
}
