//! The admin page's API: who may ask, what is answered, what can be closed, and that looking disturbs nobody.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod access;
mod client;
mod close;
mod look;
mod stream;
