//! What is not counted here but asked of its owner at each scrape.

use crate::observe::process;
use crate::phase::Phase;
use relay_core::Counts;
use std::time::SystemTime;

/// How much there is of something that has a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Now.
    pub now: usize,
    /// At most.
    pub limit: usize,
}

/// How things stand at one moment.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// Peers and slots.
    pub counts: Counts,
    /// What the relay is doing as a whole.
    pub(crate) phase: Phase,
    /// Connections that are upgraded, or are about to be.
    pub connections: Fill,
    /// Connections to the public listener that are accepted and not answered.
    pub handshakes: Fill,
    /// Bytes drawn from `--queue-bytes`.
    pub queue_bytes: Fill,
    /// The most that ever was.
    pub queue_bytes_high_water: usize,
    /// Bytes of the frames of parked phones.
    pub park_bytes: Fill,
    /// The limiters' tables, by name: entries.
    pub limiters: [(&'static str, usize); 5],
    /// Log lines dropped since the start.
    pub log_lines_dropped: u64,
    /// With TLS: from when and until when the certificate in force is valid; both are 1970 if there is none.
    pub certificate: Option<(SystemTime, SystemTime)>,
    /// With push: requests to the push service under way.
    pub push_in_flight: Option<usize>,
    /// With `--process-metrics`.
    pub process: Option<process::Figures>,
}
