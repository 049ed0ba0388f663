//! The machine of the relay: one process after the other, and what each of them leaves behind.

use crate::book::Book;
use crate::metrics::{Page, differences};
use crate::net::{Net, Wire};
use crate::rng::Rng;
use pyrycode_relay::config::Config;
use pyrycode_relay::memory::{Handle, Holdings, Relay};
use pyrycode_relay::observe::log::LogSettings;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often each of these happened.
pub type Marks = BTreeMap<&'static str, u64>;

/// What a relay counts, and a simulation has to reach.
const MARKS: [&str; 16] = [
    "reclaims_total",
    "takeovers_total",
    "resumes_total",
    "grace_expiries_total",
    "evictions_total",
    "redials_refused_total",
    "phones_parked_ended_total{outcome=\"delivered\"}",
    "phones_parked_ended_total{outcome=\"expired\"}",
    "phones_parked_ended_total{outcome=\"evicted\"}",
    "phones_parked_ended_total{outcome=\"left\"}",
    "connection_ends_total{leg=\"phone\",cause=\"backlog_full\",by=\"relay\"}",
    "connection_ends_total{leg=\"phone\",cause=\"heartbeat_timeout\",by=\"relay\"}",
    "connection_ends_total{leg=\"phone\",cause=\"directive\",by=\"binary\"}",
    "connection_ends_total{leg=\"binary\",cause=\"already_claimed\",by=\"relay\"}",
    "connection_ends_total{leg=\"binary\",cause=\"write_timeout\",by=\"relay\"}",
    "connection_ends_total{leg=\"binary\",cause=\"shutting_down\",by=\"relay\"}",
];

/// The relay's machine.
pub(crate) struct Machine {
    net: Net,
    book: Book,
    config: Config,
    running: Option<Relay>,
    /// Processes that were killed. Their tasks are not: nobody hears of them, but they have to come to an end.
    killed: Vec<Relay>,
    /// Every process that ever ran, and what went over its sockets.
    all: Vec<Process>,
}

struct Process {
    handle: Handle,
    wire: Wire,
    /// In order, which ends its timers: what was kept for somebody's return stays.
    shut_down: bool,
}

/// The settings of this seed's relay: the program's own, now and then with bounds that are met more easily.
pub(crate) fn config(rng: &mut Rng) -> Config {
    let mut config = Config {
        max_connections: Some(1_000),
        queue_bytes: Some(64 << 20),
        log: LogSettings::silent(),
        ..Config::default()
    };
    if rng.percent(25) {
        config.park_phone_bytes = *rng.pick(&[512, 4_096]);
    }
    if rng.percent(25) {
        config.park_total_bytes = Some(*rng.pick(&[2_048, 65_536]));
    }
    if rng.percent(15) {
        config.policy.park_ms = 0;
    }
    if rng.percent(25) {
        config.policy.grace_ms = *rng.pick(&[2_000, 10_000, 90_000]);
    }
    config
}

impl Machine {
    /// A machine on which nothing runs.
    pub(crate) fn new(net: Net, book: Book, config: Config) -> Self {
        Self {
            net,
            book,
            config,
            running: None,
            killed: Vec::new(),
            all: Vec::new(),
        }
    }

    fn note(&self, what: &str) {
        let name = format!("relay {}", self.all.len());
        self.book.history.note(&name, what);
    }

    /// Starts a process.
    pub(crate) fn start(&mut self) {
        let relay = Relay::start(self.config.clone());
        let handle = relay.handle();
        let entrance = handle.clone();
        let wire = self
            .net
            .listen(Some(Arc::new(move |ip, end| entrance.accept(ip, end))));
        self.all.push(Process {
            handle,
            wire,
            shut_down: false,
        });
        self.running = Some(relay);
        self.note("starts");
    }

    /// Kills the process.
    pub(crate) fn kill(&mut self) {
        let Some(relay) = self.running.take() else {
            return;
        };
        self.note("is killed");
        self.net.listen(None);
        self.net.reset_all();
        self.killed.push(relay);
    }

    /// Shuts the process down. What is not closed by its deadline gets a reset, as from a process that exits.
    pub(crate) async fn shut_down(&mut self) {
        let Some(relay) = self.running.take() else {
            return;
        };
        self.note("shuts down");
        let now_ms = self.book.history.ms();
        self.book.open().shutdowns_ms.push(now_ms);
        self.net.listen(None);
        if let Some(process) = self.all.last_mut() {
            process.shut_down = true;
        }
        let outcome = relay.shutdown().await;
        self.note(&format!("is down: {outcome:?}"));
        self.net.reset_all();
    }

    /// What the running process holds; a rule of the hub that is broken is a violation.
    pub(crate) fn audit(&self) -> Option<Holdings> {
        match self.all.last()?.handle.audit() {
            Ok(holdings) => Some(holdings),
            Err(violation) => {
                self.book.history.violation("relay", violation.to_string());
                None
            }
        }
    }

    /// What the running process says of itself.
    pub(crate) fn page(&self) -> Page {
        let text = self.all.last().map(|process| process.handle.metrics());
        Page::read(&text.unwrap_or_default())
    }

    /// How often what is worth simulating happened, over all processes.
    pub(crate) fn marks(&self) -> Marks {
        let mut marks = Marks::new();
        for process in &self.all {
            let page = Page::read(&process.handle.metrics());
            for name in MARKS {
                *marks.entry(name).or_default() += page.get(name) as u64;
            }
        }
        marks
    }

    /// When everybody is gone: checks that no process holds anything, and that their figures were true.
    pub(crate) async fn finish(&mut self) {
        // A slot is kept for its daemon's return.
        sleep(Duration::from_millis(self.config.policy.grace_ms) + Duration::from_secs(1)).await;
        for (number, process) in self.all.iter().enumerate() {
            let Process {
                handle,
                wire,
                shut_down,
            } = process;
            let name = format!("relay {}", number + 1);
            let violation = |what: String| self.book.history.violation(&name, what);
            match handle.audit() {
                Ok(mut holdings) => {
                    if *shut_down {
                        holdings.counts.grace = 0;
                        (holdings.carried, holdings.departed) = (0, 0);
                    }
                    if holdings != Holdings::default() {
                        violation(format!("is left with {holdings:?}"));
                    }
                }
                Err(broken) => violation(broken.to_string()),
            }
            let page = Page::read(&handle.metrics());
            for difference in differences(&page, &wire.totals(), *shut_down) {
                violation(difference);
            }
        }
        for relay in self.killed.drain(..).chain(self.running.take()) {
            relay.kill();
        }
    }
}
