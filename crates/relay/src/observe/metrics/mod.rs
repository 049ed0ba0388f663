//! What is counted, and how Prometheus reads it.
//!
//! Every label combination exists from the start with value 0, and no label carries anything a peer sent. What happens
//! with every frame is counted on cache lines of the thread, so that counting is an uncontended addition. What others
//! know already, like how many connections there are, is asked of them at each scrape: see [`Gauges`].

mod counter;
mod exposition;
mod gauges;
mod histogram;
mod labels;
mod page;

pub use counter::{Counter, Counters, Striped};
pub use exposition::Format;
pub(crate) use exposition::Page;
pub use gauges::{Fill, Gauges};
pub use histogram::{Histogram, Snapshot};
pub use labels::{
    Direction, Dropped, Endpoint, Failure, Handshake, Label, Leg, Outcome, Refusal, Stage,
    Unparked, WakeOutcome,
};

use relay_proto::close::{self, Cause};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Everything that is counted. Arrays are indexed by their label.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    attempts: [Counters<Outcome>; 2],
    failures: Counters<Failure>,
    frame_bytes: [Histogram; 2],
    received: [Striped; 2],
    sent: [Striped; 2],
    /// For each leg as many as there are causes.
    ends: [Box<[Counter]>; 2],
    /// For each leg as many as there are known codes.
    close_codes: [Box<[Counter]>; 2],
    wakes: Counters<WakeOutcome>,
    push: AtomicBool,
    /// Grace timers that released a slot.
    pub grace_expiries: Counter,
    /// Claims that displaced a holder which failed its probe.
    pub takeovers: Counter,
    /// Claims of a slot in its grace window.
    pub reclaims: Counter,
    /// Claims by the process that had left: the tenure went on.
    pub resumes: Counter,
    /// Phones that had to redial because their binary came back without their session.
    pub evictions: Counter,
    /// Dials of a binary refused because its server-id's tenures keep ending at once.
    pub redials_refused: Counter,
    /// Phones that began to wait for their binary.
    pub phones_parked: Counter,
    /// How such waits ended.
    pub phones_parked_ended: Counters<Unparked>,
    /// Connections dropped before they were answered.
    pub connections_dropped: Counters<Dropped>,
    /// Requests refused before their upgrade.
    pub refused: Counters<Refusal>,
    /// Connections that ended before they made a request.
    pub handshake_failures: Counters<Stage>,
    /// Finished TLS handshakes.
    pub tls_handshakes: Counters<Handshake>,
    /// Of a sample of the frames: from the end of reading one to the end of writing it, in seconds, by [`Direction`].
    pub latency: [Histogram; 2],
    /// From a ping of the heartbeat to its pong, in seconds, by [`Leg`].
    pub heartbeat: [Histogram; 2],
    /// From the accept of a TCP connection to its 101, in seconds.
    pub accept_to_upgrade: Histogram,
    /// From a binary's leave to the next claim of its slot within the grace window, in seconds.
    pub slot_away: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series at zero.
    pub fn new() -> Self {
        // 16 B to 16 MiB.
        let frame_bytes = || Histogram::bytes(4, 24);
        // 1 µs to 17 s.
        let latency = || Histogram::time(10, 34);
        // 1 ms, which is the resolution, to 69 s.
        let heartbeat = || Histogram::time(20, 36);
        let counters =
            |n: usize| -> Box<[Counter]> { (0..n).map(|_| Counter::default()).collect() };
        Self {
            started: SystemTime::now(),
            attempts: Default::default(),
            failures: Counters::default(),
            frame_bytes: [frame_bytes(), frame_bytes()],
            received: Default::default(),
            sent: Default::default(),
            ends: [counters(Cause::ALL.len()), counters(Cause::ALL.len())],
            close_codes: [counters(close::KNOWN.len()), counters(close::KNOWN.len())],
            wakes: Counters::default(),
            push: AtomicBool::new(false),
            grace_expiries: Counter::default(),
            takeovers: Counter::default(),
            reclaims: Counter::default(),
            resumes: Counter::default(),
            evictions: Counter::default(),
            redials_refused: Counter::default(),
            phones_parked: Counter::default(),
            phones_parked_ended: Counters::default(),
            connections_dropped: Counters::default(),
            refused: Counters::default(),
            handshake_failures: Counters::default(),
            tls_handshakes: Counters::default(),
            latency: [latency(), latency()],
            heartbeat: [heartbeat(), heartbeat()],
            // 131 µs to 34 s.
            accept_to_upgrade: Histogram::time(17, 35),
            // 1 ms to 18 min.
            slot_away: Histogram::time(20, 40),
        }
    }

    /// Push is on: its series exist.
    pub fn enable_push(&self) {
        self.push.store(true, Ordering::Relaxed);
    }

    /// Counts the end of an upgrade attempt, and the register failure it means.
    pub fn attempt(&self, endpoint: Endpoint, outcome: Outcome) {
        self.attempts[endpoint.index()].inc(outcome);
        if let Some(failure) = outcome.failure() {
            self.failures.inc(failure);
        }
    }

    /// Counts a frame that was written to its receiver, with its own length.
    pub fn frame(&self, direction: Direction, bytes: usize) {
        self.frame_bytes[direction.index()].observe(bytes as u64);
    }

    /// Counts bytes that were read from a connection.
    pub fn received(&self, leg: Leg, bytes: usize) {
        self.received[leg.index()].add(bytes as u64);
    }

    /// Counts bytes that were written to a connection.
    pub fn sent(&self, leg: Leg, bytes: usize) {
        self.sent[leg.index()].add(bytes as u64);
    }

    /// Counts how long a sampled frame took.
    pub fn latency(&self, direction: Direction, latency: Duration) {
        self.latency[direction.index()].observe_time(latency);
    }

    /// Counts the round trip of a heartbeat.
    pub fn heartbeat(&self, leg: Leg, round_trip: Duration) {
        self.heartbeat[leg.index()].observe_time(round_trip);
    }

    /// Counts the end of a connection.
    pub fn ended(&self, leg: Leg, cause: Cause) {
        self.ends[leg.index()][cause.index()].inc();
    }

    /// Counts a Close frame that was written.
    pub fn close_sent(&self, leg: Leg, code: u16) {
        self.close_codes[leg.index()][close::known_index(code)].inc();
    }

    /// Counts what became of a request to wake a phone.
    pub fn wake(&self, outcome: WakeOutcome) {
        self.wakes.inc(outcome);
    }

    /// How many requests to wake a phone ended so.
    pub fn wakes(&self, outcome: WakeOutcome) -> u64 {
        self.wakes.get(outcome)
    }

    /// Frames written to their receivers.
    pub fn frames(&self, direction: Direction) -> u64 {
        self.frame_bytes[direction.index()].snapshot().count()
    }

    /// Bytes read from all connections.
    pub fn received_bytes(&self) -> u64 {
        self.received.iter().map(Striped::sum).sum()
    }

    /// Bytes written to all connections.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.iter().map(Striped::sum).sum()
    }

    /// Connections that were registered.
    pub fn accepts(&self) -> u64 {
        let accepted = self.attempts.iter();
        accepted
            .map(|by_outcome| by_outcome.get(Outcome::accept))
            .sum()
    }

    /// Connections that were turned away: dropped unanswered, refused before the upgrade, or by the registry. Requests
    /// for what nobody serves are not among them.
    pub fn refusals(&self) -> u64 {
        let by_registry = [
            Outcome::reject_409,
            Outcome::reject_404,
            Outcome::reject_429,
        ];
        let by_registry = self
            .attempts
            .iter()
            .flat_map(|attempts| by_registry.map(|outcome| attempts.get(outcome)));
        let not_found = self.refused.get(Refusal::not_found);
        self.connections_dropped.sum() + self.refused.sum() - not_found + by_registry.sum::<u64>()
    }
}
