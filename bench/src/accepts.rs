//! Whole lives of connections: TCP, upgrade, registration, close handshake, end.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::bench::{Bench, Scale};
use crate::dial::{Dialler, Ids, Leg, turned_away};
use crate::link::Link;
use crate::machine::{Load, Process, Server, THIS, free_addr};
use crate::poll::{Poll, now};
use crate::report::{Row, Target};
use crate::wire;

/// Lives going on at the same time, spread over the binaries so that none has more than 16 phones.
const AT_ONCE: usize = 64;
const BINARIES: usize = 8;

/// What one run showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    pub(crate) load: Load,
    /// How many ended in that time.
    pub(crate) count: f64,
}

impl Lives {
    pub(crate) fn per_s(&self) -> f64 {
        self.count / self.load.wall_s
    }

    /// Processor time of the server for each, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.load.server_s * 1e6 / self.count
    }
}

/// CPU for each, and how many a second.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let runs = bench.repeat("relay and floor", || {
        Ok((relay(bench)?, floor(&bench.scale)?))
    })?;
    let row = |name: &str, unit, value: fn(&Lives) -> f64| {
        let ours = runs.iter().map(|(ours, _)| value(ours)).collect();
        let floor = runs.iter().map(|(_, floor)| value(floor)).collect();
        Row::new(name, unit, ours)
            .floor(floor)
            .loads(runs.iter().map(|(ours, _)| ours.load))
    };
    Ok(vec![
        row("accept to close, CPU each", "µs", Lives::cpu_us)
            .target(Target::median(60.0, Some(45.0))),
        row("  per second", "1/s", Lives::per_s),
    ])
}

/// Lives of phones at the relay.
fn relay(bench: &Bench) -> io::Result<Lives> {
    let server = bench.subject.start(&[])?;
    let (mut crowd, _binaries) = crowd(server.addr)?;
    crowd.measure(&server, &bench.scale)
}

/// Phones that are about to come and go at a relay, and their binaries.
pub(crate) fn crowd(relay: SocketAddr) -> io::Result<(Crowd, Vec<Link>)> {
    let mut dialler = Dialler::new(relay);
    let ids = Ids::new("accepts");
    let binaries = dialler.upgraded(BINARIES, None, |index| ids.request(Leg::Binary, index))?;
    let requests = (0..BINARIES).map(|index| ids.request(Leg::Phone, index));
    let crowd = Crowd::new(dialler, requests.collect())?;
    Ok((crowd, binaries))
}

/// A server that answers the same bytes without looking at them, each connection with two writes. That is a floor of one
/// connection for each life; through a forwarder it would be two.
fn floor(scale: &Scale) -> io::Result<Lives> {
    let addr = free_addr()?;
    let args = ["far".to_owned(), addr.to_string()];
    let server = Process::serve(THIS.as_ref(), &args, addr)?;
    let requests = vec![Ids::new("accepts").request(Leg::Phone, 0); BINARIES];
    Crowd::new(Dialler::new(server.addr), requests)?.measure(&server, scale)
}

/// One connection at a time in each place.
struct Life {
    stream: TcpStream,
    /// What came so far: the response, then the answer to our Close.
    got: Vec<u8>,
    closing: bool,
}

/// As many lives at a time as there are places.
pub(crate) struct Crowd {
    poll: Poll,
    dialler: Dialler,
    requests: Vec<Vec<u8>>,
    close: Box<[u8]>,
    lives: Vec<Life>,
    /// Lives that are over.
    pub(crate) ended: u64,
}

impl Crowd {
    fn new(dialler: Dialler, requests: Vec<Vec<u8>>) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            dialler,
            requests,
            close: wire::close(),
            lives: Vec::new(),
            ended: 0,
        })
    }

    fn measure(&mut self, server: &Server, scale: &Scale) -> io::Result<Lives> {
        self.run(scale.warm_up)?;
        let (count, load) = server.cost(|| {
            let before = self.ended;
            self.run(scale.measure)?;
            Ok(self.ended - before)
        })?;
        Ok(Lives { load, count })
    }

    fn born(&mut self, index: usize) -> io::Result<Life> {
        let mut stream = self.dialler.tcp()?;
        stream.write_all(&self.requests[index % BINARIES])?;
        stream.set_nonblocking(true)?;
        self.poll.add(&stream, index)?;
        Ok(Life {
            stream,
            got: Vec::with_capacity(256),
            closing: false,
        })
    }

    /// Goes on for this time.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<()> {
        while self.lives.len() < AT_ONCE {
            let life = self.born(self.lives.len())?;
            self.lives.push(life);
        }
        let until = Instant::now() + time;
        let mut ready = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poll.wait(&mut ready, left)?;
            for index in ready.iter().map(|event| event.number) {
                if self.go_on(index)? {
                    self.ended += 1;
                    // Dropping the old stream also takes it out of the poll.
                    self.lives[index] = self.born(index)?;
                }
            }
        }
    }

    /// Whether this life is over.
    fn go_on(&mut self, index: usize) -> io::Result<bool> {
        let life = &mut self.lives[index];
        let mut piece = [0; 512];
        while let Some(count) = now(life.stream.read(&mut piece))? {
            if count == 0 {
                return match life.closing && life.got.starts_with(&[0x88]) {
                    true => Ok(true),
                    false => Err(io::Error::other(
                        "a connection ended before its close handshake",
                    )),
                };
            }
            life.got.extend_from_slice(&piece[..count]);
            if !life.closing && life.got.ends_with(b"\r\n\r\n") {
                if !life.got.starts_with(b"HTTP/1.1 101") {
                    return Err(turned_away(&life.got));
                }
                life.got.clear();
                life.closing = true;
                life.stream.write_all(&self.close)?;
            }
        }
        Ok(false)
    }
}
