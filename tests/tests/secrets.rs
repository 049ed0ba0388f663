//! What must never be logged, exported or shown. (After every other test, too, the harness
//! searches the log for the secrets that test sent.)
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use relay_tests::{Relay, SECRETS, data_envelope, frame, op};

/// Sends secrets through every path that logs something.
async fn exercise(relay: &Relay) {
    let instance = [("x-pyrycode-instance", "instance-of-home-77")];
    let mut daemon = relay.daemon_with("home", &instance).await;
    let mut phone = relay.phone("home").await;
    let conn_id = daemon.hear(&mut phone).await;
    phone.send(&frame(1));
    daemon.expect_frame(&frame(1)).await;

    // Envelopes the relay complains about.
    let frame_text = frame(2);
    for bad in [
        format!("{frame_text} trailing"),
        format!(r#"{{"conn_id":7,"frame":{frame_text}}}"#),
        format!(r#"{{"conn_id":"{conn_id}","frame":{frame_text},"close_code":"{frame_text}"}}"#),
        data_envelope("client-home-00000000", &frame_text),
        r#"{"push_wake":{"platform":"fcm","token":"push-token-93b1aa"}}"#.to_owned(),
        r#"{"push_wake":{"platform":"push-token-93b1aa","token":1}}"#.to_owned(),
        r#"{"push_wake":"push-token-93b1aa"}"#.to_owned(),
    ] {
        daemon.send(&bad);
    }
    relay
        .log
        .wait_nth(
            3,
            "binary_forwarder_push_wake_dropped",
            &[("server_id", "home")],
        )
        .await;

    // A frame the relay complains about.
    phone.send(&format!("{frame_text} opaque-garbage"));
    relay
        .log
        .wait("phone_forwarder_marshal_err", &[("conn_id", &conn_id)])
        .await;
    let mut raw = relay.raw_phone("home", None).await;
    raw.frame(op::TEXT, b"{\"x\":\"opaque-\xff\"}").await;
    assert_eq!(raw.close_frame().await.0, 1007);

    // A claim that is refused, one that resumes, one that evicts.
    let mut rival = relay
        .daemon_with("home", &[("x-pyrycode-instance", "instance-of-rival")])
        .await;
    rival.expect_close(4409, "server-id already claimed").await;
    for (nth, instance) in [(1, "instance-of-home-77"), (2, "instance-of-another")] {
        daemon.cut().await;
        relay
            .log
            .wait_nth(nth, "server_released", &[("server_id", "home")])
            .await;
        daemon = relay
            .daemon_with("home", &[("x-pyrycode-instance", instance)])
            .await;
    }
    // Refused before the upgrade.
    let headers = [
        ("x-pyrycode-token", "phone-token-6f1c02"),
        ("user-agent", "opaque-agent"),
    ];
    assert_eq!(relay.http("GET", "/v1/client", &headers).await.status, 400);
    relay
        .log
        .wait_nth(3, "server_claimed", &[("server_id", "home")])
        .await;
}

#[tokio::test]
async fn c80_no_log_line_shows_a_token_a_frame_or_an_instance() {
    let mut relay = Relay::start(&["--redial-burst", "0"]).await;
    exercise(&relay).await;
    relay.terminate();
    relay.exited().await;
    relay.log.wait("shutdown complete", &[]).await;
    let lines = relay.log.lines();
    assert!(lines.len() > 15, "the log was collected: {lines:#?}");
    for line in &lines {
        assert!(
            !SECRETS.iter().any(|secret| line.contains(secret)),
            "{line}"
        );
        assert!(
            !line.contains("pyry-test/1"),
            "the user agent is never logged: {line}"
        );
    }
}

#[tokio::test]
async fn c80_metrics_and_health_show_no_peers_values() {
    let relay = Relay::start(&["--redial-burst", "0"]).await;
    exercise(&relay).await;
    let metrics = relay.http_metrics("/metrics").await;
    let health = relay
        .http("GET", "/healthz", &[("Connection", "close")])
        .await;
    for text in [metrics.text(), health.text()] {
        assert!(
            !SECRETS.iter().any(|secret| text.contains(secret)),
            "{text}"
        );
        assert!(!text.contains("home"), "no server-id either: {text}");
    }
}

#[tokio::test]
async fn every_runtime_line_has_only_known_keys_and_cannot_be_forged() {
    let relay = Relay::start(&["--redial-burst", "0"]).await;
    exercise(&relay).await;
    let forged = "x level=ERROR msg=forged";
    let _daemon = relay.daemon(forged).await;
    relay
        .log
        .wait("server_claimed", &[("server_id", forged)])
        .await;
    const KNOWN: [&str; 15] = [
        "time",
        "server_id",
        "conn_id",
        "binary_conn_id",
        "device_name",
        "remote",
        "binary_version",
        "err",
        "path",
        "from",
        "to",
        "close_code",
        "token_fp",
        "fcm_message_id",
        "duration",
    ];
    let records = relay.log.records();
    assert_eq!(
        records.len(),
        relay.log.lines().len(),
        "every line is a record"
    );
    let first = records
        .iter()
        .position(|r| r.msg == "server_claimed")
        .unwrap();
    for record in &records[first..] {
        assert_eq!(record.fields[0].0, "time", "{}", record.line);
        assert!(
            matches!(&*record.level, "INFO" | "WARN" | "ERROR"),
            "{}",
            record.line
        );
        let unknown = record
            .fields
            .iter()
            .find(|(key, _)| !KNOWN.contains(&&**key));
        assert!(unknown.is_none(), "{unknown:?} in {}", record.line);
    }
}
