//! Every series, by name.

use super::exposition::{Family, Format, Page};
use super::labels::{Direction, Endpoint, Label, Leg};
use super::{Counters, Fill, Gauges, Histogram, Metrics, WakeOutcome};
use crate::phase::Phase;
use relay_proto::close::{self, Cause, Legs};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

macro_rules! name {
    ($name:literal) => {
        concat!("pyrycode_relay_", $name)
    };
}

impl Metrics {
    /// Everything in a text format.
    pub fn text(&self, format: Format, gauges: &Gauges) -> String {
        let mut page = Page::new(format);
        self.write_relay(&mut page, gauges);
        write_peers(&mut page, gauges);
        self.write_attempts(&mut page);
        self.write_slots(&mut page);
        self.write_connections(&mut page);
        self.write_frames(&mut page);
        write_limits(&mut page, gauges);
        self.write_push(&mut page, gauges);
        if let Some(figures) = &gauges.process {
            figures.write(&mut page, seconds(self.started));
        }
        page.finish()
    }
}

impl Metrics {
    fn write_relay(&self, page: &mut Page, gauges: &Gauges) {
        page.gauge(
            name!("build_info"),
            "The program's version, as a label; always 1",
        )
        .sample(&[("version", crate::cli::VERSION)], 1);
        page.gauge(
            name!("start_time_seconds"),
            "When the relay started, in seconds since 1970",
        )
        .sample(&[], seconds(self.started));
        let mut phases = page.gauge(
            name!("phase"),
            "1 for the phase the relay is in, 0 for others",
        );
        for phase in [
            Phase::Starting,
            Phase::Ready,
            Phase::Draining,
            Phase::Stopped,
        ] {
            let is_now = u8::from(phase == gauges.phase);
            phases.sample(&[("phase", &phase.to_string())], is_now);
        }
        page.counter(
            name!("log_lines_dropped_total"),
            "Log lines dropped because standard error did not take them",
        )
        .sample(&[], gauges.log_lines_dropped);
        if let Some((not_before, not_after)) = gauges.certificate {
            page.gauge(
                name!("certificate_not_before_timestamp_seconds"),
                "When the certificate in force became valid, in seconds since 1970; 0 if there is none",
            )
            .sample(&[], seconds(not_before));
            page.gauge(
                name!("certificate_not_after_timestamp_seconds"),
                "When the certificate in force expires, in seconds since 1970; 0 if there is none",
            )
            .sample(&[], seconds(not_after));
        }
    }

    fn write_attempts(&self, page: &mut Page) {
        let mut family = page.counter(
            name!("ws_upgrade_attempts_total"),
            "Terminal decisions on WebSocket upgrade attempts",
        );
        for endpoint in Endpoint::ALL {
            let first = (Endpoint::NAME, endpoint.value());
            by_label(&mut family, Some(first), &self.attempts[endpoint.index()]);
        }
        let mut family = page.counter(
            name!("register_failures_total"),
            "Connections refused by the registry or the rate limit",
        );
        by_label(&mut family, None, &self.failures);
        let mut family = page.counter(
            name!("http_refusals_total"),
            "Requests refused before their upgrade",
        );
        by_label(&mut family, None, &self.refused);
        let mut family = page.counter(
            name!("handshake_failures_total"),
            "Connections that ended before they made a request",
        );
        by_label(&mut family, None, &self.handshake_failures);
        let mut family = page.counter(name!("tls_handshakes_total"), "Finished TLS handshakes");
        by_label(&mut family, None, &self.tls_handshakes);
        let mut family = page.counter(
            name!("connections_dropped_total"),
            "Connections dropped before they were answered",
        );
        by_label(&mut family, None, &self.connections_dropped);
        page.histogram(
            name!("accept_to_upgrade_seconds"),
            "From the accept of a TCP connection to its 101",
        )
        .buckets(&[], &self.accept_to_upgrade.snapshot());
    }

    fn write_slots(&self, page: &mut Page) {
        for (name, help, counter) in [
            (
                name!("grace_expiries_total"),
                "Grace windows that ended without a reclaim",
                &self.grace_expiries,
            ),
            (
                name!("takeovers_total"),
                "Holders displaced because they failed their probe",
                &self.takeovers,
            ),
            (
                name!("reclaims_total"),
                "Slots reclaimed inside the grace window",
                &self.reclaims,
            ),
            (
                name!("resumes_total"),
                "Tenures continued by the process that had left",
                &self.resumes,
            ),
            (
                name!("evictions_total"),
                "Phones sent to redial by a reclaim or a takeover",
                &self.evictions,
            ),
            (
                name!("redials_refused_total"),
                "Binaries refused for redialling too fast",
                &self.redials_refused,
            ),
            (
                name!("phones_parked_total"),
                "Phones that began to wait for their binary",
                &self.phones_parked,
            ),
        ] {
            page.counter(name, help).sample(&[], counter.get());
        }
        let mut family = page.counter(
            name!("phones_parked_ended_total"),
            "How the waits of parked phones ended",
        );
        by_label(&mut family, None, &self.phones_parked_ended);
        page.histogram(
            name!("slot_away_seconds"),
            "From a binary's leave to the next claim of its slot within the grace window",
        )
        .buckets(&[], &self.slot_away.snapshot());
    }

    fn write_connections(&self, page: &mut Page) {
        let mut family = page.counter(
            name!("connection_ends_total"),
            "WebSocket connections that ended, by cause and by who ended them",
        );
        for leg in Leg::ALL {
            let counters = self.ends[leg.index()].iter();
            for (cause, counter) in Cause::ALL.iter().zip(counters) {
                let legs = match leg {
                    Leg::phone => [Legs::Phone, Legs::Both],
                    Leg::binary => [Legs::Binary, Legs::Both],
                };
                if legs.contains(&cause.legs()) {
                    let (cause, by) = (cause.label(), cause.by().label());
                    let labels = [(Leg::NAME, leg.value()), ("cause", cause), ("by", by)];
                    family.sample(&labels, counter.get());
                }
            }
        }
        let mut family = page.counter(
            name!("close_codes_sent_total"),
            "Close frames written, by their code; 1005 is one without a code",
        );
        for leg in Leg::ALL {
            let counters = self.close_codes[leg.index()].iter();
            for (code, counter) in close::KNOWN.iter().zip(counters) {
                let code = match *code {
                    close::OTHER => "other",
                    known => &known.to_string(),
                };
                let labels = [(Leg::NAME, leg.value()), ("code", code)];
                family.sample(&labels, counter.get());
            }
        }
        for (name, help, striped) in [
            (
                name!("received_bytes_total"),
                "Bytes read from peers after their upgrade, before TLS",
                &self.received,
            ),
            (
                name!("sent_bytes_total"),
                "Bytes written to peers after their upgrade, before TLS",
                &self.sent,
            ),
        ] {
            let mut family = page.counter(name, help);
            for leg in Leg::ALL {
                family.sample(&[(Leg::NAME, leg.value())], striped[leg.index()].sum());
            }
        }
        let mut family = page.histogram(
            name!("heartbeat_seconds"),
            "From a ping of the heartbeat to its pong, in whole milliseconds",
        );
        for leg in Leg::ALL {
            let snapshot = self.heartbeat[leg.index()].snapshot();
            family.buckets(&[(Leg::NAME, leg.value())], &snapshot);
        }
    }

    fn write_frames(&self, page: &mut Page) {
        let snapshots = self.frame_bytes.each_ref().map(Histogram::snapshot);
        let mut family = page.counter(
            name!("frames_forwarded_total"),
            "Frames written to the other side",
        );
        for direction in Direction::ALL {
            let labels = [(Direction::NAME, direction.value())];
            family.sample(&labels, snapshots[direction.index()].count());
        }
        let mut family = page.histogram(
            name!("frame_bytes"),
            "Sizes of frames written to the other side, without their envelope",
        );
        for direction in Direction::ALL {
            let labels = [(Direction::NAME, direction.value())];
            family.buckets(&labels, &snapshots[direction.index()]);
        }
        let mut family = page.histogram(
            name!("relay_latency_seconds"),
            "From the end of reading a frame to the end of writing it, of about 1 in 64; parked frames are left out",
        );
        for direction in Direction::ALL {
            let labels = [(Direction::NAME, direction.value())];
            let snapshot = self.latency[direction.index()].snapshot();
            family.buckets(&labels, &snapshot);
        }
    }

    fn write_push(&self, page: &mut Page, gauges: &Gauges) {
        if self.push.load(Ordering::Relaxed) {
            let mut family = page.counter(
                name!("push_wakes_total"),
                "Requests to wake a phone, by what became of them",
            );
            by_label::<WakeOutcome>(&mut family, None, &self.wakes);
        }
        if let Some(in_flight) = gauges.push_in_flight {
            page.gauge(
                name!("push_in_flight"),
                "Requests to the push service under way",
            )
            .sample(&[], in_flight);
        }
    }
}

/// The samples of counters by a label, behind another label.
fn by_label<L: Label>(
    family: &mut Family<'_>,
    first: Option<(&'static str, &str)>,
    counters: &Counters<L>,
) {
    for label in L::ALL {
        let second = (L::NAME, label.value());
        let labels: Vec<_> = first.into_iter().chain([second]).collect();
        family.sample(&labels, counters.get(*label));
    }
}

fn write_peers(page: &mut Page, gauges: &Gauges) {
    let counts = &gauges.counts;
    for (name, help, value) in [
        (
            name!("connected_binaries"),
            "Binaries that hold their server-id now",
            counts.binaries,
        ),
        (
            name!("connected_phones"),
            "Phones registered now",
            counts.phones,
        ),
        (
            name!("parked_phones"),
            "Phones waiting for their binary now",
            counts.parked,
        ),
    ] {
        page.gauge(name, help).sample(&[], value);
    }
    let mut family = page.gauge(
        name!("slots"),
        "Server-ids that are held, that are kept for a binary that left, and that only have waiting phones",
    );
    for (state, slots) in [
        ("live", counts.binaries),
        ("grace", counts.grace),
        ("waiting", counts.waiting),
    ] {
        family.sample(&[("state", state)], slots);
    }
}

fn write_limits(page: &mut Page, gauges: &Gauges) {
    let mut pair = |names: [&str; 2], helps: [&str; 2], fill: Fill| {
        page.gauge(names[0], helps[0]).sample(&[], fill.now);
        page.gauge(names[1], helps[1]).sample(&[], fill.limit);
    };
    pair(
        [name!("connections"), name!("connections_limit")],
        [
            "Connections that count against --max-connections now",
            "--max-connections",
        ],
        gauges.connections,
    );
    pair(
        [name!("handshakes"), name!("handshakes_limit")],
        [
            "Connections that count against --max-handshakes now",
            "--max-handshakes; by default it moves with the descriptors that connections do not use",
        ],
        gauges.handshakes,
    );
    pair(
        [name!("queue_bytes"), name!("queue_bytes_limit")],
        [
            "Bytes of queued frames that count against --queue-bytes now: in steps, and beyond the first of each peer",
            "--queue-bytes",
        ],
        gauges.queue_bytes,
    );
    page.gauge(
        name!("queue_bytes_high_water"),
        "The most that queue_bytes was since the start",
    )
    .sample(&[], gauges.queue_bytes_high_water);
    let mut pair = |names: [&str; 2], helps: [&str; 2], fill: Fill| {
        page.gauge(names[0], helps[0]).sample(&[], fill.now);
        page.gauge(names[1], helps[1]).sample(&[], fill.limit);
    };
    pair(
        [name!("park_bytes"), name!("park_bytes_limit")],
        ["Bytes that count against --park-bytes now", "--park-bytes"],
        gauges.park_bytes,
    );
    let mut family = page.gauge(
        name!("limiter_entries"),
        "Entries in the tables of the limits for each address or server-id",
    );
    for (table, entries) in &gauges.limiters {
        family.sample(&[("table", table)], entries);
    }
}

/// Seconds since 1970, with milliseconds.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
