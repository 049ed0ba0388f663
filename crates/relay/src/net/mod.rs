//! Listening sockets and accepted streams.

pub(crate) mod acme;
pub(crate) mod door;
pub(crate) mod front;
pub(crate) mod https;
pub(crate) mod listener;
mod proxy;
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
