//! Pings both ways.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use relay_tests::{Event, Peer, Relay, op};

/// The payloads of the next `count` pings.
async fn pings(peer: &mut Peer, count: usize) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        match peer.next().await {
            Event::Ping(payload) => payloads.push(payload),
            other => panic!("expected only pings, got {other:?}"),
        }
    }
    payloads
}

#[tokio::test]
async fn c57_an_idle_peer_that_answers_pings_stays() {
    let relay = Relay::start(&["--ping-interval", "200ms", "--pong-timeout", "2s"]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.phone("home").await;
    let began = Instant::now();
    let (of_daemon, of_phone) = tokio::join!(pings(&mut daemon, 15), pings(&mut phone, 15));
    let took = began.elapsed();
    // 15 intervals are 3 s, longer than the timeout; the upper bound leaves room for a busy machine.
    assert!(
        took >= Duration::from_millis(2_500),
        "pings come too often: {took:?}"
    );
    assert!(
        took < Duration::from_secs(12),
        "pings come too rarely: {took:?}"
    );
    for payloads in [of_daemon, of_phone] {
        assert!(
            payloads.windows(2).all(|pair| pair[0] != pair[1]),
            "each ping is told apart"
        );
    }
    relay.expect_counts(1, 1).await;
}

#[tokio::test]
async fn c58_a_peer_that_never_answers_is_closed() {
    let relay = Relay::start(&["--ping-interval", "300ms", "--pong-timeout", "500ms"]).await;
    let mut daemon = relay.raw_daemon("home").await;
    let mut silent = relay.raw_phone("home", None).await;
    relay
        .log
        .wait("phone_registered", &[("server_id", "home")])
        .await;
    let mut witness = relay.phone("home").await;
    relay
        .log
        .wait("server_released", &[("server_id", "home")])
        .await;
    relay.expect_counts(0, 1).await;
    daemon.expect_close(1011, "heartbeat timeout").await;
    silent.expect_close(1011, "heartbeat timeout").await;
    witness.expect_silence().await;
}

#[tokio::test]
async fn data_is_no_substitute_for_a_pong() {
    let relay = Relay::start(&["--ping-interval", "300ms", "--pong-timeout", "500ms"]).await;
    let _daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", None).await;
    let close = loop {
        phone.send("{}").await;
        // An unsolicited pong is ignored, also one that would answer a probe or a proof.
        let number = b"4294967295 is not your number";
        for pong in [&number[..], b"p0", b"p1", b"s0", b"s1", b"\xff"] {
            phone.frame(op::PONG, pong).await;
        }
        let frame = phone.read().await.unwrap().expect("a frame, not the end");
        if frame.first == op::CLOSE {
            break frame;
        }
    };
    assert_eq!(
        close.payload,
        [&1011u16.to_be_bytes()[..], b"heartbeat timeout"].concat()
    );
}

#[tokio::test]
async fn c59_a_peers_ping_is_answered_with_its_payload() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.phone("home").await;
    let longest = [b'x'; 125];
    for payload in [&b""[..], b"1", b"\x00\xff", &longest] {
        daemon.ping(payload);
        assert_eq!(daemon.pong().await, payload);
        phone.ping(payload);
        assert_eq!(phone.pong().await, payload);
    }
}
