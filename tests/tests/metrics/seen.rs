//! Which series have moved, over many relays.

use std::collections::BTreeSet;

use relay_tests::{HOST, Launch, Relay, Response, SECRETS, Transport, eventually, exchange};

/// Part of everything peers say of themselves in these tests. No label may have it.
pub(crate) const HOSTILE: &str = "hostile";

/// Starts a relay with the harness's defaults.
pub(crate) async fn relay(args: &[&str]) -> Relay {
    Relay::start(args).await
}

/// `/metrics`, asked for with an `Accept` header.
pub(crate) async fn scrape(relay: &Relay, accept: &str) -> Response {
    let mut stream = Transport::Plain.connect(relay.metrics_addr()).await;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {HOST}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    let response = exchange(&mut stream, &request).await;
    assert_eq!(response.status, 200);
    response
}

/// The samples of a scrape: series (without the prefix of all), value.
pub(crate) fn samples(text: &str) -> impl Iterator<Item = (&str, f64)> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let series = series.strip_prefix("pyrycode_relay_").unwrap_or(series);
        (series, value.parse().expect("a number"))
    })
}

/// What scrapes showed.
#[derive(Default)]
pub(crate) struct Seen {
    /// Every series there was. Buckets are left out: they are as many as their count says.
    pub(crate) all: BTreeSet<String>,
    /// Those that were not 0 at some time.
    pub(crate) moved: BTreeSet<String>,
}

impl Seen {
    /// Waits until none of these series is 0.
    pub(crate) async fn until(&mut self, relay: &Relay, series: &[&str]) {
        let all = &mut self.all;
        let moved = &mut self.moved;
        let missing = |now: &BTreeSet<String>| {
            let missing = series.iter().filter(|series| !now.contains(**series));
            missing.copied().collect::<Vec<_>>().join(" ")
        };
        let mut last = BTreeSet::new();
        for _ in 0..2_000 {
            let response = relay.http_metrics("/metrics").await;
            check_labels(response.text());
            last.clear();
            for (series, value) in samples(response.text()) {
                if series.contains("_bucket{") {
                    continue;
                }
                all.insert(series.to_owned());
                if value != 0.0 {
                    moved.insert(series.to_owned());
                    last.insert(series.to_owned());
                }
            }
            if missing(&last).is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("still 0: {}; not 0: {last:#?}", missing(&last));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.all.extend(other.all);
        self.moved.extend(other.moved);
    }
}

/// That nothing a peer said has become a label.
fn check_labels(text: &str) {
    for secret in SECRETS.iter().chain(&[HOSTILE, "9.9.9-test", "test phone"]) {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
    for label in text.split(['{', ',']).filter_map(|s| s.split_once("=\"")) {
        let value = label.1.split('"').next().unwrap_or_default();
        let ours = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
        assert!(value.chars().all(ours), "a strange label: {label:?}");
    }
}

/// Waits until the relay answers readiness with another status than 200.
pub(crate) async fn draining(relay: &Relay, flag: &str) {
    eventually("the drain", || async {
        (relay.http_of(flag, "/readyz").await.status != 200).then_some(())
    })
    .await;
}

/// A relay whose TLS is on whatever the run says, with the harness's certificate.
pub(crate) async fn tls_relay(args: &[&str]) -> Relay {
    Launch::new(args).over(Transport::Tls).start().await
}
