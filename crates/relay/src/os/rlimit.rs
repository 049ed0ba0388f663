//! How many connections this machine can hold.

use crate::observe::metrics::Fill;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything that is not a registered peer: listeners, logs, the runtime.
const RESERVED_DESCRIPTORS: u64 = 64;

/// One in this many is kept for connections that have not been upgraded yet.
const HANDSHAKE_SHARE: u64 = 16;

/// Memory one connection is planned with, in bytes: what an idle one costs, its kernel buffers
/// included, with room for a frame in flight.
const PLANNED_CONNECTION_BYTES: u64 = 64 * 1024;

/// Least of the default for queued frames, in bytes: some dozen peers with a full outbox.
const MIN_QUEUE_BYTES: u64 = 64 * 1024 * 1024;

/// Raises the soft limit of open descriptors to the hard one and returns it.
fn raise_descriptors() -> u64 {
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

/// What this machine has for one relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Descriptors this process may open.
    pub(crate) descriptors: u64,
    /// Memory it may use; `None` where that cannot be read.
    pub(crate) memory_bytes: Option<u64>,
}

impl Machine {
    /// Looks, and raises the soft limit of descriptors to the hard one.
    pub(crate) fn look() -> Self {
        Self {
            descriptors: raise_descriptors(),
            memory_bytes: memory_bytes(),
        }
    }

    /// The default of `--max-connections`: what the descriptor limit and half of the memory allow.
    pub(crate) fn max_connections(self) -> usize {
        let reserved = RESERVED_DESCRIPTORS + self.descriptors / HANDSHAKE_SHARE;
        let by_descriptors = self.descriptors.saturating_sub(reserved).max(1);
        let by_memory = self
            .memory_bytes
            .map_or(u64::MAX, |m| m / 2 / PLANNED_CONNECTION_BYTES)
            .max(16);
        usize::try_from(by_descriptors.min(by_memory).min(1_000_000)).unwrap_or(usize::MAX)
    }

    /// The default of `--max-handshakes`: the descriptors that `--max-connections` leaves for them, and an eighth of
    /// the memory (a TLS handshake that stops half-way holds some 45 KiB).
    pub(crate) fn max_handshakes(self) -> usize {
        self.handshakes(self.descriptors / HANDSHAKE_SHARE)
    }

    /// How many handshakes there may be by default with these connections, of which there may be so many: when a crowd
    /// comes back at once, the descriptors are free that it will have later.
    pub(crate) fn handshakes_beside(self, connections: Fill) -> usize {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let unused = count(connections.limit.saturating_sub(connections.now));
        // As many as handshakes always have stay free, for everything else that opens one: the other listeners, push, files.
        let others = RESERVED_DESCRIPTORS + self.descriptors / HANDSHAKE_SHARE;
        let free = self
            .descriptors
            .saturating_sub(others + count(connections.now));
        let own = count(self.max_handshakes());
        let places = own.saturating_add(unused).min(free).max(own);
        self.handshakes(places)
    }

    /// So many, as far as there is memory.
    fn handshakes(self, places: u64) -> usize {
        let by_memory = self
            .memory_bytes
            .map_or(u64::MAX, |m| m / 8 / PLANNED_CONNECTION_BYTES);
        let places = places.min(by_memory).clamp(8, 65_536);
        usize::try_from(places).unwrap_or(usize::MAX)
    }

    /// What is wrong with these limits on this machine, in words.
    pub(crate) fn too_small_for(
        self,
        max_connections: usize,
        max_handshakes: usize,
    ) -> Option<String> {
        let peers = max_connections.saturating_add(max_handshakes);
        let peers = u64::try_from(peers).unwrap_or(u64::MAX);
        let needed = peers.saturating_add(RESERVED_DESCRIPTORS);
        (needed > self.descriptors).then(|| {
            format!(
                "{max_connections} connections and {max_handshakes} handshakes need {needed} descriptors, and the limit is {}",
                self.descriptors
            )
        })
    }

    /// The default of `--queue-bytes`: a quarter of the memory, since half of it is planned for connections.
    pub(crate) fn queue_bytes(self) -> usize {
        let quarter = self.memory_bytes.map_or(0, |bytes| bytes / 4);
        usize::try_from(quarter.max(MIN_QUEUE_BYTES)).unwrap_or(usize::MAX)
    }
}
/// Memory this process may use: the smallest of the machine's and the limits of its control groups.
/// `None` where none can be read.
fn memory_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace()
            .nth(1)?
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    });
    let own_groups = read("/proc/self/cgroup").unwrap_or_default();
    let groups = limit_files(&own_groups)
        .into_iter()
        .filter_map(|path| read(&path)?.trim().parse().ok());
    machine.into_iter().chain(groups).min()
}

/// Where the memory limits are that apply to a process with these control groups
/// (`/proc/self/cgroup`): those of its own group and of every one above.
fn limit_files(own_groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in own_groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in std::path::Path::new(group).ancestors() {
            let group = group.to_string_lossy();
            files.push(format!("{root}{}/{name}", group.trim_end_matches('/')));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_are_bounded_by_memory_too_and_limits_beyond_the_machine_are_noticed() {
        let machine = |descriptors, memory_bytes| Machine {
            descriptors,
            memory_bytes: Some(memory_bytes),
        };
        assert_eq!(machine(20_000, 1 << 40).max_handshakes(), 1_250);
        assert_eq!(machine(1 << 20, 512 << 20).max_handshakes(), 1_024);
        let beside = |now, limit, memory_bytes| {
            machine(20_000, memory_bytes).handshakes_beside(Fill { now, limit })
        };
        assert_eq!(
            beside(0, 18_686, 1 << 40),
            18_686,
            "what others need stays free"
        );
        assert_eq!(beside(10_000, 18_686, 1 << 40), 8_686);
        assert_eq!(beside(18_686, 18_686, 1 << 40), 1_250);
        assert_eq!(beside(100, 500, 1 << 40), 1_650);
        assert_eq!(beside(0, 18_686, 1 << 30), 2_048);
        let default = machine(20_000, 1 << 40);
        let (peers, handshakes) = (default.max_connections(), default.max_handshakes());
        assert_eq!(default.too_small_for(peers, handshakes), None);
        assert!(machine(256, 1 << 40).too_small_for(1_000, 16).is_some());
        assert!(default.too_small_for(usize::MAX, 16).is_some());
    }

    #[test]
    fn the_default_cap_follows_the_scarcer_resource() {
        let cap = |descriptors, memory_bytes| {
            let machine = Machine {
                descriptors,
                memory_bytes,
            };
            machine.max_connections()
        };
        assert_eq!(cap(20_000, None), 18_686);
        assert_eq!(cap(20_000, Some(256 << 20)), 2_048);
        assert_eq!(cap(64, Some(1 << 40)), 1);
    }

    #[test]
    fn queued_frames_get_a_quarter_of_the_memory() {
        let queue = |memory_bytes| {
            let machine = Machine {
                descriptors: 1,
                memory_bytes,
            };
            machine.queue_bytes()
        };
        assert_eq!(queue(Some(2 << 30)), 512 << 20);
        assert_eq!(queue(Some(64 << 20)), 64 << 20);
        assert_eq!(queue(None), 64 << 20);
    }

    #[test]
    fn a_limit_may_be_set_on_any_group_above() {
        assert_eq!(
            limit_files("0::/system.slice/relay.service\n"),
            [
                "/sys/fs/cgroup/system.slice/relay.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            limit_files("4:memory:/docker/a\n3:cpu:/docker/a\n")[0],
            "/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes"
        );
    }
}
