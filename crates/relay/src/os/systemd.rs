//! The service manager: sockets it hands over, and what it is told. Without one, nothing happens.

use crate::phase::{Phase, Phases};
use listenfd::ListenFd;
use relay_core::Counts;
use sd_notify::NotifyState;
use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Listening sockets that were handed to this process (`LISTEN_FDS`), not taken into use yet.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// Takes what the environment of this process announces.
    ///
    /// # Errors
    /// One of them is no TCP listener.
    pub(crate) fn from_environment() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            if let Some(socket) = handed.take_tcp_listener(index)? {
                socket.set_nonblocking(true)?;
                sockets.push(socket);
            }
        }
        Ok(Self(sockets))
    }

    /// The sockets on `port` whose address is `fit`. There may be several, one for IPv4 and one for IPv6.
    pub(crate) fn take(&mut self, port: u16, fit: impl Fn(IpAddr) -> bool) -> Vec<TcpListener> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|socket| {
            let address = socket.local_addr();
            address.is_ok_and(|address| address.port() == port && fit(address.ip()))
        });
        self.0 = left;
        taken
    }

    /// Where sockets listen that nothing asked for.
    pub(crate) fn unused(&self) -> Vec<String> {
        let address = |socket: &TcpListener| socket.local_addr().ok().map(|a| a.to_string());
        self.0.iter().filter_map(address).collect()
    }
}

/// Reports the phases, and proves again and again that the relay still works, if the service manager wants to
/// know. Ends with the last phase.
///
/// `counts` goes through the registry, so a registry that is stuck stops the proofs.
pub(crate) async fn report(phases: Phases, counts: impl Fn() -> Counts) {
    let mut changes = phases.subscribe();
    let mut manager = Manager::default();
    // Twice as often as asked for, as sd_watchdog_enabled(3) recommends.
    let period = sd_notify::watchdog_enabled().map(|timeout| timeout / 2);
    let mut ticks = tokio::time::interval(
        period
            .unwrap_or(Duration::from_secs(3600))
            .max(Duration::from_millis(1)),
    );
    loop {
        let phase = *changes.borrow_and_update();
        let Counts {
            binaries, phones, ..
        } = counts();
        let status = format!("{phase}: {binaries} binaries, {phones} phones");
        let proves = period.is_some();
        // A manager that does not read makes the sender wait: this task, but no thread that serves peers.
        let told = tokio::task::spawn_blocking(move || {
            manager.tell(phase, &status, proves);
            manager
        });
        manager = told.await.unwrap_or_default();
        if phase == Phase::Stopped {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
    }
}

/// The way to the service manager. It is kept: a socket for each report could not be opened when descriptors have run
/// out, and a watchdog that hears nothing kills a relay whose peers notice nothing of it.
#[derive(Debug, Default)]
struct Manager(Option<UnixDatagram>);

impl Manager {
    /// Blocks until the service manager has it. Without one there is no socket, and a manager that is gone needs no news.
    fn tell(&mut self, phase: Phase, status: &str, proves: bool) {
        let mut states = vec![NotifyState::Status(status)];
        match phase {
            Phase::Starting => {}
            Phase::Ready => states.push(NotifyState::Ready),
            Phase::Draining | Phase::Stopped => states.push(NotifyState::Stopping),
        }
        if proves {
            states.push(NotifyState::Watchdog);
        }
        let mut report = String::new();
        for state in states {
            // Writing to a text does not fail.
            let _ = writeln!(report, "{state}");
        }
        // The second time to another socket: a manager that was replaced may have one.
        for _ in 0..2 {
            let Some(socket) = self.0.take().or_else(connect) else {
                return;
            };
            if socket.send(report.as_bytes()).is_ok() {
                self.0 = Some(socket);
                return;
            }
        }
    }
}

/// `None`: there is no manager, or none that listens.
fn connect() -> Option<UnixDatagram> {
    let path = env::var_os("NOTIFY_SOCKET")?;
    let address = match path.as_bytes() {
        // Linux's abstract names, sd_notify(3).
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(OsStr::from_bytes(path)),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_port_once() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let twin = TcpListener::bind(("127.0.0.2", port)).unwrap();
        let mut inherited = Inherited(vec![socket, twin]);
        assert!(inherited.take(port.wrapping_add(1), |_| true).is_empty());
        assert!(inherited.take(port, |ip| !ip.is_loopback()).is_empty());
        assert_eq!(inherited.unused().len(), 2);
        assert_eq!(inherited.take(port, |_| true).len(), 2);
        assert!(inherited.take(port, |_| true).is_empty());
    }
}
