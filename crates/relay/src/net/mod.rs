//! Listening sockets and accepted streams.

#[allow(dead_code, reason = "not wired into the program yet")]
pub(crate) mod acme;
pub(crate) mod listener;
#[allow(dead_code, reason = "not wired into the program yet")]
pub(crate) mod tls;

use crate::os::tcp_info;
use crate::session::Transport;
use relay_core::Path;
use std::os::fd::AsFd;
use tokio::net::TcpStream;

impl Transport for TcpStream {
    fn path(&self) -> Path {
        tcp_info::path(self.as_fd())
    }
}
