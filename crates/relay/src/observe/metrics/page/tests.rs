//! What the whole page looks like.

use super::super::{Outcome, Unparked};
use super::*;
use crate::observe::process::Figures;
use relay_core::Counts;
use std::time::Duration;

fn gauges() -> Gauges {
    Gauges {
        counts: Counts {
            binaries: 1,
            grace: 4,
            waiting: 5,
            phones: 2,
            parked: 3,
        },
        phase: Phase::Ready,
        connections: Fill { now: 6, limit: 7 },
        handshakes: Fill { now: 8, limit: 9 },
        queue_bytes: Fill { now: 10, limit: 11 },
        queue_bytes_high_water: 12,
        park_bytes: Fill { now: 13, limit: 14 },
        limiters: [
            ("attempts", 1),
            ("connections", 2),
            ("connects", 3),
            ("redials", 4),
            ("wakes", 5),
        ],
        log_lines_dropped: 16,
        certificate: Some((
            UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            UNIX_EPOCH + Duration::from_secs(1_900_000_000),
        )),
        push_in_flight: Some(15),
        process: Some(Figures::read()),
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn every_series_of_the_reference_exists_from_the_start_in_the_classic_format() {
    let text = Metrics::new().text(Format::Classic, &gauges());
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
        "pyrycode_relay_slots{state=\"waiting\"} 5",
        "pyrycode_relay_certificate_not_before_timestamp_seconds 1800000000",
        "pyrycode_relay_certificate_not_after_timestamp_seconds 1900000000",
        "pyrycode_relay_phase{phase=\"ready\"} 1",
        "pyrycode_relay_phase{phase=\"draining\"} 0",
        "pyrycode_relay_push_in_flight 15",
        "pyrycode_relay_log_lines_dropped_total 16",
    ] {
        assert!(
            lines(&text).contains(&line),
            "{line} is missing in:\n{text}"
        );
    }
    let attempts = |line: &&&str| line.contains("attempts_total{");
    assert_eq!(lines(&text).iter().filter(attempts).count(), 12);
    assert!(!text.contains("EOF"));
    assert!(!text.contains("push_wakes"), "push is off");
}

#[test]
fn an_attempt_moves_its_outcome_and_its_failure_together() {
    let metrics = Metrics::new();
    metrics.attempt(Endpoint::client, Outcome::reject_404);
    let text = metrics.text(Format::Classic, &gauges());
    assert!(text.contains("{endpoint=\"client\",outcome=\"reject_404\"} 1"));
    assert!(text.contains("{kind=\"no_server\"} 1"));
    assert!(text.contains("{kind=\"ratelimit\"} 0"));
    assert_eq!((metrics.accepts(), metrics.refusals()), (0, 1));
}

#[test]
fn labels_name_what_was_counted() {
    let metrics = Metrics::new();
    metrics.enable_push();
    metrics.wake(WakeOutcome::dropped);
    metrics.phones_parked_ended.inc(Unparked::expired);
    metrics.ended(Leg::phone, Cause::Directive(4401));
    metrics.close_sent(Leg::phone, 4401);
    metrics.close_sent(Leg::binary, 4000);
    metrics.received(Leg::binary, 100);
    metrics.frame(Direction::binary_to_phone, 20);
    let text = metrics.text(Format::Classic, &gauges());
    for line in [
        "push_wakes_total{outcome=\"dropped\"} 1",
        "phones_parked_ended_total{outcome=\"expired\"} 1",
        "connection_ends_total{leg=\"phone\",cause=\"directive\",by=\"binary\"} 1",
        "close_codes_sent_total{leg=\"phone\",code=\"4401\"} 1",
        "close_codes_sent_total{leg=\"binary\",code=\"other\"} 1",
        "received_bytes_total{leg=\"binary\"} 100",
        "frames_forwarded_total{direction=\"binary_to_phone\"} 1",
        "frame_bytes_bucket{direction=\"binary_to_phone\",le=\"16.0\"} 0",
        "frame_bytes_bucket{direction=\"binary_to_phone\",le=\"22.0\"} 1",
        "frame_bytes_bucket{direction=\"binary_to_phone\",le=\"+Inf\"} 1",
        "frame_bytes_sum{direction=\"binary_to_phone\"} 20",
        "frame_bytes_count{direction=\"binary_to_phone\"} 1",
    ] {
        let line = format!("pyrycode_relay_{line}");
        assert!(
            lines(&text).contains(&&*line),
            "{line} is missing in:\n{text}"
        );
    }
    assert!(
        !text.contains("leg=\"binary\",cause=\"directive\""),
        "no binary can end so"
    );
}

#[test]
fn open_metrics_differ_in_the_names_of_counters_and_the_end() {
    let metrics = Metrics::new();
    let open = metrics.text(Format::OpenMetrics, &gauges());
    let classic = metrics.text(Format::Classic, &gauges());
    assert!(open.ends_with("\n# EOF\n"));
    assert!(lines(&open).contains(&"# TYPE pyrycode_relay_takeovers counter"));
    let samples = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let names = samples.filter_map(|line| line.rsplit_once(' '));
        names
            .map(|(series, _)| series.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(samples(&open), samples(&classic));
    let all = samples(&open);
    let mut once = all.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), all.len(), "no series twice");
}

const START: &str = "## Every series\n\n";
const END: &str = "\n## Reading";

/// The series as a table: `docs/metrics.md` has it, and so knows each of them.
fn table() -> String {
    let metrics = Metrics::new();
    metrics.enable_push();
    let text = metrics.text(Format::Classic, &gauges());
    let mut table = "| series | type | labels | |\n|---|---|---|---|\n".to_owned();
    let mut families = text.split("# HELP ").skip(1);
    families.try_for_each(|family| {
        let (head, rest) = family.split_once('\n')?;
        let (name, help) = head.split_once(' ')?;
        let (kind, samples) = rest.split_once('\n')?;
        let kind = kind.rsplit_once(' ')?.1;
        let labels = labels(samples);
        table += &format!("| `{name}` | {kind} | {labels} | {help} |\n");
        Some(())
    });
    table
}

/// Each label with its values, in their order.
fn labels(samples: &str) -> String {
    let mut labels: Vec<(&str, Vec<&str>)> = Vec::new();
    let pairs = samples
        .split(['{', ',', '}'])
        .filter_map(|part| part.split_once("=\""));
    for (name, value) in pairs.filter(|(name, _)| *name != "le") {
        let value = value.trim_end_matches('"');
        let known = labels.iter_mut().find(|(known, _)| *known == name);
        match known {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => labels.push((name, vec![value])),
        }
    }
    let shown = labels.iter().map(|(name, values)| match *name {
        "version" => "`version`".to_owned(),
        name => format!("`{name}`: {}", values.join(", ")),
    });
    shown.collect::<Vec<_>>().join("; ")
}

#[test]
fn every_series_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let start = page.find(START).unwrap() + START.len();
    let end = page.find(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let new = [&page[..start], &table(), &page[end..]].concat();
        return std::fs::write(path, new).unwrap();
    }
    assert_eq!(page[start..end], table(), "run with UPDATE_DOCS=1");
}
