//! One run with every timer at its default; everything waits at the same time.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use relay_tests::{Event, Relay, frame, op, within};

/// What a busy machine may add to a timer.
const SLACK: Duration = Duration::from_secs(4);

/// The timers of this run take up to 30 s.
const LONG: Duration = Duration::from_secs(50);

fn assert_took(what: &str, since: Instant, seconds: u64) {
    let took = since.elapsed();
    let expected = Duration::from_secs(seconds);
    // The harness sees a cause a little before or after the relay does.
    let early = expected - Duration::from_millis(500);
    assert!(
        (early..expected + SLACK).contains(&took),
        "{what} took {took:?}, not {expected:?}"
    );
}

/// Grace: 30 s from the daemon's disconnect.
async fn grace_is_30_seconds(relay: &Relay) {
    let mut daemon = relay.daemon("grace").await;
    let mut phone = relay.phone("grace").await;
    daemon.hear(&mut phone).await;
    let began = Instant::now();
    daemon.cut().await;
    within(LONG, "the end of grace", async {
        loop {
            match tokio::time::timeout(Duration::from_secs(1), phone.recv()).await {
                Err(_) => {}
                Ok(event) => break assert_eq!(event, close(4404, "binary did not return")),
            }
        }
    })
    .await;
    assert_took("grace", began, 30);
}

fn close(code: u16, reason: &str) -> Event {
    Event::Close(code, reason.to_owned())
}

/// The probe of a holder that acknowledges but doesn't answer: 10 s.
async fn the_probe_gives_10_seconds(relay: &Relay) {
    let _holder = relay.raw_daemon("probe").await;
    let mut phone = relay.phone("probe").await;
    relay
        .log
        .wait("phone_registered", &[("server_id", "probe")])
        .await;
    let began = Instant::now();
    let mut claimant = relay.daemon("probe").await;
    phone.expect_close(4404, "binary reclaimed server-id").await;
    assert_took("the probe", began, 10);
    let mut redialled = relay.phone("probe").await;
    claimant.hear(&mut redialled).await;
}

/// Parking: at most 8 s, also for a phone that came right after the start.
async fn parking_is_8_seconds(relay: &Relay, server_id: &str) {
    let began = Instant::now();
    let mut phone = relay.phone(server_id).await;
    phone.expect_close(4404, "no server with that id").await;
    assert_took("parking", began, 8);
}

/// The first ping comes 30 s after the registration.
async fn the_ping_interval_is_30_seconds(relay: &Relay) {
    let mut daemon = relay.daemon("ping").await;
    let began = Instant::now();
    let first = within(LONG, "the first ping", async {
        loop {
            match tokio::time::timeout(Duration::from_secs(1), daemon.next()).await {
                Err(_) => {}
                Ok(event) => break event,
            }
        }
    })
    .await;
    assert!(matches!(first, Event::Ping(_)), "{first:?}");
    assert_took("the ping interval", began, 30);
}

/// A message has 30 s from its first header.
async fn a_message_has_30_seconds(relay: &Relay) {
    let mut daemon = relay.daemon("message").await;
    let mut phone = relay.raw_phone("message", None).await;
    phone.send(&frame(1)).await;
    daemon.expect_frame(&frame(1)).await;
    let began = Instant::now();
    phone.frame(op::TEXT_START, b"[").await;
    loop {
        let more = tokio::time::timeout(Duration::from_secs(1), phone.read()).await;
        match more.map(|frame| frame.unwrap().expect("a frame, not the end")) {
            Err(_) => assert!(began.elapsed() < LONG, "no deadline"),
            Ok(frame) if frame.first == op::PING => phone.frame(op::PONG, &frame.payload).await,
            Ok(frame) => {
                let expected = [&1008u16.to_be_bytes()[..], b"message took too long"].concat();
                assert_eq!((frame.first, frame.payload), (op::CLOSE, expected));
                break;
            }
        }
    }
    assert_took("the message deadline", began, 30);
}

#[tokio::test]
async fn the_defaults_are_what_the_documentation_says() {
    let relay = Relay::start_bare(&[]).await;
    relay.daemon("gracing").await.cut().await;
    relay
        .log
        .wait("server_released", &[("server_id", "gracing")])
        .await;
    tokio::join!(
        grace_is_30_seconds(&relay),
        the_probe_gives_10_seconds(&relay),
        parking_is_8_seconds(&relay, "never-there"),
        parking_is_8_seconds(&relay, "gracing"),
        the_ping_interval_is_30_seconds(&relay),
        a_message_has_30_seconds(&relay),
    );
    // By now the boot window of 30 s is over.
    let mut late = relay.phone("never-there").await;
    let began = Instant::now();
    late.expect_close(4404, "no server with that id").await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "turned away at once"
    );
}

/// The default limits that need no waiting.
#[tokio::test]
async fn default_caps_let_a_home_in_and_stop_a_flood_of_dials() {
    let relay = Relay::start_bare(&[]).await;
    let _daemon = relay.daemon("home").await;
    let mut phones = Vec::new();
    for _ in 0..16 {
        phones.push(relay.phone("home").await);
    }
    relay.expect_counts(1, 16).await;
    let mut refused = None;
    for _ in 0..120 {
        if let Err(answer) = relay.try_phone("home").await {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("60 dials in a burst, then no more");
    assert_eq!(refused.status, 429);
    assert!(
        refused.retry_after.is_some_and(|s| (1..=60).contains(&s)),
        "{refused:?}"
    );
}
