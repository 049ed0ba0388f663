//! What this machine can hold.

use crate::observe::metrics::Fill;
use relay_core::limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything that is not a registered peer: listeners, logs, the runtime.
const RESERVED_DESCRIPTORS: u64 = 64;

/// One in this many is kept for connections that have not been upgraded yet.
const HANDSHAKE_SHARE: u64 = 16;

/// Memory one connection is planned with, in bytes: what an idle one costs, its kernel buffers
/// included, with room for a frame in flight.
const PLANNED_CONNECTION_BYTES: u64 = 64 * 1024;

/// Memory that no setting bounds, in bytes: the process, and the tables of the limits when they are all full.
const UNBOUNDED_BYTES: u64 = 64 << 20;

/// The least that may be set for queued frames, in bytes.
const LEAST_BYTES: u64 = 1 << 20;

/// For queued frames where the memory is not known, in bytes: some dozen peers with a full outbox.
const QUEUE_BYTES: u64 = 64 << 20;

/// For the frames of waiting phones where there is enough memory, in bytes.
const PARK_BYTES: u64 = limits::PARK_TOTAL_BYTES as u64;

/// What one relay may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) park_bytes: usize,
}

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

    /// The descriptors that these bounds need and this machine does not have, in words.
    pub(crate) fn lacks_descriptors(self, bounds: Bounds) -> Option<String> {
        let Bounds {
            connections,
            handshakes,
            ..
        } = bounds;
        let peers = count(connections.saturating_add(handshakes));
        let needed = peers.saturating_add(RESERVED_DESCRIPTORS);
        (needed > self.descriptors).then(|| {
            format!(
                "{connections} connections and {handshakes} handshakes need {needed} descriptors, and the limit is {}",
                self.descriptors
            )
        })
    }

    /// The memory that these bounds allow to be used and this machine does not have, in words. Never said of the
    /// defaults.
    pub(crate) fn lacks_memory(self, bounds: Bounds) -> Option<String> {
        let Bounds {
            connections,
            handshakes,
            queue_bytes,
            park_bytes,
        } = bounds;
        let memory = self.memory_bytes?;
        let peers = count(connections.saturating_add(handshakes));
        let frames = count(queue_bytes.saturating_add(park_bytes));
        let needed = peers
            .saturating_mul(PLANNED_CONNECTION_BYTES)
            .saturating_add(frames);
        (needed > memory).then(|| {
            format!(
                "{connections} connections, {handshakes} handshakes and {frames} bytes of frames can take {} MiB, and there are {}",
                needed >> 20,
                memory >> 20
            )
        })
    }

    /// The default of `--queue-bytes`: a quarter of the memory, since half of it is planned for connections; on a small
    /// machine what everything else leaves, but a sixteenth at least.
    pub(crate) fn queue_bytes(self) -> usize {
        let bytes = self.memory_bytes.map_or(QUEUE_BYTES, |memory| {
            let others = memory / 2 + memory / 8 + count(self.park_bytes()) + UNBOUNDED_BYTES;
            let left = memory.saturating_sub(others);
            left.clamp(memory / 16, memory / 4).max(LEAST_BYTES)
        });
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The default of `--park-bytes`: a sixteenth of the memory, up to what always suffices.
    pub(crate) fn park_bytes(self) -> usize {
        let bytes = self.memory_bytes.map_or(PARK_BYTES, |memory| {
            (memory / 16).clamp(LEAST_BYTES, PARK_BYTES)
        });
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
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
    fn handshakes_are_bounded_by_memory_too() {
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
    }

    fn defaults(machine: Machine) -> Bounds {
        Bounds {
            connections: machine.max_connections(),
            handshakes: machine.max_handshakes(),
            queue_bytes: machine.queue_bytes(),
            park_bytes: machine.park_bytes(),
        }
    }

    #[test]
    fn limits_beyond_the_machine_are_noticed_and_its_defaults_are_not() {
        for descriptors in [1_024, 20_000, 1 << 30] {
            for memory_mib in [32, 64, 256, 512, 1 << 10, 1 << 20] {
                let machine = Machine {
                    descriptors,
                    memory_bytes: Some(memory_mib << 20),
                };
                let bounds = defaults(machine);
                assert_eq!(machine.lacks_descriptors(bounds), None, "{machine:?}");
                assert_eq!(machine.lacks_memory(bounds), None, "{machine:?}");
            }
        }
        let machine = Machine {
            descriptors: 20_000,
            memory_bytes: Some(1 << 30),
        };
        let bounds = defaults(machine);
        let many = |connections| Bounds {
            connections,
            ..bounds
        };
        assert_eq!(machine.lacks_descriptors(many(17_000)), None);
        assert!(machine.lacks_descriptors(many(19_000)).is_some());
        assert!(machine.lacks_memory(many(12_000)).is_some());
        assert!(machine.lacks_descriptors(many(usize::MAX)).is_some());
        assert!(machine.lacks_memory(many(usize::MAX)).is_some());
        let queue = Bounds {
            queue_bytes: 600 << 20,
            ..bounds
        };
        let park = Bounds {
            park_bytes: 600 << 20,
            ..bounds
        };
        assert!(machine.lacks_memory(queue).is_some());
        assert!(machine.lacks_memory(park).is_some());
        let unknown = Machine {
            memory_bytes: None,
            ..machine
        };
        assert_eq!(unknown.lacks_memory(many(usize::MAX)), None);
    }

    #[test]
    fn what_the_defaults_allow_fits_into_a_small_machine() {
        for memory_mib in [220, 256, 384, 512, 768, 1_024, 4_096] {
            let machine = Machine {
                descriptors: 1 << 30,
                memory_bytes: Some(memory_mib << 20),
            };
            let bounds = defaults(machine);
            // The formula of docs/operate.md.
            let all = (bounds.connections * 64 + bounds.handshakes * 45) * 1_024
                + bounds.queue_bytes
                + bounds.park_bytes
                + (50 << 20);
            let left = (memory_mib << 20).checked_sub(all as u64);
            assert!(left > Some(8 << 20), "{memory_mib} MiB, {bounds:?}");
        }
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
    fn frames_get_a_quarter_of_the_memory_and_less_of_a_small_one() {
        let queue_and_park_mib = |memory_bytes| {
            let machine = Machine {
                descriptors: 1,
                memory_bytes,
            };
            (machine.queue_bytes() >> 20, machine.park_bytes() >> 20)
        };
        let of = |mib: u64| queue_and_park_mib(Some(mib << 20));
        assert_eq!(queue_and_park_mib(None), (64, 32));
        assert_eq!(of(2_048), (512, 32));
        assert_eq!(of(1_024), (256, 32));
        assert_eq!(of(768), (192, 32));
        assert_eq!(of(512), (96, 32));
        assert_eq!(of(256), (16, 16));
        assert_eq!(of(64), (4, 4));
        assert_eq!(of(1), (1, 1));
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
