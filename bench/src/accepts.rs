//! Whole lives of connections: TCP, upgrade, registration, close handshake, end.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::dial::{Dialler, Leg, request};
use crate::frames::start_floor;
use crate::machine::{self, Server, start_relay};
use crate::poll::{Poll, now};
use crate::wire;

/// Lives going on at the same time, spread over the binaries so that none has more than 16 phones.
const AT_ONCE: usize = 64;
const BINARIES: usize = 8;

/// What one run showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    pub(crate) per_s: f64,
    /// Processor time of the relay for each, in microseconds.
    pub(crate) cpu_us: f64,
    /// The generator's, likewise.
    pub(crate) generator_cpu_us: f64,
    pub(crate) server_busy: f64,
    pub(crate) generator_busy: f64,
}

/// Lives of phones at the relay, for `time`.
pub(crate) fn relay(relay: &Path, time: Duration) -> io::Result<Lives> {
    let server = start_relay(relay)?;
    let mut dialler = Dialler::new(server.addr);
    let id = |index: usize| format!("accept-{}", index % BINARIES);
    let _binaries = dialler.upgraded(BINARIES, |index| request(Leg::Binary, &id(index)))?;
    let requests = (0..BINARIES)
        .map(|index| request(Leg::Phone, &id(index)))
        .collect();
    Crowd::new(dialler, requests, None)?.measure(&server, time)
}

/// The same bytes through the floor: this process answers them on the far side.
pub(crate) fn floor(time: Duration) -> io::Result<Lives> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = start_floor(&listener)?;
    listener.set_nonblocking(true)?;
    let back = Back {
        listener,
        conns: Vec::new(),
        free: Vec::new(),
    };
    let requests = vec![request(Leg::Phone, "accept-0"); BINARIES];
    Crowd::new(Dialler::new(server.addr), requests, Some(back))?.measure(&server, time)
}

/// One connection at a time in each place.
struct Life {
    stream: TcpStream,
    /// What came so far: the response, then the answer to our Close.
    got: Vec<u8>,
    closing: bool,
}

struct Crowd {
    poll: Poll,
    dialler: Dialler,
    requests: Vec<Vec<u8>>,
    close: Box<[u8]>,
    lives: Vec<Life>,
    ended: u64,
    back: Option<Back>,
}

impl Crowd {
    fn new(dialler: Dialler, requests: Vec<Vec<u8>>, back: Option<Back>) -> io::Result<Self> {
        let poll = Poll::new()?;
        if let Some(back) = &back {
            poll.add(&back.listener, LISTENER)?;
        }
        let (close, lives) = (wire::close(), Vec::new());
        let mut crowd = Self {
            poll,
            dialler,
            requests,
            close,
            lives,
            ended: 0,
            back,
        };
        for index in 0..AT_ONCE {
            let life = crowd.born(index)?;
            crowd.lives.push(life);
        }
        Ok(crowd)
    }

    fn measure(&mut self, server: &Server, time: Duration) -> io::Result<Lives> {
        self.run(time / 4)?;
        let (since, ended) = (Instant::now(), self.ended);
        let (server_ns, own_ns) = (server.cpu_ns()?, machine::own_cpu_ns()?);
        self.run(time)?;
        let wall = since.elapsed().as_secs_f64();
        let server_s = (server.cpu_ns()? - server_ns) as f64 / 1e9;
        let own_s = (machine::own_cpu_ns()? - own_ns) as f64 / 1e9;
        let ended = (self.ended - ended).max(1) as f64;
        Ok(Lives {
            per_s: ended / wall,
            cpu_us: server_s * 1e6 / ended,
            generator_cpu_us: own_s * 1e6 / ended,
            server_busy: server_s / wall,
            generator_busy: own_s / wall,
        })
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
                if index >= AT_ONCE {
                    if let Some(back) = &mut self.back {
                        back.go_on(&self.poll, index)?;
                    }
                } else if self.go_on(index)? {
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
                    let text = String::from_utf8_lossy(&life.got).into_owned();
                    return Err(io::Error::other(format!("the relay answered {text:?}")));
                }
                life.got.clear();
                life.closing = true;
                life.stream.write_all(&self.close)?;
            }
        }
        Ok(false)
    }
}

/// Number of the far side's listener; its connections have those from [`AT_ONCE`].
const LISTENER: usize = usize::MAX;

/// The far side of the floor: answers as a relay does, without looking.
struct Back {
    listener: TcpListener,
    conns: Vec<Option<TcpStream>>,
    free: Vec<usize>,
}

impl Back {
    fn go_on(&mut self, poll: &Poll, number: usize) -> io::Result<()> {
        if number == LISTENER {
            while let Some((stream, _)) = now(self.listener.accept())? {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let slot = self.free.pop().unwrap_or(self.conns.len());
                poll.add(&stream, AT_ONCE + slot)?;
                match self.conns.get_mut(slot) {
                    Some(place) => *place = Some(stream),
                    None => self.conns.push(Some(stream)),
                }
            }
            return Ok(());
        }
        let slot = number - AT_ONCE;
        let Some(stream) = &mut self.conns[slot] else {
            return Ok(());
        };
        let mut piece = [0; 512];
        let Some(count) = now(stream.read(&mut piece))? else {
            return Ok(());
        };
        if piece[..count].starts_with(b"GET") {
            return stream.write_all(RESPONSE);
        }
        if count > 0 {
            stream.write_all(&[0x88, 0x02, 0x03, 0xe8])?;
        }
        self.conns[slot] = None;
        self.free.push(slot);
        Ok(())
    }
}

/// As long as a relay's.
const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
Upgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
