//! Push wakes, against a stand-in for Google that misbehaves on demand.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant, SystemTime};

use relay_tests::{Answer, Google, HOST, Launch, Record, Relay, frame, free_port, wake, within};

const DROPPED: &str = "binary_forwarder_push_wake_dropped";
const SENT: &str = "push_wake_sent";
const FAILED: &str = "push_wake_send_failed";

const OUTCOMES: [&str; 5] = [
    "sent",
    "unregistered",
    "send_failed",
    "token_fetch_failed",
    "dropped",
];

/// Waits until exactly these outcomes have been counted.
async fn expect_outcomes(relay: &Relay, expected: &[(&str, u32)]) {
    for outcome in OUTCOMES {
        let n = expected.iter().find(|(o, _)| *o == outcome);
        let n = n.map_or(0, |(_, n)| *n);
        let series = format!("pyrycode_relay_push_wakes_total{{outcome=\"{outcome}\"}}");
        relay.expect_metric(&series, n.into()).await;
    }
}

/// The lines about the outcomes of wakes.
fn outcome_lines(relay: &Relay) -> Vec<Record> {
    let mut records = relay.log.records();
    records.retain(|record| [SENT, FAILED].contains(&&*record.msg));
    records
}

/// The `err` of the next failure, the `n`th.
async fn failure(relay: &Relay, n: usize) -> String {
    let line = relay.log.wait_nth(n, FAILED, &[]).await;
    assert_eq!(line.level, "WARN");
    assert_shape(&line);
    line.get("err").unwrap().to_owned()
}

/// The keys of an outcome's line, and what they look like.
fn assert_shape(line: &Record) {
    let keys: Vec<&str> = line.fields.iter().map(|(key, _)| &**key).collect();
    let last = match &*line.msg {
        SENT => "fcm_message_id",
        _ => "err",
    };
    let all = ["time", "server_id", "token_fp", "duration", last];
    assert!(
        keys == all || line.msg == SENT && keys == all[..4],
        "{line:?}"
    );
    let fingerprint = line.get("token_fp").unwrap();
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    assert!(
        fingerprint.len() == 8 && fingerprint.bytes().all(hex),
        "{line:?}"
    );
    let duration = line.get("duration").unwrap();
    let number = duration.strip_suffix("ms").or(duration.strip_suffix('s'));
    assert!(number.unwrap().parse::<f64>().is_ok(), "{line:?}");
}

#[tokio::test]
async fn c64_push_off_drops_a_wake_and_says_so() {
    let relay = Relay::start(&[]).await;
    relay
        .log
        .wait("push off: PYRYCODE_RELAY_FCM_CREDENTIALS unset", &[])
        .await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    daemon.send(&wake("a"));
    daemon.send(r#"{"push_wake":7}"#);
    let dropped = [("server_id", "home"), ("err", "push is off")];
    let line = relay.log.wait_nth(2, DROPPED, &dropped).await;
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
    expect_outcomes(&relay, &[]).await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wake("a"));
    let line = relay.log.wait(SENT, &[("server_id", "home")]).await;
    assert_eq!(line.level, "INFO");
    assert_shape(&line);
    let id = "projects/stand-in-project/messages/0:1";
    assert_eq!(line.get("fcm_message_id"), Some(id));
    // sha256sum of `push-token-93b1aa-a`.
    assert_eq!(line.get("token_fp"), Some("c3e592c5"));
    let body = r#"{"message":{"token":"push-token-93b1aa-a","android":{"priority":"HIGH"}}}"#;
    assert_eq!(google.messages()[0].body, body);

    daemon.send(&wake("b"));
    relay.log.wait_nth(2, SENT, &[]).await;
    expect_outcomes(&relay, &[("sent", 2)]).await;
    assert_eq!((google.messages().len(), google.fetches()), (2, 1));
    assert_eq!(outcome_lines(&relay).len(), 2);
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
    relay.log.wait_nth(cases.len(), DROPPED, &[]).await;
    let mut lines = relay.log.records();
    lines.retain(|line| line.msg == DROPPED);
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
        daemon.send(&wake(&n.to_string()));
    }
    relay.log.wait_nth(6, SENT, &[]).await;
    expect_outcomes(&relay, &[("sent", 6)]).await;
    assert_eq!(google.messages().len(), 6);
}

#[tokio::test]
async fn c67_a_server_id_has_six_wakes_and_another_has_its_own() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    let other = relay.daemon("other").await;
    for n in 0..7 {
        daemon.send(&wake(&n.to_string()));
    }
    let dropped = [("server_id", "home"), ("err", "rate limited")];
    relay.log.wait(DROPPED, &dropped).await;
    other.send(&wake("other"));
    relay.log.wait(SENT, &[("server_id", "other")]).await;
    let home = [("server_id", "home")];
    relay.log.wait_nth(6, SENT, &home).await;
    expect_outcomes(&relay, &[("sent", 7), ("dropped", 1)]).await;
    assert_eq!(google.messages().len(), 7);
    // The limit is the server-id's, not the connection's.
    daemon.cut().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wake("again"));
    relay.log.wait_nth(2, DROPPED, &dropped).await;
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
        daemon.send(&wake("a"));
        assert_eq!(failure(&relay, n + 1).await, err);
    }
    expect_outcomes(&relay, &[("unregistered", 1), ("send_failed", 4)]).await;
    assert_eq!((google.messages().len(), google.strays()), (5, 0));
    assert_eq!(outcome_lines(&relay).len(), 5);
}

#[tokio::test]
async fn c69_a_slow_push_service_delays_no_frame_and_32_wakes_are_enough() {
    let google = Google::start().await;
    google.fcm(std::iter::repeat_n(Answer::status(200).held(), 32));
    let relay = google.relay().await;
    let (mut first, mut phone, conn_id) = relay.pair("home-0").await;
    for n in 0..6 {
        first.send(&wake(&n.to_string()));
    }
    google.wait_messages(6).await;
    for n in 0..100 {
        phone.send(&frame(n));
        first.expect_frame_from(&conn_id, &frame(n)).await;
        first.send_to(&conn_id, &frame(n));
        phone.expect_frame(&frame(n)).await;
    }
    assert_eq!(outcome_lines(&relay).len(), 0, "all of them are under way");

    let mut daemons = vec![first];
    for id in 1..6 {
        let daemon = relay.daemon(&format!("home-{id}")).await;
        let left = 32 - 6 * id;
        for n in 0..left.min(6) {
            daemon.send(&wake(&n.to_string()));
        }
        daemons.push(daemon);
    }
    google.wait_messages(32).await;
    daemons[5].send(&wake("one too many"));
    let dropped = [("server_id", "home-5"), ("err", "too many wakes in flight")];
    relay.log.wait(DROPPED, &dropped).await;
    expect_outcomes(&relay, &[("dropped", 1)]).await;
    google.release();
    relay.log.wait_nth(32, SENT, &[]).await;
    daemons[5].send(&wake("now"));
    relay.log.wait_nth(33, SENT, &[]).await;
    expect_outcomes(&relay, &[("sent", 33), ("dropped", 1)]).await;
}

/// Wakes of four server-ids at once, sent while the token endpoint holds its answer.
async fn four_wait(google: &Google, relay: &Relay) -> Vec<relay_tests::Daemon> {
    let mut daemons = Vec::new();
    for id in 0..4 {
        let daemon = relay.daemon(&format!("home-{id}")).await;
        daemon.send(&wake("a"));
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
    relay.log.wait_nth(4, SENT, &[]).await;
    assert_eq!((google.fetches(), google.messages().len()), (1, 4));
    drop((daemons, relay));

    let google = Google::start().await;
    google.tokens([Answer::status(500).held()]);
    let relay = google.relay().await;
    let daemons = four_wait(&google, &relay).await;
    google.release();
    for n in 1..=4 {
        assert_eq!(failure(&relay, n).await, "access token: status 500");
    }
    expect_outcomes(&relay, &[("token_fetch_failed", 4)]).await;
    assert_eq!((google.fetches(), google.messages().len()), (1, 0));
    // The failure is not kept.
    daemons[0].send(&wake("b"));
    relay.log.wait(SENT, &[]).await;
    assert_eq!((google.fetches(), google.messages().len()), (2, 1));
}

#[tokio::test]
async fn an_access_token_is_fetched_again_when_it_expires_or_is_refused() {
    let google = Google::start().await;
    google.tokens_live(5);
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    for n in 1..=2 {
        daemon.send(&wake("a"));
        relay.log.wait_nth(n, SENT, &[]).await;
        assert_eq!(google.fetches(), n);
    }
    google.tokens_live(3600);
    for n in [3, 4] {
        daemon.send(&wake("a"));
        relay.log.wait_nth(n, SENT, &[]).await;
    }
    assert_eq!(google.fetches(), 3);
    google.revoke();
    daemon.send(&wake("a"));
    let err = "status 401 (UNAUTHENTICATED, THIRD_PARTY_AUTH_ERROR)";
    assert_eq!(failure(&relay, 1).await, err);
    assert_eq!(google.fetches(), 3, "401 is not tried again");
    daemon.send(&wake("a"));
    relay.log.wait_nth(5, SENT, &[]).await;
    assert_eq!(google.fetches(), 4);
    expect_outcomes(&relay, &[("sent", 5), ("send_failed", 1)]).await;
}

#[tokio::test]
async fn an_overloaded_service_is_asked_three_times_at_most() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    google.fcm([Answer::status(500)]);
    daemon.send(&wake("a"));
    relay.log.wait(SENT, &[]).await;
    let messages = google.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].body, messages[1].body);
    assert!(messages[1].at - messages[0].at >= Duration::from_millis(250));

    google.fcm([503, 500, 503].map(Answer::status));
    daemon.send(&wake("a"));
    let err = "status 503 (UNAVAILABLE, UNAVAILABLE)";
    assert_eq!(failure(&relay, 1).await, err);
    assert_eq!(google.messages().len(), 5);
    expect_outcomes(&relay, &[("sent", 1), ("send_failed", 1)]).await;
    assert_eq!(outcome_lines(&relay).len(), 2, "one line for each wake");
    assert_eq!(google.fetches(), 1);
}

#[tokio::test]
async fn retry_after_is_honoured_if_it_fits_into_ten_seconds() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    let date = SystemTime::now() + Duration::from_secs(3600);
    let date = httpdate::fmt_http_date(date);
    for (n, later) in ["60", "10", &date].into_iter().enumerate() {
        google.fcm([Answer::status(429).header("retry-after", later)]);
        daemon.send(&wake("a"));
        let err = "status 429 (RESOURCE_EXHAUSTED, QUOTA_EXCEEDED)";
        assert_eq!(failure(&relay, n + 1).await, err, "{later}");
        assert_eq!(google.messages().len(), n + 1, "{later}");
    }
    let past = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH);
    google.fcm([
        Answer::status(429).header("retry-after", "2"),
        Answer::status(503).header("retry-after", &past),
    ]);
    daemon.send(&wake("a"));
    relay.log.wait(SENT, &[]).await;
    let messages = google.messages();
    assert_eq!(messages.len(), 6);
    assert!(messages[4].at - messages[3].at >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_connection_that_is_lost_is_one_failure() {
    let google = Google::start().await;
    google.fcm([Answer::reset()]);
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wake("a"));
    assert_eq!(failure(&relay, 1).await, "fcm: connection lost");
    assert_eq!(google.messages().len(), 1);
    google.tokens_live(1);
    google.revoke();
    daemon.send(&wake("a"));
    failure(&relay, 2).await;
    google.tokens([Answer::reset()]);
    daemon.send(&wake("a"));
    let err = "access token: connection lost";
    assert_eq!(failure(&relay, 3).await, err);
    daemon.send(&wake("a"));
    relay.log.wait(SENT, &[]).await;
    expect_outcomes(
        &relay,
        &[("sent", 1), ("send_failed", 2), ("token_fetch_failed", 1)],
    )
    .await;
}

#[tokio::test]
async fn of_a_huge_answer_only_the_beginning_counts() {
    let huge = "x".repeat(20_000_000);
    let google = Google::start().await;
    google.fcm([
        Answer::status(200).body(format!(r#"{{"name":"{huge}"}}"#)),
        Answer::status(404).body(format!(
            r#"{{"error":{{"message":"{huge}","status":"A"}}}}"#
        )),
        Answer::status(404).header("x-huge", &huge[..60_000]),
    ]);
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    let before = resident_kib(&relay);
    daemon.send(&wake("a"));
    let line = relay.log.wait(SENT, &[]).await;
    assert_eq!(line.get("fcm_message_id"), None);
    daemon.send(&wake("a"));
    assert_eq!(failure(&relay, 1).await, "status 404");
    daemon.send(&wake("a"));
    assert_eq!(failure(&relay, 2).await, "fcm: connection lost");
    let more = resident_kib(&relay).saturating_sub(before);
    assert!(more < 10_000, "{more} KiB more for 40 MB of answers");
    daemon.send(&wake("a"));
    relay.log.wait_nth(2, SENT, &[]).await;
    expect_outcomes(&relay, &[("sent", 2), ("send_failed", 2)]).await;
}

/// Memory of the relay's process.
fn resident_kib(relay: &Relay) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

#[tokio::test]
async fn a_token_endpoint_that_misbehaves_is_told_apart() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    let text = "free text 5f0d";
    let unusable = "access token: unusable reply";
    let cases = [
        (
            Answer::status(400).body(format!(r#"{{"error":"{text}"}}"#)),
            "access token: status 400",
        ),
        (
            Answer::status(302).header("location", "/other").body(""),
            "access token: status 302",
        ),
        (Answer::status(200).body(text), unusable),
        (Answer::status(200).body(r#"{"access_token":""}"#), unusable),
        (
            Answer::status(200).body(r#"{"access_token":"a\nb"}"#),
            unusable,
        ),
        (
            Answer::status(200).body(format!(r#"{{"x":"{}"}}"#, "x".repeat(5_000))),
            unusable,
        ),
    ];
    for (n, (answer, err)) in cases.into_iter().enumerate() {
        google.tokens([answer]);
        daemon.send(&wake("a"));
        assert_eq!(failure(&relay, n + 1).await, err);
    }
    expect_outcomes(&relay, &[("token_fetch_failed", 6)]).await;
    assert_eq!((google.messages().len(), google.strays()), (0, 0));
}

#[tokio::test]
async fn calls_that_hang_end_after_ten_seconds_each() {
    let google = Google::start().await;
    google.tokens([Answer::status(200).held()]);
    let relay = google.relay().await;
    let hanging = Google::start().await;
    hanging.fcm([Answer::status(200).held()]);
    let second = hanging.relay().await;
    let began = Instant::now();
    let (one, two) = (relay.daemon("home").await, second.daemon("home").await);
    one.send(&wake("a"));
    two.send(&wake("a"));
    assert_eq!(failure(&relay, 1).await, "access token: timed out");
    assert_eq!(failure(&second, 1).await, "fcm: timed out");
    let took = began.elapsed();
    assert!((10.0..14.0).contains(&took.as_secs_f64()), "{took:?}");
    expect_outcomes(&relay, &[("token_fetch_failed", 1)]).await;
    expect_outcomes(&second, &[("send_failed", 1)]).await;
}

#[tokio::test]
async fn a_server_nobody_vouches_for_gets_no_credentials() {
    let google = Google::start().await;
    // The last value counts. There is no certificate in this file, so the relay trusts what browsers trust.
    let launch = google.launch(&[]).env("SSL_CERT_FILE", "/dev/null");
    let relay = launch.start().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wake("a"));
    let err = "access token: cannot connect: TLS handshake failed";
    assert_eq!(failure(&relay, 1).await, err);
    assert_eq!(google.fetches(), 0);
    drop(relay);

    let nobody = format!("https://127.0.0.1:{}", free_port([127, 0, 0, 1].into()));
    let launch = Launch::new(&["--fcm-endpoint", &nobody]);
    let relay = google.trusted_by(launch).start().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wake("a"));
    let err = "fcm: cannot connect: connection refused";
    assert_eq!(failure(&relay, 1).await, err);
    expect_outcomes(&relay, &[("send_failed", 1)]).await;
}

#[tokio::test]
async fn a_wake_outlives_the_binary_that_asked_for_it() {
    let google = Google::start().await;
    google.fcm([Answer::status(200).held()]);
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wake("a"));
    google.wait_messages(1).await;
    daemon.cut().await;
    relay.log.wait("server_released", &[]).await;
    google.release();
    relay.log.wait(SENT, &[("server_id", "home")]).await;
    expect_outcomes(&relay, &[("sent", 1)]).await;
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
        daemon.send(&wake("a"));
        daemon.send(&wake("b"));
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
        let lines = outcome_lines(&relay);
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in &lines {
            let err = line.get("err");
            assert_eq!(err, Some("cancelled: the relay shuts down"));
            assert_shape(line);
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
            daemon.send(&wake(&n.to_string()));
        }
        daemon.expect_alive().await;
        google.wait_messages(6).await;
        google.revoke();
        google.tokens([Answer::status(400)]);
        for n in 0..2 {
            other.send(&wake(&n.to_string()));
        }
        // Eight are admitted, and each has its line.
        let lines = |relay: &Relay| {
            let all = relay.log.lines();
            all.iter()
                .filter(|line| line.contains("push_wake_sen"))
                .count()
        };
        relay_tests::eventually("all outcomes", || async {
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
