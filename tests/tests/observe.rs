//! What an operator sees: metrics, log format, the two listeners.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use relay_tests::{Launch, Relay, Transport, frame};

#[tokio::test]
async fn every_series_of_the_reference_is_exported_from_the_start() {
    let relay = Relay::start(&[]).await;
    let response = relay.http_metrics("/metrics").await;
    assert_eq!(response.status, 200);
    let content_type = response.header("content-type").unwrap();
    assert!(
        content_type.starts_with("text/plain; version=0.0.4; charset=utf-8"),
        "{content_type}"
    );
    let mut series = vec![
        "connected_binaries".to_owned(),
        "connected_phones".to_owned(),
        "grace_expiries_total".to_owned(),
        "frames_forwarded_total{direction=\"phone_to_binary\"}".to_owned(),
        "frames_forwarded_total{direction=\"binary_to_phone\"}".to_owned(),
    ];
    for endpoint in ["server", "client"] {
        for outcome in [
            "accept",
            "reject_headers",
            "reject_409",
            "reject_404",
            "reject_429",
            "reject_rate_limit",
        ] {
            let labels = format!("endpoint=\"{endpoint}\",outcome=\"{outcome}\"");
            series.push(format!("ws_upgrade_attempts_total{{{labels}}}"));
        }
    }
    for kind in ["no_server", "server_in_use", "phones_at_cap", "ratelimit"] {
        series.push(format!("register_failures_total{{kind=\"{kind}\"}}"));
    }
    for name in series {
        let line = format!("pyrycode_relay_{name} 0");
        assert!(
            response.text().lines().any(|l| l == line),
            "no line {line:?}"
        );
    }
    for (name, kind) in [
        ("connected_binaries", "gauge"),
        ("connected_phones", "gauge"),
        ("frames_forwarded_total", "counter"),
        ("grace_expiries_total", "counter"),
        ("ws_upgrade_attempts_total", "counter"),
        ("register_failures_total", "counter"),
    ] {
        let line = format!("# TYPE pyrycode_relay_{name} {kind}");
        assert!(
            response.text().lines().any(|l| l == line),
            "no line {line:?}"
        );
    }
    assert!(!response.text().contains("push_wakes_total"), "push is off");
    assert!(
        !response.text().contains("# EOF"),
        "not the OpenMetrics format"
    );
}

#[tokio::test]
async fn the_metrics_listener_serves_nothing_of_the_public_one_and_is_not_public() {
    let relay = Relay::start(&[]).await;
    for path in ["/healthz", "/v1/server", "/metrics/", "/admin"] {
        assert_eq!(relay.http_metrics(path).await.status, 404, "{path}");
    }
    for path in ["/metrics", "/", "/admin/summary", "/admin/events"] {
        let response = relay.http("GET", path, &[("Connection", "close")]).await;
        assert_eq!(response.status, 404, "{path}");
    }
}

#[tokio::test]
async fn gauges_follow_the_counts_of_the_health_answer() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.phone("home").await;
    daemon.hear(&mut phone).await;
    relay.expect_counts(1, 1).await;
    relay
        .expect_metric("pyrycode_relay_connected_binaries", 1.0)
        .await;
    relay
        .expect_metric("pyrycode_relay_connected_phones", 1.0)
        .await;
    daemon.cut().await;
    relay.expect_counts(0, 1).await;
    relay
        .expect_metric("pyrycode_relay_connected_binaries", 0.0)
        .await;
    relay
        .expect_metric("pyrycode_relay_connected_phones", 1.0)
        .await;
}

#[tokio::test]
async fn a_life_is_told_by_its_log_lines() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.phone("home").await;
    let conn_id = daemon.hear(&mut phone).await;
    phone.send(&frame(1));
    daemon.expect_frame(&frame(1)).await;
    phone.close(1000, "");
    daemon.expect_notice(&conn_id, 1000).await;
    let of_phone = [("server_id", "home"), ("conn_id", &*conn_id)];
    relay.log.wait("phone_unregistered", &of_phone).await;
    daemon.close(1000, "");
    relay
        .log
        .wait("server_released", &[("server_id", "home")])
        .await;

    let claimed = relay
        .log
        .wait("server_claimed", &[("server_id", "home")])
        .await;
    assert_eq!(claimed.get("binary_version"), Some("9.9.9-test"));
    assert_eq!(claimed.get("remote"), Some("127.0.0.1"));
    let registered = relay.log.wait("phone_registered", &of_phone).await;
    assert_eq!(registered.get("device_name"), Some("test phone"));
    assert!(
        relay
            .log
            .wait("phone_forwarder_read_end", &of_phone)
            .await
            .get("err")
            .is_some()
    );
    let ended = relay
        .log
        .wait("binary_forwarder_read_end", &[("server_id", "home")])
        .await;
    let binary = ended
        .get("binary_conn_id")
        .expect("the daemon's connection has an id");
    assert!(binary.starts_with("server-home-") && binary.len() == "server-home-".len() + 8);

    for record in relay.log.records() {
        let time = record.line.split(' ').next().unwrap();
        assert!(is_rfc3339_with_milliseconds(time), "{time}");
        assert!(
            record
                .line
                .contains(&format!(" level={} msg=", record.level)),
            "{}",
            record.line
        );
    }
}

/// `time=2026-01-02T03:04:05.678Z`, or with an offset.
fn is_rfc3339_with_milliseconds(text: &str) -> bool {
    let Some(time) = text.strip_prefix("time=") else {
        return false;
    };
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let Some(zone) = shape.strip_prefix("0000-00-00T00:00:00.000") else {
        return false;
    };
    matches!(zone, "Z" | "+00:00" | "-00:00")
}

#[tokio::test]
async fn the_start_is_logged_with_version_and_mode() {
    let relay = Relay::start(&[]).await;
    let mode = match Transport::of_this_run() {
        Transport::Plain => "insecure",
        Transport::Tls => "tls-files",
    };
    let starting = relay.log.wait("starting", &[("mode", mode)]).await;
    assert!(starting.get("version").is_some_and(|v| !v.is_empty()));
    assert_eq!(starting.get("listen"), Some(&*relay.addr().to_string()));
    let metrics = relay.metrics_addr().to_string();
    relay
        .log
        .wait("starting metrics listener", &[("listen", &metrics)])
        .await;
}

#[tokio::test]
async fn flags_may_be_spelled_with_one_dash_or_two_and_with_an_equals_sign() {
    let relay = Relay::start(&["-grace=1s", "--park=300ms", "-close-timeout", "500ms"]).await;
    let daemon = relay.daemon("home").await;
    daemon.cut().await;
    let mut phone = relay.phone("home").await;
    phone.expect_close(4404, "no server with that id").await;
    relay
        .expect_metric("pyrycode_relay_grace_expiries_total", 1.0)
        .await;
}

/// Lives through a daemon's and a phone's connection, and one line of each level.
async fn exercise(relay: &mut Relay) {
    let mut daemon = relay.daemon("home \"quoted\"").await;
    let mut phone = relay.phone("home \"quoted\"").await;
    daemon.hear(&mut phone).await;
    daemon.send("garbage");
    daemon.close_phone("client-nobody", None, 4401);
    daemon.expect_alive().await;
    relay.terminate();
    relay.exited().await;
}

#[tokio::test]
async fn with_log_format_json_every_line_is_an_object() {
    let mut relay = Relay::start(&["--log-format", "json"]).await;
    exercise(&mut relay).await;
    relay.log.ended().await;
    let mut events = Vec::new();
    for line in relay.log.lines() {
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| {
            record[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key}: {line}"))
        };
        assert!(
            is_rfc3339_with_milliseconds(&format!("time={}", text("time"))),
            "{line}"
        );
        assert!(matches!(text("level"), "INFO" | "WARN" | "ERROR"), "{line}");
        if text("msg") == "server_claimed" {
            assert_eq!(text("server_id"), "home \"quoted\"");
            assert_eq!(text("remote"), "127.0.0.1");
        }
        events.push(text("msg").to_owned());
    }
    for expected in ["starting", "server_claimed", "shutdown complete"] {
        assert!(
            events.iter().any(|event| event == expected),
            "{expected}: {events:?}"
        );
    }
    // A refusal, too.
    let flags = ["--insecure-listen", "127.0.0.1:0", "--log-format", "json"];
    let ended = Launch::new(&flags).ended().await;
    assert_eq!(ended.code, Some(2));
    let last = ended.stderr.lines().last().unwrap();
    let line: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(line["msg"], "refusing to start: invalid listener address");
    assert_eq!(line["level"], "ERROR");
}

#[tokio::test]
async fn log_level_leaves_out_what_is_less_important() {
    for (level, infos, warnings) in [
        ("info", true, true),
        ("warn", false, true),
        ("error", false, false),
    ] {
        let mut relay = Relay::start(&["--log-level", level]).await;
        exercise(&mut relay).await;
        // The end of the log comes with the end of the program.
        relay.log.ended().await;
        let records = relay.log.records();
        let has = |level: &str| records.iter().any(|record| record.level == level);
        assert_eq!(
            (has("INFO"), has("WARN")),
            (infos, warnings),
            "{level}: {records:?}"
        );
    }
    // What ends the program is said at every level.
    let flags = ["--insecure-listen", "127.0.0.1:0", "--log-level", "error"];
    let ended = Launch::new(&flags).ended().await;
    ended.refusal(2, "refusing to start: invalid listener address");
}
