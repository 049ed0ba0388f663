//! Accepting connections, whatever the system says.

use crate::config::ListenAddress;
use crate::observe::log::{Event, Key, Log};
use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::yield_now;
use tokio::time::Instant;

/// Connections the kernel completes before the relay has accepted them.
const BACKLOG: u32 = 4096;

/// Accepts in a row, and then a yield: the next turn comes when the worker has looked at its sockets, which is after a task or
/// two, and not after all that were accepted. Else the kernel's queue overflows in a storm, and who is dropped
/// there tries again a second later.
const AT_ONCE: usize = 16;

/// Pause after a failed accept. Out of descriptors, an accept fails at once again; connections that
/// are up must not starve because of it.
const PAUSE: Duration = Duration::from_millis(100);

/// Time between two lines about failed accepts.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Binds the first of the addresses that this machine has.
///
/// One that it has and that cannot be bound is an error: the next one would serve only some of the clients, and
/// nobody would know.
pub(crate) async fn bind(address: &ListenAddress) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for candidate in address.resolve().await? {
        match bind_one(candidate) {
            Err(error) if is_foreign(&error) => last = error,
            bound => return bound,
        }
    }
    Err(last)
}

/// The machine does not have the address, or nothing of its kind: no IPv6, for example.
fn is_foreign(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
    )
}

pub(crate) fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    listen(socket, address)
}

fn listen(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpListener> {
    if address.is_ipv6() && address.ip().is_unspecified() {
        // All addresses are IPv4's, too, whatever the system's default is (net.ipv6.bindv6only).
        set_ipv6_v6only(&socket, false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the future is dropped. `connected` must not block.
pub(crate) async fn accept(
    listener: &TcpListener,
    log: &Log,
    mut connected: impl FnMut(TcpStream, SocketAddr),
) {
    let mut next_report = Instant::now();
    loop {
        for _ in 0..AT_ONCE {
            match listener.accept().await {
                Ok((stream, remote)) => {
                    // Frames are flushed when they are complete; waiting for more would only delay them.
                    drop(stream.set_nodelay(true));
                    connected(stream, remote);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if Instant::now() >= next_report {
                        next_report = Instant::now() + REPORT_EVERY;
                        log.write(Event::AcceptFailed, &[(Key::Err, &error)]);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        yield_now().await;
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_are_those_of_ipv4_too_where_the_system_would_not_have_it() {
        let Ok(socket) = TcpSocket::new_v6() else {
            return;
        };
        set_ipv6_v6only(&socket, true).unwrap();
        let listener = listen(socket, "[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_that_this_machine_does_not_have_is_not_listened_on() {
        // Of a network that is nobody's (RFC 5737).
        let refused = bind(&"203.0.113.1:8443".parse().unwrap()).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[tokio::test]
    async fn where_ipv6_is_taken_ipv4_is_not_served_alone() {
        let Ok(taken) = bind_one("[::1]:0".parse().unwrap()) else {
            return;
        };
        let port = taken.local_addr().unwrap().port();
        let refused = bind(&format!(":{port}").parse().unwrap()).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
