//! A phone: a fresh session on every connection, numbered frames, and a check of every frame that comes.

use crate::actor::{Actor, Exit, Home, Next, Order, Who};
use crate::backoff::ladder;
use crate::message::{Down, Up};
use crate::net::Dials;
use crate::traffic::Traffic;
use relay_client::{App, PhoneEvent, PhoneLink};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// What a phone is made of.
pub(crate) struct Device {
    /// Its number.
    pub(crate) number: usize,
    /// Where it is.
    pub(crate) home: Home,
}

impl Device {
    /// Runs until it is told to end.
    pub(crate) async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        let name = format!("phone {}", self.number);
        let book = self.home.book.clone();
        loop {
            let dials = Dials::default();
            let app = *self.home.rng.pick(&[App::Mobile, App::Desktop]);
            let builder = PhoneLink::builder("ws://relay.test", &self.home.server_id);
            let builder = builder
                .app(app)
                .options(self.home.options(app, &dials))
                .ladder(ladder(&mut self.home.rng));
            let Ok(link) = builder.start() else {
                return book.history.violation(&name, "cannot start");
            };
            let who = Who::Phone(self.number);
            let traffic = Traffic::new(self.home.rng.fork());
            let program = Program {
                me: Actor::new(who, name.clone(), book.clone(), dials, traffic),
                link,
                number: self.number,
                process: None,
            };
            match program.run(&mut orders).await {
                Exit::Again(away) => tokio::time::sleep(away).await,
                Exit::Conflict | Exit::End => return,
            }
        }
    }
}

/// One start of the app.
struct Program {
    me: Actor,
    link: PhoneLink,
    number: usize,
    /// The daemon's process that speaks in this session.
    process: Option<u64>,
}

impl Program {
    async fn run(mut self, orders: &mut UnboundedReceiver<Order>) -> Exit {
        loop {
            match self.me.next(orders, self.link.recv()).await {
                Next::Flood => {}
                Next::Speak => {
                    for pad in self.me.traffic.frames() {
                        self.say(pad).await;
                    }
                }
                Next::Leave { closes, exit } => {
                    if closes {
                        self.link.shutdown().await;
                    }
                    return exit;
                }
                Next::Event(None) => return Exit::Again(Duration::from_secs(1)),
                Next::Event(Some(event)) => self.take(event).await,
            }
        }
    }

    async fn say(&self, pad: usize) {
        let up = {
            let mut book = self.me.book.open();
            let calm = book.calm;
            let phone = &mut book.phones[self.number];
            let number = phone.sent;
            phone.sent += 1;
            if let Some(conn) = phone.conns.all.last_mut() {
                conn.said += 1;
            }
            if calm {
                phone.calm_number.get_or_insert(number);
            }
            Up {
                session: (self.number, phone.conns.number()),
                number,
                pad,
            }
        };
        // It may be gone already: then the session is over, and its numbers mean nothing.
        let _ = self.link.send(up.text().as_bytes()).await;
    }

    async fn take(&mut self, event: PhoneEvent) {
        match event {
            PhoneEvent::Connected { attempt } => {
                let number = self.me.connected();
                self.process = None;
                let session = {
                    let phone = &mut self.me.book.open().phones[self.number];
                    (phone.sent, phone.next) = (0, 0);
                    (phone.answered, phone.calm_number) = (None, None);
                    phone.conns.number()
                };
                self.me
                    .note(format!("session {session} on #{number}, dial {attempt}"));
                // As the real ones: the handshake's first message goes out at once.
                self.say(90).await;
                self.me.speak_later();
            }
            PhoneEvent::Frame(frame) => self.frame(&frame),
            PhoneEvent::Disconnected {
                code,
                reason,
                next_retry_in,
                ..
            } => self.me.lost(code, reason, next_retry_in),
            PhoneEvent::DialFailed {
                error,
                next_retry_in,
            } => self.me.dial_failed(&error, next_retry_in),
            PhoneEvent::Stopped { why } => self.me.stopped(why),
        }
    }

    fn frame(&mut self, frame: &[u8]) {
        let Some(down) = Down::read(frame) else {
            return self.me.violation("got what no daemon sent");
        };
        let now_ms = self.me.book.history.ms();
        let mut book = self.me.book.open();
        let calm = book.calm;
        let phone = &mut book.phones[self.number];
        let session = (self.number, phone.conns.number());
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
            self.me
                .violation(format!("got a frame of {:?} in {session:?}", down.session));
        }
        if *self.process.get_or_insert(down.process) != down.process {
            self.me.violation(format!(
                "process {} speaks in another one's session",
                down.process
            ));
        }
        // What was on its way when the daemon's connection broke is lost; it may resume behind that.
        let resumed = down.number == down.since && down.number > expected;
        if resumed {
            self.me.book.open().lost_down += down.number - expected;
        }
        if down.number != expected && !resumed {
            self.me
                .violation(format!("got frame {} and expected {expected}", down.number));
        }
    }
}
