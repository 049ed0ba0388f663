//! One sample a second of what the relay does, and the last quarter of an hour of them.

use super::api::{Sample, Totals, unix_ms};
use crate::net::front::Front;
use crate::observe::metrics::{Direction, Histogram, Metrics, Snapshot};
use crate::observe::process;
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// From one sample to the next.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// Samples that are kept: a quarter of an hour.
pub(super) const KEPT: usize = 900;

/// Of one frame in 64 the latency is known, so a single second of a quiet relay knows none.
const LATENCY_SAMPLES: usize = 10;

/// Every peer answers two pings a minute.
const HEARTBEAT_SAMPLES: usize = 60;

/// Makes samples from counters. A sample may come late, or seconds may be missing because the machine slept: what is
/// said per second is divided by the time that really passed.
#[derive(Debug)]
pub(super) struct Sampler {
    before: Totals,
    cpu_seconds_before: f64,
    at: Instant,
    latency: Trail,
    heartbeat: Trail,
}

impl Sampler {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            before: totals(metrics),
            cpu_seconds_before: process::cpu_seconds(),
            at: Instant::now(),
            latency: Trail::new(LATENCY_SAMPLES),
            heartbeat: Trail::new(HEARTBEAT_SAMPLES),
        }
    }

    /// The time since the last sample in figures.
    pub(super) fn sample(&mut self, front: &Front) -> Sample {
        let router = &front.site.router;
        let metrics = &router.metrics;
        let now = Instant::now();
        let passed = Passed(now.duration_since(std::mem::replace(&mut self.at, now)));
        let totals = totals(metrics);
        let before = std::mem::replace(&mut self.before, totals);
        let cpu_seconds = process::cpu_seconds();
        let cpu = cpu_seconds - std::mem::replace(&mut self.cpu_seconds_before, cpu_seconds);
        let latency = self.latency.add(&metrics.latency);
        let heartbeat = self.heartbeat.add(&metrics.heartbeat);
        let counts = router.counts();
        let per_second = |now: u64, before: u64| passed.per_second(now.saturating_sub(before));
        Sample {
            t: unix_ms(SystemTime::now()),
            binaries: counts.binaries,
            phones: counts.phones,
            parked: counts.parked,
            frames_up: per_second(totals.frames_up, before.frames_up),
            frames_down: per_second(totals.frames_down, before.frames_down),
            received_bytes: per_second(totals.received_bytes, before.received_bytes),
            sent_bytes: per_second(totals.sent_bytes, before.sent_bytes),
            latency_p50_us: quantile(&latency, 0.5, 1e6),
            latency_p99_us: quantile(&latency, 0.99, 1e6),
            heartbeat_p50_ms: quantile(&heartbeat, 0.5, 1e3),
            heartbeat_p99_ms: quantile(&heartbeat, 0.99, 1e3),
            queue_bytes: router.queue().fill().now,
            accepts: per_second(totals.accepts, before.accepts),
            refusals: per_second(totals.refusals, before.refusals),
            cpu_percent: rounded(passed.rate(cpu) * 100.0),
        }
    }
}

/// What is counted since the start.
pub(super) fn totals(metrics: &Metrics) -> Totals {
    Totals {
        frames_up: metrics.frames(Direction::phone_to_binary),
        frames_down: metrics.frames(Direction::binary_to_phone),
        received_bytes: metrics.received_bytes(),
        sent_bytes: metrics.sent_bytes(),
        accepts: metrics.accepts(),
        refusals: metrics.refusals(),
        takeovers: metrics.takeovers.get(),
        reclaims: metrics.reclaims.get(),
        resumes: metrics.resumes.get(),
        evictions: metrics.evictions.get(),
        grace_expiries: metrics.grace_expiries.get(),
    }
}

/// The time between two samples.
#[derive(Clone, Copy, Debug)]
struct Passed(Duration);

impl Passed {
    /// What happens in much less than a second says little about a second.
    const SHORTEST: Duration = Duration::from_millis(500);

    fn rate(self, amount: f64) -> f64 {
        amount / self.0.max(Self::SHORTEST).as_secs_f64()
    }

    fn per_second(self, count: u64) -> f64 {
        rounded(self.rate(count as f64))
    }
}

/// A tenth is all that can be read.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn quantile(snapshots: &[Snapshot; 2], q: f64, unit: f64) -> Option<f64> {
    let [one, other] = snapshots;
    Some(rounded(one.plus(other).quantile(q)? * unit))
}

/// Two histograms over the last samples.
#[derive(Debug)]
struct Trail {
    most: usize,
    /// Oldest first.
    snapshots: VecDeque<[Snapshot; 2]>,
}

impl Trail {
    fn new(most: usize) -> Self {
        Self {
            most,
            snapshots: VecDeque::with_capacity(most + 1),
        }
    }

    /// What was counted since the oldest snapshot.
    fn add(&mut self, histograms: &[Histogram; 2]) -> [Snapshot; 2] {
        let [one, other] = histograms.each_ref().map(Histogram::snapshot);
        self.snapshots.push_back([one.clone(), other.clone()]);
        if self.snapshots.len() > self.most {
            self.snapshots.pop_front();
        }
        let [old_one, old_other] = &self.snapshots[0];
        [one.since(old_one), other.since(old_other)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Leg;

    #[test]
    fn a_rate_is_per_second_that_passed() {
        let rate = |ms, n| Passed(Duration::from_millis(ms)).per_second(n);
        assert_eq!(rate(1_000, 12), 12.0);
        assert_eq!(rate(4_000, 12), 3.0);
        assert_eq!(rate(1_003, 10), 10.0);
        assert!(rate(0, 1).is_finite());
    }

    #[test]
    fn a_trail_forgets_what_is_old() {
        let metrics = Metrics::new();
        let mut trail = Trail::new(3);
        let second = Duration::from_secs(1);
        let median = |snapshots: &[Snapshot; 2]| quantile(snapshots, 0.5, 1.0);
        assert_eq!(median(&trail.add(&metrics.heartbeat)), None);
        metrics.heartbeat(Leg::phone, second);
        metrics.heartbeat(Leg::binary, second);
        let seen: Vec<_> = (0..4).map(|_| trail.add(&metrics.heartbeat)).collect();
        let counts = seen.iter().map(|[one, other]| one.count() + other.count());
        assert_eq!(counts.collect::<Vec<_>>(), [2, 2, 0, 0]);
        assert!(median(&seen[0]).is_some_and(|s| (0.8..1.2).contains(&s)));
    }
}
