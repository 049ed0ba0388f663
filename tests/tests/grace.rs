//! The time between a daemon's disconnect and its return, without the resume header.

use std::time::Duration;

use relay_tests::{Daemon, Phone, Relay, frame};

const EXPIRIES: &str = "pyrycode_relay_grace_expiries_total";

/// A slot in grace with two phones: one whose frame the departed daemon got, one it never heard of.
async fn gracing(relay: &Relay) -> (Phone, Phone) {
    let mut daemon = relay.daemon("home").await;
    let mut heard = relay.phone("home").await;
    daemon.hear(&mut heard).await;
    let unheard = relay.phone("home").await;
    relay.expect_counts(1, 2).await;
    leave(relay, daemon).await;
    (heard, unheard)
}

async fn leave(relay: &Relay, daemon: Daemon) {
    daemon.cut().await;
    relay
        .log
        .wait("server_released", &[("server_id", "home")])
        .await;
}

#[tokio::test]
async fn c26_phones_stay_when_their_binary_closes() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut heard = relay.phone("home").await;
    daemon.hear(&mut heard).await;
    let mut unheard = relay.phone("home").await;
    relay.expect_counts(1, 2).await;
    daemon.close(1000, "client closing");
    daemon.expect_echo(1000, "client closing").await;
    relay
        .log
        .wait("server_released", &[("server_id", "home")])
        .await;
    relay.expect_counts(0, 2).await;
    heard.expect_silence().await;
    unheard.expect_silence().await;
    assert_eq!(relay.counts().await, (0, 2));
}

/// Ours: only phones the departed daemon had heard of are evicted; the others stay, and the
/// first envelope of the new one is a frame, not a stray notice.
#[tokio::test]
async fn c27_reclaim_is_immediate_and_evicts_the_phones_that_were_heard() {
    // The probe is far away, so an immediate success proves that there was none.
    let relay = Relay::start(&["--probe-timeout", "60s", "--probe-dead-path", "60s"]).await;
    let (mut heard, mut unheard) = gracing(&relay).await;
    let mut returned = relay.daemon("home").await;
    heard.expect_close(4404, "binary reclaimed server-id").await;
    relay.expect_counts(1, 1).await;
    let conn_id = returned.hear(&mut unheard).await;
    returned.send_to(&conn_id, &frame(2));
    unheard.expect_frame(&frame(2)).await;
    relay
        .log
        .wait_nth(2, "server_claimed", &[("server_id", "home")])
        .await;
    relay.expect_metric(EXPIRIES, 0.0).await;
    returned.expect_silence().await;
}

/// Ours: 4404 `binary did not return`, where the reference sends a bare 1000.
#[tokio::test]
async fn c28_when_grace_expires_phones_are_closed_4404() {
    let relay = Relay::start(&["--grace", "1s"]).await;
    let (mut heard, mut unheard) = gracing(&relay).await;
    heard.expect_close(4404, "binary did not return").await;
    unheard.expect_close(4404, "binary did not return").await;
    relay.expect_metric(EXPIRIES, 1.0).await;
    relay.expect_counts(0, 0).await;
    let mut late = relay.phone("home").await;
    late.expect_close(4404, "no server with that id").await;
}

#[tokio::test]
async fn c29_a_phone_that_dials_in_grace_is_accepted() {
    let relay = Relay::start(&[]).await;
    let daemon = relay.daemon("home").await;
    leave(&relay, daemon).await;
    let mut phone = relay.phone("home").await;
    relay.expect_counts(0, 1).await;
    phone.expect_silence().await;
}

/// Ours: a heard phone's frame in grace ends it with 4404 `binary is away` (its session died with
/// the daemon); an unheard phone's frame waits. The reference closes both with 1000.
#[tokio::test]
async fn c30_a_frame_in_grace_waits_or_says_that_the_binary_is_away() {
    let relay = Relay::start(&[]).await;
    let (mut heard, mut unheard) = gracing(&relay).await;
    heard.send(&frame(1));
    heard.expect_close(4404, "binary is away").await;
    relay
        .log
        .wait("phone_forwarder_no_binary", &[("server_id", "home")])
        .await;
    unheard.send(&frame(2));
    unheard.expect_alive().await;
    relay.expect_counts(0, 1).await;
    let mut returned = relay.daemon("home").await;
    returned.expect_frame(&frame(2)).await;
}

/// Ours: a phone that was parked, which nobody has heard of, is not mentioned.
#[tokio::test]
async fn c30_a_phone_that_leaves_in_grace_leaves_a_notice_that_cannot_be_sent() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut heard = relay.phone("home").await;
    let conn_id = daemon.hear(&mut heard).await;
    let unheard = relay.phone("home").await;
    relay.expect_counts(1, 2).await;
    leave(&relay, daemon).await;
    unheard.cut().await;
    relay.log.wait("phone_unregistered", &[]).await;
    heard.close(4000, "enough");
    heard.expect_echo(4000, "enough").await;
    let failed = "phone_close_notice_send_failed";
    let fields = [
        ("server_id", "home"),
        ("conn_id", &*conn_id),
        ("close_code", "4000"),
        ("err", "binary is gone"),
    ];
    relay.log.wait(failed, &fields).await;
    relay.log.wait_nth(2, "phone_unregistered", &[]).await;
    assert_eq!(relay.log.count(failed, &[]), 1);
}

#[tokio::test]
async fn c31_a_late_reclaim_leaves_no_timer_behind() {
    let relay = Relay::start(&["--grace", "2s"]).await;
    let daemon = relay.daemon("home").await;
    leave(&relay, daemon).await;
    // Not a wait for something: the reclaim is to come late in the window.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut returned = relay.daemon("home").await;
    let mut phone = relay.phone("home").await;
    returned.hear(&mut phone).await;
    // The clock: a grace that began after the first one would have ended.
    relay.daemon("clock").await.cut().await;
    relay
        .log
        .wait("server_released", &[("server_id", "clock")])
        .await;
    relay.expect_metric(EXPIRIES, 1.0).await;
    assert_eq!(relay.counts().await, (1, 1));
    returned.hear(&mut phone).await;
}

#[tokio::test]
async fn c32_a_binary_that_closes_and_redials_at_once_gets_its_slot() {
    let relay = Relay::start(&["--redial-burst", "0"]).await;
    for round in 0..20 {
        let mut daemon = relay.daemon("home").await;
        // The relay may notice the predecessor's end only now; then the claim waits for it.
        relay
            .log
            .wait_nth(round + 1, "server_claimed", &[("server_id", "home")])
            .await;
        let mut phone = relay.phone("home").await;
        daemon.hear(&mut phone).await;
        match round % 2 {
            0 => daemon.close(1011, "client reconnecting"),
            _ => drop(daemon),
        }
    }
    relay.expect_attempts("server", "reject_409", 0).await;
    relay.expect_attempts("server", "accept", 20).await;
}
