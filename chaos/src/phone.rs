//! A phone, as a process of its own: numbered frames, a fresh session on every connection, a check of all that comes.

use crate::report::{Event, Order, Report, Spoken, orders, tell};
use relay_client::{App, Options, PhoneEvent, PhoneLink, PingPolicy};
use relay_sim::message::{Down, Session, Up};
use relay_sim::rng::Rng;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

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
    args: Args,
    link: PhoneLink,
    rng: Rng,
    connected: bool,
    session: Session,
    sent: u64,
    next: u64,
    frames: u64,
    lost_down: u64,
    /// The daemon's process that speaks in this session.
    speaker: Option<u64>,
    /// A number, and the first frame sent since.
    mark: Option<(u64, u64)>,
    hush: bool,
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
        ..Options::default()
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
        Err(error) => return tell(&Event::Wrong(format!("cannot start: {error}"))),
    };
    let phone = Phone {
        link,
        rng: Rng::new(args.process),
        connected: false,
        session: (args.number, args.process * SESSIONS),
        sent: 0,
        next: 0,
        frames: 0,
        lost_down: 0,
        speaker: None,
        mark: None,
        hush: args.every_ms == 0,
        args,
    };
    phone.run().await;
}

impl Phone {
    async fn run(mut self) {
        let mut orders = orders();
        let mut next_send = Instant::now();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Mark(number)) => {
                        self.mark = Some((number, self.sent));
                        if self.connected {
                            self.say(40).await;
                        }
                    }
                    Some(Order::Hush) => self.hush = true,
                    Some(Order::Speak) => self.hush = false,
                    Some(Order::Report(number)) => tell(&Event::Report(number, self.report())),
                    Some(Order::Flood { .. }) => tell(&Event::Wrong("a phone has no flood".into())),
                    Some(Order::Quit) | None => return self.link.shutdown().await,
                },
                event = self.link.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
                () = sleep_until(next_send), if self.connected && !self.hush => {
                    let pause = self.rng.within(self.args.every_ms / 2..self.args.every_ms * 3 / 2);
                    next_send = Instant::now() + Duration::from_millis(pause);
                    let pad = self.rng.time_ms(1..8_000).as_millis() as usize;
                    self.say(pad).await;
                }
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
                self.connected = true;
                self.session.1 += 1;
                (self.sent, self.next, self.speaker) = (0, 0, None);
                self.mark = self.mark.map(|(number, _)| (number, 0));
                tell(&Event::Connected);
                // As the real ones: the handshake's first message goes out at once.
                self.say(90).await;
            }
            PhoneEvent::Frame(frame) => match Down::read(&frame) {
                Some(down) => self.check(&down),
                None => tell(&Event::Wrong(format!(
                    "got what no daemon sent: {}",
                    String::from_utf8_lossy(&frame[..frame.len().min(200)])
                ))),
            },
            PhoneEvent::Disconnected { code, reason, .. } => {
                self.connected = false;
                tell(&Event::Lost { code, reason });
            }
            PhoneEvent::DialFailed { error, .. } => tell(&Event::Failed {
                error: error.to_string(),
            }),
            PhoneEvent::Stopped { why } => tell(&Event::Stopped {
                why: format!("{why:?}"),
            }),
        }
    }

    fn check(&mut self, down: &Down) {
        let wrong = |what: String| tell(&Event::Wrong(what));
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
            connected: self.connected,
            sessions: vec![Spoken {
                session: self.session,
                sent: self.sent,
                next: self.next,
                is_open: self.connected,
            }],
            frames: self.frames,
            lost_down: self.lost_down,
        }
    }
}
