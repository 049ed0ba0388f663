//! Connections that this program makes itself, many of them.

use crate::book::Result;
use relay_client::{CLIENT_PATH, ConnectError, Endpoint, Options, SERVER_PATH, Socket, Timeouts};
use relay_sim::message::{Session, Up};
use std::net::SocketAddr;
use std::time::Duration;

/// Dials the relay as a daemon of this server-id, and waits for the 101 for so long.
///
/// # Errors
/// If there is none.
pub(crate) async fn daemon(
    relay: SocketAddr,
    server: String,
    bound: Duration,
) -> std::result::Result<Socket, ConnectError> {
    dial(relay, SERVER_PATH, &server, bound).await
}

/// Dials the relay as a phone of this server-id.
///
/// # Errors
/// If it is refused.
pub(crate) async fn phone(relay: SocketAddr, server: &str) -> Result<Socket> {
    Ok(dial(relay, CLIENT_PATH, server, crate::launch::PATIENCE).await?)
}

/// The same, whose daemon hears of it by one frame, and which then reads nothing.
///
/// # Errors
/// If it is refused.
pub(crate) async fn mute_phone(
    relay: SocketAddr,
    server: &str,
    session: Session,
) -> Result<Socket> {
    let mut socket = phone(relay, server).await?;
    let up = Up {
        session,
        number: 0,
        pad: 0,
    };
    socket.send_text(up.text().as_bytes()).await?;
    Ok(socket)
}

async fn dial(
    relay: SocketAddr,
    path: &str,
    server: &str,
    bound: Duration,
) -> std::result::Result<Socket, ConnectError> {
    let endpoint = Endpoint {
        tls: false,
        host: relay.ip().to_string(),
        port: relay.port(),
        path: path.to_owned(),
    };
    let headers = [
        ("x-pyrycode-server", server),
        ("x-pyrycode-version", "chaos"),
        ("user-agent", "chaos"),
    ];
    let options = Options {
        timeouts: Timeouts {
            connect: bound,
            ..Timeouts::default()
        },
        ..Options::default()
    };
    Socket::connect(&endpoint, &headers, &options).await
}
