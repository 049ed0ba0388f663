//! The floor: a forwarder that does nothing but move bytes between two TCP connections. What it
//! costs, no relay can go below by much.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::dial::Dialler;
use crate::link::Link;
use crate::machine::{Process, Server, THIS, free_addr};
use crate::poll::{Poll, now};

/// A floor and its far side, which is in this process.
pub(crate) struct Floor {
    pub(crate) server: Server,
    pub(crate) back: TcpListener,
    dialler: Dialler,
}

impl Floor {
    /// Starts this program once more, forwarding to a listener of this process.
    pub(crate) fn start() -> io::Result<Self> {
        Self::moving(BUFFER_BYTES)
    }

    /// The same, moving no more bytes at once.
    pub(crate) fn moving(buffer_bytes: usize) -> io::Result<Self> {
        let back = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let addr = free_addr()?;
        let to = back.local_addr()?;
        let args = [
            "floor".to_owned(),
            addr.to_string(),
            to.to_string(),
            buffer_bytes.to_string(),
        ];
        let server = Process::serve(THIS.as_ref(), &args, addr)?;
        // Waiting for it to listen made a connection of its own.
        drop(back.accept()?);
        Ok(Self {
            dialler: Dialler::new(server.addr),
            server,
            back,
        })
    }

    /// Both ends of a connection through it.
    pub(crate) fn pair(&mut self) -> io::Result<[Link; 2]> {
        let near = self.dialler.tcp()?;
        let (far, _) = self.back.accept()?;
        far.set_nodelay(true)?;
        Ok([Link::Plain(near), Link::Plain(far)])
    }
}

/// A listener at which a storm of dials fits; the standard library would let 128 wait.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    listener.bind(&addr.into())?;
    listener.listen(4096)?;
    Ok(listener.into())
}

/// Bytes moved at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// The listener's number; connections have those from 0.
const LISTENER: usize = usize::MAX;

/// Forwards every connection made to `listen` to a new connection to `dial`, both ways, for ever.
pub(crate) fn run(listen: SocketAddr, dial: SocketAddr, buffer_bytes: usize) -> io::Result<()> {
    let listener = self::listen(listen)?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER)?;
    let mut ends: Vec<Option<End>> = Vec::new();
    let mut buffer = vec![0; buffer_bytes];
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready, Duration::from_secs(60))?;
        for event in &ready {
            let number = event.number;
            if number == LISTENER {
                while let Some((near, _)) = now(listener.accept())? {
                    let far = TcpStream::connect(dial)?;
                    for stream in [near, far] {
                        stream.set_nonblocking(true)?;
                        stream.set_nodelay(true)?;
                        poll.add(&stream, ends.len())?;
                        ends.push(Some(End {
                            stream,
                            waiting: Vec::new(),
                            taken: 0,
                        }));
                    }
                }
                continue;
            }
            // What the other end has left goes into this one, and what this one has into the other.
            let other = number ^ 1;
            let moved = pump(&mut ends, other, number, false, &mut buffer)
                .and_then(|()| pump(&mut ends, number, other, event.ended, &mut buffer));
            if moved.is_err() {
                ends[number] = None;
                ends[other] = None;
            }
        }
    }
}

/// One end of a forwarded connection.
#[derive(Debug)]
struct End {
    stream: TcpStream,
    /// What it could not take yet; its other end is not read while there is something.
    waiting: Vec<u8>,
    taken: usize,
}

/// Moves bytes until the source has none or the sink takes none. An error means that one of them is done.
fn pump(
    ends: &mut [Option<End>],
    from: usize,
    to: usize,
    ended: bool,
    buffer: &mut [u8],
) -> io::Result<()> {
    loop {
        let Some(sink) = &mut ends[to] else {
            return Ok(());
        };
        if sink.taken < sink.waiting.len() {
            let rest = &sink.waiting[sink.taken..];
            let Some(count) = now(sink.stream.write(rest))? else {
                return Ok(());
            };
            sink.taken += count;
            continue;
        }
        let Some(source) = &mut ends[from] else {
            return Ok(());
        };
        let Some(count) = now(source.stream.read(buffer))? else {
            return Ok(());
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(sink) = &mut ends[to] else {
            return Ok(());
        };
        let written = now(sink.stream.write(&buffer[..count]))?.unwrap_or(0);
        sink.waiting.clear();
        sink.waiting.extend_from_slice(&buffer[written..count]);
        sink.taken = 0;
        if written == count && count < buffer.len() && !ended {
            return Ok(());
        }
    }
}
