//! Close directives, close notices, and protocol errors.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use relay_tests::{Daemon, Event, Raw, Relay, directive, frame, json_of, masked, op};

/// That no notice precedes the next phone's frame.
async fn assert_nothing_pending(relay: &Relay, daemon: &mut Daemon) {
    let mut marker = relay.phone("home").await;
    daemon.hear(&mut marker).await;
    daemon.expect_silence().await;
}

#[tokio::test]
async fn c50_a_directive_delivers_its_frame_then_closes_without_a_notice() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    daemon.close_phone(&conn_id, Some(&frame(1)), 4401);
    phone.expect_frame(&frame(1)).await;
    phone.expect_close(4401, "").await;
    relay.expect_counts(1, 0).await;
    let fields = [("conn_id", &*conn_id), ("close_code", "4401")];
    relay
        .log
        .wait("binary_forwarder_phone_closed", &fields)
        .await;
    assert_nothing_pending(&relay, &mut daemon).await;
}

#[tokio::test]
async fn c51_a_directive_without_a_frame_just_closes() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    for code in [
        4401, 4408, 4410, 4412, 4413, 4421, 4426, 1000, 1011, 3000, 4999,
    ] {
        let mut phone = relay.phone("home").await;
        let conn_id = daemon.hear(&mut phone).await;
        match code % 2 {
            0 => daemon.close_phone(&conn_id, None, code),
            _ => daemon.send(&format!(r#"{{"conn_id":"{conn_id}","close_code":{code}}}"#)),
        }
        phone.expect_close(code, "").await;
    }
    relay.expect_counts(1, 0).await;
    daemon.expect_silence().await;
}

#[tokio::test]
async fn a_directive_with_a_code_that_cannot_be_sent_drops_the_connection() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    for code in [1, 999, 1004, 1006, 1015, 2999, 5000, 65_535] {
        let mut phone = relay.phone("home").await;
        let conn_id = daemon.hear(&mut phone).await;
        daemon.send(&directive(&conn_id, Some(&frame(1)), code));
        phone.expect_frame(&frame(1)).await;
        match phone.recv().await {
            Event::Broken(_) => {}
            other => panic!("{code}: {other:?}"),
        }
    }
    let mut phone = relay.phone("home").await;
    let conn_id = daemon.hear(&mut phone).await;
    daemon.close_phone(&conn_id, None, 1005);
    phone.expect_close(1005, "").await;
    relay.expect_counts(1, 0).await;
}

#[tokio::test]
async fn c52_queued_frames_precede_the_close() {
    let relay = Relay::start(&[]).await;
    let (daemon, mut phone, conn_id) = relay.pair("home").await;
    let large = format!("\"{}\"", "x".repeat(10_000));
    for n in 0..100 {
        daemon.send_to(&conn_id, &frame(n));
        daemon.send_to(&conn_id, &large);
    }
    daemon.close_phone(&conn_id, Some(&frame(100)), 4410);
    daemon.send_to(&conn_id, &frame(101));
    for n in 0..100 {
        phone.expect_frame(&frame(n)).await;
        phone.expect_frame(&large).await;
    }
    phone.expect_frame(&frame(100)).await;
    phone.expect_close(4410, "").await;
}

#[tokio::test]
async fn c53_a_phones_close_is_noticed_once_after_its_last_frame() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    for n in 0..50 {
        phone.send(&frame(n));
    }
    phone.close(1000, "done");
    for n in 0..50 {
        daemon.expect_frame_from(&conn_id, &frame(n)).await;
    }
    let notice = daemon.text().await;
    assert_eq!(
        notice,
        format!(r#"{{"conn_id":"{conn_id}","close_code":1000}}"#)
    );
    phone.expect_echo(1000, "done").await;
    assert_nothing_pending(&relay, &mut daemon).await;
    relay
        .log
        .wait("phone_unregistered", &[("conn_id", &conn_id)])
        .await;

    // A phone that never sent a frame is noticed too, and a close without a code is 1005.
    let silent = relay.phone("home").await;
    silent.close_empty();
    let mut codes = [
        daemon.envelope().await.close_code,
        daemon.envelope().await.close_code,
    ];
    codes.sort_unstable();
    assert_eq!(
        codes,
        [Some(1001), Some(1005)],
        "the marker, which was dropped, and the silent one"
    );
}

#[tokio::test]
async fn c54_a_phone_that_is_cut_is_noticed_as_1001() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, phone, conn_id) = relay.pair("home").await;
    phone.cut().await;
    daemon.expect_notice(&conn_id, 1001).await;

    let mut phone = relay.raw_phone("home", None).await;
    phone.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    phone.reset();
    daemon.expect_notice(&conn_id, 1001).await;
    relay.expect_counts(1, 0).await;
}

/// A peer that sends and then ends the stream without a close frame has said all it said.
#[tokio::test]
async fn what_was_sent_before_a_bare_fin_is_delivered() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", None).await;
    for n in 0..200 {
        phone.send(&frame(n)).await;
    }
    phone.half_close().await;
    let conn_id = daemon.expect_frame(&frame(0)).await;
    for n in 1..200 {
        daemon.expect_frame_from(&conn_id, &frame(n)).await;
    }
    daemon.expect_notice(&conn_id, 1001).await;
    relay.expect_counts(1, 0).await;
}

/// A phone that reads nothing, and for which much more waits than the kernels take; and its conn_id.
async fn behind_a_backlog(relay: &Relay, daemon: &mut Daemon) -> (Raw, String) {
    let mut phone = relay.raw_phone("home", Some(4096)).await;
    phone.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    while relay.metric("pyrycode_relay_queue_bytes").await < Some(1_000_000.0) {
        daemon.send_to(&conn_id, &json_of(200_000));
        daemon.expect_alive().await;
    }
    (phone, conn_id)
}

/// Nor does it cost a slow reader the close that is due: an echo, or what it did wrong.
#[tokio::test]
async fn a_fin_behind_the_last_word_does_not_hide_the_close() {
    let relay = Relay::start(&["--control-timeout", "60s", "--write-timeout", "60s"]).await;
    let queued = "pyrycode_relay_queue_bytes";
    let daemon = &mut relay.daemon("home").await;
    let words = [
        (masked(op::CLOSE, &4000u16.to_be_bytes()), 4000),
        (masked(op::TEXT, b"no JSON"), 1007),
        (masked(0x83, b""), 1002),
    ];
    let alerts = [true, false, true];
    for ((last_word, code), alert) in words.into_iter().zip(alerts) {
        let mut phone = relay.raw_phone("home", Some(4096)).await;
        phone.send(&frame(1)).await;
        let conn_id = daemon.expect_frame(&frame(1)).await;
        // More than the kernels take.
        relay.expect_metric(queued, 0.0).await;
        while relay.metric(queued).await == Some(0.0) {
            daemon.send_to(&conn_id, &json_of(200_000));
            daemon.expect_alive().await;
        }
        phone.write(&last_word).await.unwrap();
        match alert {
            true => phone.half_close().await,
            false => phone.bare_fin(),
        }
        daemon.expect_notice(&conn_id, code.into()).await;
        daemon.expect_silence().await;
        assert_eq!(phone.close_frame().await.0, code);
        phone.expect_end().await;
    }
}

/// Nor a close that its daemon has asked for, behind what is queued.
#[tokio::test]
async fn a_fin_does_not_hide_a_directive_that_waits() {
    let relay = Relay::start(&["--control-timeout", "60s", "--write-timeout", "60s"]).await;
    let mut daemon = relay.daemon("home").await;
    let (mut phone, conn_id) = behind_a_backlog(&relay, &mut daemon).await;
    daemon.close_phone(&conn_id, Some(&frame(2)), 4401);
    daemon.expect_alive().await;
    phone.half_close().await;
    let last = loop {
        let message = phone.recv().await;
        assert_eq!(message.first, op::TEXT);
        if message.payload.len() < 100_000 {
            break message;
        }
    };
    assert_eq!(last.payload, frame(2).into_bytes());
    assert_eq!(phone.close_frame().await.0, 4401);
    phone.expect_end().await;
    daemon.expect_silence().await;
    relay.expect_counts(1, 0).await;
}

/// The daemon said so first, and hears of no other end: it is not what the phone does wrong while that waits that counts.
#[tokio::test]
async fn a_directive_that_waits_is_not_overtaken_by_a_fault_of_the_phone() {
    let relay = Relay::start(&["--control-timeout", "60s", "--write-timeout", "60s"]).await;
    let mut daemon = relay.daemon("home").await;
    let (mut phone, conn_id) = behind_a_backlog(&relay, &mut daemon).await;
    daemon.close_phone(&conn_id, Some(&frame(2)), 4401);
    daemon.expect_alive().await;
    phone.write(&masked(op::TEXT, b"no JSON")).await.unwrap();
    let fields = [("conn_id", &*conn_id)];
    relay.log.wait("phone_forwarder_marshal_err", &fields).await;
    let last = loop {
        match phone.recv().await {
            message if message.first == op::TEXT && message.payload.len() < 100_000 => {
                break message;
            }
            message => assert_eq!(message.first, op::TEXT),
        }
    };
    assert_eq!(last.payload, frame(2).into_bytes());
    phone.expect_close(4401, "").await;
    daemon.expect_silence().await;
    relay.expect_counts(1, 0).await;
}

/// Nor by the Close for it, where the directive's code is one that no Close may carry.
#[tokio::test]
async fn a_directive_that_waits_without_a_close_is_not_overtaken_either() {
    let relay = Relay::start(&["--control-timeout", "60s", "--write-timeout", "60s"]).await;
    let mut daemon = relay.daemon("home").await;
    let (mut phone, conn_id) = behind_a_backlog(&relay, &mut daemon).await;
    daemon.close_phone(&conn_id, Some(&frame(2)), 999);
    daemon.expect_alive().await;
    phone.write(&masked(op::TEXT, b"no JSON")).await.unwrap();
    let fields = [("conn_id", &*conn_id)];
    relay.log.wait("phone_forwarder_marshal_err", &fields).await;
    // The end may be a reset: what it said was not all read.
    let mut last = Vec::new();
    while let Ok(Some(message)) = phone.read().await {
        assert_ne!(message.first, op::CLOSE, "{message:?}");
        last = message.payload;
    }
    assert!(!last.is_empty());
    daemon.expect_silence().await;
    relay.expect_counts(1, 0).await;
}

#[tokio::test]
async fn c55_a_rejected_phone_is_never_noticed() {
    let relay = Relay::start(&["--phones-per-server", "1"]).await;
    let mut early = relay.phone("home").await;
    early.expect_close(4404, "no server with that id").await;
    let (mut daemon, mut phone, _) = relay.pair("home").await;
    let mut extra = relay.phone("home").await;
    extra
        .expect_close(4429, "too many phones for server-id")
        .await;
    daemon.hear(&mut phone).await;
    daemon.expect_silence().await;
}

#[tokio::test]
async fn c56_a_directive_for_a_phone_that_left_is_a_logged_no_op() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, phone, conn_id) = relay.pair("home").await;
    phone.close(1000, "");
    daemon.expect_notice(&conn_id, 1000).await;
    relay.expect_counts(1, 0).await;
    daemon.close_phone(&conn_id, Some(&frame(1)), 4421);
    relay
        .log
        .wait("binary_forwarder_unknown_conn_id", &[("conn_id", &conn_id)])
        .await;
    assert_nothing_pending(&relay, &mut daemon).await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_are_closed_1002() {
    // The rest of such a stream means nothing, so the peer's own Close may not be recognised.
    let relay = Relay::start(&["--close-timeout", "500ms"]).await;
    let (mut daemon, _sibling, _) = relay.pair("home").await;
    let bad: &[(&str, Vec<u8>)] = &[
        ("a reserved opcode", masked(0x83, b"")),
        ("RSV1 without an extension", masked(0xc1, b"{}")),
        ("RSV3", masked(0x91, b"{}")),
        ("a fragmented ping", masked(0x09, b"")),
        ("a ping of 126 bytes", masked(op::PING, &[0; 126])),
        ("a continuation of nothing", masked(op::LAST, b"{}")),
        (
            "a message inside another",
            [masked(0x01, b"{"), masked(op::TEXT, b"{}")].concat(),
        ),
        ("a close payload of one byte", masked(op::CLOSE, &[3])),
        (
            "a close code that may not be sent",
            masked(op::CLOSE, &1005u16.to_be_bytes()),
        ),
        ("a frame without a mask", vec![op::TEXT, 2, b'{', b'}']),
    ];
    for (what, bytes) in bad {
        let mut phone = relay.raw_phone("home", None).await;
        phone.send(&frame(1)).await;
        let conn_id = daemon.expect_frame(&frame(1)).await;
        phone.write(bytes).await.unwrap();
        assert_eq!(phone.close_frame().await.0, 1002, "{what}");
        phone.frame(op::CLOSE, &1002u16.to_be_bytes()).await;
        phone.expect_end().await;
        daemon.expect_notice(&conn_id, 1002).await;
    }
}
