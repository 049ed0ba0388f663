//! Counters and their Prometheus text form.
//!
//! Every label combination exists from the start with value 0, and no label carries anything a
//! peer sent. Frame counters are striped over the worker threads, so that counting a frame is one
//! uncontended addition.

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use relay_core::Counts;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Which of the two WebSocket endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants are the label values")]
pub enum Endpoint {
    /// `/v1/server`
    server,
    /// `/v1/client`
    client,
}

/// The terminal decision on one upgrade attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants are the label values")]
pub enum Outcome {
    /// Registered.
    accept,
    /// A required header is missing (HTTP 400).
    reject_headers,
    /// The server-id is held by a living binary (close 4409).
    reject_409,
    /// No binary holds the server-id (close 4404).
    reject_404,
    /// The server-id has all its phones (close 4429).
    reject_429,
    /// Too many attempts from this address (HTTP 429).
    reject_rate_limit,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::accept,
        Self::reject_headers,
        Self::reject_409,
        Self::reject_404,
        Self::reject_429,
        Self::reject_rate_limit,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    endpoint: Endpoint,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants are the label values")]
enum Kind {
    no_server,
    server_in_use,
    phones_at_cap,
    ratelimit,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    kind: Kind,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants are the label values")]
pub enum Direction {
    /// From a phone to its binary.
    phone_to_binary,
    /// From a binary to one of its phones.
    binary_to_phone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Frames {
    direction: Direction,
}

/// Why a connection was dropped before it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants are the label values")]
pub enum Dropped {
    /// Its address opens connections too fast.
    address_rate,
    /// Its address has too many unanswered ones.
    address_full,
    /// There were too many unanswered ones, and its address had most of them.
    all_full,
}

impl Dropped {
    /// As metrics and log name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::address_rate => "address_rate",
            Self::address_full => "address_full",
            Self::all_full => "all_full",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Drop {
    reason: Dropped,
}

/// What became of a push wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants are the label values")]
pub enum WakeOutcome {
    /// FCM took it.
    sent,
    /// FCM no longer knows the device.
    unregistered,
    /// It did not reach FCM, or FCM did not take it.
    send_failed,
    /// There was no access token to send it with.
    token_fetch_failed,
    /// A limit refused it.
    dropped,
}

impl WakeOutcome {
    const ALL: [Self; 5] = [
        Self::sent,
        Self::unregistered,
        Self::send_failed,
        Self::token_fetch_failed,
        Self::dropped,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WakeLabels {
    outcome: WakeOutcome,
}

/// Counted always, exported once push is on.
#[derive(Debug, Default)]
struct Wakes {
    on: AtomicBool,
    counts: [AtomicU64; WakeOutcome::ALL.len()],
}

const STRIPES: usize = 16;

/// One cache line per stripe.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Stripe(AtomicU64);

/// A counter that threads add to without sharing a cache line.
#[derive(Debug, Default)]
pub struct Striped([Stripe; STRIPES]);

impl Striped {
    /// Adds one.
    pub fn increment(&self) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static MINE: Cell<usize> =
            Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES));
        self.0[MINE.get()].0.fetch_add(1, Ordering::Relaxed);
    }

    /// The sum over all threads.
    pub fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|stripe| stripe.0.load(Ordering::Relaxed))
            .sum()
    }
}

/// Every series of the relay.
pub struct Metrics {
    registry: Registry,
    attempts: Family<Attempt, Counter>,
    failures: Family<Failure, Counter>,
    frames: Arc<[Striped; 2]>,
    drops: Family<Drop, Counter>,
    wakes: Arc<Wakes>,
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("pyrycode_relay");
        let attempts = Family::<Attempt, Counter>::default();
        for endpoint in [Endpoint::server, Endpoint::client] {
            for outcome in Outcome::ALL {
                drop(attempts.get_or_create(&Attempt { endpoint, outcome }));
            }
        }
        let failures = Family::<Failure, Counter>::default();
        for kind in [
            Kind::no_server,
            Kind::server_in_use,
            Kind::phones_at_cap,
            Kind::ratelimit,
        ] {
            drop(failures.get_or_create(&Failure { kind }));
        }
        let drops = Family::<Drop, Counter>::default();
        for reason in [
            Dropped::address_rate,
            Dropped::address_full,
            Dropped::all_full,
        ] {
            std::mem::drop(drops.get_or_create(&Drop { reason }));
        }
        let frames = Arc::new([Striped::default(), Striped::default()]);
        registry.register(
            "ws_upgrade_attempts",
            "Terminal decisions on WebSocket upgrade attempts",
            attempts.clone(),
        );
        registry.register(
            "register_failures",
            "Connections refused by the registry or the rate limit",
            failures.clone(),
        );
        registry.register(
            "connections_dropped",
            "Connections dropped before they were answered",
            drops.clone(),
        );
        registry.register_collector(Box::new(FrameCollector(frames.clone())));
        let wakes = Arc::<Wakes>::default();
        registry.register_collector(Box::new(WakeCollector(wakes.clone())));
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            grace_expiries: counter(
                "grace_expiries",
                "Grace windows that ended without a reclaim",
            ),
            takeovers: counter(
                "takeovers",
                "Holders displaced because they failed their probe",
            ),
            reclaims: counter("reclaims", "Slots reclaimed inside the grace window"),
            resumes: counter("resumes", "Tenures continued by the process that had left"),
            evictions: counter(
                "evictions",
                "Phones sent to redial by a reclaim or a takeover",
            ),
            redials_refused: counter(
                "redials_refused",
                "Binaries refused for redialling too fast",
            ),
            registry,
            attempts,
            failures,
            frames,
            drops,
            wakes,
        }
    }

    /// Exports the push wakes from now on.
    pub fn enable_push(&self) {
        self.wakes.on.store(true, Ordering::Relaxed);
    }

    /// Counts a push wake.
    pub fn wake(&self, outcome: WakeOutcome) {
        self.wakes.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Push wakes with this outcome so far.
    pub fn wakes(&self, outcome: WakeOutcome) -> u64 {
        self.wakes.counts[outcome as usize].load(Ordering::Relaxed)
    }

    /// Counts the end of an upgrade attempt, and the register failure it means.
    pub fn attempt(&self, endpoint: Endpoint, outcome: Outcome) {
        self.attempts
            .get_or_create(&Attempt { endpoint, outcome })
            .inc();
        let kind = match outcome {
            Outcome::accept | Outcome::reject_headers => return,
            Outcome::reject_409 => Kind::server_in_use,
            Outcome::reject_404 => Kind::no_server,
            Outcome::reject_429 => Kind::phones_at_cap,
            Outcome::reject_rate_limit => Kind::ratelimit,
        };
        self.failures.get_or_create(&Failure { kind }).inc();
    }

    /// Counts a connection that was dropped before it was answered.
    pub fn dropped(&self, reason: Dropped) {
        self.drops.get_or_create(&Drop { reason }).inc();
    }

    /// Counts a frame that was written to its receiver.
    pub fn frame(&self, direction: Direction) {
        self.frames[direction as usize].increment();
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn text(&self, counts: Counts) -> String {
        let mut text = String::with_capacity(4096);
        for (name, help, value) in [
            (
                "connected_binaries",
                "Binaries that hold their server-id now",
                counts.binaries,
            ),
            ("connected_phones", "Phones registered now", counts.phones),
            (
                "parked_phones",
                "Phones waiting for their binary now",
                counts.parked,
            ),
        ] {
            text += &format!(
                "# HELP pyrycode_relay_{name} {help}\n# TYPE pyrycode_relay_{name} gauge\n\
                 pyrycode_relay_{name} {value}\n"
            );
        }
        let mut open_metrics = String::with_capacity(4096);
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut open_metrics, &self.registry);
        for line in open_metrics.lines() {
            text += &classic(line);
            text.push('\n');
        }
        text
    }
}

/// OpenMetrics names a counter family without the `_total` of its samples and ends its help with a
/// period; format 0.0.4 knows no families and uses the name of the sample.
fn classic(line: &str) -> String {
    let family = |rest: &str| {
        rest.split_once(' ')
            .map(|(n, t)| (n.to_owned(), t.to_owned()))
    };
    if let Some((name, text)) = line.strip_prefix("# HELP ").and_then(family) {
        return format!("# HELP {name}_total {}", text.trim_end_matches('.'));
    }
    if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(family) {
        return format!("# TYPE {name}_total {kind}");
    }
    line.to_owned()
}

/// Adds up the striped frame counters at each scrape.
#[derive(Debug)]
struct FrameCollector(Arc<[Striped; 2]>);

impl prometheus_client::collector::Collector for FrameCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let family = Family::<Frames, Counter>::default();
        for direction in [Direction::phone_to_binary, Direction::binary_to_phone] {
            family
                .get_or_create(&Frames { direction })
                .inc_by(self.0[direction as usize].sum());
        }
        use prometheus_client::encoding::EncodeMetric;
        let metric = encoder.encode_descriptor(
            "frames_forwarded",
            "Frames written to the other side",
            None,
            family.metric_type(),
        )?;
        family.encode(metric)
    }
}

/// The push wakes, where push is on.
#[derive(Debug)]
struct WakeCollector(Arc<Wakes>);

impl prometheus_client::collector::Collector for WakeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        if !self.0.on.load(Ordering::Relaxed) {
            return Ok(());
        }
        let family = Family::<WakeLabels, Counter>::default();
        for outcome in WakeOutcome::ALL {
            let count = self.0.counts[outcome as usize].load(Ordering::Relaxed);
            family.get_or_create(&WakeLabels { outcome }).inc_by(count);
        }
        let metric = encoder.encode_descriptor(
            "push_wakes",
            "Push wakes of binaries, by what became of them",
            None,
            family.metric_type(),
        )?;
        family.encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_from_the_start_in_the_classic_format() {
        let text = Metrics::new().text(Counts {
            binaries: 1,
            phones: 2,
            parked: 0,
        });
        for line in [
            "# TYPE pyrycode_relay_connected_binaries gauge",
            "pyrycode_relay_connected_binaries 1",
            "pyrycode_relay_connected_phones 2",
            "# TYPE pyrycode_relay_frames_forwarded_total counter",
            "pyrycode_relay_frames_forwarded_total{direction=\"phone_to_binary\"} 0",
            "pyrycode_relay_frames_forwarded_total{direction=\"binary_to_phone\"} 0",
            "pyrycode_relay_grace_expiries_total 0",
            "pyrycode_relay_ws_upgrade_attempts_total{endpoint=\"client\",outcome=\"reject_409\"} 0",
            "pyrycode_relay_register_failures_total{kind=\"phones_at_cap\"} 0",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in:\n{text}"
            );
        }
        let attempts = text
            .lines()
            .filter(|l| l.contains("attempts_total{"))
            .count();
        assert_eq!(attempts, 12);
        assert!(!text.contains("EOF"));
    }

    #[test]
    fn an_attempt_moves_its_outcome_and_its_failure_together() {
        let metrics = Metrics::new();
        metrics.attempt(Endpoint::client, Outcome::reject_404);
        let text = metrics.text(Counts::default());
        assert!(text.contains("{endpoint=\"client\",outcome=\"reject_404\"} 1"));
        assert!(text.contains("{kind=\"no_server\"} 1"));
        assert!(text.contains("{kind=\"ratelimit\"} 0"));
    }

    #[test]
    fn push_wakes_are_exported_once_push_is_on() {
        let metrics = Metrics::new();
        assert!(!metrics.text(Counts::default()).contains("push_wakes"));
        metrics.enable_push();
        metrics.wake(WakeOutcome::dropped);
        assert_eq!(metrics.wakes(WakeOutcome::dropped), 1);
        let text = metrics.text(Counts::default());
        let outcomes = ["sent", "unregistered", "send_failed", "token_fetch_failed"];
        for (outcome, n) in outcomes.map(|o| (o, 0)).into_iter().chain([("dropped", 1)]) {
            let line = format!("pyrycode_relay_push_wakes_total{{outcome=\"{outcome}\"}} {n}");
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(text.contains("# TYPE pyrycode_relay_push_wakes_total counter"));
    }
}
