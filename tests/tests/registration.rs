//! Who gets a slot: phones without a daemon, the phone cap, conflicting claims.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::Duration;

use relay_tests::{Daemon, Event, Phone, Relay, frame, soon};

const FAILURES: &str = "pyrycode_relay_register_failures_total";
const EXPIRIES: &str = "pyrycode_relay_grace_expiries_total";

async fn phones(relay: &Relay, server_id: &str, count: usize) -> Vec<Phone> {
    let mut phones = Vec::new();
    for _ in 0..count {
        phones.push(relay.phone(server_id).await);
    }
    phones
}

#[tokio::test]
async fn c17_phone_without_binary_is_closed_4404() {
    let relay = Relay::start(&[]).await;
    let mut phone = relay.phone("nobody").await;
    phone.expect_close(4404, "no server with that id").await;
    relay.expect_attempts("client", "reject_404", 1).await;
    relay
        .expect_metric(&format!("{FAILURES}{{kind=\"no_server\"}}"), 1.0)
        .await;
    relay
        .log
        .wait("phone_register_no_server", &[("server_id", "nobody")])
        .await;
    assert_eq!(relay.counts().await, (0, 0));
}

#[tokio::test]
async fn c18_phone_of_a_live_binary_stays() {
    let relay = Relay::start(&[]).await;
    let _daemon = relay.daemon("home").await;
    let mut phone = relay.phone("home").await;
    relay.expect_counts(1, 1).await;
    relay.expect_attempts("client", "accept", 1).await;
    phone.expect_silence().await;
}

#[tokio::test]
async fn c19_the_seventeenth_phone_is_closed_4429() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut sixteen = phones(&relay, "home", 16).await;
    let mut extra = relay.phone("home").await;
    extra
        .expect_close(4429, "too many phones for server-id")
        .await;
    relay.expect_attempts("client", "reject_429", 1).await;
    relay
        .expect_metric(&format!("{FAILURES}{{kind=\"phones_at_cap\"}}"), 1.0)
        .await;
    relay
        .log
        .wait("phone_register_at_cap", &[("server_id", "home")])
        .await;
    for phone in &mut sixteen {
        daemon.hear(phone).await;
    }
    relay.expect_counts(1, 16).await;

    let leaving = sixteen.pop().unwrap();
    leaving.close(1000, "");
    relay.expect_counts(1, 15).await;
    let mut replacement = relay.phone("home").await;
    assert_eq!(daemon.envelope().await.close_code, Some(1000));
    daemon.hear(&mut replacement).await;
}

/// Ours: the sixteen wait for the daemon (parked), and still count.
#[tokio::test]
async fn c20_phones_of_a_gracing_slot_count_against_the_cap() {
    let relay = Relay::start(&["--grace", "2s"]).await;
    let daemon = relay.daemon("home").await;
    let mut sixteen = phones(&relay, "home", 16).await;
    relay.expect_counts(1, 16).await;
    daemon.cut().await;
    relay
        .log
        .wait("server_released", &[("server_id", "home")])
        .await;
    let mut extra = relay.phone("home").await;
    extra
        .expect_close(4429, "too many phones for server-id")
        .await;
    relay.expect_metric(EXPIRIES, 1.0).await;
    for phone in &mut sixteen {
        phone.expect_close(4404, "binary did not return").await;
    }
    let mut late = relay.phone("home").await;
    late.expect_close(4404, "no server with that id").await;
}

#[tokio::test]
async fn c21_a_second_claim_of_a_live_slot_is_closed_4409() {
    let relay = Relay::start(&[]).await;
    let mut first = relay.daemon("home").await;
    let mut phone = relay.phone("home").await;
    let conn_id = first.hear(&mut phone).await;
    let asked = std::time::Instant::now();
    let mut second = relay.daemon("home").await;
    second.expect_close(4409, "server-id already claimed").await;
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "a pong decides, not the timeout"
    );

    first.send_to(&conn_id, &frame(1));
    phone.expect_frame(&frame(1)).await;
    phone.send(&frame(2));
    first.expect_frame_from(&conn_id, &frame(2)).await;
    relay.expect_attempts("server", "reject_409", 1).await;
    relay
        .expect_metric(&format!("{FAILURES}{{kind=\"server_in_use\"}}"), 1.0)
        .await;
    relay
        .log
        .wait("server_id_conflict", &[("server_id", "home")])
        .await;
    assert_eq!(relay.counts().await, (1, 1));
}

#[tokio::test]
async fn c22_a_holder_that_never_reads_is_taken_over() {
    let relay = Relay::start(&["--probe-timeout", "1s"]).await;
    let mut holder = relay.raw_daemon("home").await;
    let mut phone = relay.phone("home").await;
    relay.expect_counts(1, 1).await;
    phone.send(&frame(1));
    let mut claimant = relay.daemon("home").await;
    phone.expect_close(4404, "binary reclaimed server-id").await;
    let mut redialled = relay.phone("home").await;
    claimant.hear(&mut redialled).await;
    // If it ever reads, it learns why.
    holder.expect_close(1011, "heartbeat timeout").await;

    relay
        .log
        .wait_nth(2, "server_claimed", &[("server_id", "home")])
        .await;
    let events = relay.log.records();
    let at = |msg: &str| events.iter().rposition(|r| r.msg == msg).unwrap();
    assert!(
        at("server_id_takeover") < at("server_claimed"),
        "{events:#?}"
    );
    relay.expect_attempts("server", "accept", 2).await;
    relay.expect_attempts("server", "reject_409", 0).await;
}

#[tokio::test]
async fn c23_the_end_of_a_displaced_holder_changes_nothing() {
    let relay = Relay::start(&["--probe-timeout", "500ms", "--grace", "1s"]).await;
    let mut holder = relay.raw_daemon("home").await;
    let mut claimant = relay.daemon("home").await;
    relay
        .log
        .wait("server_id_takeover", &[("server_id", "home")])
        .await;
    holder.expect_close(1011, "heartbeat timeout").await;
    drop(holder);
    // Another slot released now is the clock: when its grace has expired, a stray timer of
    // the displaced holder would have fired too.
    relay.daemon("clock").await.cut().await;
    relay
        .log
        .wait("server_released", &[("server_id", "clock")])
        .await;
    relay.expect_metric(EXPIRIES, 1.0).await;
    assert_eq!(relay.counts().await, (1, 0));
    assert_eq!(
        relay.log.count("server_released", &[("server_id", "home")]),
        0
    );
    let mut phone = relay.phone("home").await;
    claimant.hear(&mut phone).await;
}

#[tokio::test]
async fn c24_of_two_claimants_exactly_one_wins() {
    let relay = Relay::start(&["--probe-timeout", "1s"]).await;
    let _holder = relay.raw_daemon("home").await;
    let mut claimants = [relay.daemon("home").await, relay.daemon("home").await];
    relay
        .log
        .wait("server_id_takeover", &[("server_id", "home")])
        .await;
    let [a, b] = &mut claimants;
    let loser_is_a = soon("a 4409", async {
        tokio::select! {
            event = a.recv() => { assert_eq!(event, conflict()); true }
            event = b.recv() => { assert_eq!(event, conflict()); false }
        }
    })
    .await;
    let winner = &mut claimants[usize::from(loser_is_a)];
    let mut phone = relay.phone("home").await;
    winner.hear(&mut phone).await;
    winner.expect_silence().await;
    assert_eq!(relay.counts().await, (1, 1));
    relay.expect_attempts("server", "reject_409", 1).await;
}

fn conflict() -> Event {
    Event::Close(4409, "server-id already claimed".into())
}

#[tokio::test]
async fn c25_a_stalled_phone_does_not_make_its_holder_look_dead() {
    let relay = Relay::start(&["--probe-timeout", "2s", "--write-timeout", "60s"]).await;
    let mut holder = relay.daemon("home").await;
    let mut stalled = relay.raw_phone("home", Some(4096)).await;
    stalled.send(&frame(1)).await;
    let conn_id = holder.expect_frame(&frame(1)).await;
    // More than the socket takes, less than the outbox holds.
    let large = format!("\"{}\"", "x".repeat(100_000));
    let flood = |holder: &Daemon, n| (0..n).for_each(|_| holder.send_to(&conn_id, &large));
    flood(&holder, 20);
    let mut claimant = relay.daemon("home").await;
    flood(&holder, 20);
    claimant
        .expect_close(4409, "server-id already claimed")
        .await;
    assert_eq!(relay.log.count("server_id_takeover", &[]), 0);
    holder.expect_alive().await;
}
