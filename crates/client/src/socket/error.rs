//! How connecting and a connection can fail.

use std::io;
use std::time::Duration;

use relay_proto::ws;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name, the TCP connection, TLS or the exchange of HTTP failed. Of kind `InvalidInput` with an
    /// [`EndpointError`](crate::EndpointError) in it: the address is none that [`Endpoint::parse`](crate::Endpoint::parse)
    /// would give, and nothing was dialled.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// [`Timeouts::connect`](crate::Timeouts::connect) passed.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The bound that passed.
        after: Duration,
    },
    /// The relay answered, but not with 101.
    #[error("the relay answered HTTP {status}{}{body}", if body.is_empty() { "" } else { ": " })]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The response's `Retry-After`, when it is a number of seconds.
        retry_after: Option<Duration>,
        /// The beginning of the body, at most 512 bytes; often empty.
        body: String,
    },
    /// Something answered that doesn't speak WebSocket.
    #[error("that is not a WebSocket server: {0}")]
    NotWebSocket(&'static str),
    /// A header's name or value can't be sent in HTTP.
    #[error("the header {name:?} can't be sent: its name or value holds forbidden characters")]
    Header {
        /// The header's name.
        name: String,
    },
    /// `wss://`, but this build has no TLS.
    #[error("this build has no TLS (the feature `tls` is off)")]
    NoTls,
}

/// Why a connection can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The connection broke, or the peer closed TCP without a close frame.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer broke the protocol. A close frame with the right code is on its way once [`Socket::close`](crate::Socket::close)
    /// or [`Socket::recv`](crate::Socket::recv) runs again: a peer that is still sending learns why only if it is read to its
    /// end.
    #[error("{0}")]
    Protocol(#[from] ws::Error),
    /// Nothing could be written for [`Timeouts::write`](crate::Timeouts::write).
    #[error("the peer took nothing for {after:?}")]
    WriteTimeout {
        /// The bound that passed.
        after: Duration,
    },
}
