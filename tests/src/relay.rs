//! The program under test.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, ChildStdout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use crate::http::{self, Response};
use crate::launch::{Launch, METRICS};
use crate::log::{Log, Record};
use crate::peer::{self, Daemon, Peer, Phone};
use crate::raw::Raw;
use crate::transport::{HOST, Stream, Transport, tcp_from};
use crate::vocabulary::complaint;
use crate::wire::{DAEMON_HEADERS, Headers, PHONE_HEADERS, SECRETS};
use crate::{eventually, soon};

/// Of the log, when a test fails.
const PRINTED_LINES: usize = 60;

/// A refused upgrade.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// Seconds of `Retry-After`, if it was there.
    pub retry_after: Option<u64>,
}

/// A running relay. It is killed when this is dropped; then every line of its log is
/// searched for secrets, and must be one of those that the log may have.
pub struct Relay {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) pid: Pid,
    addr: SocketAddr,
    listeners: BTreeMap<&'static str, SocketAddr>,
    transport: Transport,
    /// What it printed.
    pub log: Log,
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.start_kill();
        if std::thread::panicking() {
            let lines = self.log.lines();
            // A flood's log would bury what failed.
            let last = &lines[lines.len().saturating_sub(PRINTED_LINES)..];
            let (last_count, count) = (last.len(), lines.len());
            eprintln!("--- the last {last_count} of the {count} lines of the relay's log ---");
            eprintln!("{}", last.join("\n"));
            return;
        }
        for line in self.log.lines() {
            let leak = SECRETS.iter().find(|secret| line.contains(**secret));
            assert!(leak.is_none(), "the log shows a secret ({leak:?}): {line}");
        }
        // What comes before the first record was said by a program that the relay was started through.
        let lines = self.log.lines().into_iter();
        for line in lines.skip_while(|line| Record::parse(line).is_none() && !line.starts_with('{'))
        {
            let complaint = complaint(&line);
            assert!(complaint.is_none(), "{complaint:?}: {line}");
        }
    }
}

impl Relay {
    /// Starts the program with `args` on a free port of 127.0.0.1; returns when it serves.
    ///
    /// # Panics
    /// When it doesn't start.
    pub async fn start(args: &[&str]) -> Self {
        Launch::new(args).with_defaults().start().await
    }

    /// As [`Relay::start`], listening on `ip` (the metrics stay on 127.0.0.1).
    pub async fn start_on(ip: Ipv4Addr, args: &[&str]) -> Self {
        Launch::new(args).with_defaults().on(ip).start().await
    }

    /// As [`Relay::start`], with no option but the two listeners and `args`.
    pub async fn start_bare(args: &[&str]) -> Self {
        Launch::new(args).start().await
    }

    pub(crate) fn new(
        mut child: Child,
        addr: SocketAddr,
        listeners: BTreeMap<&'static str, SocketAddr>,
        transport: Transport,
    ) -> Self {
        let log = Log::collect(child.stderr.take().expect("stderr is piped"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id as i32))
            .expect("it was just started");
        Self {
            child,
            stdout,
            pid,
            addr,
            listeners,
            transport,
            log,
        }
    }

    /// Waits until it accepts connections; when it ends instead, its log.
    pub(crate) async fn serving(mut self) -> Result<Self, String> {
        let addr = self.addr;
        let serves = eventually("the relay to serve", || {
            let ended = self
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
            true => Ok(self),
            false => Err(self.log.lines().join("\n")),
        }
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it serves metrics.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.listener(METRICS)
    }

    /// The address it was given by `flag`.
    pub fn listener(&self, flag: &str) -> SocketAddr {
        self.listeners[flag]
    }

    // --- connections ---

    /// A connection to it, ready for a request.
    pub async fn connect(&self) -> Stream {
        self.transport.connect(self.addr).await
    }

    /// A TCP connection to it from `source`, and nothing on it yet.
    pub async fn tcp_from(&self, source: Ipv4Addr) -> TcpStream {
        let stream = soon("a TCP connection", tcp_from(source, self.addr)).await;
        stream.expect("the relay accepts")
    }

    /// Makes `tcp` ready for a request, by a TLS handshake if it serves TLS.
    pub async fn over(&self, tcp: TcpStream) -> Stream {
        self.transport.over(tcp).await
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
        self.upgrade_on(self.connect().await, path, headers).await
    }

    /// As [`Relay::upgrade`], on a connection that exists.
    pub async fn upgrade_on(
        &self,
        stream: Stream,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Peer, Refused> {
        let url = format!("ws://{HOST}:{}{path}", self.addr.port());
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

    /// A phone made by hand; see [`Relay::raw`].
    pub async fn raw_phone(&self, server_id: &str, receive_buffer: Option<u32>) -> Raw {
        let headers = [&[("x-pyrycode-server", server_id)], PHONE_HEADERS].concat();
        self.raw("/v1/client", &headers, receive_buffer).await
    }

    /// A daemon made by hand.
    pub async fn raw_daemon(&self, server_id: &str) -> Raw {
        let headers = [&[("x-pyrycode-server", server_id)], DAEMON_HEADERS].concat();
        self.raw("/v1/server", &headers, None).await
    }

    /// A peer made by hand, on `path`. With `receive_buffer` (bytes) the socket's receive buffer is
    /// kept that small, so that a peer that never reads is soon a peer that can't be written.
    pub async fn raw(&self, path: &str, headers: Headers<'_>, receive_buffer: Option<u32>) -> Raw {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = receive_buffer {
            socket
                .set_recv_buffer_size(bytes)
                .expect("the buffer is set");
        }
        let tcp = soon("a TCP connection", socket.connect(self.addr)).await;
        let stream = self.over(tcp.expect("the relay accepts")).await;
        Raw::upgrade(stream, path, headers, &[]).await
    }

    // --- HTTP ---

    /// One plain request to the public listener.
    pub async fn http(&self, method: &str, target: &str, headers: Headers<'_>) -> Response {
        let mut stream = self.connect().await;
        http::exchange(&mut stream, &http::request(method, target, headers)).await
    }

    /// One request to the metrics listener.
    pub async fn http_metrics(&self, target: &str) -> Response {
        self.http_of(METRICS, target).await
    }

    /// One request to the listener that was given by `flag`.
    pub async fn http_of(&self, flag: &str, target: &str) -> Response {
        let mut stream = Transport::Plain.connect(self.listener(flag)).await;
        let request = http::request("GET", target, &[("Connection", "close")]);
        http::exchange(&mut stream, &request).await
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

    /// Its process id.
    pub fn process_id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The next line on its standard output; `None` at its end.
    pub async fn printed(&mut self) -> Option<String> {
        let line = soon("a line on standard output", async {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).await;
            (read.expect("standard output is read") > 0).then_some(line)
        });
        line.await
    }

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
}
