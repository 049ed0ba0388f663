//! Phones and binaries that exchange frames, all in one thread and cheap for it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::time::{Duration, Instant};

use relay_proto::envelope;

use crate::link::Link;
use crate::poll::{Poll, now};
use crate::wire::{self, Scanner};

/// Frames handed to the kernel in one call at most.
const SLICES: usize = 64;

/// What a connection does with an arriving frame.
#[derive(Debug)]
pub(crate) enum Role {
    /// Sends the next one, if it has any left.
    Phone,
    /// Answers to the phone it came from; the answer for each is made once.
    Binary(Answers),
    /// The far side of the floor: answers.
    Mirror,
}

/// How a binary answers.
#[derive(Debug)]
pub(crate) struct Answers {
    made: HashMap<Box<[u8]>, usize>,
    /// Longer messages are taken without a word: a flood is not a question.
    longest_bytes: usize,
    /// With every answer this frame goes out as well.
    also: Option<usize>,
}

impl Role {
    pub(crate) fn binary() -> Self {
        Self::binary_up_to(usize::MAX)
    }

    /// A binary that answers only messages of up to this size.
    pub(crate) fn binary_up_to(longest_bytes: usize) -> Self {
        Self::Binary(Answers {
            made: HashMap::new(),
            longest_bytes,
            also: None,
        })
    }
}

#[derive(Debug)]
struct Conn {
    link: Link,
    role: Role,
    scanner: Scanner,
    /// Frames to send, by number, and how much of the first one is sent already.
    queue: VecDeque<usize>,
    sent: usize,
    /// A phone's frames that are still to be sent, and those that are not answered yet.
    left: u64,
    in_flight: u64,
    /// Nothing is read any more.
    deaf: bool,
    pings: u32,
}

/// Phones that take turns: when one is through with its frames, the next one starts.
#[derive(Debug)]
struct Turns {
    waiting: VecDeque<usize>,
    window: u64,
    frames: u64,
}

/// The phone whose answers are timed.
#[derive(Debug)]
struct Timed {
    phone: usize,
    since: Instant,
    micros: Vec<f64>,
}

/// All connections of one run.
pub(crate) struct Fleet {
    poll: Poll,
    conns: Vec<Conn>,
    /// Frame 0 is a phone's, frame 1 the answer of a mirror; the rest follow as they are needed.
    frames: Vec<Box<[u8]>>,
    pongs: HashMap<Box<[u8]>, usize>,
    payload: Vec<u8>,
    buffer: Vec<u8>,
    turns: Option<Turns>,
    timed: Option<Timed>,
    /// Frames that came out on the other side.
    pub(crate) passed: u64,
    /// Pings that were answered, and connections that answered one.
    pub(crate) pings: u64,
    pub(crate) pinged: usize,
}

impl Fleet {
    /// Nobody yet; their frames will be of this size.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let payload = wire::payload(bytes);
        Ok(Self {
            poll: Poll::new()?,
            conns: Vec::new(),
            frames: vec![wire::message(&payload), wire::message(&payload)],
            pongs: HashMap::new(),
            payload,
            buffer: vec![0; 256 * 1024],
            turns: None,
            timed: None,
            passed: 0,
            pings: 0,
            pinged: 0,
        })
    }

    /// Takes a connection in; returns its number.
    pub(crate) fn add(&mut self, link: Link, role: Role) -> io::Result<usize> {
        let number = self.conns.len();
        link.tcp().set_nonblocking(true)?;
        self.poll.add(link.tcp(), number)?;
        self.conns.push(Conn {
            link,
            role,
            scanner: Scanner::new(),
            queue: VecDeque::new(),
            sent: 0,
            left: 0,
            in_flight: 0,
            deaf: false,
            pings: 0,
        });
        Ok(number)
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    /// A phone starts to send: `window` frames at once, and one more for every answer, `frames` in all.
    pub(crate) fn start(&mut self, phone: usize, window: u64, frames: u64) -> io::Result<()> {
        let conn = &mut self.conns[phone];
        conn.in_flight = window.min(frames);
        conn.left = frames - conn.in_flight;
        conn.queue.extend((0..conn.in_flight).map(|_| 0));
        self.write(phone)
    }

    /// These phones take turns, `active` of them at a time, each with so many frames.
    pub(crate) fn take_turns(
        &mut self,
        phones: impl IntoIterator<Item = usize>,
        active: usize,
        window: u64,
        frames: u64,
    ) -> io::Result<()> {
        let mut waiting: VecDeque<usize> = phones.into_iter().collect();
        let first: Vec<usize> = waiting.drain(..active.min(waiting.len())).collect();
        self.turns = Some(Turns {
            waiting,
            window,
            frames,
        });
        first
            .into_iter()
            .try_for_each(|phone| self.start(phone, window, frames))
    }

    /// Those whose turn it is are the last ones; runs until they are through.
    pub(crate) fn end_turns(&mut self, bound: Duration) -> io::Result<()> {
        self.turns = None;
        let still = |fleet: &Self| fleet.conns.iter().all(|conn| conn.in_flight == 0);
        self.run_until(bound, "the last answers", still)
    }

    /// From now on the answers to this phone are timed; it must have a window of one.
    pub(crate) fn time(&mut self, phone: usize) {
        self.timed = Some(Timed {
            phone,
            since: Instant::now(),
            micros: Vec::new(),
        });
    }

    /// The times of the answers since the last call, in microseconds. An answer that is overdue counts
    /// with its age.
    pub(crate) fn times(&mut self) -> Vec<f64> {
        let Some(timed) = &mut self.timed else {
            return Vec::new();
        };
        let mut micros = std::mem::take(&mut timed.micros);
        let age = timed.since.elapsed().as_secs_f64() * 1e6;
        if micros.last().is_none_or(|last| age > *last) {
            micros.push(age);
        }
        micros
    }

    /// Whenever this binary answers, it also sends `bytes` to the only phone it has heard of so far.
    pub(crate) fn also_send(&mut self, binary: usize, bytes: usize) -> io::Result<()> {
        let number = self.frames.len();
        let Role::Binary(answers) = &mut self.conns[binary].role else {
            return Err(io::Error::other("not a binary"));
        };
        let conn_id = answers.made.keys().next();
        let conn_id = conn_id.ok_or_else(|| io::Error::other("it heard of no phone"))?;
        let frame = envelope_frame(conn_id, &wire::payload(bytes));
        let frame = frame.ok_or_else(|| io::Error::other("no conn_id"))?;
        answers.also = Some(number);
        self.frames.push(frame);
        Ok(())
    }

    /// From now on nothing is read from this connection.
    pub(crate) fn deafen(&mut self, number: usize) {
        self.conns[number].deaf = true;
    }

    /// Goes on for this time.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<()> {
        self.go_on(Instant::now() + time, |_| false).map(drop)
    }

    /// Goes on until `done`, which must come within `bound`.
    pub(crate) fn run_until(
        &mut self,
        bound: Duration,
        what: &str,
        done: impl Fn(&Self) -> bool,
    ) -> io::Result<()> {
        match self.go_on(Instant::now() + bound, done)? {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "{what} did not come within {} s",
                bound.as_secs()
            ))),
        }
    }

    /// Whether it is done, rather than out of time.
    fn go_on(&mut self, until: Instant, done: impl Fn(&Self) -> bool) -> io::Result<bool> {
        let mut ready = Vec::new();
        let mut finished = Vec::new();
        loop {
            if done(self) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.poll.wait(&mut ready, left)?;
            for index in ready.iter().map(|event| event.number) {
                if !self.conns[index].deaf {
                    self.read(index, &mut finished)?;
                }
                self.write(index)?;
            }
            for phone in finished.drain(..) {
                self.next_turn(phone)?;
            }
        }
    }

    fn next_turn(&mut self, phone: usize) -> io::Result<()> {
        let Some(turns) = &mut self.turns else {
            return Ok(());
        };
        turns.waiting.push_back(phone);
        let (window, frames) = (turns.window, turns.frames);
        let next = turns.waiting.pop_front().unwrap_or(phone);
        self.start(next, window, frames)
    }

    /// Reads all there is and queues what it calls for.
    fn read(&mut self, index: usize, finished: &mut Vec<usize>) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.read_into(index, &mut buffer, finished);
        self.buffer = buffer;
        read
    }

    fn read_into(
        &mut self,
        index: usize,
        buffer: &mut [u8],
        finished: &mut Vec<usize>,
    ) -> io::Result<()> {
        while let Some(count) = now(self.conns[index].link.read(buffer))? {
            if count == 0 {
                return Err(io::Error::other("a connection ended during the run"));
            }
            let conn = &mut self.conns[index];
            let mut arrived = Arrived {
                frames: &mut self.frames,
                payload: &self.payload,
                timed: self.timed.as_mut().filter(|timed| timed.phone == index),
                passed: 0,
            };
            let (mut fault, mut pings) = (None, Vec::new());
            let Conn {
                role,
                scanner,
                queue,
                left,
                in_flight,
                ..
            } = conn;
            scanner.feed(&buffer[..count], |frame| match frame.opcode {
                1 | 2 => match role {
                    Role::Phone => arrived.at_phone(queue, left, in_flight),
                    Role::Mirror => arrived.at_mirror(queue),
                    Role::Binary(answers) => {
                        if !arrived.at_binary(answers, &frame, queue) {
                            fault = Some("a message that is no envelope");
                        }
                    }
                },
                8 => fault = Some("a close frame"),
                9 => pings.push(Box::from(frame.start)),
                _ => {}
            });
            let through = arrived.passed > 0 && *in_flight == 0;
            if through && matches!(conn.role, Role::Phone) {
                finished.push(index);
            }
            self.passed += arrived.passed;
            if let Some(fault) = fault {
                return Err(io::Error::other(format!("the relay sent {fault}")));
            }
            pings.into_iter().for_each(|ping| self.pong(index, ping));
            // A short read of a socket means that there is no more.
            if count < buffer.len() && matches!(self.conns[index].link, Link::Plain(_)) {
                break;
            }
        }
        Ok(())
    }

    fn pong(&mut self, index: usize, ping: Box<[u8]>) {
        let frames = &mut self.frames;
        let number = *self.pongs.entry(ping).or_insert_with_key(|ping| {
            frames.push(wire::pong(ping));
            frames.len() - 1
        });
        let conn = &mut self.conns[index];
        conn.queue.push_back(number);
        self.pinged += usize::from(conn.pings == 0);
        conn.pings += 1;
        self.pings += 1;
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
            let Some(mut written) = now(conn.link.write_vectored(&slices[..count]))? else {
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

/// What messages that arrive at one connection need.
struct Arrived<'a> {
    frames: &'a mut Vec<Box<[u8]>>,
    payload: &'a [u8],
    timed: Option<&'a mut Timed>,
    passed: u64,
}

impl Arrived<'_> {
    fn at_phone(&mut self, queue: &mut VecDeque<usize>, left: &mut u64, in_flight: &mut u64) {
        self.passed += 1;
        if let Some(timed) = &mut self.timed {
            let now = Instant::now();
            let took = now.duration_since(timed.since);
            timed.micros.push(took.as_secs_f64() * 1e6);
            timed.since = now;
        }
        if *left > 0 {
            *left -= 1;
            queue.push_back(0);
        } else {
            *in_flight = in_flight.saturating_sub(1);
        }
    }

    fn at_mirror(&mut self, queue: &mut VecDeque<usize>) {
        self.passed += 1;
        queue.push_back(1);
    }

    /// False: it is no envelope.
    fn at_binary(
        &mut self,
        answers: &mut Answers,
        frame: &wire::Passed<'_>,
        queue: &mut VecDeque<usize>,
    ) -> bool {
        self.passed += 1;
        let Some(conn_id) = wire::conn_id(frame.start) else {
            return false;
        };
        if frame.payload_bytes > answers.longest_bytes {
            return true;
        }
        if let Some(number) = answers.made.get(conn_id) {
            queue.extend(answers.also);
            queue.push_back(*number);
            return true;
        }
        let Some(answer) = envelope_frame(conn_id, self.payload) else {
            return false;
        };
        self.frames.push(answer);
        answers.made.insert(conn_id.into(), self.frames.len() - 1);
        queue.push_back(self.frames.len() - 1);
        true
    }
}

/// A binary's frame to a phone.
pub(crate) fn envelope_frame(conn_id: &[u8], payload: &[u8]) -> Option<Box<[u8]>> {
    let prefix = envelope::prefix(std::str::from_utf8(conn_id).ok()?);
    let whole = [&prefix, payload, envelope::SUFFIX].concat();
    Some(wire::message(&whole))
}
