//! What a connection may take of time and memory, and how it is made.

use std::sync::Arc;
use std::time::Duration;

use super::Dialer;
use crate::policy::App;

/// How long each part of a connection's life may take. Over TLS, progress shows once for every 16 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the name lookup to the 101. Default 15 s, as the mobile app has it.
    pub connect: Duration,
    /// For one message to leave, and for any progress of a blocked write. Default 10 s, as the
    /// daemon has it.
    pub write: Duration,
    /// For the peer's half of the close handshake, and for any progress of what is to leave before. Default 5 s.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            write: Duration::from_secs(10),
            close: Duration::from_secs(5),
        }
    }
}

/// What a [`Socket`](crate::Socket) needs to know apart from the address and the headers.
#[derive(Clone, Debug)]
pub struct Options {
    /// See [`Timeouts`].
    pub timeouts: Timeouts,
    /// The largest message taken, in bytes; a larger one ends the connection with 1009. Default
    /// 1 MiB, as daemon and desktop have it (mobile: 131,072).
    pub message_bytes: usize,
    /// Makes the connections, instead of TCP and TLS.
    pub dialer: Option<Arc<dyn Dialer>>,
    /// TLS settings of your own (private roots, client certificates); `None` trusts the Mozilla
    /// root certificates.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

impl Options {
    /// As the app has them. The mobile app waits 15 s for a write, the desktop app for ever: it ends a connection by a pong
    /// that does not come 30 s after a ping that was due within 30 s.
    #[must_use]
    pub fn of(app: App) -> Self {
        let (connect_s, write_s, message_bytes) = match app {
            App::Daemon => return Self::default(),
            App::Mobile => (15, 15, 131_072),
            App::Desktop => (10, 60, 1024 * 1024),
        };
        Self {
            timeouts: Timeouts {
                connect: Duration::from_secs(connect_s),
                write: Duration::from_secs(write_s),
                ..Timeouts::default()
            },
            message_bytes,
            ..Self::default()
        }
    }
}

/// The daemon's.
impl Default for Options {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            message_bytes: 1024 * 1024,
            dialer: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}
