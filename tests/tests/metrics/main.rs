//! Metrics, as a scraper sees them: the series of the reference, that every series of ours moves, and both formats.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod ends;
mod moves;
mod seen;

use std::collections::BTreeSet;
use std::pin::Pin;

use relay_tests::{HOST, Launch, Relay};
use seen::{Seen, samples, scrape};

/// Over before the first scrape, mostly.
const STARTING: &str = "phase{phase=\"starting\"}";

/// Series that no test can move, and why.
const STILL: [(&str, &str); 4] = [
    (
        "ws_upgrade_attempts_total{endpoint=\"server\",outcome=\"reject_404\"}",
        "of phones only; the reference exports it",
    ),
    (
        "ws_upgrade_attempts_total{endpoint=\"server\",outcome=\"reject_429\"}",
        "of phones only; the reference exports it",
    ),
    (
        "ws_upgrade_attempts_total{endpoint=\"client\",outcome=\"reject_409\"}",
        "of binaries only; the reference exports it",
    ),
    ("phase{phase=\"stopped\"}", "nobody answers a scrape then"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_series_moves() {
    let scenarios: Vec<Pin<Box<dyn Future<Output = Seen> + Send>>> = vec![
        Box::pin(moves::traffic()),
        Box::pin(moves::slow_pongs()),
        Box::pin(moves::parking()),
        Box::pin(moves::grace()),
        Box::pin(moves::refusals()),
        Box::pin(moves::drops()),
        Box::pin(moves::tls_and_proxies()),
        Box::pin(moves::without_options()),
        Box::pin(moves::unread_log()),
        Box::pin(moves::wakes()),
        Box::pin(ends::codes()),
        Box::pin(ends::faults()),
        Box::pin(ends::patience()),
        Box::pin(ends::stuck()),
        Box::pin(ends::overflows()),
        Box::pin(ends::registry()),
        Box::pin(ends::operator()),
        Box::pin(ends::shutdown()),
    ];
    let mut seen = Seen::default();
    for scenario in futures_util::future::join_all(scenarios.into_iter().map(tokio::spawn)).await {
        seen.merge(scenario.unwrap());
    }
    let still: BTreeSet<&str> = seen
        .all
        .difference(&seen.moved)
        .map(String::as_str)
        .filter(|series| *series != STARTING)
        .collect();
    // A label for each version.
    let expected = STILL.map(|(series, _)| series);
    assert_eq!(
        still,
        BTreeSet::from(expected),
        "left: what nothing above has moved; right: what cannot be"
    );
}

#[tokio::test]
async fn a_scraper_that_prefers_open_metrics_gets_them() {
    let relay = Relay::start(&[]).await;
    let (daemon, mut phone, conn_id) = relay.pair("home").await;
    daemon.send_to(&conn_id, "1");
    phone.expect_frame("1").await;
    for (accept, open) in [
        ("*/*", false),
        ("text/plain;version=0.0.4", false),
        ("application/openmetrics-text;q=0.4,text/plain;q=0.5", false),
        ("application/openmetrics-text", true),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3",
            true,
        ),
    ] {
        let response = scrape(&relay, accept).await;
        let content_type = match open {
            true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            false => "text/plain; version=0.0.4; charset=utf-8",
        };
        assert_eq!(response.header("content-type"), Some(content_type));
        assert_eq!(response.text().ends_with("\n# EOF\n"), open, "{accept}");
        assert_eq!(response.text().matches("# EOF").count(), usize::from(open));
        let family = match open {
            true => "# TYPE pyrycode_relay_frames_forwarded counter",
            false => "# TYPE pyrycode_relay_frames_forwarded_total counter",
        };
        assert!(response.text().lines().any(|line| line == family));
        let sample = "frames_forwarded_total{direction=\"binary_to_phone\"}";
        assert!(samples(response.text()).any(|found| found == (sample, 1.0)));
    }
}

/// Its alert needs them: such a relay is ready, and nobody can connect.
#[tokio::test]
async fn a_relay_without_a_certificate_has_its_series() {
    let cache = tempfile::tempdir().unwrap();
    let relay = Launch::new(&["--domain", HOST])
        .args(&["--acme-directory", "https://127.0.0.1:1/directory"])
        .args(&["--cert-cache", cache.path().to_str().unwrap()])
        .over_tls_with_its_own_certificate()
        .listener("--http-listen")
        .start()
        .await;
    for end in ["not_before", "not_after"] {
        let series = format!("pyrycode_relay_certificate_{end}_timestamp_seconds");
        assert_eq!(relay.metric(&series).await, Some(0.0), "{series}");
    }
}

/// A classic histogram is cumulative, and its parts agree.
#[tokio::test]
async fn histograms_are_whole() {
    let relay = Relay::start(&[]).await;
    let (daemon, mut phone, conn_id) = relay.pair("home").await;
    for frame in [
        "1",
        "\"twenty-four bytes long\"",
        "123456789012345678901234567890",
    ] {
        daemon.send_to(&conn_id, frame);
        phone.expect_frame(frame).await;
    }
    let frames = "pyrycode_relay_frame_bytes_count{direction=\"binary_to_phone\"}";
    relay.expect_metric(frames, 3.0).await;
    let response = relay.http_metrics("/metrics").await;
    let down = "frame_bytes_bucket{direction=\"binary_to_phone\",le=\"";
    let buckets: Vec<(&str, f64)> = samples(response.text())
        .filter_map(|(series, n)| Some((series.strip_prefix(down)?, n)))
        .collect();
    assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
    for (bound, n) in [("16.0", 1.0), ("22.0", 1.0), ("32.0", 3.0), ("+Inf", 3.0)] {
        let bound = format!("{bound}\"}}");
        assert!(buckets.contains(&(&*bound, n)), "{bound}: {buckets:?}");
    }
    let sum = "pyrycode_relay_frame_bytes_sum{direction=\"binary_to_phone\"}";
    relay.expect_metric(sum, 55.0).await;
}
