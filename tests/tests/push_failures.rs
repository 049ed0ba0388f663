//! Push wakes, when Google misbehaves in every way it can.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant, SystemTime};

use relay_tests::{Answer, Google, Launch, Relay, free_port, wakes};

#[tokio::test]
async fn an_access_token_is_fetched_again_when_it_expires_or_is_refused() {
    let google = Google::start().await;
    google.tokens_live(5);
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    for n in 1..=2 {
        daemon.send(&wakes::envelope("a"));
        relay.log.wait_nth(n, wakes::SENT, &[]).await;
        assert_eq!(google.fetches(), n);
    }
    google.tokens_live(3600);
    for n in [3, 4] {
        daemon.send(&wakes::envelope("a"));
        relay.log.wait_nth(n, wakes::SENT, &[]).await;
    }
    assert_eq!(google.fetches(), 3);
    google.revoke();
    daemon.send(&wakes::envelope("a"));
    let err = "status 401 (UNAUTHENTICATED, THIRD_PARTY_AUTH_ERROR)";
    assert_eq!(wakes::failure(&relay, 1).await, err);
    assert_eq!(google.fetches(), 3, "401 is not tried again");
    daemon.send(&wakes::envelope("a"));
    relay.log.wait_nth(5, wakes::SENT, &[]).await;
    assert_eq!(google.fetches(), 4);
    wakes::expect_outcomes(&relay, &[("sent", 5), ("send_failed", 1)]).await;
}

#[tokio::test]
async fn an_overloaded_service_is_asked_three_times_at_most() {
    let google = Google::start().await;
    let relay = google.relay().await;
    let daemon = relay.daemon("home").await;
    google.fcm([Answer::status(500)]);
    daemon.send(&wakes::envelope("a"));
    relay.log.wait(wakes::SENT, &[]).await;
    let messages = google.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].body, messages[1].body);
    assert!(messages[1].at - messages[0].at >= Duration::from_millis(250));

    google.fcm([503, 500, 503].map(Answer::status));
    daemon.send(&wakes::envelope("a"));
    let err = "status 503 (UNAVAILABLE, UNAVAILABLE)";
    assert_eq!(wakes::failure(&relay, 1).await, err);
    assert_eq!(google.messages().len(), 5);
    wakes::expect_outcomes(&relay, &[("sent", 1), ("send_failed", 1)]).await;
    assert_eq!(wakes::outcomes(&relay).len(), 2, "one line for each wake");
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
        daemon.send(&wakes::envelope("a"));
        let err = "status 429 (RESOURCE_EXHAUSTED, QUOTA_EXCEEDED)";
        assert_eq!(wakes::failure(&relay, n + 1).await, err, "{later}");
        assert_eq!(google.messages().len(), n + 1, "{later}");
    }
    let past = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH);
    google.fcm([
        Answer::status(429).header("retry-after", "2"),
        Answer::status(503).header("retry-after", &past),
    ]);
    daemon.send(&wakes::envelope("a"));
    relay.log.wait(wakes::SENT, &[]).await;
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
    daemon.send(&wakes::envelope("a"));
    assert_eq!(wakes::failure(&relay, 1).await, "fcm: connection lost");
    assert_eq!(google.messages().len(), 1);
    google.tokens_live(1);
    google.revoke();
    daemon.send(&wakes::envelope("a"));
    wakes::failure(&relay, 2).await;
    google.tokens([Answer::reset()]);
    daemon.send(&wakes::envelope("a"));
    let err = "access token: connection lost";
    assert_eq!(wakes::failure(&relay, 3).await, err);
    daemon.send(&wakes::envelope("a"));
    relay.log.wait(wakes::SENT, &[]).await;
    wakes::expect_outcomes(
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
    daemon.send(&wakes::envelope("a"));
    let line = relay.log.wait(wakes::SENT, &[]).await;
    assert_eq!(line.get("fcm_message_id"), None);
    daemon.send(&wakes::envelope("a"));
    assert_eq!(wakes::failure(&relay, 1).await, "status 404");
    daemon.send(&wakes::envelope("a"));
    assert_eq!(wakes::failure(&relay, 2).await, "fcm: connection lost");
    let more = resident_kib(&relay).saturating_sub(before);
    assert!(more < 10_000, "{more} KiB more for 40 MB of answers");
    daemon.send(&wakes::envelope("a"));
    relay.log.wait_nth(2, wakes::SENT, &[]).await;
    wakes::expect_outcomes(&relay, &[("sent", 2), ("send_failed", 2)]).await;
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
        daemon.send(&wakes::envelope("a"));
        assert_eq!(wakes::failure(&relay, n + 1).await, err);
    }
    wakes::expect_outcomes(&relay, &[("token_fetch_failed", 6)]).await;
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
    one.send(&wakes::envelope("a"));
    two.send(&wakes::envelope("a"));
    assert_eq!(wakes::failure(&relay, 1).await, "access token: timed out");
    assert_eq!(wakes::failure(&second, 1).await, "fcm: timed out");
    let took = began.elapsed();
    assert!((10.0..14.0).contains(&took.as_secs_f64()), "{took:?}");
    wakes::expect_outcomes(&relay, &[("token_fetch_failed", 1)]).await;
    wakes::expect_outcomes(&second, &[("send_failed", 1)]).await;
}

#[tokio::test]
async fn an_operator_chooses_how_long_a_call_may_take() {
    let google = Google::start().await;
    google.tokens([Answer::status(200).held()]);
    google.fcm([
        Answer::status(200).held(),
        Answer::status(503).header("retry-after", "2"),
    ]);
    let relay = google.launch(&["--push-timeout", "1500ms"]).start().await;
    let daemon = relay.daemon("home").await;
    let status = "status 503 (UNAVAILABLE, UNAVAILABLE)";
    let began = Instant::now();
    for (n, err) in ["access token: timed out", "fcm: timed out", status]
        .into_iter()
        .enumerate()
    {
        daemon.send(&wakes::envelope("a"));
        assert_eq!(wakes::failure(&relay, n + 1).await, err);
    }
    let took = began.elapsed();
    assert!((3.0..8.0).contains(&took.as_secs_f64()), "{took:?}");
    // No time for a retry.
    assert_eq!(google.messages().len(), 2);
}

#[tokio::test]
async fn a_server_nobody_vouches_for_gets_no_credentials() {
    let google = Google::start().await;
    // The last value counts. There is no certificate in this file, so the relay trusts what browsers trust.
    let launch = google.launch(&[]).env("SSL_CERT_FILE", "/dev/null");
    let relay = launch.start().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wakes::envelope("a"));
    let err = "access token: cannot connect: TLS handshake failed";
    assert_eq!(wakes::failure(&relay, 1).await, err);
    assert_eq!(google.fetches(), 0);
    drop(relay);

    let nobody = format!("https://127.0.0.1:{}", free_port([127, 0, 0, 1].into()));
    let launch = Launch::new(&["--fcm-endpoint", &nobody]);
    let relay = google.trusted_by(launch).start().await;
    let daemon = relay.daemon("home").await;
    daemon.send(&wakes::envelope("a"));
    let err = "fcm: cannot connect: connection refused";
    assert_eq!(wakes::failure(&relay, 1).await, err);
    wakes::expect_outcomes(&relay, &[("send_failed", 1)]).await;
}
