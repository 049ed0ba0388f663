//! What the admin routes answer. The names are a contract: the page, `pyrycode-relay top` and scripts of operators
//! read them.

use crate::observe::metrics::Fill;
use serde::Serialize;
use std::time::SystemTime;

/// How the relay is.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) version: &'static str,
    pub(super) phase: String,
    pub(super) now_ms: u64,
    pub(super) uptime_seconds: u64,
    pub(super) show_ids: bool,
    pub(super) binaries: usize,
    pub(super) phones: usize,
    pub(super) parked: usize,
    pub(super) slots: Slots,
    pub(super) connections: Level,
    pub(super) handshakes: Level,
    pub(super) queue_bytes: Level,
    pub(super) park_bytes: Level,
    pub(super) totals: Totals,
    pub(super) sample: Sample,
    pub(super) certificate: Option<Certificate>,
    pub(super) push: Push,
    pub(super) process: Process,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<History>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recent: Option<Vec<Happening>>,
}

/// Slots by state.
#[derive(Debug, Serialize)]
pub(super) struct Slots {
    pub(super) live: usize,
    pub(super) grace: usize,
    pub(super) waiting: usize,
}

/// Something that has a limit.
#[derive(Debug, Serialize)]
pub(super) struct Level {
    pub(super) now: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) high_water: Option<usize>,
    pub(super) limit: usize,
}

impl From<Fill> for Level {
    fn from(fill: Fill) -> Self {
        Self {
            now: fill.now,
            high_water: None,
            limit: fill.limit,
        }
    }
}

/// Counts since the start. Up is from phones to binaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) frames_up: u64,
    pub(super) frames_down: u64,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) accepts: u64,
    pub(super) refusals: u64,
    pub(super) takeovers: u64,
    pub(super) reclaims: u64,
    pub(super) resumes: u64,
    pub(super) evictions: u64,
    pub(super) grace_expiries: u64,
}

/// Writes a struct whose values are also wanted as columns.
macro_rules! columns {
    ($($(#[$doc:meta])* $field:ident: $type:ty),* $(,)?) => {
        /// One second. What is counted is said per second.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
        pub(super) struct Sample { $($(#[$doc])* pub(super) $field: $type),* }

        /// Many samples, oldest first, each figure in a column.
        #[derive(Debug, Default, Serialize)]
        pub(super) struct History { $($field: Vec<$type>),* }

        impl<'a> FromIterator<&'a Sample> for History {
            fn from_iter<I: IntoIterator<Item = &'a Sample>>(samples: I) -> Self {
                let mut history = Self::default();
                for sample in samples {
                    $(history.$field.push(sample.$field);)*
                }
                history
            }
        }
    };
}

columns! {
    /// Milliseconds since 1970.
    t: u64,
    binaries: usize,
    phones: usize,
    parked: usize,
    frames_up: f64,
    frames_down: f64,
    received_bytes: f64,
    sent_bytes: f64,
    latency_p50_us: Option<f64>,
    latency_p99_us: Option<f64>,
    heartbeat_p50_ms: Option<f64>,
    heartbeat_p99_ms: Option<f64>,
    queue_bytes: usize,
    accepts: f64,
    refusals: f64,
    /// 100 is one processor.
    cpu_percent: f64,
}

/// The certificate of the public listener.
#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    pub(super) source: &'static str,
    pub(super) domain: Option<String>,
    /// Seconds since 1970.
    pub(super) not_after: Option<u64>,
    pub(super) state: &'static str,
}

/// What became of requests to wake a phone.
#[derive(Debug, Serialize)]
pub(super) struct Push {
    pub(super) on: bool,
    #[serde(flatten)]
    pub(super) wakes: Option<Wakes>,
}

/// Since the start.
#[derive(Debug, Serialize)]
pub(super) struct Wakes {
    pub(super) in_flight: usize,
    pub(super) sent: u64,
    pub(super) unregistered: u64,
    pub(super) send_failed: u64,
    pub(super) token_fetch_failed: u64,
    pub(super) dropped: u64,
}

/// What the system says of this process.
#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) rss_bytes: Option<u64>,
    pub(super) cpu_seconds: f64,
    pub(super) open_fds: Option<u64>,
    pub(super) fds_limit: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Happening {
    /// Milliseconds since 1970.
    pub(super) t: u64,
    pub(super) event: &'static str,
    pub(super) level: &'static str,
    pub(super) slot: Option<String>,
    pub(super) server_id: Option<String>,
    pub(super) phone: Option<String>,
    pub(super) detail: String,
}

/// Some of the slots.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) total: usize,
    pub(super) matching: usize,
    pub(super) offset: usize,
    pub(super) slots: Vec<Slot<usize>>,
}

/// One slot. Of its phones the list of slots says how many there are, and the slot alone which.
#[derive(Debug, Serialize)]
pub(super) struct Slot<P> {
    pub(super) slot: String,
    pub(super) server_id: Option<String>,
    pub(super) state: &'static str,
    pub(super) since_seconds: f64,
    pub(super) phones: P,
    pub(super) parked: usize,
    pub(super) queue_bytes: usize,
    pub(super) version: Option<String>,
    pub(super) remote: Option<String>,
}

/// One slot, its binary and its phones.
#[derive(Debug, Serialize)]
pub(super) struct SlotDetail {
    #[serde(flatten)]
    pub(super) slot: Slot<Vec<Phone>>,
    pub(super) binary: Option<Binary>,
}

/// A slot's holder.
#[derive(Debug, Serialize)]
pub(super) struct Binary {
    pub(super) version: String,
    pub(super) remote: String,
    pub(super) connected_seconds: f64,
    pub(super) queue_bytes: usize,
    pub(super) resumable: bool,
}

/// A registered phone.
#[derive(Debug, Serialize)]
pub(super) struct Phone {
    pub(super) phone: String,
    pub(super) device_name: Option<String>,
    pub(super) remote: String,
    pub(super) state: &'static str,
    pub(super) connected_seconds: f64,
    pub(super) queue_bytes: usize,
    pub(super) frames_up: u32,
    pub(super) frames_down: u32,
    pub(super) last_up_bytes: Vec<usize>,
    pub(super) last_down_bytes: Vec<usize>,
}

/// Milliseconds since 1970.
pub(super) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
