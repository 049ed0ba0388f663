//! A daemon that proves by `x-pyrycode-instance` that it is the same process keeps its phones.

use relay_tests::{DAEMON_HEADERS, Daemon, Headers, Phone, Relay, frame, json_of, masked, op};

const HOME: Headers<'static> = &[("x-pyrycode-instance", "instance-of-home-1")];
const OTHER: Headers<'static> = &[("x-pyrycode-instance", "instance-of-home-2")];

/// A slot whose holder, with `headers`, has heard a phone and is away; the phone and its conn_id.
async fn away(relay: &Relay, headers: Headers<'_>) -> (Phone, String) {
    let mut daemon = relay.daemon_with("home", headers).await;
    let mut phone = relay.phone("home").await;
    let conn_id = daemon.hear(&mut phone).await;
    leave(relay, daemon, 1).await;
    (phone, conn_id)
}

/// The daemon's end, once the relay knows that everything before it was read: the pong to its last
/// ping is on the way with the first exchange, and has arrived with the second.
async fn leave(relay: &Relay, mut daemon: Daemon, nth: usize) {
    daemon.expect_alive().await;
    daemon.expect_alive().await;
    daemon.cut().await;
    relay
        .log
        .wait_nth(nth, "server_released", &[("server_id", "home")])
        .await;
}

#[tokio::test]
async fn the_same_process_gets_its_phones_and_their_frames_back() {
    let relay = Relay::start(&["--redial-burst", "0"]).await;
    let (mut phone, conn_id) = away(&relay, HOME).await;
    for outage in 1..=3 {
        for n in 0..20 {
            phone.send(&frame(n));
        }
        phone.expect_alive().await;
        relay.expect_counts(0, 1).await;
        let mut daemon = relay.daemon_with("home", HOME).await;
        for n in 0..20 {
            daemon.expect_frame_from(&conn_id, &frame(n)).await;
        }
        daemon.send_to(&conn_id, &frame(outage));
        phone.expect_frame(&frame(outage)).await;
        phone.send(&frame(99));
        daemon.expect_frame_from(&conn_id, &frame(99)).await;
        relay.expect_counts(1, 1).await;
        leave(&relay, daemon, outage + 1).await;
    }
}

/// The proof is the last that is heard of the connection, in the packet with its end.
#[tokio::test]
async fn a_proof_that_comes_with_the_end_counts() {
    // The phone is there before its first daemon.
    let relay = Relay::start(&["--boot-park", "60s"]).await;
    let headers = [&[("x-pyrycode-server", "home")], DAEMON_HEADERS, HOME].concat();
    let mut phone = relay.phone("home").await;
    for (nth, proves) in [(1, true), (2, true), (3, false)] {
        let mut daemon = relay.raw("/v1/server", &headers, None).await;
        phone.send(&frame(nth));
        let text = daemon.read().await.unwrap().unwrap();
        let proof = daemon.read().await.unwrap().unwrap();
        assert_eq!([text.first, proof.first], [op::TEXT, op::PING]);
        let mut end = masked(op::CLOSE, &1000u16.to_be_bytes());
        if proves {
            end = [masked(op::PONG, &proof.payload), end].concat();
        }
        daemon.write(&end).await.unwrap();
        relay
            .log
            .wait_nth(nth, "server_released", &[("server_id", "home")])
            .await;
    }
    let _daemon = relay.daemon_with("home", HOME).await;
    phone.expect_close(4404, "binary reclaimed server-id").await;
}

#[tokio::test]
async fn phones_that_left_meanwhile_are_noticed_after_their_frames() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon_with("home", HOME).await;
    let mut closer = relay.phone("home").await;
    let closer_id = daemon.hear(&mut closer).await;
    let mut vanisher = relay.phone("home").await;
    let vanisher_id = daemon.hear(&mut vanisher).await;
    let mut stayer = relay.phone("home").await;
    let stayer_id = daemon.hear(&mut stayer).await;
    leave(&relay, daemon, 1).await;
    for n in 0..5 {
        closer.send(&frame(n));
    }
    closer.close(1000, "");
    closer.expect_echo(1000, "").await;
    vanisher.cut().await;
    relay.expect_counts(0, 1).await;

    let mut daemon = relay.daemon_with("home", HOME).await;
    let mut of_closer = Vec::new();
    let mut of_vanisher = Vec::new();
    for _ in 0..7 {
        let envelope = daemon.envelope().await;
        match &envelope.conn_id {
            id if *id == closer_id => of_closer.push((envelope.frame, envelope.close_code)),
            id if *id == vanisher_id => of_vanisher.push(envelope.close_code),
            other => panic!("about {other}: {envelope:?}"),
        }
    }
    let mut expected: Vec<_> = (0..5).map(|n| (Some(frame(n)), None)).collect();
    expected.push((None, Some(1000)));
    assert_eq!(of_closer, expected);
    assert_eq!(of_vanisher, [Some(1001)]);
    assert_eq!(daemon.hear(&mut stayer).await, stayer_id);
    daemon.expect_silence().await;
}

/// With it, the last connection of the server-id is gone; what is known of its frames is not.
#[tokio::test]
async fn the_only_phone_leaves_meanwhile_and_its_frames_are_delivered() {
    let relay = Relay::start(&[]).await;
    let (mut phone, conn_id) = away(&relay, HOME).await;
    for n in 0..5 {
        phone.send(&frame(n));
    }
    phone.close(1000, "");
    phone.expect_echo(1000, "").await;
    relay.expect_counts(0, 0).await;

    let mut daemon = relay.daemon_with("home", HOME).await;
    for n in 0..5 {
        daemon.expect_frame_from(&conn_id, &frame(n)).await;
    }
    daemon.expect_notice(&conn_id, 1000).await;
    daemon.expect_silence().await;
}

/// A phone that dials while a resumable daemon is away is one the daemon never heard of: it is
/// parked, and the daemon hears its first frame as from any new phone.
#[tokio::test]
async fn a_phone_that_dials_during_the_outage_is_served_too() {
    let relay = Relay::start(&[]).await;
    let (mut old, old_id) = away(&relay, HOME).await;
    let mut new = relay.phone("home").await;
    new.send(&frame(1));
    new.expect_alive().await;
    let mut daemon = relay.daemon_with("home", HOME).await;
    let new_id = daemon.expect_frame(&frame(1)).await;
    assert_ne!(new_id, old_id);
    assert_eq!(daemon.hear(&mut old).await, old_id);
    assert_eq!(daemon.hear(&mut new).await, new_id);
}

/// Any other claim than the same process's evicts the old phones and drops their frames.
#[tokio::test]
async fn any_other_claim_evicts() {
    let none: Headers<'static> = &[];
    for (before, after) in [(HOME, OTHER), (HOME, none), (none, HOME), (none, none)] {
        let relay = Relay::start(&[]).await;
        let (mut phone, _) = away(&relay, before).await;
        if before == HOME {
            phone.send(&frame(1));
            phone.expect_alive().await;
        }
        let mut daemon = relay.daemon_with("home", after).await;
        phone.expect_close(4404, "binary reclaimed server-id").await;
        let mut redialled = relay.phone("home").await;
        daemon.hear(&mut redialled).await;
        daemon.expect_silence().await;
        relay.expect_counts(1, 1).await;
    }
}

/// A frame that is too large to be parked waits with its phone, and counts like what is half received.
#[tokio::test]
async fn a_large_frame_in_an_outage_is_in_the_budget() {
    let relay = Relay::start(&[]).await;
    let (phone, conn_id) = away(&relay, HOME).await;
    let queued = "pyrycode_relay_queue_bytes";
    relay.expect_metric(queued, 0.0).await;
    let large = json_of(200_000);
    phone.send(&large);
    relay.log.wait("phone_parked", &[]).await;
    assert!(relay.metric(queued).await > Some(100_000.0));
    let mut daemon = relay.daemon_with("home", HOME).await;
    daemon.expect_frame_from(&conn_id, &large).await;
    relay.expect_metric(queued, 0.0).await;

    // Nor may it wait where there is no room for it.
    let relay = Relay::start(&["--queue-bytes", "1048576"]).await;
    let mut phones = Vec::new();
    let mut daemon = relay.daemon_with("home", HOME).await;
    for _ in 0..5 {
        let mut phone = relay.phone("home").await;
        daemon.hear(&mut phone).await;
        phones.push(phone);
    }
    leave(&relay, daemon, 1).await;
    // One after the other, so that it is not what is half received. By the rule of shares, four have room.
    for (n, phone) in phones[..4].iter().enumerate() {
        phone.send(&json_of(250_000));
        relay.log.wait_nth(n + 1, "phone_parked", &[]).await;
    }
    phones[4].send(&json_of(250_000));
    let overloaded = [("err", "closed by the relay: overloaded")];
    relay
        .log
        .wait("phone_forwarder_read_end", &overloaded)
        .await;
}

#[tokio::test]
async fn an_outage_beyond_grace_ends_the_tenure() {
    let relay = Relay::start(&["--grace", "1s"]).await;
    let (mut phone, _) = away(&relay, HOME).await;
    phone.send(&frame(1));
    phone.expect_close(4404, "binary did not return").await;
    let mut daemon = relay.daemon_with("home", HOME).await;
    daemon.expect_silence().await;
}

/// Waiting in an outage is bounded like all parking, and the daemon learns of that end too; a phone
/// that sent nothing meanwhile has nothing that waits.
#[tokio::test]
async fn frames_in_a_resumable_outage_wait_at_most_the_parking_time() {
    let relay = Relay::start(&["--park", "1s"]).await;
    let mut daemon = relay.daemon_with("home", HOME).await;
    let mut sender = relay.phone("home").await;
    let sender_id = daemon.hear(&mut sender).await;
    let mut silent = relay.phone("home").await;
    let silent_id = daemon.hear(&mut silent).await;
    leave(&relay, daemon, 1).await;
    sender.send(&frame(1));
    sender.expect_close(4404, "no server with that id").await;
    silent.expect_silence().await;
    let mut daemon = relay.daemon_with("home", HOME).await;
    daemon.expect_notice(&sender_id, 4404).await;
    assert_eq!(daemon.hear(&mut silent).await, silent_id);
}

/// The holder's connection is stuck, its process redials: the same instance takes the slot over
/// and keeps the phones, but for those of which it may have lost a frame: nothing proves that the
/// stuck connection was read to its end, and a gap would break their encryption for good.
#[tokio::test]
async fn the_same_process_resumes_from_its_own_stuck_connection() {
    let relay = Relay::start(&["--probe-timeout", "1s"]).await;
    let headers = [&[("x-pyrycode-server", "home")], DAEMON_HEADERS, HOME].concat();
    let mut stuck = relay.raw("/v1/server", &headers, None).await;
    let mut silent = relay.phone("home").await;
    let mut unlucky = relay.phone("home").await;
    for n in 0..60 {
        unlucky.send(&frame(n));
    }
    relay
        .expect_metric(
            "pyrycode_relay_frames_forwarded_total{direction=\"phone_to_binary\"}",
            60.0,
        )
        .await;
    let mut daemon = relay.daemon_with("home", HOME).await;
    unlucky
        .expect_close(4404, "binary reclaimed server-id")
        .await;
    let notice = daemon.envelope().await;
    assert_eq!(notice.close_code, Some(4404), "{notice:?}");
    daemon.hear(&mut silent).await;
    stuck.expect_close(1011, "heartbeat timeout").await;
    relay.expect_counts(1, 1).await;
    let mut again = relay.phone("home").await;
    daemon.hear(&mut again).await;
}
