//! What the system says of this process.

use super::metrics::Page;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;

/// Resident memory, in bytes. `None` where `/proc` doesn't say.
pub fn rss_bytes() -> Option<u64> {
    status_bytes(&status()?, "VmRSS:")
}

/// Processor time of all threads, in seconds.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Open descriptors. `None` where `/proc` doesn't say.
pub fn open_fds() -> Option<u64> {
    const PATH: &str = "/proc/self/fd";
    // Since Linux 6.2 the size of the directory is their number; counting thousands takes milliseconds.
    match fs::metadata(PATH).ok()?.len() {
        // The one for reading the directory is closed again.
        0 => Some(fs::read_dir(PATH).ok()?.count().saturating_sub(1) as u64),
        n => Some(n),
    }
}

/// Descriptors this process may open. `None`: without a limit.
pub fn fds_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The figures that Prometheus' client libraries export, under the names that they have everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    cpu_seconds: f64,
    rss_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    fds_limit: Option<u64>,
}

impl Figures {
    /// As they are now.
    pub fn read() -> Self {
        let status = status().unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(),
            rss_bytes: status_bytes(&status, "VmRSS:"),
            virtual_bytes: status_bytes(&status, "VmSize:"),
            threads: status_field(&status, "Threads:"),
            open_fds: open_fds(),
            fds_limit: fds_limit(),
        }
    }

    /// Writes the series; what the system doesn't say is left out.
    pub(super) fn write(&self, page: &mut Page, start_time_seconds: f64) {
        page.counter(
            "process_cpu_seconds_total",
            "Processor time of all threads, in seconds",
        )
        .sample(&[], self.cpu_seconds);
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Resident memory",
                self.rss_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space",
                self.virtual_bytes,
            ),
            ("process_threads", "Threads", self.threads),
            ("process_open_fds", "Open descriptors", self.open_fds),
            (
                "process_max_fds",
                "Descriptors this process may open",
                self.fds_limit,
            ),
        ] {
            if let Some(value) = value {
                page.gauge(name, help).sample(&[], value);
            }
        }
        page.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
        )
        .sample(&[], start_time_seconds);
    }
}

fn status() -> Option<String> {
    fs::read_to_string("/proc/self/status").ok()
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    // The file says kB and means KiB.
    Some(status_field(status, name)? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_all_figures() {
        let figures = Figures::read();
        assert!(figures.rss_bytes.is_some_and(|n| n > 100_000));
        assert!(figures.virtual_bytes > figures.rss_bytes);
        assert!(figures.threads.is_some_and(|n| n > 0));
        assert!(figures.open_fds.is_some_and(|n| n >= 3));
        assert!(
            figures
                .fds_limit
                .is_none_or(|limit| Some(limit) > figures.open_fds)
        );
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = open_fds().unwrap();
        let files: Vec<_> = (0..50)
            .map(|_| fs::File::open("/proc/self/status").unwrap())
            .collect();
        // Other tests open and close some meanwhile.
        assert!(open_fds().unwrap() >= before + 30);
        drop(files);
    }

    #[test]
    fn work_takes_processor_time() {
        let before = cpu_seconds();
        let mut n = 0_u64;
        while cpu_seconds() <= before {
            n = std::hint::black_box(n + 1);
        }
        assert!(cpu_seconds() > before);
    }
}
