//! A phone whose daemon is about to return waits instead of being turned away, within bounds.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use relay_tests::{Daemon, Phone, Raw, Relay, frame, masked, op};

/// A relay whose slot "home" is in grace.
async fn with_gracing_slot(flags: &[&str]) -> Relay {
    let relay = Relay::start(flags).await;
    release(&relay, relay.daemon("home").await).await;
    relay
}

async fn release(relay: &Relay, daemon: Daemon) {
    daemon.cut().await;
    relay
        .log
        .wait("server_released", &[("server_id", "home")])
        .await;
}

/// Lets the relay read everything the phone sent before.
async fn settle(phones: &mut [&mut Phone]) {
    for phone in phones {
        phone.expect_alive().await;
    }
}

#[tokio::test]
async fn frames_sent_in_grace_reach_the_returning_daemon_in_order() {
    let relay = with_gracing_slot(&[]).await;
    let mut first = relay.phone("home").await;
    let mut second = relay.phone("home").await;
    for n in 0..50 {
        first.send(&frame(n));
        second.send(&frame(1_000 + n));
    }
    settle(&mut [&mut first, &mut second]).await;
    relay.expect_counts(0, 2).await;

    let mut daemon = relay.daemon("home").await;
    let mut next = std::collections::BTreeMap::new();
    for _ in 0..100 {
        let envelope = daemon.envelope().await;
        let received = envelope.frame.unwrap();
        let list = next.entry(envelope.conn_id).or_insert_with(Vec::new);
        list.push(received);
    }
    let mut lists: Vec<_> = next.values().cloned().collect();
    lists.sort();
    let sent = |base: usize| (0..50).map(|n| frame(base + n)).collect::<Vec<_>>();
    assert_eq!(lists, [sent(0), sent(1_000)]);
    for (conn_id, frames) in &next {
        let phone = if frames[0] == frame(0) {
            &mut first
        } else {
            &mut second
        };
        daemon.send_to(conn_id, &frame(7));
        phone.expect_frame(&frame(7)).await;
    }
    first.send(&frame(50));
    daemon.expect_frame(&frame(50)).await;
    relay.expect_counts(1, 2).await;
}

#[tokio::test]
async fn a_phone_the_old_daemon_never_heard_of_is_kept_at_reclaim() {
    let relay = Relay::start(&[]).await;
    let mut old = relay.daemon("home").await;
    let mut heard = relay.phone("home").await;
    old.hear(&mut heard).await;
    let mut unheard = relay.phone("home").await;
    relay.expect_counts(1, 2).await;
    release(&relay, old).await;
    unheard.send(&frame(1));
    settle(&mut [&mut unheard]).await;
    let mut new = relay.daemon("home").await;
    heard.expect_close(4404, "binary reclaimed server-id").await;
    let conn_id = new.expect_frame(&frame(1)).await;
    new.send_to(&conn_id, &frame(2));
    unheard.expect_frame(&frame(2)).await;

    // By now the new daemon has heard of it: at the next reclaim it goes.
    release_again(&relay, new).await;
    let _third = relay.daemon("home").await;
    unheard
        .expect_close(4404, "binary reclaimed server-id")
        .await;
}

async fn release_again(relay: &Relay, daemon: Daemon) {
    daemon.cut().await;
    relay
        .log
        .wait_nth(2, "server_released", &[("server_id", "home")])
        .await;
}

/// A parked phone without a frame has told nobody anything: it is kept at every reclaim.
#[tokio::test]
async fn a_silent_phone_is_kept_through_several_reclaims() {
    let relay = with_gracing_slot(&[]).await;
    let mut silent = relay.phone("home").await;
    let second = relay.daemon("home").await;
    release_again(&relay, second).await;
    let mut third = relay.daemon("home").await;
    third.hear(&mut silent).await;
    relay.expect_counts(1, 1).await;
}

#[tokio::test]
async fn a_phone_that_leaves_while_parked_is_never_mentioned() {
    let relay = with_gracing_slot(&[]).await;
    let mut leaver = relay.phone("home").await;
    leaver.send(&frame(1));
    settle(&mut [&mut leaver]).await;
    let vanisher = relay.phone("home").await;
    vanisher.send(&frame(2));
    let mut stayer = relay.phone("home").await;
    relay.expect_counts(0, 3).await;
    leaver.close(1000, "");
    vanisher.cut().await;
    relay.expect_counts(0, 1).await;
    let mut daemon = relay.daemon("home").await;
    daemon.hear(&mut stayer).await;
    daemon.expect_silence().await;
}

#[tokio::test]
async fn right_after_the_start_a_phone_waits_for_its_daemon() {
    let relay = Relay::start(&["--boot-park", "30s"]).await;
    let mut phone = relay.phone("home").await;
    for n in 0..10 {
        phone.send(&frame(n));
    }
    relay.expect_counts(0, 1).await;
    let mut daemon = relay.daemon("home").await;
    let conn_id = daemon.expect_frame(&frame(0)).await;
    for n in 1..10 {
        daemon.expect_frame_from(&conn_id, &frame(n)).await;
    }
    daemon.send_to(&conn_id, &frame(10));
    phone.expect_frame(&frame(10)).await;
    relay.expect_counts(1, 1).await;
}

#[tokio::test]
async fn after_the_boot_window_an_empty_slot_is_4404_at_once() {
    let relay = Relay::start(&["--boot-park", "1s", "--park", "60s"]).await;
    // Not a wait for something: the window is to be over.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut phone = relay.phone("home").await;
    phone.expect_close(4404, "no server with that id").await;
}

#[tokio::test]
async fn parked_phones_at_boot_count_against_the_cap() {
    let relay = Relay::start(&["--boot-park", "30s", "--phones-per-server", "2"]).await;
    let _parked = [relay.phone("home").await, relay.phone("home").await];
    relay.expect_counts(0, 2).await;
    let mut third = relay.phone("home").await;
    third
        .expect_close(4429, "too many phones for server-id")
        .await;
}

#[tokio::test]
async fn parked_phones_count_against_the_connection_caps() {
    for (cap, status) in [
        ("--max-connections", 503),
        ("--max-connections-per-ip", 429),
    ] {
        let relay = Relay::start(&["--boot-park", "30s", cap, "2"]).await;
        let mut parked = relay.phone("home").await;
        let _other = relay.phone("elsewhere").await;
        relay.expect_counts(0, 2).await;
        let refused = relay
            .try_phone("home")
            .await
            .err()
            .expect("a refusal before the upgrade");
        assert_eq!(refused.status, status, "{cap}");
        parked.expect_alive().await;
    }
}

#[tokio::test]
async fn nobody_is_parked_longer_than_the_bound() {
    for boot in ["0s", "30s"] {
        let relay = Relay::start(&["--park", "1s", "--boot-park", boot]).await;
        if boot == "0s" {
            release(&relay, relay.daemon("home").await).await;
        }
        let began = Instant::now();
        let mut silent = relay.phone("home").await;
        let mut sender = relay.phone("home").await;
        sender.send(&frame(1));
        silent.expect_close(4404, "no server with that id").await;
        sender.expect_close(4404, "no server with that id").await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(950), "{took:?}");
        assert!(took < Duration::from_secs(8), "{took:?}");
        relay.expect_counts(0, 0).await;
        // Their frames went with them.
        let mut daemon = relay.daemon("home").await;
        daemon.expect_silence().await;
    }
}

/// An unheard phone waits from the moment its daemon left, not from its own registration.
#[tokio::test]
async fn a_silent_phone_of_a_live_slot_is_parked_when_the_daemon_leaves() {
    let relay = Relay::start(&["--park", "1s"]).await;
    let daemon = relay.daemon("home").await;
    let mut silent = relay.phone("home").await;
    silent
        .expect_silence_for(Duration::from_millis(1_200))
        .await;
    release(&relay, daemon).await;
    silent.expect_silence().await;
    silent.expect_close(4404, "no server with that id").await;
}

#[tokio::test]
async fn parking_can_be_turned_off() {
    let relay = Relay::start(&["--park", "0s", "--boot-park", "30s"]).await;
    let mut early = relay.phone("home").await;
    early.expect_close(4404, "no server with that id").await;

    release(&relay, relay.daemon("home").await).await;
    let mut sender = relay.phone("home").await;
    let mut silent = relay.phone("home").await;
    relay.expect_counts(0, 2).await;
    sender.send(&frame(1));
    sender.expect_close(4404, "binary is away").await;
    let mut returned = relay.daemon("home").await;
    silent
        .expect_close(4404, "binary reclaimed server-id")
        .await;
    returned.expect_silence().await;
}

/// Sends numbered frames of about a kilobyte until the relay stops reading; how many were written
/// whole, and what remains of the last.
async fn send_until_refused(phone: &mut Raw, most: usize) -> (usize, Vec<u8>) {
    for n in 0..most {
        let bytes = masked(op::TEXT, kilobyte(n).as_bytes());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let wrote = tokio::time::timeout(Duration::from_secs(1), phone.write_some(rest)).await;
            match wrote {
                Ok(written) => rest = &rest[written.unwrap()..],
                Err(_) => return (n, rest.to_vec()),
            }
        }
    }
    panic!("the relay read {most} KiB of a parked phone");
}

fn kilobyte(n: usize) -> String {
    format!("[{n},\"{}\"]", "x".repeat(1_000))
}

/// That a parked phone is not read beyond the bound that `flags` set, and loses nothing by it.
async fn assert_bounded(flags: &[&str], kib: usize) {
    let flags = [flags, &["--park", "60s", "--grace", "120s"]].concat();
    let relay = with_gracing_slot(&flags).await;
    // Both sockets' buffers take a few MiB beyond the bound.
    let mut phone = relay.raw_phone("home", None).await;
    let (whole, rest) = send_until_refused(&mut phone, 24 * 1024).await;
    assert!(whole > kib, "only {whole} KiB of {kib} were taken");
    let resident = relay.resident_bytes();
    let mut daemon = relay.daemon("home").await;
    let reader = tokio::spawn(async move {
        for n in 0..=whole {
            daemon.expect_frame(&kilobyte(n)).await;
        }
        daemon
    });
    phone.write(&rest).await.unwrap();
    let mut daemon = reader.await.unwrap();
    phone.send("\"after\"").await;
    daemon.expect_frame("\"after\"").await;
    assert!(resident < 64 << 20, "resident: {} MiB", resident >> 20);
}

#[tokio::test]
async fn a_parked_phone_is_not_read_beyond_its_own_bound() {
    assert_bounded(
        &["--park-phone-bytes", "65536", "--park-bytes", "100000000"],
        64,
    )
    .await;
}

#[tokio::test]
async fn a_parked_phone_is_not_read_beyond_the_total_bound() {
    assert_bounded(
        &["--park-phone-bytes", "100000000", "--park-bytes", "65536"],
        64,
    )
    .await;
}

/// A single frame larger than a phone's parking bound isn't lost: it waits, and so does the phone.
#[tokio::test]
async fn a_frame_beyond_the_bound_waits_for_the_daemon() {
    let relay = with_gracing_slot(&["--park-phone-bytes", "65536"]).await;
    let phone = relay.phone("home").await;
    let large = format!("\"{}\"", "x".repeat(200_000));
    phone.send(&frame(1));
    phone.send(&large);
    phone.send(&frame(2));
    relay.expect_counts(0, 1).await;
    let mut daemon = relay.daemon("home").await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    daemon.expect_frame_from(&conn_id, &large).await;
    daemon.expect_frame_from(&conn_id, &frame(2)).await;
}

/// The room that parked frames took is there again for the next phones.
#[tokio::test]
async fn the_total_bound_is_given_back() {
    let flags = [
        "--park-phone-bytes",
        "65536",
        "--park-bytes",
        "65536",
        "--redial-burst",
        "0",
    ];
    let relay = with_gracing_slot(&flags).await;
    let large = format!("\"{}\"", "x".repeat(50_000));
    for round in 1..6 {
        let mut phone = relay.phone("home").await;
        phone.send(&large);
        // An answered ping shows that the frame before it was parked.
        settle(&mut [&mut phone]).await;
        match round % 2 {
            0 => {
                phone.cut().await;
                relay.expect_counts(0, 0).await;
            }
            _ => {
                let mut daemon = relay.daemon("home").await;
                let conn_id = daemon.expect_frame(&large).await;
                phone.close(1000, "");
                daemon.expect_notice(&conn_id, 1000).await;
                daemon.cut().await;
                relay.expect_counts(0, 0).await;
            }
        }
    }
}
