//! A second host, as a network namespace joined to this one by a cable that can be pulled.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;

/// A network namespace with one veth pair to the host. Removed when dropped.
pub struct Namespace {
    /// Its name, as `ip netns` knows it.
    pub name: String,
    /// The host's address on the cable.
    pub host: Ipv4Addr,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Deleting the namespace deletes the pair. A failure leaves an unused namespace behind.
        let _ = ip(&format!("netns del {}", self.name));
    }
}

impl Namespace {
    /// Builds one; the error says what the kernel or the system refused.
    pub fn new() -> Result<Self, String> {
        let pid = std::process::id();
        let name = format!("relay-test-{pid}");
        // 10.128.0.0/9 in steps of a /30, by process: no process has two.
        let base = u32::from(Ipv4Addr::new(10, 128, 0, 0)) + (pid % 0x1f_ffff) * 4;
        let (host, guest) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let link = format!("rt{pid}");
        ip(&format!("netns add {name}"))?;
        let namespace = Self {
            name: name.clone(),
            host,
        };
        ip(&format!(
            "link add {link} type veth peer name guest netns {name}"
        ))?;
        ip(&format!("addr add {host}/30 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {name} addr add {guest}/30 dev guest"))?;
        ip(&format!("-n {name} link set guest up"))?;
        Ok(namespace)
    }

    /// A TCP connection from inside the namespace to `to`.
    pub async fn connect(&self, to: SocketAddr) -> Result<TcpStream, String> {
        let path = format!("/run/netns/{}", self.name);
        // A socket stays in the namespace it was created in, whichever thread uses it later; so
        // one thread of its own enters, connects, and hands the socket out.
        let connected = tokio::task::spawn_blocking(move || {
            let enter_and_connect = move || {
                let file = File::open(&path).map_err(|e| format!("{path}: {e}"))?;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|e| format!("setns: {e}"))?;
                std::net::TcpStream::connect(to).map_err(|e| format!("connect: {e}"))
            };
            std::thread::spawn(enter_and_connect)
                .join()
                .expect("the thread doesn't panic")
        });
        let stream = connected.await.expect("the task doesn't panic")?;
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        TcpStream::from_std(stream).map_err(|e| e.to_string())
    }

    /// The URL, from inside, of a relay on all addresses of the host.
    pub fn url(&self, relay: SocketAddr) -> String {
        format!("ws://{}:{}", self.host, relay.port())
    }

    /// Pulls the cable, or plugs it in. Packets vanish both ways meanwhile, and nobody is told.
    ///
    /// # Errors
    /// What the kernel or the system refused.
    pub fn cable(&self, plugged: bool) -> Result<(), String> {
        let state = if plugged { "up" } else { "down" };
        ip(&format!("-n {} link set guest {state}", self.name))
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|e| format!("`ip` can't be run: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
