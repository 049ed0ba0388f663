//! A network in memory. It keeps TCP's promises (in order, no byte lost or changed while the connection lives) and
//! breaks everything that TCP does not promise: time, bandwidth, and that an end hears of the other's end.

mod end;
mod pipe;
mod tap;
mod vandal;

pub(crate) use end::End;
pub(crate) use pipe::{FOR_EVER, Path};
pub(crate) use tap::{Leg, Totals, Wire};
pub use vandal::Vandalism;

use crate::history::History;
use crate::rng::Rng;
use end::Link;
use relay_client::{ByteStream, Dialer, Dialling, Endpoint};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Who takes the connections of the relay's machine.
pub(crate) type Acceptor = Arc<dyn Fn(IpAddr, End) + Send + Sync>;

/// A machine with one path to the relay's.
pub(crate) type Host = usize;

/// The network; cheap to clone.
#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<Inner>>);

struct Inner {
    history: History,
    rng: Rng,
    hosts: Vec<Machine>,
    links: BTreeMap<u64, (Host, Arc<Link>)>,
    next: u64,
    acceptor: Option<Acceptor>,
    wire: Wire,
    vandalism: Option<Vandalism>,
}

struct Machine {
    name: String,
    ip: IpAddr,
    /// As it is now.
    path: Path,
    /// As it is when nothing throttles it.
    own_path: Path,
    throttles: usize,
    cut_until: Instant,
}

/// What is wrong with the connections of a machine that is throttled.
const THROTTLED: &str = "throttled";

/// A connection that could be hurt: its number, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The number of the connection.
    pub(crate) link: u64,
    /// The client's machine.
    pub(crate) host: Host,
}

impl Net {
    /// A network without machines.
    pub(crate) fn new(history: History, rng: Rng, vandalism: Option<Vandalism>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            history,
            rng,
            hosts: Vec::new(),
            links: BTreeMap::new(),
            next: 1,
            acceptor: None,
            wire: Wire::default(),
            vandalism,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a machine.
    pub(crate) fn host(&self, name: &str, path: Path) -> Host {
        let mut inner = self.lock();
        let number = inner.hosts.len();
        let ip = [198, 18, (number >> 8) as u8, number as u8];
        inner.hosts.push(Machine {
            name: name.to_owned(),
            ip: IpAddr::from(ip),
            path,
            own_path: path,
            throttles: 0,
            cut_until: Instant::now(),
        });
        number
    }

    /// Makes the path of a machine as slow as that, until [`Net::relieve`] was called as often as this.
    pub(crate) fn throttle(&self, host: Host, path: Path) {
        self.lock().hosts[host].throttles += 1;
        self.set_path(host, path);
    }

    /// Ends one [`Net::throttle`]. With the last one the machine has its own path again.
    pub(crate) fn relieve(&self, host: Host) {
        let own_path = {
            let machine = &mut self.lock().hosts[host];
            machine.throttles -= 1;
            (machine.throttles == 0).then_some(machine.own_path)
        };
        if let Some(path) = own_path {
            self.set_path(host, path);
        }
    }

    fn set_path(&self, host: Host, path: Path) {
        let throttled = self.lock().hosts[host].throttles > 0;
        let links = self
            .links()
            .into_iter()
            .filter(|target| target.host == host);
        for link in links.filter_map(|target| self.link(target.link)) {
            link.set_path(path);
            if throttled {
                link.hurt(THROTTLED);
            }
        }
        let mut inner = self.lock();
        let machine = &mut inner.hosts[host];
        machine.path = path;
        let text = format!("{}: {path:?}", machine.name);
        inner.history.note("network", text);
    }

    /// A relay that listens from now on, and what it writes and reads on its sockets. `None`: nobody listens.
    pub(crate) fn listen(&self, acceptor: Option<Acceptor>) -> Wire {
        let mut inner = self.lock();
        inner.acceptor = acceptor;
        inner.wire = Wire::default();
        inner.wire.clone()
    }

    /// What the programs on a machine dial by.
    pub(crate) fn dialer(&self, host: Host, dials: Dials) -> Arc<dyn Dialer> {
        Arc::new(HostDialer {
            net: self.clone(),
            host,
            dials,
        })
    }

    /// Connections that have an end left, oldest first.
    pub(crate) fn links(&self) -> Vec<Target> {
        let mut inner = self.lock();
        inner.links.retain(|_, (_, link)| !link.is_over());
        let links = inner.links.iter();
        links
            .map(|(link, (host, _))| Target {
                link: *link,
                host: *host,
            })
            .collect()
    }

    fn link(&self, link: u64) -> Option<Arc<Link>> {
        self.lock().links.get(&link).map(|(_, link)| link.clone())
    }

    fn hurt(&self, target: Target, how: &str) -> Option<Arc<Link>> {
        let link = self.link(target.link)?;
        link.hurt(how);
        let inner = self.lock();
        let name = inner.hosts[target.host].name.clone();
        inner
            .history
            .note("network", format!("{how}: {name} #{}", target.link));
        Some(link)
    }

    /// Both ends of a connection get a reset, now.
    pub(crate) fn reset(&self, target: Target) {
        if let Some(link) = self.hurt(target, "reset") {
            link.reset();
        }
    }

    /// Nothing arrives at one side of a connection (0: the client's, 1: the relay's) for this long.
    pub(crate) fn stall(&self, target: Target, to: usize, time: Duration) {
        let how = if time >= FOR_EVER {
            "deaf for ever".to_owned()
        } else {
            format!("deaf for {time:?}")
        };
        let side = ["client", "relay"][to];
        if let Some(link) = self.hurt(target, &format!("{side} {how}")) {
            link.hold(1 - to, time);
        }
    }

    /// A connection dies without a word to anybody.
    pub(crate) fn black_hole(&self, target: Target) {
        if let Some(link) = self.hurt(target, "black hole") {
            link.hold(0, FOR_EVER);
            link.hold(1, FOR_EVER);
        }
    }

    /// A machine and the relay's hear nothing of each other for this long; then everything goes on.
    pub(crate) fn cut(&self, host: Host, time: Duration) {
        {
            let mut inner = self.lock();
            let until = Instant::now() + time;
            let machine = &mut inner.hosts[host];
            machine.cut_until = machine.cut_until.max(until);
            let name = machine.name.clone();
            inner
                .history
                .note("network", format!("cut off for {time:?}: {name}"));
        }
        for target in self
            .links()
            .into_iter()
            .filter(|target| target.host == host)
        {
            if let Some(link) = self.hurt(target, "cut off") {
                link.hold(0, time);
                link.hold(1, time);
            }
        }
    }

    /// All connections get a reset: what the kernel does for a process that was killed.
    pub(crate) fn reset_all(&self) {
        for target in self.links() {
            self.reset(target);
        }
    }

    /// As [`Self::black_hole`], of everything a machine has.
    pub(crate) fn unplug(&self, host: Host) {
        for target in self
            .links()
            .into_iter()
            .filter(|target| target.host == host)
        {
            self.black_hole(target);
        }
    }
}

/// The dials of a program, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dials(Arc<Mutex<VecDeque<Dialled>>>);

impl Dials {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Dialled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest one whose outcome the program's owner has not heard of yet.
    pub(crate) fn next(&self) -> Dialled {
        self.lock().pop_front().unwrap_or_default()
    }

    /// The oldest one that connected and of which the program's owner has not heard yet.
    pub(crate) fn next_connected(&self) -> Option<Dialled> {
        let mut dials = self.lock();
        std::iter::from_fn(|| dials.pop_front()).find(|dialled| dialled.link.is_some())
    }
}

/// One dial.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialled {
    /// It had to wait for the end of a cut.
    pub(crate) cut: bool,
    /// When the dial began, in milliseconds of the history.
    pub(crate) at_ms: u64,
    /// The connection; `None`: none came about.
    pub(crate) link: Option<Arc<Link>>,
    /// Its number, 0 for none.
    pub(crate) number: u64,
}

impl Dialled {
    /// What was done to it.
    pub(crate) fn hurt(&self) -> Option<String> {
        self.link.as_ref().and_then(|link| link.was_hurt())
    }
}

struct HostDialer {
    net: Net,
    host: Host,
    dials: Dials,
}

impl std::fmt::Debug for HostDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HostDialer").field(&self.host).finish()
    }
}

impl Dialer for HostDialer {
    fn dial(&self, _: &Endpoint) -> Dialling {
        let (net, host, dials) = (self.net.clone(), self.host, self.dials.clone());
        Box::pin(async move {
            let at_ms = net.lock().history.ms();
            let cut = net.lock().hosts[host].cut_until > Instant::now();
            dials.lock().push_back(Dialled {
                at_ms,
                cut,
                ..Dialled::default()
            });
            let (number, link, end) = net.connect(host).await?;
            // A program dials once at a time.
            if let Some(dialled) = dials.lock().back_mut() {
                dialled.link = Some(link);
                dialled.number = number;
            }
            Ok(Box::new(end) as Box<dyn ByteStream>)
        })
    }
}

impl Net {
    async fn connect(&self, host: Host) -> io::Result<(u64, Arc<Link>, End)> {
        // SYNs are sent again until they get through.
        loop {
            let until = self.lock().hosts[host].cut_until;
            if until <= Instant::now() {
                break;
            }
            sleep_until(until).await;
        }
        let latency = self.lock().hosts[host].path.latency;
        sleep(latency * 2).await;
        let mut inner = self.lock();
        let machine = &inner.hosts[host];
        let (name, ip, path) = (machine.name.clone(), machine.ip, machine.path);
        let Some(acceptor) = inner.acceptor.clone() else {
            inner.history.note("network", format!("refused: {name}"));
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let number = inner.next;
        inner.next += 1;
        inner
            .history
            .note("network", format!("connected: {name} #{number}"));
        let rng = inner.rng.fork();
        let tap = inner.wire.tap();
        let vandal = inner
            .vandalism
            .map(|how| vandal::Vandal::new(how, inner.rng.fork()));
        let link = Arc::new(Link::new(
            number,
            path,
            rng,
            inner.history.clone(),
            tap,
            vandal,
        ));
        if inner.hosts[host].throttles > 0 {
            link.hurt(THROTTLED);
        }
        let [client, relay] = End::pair(&link);
        inner.links.insert(number, (host, link.clone()));
        drop(inner);
        acceptor(ip, relay);
        Ok((number, link, client))
    }
}
