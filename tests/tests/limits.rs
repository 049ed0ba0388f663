//! How large, how slow and how deep a message may be.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use relay_tests::{Relay, data_envelope, frame, json_of, masked, op};

/// The largest message the relay takes.
const MESSAGE_LIMIT: usize = 262_144;

#[tokio::test]
async fn c45_the_message_limit_is_exact_on_both_legs_and_sums_fragments() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    let largest = json_of(MESSAGE_LIMIT);
    phone.send(&largest);
    daemon.expect_frame_from(&conn_id, &largest).await;
    phone.send(&json_of(MESSAGE_LIMIT + 1));
    phone.expect_close(1009, "message too big").await;
    daemon.expect_notice(&conn_id, 1009).await;

    let (start, rest) = largest.as_bytes().split_at(100_000);
    for (last, fits) in [(rest.to_vec(), true), ([rest, b" "].concat(), false)] {
        let mut phone = relay.raw_phone("home", None).await;
        phone.frame(op::TEXT_START, start).await;
        phone.frame(op::LAST, &last).await;
        if fits {
            daemon.expect_frame(&largest).await;
            phone.frame(op::CLOSE, &1000u16.to_be_bytes()).await;
            assert_eq!(daemon.envelope().await.close_code, Some(1000));
        } else {
            phone.expect_close(1009, "message too big").await;
            assert_eq!(daemon.envelope().await.close_code, Some(1009));
        }
    }

    let mut phone = relay.phone("home").await;
    let conn_id = daemon.hear(&mut phone).await;
    let largest = json_of(MESSAGE_LIMIT - data_envelope(&conn_id, "").len());
    daemon.send_to(&conn_id, &largest);
    phone.expect_frame(&largest).await;
    daemon.send(&(data_envelope(&conn_id, &largest) + " "));
    daemon.expect_close(1009, "message too big").await;
    relay
        .log
        .wait("server_released", &[("server_id", "home")])
        .await;
}

/// Ours says why: 1008 `message took too long`, where the reference drops the TCP connection.
#[tokio::test]
async fn c46_a_message_has_a_deadline_but_an_idle_connection_has_none() {
    let relay = Relay::start(&["--message-timeout", "1s", "--ping-interval", "200ms"]).await;
    let (mut daemon, mut idle, _) = relay.pair("home").await;
    let mut phone = relay.raw_phone("home", None).await;
    phone.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    let began = Instant::now();
    phone.frame(op::TEXT_START, b"{\"a\":").await;
    let mut pings = 0;
    let close = loop {
        let frame = phone.read().await.unwrap().expect("a frame, not the end");
        if frame.first != op::PING {
            break frame;
        }
        pings += 1;
        phone.frame(op::PONG, &frame.payload).await;
        phone.frame(op::MORE, b" ").await;
    };
    assert_eq!(close.first, op::CLOSE);
    assert_eq!(
        close.payload,
        [&1008u16.to_be_bytes()[..], b"message took too long"].concat()
    );
    assert!(pings >= 2, "it was alive all the time: {pings} pings");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(950),
        "the whole deadline was granted: {took:?}"
    );
    phone.frame(op::CLOSE, &1008u16.to_be_bytes()).await;
    phone.expect_end().await;
    daemon.expect_notice(&conn_id, 1008).await;
    // The sibling has sent nothing for longer than the deadline.
    idle.expect_alive().await;
}

/// Nesting costs no stack: 10,001 levels are refused, and so are as many as a message can hold.
#[tokio::test]
async fn nesting_is_bounded_on_both_legs() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut sibling, sibling_id) = relay.pair("home").await;
    for depth in [10_001, 262_000] {
        let mut phone = relay.phone("home").await;
        let conn_id = daemon.hear(&mut phone).await;
        let deep = "[".repeat(depth);
        phone.send(&deep);
        phone.expect_close(1007, "frame is not valid JSON").await;
        daemon.expect_notice(&conn_id, 1007).await;
        daemon.send(&data_envelope(&sibling_id, &deep));
        let closed = "[".repeat(depth / 3) + &"]".repeat(depth / 3);
        daemon.send(&data_envelope(&sibling_id, &closed));
    }
    daemon.send_to(&sibling_id, &frame(1));
    // 10,001 / 3 levels are fine; the rest was dropped.
    assert_eq!(sibling.text().await.len(), 2 * (10_001 / 3));
    sibling.expect_frame(&frame(1)).await;
}

/// A connection that stays HTTP has a time of its own, whatever the time for its head.
#[tokio::test]
async fn a_request_that_never_ends_is_cut_after_the_http_timeout() {
    let relay = Relay::start(&["--header-timeout", "120s", "--http-timeout", "1s"]).await;
    let mut stream = relay.connect().await;
    let head = b"GET /healthz HTTP/1.1\r\nHost: a\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head)
        .await
        .unwrap();
    let mut rest = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    relay_tests::soon("the end of the connection", end)
        .await
        .ok();
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
}

/// What peers have sent of messages that never end counts in the common budget of queued bytes.
#[tokio::test]
async fn messages_that_are_never_complete_have_a_budget() {
    let relay = Relay::start(&["--queue-bytes", "1048576"]).await;
    let mut turned_away = 0;
    let mut held = Vec::new();
    for n in 0..40 {
        let mut daemon = relay.raw_daemon(&format!("id-{n}")).await;
        // The header announces the largest message there may be; most of it follows.
        let beginning = &masked(op::TEXT, &[b'x'; MESSAGE_LIMIT])[..220_000];
        daemon.write(beginning).await.unwrap();
        held.push(daemon);
    }
    for daemon in &mut held {
        let close = tokio::time::timeout(Duration::from_millis(200), daemon.close_frame()).await;
        if let Ok(close) = close {
            assert_eq!(close, (1013, "relay is overloaded".into()));
            turned_away += 1;
        }
    }
    assert!((20..40).contains(&turned_away), "{turned_away}");
    // Room comes back with the first that leaves.
    drop(held);
    let (mut daemon, phone, conn_id) = relay.pair("home").await;
    let large = json_of(200_000);
    phone.send(&large);
    daemon.expect_frame_from(&conn_id, &large).await;
}

/// The largest number there is, for want of a word for no limit.
#[tokio::test]
async fn limits_may_be_as_high_as_they_can_be_written() {
    let most = usize::MAX.to_string();
    let connections = i64::MAX.to_string();
    let mut args = vec!["--max-connections", &connections];
    for limit in [
        "--phones-per-server",
        "--message-limit",
        "--outbox-limit",
        "--queue-bytes",
        "--park-bytes",
        "--park-phone-bytes",
        "--max-handshakes",
        "--max-connections-per-ip",
    ] {
        args.extend([limit, &*most]);
    }
    let relay = Relay::start(&args).await;
    let (mut daemon, phone, conn_id) = relay.pair("home").await;
    let large = json_of(MESSAGE_LIMIT + 1);
    phone.send(&large);
    daemon.expect_frame_from(&conn_id, &large).await;
}
