//! Frames both ways: wrapping, fidelity, order, bad input, limits.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use relay_tests::{
    Envelope, Event, PHONE_HEADERS, Raw, Relay, data_envelope, frame, json_of, masked, op, soon,
};
use serde_json::{Value, json};

#[tokio::test]
async fn c33_a_phones_frame_reaches_the_binary_in_an_envelope() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let phone = relay.phone("home").await;
    let sent = r#"{"v":2,"type":"noise_init","data":"AA=="}"#;
    phone.send(sent);
    let text = daemon.text().await;
    let envelope: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        envelope["frame"],
        json!({"v": 2, "type": "noise_init", "data": "AA=="})
    );
    assert_eq!(envelope.as_object().unwrap().len(), 2, "{text}");
    assert!(text.starts_with(r#"{"conn_id":""#), "{text}");
    let counter = "pyrycode_relay_frames_forwarded_total{direction=\"phone_to_binary\"}";
    relay.expect_metric(counter, 1.0).await;
}

#[tokio::test]
async fn c34_conn_ids_name_the_server_and_are_new_per_connection() {
    let relay = Relay::start(&[]).await;
    for server_id in [
        "8f7e1c0a-3b0e-4e0e-9a51-6d2f0c9f1b77",
        "a \"quoted\\ id",
        "x",
    ] {
        let mut daemon = relay.daemon(server_id).await;
        let mut phone = relay.phone(server_id).await;
        let first = daemon.hear(&mut phone).await;
        assert_eq!(
            daemon.hear(&mut phone).await,
            first,
            "stable for the connection"
        );
        let digits = first
            .strip_prefix(&format!("client-{server_id}-"))
            .expect(&first);
        assert_eq!(digits.len(), 8, "{first}");
        assert!(
            digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            "{first}"
        );
        phone.close(1000, "");
        daemon.expect_notice(&first, 1000).await;
        let mut redialled = relay.phone(server_id).await;
        let second = daemon.hear(&mut redialled).await;
        assert_ne!(second, first);
        daemon.send_to(&second, &frame(1));
        redialled.expect_frame(&frame(1)).await;
    }
}

#[tokio::test]
async fn c35_a_binary_opcode_gives_the_same_text_envelope() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    phone.send_binary(frame(1).as_bytes());
    daemon.expect_frame_from(&conn_id, &frame(1)).await;
    daemon.send_binary(data_envelope(&conn_id, &frame(2)).as_bytes());
    phone.expect_frame(&frame(2)).await;
}

#[tokio::test]
async fn c36_an_answer_reaches_only_its_phone_as_a_bare_text_frame() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", None).await;
    let mut other = relay.phone("home").await;
    phone.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    daemon.send_to(&conn_id, &frame(2));
    let received = phone.recv().await;
    assert_eq!(received.first, op::TEXT, "one unfragmented text frame");
    assert_eq!(received.payload, frame(2).as_bytes());
    other.expect_silence().await;
    let counter = "pyrycode_relay_frames_forwarded_total{direction=\"binary_to_phone\"}";
    relay.expect_metric(counter, 1.0).await;
}

#[tokio::test]
async fn c37_no_delivery_across_phones_or_server_ids() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut first, first_id) = relay.pair("home").await;
    let mut second = relay.phone("home").await;
    let second_id = daemon.hear(&mut second).await;
    let mut stranger = relay.daemon("elsewhere").await;
    let mut far = relay.phone("elsewhere").await;
    let far_id = stranger.hear(&mut far).await;

    daemon.send_to(&far_id, &frame(1));
    stranger.send_to(&first_id, &frame(2));
    daemon.send_to(&second_id, &frame(3));
    daemon.send_to(&first_id, &frame(4));
    stranger.send_to(&far_id, &frame(5));
    first.expect_frame(&frame(4)).await;
    second.expect_frame(&frame(3)).await;
    far.expect_frame(&frame(5)).await;
    relay
        .log
        .wait("binary_forwarder_unknown_conn_id", &[("conn_id", &far_id)])
        .await;
    relay
        .log
        .wait(
            "binary_forwarder_unknown_conn_id",
            &[("conn_id", &first_id)],
        )
        .await;
}

/// Ours carries the frame byte for byte, which is more than the case asks.
#[tokio::test]
async fn c38_a_phones_frame_arrives_unchanged() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, phone, conn_id) = relay.pair("home").await;
    for odd in [
        r#"{ "a" : 1 , "a" : 2,	"n": 123456789012345678901234567890 }"#,
        r#"{"html":"<>&","separators":"  ","escaped":"\u003c\u2028\ud800"}"#,
        r#"[1e999,-0,1.0,1E+2,"\/","é","é","👾"]"#,
        "  {\"v\" :\n2}\r\n ",
    ] {
        phone.send(odd);
        let envelope = daemon.envelope().await;
        assert_eq!(envelope.conn_id, conn_id);
        assert_eq!(envelope.frame.as_deref(), Some(odd.trim()), "{odd}");
    }
}

#[tokio::test]
async fn c39_a_binarys_frame_arrives_verbatim() {
    let relay = Relay::start(&[]).await;
    let (daemon, mut phone, conn_id) = relay.pair("home").await;
    let conn_id = Value::from(conn_id);
    let odd = "{ \"a\" : [ 1 ,\t2 ] ,\n \"a\" : \"\\u003c<&\\ud800\", \"n\":1e999 }";
    for envelope in [
        format!(r#"{{"conn_id":{conn_id},"frame":{odd}}}"#),
        format!(" {{ \"frame\" :  {odd}  ,\n\"conn_id\"\t: {conn_id} }} \n"),
    ] {
        daemon.send(&envelope);
        phone.expect_frame(odd).await;
    }
}

#[tokio::test]
async fn c40_any_json_value_is_a_frame() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    for value in [
        "null", "true", "false", "0", "-1.5e3", "\"\"", "[]", "{}", "[null]",
    ] {
        phone.send(value);
        daemon.expect_frame_from(&conn_id, value).await;
    }
    // Its envelope is one level more, and a daemon in Go reads 10,000.
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    phone.send(&nested(9_999));
    daemon.expect_frame_from(&conn_id, &nested(9_999)).await;
    phone.send(&nested(10_000));
    phone.expect_close(1007, "frame is not valid JSON").await;
}

/// Ours: 1007 `frame is not valid JSON`, and the notice says 1007; the reference sends 1000, and
/// 1001 in the notice.
#[tokio::test]
async fn c41_a_frame_that_is_not_json_ends_that_phone_only() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut sibling, _) = relay.pair("home").await;
    let bad = [
        "not json",
        "",
        "{\"a\":",
        "{}{}",
        "\u{feff}{}",
        "'a'",
        "[1,]",
        "nul",
        "\"\u{1}\"",
    ];
    for (n, bad) in bad.iter().enumerate() {
        let mut phone = relay.phone("home").await;
        let conn_id = daemon.hear(&mut phone).await;
        phone.send(&frame(n));
        phone.send(bad);
        phone.send(&frame(99));
        daemon.expect_frame_from(&conn_id, &frame(n)).await;
        phone.expect_close(1007, "frame is not valid JSON").await;
        daemon.expect_notice(&conn_id, 1007).await;
        let fields = [("server_id", "home"), ("conn_id", &*conn_id)];
        let record = relay.log.wait("phone_forwarder_marshal_err", &fields).await;
        assert_eq!(record.level, "WARN");
    }
    daemon.hear(&mut sibling).await;
    relay.expect_counts(1, 1).await;
}

/// Ours refuses a message that is not UTF-8 with 1007; the reference doesn't look.
#[tokio::test]
async fn a_message_that_is_not_utf8_is_closed_1007_on_both_legs() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, _sibling, _) = relay.pair("home").await;
    for opcode in [op::TEXT, op::BINARY] {
        let mut phone = relay.raw_phone("home", None).await;
        phone.send(&frame(1)).await;
        let conn_id = daemon.expect_frame(&frame(1)).await;
        phone.frame(opcode, b"\"\xff\"").await;
        phone.expect_close(1007, "message is not valid UTF-8").await;
        daemon.expect_notice(&conn_id, 1007).await;

        let mut stranger = relay.raw_daemon("other").await;
        stranger.frame(opcode, b"{\"conn_id\":\"\xc0\x80\"}").await;
        stranger
            .expect_close(1007, "message is not valid UTF-8")
            .await;
    }
}

#[tokio::test]
async fn c42_a_bad_envelope_is_dropped_and_the_next_good_one_delivered() {
    let relay = Relay::start(&[]).await;
    let (daemon, mut phone, conn_id) = relay.pair("home").await;
    let id = Value::from(conn_id.clone());
    let bad = [
        "garbage".to_owned(),
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
        format!(r#"{{"frame":{}}}"#, frame(0)),
        format!(r#"{{"conn_id":"","frame":{}}}"#, frame(0)),
        format!(r#"{{"conn_id":null,"frame":{}}}"#, frame(0)),
        format!(r#"{{"conn_id":7,"frame":{}}}"#, frame(0)),
        format!(r#"{{"conn_id":{id}}}"#),
        format!(r#"{{"conn_id":{id},"frame":null}}"#),
        format!(r#"{{"conn_id":{id},"frame":null,"close_code":0}}"#),
        format!(r#"{{"conn_id":{id},"frame":null,"close_code":null}}"#),
        format!(r#"{{"conn_id":{id},"push_wake":{{"platform":"fcm"}}}}"#),
        format!(
            r#"{{"conn_id":{id},"frame":{},"close_code":"4401"}}"#,
            frame(0)
        ),
        format!(
            r#"{{"conn_id":{id},"frame":{},"close_code":70000}}"#,
            frame(0)
        ),
        format!(r#"{{"conn_id":{id},"frame":{},"close_code":-1}}"#, frame(0)),
        format!(
            r#"{{"conn_id":{id},"frame":{},"close_code":1.5}}"#,
            frame(0)
        ),
        format!(r#"{{"conn_id":{id},"frame":{}}} x"#, frame(0)),
        format!("\u{feff}{}", data_envelope(&conn_id, &frame(0))),
    ];
    for (n, envelope) in bad.iter().enumerate() {
        daemon.send(envelope);
        daemon.send(&data_envelope(&conn_id, &frame(n + 1)));
        assert_eq!(
            phone.recv().await,
            Event::Text(frame(n + 1)),
            "after {envelope}"
        );
    }
    daemon.send(&data_envelope("client-home-00000000", &frame(0)));
    daemon.send_to(&conn_id, &frame(100));
    phone.expect_frame(&frame(100)).await;
    relay
        .log
        .wait("binary_forwarder_unknown_conn_id", &[("server_id", "home")])
        .await;
    relay
        .log
        .wait_nth(bad.len(), "binary_forwarder_unmarshal_err", &[])
        .await;
    assert_eq!(
        relay.log.count("binary_forwarder_unmarshal_err", &[]),
        bad.len()
    );
}

#[tokio::test]
async fn c43_unknown_keys_are_ignored_and_the_last_of_duplicates_wins() {
    let relay = Relay::start(&[]).await;
    let (daemon, mut phone, conn_id) = relay.pair("home").await;
    let id = Value::from(conn_id);
    let good = frame(1);
    for envelope in [
        format!(r#"{{"token":"t","conn_id":{id},"x":{{"frame":1}},"frame":{good},"y":[1]}}"#),
        format!(r#"{{"conn_id":{id},"push_wake":3,"frame":{good}}}"#),
        format!(r#"{{"conn_id":{id},"frame":{good},"close_code":0}}"#),
        format!(r#"{{"conn_id":{id},"frame":{good},"close_code":null}}"#),
        format!(r#"{{"conn_id":"nobody","frame":1,"conn_id":{id},"frame":{good}}}"#),
    ] {
        daemon.send(&envelope);
        assert_eq!(phone.recv().await, Event::Text(good.clone()), "{envelope}");
    }
}

#[tokio::test]
async fn c44_order_holds_over_a_thousand_frames_each_way() {
    let relay = Relay::start(&[]).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    for n in 0..1_000 {
        phone.send(&frame(n));
        daemon.send_to(&conn_id, &frame(n));
    }
    for n in 0..1_000 {
        daemon.expect_frame_from(&conn_id, &frame(n)).await;
        phone.expect_frame(&frame(n)).await;
    }
    for (direction, count) in [("phone_to_binary", 1_001.0), ("binary_to_phone", 1_000.0)] {
        let name = "pyrycode_relay_frames_forwarded_total";
        relay
            .expect_metric(&format!("{name}{{direction=\"{direction}\"}}"), count)
            .await;
    }
}

/// A phone's message may come in fragments, with control frames between them.
#[tokio::test]
async fn fragments_with_pings_between_them_are_one_message() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", None).await;
    phone.frame(op::TEXT_START, b"{\"a\":\"\xc3").await;
    phone.frame(op::PING, b"between").await;
    phone.frame(op::MORE, b"\xa9").await;
    phone.frame(op::MORE, b"").await;
    phone.frame(op::LAST, b"\"}").await;
    daemon.expect_frame("{\"a\":\"é\"}").await;
    let pong = phone.recv().await;
    assert_eq!((pong.first, &pong.payload[..]), (op::PONG, &b"between"[..]));
}

#[tokio::test]
async fn envelopes_of_several_phones_are_never_mixed() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phones = Vec::new();
    for _ in 0..8 {
        let mut phone = relay.phone("home").await;
        let conn_id = daemon.hear(&mut phone).await;
        phones.push((phone, conn_id, 0));
    }
    for n in 0..100 {
        let size = 10 + n * 300;
        phones
            .iter()
            .for_each(|(phone, ..)| phone.send(&format!("[{n},{}]", json_of(size))));
    }
    soon("800 whole envelopes", async {
        for _ in 0..800 {
            let envelope: Envelope = daemon.envelope().await;
            let (_, _, next) = phones.iter_mut().find(|p| p.1 == envelope.conn_id).unwrap();
            let frame = envelope.frame.unwrap();
            let expected = format!("[{next},");
            assert!(
                frame.starts_with(&expected),
                "{frame:.20} instead of {expected}"
            );
            *next += 1;
        }
    })
    .await;
    assert!(phones.iter().all(|p| p.2 == 100));
}

/// Frames in the same segment as the upgrade request are the first of the connection.
#[tokio::test]
async fn frames_sent_before_the_101_are_not_lost() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let headers = [&[("x-pyrycode-server", "home")], PHONE_HEADERS].concat();
    // The second frame's rest comes after the 101.
    let large = json_of(50_000);
    let mut early = masked(op::TEXT, frame(1).as_bytes());
    early.extend(masked(op::TEXT, large.as_bytes()));
    let rest = early.split_off(10_000);
    let stream = relay.connect().await;
    let mut phone = Raw::upgrade(stream, "/v1/client", &headers, &early).await;
    phone.write(&rest).await.unwrap();
    let conn_id = daemon.expect_frame(&frame(1)).await;
    daemon.expect_frame_from(&conn_id, &large).await;
}
