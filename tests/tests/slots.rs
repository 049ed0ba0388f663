//! Ends and beginnings: close handshakes that arrive, notices that tell the truth, redial storms
//! refused before the upgrade, a 101 that means it.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use relay_tests::{Event, Raw, Relay, eventually, frame, json_of, masked, op};

// --- an absent daemon is always 4404 ---

#[tokio::test]
async fn an_absent_daemon_is_4404_at_every_stage() {
    let relay = Relay::start(&["--grace", "1s", "--park", "300ms"]).await;
    let mut before = relay.phone("home").await;
    before.expect_close(4404, "no server with that id").await;
    let mut daemon = relay.daemon("home").await;
    let mut heard = relay.phone("home").await;
    daemon.hear(&mut heard).await;
    let mut sender = relay.phone("home").await;
    daemon.hear(&mut sender).await;
    daemon.cut().await;
    relay
        .log
        .wait("server_released", &[("server_id", "home")])
        .await;
    sender.send(&frame(1));
    sender.expect_close(4404, "binary is away").await;
    let mut parked = relay.phone("home").await;
    parked.expect_close(4404, "no server with that id").await;
    heard.expect_close(4404, "binary did not return").await;
}

// --- close codes arrive ---

/// Writes frames until the relay's close arrives, then a few more, then the peer's own Close. The
/// end must be a FIN: with unread input a careless server resets, and the code is lost.
async fn assert_closed_without_reset(mut peer: Raw, code: u16, what: &str) {
    let message = masked(op::TEXT, format!("\"{}\"", "x".repeat(10_000)).as_bytes());
    let mut closed = None;
    for _ in 0..2_000 {
        peer.write(&message)
            .await
            .unwrap_or_else(|e| panic!("{what}: before the close: {e}"));
        if let Ok(close) = tokio::time::timeout(Duration::from_millis(1), peer.close_frame()).await
        {
            closed = Some(close.0);
            break;
        }
    }
    assert_eq!(closed, Some(code), "{what}");
    for _ in 0..20 {
        peer.write(&message)
            .await
            .unwrap_or_else(|e| panic!("{what}: after the close: {e}"));
    }
    peer.frame(op::CLOSE, &code.to_be_bytes()).await;
    peer.expect_end().await;
}

#[tokio::test]
async fn a_close_is_never_a_reset_while_the_peer_keeps_sending() {
    let relay = Relay::start(&["--phones-per-server", "1"]).await;
    assert_closed_without_reset(relay.raw_phone("nobody", None).await, 4404, "no server").await;

    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", None).await;
    phone.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    assert_closed_without_reset(relay.raw_phone("home", None).await, 4429, "too many").await;
    assert_closed_without_reset(relay.raw_daemon("home").await, 4409, "claimed").await;
    daemon.close_phone(&conn_id, None, 4421);
    assert_closed_without_reset(phone, 4421, "directive").await;

    let mut phone = relay.raw_phone("home", None).await;
    phone.send("not json").await;
    assert_closed_without_reset(phone, 1007, "not JSON").await;
    relay.expect_counts(1, 0).await;

    // The rest of a message that is too big is still on its way when the close is sent.
    let mut phone = relay.raw_phone("home", None).await;
    let whole = masked(op::TEXT, &vec![b' '; 3 << 20]);
    phone
        .write(&whole)
        .await
        .expect("the relay reads and discards all of it");
    assert_eq!(phone.close_frame().await, (1009, "message too big".into()));
    phone.frame(op::CLOSE, &1009u16.to_be_bytes()).await;
    phone.expect_end().await;
}

#[tokio::test]
async fn a_peer_that_never_answers_a_close_is_let_go_after_the_close_timeout() {
    let relay = Relay::start(&["--close-timeout", "1s"]).await;
    let mut phone = relay.raw_phone("nobody", None).await;
    assert_eq!(phone.close_frame().await.0, 4404);
    let began = Instant::now();
    phone.expect_end().await;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(900),
        "it had its time to answer: {took:?}"
    );
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn a_peers_own_close_is_echoed_and_then_there_is_nothing() {
    let relay = Relay::start(&[]).await;
    let _daemon = relay.daemon("home").await;
    for (payload, echo) in [
        (&b""[..], (1005, "")),
        (&[0x03, 0xe8][..], (1000, "")),
        (b"\x03\xe9going away", (1001, "going away")),
        (b"\x0f\xa0mine", (4000, "mine")),
    ] {
        let mut phone = relay.raw_phone("home", None).await;
        phone.frame(op::CLOSE, payload).await;
        assert_eq!(phone.close_frame().await, (echo.0, echo.1.to_owned()));
        phone.expect_end().await;
    }
    relay.expect_counts(1, 0).await;
}

/// Only a peer whose socket can't be written is cut.
#[tokio::test]
async fn a_peer_that_cannot_be_written_is_cut_after_the_write_timeout() {
    let relay = Relay::start(&["--write-timeout", "1s"]).await;
    let mut daemon = relay.daemon("home").await;
    let mut stalled = relay.raw_phone("home", Some(4096)).await;
    stalled.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    let large = format!("\"{}\"", "x".repeat(100_000));
    (0..40).for_each(|_| daemon.send_to(&conn_id, &large));
    daemon.expect_notice(&conn_id, 1001).await;
    relay
        .log
        .wait(
            "binary_forwarder_phone_send_failed",
            &[("conn_id", &conn_id)],
        )
        .await;
    relay.expect_counts(1, 0).await;
    stalled.drain().await;
    daemon.expect_alive().await;
}

/// What its binary had ordered is in the log with its code, for the phone never heard it.
#[tokio::test]
async fn a_close_that_cannot_be_written_behind_its_frame_is_logged() {
    let bytes = "16000000";
    let limits = ["--message-limit", bytes, "--outbox-limit", bytes];
    let relay = Relay::start(&[&limits[..], &["--write-timeout", "1s"]].concat()).await;
    let mut daemon = relay.daemon("home").await;
    let mut stalled = relay.raw_phone("home", Some(4096)).await;
    stalled.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    // More than the kernels take.
    daemon.close_phone(&conn_id, Some(&json_of(12_000_000)), 4401);
    let fields = [
        ("conn_id", &*conn_id),
        ("close_code", "4401"),
        ("err", "write timed out"),
    ];
    let event = "binary_forwarder_close_frame_send_failed";
    relay.log.wait(event, &fields).await;
    relay.expect_counts(1, 0).await;
    stalled.drain().await;
    daemon.expect_silence().await;
}

// --- close notices tell the truth ---

#[tokio::test]
async fn a_notice_carries_the_code_the_phone_or_the_relay_sent() {
    let relay = Relay::start(&["--message-timeout", "500ms"]).await;
    let mut daemon = relay.daemon("home").await;
    let too_big = masked(op::TEXT, &vec![b' '; 300_000]);
    let ends: [(&str, Vec<u8>, u64); 8] = [
        (
            "its own close",
            masked(op::CLOSE, &4000u16.to_be_bytes()),
            4000,
        ),
        ("a close without a code", masked(op::CLOSE, b""), 1005),
        ("not JSON", masked(op::TEXT, b"{"), 1007),
        ("not UTF-8", masked(op::TEXT, b"\"\xff\""), 1007),
        ("too big", too_big, 1009),
        ("too slow", masked(op::TEXT_START, b"{"), 1008),
        ("against the protocol", masked(op::LAST, b"{}"), 1002),
        (
            "half a frame, then gone",
            masked(op::TEXT, b"{}")[..3].to_vec(),
            1001,
        ),
    ];
    for (what, bytes, code) in ends {
        let mut phone = relay.raw_phone("home", None).await;
        phone.send(&frame(1)).await;
        let conn_id = daemon.expect_frame(&frame(1)).await;
        phone.write(&bytes).await.unwrap();
        if code == 1001 {
            phone.reset();
        } else {
            phone.close_frame().await;
        }
        let notice = daemon.envelope().await;
        assert_eq!(
            (&*notice.conn_id, notice.close_code),
            (&*conn_id, Some(code)),
            "{what}"
        );
    }
    relay.expect_counts(1, 0).await;
}

#[tokio::test]
async fn a_phone_that_fails_the_heartbeat_is_noticed_as_1011() {
    let relay = Relay::start(&["--ping-interval", "300ms", "--pong-timeout", "300ms"]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", None).await;
    phone.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    daemon.expect_notice(&conn_id, 1011).await;
}

// --- no accept-then-close storms ---

/// One claim that ends at once, seen through by the relay.
async fn short_tenure(relay: &Relay, server_id: &str, nth: usize) {
    relay.daemon(server_id).await.cut().await;
    relay
        .log
        .wait_nth(nth, "server_released", &[("server_id", server_id)])
        .await;
}

#[tokio::test]
async fn a_redial_storm_is_refused_before_the_upgrade() {
    let relay = Relay::start(&["--redial-burst", "3"]).await;
    let refused = {
        let mut tenures = 0;
        loop {
            match relay.try_daemon("home", &[]).await {
                Ok(daemon) => daemon.cut().await,
                Err(refused) => break refused,
            }
            tenures += 1;
            relay.log.wait_nth(tenures, "server_released", &[]).await;
            assert!(tenures < 20, "no limit in sight");
        }
    };
    assert_eq!(refused.status, 429);
    let wait = refused.retry_after.expect("a Retry-After header");
    assert!((1..=60).contains(&wait), "{wait} s");
    // The others of the same address are served, phones of this server-id too.
    let mut other = relay.daemon("elsewhere").await;
    other.expect_alive().await;
    let mut phone = relay.phone("home").await;
    phone.expect_alive().await;
    // It calms down by itself.
    let mut daemon = eventually("the server-id to be admitted again", || async {
        relay.try_daemon("home", &[]).await.ok()
    })
    .await;
    daemon.hear(&mut phone).await;
}

#[tokio::test]
async fn a_claimant_refused_with_4409_does_not_count_as_a_storm() {
    let relay = Relay::start(&["--redial-burst", "2"]).await;
    let mut holder = relay.daemon("home").await;
    for _ in 0..6 {
        let mut claimant = relay.daemon("home").await;
        claimant
            .expect_close(4409, "server-id already claimed")
            .await;
    }
    holder.expect_alive().await;
}

#[tokio::test]
async fn the_storm_limit_can_be_turned_off() {
    let relay = Relay::start(&["--redial-burst", "0"]).await;
    for nth in 1..=30 {
        short_tenure(&relay, "home", nth).await;
    }
}

/// A tenure of more than a second is no sign of a storm.
#[tokio::test]
async fn tenures_of_normal_length_do_not_count() {
    let relay = Relay::start(&["--redial-burst", "1"]).await;
    for nth in 1..=3 {
        let mut daemon = relay.daemon("home").await;
        daemon
            .expect_silence_for(Duration::from_millis(1_100))
            .await;
        daemon.cut().await;
        relay.log.wait_nth(nth, "server_released", &[]).await;
    }
}

// --- a 101 means it ---

#[tokio::test]
async fn a_phone_that_dials_on_the_daemons_101_finds_it() {
    let relay = Relay::start(&["--redial-burst", "0", "--park", "0s"]).await;
    for n in 0..200 {
        let server_id = format!("home-{n}");
        let mut daemon = relay.daemon(&server_id).await;
        let mut phone = relay.phone(&server_id).await;
        phone.send(&frame(n));
        match phone_or_daemon(&mut phone, &mut daemon).await {
            Ok(text) => assert!(text.contains(&frame(n))),
            Err(event) => panic!("round {n}: the phone got {event:?}"),
        }
    }
}

async fn phone_or_daemon(
    phone: &mut relay_tests::Phone,
    daemon: &mut relay_tests::Daemon,
) -> Result<String, Event> {
    tokio::select! {
        event = phone.recv() => Err(event),
        text = daemon.text() => Ok(text),
    }
}

#[tokio::test]
async fn a_claim_of_a_gracing_slot_has_taken_effect_at_its_101() {
    let relay = Relay::start(&["--redial-burst", "0"]).await;
    for n in 1..=30 {
        let daemon = relay.daemon("home").await;
        assert_eq!(relay.counts().await.0, 1, "round {n}");
        daemon.cut().await;
        relay
            .log
            .wait_nth(n, "server_released", &[("server_id", "home")])
            .await;
    }
}
