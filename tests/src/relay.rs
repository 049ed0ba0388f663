//! The program under test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use crate::http::{self, Response};
use crate::log::Log;
use crate::peer::{self, Daemon, Peer, Phone};
use crate::raw::Raw;
use crate::wire::{DAEMON_HEADERS, Headers, PHONE_HEADERS, SECRETS};
use crate::{eventually, soon};

/// What the harness sets unless the test says otherwise: no rate limit (every test dials from one
/// address), and no parking at boot (a phone without a daemon is turned away at once).
const DEFAULTS: [(&str, &str); 2] = [("--rate-burst", "0"), ("--boot-park", "0s")];

/// A refused upgrade.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// Seconds of `Retry-After`, if it was there.
    pub retry_after: Option<u64>,
}

/// A running relay. It is killed when this is dropped; then its log is searched for secrets.
pub struct Relay {
    child: Child,
    pid: Pid,
    addr: SocketAddr,
    metrics: SocketAddr,
    /// What it printed.
    pub log: Log,
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.start_kill();
        if std::thread::panicking() {
            eprintln!("--- the relay's log ---\n{}", self.log.lines().join("\n"));
            return;
        }
        for line in self.log.lines() {
            let leak = SECRETS.iter().find(|secret| line.contains(**secret));
            assert!(leak.is_none(), "the log shows a secret ({leak:?}): {line}");
        }
    }
}

impl Relay {
    /// Starts the program with `args` on a free port of 127.0.0.1; returns when it serves.
    ///
    /// # Panics
    /// When it doesn't start.
    pub async fn start(args: &[&str]) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, args).await
    }

    /// As [`Relay::start`], listening on `ip` (the metrics stay on 127.0.0.1).
    pub async fn start_on(ip: Ipv4Addr, args: &[&str]) -> Self {
        let defaults = DEFAULTS.iter().filter(|(name, _)| !args.contains(name));
        let mut all: Vec<&str> = defaults.flat_map(|(name, value)| [*name, *value]).collect();
        all.extend(args);
        Self::start_bare(ip, &all).await
    }

    /// As [`Relay::start_on`], with no option but the two listeners and `args`.
    pub async fn start_bare(ip: Ipv4Addr, args: &[&str]) -> Self {
        for _ in 0..5 {
            let listen = SocketAddr::from((ip, free_port(ip)));
            let metrics = SocketAddr::from(([127, 0, 0, 1], free_port(Ipv4Addr::LOCALHOST)));
            match Self::try_start(listen, metrics, args).await {
                Ok(relay) => return relay,
                // Another process took the port between our look and the program's bind.
                Err(log) if log.contains("listener failed") => {}
                Err(log) => panic!("the relay didn't start with {args:?}:\n{log}"),
            }
        }
        panic!("found no free port in five attempts");
    }

    async fn try_start(
        addr: SocketAddr,
        metrics: SocketAddr,
        args: &[&str],
    ) -> Result<Self, String> {
        let mut child = Command::new(program())
            .args([
                "--insecure-listen",
                &addr.to_string(),
                "--metrics-listen",
                &metrics.to_string(),
            ])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program can be executed");
        let log = Log::collect(child.stderr.take().expect("stderr is piped"));
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id as i32))
            .expect("it was just started");
        let mut relay = Self {
            child,
            pid,
            addr,
            metrics,
            log,
        };
        let serves = eventually("the relay to serve", || {
            let ended = relay
                .child
                .try_wait()
                .expect("the child can be waited for")
                .is_some();
            async move {
                match ended {
                    true => Some(false),
                    false => TcpStream::connect(addr).await.ok().map(|_| true),
                }
            }
        })
        .await;
        match serves {
            true => Ok(relay),
            false => Err(relay.log.lines().join("\n")),
        }
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it serves metrics.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics
    }

    // --- peers ---

    /// A daemon that claims `server_id`: connected, upgraded.
    pub async fn daemon(&self, server_id: &str) -> Daemon {
        self.daemon_with(server_id, &[]).await
    }

    /// A daemon with further `headers`.
    pub async fn daemon_with(&self, server_id: &str, headers: Headers<'_>) -> Daemon {
        self.try_daemon(server_id, headers)
            .await
            .expect("a 101 for the daemon")
    }

    /// As [`Relay::daemon_with`]; the upgrade may be refused.
    pub async fn try_daemon(
        &self,
        server_id: &str,
        headers: Headers<'_>,
    ) -> Result<Daemon, Refused> {
        let headers = [&[("x-pyrycode-server", server_id)], DAEMON_HEADERS, headers].concat();
        self.upgrade("/v1/server", &headers).await.map(Daemon)
    }

    /// A phone of `server_id`: connected, upgraded.
    pub async fn phone(&self, server_id: &str) -> Phone {
        self.try_phone(server_id)
            .await
            .expect("a 101 for the phone")
    }

    /// As [`Relay::phone`]; the upgrade may be refused.
    pub async fn try_phone(&self, server_id: &str) -> Result<Phone, Refused> {
        let headers = [&[("x-pyrycode-server", server_id)], PHONE_HEADERS].concat();
        self.upgrade("/v1/client", &headers).await.map(Phone)
    }

    /// A WebSocket connection on `path` with exactly `headers` beside the handshake's own.
    pub async fn upgrade(&self, path: &str, headers: Headers<'_>) -> Result<Peer, Refused> {
        let stream = soon("a TCP connection", TcpStream::connect(self.addr)).await;
        self.upgrade_on(stream.expect("the relay accepts"), path, headers)
            .await
    }

    /// As [`Relay::upgrade`], on a connection that exists.
    pub async fn upgrade_on(
        &self,
        stream: TcpStream,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Peer, Refused> {
        stream.set_nodelay(true).expect("the option is set");
        let url = format!("ws://{}{path}", self.addr);
        let mut request = url.into_client_request().expect("a valid URL");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).expect("a value"));
        }
        match soon("the 101", tokio_tungstenite::client_async(request, stream)).await {
            Ok((stream, response)) => {
                let headers = response.headers().iter();
                let accepted = headers
                    .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into()))
                    .collect();
                Ok(Peer::new(stream, accepted))
            }
            Err(error) => {
                let response = peer::refusal(error);
                let retry_after = response.headers().get("retry-after");
                let retry_after = retry_after.map(|v| v.to_str().expect("text"));
                Err(Refused {
                    status: response.status().as_u16(),
                    retry_after: retry_after.map(|v| v.parse().expect("seconds")),
                })
            }
        }
    }

    /// A daemon and a phone that it has heard, with the phone's conn_id.
    pub async fn pair(&self, server_id: &str) -> (Daemon, Phone, String) {
        let mut daemon = self.daemon(server_id).await;
        let mut phone = self.phone(server_id).await;
        let conn_id = daemon.hear(&mut phone).await;
        (daemon, phone, conn_id)
    }

    /// A phone made by hand; see [`Raw::dial`] for `receive_buffer`.
    pub async fn raw_phone(&self, server_id: &str, receive_buffer: Option<u32>) -> Raw {
        let headers = [&[("x-pyrycode-server", server_id)], PHONE_HEADERS].concat();
        Raw::dial(self.addr, "/v1/client", &headers, receive_buffer).await
    }

    /// A daemon made by hand.
    pub async fn raw_daemon(&self, server_id: &str) -> Raw {
        let headers = [&[("x-pyrycode-server", server_id)], DAEMON_HEADERS].concat();
        Raw::dial(self.addr, "/v1/server", &headers, None).await
    }

    // --- HTTP ---

    /// One plain request to the public listener.
    pub async fn http(&self, method: &str, target: &str, headers: Headers<'_>) -> Response {
        let mut stream = TcpStream::connect(self.addr)
            .await
            .expect("the relay accepts");
        http::send(&mut stream, &http::request(method, target, headers)).await
    }

    /// One request to the metrics listener.
    pub async fn http_metrics(&self, target: &str) -> Response {
        let mut stream = TcpStream::connect(self.metrics)
            .await
            .expect("the relay accepts");
        http::send(
            &mut stream,
            &http::request("GET", target, &[("Connection", "close")]),
        )
        .await
    }

    /// `connected_binaries` and `connected_phones` of `/healthz`.
    pub async fn counts(&self) -> (u64, u64) {
        let health = self
            .http("GET", "/healthz", &[("Connection", "close")])
            .await;
        let health: Value = serde_json::from_slice(&health.body).expect("JSON");
        let count = |key: &str| health[key].as_u64().unwrap_or_else(|| panic!("no {key}"));
        (count("connected_binaries"), count("connected_phones"))
    }

    /// Waits until `/healthz` counts that many live binaries and phones.
    pub async fn expect_counts(&self, binaries: u64, phones: u64) {
        eventually(
            &format!("{binaries} binaries and {phones} phones"),
            || async { (self.counts().await == (binaries, phones)).then_some(()) },
        )
        .await;
    }

    /// The value of a series, written as in the exposition: `name` or `name{label="value"}`.
    /// `None` if it isn't exported.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let response = self.http_metrics("/metrics").await;
        let prefix = format!("{series} ");
        let mut lines = response.text().lines();
        lines.find_map(|line| line.strip_prefix(&prefix)?.trim().parse().ok())
    }

    /// Waits until the series has exactly this value.
    pub async fn expect_metric(&self, series: &str, value: f64) {
        eventually(&format!("{series} = {value}"), || async {
            (self.metric(series).await == Some(value)).then_some(())
        })
        .await;
    }

    /// Waits until one more upgrade attempt of `endpoint` has ended as `outcome`, `n` in all.
    pub async fn expect_attempts(&self, endpoint: &str, outcome: &str, n: u32) {
        let name = "pyrycode_relay_ws_upgrade_attempts_total";
        let series = format!("{name}{{endpoint=\"{endpoint}\",outcome=\"{outcome}\"}}");
        self.expect_metric(&series, n.into()).await;
    }

    // --- the process ---

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process is there");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended.
    pub async fn exited(&mut self) -> ExitStatus {
        soon("the relay to exit", self.child.wait())
            .await
            .expect("the child can be waited for")
    }

    /// Its resident memory in bytes.
    pub fn resident_bytes(&self) -> usize {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(path).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|l| l.trim().strip_suffix(" kB"))
            .and_then(|n| n.parse().ok());
        kib.map(|kib: usize| kib * 1024)
            .expect("a VmRSS line in kB")
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid.as_raw_nonzero());
        std::fs::read_dir(path)
            .expect("the process is there")
            .count()
    }

    /// Waits until its resident memory is at most `limit` bytes.
    pub async fn expect_resident_at_most(&self, limit: usize) {
        let what = format!("resident memory of at most {} KiB", limit / 1024);
        eventually(&what, || async {
            (self.resident_bytes() <= limit).then_some(())
        })
        .await;
    }
}

/// The program: `PYRYCODE_RELAY_BIN`, else the one beside this test's own executable.
fn program() -> PathBuf {
    let path = match std::env::var_os("PYRYCODE_RELAY_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            // target/<profile>/deps/<test> -> target/<profile>/pyrycode-relay
            let test = std::env::current_exe().expect("a test knows its own path");
            let profile = test.ancestors().nth(2).expect("it lies in <profile>/deps");
            profile.join("pyrycode-relay")
        }
    };
    assert!(
        path.is_file(),
        "no program at {}: run scripts/test, or `cargo build -p pyrycode-relay` first \
         (PYRYCODE_RELAY_BIN names another one)",
        path.display()
    );
    path
}

/// A port of `ip` that nobody listens on. Below the kernel's range for outgoing connections, so
/// that no connection of another test takes it meanwhile.
fn free_port(ip: Ipv4Addr) -> u16 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let mut seed = now.subsec_nanos() ^ std::process::id().wrapping_mul(0x9e37_79b9);
    loop {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = 10_000 + (seed >> 16) as u16 % 22_000;
        if TcpListener::bind((ip, port)).is_ok() {
            return port;
        }
    }
}
