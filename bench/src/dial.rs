//! Upgraded connections in bulk.

use std::io::{self, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use relay_proto::headers;
use socket2::{Domain, Protocol, Socket, Type};

/// Which leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    Binary,
    Phone,
}

/// The upgrade request for a leg of a server-id.
pub(crate) fn request(leg: Leg, server_id: &str) -> Vec<u8> {
    let (path, own) = match leg {
        Leg::Binary => ("/v1/server", headers::VERSION),
        Leg::Phone => ("/v1/client", headers::TOKEN),
    };
    format!(
        "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         {}: {server_id}\r\n{own}: bench\r\n{}: relay-bench\r\n\r\n",
        headers::SERVER,
        headers::USER_AGENT,
    )
    .into_bytes()
}

/// Dials from many loopback addresses in turn: from a single one the kernel's search for a free
/// port becomes the bottleneck.
#[derive(Debug)]
pub(crate) struct Dialler {
    to: SocketAddr,
    count: u32,
}

impl Dialler {
    /// To `to`, from 127.1.1.1 to 127.1.1.64.
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, count: 0 }
    }

    /// A connected TCP stream, blocking.
    pub(crate) fn tcp(&mut self) -> io::Result<TcpStream> {
        let host = (self.count % 64) as u8 + 1;
        self.count = self.count.wrapping_add(1);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        let from = IpAddr::V4(Ipv4Addr::new(127, 1, 1, host));
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&self.to.into())?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    }

    /// `count` upgraded connections, several under way at a time.
    pub(crate) fn upgraded(
        &mut self,
        count: usize,
        mut request: impl FnMut(usize) -> Vec<u8>,
    ) -> io::Result<Vec<TcpStream>> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let first = all.len();
            for index in first..count.min(first + 32) {
                let mut stream = self.tcp()?;
                stream.write_all(&request(index))?;
                all.push(stream);
            }
            for stream in &mut all[first..] {
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                read_101(stream)?;
            }
        }
        Ok(all)
    }
}

/// Reads the response. A relay says nothing after it unasked, unless it turns the peer away.
pub(crate) fn read_101(stream: &mut impl Read) -> io::Result<()> {
    let mut response = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => response.extend_from_slice(&piece[..count]),
        }
        let Some(end) = response.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        if response.starts_with(b"HTTP/1.1 101") && response.len() == end + 4 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&response).into_owned();
        return Err(io::Error::other(format!(
            "the relay turned a peer away: {text:?}"
        )));
    }
}
