//! Processor time per frame: phones that keep frames in flight, binaries that answer each of them.
//! A phone's frame and the answer to it count as two.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use relay_proto::envelope;

use crate::dial::{Dialler, Leg, request};
use crate::machine::{self, Server};
use crate::poll::{Poll, now};
use crate::wire::{self, Scanner};

const BINARIES: usize = 4;
const PHONES: usize = 64;
const IN_FLIGHT: usize = 16;
/// Frames handed to the kernel in one call at most.
const SLICES: usize = 64;

/// What one run showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Processor time of the server per frame it forwarded, in microseconds.
    pub(crate) cpu_us: f64,
    /// Frames forwarded per second, both directions together.
    pub(crate) frames_per_s: f64,
    /// How busy the server's and the generator's core were with them, 0 to 1.
    pub(crate) server_busy: f64,
    pub(crate) generator_busy: f64,
}

/// How long to run before measuring, and to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
}

/// Through the relay: phones and binaries, as in earnest.
pub(crate) fn relay(server: &Server, bytes: usize, windows: Windows) -> io::Result<Cost> {
    let mut dialler = Dialler::new(server.addr);
    let id = |index: usize| format!("bench-{bytes}-{}", index % BINARIES);
    let binaries = dialler.upgraded(BINARIES, |index| request(Leg::Binary, &id(index)))?;
    let phones = dialler.upgraded(PHONES, |index| request(Leg::Phone, &id(index)))?;
    let mut exchange = Exchange::new(bytes)?;
    for stream in binaries {
        exchange.add(stream, Part::Binary(HashMap::new()))?;
    }
    for stream in phones {
        exchange.add(stream, Part::Phone)?;
    }
    measure(server, &mut exchange, windows)
}

/// Through the floor: the same frames, but every phone has a way of its own.
pub(crate) fn floor(
    server: &Server,
    back: &TcpListener,
    bytes: usize,
    windows: Windows,
) -> io::Result<Cost> {
    let mut dialler = Dialler::new(server.addr);
    let mut exchange = Exchange::new(bytes)?;
    for _ in 0..PHONES {
        let phone = dialler.tcp()?;
        let (binary, _) = back.accept()?;
        binary.set_nodelay(true)?;
        exchange.add(binary, Part::Mirror)?;
        exchange.add(phone, Part::Phone)?;
    }
    measure(server, &mut exchange, windows)
}

/// Starts the floor: this program once more, forwarding to `back`.
pub(crate) fn start_floor(back: &TcpListener) -> io::Result<Server> {
    let server = start_floor_to(back.local_addr()?)?;
    // Waiting for it to listen made a connection of its own.
    drop(back.accept()?);
    Ok(server)
}

/// The same, for a far side that copes with a first connection on which nothing comes.
pub(crate) fn start_floor_to(back: SocketAddr) -> io::Result<Server> {
    let addr = machine::free_addr()?;
    let args = ["floor".to_owned(), addr.to_string(), back.to_string()];
    Server::start(Path::new("/proc/self/exe"), &args, addr)
}

fn measure(server: &Server, exchange: &mut Exchange, windows: Windows) -> io::Result<Cost> {
    exchange.run(windows.warm_up)?;
    let (since, frames) = (Instant::now(), exchange.passed);
    let (server_ns, own_ns) = (server.cpu_ns()?, machine::own_cpu_ns()?);
    exchange.run(windows.measure)?;
    let wall = since.elapsed().as_secs_f64();
    let server_s = (server.cpu_ns()? - server_ns) as f64 / 1e9;
    let own_s = (machine::own_cpu_ns()? - own_ns) as f64 / 1e9;
    let frames = (exchange.passed - frames) as f64;
    if frames == 0.0 {
        return Err(io::Error::other("no frame came through"));
    }
    Ok(Cost {
        cpu_us: server_s * 1e6 / frames,
        frames_per_s: frames / wall,
        server_busy: server_s / wall,
        generator_busy: own_s / wall,
    })
}

/// What a connection does with an arriving frame.
#[derive(Debug)]
enum Part {
    /// Sends the next one.
    Phone,
    /// Answers to the phone it came from; the answer for each is made once.
    Binary(HashMap<Box<[u8]>, usize>),
    /// Answers.
    Mirror,
}

#[derive(Debug)]
struct Conn {
    stream: TcpStream,
    part: Part,
    scanner: Scanner,
    /// Frames to send, by number, and how much of the first one is sent already.
    queue: VecDeque<usize>,
    sent: usize,
}

/// All connections of one run.
struct Exchange {
    poll: Poll,
    conns: Vec<Conn>,
    /// Frame 0 is a phone's, frame 1 the answer of a mirror; the binaries' answers follow.
    frames: Vec<Box<[u8]>>,
    payload: Vec<u8>,
    buffer: Vec<u8>,
    /// Frames that came out on the other side.
    passed: u64,
}

impl Exchange {
    fn new(bytes: usize) -> io::Result<Self> {
        let payload = wire::payload(bytes);
        let frames = vec![wire::message(&payload), wire::message(&payload)];
        let buffer = vec![0; 256 * 1024];
        Ok(Self {
            poll: Poll::new()?,
            conns: Vec::new(),
            frames,
            payload,
            buffer,
            passed: 0,
        })
    }

    fn add(&mut self, stream: TcpStream, part: Part) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.poll.add(&stream, self.conns.len())?;
        let ahead = if matches!(part, Part::Phone) {
            IN_FLIGHT
        } else {
            0
        };
        let queue = std::iter::repeat_n(0, ahead).collect();
        self.conns.push(Conn {
            stream,
            part,
            scanner: Scanner::new(),
            queue,
            sent: 0,
        });
        Ok(())
    }

    fn run(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        let mut ready = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poll.wait(&mut ready, left)?;
            for index in ready.iter().map(|event| event.number) {
                self.read(index)?;
                self.write(index)?;
            }
        }
    }

    /// Reads all there is and queues what it calls for.
    fn read(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        while let Some(count) = now(conn.stream.read(&mut self.buffer))? {
            if count == 0 {
                return Err(io::Error::other("a connection ended during the run"));
            }
            let (part, queue) = (&mut conn.part, &mut conn.queue);
            let (frames, payload, passed) = (&mut self.frames, &self.payload, &mut self.passed);
            let mut fault = None;
            conn.scanner
                .feed(&self.buffer[..count], |frame| match frame.opcode {
                    1 => {
                        *passed += 1;
                        match answer(part, frame.start, frames, payload) {
                            Some(number) => queue.push_back(number),
                            None => fault = Some("a message that is no envelope"),
                        }
                    }
                    8 => fault = Some("a close frame"),
                    _ => {}
                });
            if let Some(fault) = fault {
                return Err(io::Error::other(format!("the relay sent {fault}")));
            }
            // A short read means that there is no more.
            if count < self.buffer.len() {
                break;
            }
        }
        Ok(())
    }

    /// Writes as much of the queue as the kernel takes, many frames at once.
    fn write(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        while !conn.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, number) in slices.iter_mut().zip(&conn.queue) {
                let skip = if count == 0 { conn.sent } else { 0 };
                *slice = IoSlice::new(&self.frames[*number][skip..]);
                count += 1;
            }
            let Some(mut written) = now(conn.stream.write_vectored(&slices[..count]))? else {
                return Ok(());
            };
            written += conn.sent;
            while let Some(number) = conn.queue.front() {
                let length = self.frames[*number].len();
                if written < length {
                    break;
                }
                written -= length;
                conn.queue.pop_front();
            }
            conn.sent = written;
        }
        Ok(())
    }
}

/// The number of the frame that answers a message starting with `start`.
fn answer(
    part: &mut Part,
    start: &[u8],
    frames: &mut Vec<Box<[u8]>>,
    payload: &[u8],
) -> Option<usize> {
    let answers = match part {
        Part::Phone => return Some(0),
        Part::Mirror => return Some(1),
        Part::Binary(answers) => answers,
    };
    let conn_id = wire::conn_id(start)?;
    if let Some(number) = answers.get(conn_id) {
        return Some(*number);
    }
    let prefix = envelope::prefix(std::str::from_utf8(conn_id).ok()?);
    frames.push(wire::message(
        &[&prefix, payload, envelope::SUFFIX].concat(),
    ));
    answers.insert(conn_id.into(), frames.len() - 1);
    Some(frames.len() - 1)
}
