//! Push wakes, against a stand-in for Google.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use relay_tests::{Answer, Daemon, Google, HOST, Launch, Relay, eventually, frame, wakes, within};

#[tokio::test]
async fn c64_push_off_drops_a_wake_and_says_so() {
    let relay = Relay::start(&[]).await;
    relay
        .log
        .wait("push off: PYRYCODE_RELAY_FCM_CREDENTIALS unset", &[])
        .await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    daemon.send(&wakes::envelope("a"));
    daemon.send(r#"{"push_wake":7}"#);
    let dropped = [("server_id", "home"), ("err", "push is off")];
    let line = relay.log.wait_nth(2, wakes::DROPPED, &dropped).await;
    assert_eq!(line.level, "WARN");
    assert!(line.get("binary_conn_id").is_some());
    daemon.send_to(&conn_id, &frame(1));
    phone.expect_frame(&frame(1)).await;
    daemon.expect_alive().await;
    let metrics = relay.http_metrics("/metrics").await;
    assert!(!metrics.text().contains("push_wakes"));
}

#[tokio::test]
async fn c65_a_wake_is_one_message_and_two_share_an_access_token() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let on = relay.log.wait("push on", &[]).await;
    assert_eq!(on.get("project"), Some("stand-in-project"));
    wakes::expect_outcomes(&relay, &[]).await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wakes::envelope("a"));
    let line = relay.log.wait(wakes::SENT, &[("server_id", "home")]).await;
    assert_eq!(line.level, "INFO");
    wakes::assert_shape(&line);
    let id = "projects/stand-in-project/messages/0:1";
    assert_eq!(line.get("fcm_message_id"), Some(id));
    // sha256sum of `push-token-93b1aa-a`.
    assert_eq!(line.get("token_fp"), Some("c3e592c5"));
    let body = r#"{"message":{"token":"push-token-93b1aa-a","android":{"priority":"HIGH"}}}"#;
    assert_eq!(google.messages()[0].body, body);

    daemon.send(&wakes::envelope("b"));
    relay.log.wait_nth(2, wakes::SENT, &[]).await;
    wakes::expect_outcomes(&relay, &[("sent", 2)]).await;
    assert_eq!((google.messages().len(), google.fetches()), (2, 1));
    assert_eq!(wakes::outcomes(&relay).len(), 2);
    assert_eq!(google.strays(), 0);
}

#[tokio::test]
async fn c66_what_is_no_usable_wake_is_dropped_and_not_counted() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    let cases = [
        (r#"{"platform":"apns","token":"t"}"#, "unsupported platform"),
        (r#"{"platform":"FCM","token":"t"}"#, "unsupported platform"),
        (r#"{"token":"t"}"#, "unsupported platform"),
        (r#"{"platform":"","token":""}"#, "unsupported platform"),
        (r#"{"platform":"fcm","token":""}"#, "empty token"),
        (r#"{"platform":"fcm"}"#, "empty token"),
        ("7", "malformed push_wake"),
        ("[]", "malformed push_wake"),
        (r#"{"platform":"fcm","token":7}"#, "malformed push_wake"),
    ];
    for (value, _) in cases {
        daemon.send(&format!(r#"{{"push_wake":{value}}}"#));
    }
    relay.log.wait_nth(cases.len(), wakes::DROPPED, &[]).await;
    let mut lines = relay.log.records();
    lines.retain(|line| line.msg == wakes::DROPPED);
    for (line, (value, err)) in lines.iter().zip(cases) {
        assert_eq!(line.get("err"), Some(err), "{value}");
    }
    // With a conn_id it is no wake at all.
    daemon.send(&format!(
        r#"{{"conn_id":"{conn_id}","push_wake":{{"platform":"fcm","token":"t"}},"frame":{}}}"#,
        frame(1)
    ));
    phone.expect_frame(&frame(1)).await;
    daemon.expect_alive().await;
    // They cost nothing: the whole burst is still there.
    for n in 0..6 {
        daemon.send(&wakes::envelope(&n.to_string()));
    }
    relay.log.wait_nth(6, wakes::SENT, &[]).await;
    wakes::expect_outcomes(&relay, &[("sent", 6)]).await;
    assert_eq!(google.messages().len(), 6);
}

#[tokio::test]
async fn c67_a_server_id_has_six_wakes_and_another_has_its_own() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    let other = relay.daemon("other").await;
    for n in 0..7 {
        daemon.send(&wakes::envelope(&n.to_string()));
    }
    let dropped = [("server_id", "home"), ("err", "rate limited")];
    relay.log.wait(wakes::DROPPED, &dropped).await;
    other.send(&wakes::envelope("other"));
    relay.log.wait(wakes::SENT, &[("server_id", "other")]).await;
    let home = [("server_id", "home")];
    relay.log.wait_nth(6, wakes::SENT, &home).await;
    wakes::expect_outcomes(&relay, &[("sent", 7), ("dropped", 1)]).await;
    assert_eq!(google.messages().len(), 7);
    // The limit is the server-id's, not the connection's.
    daemon.cut().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wakes::envelope("again"));
    relay.log.wait_nth(2, wakes::DROPPED, &dropped).await;
}

#[tokio::test]
async fn c68_answers_are_classified_and_told_by_their_codes() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let elsewhere = "https://127.0.0.1:1/elsewhere";
    let shouting = r#"{"error":{"status":"FREE TEXT","details":"none"}}"#;
    let cases = [
        (Answer::status(404), "status 404 (NOT_FOUND, UNREGISTERED)"),
        (
            Answer::status(302).header("location", elsewhere).body(""),
            "status 302",
        ),
        (
            Answer::status(307).header("location", "/other").body(""),
            "status 307",
        ),
        (Answer::status(403).body(shouting), "status 403"),
        (
            Answer::status(400),
            "status 400 (INVALID_ARGUMENT, INVALID_ARGUMENT)",
        ),
    ];
    let daemon = relay.daemon("home").await;
    for (n, (answer, err)) in cases.clone().into_iter().enumerate() {
        google.fcm([answer]);
        daemon.send(&wakes::envelope("a"));
        assert_eq!(wakes::failure(&relay, n + 1).await, err);
    }
    wakes::expect_outcomes(&relay, &[("unregistered", 1), ("send_failed", 4)]).await;
    assert_eq!((google.messages().len(), google.strays()), (5, 0));
    assert_eq!(wakes::outcomes(&relay).len(), 5);
}

#[tokio::test]
async fn c69_a_slow_push_service_delays_no_frame_and_32_wakes_are_enough() {
    let google = Google::start().await;
    google.fcm(std::iter::repeat_n(Answer::status(200).held(), 32));
    let relay = google.relay().await;
    let (mut first, mut phone, conn_id) = relay.pair("home-0").await;
    for n in 0..6 {
        first.send(&wakes::envelope(&n.to_string()));
    }
    google.wait_messages(6).await;
    for n in 0..100 {
        phone.send(&frame(n));
        first.expect_frame_from(&conn_id, &frame(n)).await;
        first.send_to(&conn_id, &frame(n));
        phone.expect_frame(&frame(n)).await;
    }
    assert_eq!(
        wakes::outcomes(&relay).len(),
        0,
        "all of them are under way"
    );

    let mut daemons = vec![first];
    for id in 1..6 {
        let daemon = relay.daemon(&format!("home-{id}")).await;
        let left = 32 - 6 * id;
        for n in 0..left.min(6) {
            daemon.send(&wakes::envelope(&n.to_string()));
        }
        daemons.push(daemon);
    }
    google.wait_messages(32).await;
    daemons[5].send(&wakes::envelope("one too many"));
    let dropped = [("server_id", "home-5"), ("err", "too many wakes in flight")];
    relay.log.wait(wakes::DROPPED, &dropped).await;
    wakes::expect_outcomes(&relay, &[("dropped", 1)]).await;
    google.release();
    relay.log.wait_nth(32, wakes::SENT, &[]).await;
    daemons[5].send(&wakes::envelope("now"));
    relay.log.wait_nth(33, wakes::SENT, &[]).await;
    wakes::expect_outcomes(&relay, &[("sent", 33), ("dropped", 1)]).await;
}

#[tokio::test]
async fn an_operator_chooses_how_many_wakes_there_are() {
    let google = Google::start().await;
    google.fcm([Answer::status(200).held()]);
    let limits = ["--wake-burst", "1", "--wake-refill", "500ms"];
    let launch = google.launch(&limits).args(&["--wakes-in-flight", "1"]);
    let relay = launch.start().await;
    let daemon = relay.daemon("home").await;
    let other = relay.daemon("other").await;
    daemon.send(&wakes::envelope("a"));
    google.wait_messages(1).await;
    daemon.send(&wakes::envelope("b"));
    let limited = [("server_id", "home"), ("err", "rate limited")];
    relay.log.wait(wakes::DROPPED, &limited).await;
    other.send(&wakes::envelope("c"));
    let full = [("server_id", "other"), ("err", "too many wakes in flight")];
    relay.log.wait(wakes::DROPPED, &full).await;
    google.release();
    relay.log.wait(wakes::SENT, &[]).await;
    wakes::expect_outcomes(&relay, &[("sent", 1), ("dropped", 2)]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    daemon.send(&wakes::envelope("d"));
    relay.log.wait_nth(2, wakes::SENT, &[]).await;
}

/// Wakes of four server-ids at once, sent while the token endpoint holds its answer.
async fn four_wait(google: &Google, relay: &Relay) -> Vec<Daemon> {
    let mut daemons = Vec::new();
    for id in 0..4 {
        let daemon = relay.daemon(&format!("home-{id}")).await;
        daemon.send(&wakes::envelope("a"));
        // The relay has taken the wake once it answers.
        let mut daemon = daemon;
        daemon.expect_alive().await;
        daemons.push(daemon);
    }
    google.wait_fetches(1).await;
    daemons
}

#[tokio::test]
async fn wakes_at_once_share_one_token_fetch_and_its_failure() {
    let google = Google::start().await;
    google.tokens([Answer::status(200).held()]);
    let relay = google.relay().await;
    let daemons = four_wait(&google, &relay).await;
    google.release();
    relay.log.wait_nth(4, wakes::SENT, &[]).await;
    assert_eq!((google.fetches(), google.messages().len()), (1, 4));
    drop((daemons, relay));

    let google = Google::start().await;
    google.tokens([Answer::status(500).held()]);
    let relay = google.relay().await;
    let daemons = four_wait(&google, &relay).await;
    google.release();
    for n in 1..=4 {
        assert_eq!(wakes::failure(&relay, n).await, "access token: status 500");
    }
    wakes::expect_outcomes(&relay, &[("token_fetch_failed", 4)]).await;
    assert_eq!((google.fetches(), google.messages().len()), (1, 0));
    // The failure is not kept.
    daemons[0].send(&wakes::envelope("b"));
    relay.log.wait(wakes::SENT, &[]).await;
    assert_eq!((google.fetches(), google.messages().len()), (2, 1));
}

#[tokio::test]
async fn a_wake_outlives_the_binary_that_asked_for_it() {
    let google = Google::start().await;
    google.fcm([Answer::status(200).held()]);
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wakes::envelope("a"));
    google.wait_messages(1).await;
    daemon.cut().await;
    relay.log.wait("server_released", &[]).await;
    google.release();
    relay.log.wait(wakes::SENT, &[("server_id", "home")]).await;
    wakes::expect_outcomes(&relay, &[("sent", 1)]).await;
}

#[tokio::test]
async fn a_shutdown_breaks_off_what_is_under_way_and_says_so_once() {
    for at_the_token in [true, false] {
        let google = Google::start().await;
        match at_the_token {
            true => google.tokens([Answer::status(200).held()]),
            false => google.fcm([Answer::status(200).held(), Answer::status(200).held()]),
        }
        let mut relay = google.relay().await;
        let daemon = relay.daemon("home").await;
        daemon.send(&wakes::envelope("a"));
        daemon.send(&wakes::envelope("b"));
        match at_the_token {
            true => google.wait_fetches(1).await,
            false => drop(google.wait_messages(2).await),
        }
        let began = Instant::now();
        relay.terminate();
        let status = within(Duration::from_secs(8), "the exit", relay.exited()).await;
        assert!(status.success());
        assert!(began.elapsed() < Duration::from_secs(3), "promptly");
        relay.log.ended().await;
        let lines = wakes::outcomes(&relay);
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in &lines {
            let err = line.get("err");
            assert_eq!(err, Some("cancelled: the relay shuts down"));
            wakes::assert_shape(line);
        }
        assert_eq!(relay.log.count("shutdown complete", &[]), 1);
    }
}

#[tokio::test]
async fn c80_no_part_of_a_push_reaches_log_or_metrics() {
    for format in ["text", "json"] {
        let google = Google::start().await;
        google.fcm([
            Answer::status(200).body(r#"{"name":"free text 5f0d"}"#),
            Answer::status(404),
            Answer::status(500),
            Answer::status(429).header("retry-after", "free text 5f0d"),
            Answer::status(400).body("free text 5f0d"),
            Answer::reset(),
        ]);
        let mut relay = google.launch(&["--log-format", format]).start().await;
        let mut daemon = relay.daemon("home").await;
        let other = relay.daemon("other").await;
        for n in 0..8 {
            daemon.send(&wakes::envelope(&n.to_string()));
        }
        daemon.expect_alive().await;
        google.wait_messages(6).await;
        google.revoke();
        google.tokens([Answer::status(400)]);
        for n in 0..2 {
            other.send(&wakes::envelope(&n.to_string()));
        }
        // Eight are admitted, and each has its line.
        let lines = |relay: &Relay| {
            let all = relay.log.lines();
            all.iter()
                .filter(|line| line.contains("push_wake_sen"))
                .count()
        };
        eventually("all outcomes", || async {
            (lines(&relay) == 8).then_some(())
        })
        .await;
        let metrics = relay.http_metrics("/metrics").await;
        google.expect_no_secret(metrics.text());
        assert!(!metrics.text().contains("home"), "no server-id either");
        relay.terminate();
        relay.exited().await;
        relay.log.ended().await;
        google.expect_no_secret(&relay.log.lines().join("\n"));
    }
}

#[tokio::test]
async fn settings_of_push_are_checked_at_the_start() {
    for (flag, value) in [
        ("--fcm-endpoint", "http://127.0.0.1:1"),
        ("--fcm-endpoint", "fcm.googleapis.com"),
        ("--fcm-endpoint", "https://fcm.googleapis.com/v1"),
        ("--fcm-endpoint", "https://me@fcm.googleapis.com"),
        ("--fcm-project", "a/b"),
        ("--fcm-project", ""),
    ] {
        for command in [&[][..], &["check-config"]] {
            let plain = ["--insecure-listen", "127.0.0.1:8080", flag, value];
            let launch = Launch::new(&[command, &plain].concat());
            let ended = launch.ended().await;
            assert_eq!(ended.code, Some(2), "{flag} {value}: {ended:?}");
            assert!(ended.stderr.contains(flag), "{ended:?}");
            if command.is_empty() {
                let line = ended.refusal(2, "refusing to start: unusable settings");
                assert!(line.get("err").unwrap().contains(flag));
                assert!(line.get("fix").unwrap().contains(flag));
                assert!(line.get("value").unwrap().contains(value));
            }
        }
    }
    let google = Google::start().await;
    let check = ["check-config", "--domain", HOST, "--fcm-project", "my-own"];
    let ended = google.trusted_by(Launch::new(&check)).ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("fcm-project = \"my-own\""));
    google.expect_no_secret(&(ended.stdout + &ended.stderr));
}
