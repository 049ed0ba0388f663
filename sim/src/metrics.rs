//! Compares what a relay says of itself with what was seen from outside.

use crate::net::{Leg, Totals};
use std::collections::BTreeMap;

/// The samples of a page of metrics, by name and labels as they are written.
pub struct Page(BTreeMap<String, f64>);

impl Page {
    /// Reads the text format of Prometheus.
    pub fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name.trim_start_matches("pyrycode_relay_").to_owned();
            Some((name, value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// A sample; `NaN` if there is none, which equals nothing.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(f64::NAN)
    }

    /// The sum of all samples with this name.
    pub fn sum(&self, name: &str) -> f64 {
        let prefix = format!("{name}{{");
        let samples = self.0.iter().filter(|(key, _)| key.starts_with(&prefix));
        samples.map(|(_, value)| value).sum()
    }

    /// Where gauges do not say the truth.
    pub fn lies(&self, truth: &[(&str, usize)]) -> Vec<String> {
        let wrong = truth.iter().filter_map(|(gauge, truth)| {
            let said = self.get(gauge);
            (said != *truth as f64).then(|| format!("{gauge} says {said}, and it is {truth}"))
        });
        wrong.collect()
    }

    /// Where gauges do not say the truth when so many are connected, and nobody speaks.
    pub fn unsettled(&self, binaries: usize, phones: usize) -> Vec<String> {
        self.lies(&[
            ("connected_binaries", binaries),
            ("connected_phones", phones),
            ("connections", binaries + phones),
            ("slots{state=\"live\"}", binaries),
            ("slots{state=\"grace\"}", 0),
            ("slots{state=\"waiting\"}", 0),
            ("parked_phones", 0),
            ("handshakes", 0),
            ("queue_bytes", 0),
            ("park_bytes", 0),
        ])
    }
}

/// Where the page of a relay without connections differs from what went over its sockets. One that was `shut_down`
/// may still have what it kept for somebody's return.
pub(crate) fn differences(page: &Page, wire: &Totals, shut_down: bool) -> Vec<String> {
    let mut wrong: Vec<String> = wire.nonsense.clone();
    let mut same = |name: String, said: f64, seen: u64| {
        if said != seen as f64 {
            wrong.push(format!("{name} says {said}, but there were {seen}"));
        }
    };
    let mut ends = 0.0;
    for (leg, name, direction) in [
        (Leg::Binary, "binary", "phone_to_binary"),
        (Leg::Phone, "phone", "binary_to_phone"),
    ] {
        let n = leg as usize;
        for (family, seen) in [
            ("sent_bytes_total", wire.sent_bytes[n]),
            ("received_bytes_total", wire.received_bytes[n]),
        ] {
            let key = format!("{family}{{leg=\"{name}\"}}");
            same(key.clone(), page.get(&key), seen);
        }
        for (family, seen) in [
            ("frames_forwarded_total", wire.frames[n].0),
            ("frame_bytes_count", wire.frames[n].0),
            ("frame_bytes_sum", wire.frames[n].1),
        ] {
            let key = format!("{family}{{direction=\"{direction}\"}}");
            same(key.clone(), page.get(&key), seen);
        }
        let mut by_code: BTreeMap<String, u64> = BTreeMap::new();
        for ((closed, code), count) in wire.closes.iter().filter(|((l, _), _)| *l == leg) {
            let known = relay_proto::close::KNOWN.contains(code);
            let code = if known {
                code.to_string()
            } else {
                "other".to_owned()
            };
            debug_assert_eq!(*closed, leg);
            *by_code.entry(code).or_default() += count;
        }
        for (code, seen) in by_code {
            let key = format!("close_codes_sent_total{{leg=\"{name}\",code=\"{code}\"}}");
            same(key.clone(), page.get(&key), seen);
        }
        let prefix = format!("connection_ends_total{{leg=\"{name}\"");
        let of_leg = page.0.iter().filter(|(key, _)| key.starts_with(&prefix));
        ends += of_leg.map(|(_, value)| value).sum::<f64>();
    }
    let closes = wire.closes.values().sum::<u64>();
    same(
        "close_codes_sent_total".into(),
        page.sum("close_codes_sent_total"),
        closes,
    );
    let upgrades: u64 = wire.upgrades.iter().sum();
    same("connection_ends_total".into(), ends, upgrades);
    // A refusal counts when it is decided, and whom it is for may be gone by then.
    let answered: u64 = wire.refusals.values().sum();
    let refusals = page.sum("http_refusals_total") as u64;
    same(
        "http_refusals_total".into(),
        refusals as f64,
        refusals.clamp(answered, answered + wire.unanswered),
    );
    if !shut_down {
        let parked = page.get("phones_parked_total") as u64;
        same(
            "phones_parked_ended_total".into(),
            page.sum("phones_parked_ended_total"),
            parked,
        );
        same("park_bytes".into(), page.get("park_bytes"), 0);
    }
    for gauge in [
        "connected_binaries",
        "connected_phones",
        "parked_phones",
        "connections",
        "handshakes",
        "queue_bytes",
        "limiter_entries{table=\"connections\"}",
    ] {
        same(gauge.into(), page.get(gauge), 0);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
pyrycode_relay_connected_binaries 1
pyrycode_relay_connected_phones 2
pyrycode_relay_connections 3
pyrycode_relay_slots{state=\"live\"} 1
pyrycode_relay_slots{state=\"grace\"} 0
pyrycode_relay_slots{state=\"waiting\"} 0
pyrycode_relay_parked_phones 0
pyrycode_relay_handshakes 0
pyrycode_relay_queue_bytes 0
pyrycode_relay_park_bytes 0
";

    #[test]
    fn each_gauge_that_lies_is_found() {
        assert!(Page::read(PAGE).unsettled(1, 2).is_empty());
        assert_eq!(Page::read(PAGE).unsettled(1, 1).len(), 2);
        for line in PAGE.lines() {
            let lie = PAGE.replace(line, &format!("{line}7"));
            assert_eq!(Page::read(&lie).unsettled(1, 2).len(), 1, "{line}");
            let missing = PAGE.replace(line, "");
            assert_eq!(Page::read(&missing).unsettled(1, 2).len(), 1, "{line}");
        }
    }

    /// What is said about refusals, when some were answered and some requests were not.
    fn refusals(said: u64, answered: u64, unanswered: u64) -> Vec<String> {
        let page = format!("pyrycode_relay_http_refusals_total{{reason=\"x\"}} {said}");
        let wire = Totals {
            refusals: [("503".to_owned(), answered)].into(),
            unanswered,
            ..Totals::default()
        };
        let mut said = differences(&Page::read(&page), &wire, true);
        said.retain(|line| line.starts_with("http_refusals_total"));
        said
    }

    #[test]
    fn a_refusal_counts_though_nobody_waited_for_it() {
        for said in 3..=5 {
            assert!(refusals(said, 3, 2).is_empty(), "{said}");
        }
        for said in [2, 6] {
            assert_eq!(refusals(said, 3, 2).len(), 1, "{said}");
        }
    }
}
