//! What Linux tells about processes: where they run, what they used.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the relay, and of the floor.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of this process.
pub(crate) const GENERATOR_CORE: usize = 1;

/// Keeps this thread, and what it starts from now on, on one core. On a machine with one core there is
/// nothing to choose.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    if std::thread::available_parallelism()?.get() < 2 && core > 0 {
        return Ok(());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// A process under measurement. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts `program` on the server's core and waits until it accepts connections.
    pub(crate) fn start(program: &Path, args: &[String], addr: SocketAddr) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // The child inherits where its parent runs, so all of its threads start there.
        pin(SERVER_CORE)?;
        let child = command.spawn();
        pin(GENERATOR_CORE)?;
        let mut server = Self {
            child: child?,
            addr,
        };
        let since = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "{} ended: {status}",
                    program.display()
                )));
            }
            if since.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other(format!(
                    "{} does not listen",
                    program.display()
                )));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Processor time it has used, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        cpu_ns(&format!("/proc/{}/task", self.child.id()))
    }

    /// Memory it has resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| io::Error::other("no VmRSS"))? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time this process has used, in nanoseconds.
pub(crate) fn own_cpu_ns() -> io::Result<u64> {
    cpu_ns("/proc/self/task")
}

/// Sum over the live threads: the first number of `schedstat` is time on a processor, in ns.
fn cpu_ns(tasks: &str) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(tasks)? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        sum += text
            .split(' ')
            .next()
            .and_then(|ns| ns.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(sum)
}

/// A loopback address nobody listens on.
pub(crate) fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// The relay on plain HTTP with everything out of the way that protects it from a single noisy address.
pub(crate) fn start_relay(program: &Path) -> io::Result<Server> {
    let addr = free_addr()?;
    start_relay_with(program, addr, &[format!("--insecure-listen={addr}")])
}

/// The same with a public listener of its own on `addr`.
pub(crate) fn start_relay_with(
    program: &Path,
    addr: SocketAddr,
    own: &[String],
) -> io::Result<Server> {
    let unlimited = [
        "--metrics-listen=",
        "--max-connections=19000",
        "--max-connections-per-ip=0",
        "--max-handshakes-per-ip=0",
        "--connect-burst=0",
        "--rate-burst=0",
        "--redial-burst=0",
    ];
    let args = [own, &unlimited.map(str::to_owned)].concat();
    Server::start(program, &args, addr)
}
