//! A phone, as a process of its own: numbered frames, a fresh session on every connection, a check of all that comes.

use crate::actor::{self, Actor, Next, wrong};
use crate::report::{Event, Order, Report, Spoken, tell};
use relay_client::{App, Options, PhoneEvent, PhoneLink, PingPolicy};
use relay_sim::message::{Down, Session, Up};
use std::time::Duration;

/// What a phone is started with.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the relay is
    #[arg(long)]
    pub(crate) url: String,
    /// The server-id
    #[arg(long)]
    pub(crate) server: String,
    /// The phone's number
    #[arg(long)]
    pub(crate) number: usize,
    /// The number of this process
    #[arg(long)]
    pub(crate) process: u64,
    /// Between two frames, on the average; 0: only when told
    #[arg(long, default_value_t = 400)]
    pub(crate) every_ms: u64,
    /// Between two pings, and for the pong; otherwise the app's
    #[arg(long)]
    pub(crate) ping_ms: Option<u64>,
    /// Behave like the mobile app, instead of the desktop app
    #[arg(long)]
    pub(crate) mobile: bool,
}

/// Sessions of one process.
const SESSIONS: u64 = 1_000_000;

struct Phone {
    link: PhoneLink,
    actor: Actor,
    session: Session,
    sent: u64,
    next: u64,
    frames: u64,
    lost_down: u64,
    /// The daemon's process that speaks in this session.
    speaker: Option<u64>,
    /// A number, and the first frame sent since.
    mark: Option<(u64, u64)>,
}

/// Runs until it is told to end.
pub(crate) async fn run(args: Args) {
    let app = if args.mobile {
        App::Mobile
    } else {
        App::Desktop
    };
    let options = Options {
        message_bytes: 1 << 20,
        ..Options::of(app)
    };
    let mut builder = PhoneLink::builder(&args.url, &args.server)
        .app(app)
        .options(options);
    if let Some(ms) = args.ping_ms {
        let every = Duration::from_millis(ms);
        builder = builder.ping(PingPolicy {
            every,
            timeout: every,
        });
    }
    let link = match builder.start() {
        Ok(link) => link,
        Err(error) => return wrong(format!("cannot start: {error}")),
    };
    let phone = Phone {
        link,
        actor: Actor::new(args.process, args.every_ms),
        session: (args.number, args.process * SESSIONS),
        sent: 0,
        next: 0,
        frames: 0,
        lost_down: 0,
        speaker: None,
        mark: None,
    };
    phone.run().await;
}

impl Phone {
    async fn run(mut self) {
        loop {
            match self.actor.next(self.link.recv()).await {
                Next::Event(Some(event)) => self.take(event).await,
                Next::Event(None) => return,
                Next::Speak => {
                    let pad = self.actor.pad(8_000);
                    self.say(pad).await;
                }
                Next::Order(Order::Mark(number)) => {
                    self.mark = Some((number, self.sent));
                    if self.actor.connected {
                        self.say(40).await;
                    }
                }
                Next::Order(order) => wrong(format!("no order for a phone: {order:?}")),
                Next::Report(number) => tell(&Event::Report(number, self.report())),
                Next::Quit => return self.link.shutdown().await,
            }
        }
    }

    async fn say(&mut self, pad: usize) {
        let up = Up {
            session: self.session,
            number: self.sent,
            pad,
        };
        self.sent += 1;
        // It may be gone already: then the session is over, and its numbers mean nothing.
        drop(self.link.send(up.text().as_bytes()).await);
    }

    async fn take(&mut self, event: PhoneEvent) {
        match event {
            PhoneEvent::Connected { .. } => {
                self.session.1 += 1;
                (self.sent, self.next, self.speaker) = (0, 0, None);
                self.mark = self.mark.map(|(number, _)| (number, 0));
                self.actor.connected();
                // As the real ones: the handshake's first message goes out at once.
                self.say(90).await;
            }
            PhoneEvent::Frame(frame) => match Down::read(&frame) {
                Some(down) => self.check(&down),
                None => actor::not_understood(&frame),
            },
            PhoneEvent::Disconnected { code, reason, .. } => self.actor.lost(code, reason),
            PhoneEvent::DialFailed { error, .. } => actor::dial_failed(&error),
            PhoneEvent::Stopped { why } => actor::stopped(why),
        }
    }

    fn check(&mut self, down: &Down) {
        let expected = self.next;
        self.next = down.number + 1;
        self.frames += 1;
        if down.session != self.session {
            wrong(format!(
                "a frame of {:?} in {:?}",
                down.session, self.session
            ));
        }
        if *self.speaker.get_or_insert(down.process) != down.process {
            wrong(format!("process {} in another one's session", down.process));
        }
        // What was on its way when the daemon's connection broke is lost; it may resume behind that.
        let resumed = down.number == down.since && down.number > expected;
        if resumed {
            self.lost_down += down.number - expected;
        }
        if down.number != expected && !resumed {
            wrong(format!("got frame {} and expected {expected}", down.number));
        }
        if let (Some(answered), Some((number, first))) = (down.answers, self.mark)
            && answered >= first
        {
            self.mark = None;
            tell(&Event::Recovered(number));
        }
    }

    fn report(&self) -> Report {
        Report {
            connected: self.actor.connected,
            sessions: vec![Spoken {
                session: self.session,
                sent: self.sent,
                next: self.next,
                is_open: self.actor.connected,
            }],
            frames: self.frames,
            lost_down: self.lost_down,
        }
    }
}
