//! Round trips: one phone with one frame in flight, through the relay and through the floor by turns.

use std::io::{self, Read as _, Write as _};
use std::time::Instant;

use crate::bench::{Bench, Scale};
use crate::dial::{Dialler, Ids, Leg, PATIENCE};
use crate::fleet::envelope_frame;
use crate::floor::Floor;
use crate::link::Link;
use crate::report::{Row, Target};
use crate::stats::percentile;
use crate::wire::{self, Scanner};

/// Round trips on one way before it is the other's turn.
const BATCH: usize = 50;

/// Two rows for each size.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (bytes, name) in [(256, "256 B"), (4096, "4 KiB"), (65_536, "64 KiB")] {
        let runs = bench.repeat(name, || by_turns(bench, bytes))?;
        for (percent, at_least, aim) in [(50.0, 1.4, 1.2), (99.0, 1.5, 1.2)] {
            let at = |way: usize| -> Vec<f64> {
                let times = runs.iter().map(|times: &[Vec<f64>; 2]| &times[way]);
                times.map(|times| percentile(times, percent)).collect()
            };
            rows.push(
                Row::new(format!("round trip, {name}, p{percent}"), "µs", at(0))
                    .floor(at(1))
                    .target(Target::times_floor(at_least, aim)),
            );
        }
    }
    Ok(rows)
}

/// Round-trip times in microseconds: the relay's and the floor's.
fn by_turns(bench: &Bench, bytes: usize) -> io::Result<[Vec<f64>; 2]> {
    let server = bench.subject.start(&[])?;
    let mut floor = Floor::start()?;
    let mut dialler = Dialler::new(server.addr);
    let ids = Ids::new("latency");
    let mut one = |leg| dialler.upgraded(1, None, |_| ids.request(leg, 0));
    let (binary, phone) = (one(Leg::Binary)?, one(Leg::Phone)?);
    let [near, far] = floor.pair()?;
    let mut ways = [
        Way::new(phone.into_iter().chain(binary), bytes)?,
        Way::new([near, far].into_iter(), bytes)?,
    ];
    let Scale {
        warm_up, measure, ..
    } = bench.scale;
    let mut times = [Vec::new(), Vec::new()];
    for (time, counts) in [(warm_up, false), (measure * 2, true)] {
        let since = Instant::now();
        while since.elapsed() < time {
            for (way, times) in ways.iter_mut().zip(&mut times) {
                for _ in 0..BATCH {
                    let took = way.round_trip()?;
                    if counts {
                        times.push(took);
                    }
                }
            }
        }
    }
    Ok(times)
}

/// A phone and the one who answers it, both in this thread: what is timed is the way between them.
struct Way {
    phone: Link,
    binary: Link,
    question: Box<[u8]>,
    answer: Option<Box<[u8]>>,
    payload: Vec<u8>,
    scanners: [Scanner; 2],
    buffer: Vec<u8>,
}

impl Way {
    fn new(mut ends: impl Iterator<Item = Link>, bytes: usize) -> io::Result<Self> {
        let (Some(phone), Some(binary)) = (ends.next(), ends.next()) else {
            return Err(io::Error::other("a way has two ends"));
        };
        let payload = wire::payload(bytes);
        Ok(Self {
            phone,
            binary,
            question: wire::message(&payload),
            answer: None,
            payload,
            scanners: [Scanner::new(), Scanner::new()],
            buffer: vec![0; 256 * 1024],
        })
    }

    /// Microseconds from a question to its answer.
    fn round_trip(&mut self) -> io::Result<f64> {
        let [at_binary, at_phone] = &mut self.scanners;
        let since = Instant::now();
        self.phone.write_all(&self.question)?;
        let arrived = receive(&mut self.binary, at_binary, &mut self.buffer)?;
        let answer = self.answer.get_or_insert_with(|| {
            // Through the floor comes the question itself.
            let envelope = arrived.as_deref().and_then(wire::conn_id);
            let envelope = envelope.and_then(|conn_id| envelope_frame(conn_id, &self.payload));
            envelope.unwrap_or_else(|| self.question.clone())
        });
        self.binary.write_all(answer)?;
        receive(&mut self.phone, at_phone, &mut self.buffer)?;
        Ok(since.elapsed().as_secs_f64() * 1e6)
    }
}

/// Waits for one message; returns how it starts.
fn receive(
    link: &mut Link,
    scanner: &mut Scanner,
    buffer: &mut [u8],
) -> io::Result<Option<Vec<u8>>> {
    loop {
        let count = link.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::other(format!("no frame within {} s", PATIENCE.as_secs()))
            }
            _ => error,
        })?;
        if count == 0 {
            return Err(io::Error::other("a connection ended during the run"));
        }
        let (mut start, mut closed) = (None, false);
        scanner.feed(&buffer[..count], |frame| match frame.opcode {
            1 | 2 => start = Some(frame.start.to_vec()),
            8 => closed = true,
            _ => {}
        });
        if closed {
            return Err(io::Error::other("the relay sent a close frame"));
        }
        if start.is_some() {
            return Ok(start);
        }
    }
}
