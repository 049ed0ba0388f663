//! One test for each defect that a review or a user found, named for what went wrong.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use relay_tests::{Relay, eventually, frame, op, soon};

const MIB: usize = 1 << 20;

/// A small frame in a large envelope is charged what it is, and must not keep the envelope.
#[tokio::test]
async fn a_queued_frame_does_not_keep_its_envelope() {
    let relay = Relay::start(&["--write-timeout", "60s"]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", Some(4096)).await;
    phone.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    let small = format!("\"{}\"", "x".repeat(2500));
    let junk = "j".repeat(240_000);
    let before = relay.resident_bytes();
    for _ in 0..400 {
        daemon.send(&format!(
            "{{\"conn_id\":\"{conn_id}\",\"junk\":\"{junk}\",\"frame\":{small}}}"
        ));
    }
    soon("all are read", daemon.expect_alive()).await;
    let grown = relay.resident_bytes().saturating_sub(before);
    assert!(
        grown < 24 * MIB,
        "400 frames of 2.5 KB cost {} MiB",
        grown / MIB
    );
}

/// What a peer names can be long; a log line isn't.
#[tokio::test]
async fn a_log_line_stays_short_whatever_a_peer_names() {
    let relay = Relay::start(&[]).await;
    let daemon = relay.daemon("home").await;
    let unknown = "n".repeat(200_000);
    daemon.send(&format!("{{\"conn_id\":\"{unknown}\",\"frame\":1}}"));
    let line = relay
        .log
        .wait("binary_forwarder_unknown_conn_id", &[])
        .await;
    assert!(line.line.len() < 1000, "{} bytes", line.line.len());
}

/// The Close of a directive reaches a phone that pings while the directive's frame is on the way.
#[tokio::test]
async fn a_directive_closes_a_slow_phone_that_pings() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    for _ in 0..5 {
        let mut phone = relay.raw_phone("home", Some(4096)).await;
        phone.send(&frame(1)).await;
        let conn_id = daemon.expect_frame(&frame(1)).await;
        let large = format!("\"{}\"", "x".repeat(200_000));
        for _ in 0..15 {
            daemon.send_to(&conn_id, &large);
        }
        daemon.close_phone(&conn_id, Some(&large), 4401);
        daemon.expect_alive().await;
        for n in 0..10_u8 {
            phone.frame(op::PING, &[n; 100]).await;
        }
        phone.expect_close(4401, "").await;
    }
}

/// A phone that was never let in has no reading side to report.
#[tokio::test]
async fn a_rejected_phone_is_not_logged_as_if_it_had_been_registered() {
    let relay = Relay::start(&["--boot-park", "0s"]).await;
    let mut phone = relay.phone("nobody").await;
    phone.expect_close(4404, "no server with that id").await;
    let mut daemon = relay.daemon("home").await;
    let mut registered = relay.phone("home").await;
    daemon.hear(&mut registered).await;
    registered.cut().await;
    relay.log.wait("phone_unregistered", &[]).await;
    let ends = relay.log.count("phone_forwarder_read_end", &[]);
    assert_eq!(ends, 1, "only the registered phone's");
}

/// Claimants that wait for a probe do not become holders because the relay stops.
#[tokio::test]
async fn a_shutdown_is_no_takeover() {
    let mut relay = Relay::start(&[]).await;
    let holder = relay.raw_daemon("home").await;
    let mut claimants = Vec::new();
    for _ in 0..5 {
        claimants.push(relay.raw_daemon("home").await);
    }
    relay.terminate();
    for claimant in &mut claimants {
        claimant.expect_close(1001, "shutting down").await;
    }
    drop(claimants);
    drop(holder);
    assert!(relay.exited().await.success());
    assert_eq!(relay.log.count("server_id_takeover", &[]), 0);
}

/// Frames of a phone that left in an outage, and that cannot be handed over, do not keep their
/// part of the budget for parked frames.
#[tokio::test]
async fn what_a_departed_phone_had_parked_is_given_back() {
    let flags = ["--park-bytes", "131072", "--redial-burst", "0"];
    let relay = Relay::start(&flags).await;
    let headers = [
        &[
            ("x-pyrycode-server", "home"),
            ("x-pyrycode-instance", "of-home"),
        ],
        relay_tests::DAEMON_HEADERS,
    ]
    .concat();
    let large = format!("\"{}\"", "x".repeat(50_000));
    for outage in 1..=5_u32 {
        // It answers no ping, so nothing proves that it read what it was sent.
        let holder = relay.raw("/v1/server", &headers, None).await;
        let mut phone = relay.phone("home").await;
        phone.send(&frame(1));
        relay
            .expect_metric(
                "pyrycode_relay_frames_forwarded_total{direction=\"phone_to_binary\"}",
                f64::from(outage),
            )
            .await;
        holder.reset();
        relay
            .log
            .wait_nth(outage as usize, "server_released", &[])
            .await;
        phone.send(&large);
        // A phone whose frame finds no room is not read any more.
        phone.expect_alive().await;
        phone.close(1000, "");
        phone.expect_echo(1000, "").await;
    }
}

/// What a holder is still owed when it breaks a rule is not forgotten: the phones whose frames it
/// does not get any more are not carried on by its next connection.
#[tokio::test]
async fn a_holder_that_breaks_a_rule_leaves_no_gap() {
    let relay = Relay::start(&["--redial-burst", "0"]).await;
    let headers = [
        &[
            ("x-pyrycode-server", "home"),
            ("x-pyrycode-instance", "of-home"),
        ],
        relay_tests::DAEMON_HEADERS,
    ]
    .concat();
    let mut holder = relay.raw("/v1/server", &headers, Some(4096)).await;
    let mut loud = relay.phone("home").await;
    let mut quiet = relay.phone("home").await;
    quiet.send("\"first\"");
    assert!(holder.text().await.contains("first"));
    loud.send("1");
    // With this the holder has answered the ping behind the quiet phone's frame.
    assert!(holder.text().await.contains("frame\":1"));
    for _ in 0..60 {
        loud.send(&format!("\"{}\"", "x".repeat(100_000)));
    }
    stuck(&relay).await;
    quiet.send("\"second\"");
    quiet.expect_alive().await;
    holder.frame(0x83, b"reserved opcode").await;
    relay.log.wait("server_released", &[]).await;
    let open = relay.descriptors();
    holder.reset();
    let ended = || {
        let ended = relay.descriptors() < open;
        async move { ended.then_some(()) }
    };
    eventually("the broken connection's end", ended).await;
    relay.expect_counts(0, 2).await;

    let mut next = relay.raw("/v1/server", &headers, None).await;
    loud.expect_close(4404, "binary reclaimed server-id").await;
    quiet.expect_close(4404, "binary reclaimed server-id").await;
    for _ in 0..2 {
        let notice = next.text().await;
        assert!(notice.contains("\"close_code\":4404"), "{notice:.80}");
    }
}

/// Waits until nothing reaches the holder any more: its socket is full.
async fn stuck(relay: &Relay) {
    let series = "pyrycode_relay_frames_forwarded_total{direction=\"phone_to_binary\"}";
    let (mut last, mut unchanged) = (None, 0);
    while unchanged < 20 {
        let now = relay.metric(series).await;
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
