//! A second machine: a network namespace, joined to this one by a cable that can be pulled.

use crate::book::{Broken, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

/// A network namespace with one veth pair to the host. Removed when dropped.
pub(crate) struct Namespace {
    /// Its name, as `ip netns` knows it.
    pub(crate) name: String,
    /// The host's address on the cable.
    host: Ipv4Addr,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Deleting the namespace deletes the pair. A failure leaves an unused namespace behind.
        drop(ip(&format!("netns del {}", self.name)));
    }
}

impl Namespace {
    /// Builds one.
    ///
    /// # Errors
    /// What the kernel or the system refused.
    pub(crate) fn new() -> Result<Self> {
        let pid = std::process::id();
        let name = format!("relay-chaos-{pid}");
        // 10.64.0.0/10 in steps of a /30, by process.
        let base = u32::from(Ipv4Addr::new(10, 64, 0, 0)) + (pid % 0xf_ffff) * 4;
        let (host, guest) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let link = format!("rc{pid}");
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

    /// The URL, from inside, of a relay on all addresses of the host.
    pub(crate) fn url(&self, relay: SocketAddr) -> String {
        format!("ws://{}:{}", self.host, relay.port())
    }

    /// Pulls the cable, or plugs it in. Packets vanish both ways meanwhile, and nobody is told.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn cable(&self, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        ip(&format!("-n {} link set guest {state}", self.name))
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| Broken(format!("`ip` can't be run: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Broken(format!("ip {arguments}: {}", said.trim())))
        }
    }
}
