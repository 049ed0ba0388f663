//! Connections in bulk.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use relay_proto::headers;
use socket2::{Domain, Protocol, Socket, Type};

use crate::link::{Keys, Link};
use crate::wire::{self, Scanner};

/// The longest wait for anything a peer must do next.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Phones of each binary in a crowd: the sixteenth place is left free.
pub(crate) const PHONES: usize = 15;

/// Which leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    Binary,
    Phone,
}

/// Server-ids that no other run has used: a relay may keep those of a run that is over for a while.
#[derive(Clone, Debug)]
pub(crate) struct Ids(String);

impl Ids {
    pub(crate) fn new(name: &str) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        Self(format!("bench-{name}-{}-{run}", std::process::id()))
    }

    /// The upgrade request for a leg of the server-id with this number.
    pub(crate) fn request(&self, leg: Leg, number: usize) -> Vec<u8> {
        let (path, own) = match leg {
            Leg::Binary => ("/v1/server", headers::VERSION),
            Leg::Phone => ("/v1/client", headers::TOKEN),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             {}: {}-{number}\r\n{own}: bench\r\n{}: relay-bench\r\n\r\n",
            headers::SERVER,
            self.0,
            headers::USER_AGENT,
        )
        .into_bytes()
    }

    /// The upgrade request of a binary that keeps its phones when its connection breaks, and comes back.
    pub(crate) fn resuming(&self, number: usize) -> Vec<u8> {
        let mut request = self.request(Leg::Binary, number);
        request.truncate(request.len() - 2);
        let instance = format!("{}: {}-{number}\r\n\r\n", headers::INSTANCE, self.0);
        request.extend_from_slice(instance.as_bytes());
        request
    }

    /// Leg and server-id of the member of a crowd with this number: a binary, then its phones.
    pub(crate) fn member(number: usize) -> (Leg, usize) {
        match number % (PHONES + 1) {
            0 => (Leg::Binary, number / (PHONES + 1)),
            _ => (Leg::Phone, number / (PHONES + 1)),
        }
    }
}

/// Dials from many loopback addresses in turn: from a single one the kernel's search for a free
/// port becomes the bottleneck.
#[derive(Debug)]
pub(crate) struct Dialler {
    to: SocketAddr,
    count: u32,
}

impl Dialler {
    /// To `to`, from 127.1.1.1 to 127.1.1.64 if it is on this machine.
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, count: 0 }
    }

    fn socket(&mut self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if self.to.ip().is_loopback() {
            let host = (self.count % 64) as u8 + 1;
            self.count = self.count.wrapping_add(1);
            let from = IpAddr::V4(Ipv4Addr::new(127, 1, 1, host));
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        Ok(socket)
    }

    /// A connected TCP stream, blocking but not for ever.
    pub(crate) fn tcp(&mut self) -> io::Result<TcpStream> {
        let socket = self.socket()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&self.to.into())?;
        Ok(socket.into())
    }

    /// A TCP stream that does not block and is about to be connected.
    pub(crate) fn begin(&mut self) -> io::Result<TcpStream> {
        const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
        let socket = self.socket()?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.to.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => Err(error),
            _ => Ok(socket.into()),
        }
    }

    /// `count` upgraded connections, several under way at a time.
    pub(crate) fn upgraded(
        &mut self,
        count: usize,
        keys: Option<&Keys>,
        mut request: impl FnMut(usize) -> Vec<u8>,
    ) -> io::Result<Vec<Link>> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let first = all.len();
            for index in first..count.min(first + 32) {
                let mut link = Link::over(self.tcp()?, keys)?;
                link.write_all(&request(index))?;
                all.push(link);
            }
            for link in &mut all[first..] {
                link.flush()?;
                read_101(link)?;
            }
        }
        Ok(all)
    }
}

/// Reads the response. What a relay says after it unasked is a ping, unless it turns the peer away.
fn read_101(link: &mut Link) -> io::Result<()> {
    let mut response = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match link.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => response.extend_from_slice(&piece[..count]),
        }
        let Some(end) = response.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let (mut pongs, mut welcome) = (Vec::new(), response.starts_with(b"HTTP/1.1 101"));
        Scanner::new().feed(&response[end + 4..], |frame| {
            welcome &= frame.opcode == 9;
            pongs.extend_from_slice(&wire::pong(frame.start));
        });
        return match welcome {
            true => link.write_all(&pongs),
            false => Err(turned_away(&response)),
        };
    }
}

/// The error for a response that is no 101.
pub(crate) fn turned_away(response: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(response).into_owned();
    io::Error::other(format!("the relay turned a peer away: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_binaries_with_their_phones() {
        let members: Vec<_> = (0..33).map(Ids::member).collect();
        assert_eq!(members[0], (Leg::Binary, 0));
        assert_eq!(members[15], (Leg::Phone, 0));
        assert_eq!(members[16], (Leg::Binary, 1));
        let binaries = members.iter().filter(|(leg, _)| *leg == Leg::Binary);
        assert_eq!(binaries.count(), 3);
    }

    #[test]
    fn no_run_uses_the_ids_of_another() {
        let [first, second] = [Ids::new("x"), Ids::new("x")];
        assert_ne!(first.request(Leg::Phone, 1), second.request(Leg::Phone, 1));
    }
}
