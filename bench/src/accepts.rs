//! Whole lives of connections: TCP, upgrade, registration, close handshake, end.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::dial::{Dialler, Leg, request};
use crate::machine::{self, start_relay};
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

/// Runs lives for `time`.
pub(crate) fn run(relay: &Path, time: Duration) -> io::Result<Lives> {
    let server = start_relay(relay)?;
    let mut dialler = Dialler::new(server.addr);
    let id = |index: usize| format!("accept-{}", index % BINARIES);
    let _binaries = dialler.upgraded(BINARIES, |index| request(Leg::Binary, &id(index)))?;
    let requests: Vec<Vec<u8>> = (0..BINARIES)
        .map(|index| request(Leg::Phone, &id(index)))
        .collect();

    let mut crowd = Crowd {
        poll: Poll::new()?,
        dialler,
        requests,
        close: wire::close(),
        lives: Vec::new(),
        ended: 0,
    };
    for index in 0..AT_ONCE {
        let life = crowd.born(index)?;
        crowd.lives.push(life);
    }
    crowd.run(time / 4)?;
    let (since, ended) = (Instant::now(), crowd.ended);
    let (server_ns, own_ns) = (server.cpu_ns()?, machine::own_cpu_ns()?);
    crowd.run(time)?;
    let wall = since.elapsed().as_secs_f64();
    let server_s = (server.cpu_ns()? - server_ns) as f64 / 1e9;
    let own_s = (machine::own_cpu_ns()? - own_ns) as f64 / 1e9;
    let ended = (crowd.ended - ended).max(1) as f64;
    Ok(Lives {
        per_s: ended / wall,
        cpu_us: server_s * 1e6 / ended,
        generator_cpu_us: own_s * 1e6 / ended,
        server_busy: server_s / wall,
        generator_busy: own_s / wall,
    })
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
}

impl Crowd {
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
            for index in &ready {
                if self.go_on(*index)? {
                    self.ended += 1;
                    // Dropping the old stream also takes it out of the poll.
                    self.lives[*index] = self.born(*index)?;
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
