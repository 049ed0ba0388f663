//! Where a scenario plays: a relay of its own, its daemons and phones, and what must hold at the end whatever was done.

use crate::book::{Book, Broken, Result, ensure};
use crate::health::Health;
use crate::launch::{Launch, PATIENCE};
use crate::peer::Peer;
use crate::proxy::Proxy;
use crate::relay::{Figures, Relay, Settings};
use crate::report::Order;
use crate::vandal::Vandalism;
use crate::{settled, world::World};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What a relay may keep beyond what it had before anybody came, when everybody has left: what its allocator holds on
/// to for the next ones.
const KEPT_BYTES: u64 = 24 << 20;

/// Between two looks at something that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(50);

/// Who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A daemon, which may name its process.
    Daemon {
        /// It does.
        resumable: bool,
    },
    /// A phone.
    Phone {
        /// Its number.
        number: usize,
    },
}

/// A daemon or a phone, over several processes one after the other.
pub(crate) struct Member {
    /// Which of the two.
    pub(crate) kind: Kind,
    /// Its server-id.
    pub(crate) server: String,
    /// Its way to the relay.
    pub(crate) proxy: Option<Proxy>,
    /// The number of its present or last process.
    pub(crate) process: u64,
    /// Arguments besides those that everybody has.
    pub(crate) args: Vec<String>,
    /// Where it dials, if it has no proxy.
    url: String,
    /// Under what it runs.
    pub(crate) launch: Launch,
    peer: Option<Peer>,
}

impl Member {
    /// Its process.
    ///
    /// # Errors
    /// If it has none.
    pub(crate) fn peer(&mut self) -> Result<&mut Peer> {
        self.peer
            .as_mut()
            .ok_or_else(|| Broken("a peer that isn't there".into()))
    }

    /// Its way to the relay.
    ///
    /// # Errors
    /// If it dials the relay itself.
    pub(crate) fn way(&self) -> Result<&Proxy> {
        self.proxy
            .as_ref()
            .ok_or_else(|| Broken("a peer without a proxy".into()))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// If it isn't there.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let peer = self.peer.take();
        peer.ok_or_else(|| Broken("a peer that isn't there".into()))?
            .kill()
            .await
    }

    /// Closes and ends.
    ///
    /// # Errors
    /// If it isn't there.
    pub(crate) async fn quit(&mut self) -> Result<()> {
        let peer = self.peer.take();
        peer.ok_or_else(|| Broken("a peer that isn't there".into()))?
            .quit()
            .await
    }

    /// Whether it has a process.
    pub(crate) fn is_up(&self) -> bool {
        self.peer.is_some()
    }
}

/// Daemons and phones.
#[derive(Default)]
pub(crate) struct Town {
    /// The daemons.
    pub(crate) daemons: Vec<Member>,
    /// The phones.
    pub(crate) phones: Vec<Member>,
}

impl Town {
    /// All of them that have a process.
    pub(crate) fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        let all = self.daemons.iter_mut().chain(&mut self.phones);
        all.filter(|member| member.is_up())
    }

    /// Tells everybody.
    ///
    /// # Errors
    /// If somebody has ended.
    pub(crate) async fn tell(&mut self, order: &Order) -> Result<()> {
        for member in self.members() {
            member.peer()?.tell(order.clone()).await?;
        }
        Ok(())
    }
}

/// A relay and a book.
pub(crate) struct Stage {
    /// The relay.
    pub(crate) relay: Relay,
    /// What everybody told.
    pub(crate) book: Book,
    /// Who watches `/healthz`.
    pub(crate) health: Health,
    /// Before anybody came.
    pub(crate) base: Figures,
    /// Whether the relay that ends is the one that was started first.
    pub(crate) restarts: u32,
    /// What it may keep when everybody has left, beyond what it had at first.
    pub(crate) kept_bytes: u64,
    vandalism: Option<Vandalism>,
    processes: u64,
    marks: u64,
}

impl Stage {
    /// Starts a relay with these arguments.
    ///
    /// # Errors
    /// If it doesn't start.
    pub(crate) async fn open(world: &World, args: &[&str]) -> Result<Self> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let settings = Settings {
            args,
            ..Settings::default()
        };
        Self::with(world, settings).await
    }

    /// Starts a relay with these settings.
    ///
    /// # Errors
    /// If it doesn't start.
    pub(crate) async fn with(world: &World, settings: Settings) -> Result<Self> {
        let settings = Settings {
            program: world.relay.clone(),
            ..settings
        };
        let relay = Relay::start(settings, &world.dir).await?;
        // What the start itself takes for a moment must be gone.
        relay.page().await?;
        sleep(LOOK).await;
        let base = relay.figures()?;
        let book = Book::default();
        let health = Health::watch(relay.health, book.clone());
        Ok(Self {
            relay,
            book,
            health,
            base,
            restarts: 0,
            kept_bytes: KEPT_BYTES,
            vandalism: world.vandalism,
            processes: 0,
            marks: 0,
        })
    }

    /// Somebody with a proxy of its own, who has not started yet.
    ///
    /// # Errors
    /// If there is no proxy.
    pub(crate) async fn member(&self, kind: Kind, server: &str) -> Result<Member> {
        let proxy = Proxy::open(self.relay.addr, self.vandalism).await?;
        Ok(Member {
            url: proxy.url(),
            proxy: Some(proxy),
            ..self.direct(kind, server, String::new())
        })
    }

    /// Somebody who dials this URL, and has not started yet.
    pub(crate) fn direct(&self, kind: Kind, server: &str, url: String) -> Member {
        Member {
            kind,
            server: server.to_owned(),
            proxy: None,
            process: 0,
            args: Vec::new(),
            url,
            launch: Launch::default(),
            peer: None,
        }
    }

    /// Starts a process of somebody who has none.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(&mut self, member: &mut Member) -> Result<()> {
        self.processes += 1;
        member.process = self.processes;
        let (role, own, name) = match member.kind {
            Kind::Daemon { resumable } => {
                let own = resumable.then(|| "--resumable".to_owned());
                ("daemon", own, format!("daemon of {}", member.server))
            }
            Kind::Phone { number } => {
                let own = Some(format!("--number={number}"));
                ("phone", own, format!("phone {number} of {}", member.server))
            }
        };
        let mut args = vec![
            role.to_owned(),
            format!("--url={}", member.url),
            format!("--server={}", member.server),
            format!("--process={}", member.process),
        ];
        args.extend(own);
        args.extend(member.args.iter().cloned());
        let name = format!("{name}/{}", member.process);
        let peer = Peer::start(&self.book, member.process, name, &member.launch, &args)?;
        member.peer = Some(peer);
        Ok(())
    }

    /// Two daemons, of which the second may resume, with two phones each; returns when all of them talk.
    ///
    /// # Errors
    /// If they don't.
    pub(crate) async fn town(&mut self) -> Result<Town> {
        let mut town = Town::default();
        for (resumable, server) in [(false, "plain"), (true, "resumable")] {
            let daemon = self.member(Kind::Daemon { resumable }, server).await?;
            town.daemons.push(daemon);
            for _ in 0..2 {
                let number = town.phones.len();
                town.phones
                    .push(self.member(Kind::Phone { number }, server).await?);
            }
        }
        self.populate(&mut town).await?;
        Ok(town)
    }

    /// Starts everybody; returns when all phones have answers.
    ///
    /// # Errors
    /// If they don't.
    pub(crate) async fn populate(&mut self, town: &mut Town) -> Result<()> {
        for daemon in &mut town.daemons {
            self.start(daemon)?;
        }
        for daemon in &town.daemons {
            let process = daemon.process;
            self.book
                .wait("a daemon's connection", PATIENCE, |inner| {
                    inner.of(process).connected.then_some(())
                })
                .await?;
        }
        for phone in &mut town.phones {
            self.start(phone)?;
        }
        self.recover(town, PATIENCE).await?;
        Ok(())
    }

    /// Waits until every phone has an answer to something that it said from now on; returns how long that took.
    ///
    /// # Errors
    /// If that takes longer than the bound.
    pub(crate) async fn recover(&mut self, town: &mut Town, bound: Duration) -> Result<Duration> {
        self.marks += 1;
        let (mark, start) = (self.marks, Instant::now());
        for phone in town.phones.iter_mut().filter(|phone| phone.is_up()) {
            phone.peer()?.tell(Order::Mark(mark)).await?;
        }
        for phone in town.phones.iter().filter(|phone| phone.is_up()) {
            let left = (start + bound).saturating_duration_since(Instant::now());
            let process = phone.process;
            let name = self.book.open().of(process).name.clone();
            let what = format!("an answer for {name}, within {bound:?} in all");
            self.book
                .wait(&what, left, |inner| {
                    inner.of(process).recovered.get(&mark).copied()
                })
                .await?;
        }
        Ok(start.elapsed())
    }

    /// The next process of the relay, on the same ports.
    ///
    /// # Errors
    /// If it doesn't start.
    pub(crate) async fn restart_relay(&mut self) -> Result<()> {
        self.restarts += 1;
        self.relay.restart().await
    }

    /// Kills the relay.
    ///
    /// # Errors
    /// If it had ended by itself.
    pub(crate) async fn kill_relay(&mut self) -> Result<()> {
        self.health.pause();
        self.relay.kill().await
    }

    /// How often this member's connections ended so far.
    pub(crate) fn losses(&self, member: &Member) -> usize {
        self.book.open().of(member.process).losses.len()
    }

    /// Waits until `probe`, which nobody tells about changes, finds nothing wrong.
    ///
    /// # Errors
    /// What it found last.
    pub(crate) async fn until<F: Future<Output = Result<Vec<String>>>>(
        &self,
        bound: Duration,
        mut probe: impl FnMut() -> F,
    ) -> Result<()> {
        let until = Instant::now() + bound;
        loop {
            self.book.check()?;
            let wrong = probe().await?;
            if wrong.is_empty() {
                return Ok(());
            }
            ensure(Instant::now() < until, || {
                format!("after {bound:?} it is still so that {}", wrong.join("; "))
            })?;
            sleep(LOOK).await;
        }
    }

    /// The end of every scenario: when everybody is silent, everything that was said has arrived, and the relay knows
    /// whom there is; when everybody has left, it has nothing left of them, and says so; it shuts down by itself; and
    /// its log has no error. Returns figures.
    ///
    /// # Errors
    /// What doesn't hold.
    pub(crate) async fn finish(mut self, mut town: Town) -> Result<String> {
        let frames = settled::settle(&mut self, &mut town).await?;
        for member in town.members() {
            member.quit().await?;
        }
        let health = self.health.stop();
        let base = self.base;
        let relay = &self.relay;
        self.until(PATIENCE, || async {
            let mut wrong = settled::nobody(&relay.page().await?);
            let figures = relay.figures()?;
            if figures.fds > base.fds {
                wrong.push(format!(
                    "{} descriptors are open, not {}",
                    figures.fds, base.fds
                ));
            }
            if figures.rss_bytes > base.rss_bytes + self.kept_bytes {
                let [now, before] = [figures.rss_bytes, base.rss_bytes].map(|bytes| bytes >> 20);
                wrong.push(format!(
                    "{now} MiB are resident, and {before} were at first"
                ));
            }
            Ok(wrong)
        })
        .await?;
        let kept = self.relay.figures()?.rss_bytes as f64 - base.rss_bytes as f64;
        self.relay.terminate().await?;
        self.book.check()?;
        settled::log(&self.relay.log_text())?;
        Ok(format!(
            "{frames} frames; /healthz {health}; {:+.1} MiB",
            kept / 1048576.0
        ))
    }
}
