//! One run: everybody starts, the faults come, then there is calm, and everything is checked.

use crate::actor::{Exit, Home, Order};
use crate::book::{Book, Phone};
use crate::check;
use crate::daemon::Process;
use crate::history::History;
use crate::net::{Dials, FOR_EVER, Host, Net, Target, Vandalism};
use crate::phone::Device;
use crate::plan::{Fault, Plan, path, slow_path};
use crate::relay::{self, Machine, Marks};
use crate::rng::Rng;
use relay_client::{Options, PhoneLink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Within this time of the last fault every phone has an answer to a frame it sent since. The sum of what can come one
/// after the other: a daemon notices that its connection is dead (60 s: its ping, and the wait for the pong) and dials
/// (15 s, if the dial meets a cut that is just over; 36 s of back-off); the old holder is probed (10 s); a
/// phone that met 4404 meanwhile waits for its own back-off (36 s); 23 s for paths.
pub const RECOVERY: Duration = Duration::from_secs(180);

/// Then nothing ends any more for this long: a whole heartbeat.
const STABLE: Duration = Duration::from_secs(65);

/// Until everything that was said has arrived.
const SETTLE: Duration = Duration::from_secs(20);

/// A server-id's daemon, one process after the other.
struct Supervisor {
    orders: mpsc::UnboundedSender<Order>,
    host: Host,
    server: usize,
    task: JoinHandle<()>,
}

struct World {
    net: Net,
    book: Book,
    rng: Rng,
    relay: Arc<Mutex<Machine>>,
    processes: Arc<AtomicU64>,
    daemons: Vec<Supervisor>,
    rivals: Vec<Supervisor>,
    phones: Vec<(Host, mpsc::UnboundedSender<Order>, JoinHandle<()>)>,
    /// What ends by itself: restarts of the relay, slow paths.
    errands: Vec<JoinHandle<()>>,
    calm_at: Instant,
}

/// What a run says of itself.
pub struct Outcome {
    /// Everything that happened.
    pub history: String,
    /// The checks that failed.
    pub violations: Vec<String>,
    /// From the end of the faults until the last phone had an answer.
    pub recovery: Duration,
    /// Frames that arrived, both ways together.
    pub frames: u64,
    /// What was simulated.
    pub time: Duration,
    /// How often what is worth simulating happened.
    pub marks: Marks,
}

/// Runs a seed. Call within a paused, current-thread runtime.
pub(crate) async fn run(seed: u64, vandalism: Option<Vandalism>) -> Outcome {
    let mut rng = Rng::new(seed);
    let history = History::start();
    let start = Instant::now();
    let plan = Plan::draw(&mut rng);
    let net = Net::new(history.clone(), rng.fork(), vandalism);
    let book = Book::new(history.clone());
    let config = relay::config(&mut rng);
    history.note(
        "plan",
        format!(
            "{} daemons, {} phones, {} faults in {:?}",
            plan.servers.len(),
            plan.phones.len(),
            plan.faults.len(),
            plan.storm
        ),
    );
    let mut machine = Machine::new(net.clone(), book.clone(), config);
    machine.start();
    let mut world = World {
        net,
        book: book.clone(),
        relay: Arc::new(Mutex::new(machine)),
        processes: Arc::default(),
        daemons: Vec::new(),
        rivals: Vec::new(),
        phones: Vec::new(),
        errands: Vec::new(),
        calm_at: start + plan.storm,
        rng,
    };
    world.populate(&plan);
    if vandalism == Some(Vandalism::Stowaway) {
        world.stow_away();
    }
    world.storm(&plan).await;
    let recovery = world.calm().await;
    world.end().await;
    check::whole(&book);
    let mut marks = world.relay.lock().await.marks();
    marks.insert("frames lost to phones by a resume", book.open().lost_down);
    let frames = {
        let inner = book.open();
        let sessions = inner
            .daemons
            .values()
            .flat_map(|daemon| daemon.sessions.values());
        sessions.map(|spoken| spoken.next + spoken.sent).sum()
    };
    Outcome {
        violations: history.violations(),
        history: history.text(),
        recovery,
        frames,
        time: start.elapsed(),
        marks,
    }
}

impl World {
    fn populate(&mut self, plan: &Plan) {
        for (number, server) in plan.servers.iter().enumerate() {
            let host = self
                .net
                .host(&format!("daemon {number}"), path(&mut self.rng));
            let supervisor = self.supervise(number, server.resumable, false, host);
            self.daemons.push(supervisor);
        }
        for (number, server) in plan.phones.iter().enumerate() {
            let host = self
                .net
                .host(&format!("phone {number}"), path(&mut self.rng));
            self.book.open().phones.push(Phone {
                server: *server,
                ..Phone::default()
            });
            let home = Home {
                server_id: server_id(*server),
                host,
                net: self.net.clone(),
                book: self.book.clone(),
                rng: self.rng.fork(),
            };
            let device = Device { number, home };
            let (orders, taken) = mpsc::unbounded_channel();
            self.phones
                .push((host, orders, tokio::spawn(device.run(taken))));
        }
    }

    /// A phone that nobody knows of.
    fn stow_away(&mut self) {
        let host = self.net.host("stowaway", path(&mut self.rng));
        let options = Options {
            dialer: Some(self.net.dialer(host, Dials::default())),
            ..Options::default()
        };
        let phone = PhoneLink::builder("ws://relay.test", &server_id(0)).options(options);
        let Ok(mut phone) = phone.start() else { return };
        drop(tokio::spawn(async move {
            while phone.recv().await.is_some() {}
        }));
    }

    fn supervise(&mut self, server: usize, resumable: bool, rival: bool, host: Host) -> Supervisor {
        let (orders, mut taken) = mpsc::unbounded_channel();
        let (net, book) = (self.net.clone(), self.book.clone());
        let processes = self.processes.clone();
        let mut rng = self.rng.fork();
        let task = tokio::spawn(async move {
            loop {
                let home = Home {
                    server_id: server_id(server),
                    host,
                    net: net.clone(),
                    book: book.clone(),
                    rng: rng.fork(),
                };
                let process = Process {
                    number: processes.fetch_add(1, Ordering::Relaxed) + 1,
                    server,
                    resumable,
                    rival,
                    home,
                };
                match process.run(&mut taken).await {
                    Exit::Again(away) => sleep(away).await,
                    Exit::Conflict if !rival => sleep(Duration::from_secs(5)).await,
                    Exit::Conflict | Exit::End => return,
                }
            }
        });
        Supervisor {
            orders,
            host,
            server,
            task,
        }
    }

    async fn storm(&mut self, plan: &Plan) {
        let start = self.calm_at - plan.storm;
        for (at, fault) in &plan.faults {
            sleep_until(start + *at).await;
            self.audit().await;
            self.fault(*fault);
        }
        sleep_until(self.calm_at).await;
    }

    /// The rules of the hub hold at every moment.
    async fn audit(&self) {
        if let Ok(relay) = self.relay.try_lock() {
            relay.audit();
        }
    }

    /// At most until the calm.
    fn bounded(&self, time: Duration) -> Duration {
        time.min(self.calm_at - Instant::now())
    }

    fn fault(&mut self, fault: Fault) {
        let links = self.net.links();
        let link: Option<Target> = self.rng.choose(&links).copied();
        let side = self.rng.within(0..2) as usize;
        let daemon = self.rng.within(0..self.daemons.len() as u64) as usize;
        let phone = self.rng.within(0..self.phones.len() as u64) as usize;
        let hosts: Vec<Host> = (self.daemons.iter().map(|d| d.host))
            .chain(self.phones.iter().map(|(host, ..)| *host))
            .collect();
        let host = *self.rng.pick(&hosts);
        let tell_daemon = |order| drop(self.daemons[daemon].orders.send(order));
        let tell_phone = |order| drop(self.phones[phone].1.send(order));
        match (fault, link) {
            (Fault::Reset, Some(link)) => self.net.reset(link),
            (Fault::Deaf(time), Some(link)) => self.net.stall(link, side, self.bounded(time)),
            (Fault::DeafForEver, Some(link)) => self.net.stall(link, side, FOR_EVER),
            (Fault::BlackHole, Some(link)) => self.net.black_hole(link),
            (Fault::Reset | Fault::Deaf(_) | Fault::DeafForEver | Fault::BlackHole, None) => {}
            (Fault::Cut(time), _) => self.net.cut(host, self.bounded(time)),
            (Fault::CutAll(time), _) => {
                for host in hosts {
                    self.net.cut(host, self.bounded(time));
                }
            }
            (Fault::Throttle(time), _) => self.throttle(host, self.bounded(time)),
            (Fault::KillRelay(gap), _) => self.restart_relay(true, self.bounded(gap)),
            (Fault::RestartRelay(gap), _) => self.restart_relay(false, self.bounded(gap)),
            (Fault::KillDaemon(away), _) => tell_daemon(Order::Crash(self.bounded(away))),
            (Fault::UnplugDaemon(away), _) => {
                self.net.unplug(self.daemons[daemon].host);
                tell_daemon(Order::Crash(self.bounded(away)));
            }
            (Fault::RestartDaemon(away), _) => {
                tell_daemon(Order::Quit(self.bounded(away)));
            }
            (Fault::Rival(time), _) => self.rival(daemon, self.bounded(time)),
            (Fault::SlowDaemon(time), _) => tell_daemon(Order::Pause(self.bounded(time))),
            (Fault::Flood, _) => tell_daemon(Order::Flood),
            (Fault::Flap, _) => self.flap(self.daemons[daemon].host),
            (Fault::SlowPhone(time), _) => tell_phone(Order::Pause(self.bounded(time))),
            (Fault::QuitPhone(away), _) => tell_phone(Order::Quit(self.bounded(away))),
            (Fault::KillPhone(away), _) => tell_phone(Order::Crash(self.bounded(away))),
        }
    }

    fn flap(&mut self, host: Host) {
        let net = self.net.clone();
        self.errands.push(tokio::spawn(async move {
            for _ in 0..60 {
                let links = net.links().into_iter();
                for link in links.filter(|target| target.host == host) {
                    net.reset(link);
                }
                sleep(Duration::from_millis(150)).await;
            }
        }));
    }

    fn throttle(&mut self, host: Host, time: Duration) {
        self.net.throttle(host, slow_path(&mut self.rng));
        let net = self.net.clone();
        self.errands.push(tokio::spawn(async move {
            sleep(time).await;
            net.relieve(host);
        }));
    }

    fn restart_relay(&mut self, kill: bool, gap: Duration) {
        let relay = self.relay.clone();
        self.errands.push(tokio::spawn(async move {
            // One after the other.
            let mut relay = relay.lock().await;
            match kill {
                true => relay.kill(),
                false => relay.shut_down().await,
            }
            sleep(gap).await;
            relay.start();
        }));
    }

    fn rival(&mut self, daemon: usize, time: Duration) {
        let server = self.daemons[daemon].server;
        let host = self
            .net
            .host(&format!("rival {server}"), path(&mut self.rng));
        let resumable = self.rng.percent(50);
        let rival = self.supervise(server, resumable, true, host);
        let orders = rival.orders.clone();
        self.errands.push(tokio::spawn(async move {
            sleep(time).await;
            drop(orders.send(Order::End));
        }));
        self.rivals.push(rival);
    }

    /// Nothing more is done to anybody: everything recovers, and then stays.
    async fn calm(&mut self) -> Duration {
        self.book.history.note("world", "calm");
        for errand in self.errands.drain(..) {
            drop(errand.await);
        }
        self.book.open().calm = true;
        let calm = Instant::now();
        let calm_ms = self.book.history.ms();
        let waiting = |book: &Book| -> Vec<usize> {
            let inner = book.open();
            let phones = inner.phones.iter().enumerate();
            phones
                .filter(|(_, phone)| phone.recovered_ms.is_none())
                .map(|(n, _)| n)
                .collect()
        };
        while !waiting(&self.book).is_empty() && calm.elapsed() < RECOVERY {
            sleep(Duration::from_secs(1)).await;
        }
        for number in waiting(&self.book) {
            let text = format!("has no answer {RECOVERY:?} after the last fault");
            self.book
                .history
                .violation(&format!("phone {number}"), text);
        }
        let last_ms = {
            let inner = self.book.open();
            let recovered = inner.phones.iter().filter_map(|phone| phone.recovered_ms);
            recovered.max().unwrap_or(calm_ms)
        };
        self.book.history.note("world", "recovered");
        sleep_until(calm + RECOVERY).await;
        let stable_ms = self.book.history.ms();
        self.audit().await;
        sleep(STABLE).await;
        self.stayed(stable_ms);
        Duration::from_millis(last_ms.saturating_sub(calm_ms))
    }

    /// Nothing has ended since.
    fn stayed(&self, since_ms: u64) {
        let inner = self.book.open();
        let phones = inner.phones.iter().flat_map(|phone| &phone.conns.all);
        let daemons = inner.daemons.values().flat_map(|daemon| &daemon.conns.all);
        let ended = phones.chain(daemons).filter_map(|conn| conn.end.as_ref());
        let late: Vec<_> = ended.filter(|end| end.at_ms > since_ms).cloned().collect();
        drop(inner);
        for end in late {
            self.book
                .history
                .violation("world", format!("ended in the calm: {end:?}"));
        }
    }

    /// Silence, and then everybody leaves.
    async fn end(&mut self) {
        for supervisor in &self.daemons {
            drop(supervisor.orders.send(Order::Hush));
        }
        for (_, orders, _) in &self.phones {
            drop(orders.send(Order::Hush));
        }
        sleep(SETTLE).await;
        self.book.history.note("world", "silent");
        crate::settled::check(&self.book, &*self.relay.lock().await, self.daemons.len());
        for (number, (_, orders, _)) in self.phones.iter().enumerate() {
            drop(orders.send(match number % 2 {
                0 => Order::End,
                _ => Order::Crash(FOR_EVER),
            }));
        }
        sleep(Duration::from_secs(10)).await;
        for supervisor in self.daemons.drain(..).chain(self.rivals.drain(..)) {
            drop(supervisor.orders.send(Order::End));
            drop(supervisor.task.await);
        }
        for (_, _, task) in self.phones.drain(..) {
            task.abort();
        }
        self.relay.lock().await.finish().await;
        sleep(Duration::from_millis(1)).await;
        let left = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        if left > 0 {
            self.book
                .history
                .violation("world", format!("{left} tasks are left"));
        }
    }
}

fn server_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}
