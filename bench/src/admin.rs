//! What it costs when somebody looks: the same frames with no page open, and with one (its stream of events, and its
//! list of slots every two seconds) and a scrape of the metrics every second. Both in one process, in turn.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::bench::Bench;
use crate::dial::{Dialler, Ids, Leg};
use crate::fleet::{Fleet, Role};
use crate::frames::{Cost, measure};
use crate::link::Link;
use crate::machine::free_addr;
use crate::report::{Row, Target};

const BINARIES: usize = 4;
const PHONES: usize = 64;
const IN_FLIGHT: u64 = 16;
const FRAME_BYTES: usize = 256;

/// Pairs of windows in one relay.
const PAIRS: usize = 5;

/// In a shorter window there is no whole round of what a page asks for.
const ROUND: Duration = Duration::from_secs(4);

/// Two rows for a small relay, and two for one with many slots.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for slots in [BINARIES, bench.scale.slots] {
        let name = format!("{slots} slots");
        let runs = bench.repeat(&name, || pairs(bench, slots))?;
        let runs: Vec<_> = runs.into_iter().flatten().collect();
        let closed = runs.iter().map(|pair| pair.closed.cpu_us()).collect();
        let closed = Row::new(format!("CPU per frame, {name}, no page"), "µs", closed)
            .loads(runs.iter().map(|pair| pair.closed.load));
        let more = runs.iter().map(|pair| {
            let times = pair.open.cpu_us() / pair.closed.cpu_us();
            (times - 1.0) * 100.0
        });
        let answers: u64 = runs.iter().map(|pair| pair.answers).sum();
        let more = Row::new("  more with an open page", "%", more.collect())
            .target(Target::median(1.0, None))
            .note(format!("{answers} events, lists and scrapes were taken"));
        rows.extend([closed, more]);
    }
    Ok(rows)
}

/// One window each.
struct Pair {
    closed: Cost,
    open: Cost,
    /// Events and answers that came meanwhile.
    answers: u64,
}

fn pairs(bench: &Bench, slots: usize) -> io::Result<Vec<Pair>> {
    let admin = free_addr()?;
    let metrics = format!("--metrics-listen={admin}");
    let server = bench.subject.start(&[&metrics])?;
    let mut dialler = Dialler::new(server.addr);
    let ids = Ids::new("admin");
    let mut fleet = Fleet::new(FRAME_BYTES)?;
    let binaries = dialler.upgraded(BINARIES, None, |index| ids.request(Leg::Binary, index))?;
    let phones = dialler.upgraded(PHONES, None, |index| {
        ids.request(Leg::Phone, index % BINARIES)
    })?;
    let idle = |index| ids.request(Leg::Binary, BINARIES + index);
    let _idle: Vec<Link> = dialler.upgraded(slots - BINARIES, None, idle)?;
    for link in binaries {
        fleet.add(link, Role::binary())?;
    }
    for link in phones {
        let phone = fleet.add(link, Role::Phone)?;
        fleet.start(phone, IN_FLIGHT, u64::MAX)?;
    }
    let mut scale = bench.scale.clone();
    let pairs = if scale.quick { 1 } else { PAIRS };
    if !scale.quick {
        scale.measure = ROUND;
    }
    let mut found = Vec::new();
    for number in 0..pairs {
        // Whatever drifts meets both alike.
        let open_first = number % 2 == 1;
        let mut closed = None;
        if !open_first {
            closed = Some(measure(&server, &mut fleet, &scale)?);
        }
        let page = OpenPage::new(admin)?;
        let open = measure(&server, &mut fleet, &scale)?;
        let answers = page.close()?;
        let closed = match closed {
            Some(closed) => closed,
            None => measure(&server, &mut fleet, &scale)?,
        };
        found.push(Pair {
            closed,
            open,
            answers,
        });
    }
    Ok(found)
}

/// A page in a browser, and a scraper beside it.
struct OpenPage {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl OpenPage {
    /// Returns when the first event has come.
    fn new(admin: SocketAddr) -> io::Result<Self> {
        let mut page = Self {
            over: Arc::default(),
            answers: Arc::default(),
            tasks: Vec::new(),
        };
        let mut stream = asked(admin, "/admin/events", "keep-alive")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut buffer = [0; 64 * 1024];
        if stream.read(&mut buffer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        page.task(Duration::ZERO, move || match stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        });
        for (seconds, path) in [
            (2, "/admin/slots?sort=age&order=desc&limit=100"),
            (1, "/metrics"),
        ] {
            page.task(Duration::from_secs(seconds), move || {
                let mut answer = Vec::new();
                asked(admin, path, "close")?.read_to_end(&mut answer)?;
                match answer.starts_with(b"HTTP/1.1 200") {
                    true => Ok(()),
                    false => Err(io::Error::other(format!("{path} is not answered"))),
                }
            });
        }
        Ok(page)
    }

    /// Does this again and again.
    fn task(&mut self, every: Duration, mut once: impl FnMut() -> io::Result<()> + Send + 'static) {
        let (over, answers) = (self.over.clone(), self.answers.clone());
        self.tasks.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                once()?;
                answers.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(every);
            }
            Ok(())
        }));
    }

    /// How many answers and events came.
    fn close(self) -> io::Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.thread().unpark();
            let done = task.join();
            done.map_err(|_| io::Error::other("a reader of the page panicked"))??;
        }
        Ok(self.answers.load(Ordering::Relaxed))
    }
}

/// A connection on which this has been asked for.
fn asked(admin: SocketAddr, path: &str, connection: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(admin)?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}
