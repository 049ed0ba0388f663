//! The two clients of a pyrycode relay.
//!
//! A relay connects one *daemon* (the binary leg) with its *phones* by a *server-id*: every phone
//! gets a connection id, and the daemon receives each phone's frames in an envelope that names it.
//!
//! - [`DaemonLink`] claims a server-id and exchanges frames with all phones of it.
//! - [`PhoneLink`] exchanges frames with the daemon of a server-id.
//!
//! Both keep their connection up in the background with the waits of the real apps
//! (1, 2, 4, 8, 16, 30 s, each ±20 %, from the start after 60 s of uptime), ping the relay, answer its pings,
//! and read close codes as the real apps do ([`verdict`]). What happens is told as events; nothing is
//! resent on its own, because the encryption above has its own idea of a session.
//!
//! - [`Socket`] is one WebSocket connection without any policy, for tests and tools.
//!
//! # Time
//! Waits use Tokio's clock, so `tokio::time::pause` moves them in tests; the waits themselves are
//! set by [`Ladder`]. [`backoff`] and [`policy`] are pure and can be used without a link.
//!
//! # Features
//! - `tls` (default): `wss://` by rustls, trusting the Mozilla root certificates or those given in
//!   [`Options::tls`].

pub mod backoff;
mod daemon;
mod endpoint;
mod keepalive;
mod link;
mod phone;
pub mod policy;
mod socket;
pub mod testing;

pub use backoff::{AfterDrop, Ladder};
pub use daemon::{DaemonBuilder, DaemonEvent, DaemonLink, DaemonSender};
pub use endpoint::{CLIENT_PATH, Endpoint, EndpointError, SERVER_PATH};
pub use keepalive::PingPolicy;
pub use link::{BuildError, SendError, Stop};
pub use phone::{PhoneBuilder, PhoneEvent, PhoneLink, PhoneSender};
pub use policy::{App, Verdict, verdict};
pub use socket::{
    ByteStream, ConnectError, Dialer, Dialling, Options, Received, Socket, SocketError, Timeouts,
};
