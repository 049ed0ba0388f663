//! What waits for a phone: bursts, phones that don't read, the bound.

use std::time::{Duration, Instant};

use relay_tests::{Daemon, Raw, Relay, frame, op};

/// A JSON string of exactly `bytes` bytes.
fn json_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// A daemon with a phone that never reads, and that phone's conn_id.
async fn with_stalled_phone(relay: &Relay) -> (Daemon, Raw, String) {
    let mut daemon = relay.daemon("home").await;
    let mut stalled = relay.raw_phone("home", Some(4096)).await;
    stalled.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    (daemon, stalled, conn_id)
}

#[tokio::test]
async fn c47_a_phone_that_never_reads_delays_nobody() {
    let relay = Relay::start(&["--write-timeout", "60s"]).await;
    let (mut daemon, mut stalled, stalled_id) = with_stalled_phone(&relay).await;
    let mut sibling = relay.phone("home").await;
    let sibling_id = daemon.hear(&mut sibling).await;
    let kilobyte = json_of(1024);
    for n in 0..500 {
        daemon.send_to(&stalled_id, &kilobyte);
        if n % 50 == 0 {
            let asked = Instant::now();
            daemon.send_to(&sibling_id, &frame(n));
            sibling.expect_frame(&frame(n)).await;
            daemon.expect_alive().await;
            assert!(
                asked.elapsed() < Duration::from_secs(2),
                "{:?}",
                asked.elapsed()
            );
        }
    }
    // All of it is there when the phone reads after all.
    for _ in 0..500 {
        let frame = stalled.recv().await;
        assert_eq!((frame.first, frame.payload.len()), (op::TEXT, 1024));
    }
}

#[tokio::test]
async fn c48_a_phones_backlog_is_bounded_and_only_that_phone_is_closed() {
    let relay = Relay::start(&["--write-timeout", "60s"]).await;
    let (mut daemon, mut stalled, stalled_id) = with_stalled_phone(&relay).await;
    let mut sibling = relay.phone("home").await;
    let sibling_id = daemon.hear(&mut sibling).await;
    let fields = [("conn_id", &*stalled_id)];
    let large = json_of(100_000);
    let mut sent = 0;
    while relay
        .log
        .count("binary_forwarder_phone_enqueue_failed", &fields)
        == 0
    {
        daemon.send_to(&stalled_id, &large);
        sent += large.len();
        assert!(sent < 64 << 20, "no bound in sight after 64 MiB");
        daemon.expect_alive().await;
    }
    assert!(sent > 4 << 20, "4 MiB fit: {sent}");
    daemon.expect_notice(&stalled_id, 1011).await;
    assert_eq!(
        stalled.close_frame().await,
        (1011, "phone backlog full".into())
    );
    daemon.send_to(&sibling_id, &frame(1));
    sibling.expect_frame(&frame(1)).await;
    relay.expect_counts(1, 1).await;
}

/// The default would have cut it after 5 s.
#[tokio::test]
async fn a_close_frame_waits_as_long_as_the_control_timeout_says() {
    let relay = Relay::start(&["--write-timeout", "60s", "--control-timeout", "60s"]).await;
    let (mut daemon, mut stalled, stalled_id) = with_stalled_phone(&relay).await;
    let large = json_of(100_000);
    let mut sent = 0;
    let fields = [("conn_id", &*stalled_id)];
    while relay
        .log
        .count("binary_forwarder_phone_enqueue_failed", &fields)
        == 0
    {
        sent += large.len();
        assert!(sent < 64 << 20, "no bound in sight after 64 MiB");
        daemon.send_to(&stalled_id, &large);
        daemon.expect_alive().await;
    }
    daemon.expect_notice(&stalled_id, 1011).await;
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    let close = (1011, "phone backlog full".into());
    assert_eq!(stalled.close_frame().await, close);
}

#[tokio::test]
async fn c49_a_burst_of_small_frames_arrives_in_order() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.phone("home").await;
    let conn_id = daemon.hear(&mut phone).await;
    for n in 0..300 {
        daemon.send_to(&conn_id, &frame(n));
    }
    for n in 0..300 {
        phone.expect_frame(&frame(n)).await;
    }
}

/// Beyond its first 64 KiB an outbox draws from a budget that all share, and must leave as much as it holds.
#[tokio::test]
async fn no_queue_gets_more_of_the_common_budget_than_it_leaves() {
    const MIB: usize = 1 << 20;
    let relay = Relay::start(&["--write-timeout", "60s", "--queue-bytes", "2097152"]).await;
    let mut daemon = relay.daemon("home").await;
    let mut hogs = Vec::new();
    for _ in 0..4 {
        let mut hog = relay.raw_phone("home", Some(4096)).await;
        hog.send(&frame(1)).await;
        hogs.push((daemon.expect_frame(&frame(1)).await, hog));
    }
    let large = json_of(100_000);
    let before = relay.resident_bytes();
    for (conn_id, _) in &hogs {
        // Its own limit of 4 MiB and the sockets' buffers would have taken 6.5 MB and more.
        for _ in 0..55 {
            daemon.send_to(conn_id, &large);
            daemon.expect_alive().await;
        }
        daemon.expect_notice(conn_id, 1011).await;
    }
    // One that reads gets bursts as large as many messages, whatever the others did: half of what they leave, which is what
    // each of them is still being written.
    let mut newcomer = relay.phone("home").await;
    let conn_id = daemon.hear(&mut newcomer).await;
    for _ in 0..4 {
        for _ in 0..5 {
            daemon.send_to(&conn_id, &large);
        }
        for _ in 0..5 {
            newcomer.expect_frame(&large).await;
        }
    }
    relay.expect_resident_at_most(before + 16 * MIB).await;
}
