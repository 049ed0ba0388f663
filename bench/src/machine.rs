//! What Linux tells about processes: where they run, what they used.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::stats::median;

/// This program.
pub(crate) const THIS: &str = "/proc/self/exe";

/// The core of the relay, the core of the floor; and that of this process. One for both if there is no other.
static CORES: OnceLock<[usize; 2]> = OnceLock::new();

/// A core this busy has no time left.
const FULL: f64 = 0.95;

/// Prepares this process: on a core of its own, and with as many descriptors as it may have. Returns
/// their number.
pub(crate) fn prepare() -> io::Result<u64> {
    let mine = sched_getaffinity(None)?;
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| mine.is_set(*core));
    let server = allowed.next().unwrap_or(0);
    let cores = [server, allowed.next().unwrap_or(server)];
    pin(CORES.get_or_init(|| cores)[1])?;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    })
}

/// Keeps this thread, and what it starts from now on, on one core.
fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Becomes `program`, on this core, and to be killed when the process that started this one ends, however
/// that ends. Returns only if that fails.
pub(crate) fn exec(core: usize, program: &Path, args: &[String]) -> io::Result<()> {
    pin(core)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Err(Command::new(program).args(args).exec())
}

/// A process on the server's core. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `program`, silent but for its standard output.
    fn start(program: &Path, args: &[String], output: Stdio) -> io::Result<Self> {
        let core = CORES.get().map_or(0, |cores| cores[0]);
        let child = Command::new(THIS)
            .args(["exec", &core.to_string()])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()?;
        let name = program.display().to_string();
        Ok(Self { child, name })
    }

    /// Starts `program`, and waits for its end and all it writes to its standard output.
    pub(crate) fn output(program: &Path, args: &[String]) -> io::Result<String> {
        Self::start(program, args, Stdio::piped())?.wait()
    }

    fn wait(mut self) -> io::Result<String> {
        let output = self.child.stdout.take().map(io::read_to_string);
        let status = self.child.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!("{} ended: {status}", self.name)));
        }
        output.unwrap_or_else(|| Ok(String::new()))
    }

    /// Starts `program` and waits until it accepts connections there.
    pub(crate) fn serve(program: &Path, args: &[String], addr: SocketAddr) -> io::Result<Server> {
        Self::start(program, args, Stdio::null())?.listening(addr)
    }

    fn listening(mut self, addr: SocketAddr) -> io::Result<Server> {
        let since = Instant::now();
        while TcpStream::connect(addr).is_err() {
            let name = &self.name;
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{name} ended: {status}")));
            }
            if since.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other(format!(
                    "{name} does not listen at {addr}"
                )));
            }
            sleep(Duration::from_millis(10));
        }
        let pid = Some(self.child.id());
        let process = Some(self);
        Ok(Server { addr, pid, process })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server under measurement. Killed when dropped, if it was started here.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    pid: Option<u32>,
    #[expect(dead_code, reason = "held for its drop")]
    process: Option<Process>,
}

impl Server {
    /// One that runs already.
    pub(crate) fn running(addr: SocketAddr, pid: Option<u32>) -> Self {
        let process = None;
        Self { addr, pid, process }
    }

    /// Processor time it has used; `None` if its process is not known.
    fn used(&self) -> io::Result<Option<Used>> {
        let of = |pid| Used::of(&format!("/proc/{pid}/task"));
        self.pid.map(of).transpose()
    }

    /// Memory it has resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let pid = self
            .pid
            .ok_or_else(|| io::Error::other("its process is not known"))?;
        resident_bytes(pid)
    }

    /// Runs `work`, which tells how much it did, and returns that and what it cost. On
    /// a busy machine the server may get no turn in a short time: then it is tried again, but not for ever.
    pub(crate) fn cost(
        &self,
        mut work: impl FnMut() -> io::Result<u64>,
    ) -> io::Result<(f64, Load)> {
        for _ in 0..50 {
            let (count, load) = self.load(&mut work)?;
            if count > 0 && load.server_s != 0.0 {
                return Ok((count as f64, load));
            }
        }
        Err(io::Error::other("the server did nothing"))
    }

    /// Runs `work` and tells what it cost.
    pub(crate) fn load<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Load)> {
        let since = Instant::now();
        let (server, own) = (self.used()?, Used::by_this()?);
        let done = work()?;
        let wall_s = since.elapsed().as_secs_f64();
        let server_s = match (self.used()?, server) {
            (Some(now), Some(then)) => now.seconds_since(&then),
            _ => f64::NAN,
        };
        let generator_s = Used::by_this()?.seconds_since(&own);
        let load = Load {
            wall_s,
            server_s,
            generator_s,
        };
        Ok((done, load))
    }
}

/// Processor time that went by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) wall_s: f64,
    /// Not a number if the server's process is not known.
    pub(crate) server_s: f64,
    pub(crate) generator_s: f64,
}

impl Load {
    /// Says so when this program, and not the server, was what limited these runs.
    pub(crate) fn limited(loads: &[Self]) -> Option<String> {
        let share = |part: fn(&Self) -> f64| {
            let shares: Vec<f64> = loads.iter().map(|load| part(load) / load.wall_s).collect();
            median(&shares)
        };
        let (server, own) = (share(|load| load.server_s), share(|load| load.generator_s));
        let full = own > FULL;
        let spare = server.is_nan() || server < FULL;
        (full && spare).then(|| {
            let (server, own) = (server * 100.0, own * 100.0);
            format!("limited by the generator: it was {own:.0} % busy, the server {server:.0} %")
        })
    }
}

/// Memory a process has resident, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("no VmRSS"))? * 1024)
}

/// Processor time that each thread of a process has used, in nanoseconds.
struct Used(BTreeMap<OsString, u64>);

impl Used {
    fn by_this() -> io::Result<Self> {
        Self::of("/proc/self/task")
    }

    /// The first number of `schedstat` is time on a processor, in ns.
    fn of(tasks: &str) -> io::Result<Self> {
        let mut used = BTreeMap::new();
        for task in fs::read_dir(tasks)? {
            let task = task?;
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
            used.insert(task.file_name(), ns.unwrap_or(0));
        }
        Ok(Self(used))
    }

    /// What the threads that are there now have used since then. What one used that ended meanwhile is not known.
    fn seconds_since(&self, then: &Self) -> f64 {
        let spent = |(thread, ns): (&OsString, &u64)| {
            ns.saturating_sub(then.0.get(thread).copied().unwrap_or(0))
        };
        self.0.iter().map(spent).sum::<u64>() as f64 / 1e9
    }
}

/// Who used the two cores since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    since: Instant,
    ticks: Ticks,
}

/// Hundredths of a second on a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// Of the two cores, by whomever, the host included.
    busy: u64,
    /// Of this process and its children that have ended.
    own: u64,
}

impl Usage {
    pub(crate) fn start() -> io::Result<Self> {
        let (since, ticks) = (Instant::now(), Ticks::now()?);
        Ok(Self { since, ticks })
    }

    /// The share of the cores that neither this process nor those it started have used, 0 to 1.
    pub(crate) fn others(&self) -> io::Result<f64> {
        let now = Ticks::now()?;
        let busy = now.busy - self.ticks.busy;
        let others = busy.saturating_sub(now.own - self.ticks.own);
        Ok(others as f64 / 100.0 / self.since.elapsed().as_secs_f64() / 2.0)
    }
}

impl Ticks {
    fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let own = fs::read_to_string("/proc/self/stat")?;
        Ok(Self::read(&stat, &own, CORES.get().unwrap_or(&[0, 0])))
    }

    /// From `/proc/stat` and `/proc/self/stat`, as proc(5) has them.
    fn read(stat: &str, own: &str, cores: &[usize; 2]) -> Self {
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let core = |core: &usize| {
            let name = format!("cpu{core} ");
            let line = stat.lines().find_map(|line| line.strip_prefix(&name));
            let fields: Vec<u64> = line.unwrap_or("").split(' ').map(number).collect();
            // user, nice, system, (idle, iowait,) irq, softirq, steal
            let counted = [0, 1, 2, 5, 6, 7].map(|field| fields.get(field).unwrap_or(&0));
            counted.into_iter().sum::<u64>()
        };
        // utime, stime, cutime, cstime follow eleven fields behind the name in parentheses.
        let fields = own.rsplit(')').next().unwrap_or("").split_whitespace();
        Self {
            busy: cores.iter().map(core).sum(),
            own: fields.skip(11).take(4).map(number).sum(),
        }
    }
}

/// A loopback address nobody listens on.
pub(crate) fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// The machine in one line: processors, memory, kernel.
pub(crate) fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let kib = value(&memory, "MemTotal");
    let kib: f64 = kib.trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
    format!(
        "{} x {}, {:.0} GiB, Linux {}",
        cpu.matches("processor\t").count(),
        value(&cpu, "model name"),
        kib / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_those_of_the_two_cores_and_of_this_process() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 1000 1000 4 5 6 7 8\ncpu1 10 0 0 50 0 0 0 0 0 0\n\
                    cpu11 500 0 0 0 0 0 0 0 0 0\n";
        let own = "7 (a ) b) R 1 2 3 4 5 6 7 8 9 10 100 20 3 4 99 99";
        let ticks = Ticks::read(stat, own, &[0, 1]);
        assert_eq!((ticks.busy, ticks.own), (31, 127));
    }

    #[test]
    fn a_slow_generator_is_named() {
        let limited = |server_s, generator_s| {
            let load = Load {
                wall_s: 1.0,
                server_s,
                generator_s,
            };
            Load::limited(&[load])
        };
        assert!(limited(0.5, 0.99).is_some_and(|text| text.contains("99 %")));
        assert!(limited(f64::NAN, 0.99).is_some());
        assert!(limited(0.99, 0.99).is_none());
        assert!(limited(0.5, 0.5).is_none());
    }
}
