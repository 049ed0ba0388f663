//! The relay: the built program, as a process.

use crate::book::{Broken, Result, ensure};
use crate::launch::{self, Launch, PATIENCE};
use relay_sim::Page;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

/// Everybody here dials from one address, so nobody is limited by it. What a scenario gives comes later, and wins.
const ARGS: [&str; 5] = [
    "--connect-burst=0",
    "--max-handshakes-per-ip=0",
    "--max-connections-per-ip=0",
    "--rate-burst=0",
    "--process-metrics",
];

/// How a relay is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The built program.
    pub(crate) program: PathBuf,
    /// Arguments besides the listeners.
    pub(crate) args: Vec<String>,
    /// Environment.
    pub(crate) env: Vec<(String, String)>,
    /// Under what it runs.
    pub(crate) launch: Launch,
    /// Where its log goes; otherwise into the scenario's directory.
    pub(crate) log: Option<PathBuf>,
    /// It listens on all addresses of the machine.
    pub(crate) everywhere: bool,
    /// It serves TLS; the arguments say with which certificate. Only `/healthz` has a listener without.
    pub(crate) tls: bool,
}

/// What the kernel says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Open descriptors.
    pub(crate) fds: usize,
    /// Resident memory.
    pub(crate) rss_bytes: u64,
    /// Processor time since its start.
    pub(crate) cpu: Duration,
}

/// A relay on ports of its own, over several processes one after the other.
pub(crate) struct Relay {
    settings: Settings,
    /// Where peers dial.
    pub(crate) addr: SocketAddr,
    /// Where it answers `/healthz`.
    pub(crate) health: SocketAddr,
    metrics: SocketAddr,
    /// Its log.
    pub(crate) log: PathBuf,
    child: Option<Child>,
    pid: Option<Pid>,
}

impl Relay {
    /// Starts it; returns when it serves.
    ///
    /// # Errors
    /// If it doesn't.
    pub(crate) async fn start(settings: Settings, dir: &Path) -> Result<Self> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = settings.log.clone();
        let addr = local(free_port()?);
        let mut relay = Self {
            addr,
            health: if settings.tls {
                local(free_port()?)
            } else {
                addr
            },
            settings,
            metrics: local(free_port()?),
            log: log.unwrap_or_else(|| dir.join("relay.log")),
            child: None,
            pid: None,
        };
        relay.restart().await?;
        Ok(relay)
    }

    /// Starts the next process, on the same ports; returns when it serves.
    ///
    /// # Errors
    /// If it doesn't.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let host = if self.settings.everywhere {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let listen = SocketAddr::from((host, self.addr.port()));
        let mut args = match self.settings.tls {
            false => vec![format!("--insecure-listen={listen}")],
            true => vec![
                format!("--https-listen={listen}"),
                format!("--health-listen={}", self.health),
            ],
        };
        args.push(format!("--metrics-listen={}", self.metrics));
        args.extend(ARGS.map(String::from));
        args.extend(self.settings.args.iter().cloned());
        let path = self.settings.program.to_string_lossy().into_owned();
        let mut command = launch::program(&self.settings.launch, &path, &args);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PYRYCODE_RELAY_") {
                command.env_remove(name);
            }
        }
        command.envs(self.settings.env.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command.spawn()?;
        self.pid = Some(launch::pid(&child)?);
        let until = Instant::now() + PATIENCE;
        while self.healthz(PATIENCE).await.is_err() {
            if let Some(status) = child.try_wait()? {
                return Err(Broken(format!(
                    "the relay ended with {status}: {}",
                    self.log_tail()
                )));
            }
            ensure(Instant::now() < until, || "the relay does not start".into())?;
            // Until it listens there is nothing to wait on.
            sleep(Duration::from_millis(20)).await;
        }
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL; returns when it is gone.
    ///
    /// # Errors
    /// If it has ended before.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let child = self.child.take();
        let mut child = child.ok_or_else(|| Broken("the relay is gone".into()))?;
        ensure(child.try_wait()?.is_none(), || {
            "the relay had ended by itself".into()
        })?;
        Ok(child.kill().await?)
    }

    /// SIGTERM; returns when it is gone.
    ///
    /// # Errors
    /// If it doesn't end, or not with 0.
    pub(crate) async fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let child = self.child.take();
        let mut child = child.ok_or_else(|| Broken("the relay is gone".into()))?;
        let status = timeout(PATIENCE, child.wait()).await;
        let status = status.map_err(|_| Broken("the relay does not end".into()))??;
        ensure(status.success(), || {
            format!("the relay ended with {status}")
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        ensure(self.is_up()?, || {
            format!("the relay ended: {}", self.log_tail())
        })?;
        let pid = self.pid.ok_or_else(|| Broken("the relay is gone".into()))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Whether its process is there.
    ///
    /// # Errors
    /// If the kernel doesn't say.
    pub(crate) fn is_up(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// That `/healthz` answers 200 within the bound.
    ///
    /// # Errors
    /// If it doesn't.
    pub(crate) async fn healthz(&self, bound: Duration) -> Result<()> {
        healthz(self.health, bound).await
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// If it doesn't answer.
    pub(crate) async fn page(&self) -> Result<Page> {
        let (status, body) = get(self.metrics, "/metrics", PATIENCE).await?;
        ensure(status == 200, || format!("/metrics answers {status}"))?;
        Ok(Page::read(&body))
    }

    /// What the kernel says of it.
    ///
    /// # Errors
    /// If it is gone.
    pub(crate) fn figures(&self) -> Result<Figures> {
        let proc = self.proc();
        let status = std::fs::read_to_string(proc.join("status"))?;
        let stat = std::fs::read_to_string(proc.join("stat"))?;
        // Behind the name, which ends with the last parenthesis: utime and stime are the 12th and 13th, in 1/100 s.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Figures {
            fds: std::fs::read_dir(proc.join("fd"))?.count(),
            rss_bytes: status_bytes(&status, "VmRSS:")?,
            cpu: Duration::from_millis(ticks * 10),
        })
    }

    /// The most memory that was resident at a time.
    ///
    /// # Errors
    /// If the kernel doesn't say.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        status_bytes(
            &std::fs::read_to_string(self.proc().join("status"))?,
            "VmHWM:",
        )
    }

    fn proc(&self) -> PathBuf {
        let pid = self.pid.map(|pid| pid.as_raw_nonzero().get());
        PathBuf::from(format!("/proc/{}", pid.unwrap_or_default()))
    }

    /// Its log so far.
    pub(crate) fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

/// A line of `/proc/…/status`, which says kB and means KiB.
fn status_bytes(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| Broken(format!("the kernel says no {name}")))? * 1024)
}

/// That the `/healthz` of the relay at this address answers 200 within the bound.
///
/// # Errors
/// If it doesn't.
pub(crate) async fn healthz(addr: SocketAddr, bound: Duration) -> Result<()> {
    let (status, body) = get(addr, "/healthz", bound).await?;
    ensure(status == 200 && body.contains("connected_phones"), || {
        format!("/healthz answers {status}: {body}")
    })
}

/// One request of HTTP on a connection of its own: status and body.
async fn get(addr: SocketAddr, path: &str, bound: Duration) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(bound, exchange).await;
    let answer = answer.map_err(|_| Broken(format!("{path}: no answer in {bound:?}")))??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Broken(format!("{path}: no status in {head:?}")))?;
    Ok((status, body.to_owned()))
}

/// A port that nobody has, below those that the kernel gives to whoever dials: it must still be free when a relay that was
/// killed comes back.
///
/// # Errors
/// If there is none.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 18_000;
    const PORTS: u16 = 12_000;
    // Programs that start one after the other are far from each other.
    let start = std::process::id().wrapping_mul(2_654_435_761) % u32::from(PORTS);
    for _ in 0..PORTS {
        let n = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + start;
        let port = FIRST + (n % u32::from(PORTS)) as u16;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Broken("no free port".into()))
}
