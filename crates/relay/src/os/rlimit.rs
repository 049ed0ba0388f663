//! How many connections this machine can hold.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything that is not a peer: listeners, logs, the runtime.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Memory one connection is planned with, in bytes: what an idle one costs, its kernel buffers
/// included, with room for a frame in flight.
const PLANNED_CONNECTION_BYTES: u64 = 64 * 1024;

/// Raises the soft limit of open descriptors to the hard one and returns it.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => hard,
        Err(_) => limit.current.unwrap_or(hard),
    }
}

/// The default of `--max-connections`: what the descriptor limit and half of the memory allow.
pub(crate) fn default_max_connections(descriptors: u64, memory_bytes: Option<u64>) -> usize {
    let by_descriptors = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(1);
    let by_memory = memory_bytes
        .map_or(u64::MAX, |m| m / 2 / PLANNED_CONNECTION_BYTES)
        .max(16);
    usize::try_from(by_descriptors.min(by_memory).min(1_000_000)).unwrap_or(usize::MAX)
}

/// Memory this process may use: the smallest of the machine's and the limits of its control group
/// (v2 and v1). `None` where neither can be read.
pub(crate) fn memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace()
                .nth(1)?
                .parse::<u64>()
                .ok()
                .map(|kib| kib * 1024)
        });
    let groups = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let group = groups.iter().find_map(|path| {
        std::fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
    });
    [machine, group].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_cap_follows_the_scarcer_resource() {
        assert_eq!(default_max_connections(20_000, None), 19_936);
        assert_eq!(default_max_connections(20_000, Some(256 << 20)), 2_048);
        assert_eq!(default_max_connections(64, Some(1 << 40)), 1);
    }
}
