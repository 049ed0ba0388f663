//! The far side of the floor, for dials in bulk: answers as a relay does, without looking.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use relay_proto::ws;

use crate::floor;
use crate::poll::{Poll, now};

/// Number of the listener in the poll.
const LISTENER: usize = usize::MAX;

/// As long as a relay's.
const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
Upgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";

/// Connections whose first bytes are a request, and the next ones a frame.
pub(crate) struct Far {
    listener: TcpListener,
    conns: Vec<Option<TcpStream>>,
    free: Vec<usize>,
    /// Its connections have the numbers from here on.
    base: usize,
    /// What a message is answered with.
    answer: Vec<u8>,
}

/// Serves a listener of its own for ever.
pub(crate) fn run(listen: SocketAddr) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut far = Far::new(floor::listen(listen)?, &poll, 0)?;
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready, Duration::from_secs(60))?;
        for number in ready.iter().map(|event| event.number) {
            // Whoever breaks off ends only its own connection.
            let _ = far.go_on(&poll, number);
        }
    }
}

impl Far {
    pub(crate) fn new(listener: TcpListener, poll: &Poll, base: usize) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        poll.add(&listener, LISTENER)?;
        let payload = b"{}";
        Ok(Self {
            listener,
            conns: Vec::new(),
            free: Vec::new(),
            base,
            answer: [&ws::text_header(payload.len())[..], payload].concat(),
        })
    }

    /// Whether this number is one of its own.
    pub(crate) fn has(&self, number: usize) -> bool {
        number >= self.base
    }

    /// What became ready is looked after.
    pub(crate) fn go_on(&mut self, poll: &Poll, number: usize) -> io::Result<()> {
        if number == LISTENER {
            while let Some((stream, _)) = now(self.listener.accept())? {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let slot = self.free.pop().unwrap_or(self.conns.len());
                poll.add(&stream, self.base + slot)?;
                match self.conns.get_mut(slot) {
                    Some(place) => *place = Some(stream),
                    None => self.conns.push(Some(stream)),
                }
            }
            return Ok(());
        }
        let slot = number - self.base;
        let Some(stream) = self.conns.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        let mut piece = [0; 512];
        let Some(count) = now(stream.read(&mut piece))? else {
            return Ok(());
        };
        match piece[..count] {
            [b'G', ..] => return stream.write_all(RESPONSE),
            [0x81, ..] => return stream.write_all(&self.answer),
            [0x88, ..] => stream.write_all(&[0x88, 0x02, 0x03, 0xe8])?,
            _ => {}
        }
        self.conns[slot] = None;
        self.free.push(slot);
        Ok(())
    }
}
