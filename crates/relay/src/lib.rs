//! pyrycode-relay: pairs phones with a user's daemon by server-id and moves opaque frames between
//! them.
//!
//! The wire is in `relay_proto`, the decisions in `relay_core`; this crate does the I/O. A frame's way:
//! [`net`](crate) accepts, `http` answers or upgrades, a `session` reads and writes one socket, and the
//! `router` carries out what the core decides about slots.

mod admin;
mod boot;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
mod foreign;
#[cfg(fuzzing)]
pub mod fuzzing;
mod healthcheck;
mod http;
#[doc(hidden)]
pub mod memory;
mod net;
pub mod observe;
mod os;
mod phase;
pub mod probe;
pub mod program;
mod push;
mod router;
pub mod server;
pub mod session;
mod start;
mod stdout;
mod sync;
pub mod top;
