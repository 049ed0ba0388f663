//! `pyrycode-relay healthcheck`: asks the relay that runs with these settings whether it is ready. For containers
//! without a shell.

use crate::config::{Config, ListenAddress, Public};
use crate::stdout;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For the whole question.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks, and prints the answer. Success means ready.
pub(crate) async fn run(config: Config) -> ExitCode {
    let Some(address) = address(&config) else {
        eprintln!(
            "pyrycode-relay: the public listener cannot be asked (it speaks TLS, or expects a PROXY header); \
             give relay and healthcheck the same --health-listen, like 127.0.0.1:8081"
        );
        return ExitCode::from(2);
    };
    match tokio::time::timeout(TIMEOUT, ask(address)).await {
        Ok(Ok(answer)) => {
            stdout::line(answer.text);
            ExitCode::from(u8::from(answer.status != 200))
        }
        Ok(Err(error)) => {
            eprintln!("pyrycode-relay: no answer from {address}: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("pyrycode-relay: no answer from {address} within {TIMEOUT:?}");
            ExitCode::FAILURE
        }
    }
}

/// The listener that answers without TLS and without a PROXY header.
fn address(config: &Config) -> Option<&str> {
    match (&config.health_listen, &config.public) {
        (Some(health), _) => Some(health),
        (None, Some(Public::Plain { listen })) if !config.proxies.header => Some(listen),
        _ => None,
    }
}

struct Answer {
    status: u16,
    text: String,
}

async fn ask(address: &str) -> io::Result<Answer> {
    let listen: ListenAddress = address.parse().map_err(io::Error::other)?;
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for candidate in listen.resolve().await? {
        match TcpStream::connect(reachable(candidate)).await {
            Ok(socket) => return exchange(socket).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where a listener on `address` is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => ([127, 0, 0, 1], address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, address.port()).into()
        }
        _ => address,
    }
}

async fn exchange(mut socket: TcpStream) -> io::Result<Answer> {
    socket
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut bytes = Vec::new();
    socket.take(4096).read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match status {
        Some(status) => Ok(Answer {
            status,
            text: body.trim().to_owned(),
        }),
        None if bytes.is_empty() => Err(io::Error::other("it closed the connection")),
        None => Err(io::Error::other("it does not speak HTTP")),
    }
}
