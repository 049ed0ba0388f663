//! What it costs when somebody looks: the processor time that a relay at rest spends on one open page (its stream of
//! events, and its list of slots every two seconds) and a scrape of the metrics every second. It is taken from the
//! frames that the same core could carry. (Compared are not the costs of frames with and without a page: they differ
//! by ten times more from one window to the next.)

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::bench::Bench;
use crate::dial::{Dialler, Ids, Leg};
use crate::link::Link;
use crate::machine::{Server, free_addr};
use crate::report::{Row, Target};

/// Slots of a small relay.
const FEW: usize = 4;

/// A row for a small relay, and one for a relay with many slots.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for slots in [FEW, bench.scale.slots] {
        let admin = free_addr()?;
        let metrics = format!("--metrics-listen={admin}");
        // The heartbeat of all those connections would fall into one window or another.
        let server = bench.subject.start(&[&metrics, "--ping-interval=1h"])?;
        let mut dialler = Dialler::new(server.addr);
        let ids = Ids::new("admin");
        let _held: Vec<Link> =
            dialler.upgraded(slots, None, |index| ids.request(Leg::Binary, index))?;
        // A page asks for everything once in two seconds.
        let window = Duration::from_secs(if bench.scale.quick { 2 } else { 8 });
        let mut answers = 0;
        let percent = bench.repeat(&format!("{slots} slots"), || {
            let closed = resting(&server, window)?;
            let page = OpenPage::new(admin)?;
            let open = resting(&server, window)?;
            answers += page.close()?;
            Ok((open - closed) * 100.0)
        })?;
        let name = format!("open page, a scrape each second, {slots} slots");
        let row = Row::new(name, "%core", percent)
            .target(Target::median(1.0, None))
            .note(format!("{answers} events, lists and scrapes were taken"));
        rows.push(row);
    }
    Ok(rows)
}

/// The part of one core's time that the server uses while nothing is sent through it.
fn resting(server: &Server, window: Duration) -> io::Result<f64> {
    let ((), load) = server.load(|| {
        thread::sleep(window);
        Ok(())
    })?;
    Ok(load.server_s / load.wall_s)
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
