//! Every way in which a connection ends, and every close code.

use std::time::Duration;

use relay_tests::{ADMIN_TOKEN, Raw, Relay, Transport, frame, json_of, op};

use crate::seen::{Seen, relay};

/// Every code with a name of its own, and two that have none.
const CODES: [u16; 20] = [
    1000, 1001, 1002, 1007, 1008, 1009, 1011, 1013, 4401, 4404, 4408, 4409, 4410, 4412, 4413, 4421,
    4426, 4429, 4000, 1003,
];

fn end(leg: &str, cause: &str, by: &str) -> String {
    format!("connection_ends_total{{leg=\"{leg}\",cause=\"{cause}\",by=\"{by}\"}}")
}

async fn ended(seen: &mut Seen, relay: &Relay, ends: &[(&str, &str, &str)]) {
    let ends: Vec<String> = ends.iter().map(|(l, c, b)| end(l, c, b)).collect();
    let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
    seen.until(relay, &ends).await;
}

async fn closes(mut peer: Raw, payload: &[u8]) {
    peer.frame(op::CLOSE, payload).await;
    peer.close_frame().await;
}

/// The peer's codes are echoed; those that mean nothing here are counted together.
pub(crate) async fn codes() -> Seen {
    let (mut seen, relay) = (Seen::default(), relay(&["--redial-burst", "0"]).await);
    let _daemon = relay.raw_daemon("hostile-home").await;
    let payloads = CODES.map(|code| code.to_be_bytes().to_vec());
    for payload in payloads.into_iter().chain([Vec::new()]) {
        closes(relay.raw_phone("hostile-home", None).await, &payload).await;
        closes(relay.raw_daemon("hostile-codes").await, &payload).await;
    }
    let known = CODES.iter().filter(|code| !matches!(code, 4000 | 1003));
    let known = known.map(u16::to_string);
    let labels: Vec<String> = known.chain(["other".into(), "1005".into()]).collect();
    for leg in ["phone", "binary"] {
        let mut series = vec![end(leg, "peer_closed", "peer")];
        for code in &labels {
            series.push(format!(
                "close_codes_sent_total{{leg=\"{leg}\",code=\"{code}\"}}"
            ));
        }
        let series: Vec<&str> = series.iter().map(String::as_str).collect();
        seen.until(&relay, &series).await;
    }
    let other = "pyrycode_relay_close_codes_sent_total{leg=\"phone\",code=\"other\"}";
    relay.expect_metric(other, 2.0).await;
    seen
}

pub(crate) async fn faults() -> Seen {
    let mut seen = Seen::default();
    let relay = relay(&["--message-limit", "100000", "--redial-burst", "0"]).await;
    let (daemon, _directed, conn_id) = relay.pair("hostile-home").await;
    daemon.close_phone(&conn_id, None, 4401);
    let phone = relay.phone("hostile-home").await;
    phone.send("hostile, and no JSON");
    for (first, payload) in [
        (op::TEXT, &b"\"hostile-\xff\""[..]),
        (op::TEXT, &[b' '; 100_001][..]),
        // A reserved bit.
        (op::TEXT | 0x40, b"hostile"),
    ] {
        relay
            .raw_phone("hostile-home", None)
            .await
            .frame(first, payload)
            .await;
        relay
            .raw_daemon("hostile-faulty")
            .await
            .frame(first, payload)
            .await;
    }
    relay.raw_phone("hostile-home", None).await.reset();
    relay.raw_daemon("hostile-faulty").await.reset();
    ended(
        &mut seen,
        &relay,
        &[
            ("phone", "not_json", "peer"),
            ("phone", "invalid_utf8", "peer"),
            ("binary", "invalid_utf8", "peer"),
            ("phone", "message_too_big", "peer"),
            ("binary", "message_too_big", "peer"),
            ("phone", "protocol_error", "peer"),
            ("binary", "protocol_error", "peer"),
            ("phone", "peer_vanished", "network"),
            ("binary", "peer_vanished", "network"),
            ("phone", "directive", "binary"),
        ],
    )
    .await;
    seen
}

/// Peers that are slow, or silent.
pub(crate) async fn patience() -> Seen {
    let mut seen = Seen::default();
    let slow = relay(&["--message-timeout", "200ms"]).await;
    let mut daemon = slow.raw_daemon("hostile-slow").await;
    let mut phone = slow.raw_phone("hostile-slow", None).await;
    for peer in [&mut phone, &mut daemon] {
        peer.frame(op::TEXT_START, b"{").await;
        assert_eq!(peer.close_frame().await.0, 1008);
    }
    let ends = [
        ("phone", "message_too_slow", "relay"),
        ("binary", "message_too_slow", "relay"),
    ];
    ended(&mut seen, &slow, &ends).await;

    let silent = relay(&["--ping-interval", "100ms", "--pong-timeout", "200ms"]).await;
    let _daemon = silent.raw_daemon("hostile-silent").await;
    let _phone = silent.raw_phone("hostile-silent", None).await;
    let ends = [
        ("phone", "heartbeat_timeout", "relay"),
        ("binary", "heartbeat_timeout", "relay"),
    ];
    ended(&mut seen, &silent, &ends).await;
    seen
}

/// Peers that don't read.
pub(crate) async fn stuck() -> Seen {
    let mut seen = Seen::default();
    let relay = relay(&["--write-timeout", "1s", "--outbox-limit", "20000000"]).await;
    let large = json_of(100_000);
    let mut daemon = relay.daemon("hostile-home").await;
    let mut stuck = relay.raw_phone("hostile-home", Some(4096)).await;
    stuck.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    // More than the kernel's buffers take.
    for _ in 0..100 {
        daemon.send_to(&conn_id, &large);
    }
    seen.until(&relay, &["queue_bytes", "queue_bytes_high_water"])
        .await;
    let _stuck = relay
        .raw(
            "/v1/server",
            &[
                ("x-pyrycode-server", "hostile-stuck"),
                ("x-pyrycode-version", "1"),
                ("user-agent", "pyry/1"),
            ],
            Some(4096),
        )
        .await;
    let phone = relay.phone("hostile-stuck").await;
    for _ in 0..100 {
        phone.send(&large);
    }
    let ends = [
        ("phone", "write_timeout", "relay"),
        ("binary", "write_timeout", "relay"),
    ];
    ended(&mut seen, &relay, &ends).await;
    seen
}

/// More than there is room for.
pub(crate) async fn overflows() -> Seen {
    let mut seen = Seen::default();
    let small = relay(&["--outbox-limit", "1000"]).await;
    let (mut daemon, mut phone, conn_id) = small.pair("hostile-home").await;
    daemon.send_to(&conn_id, &json_of(5_000));
    phone.expect_close(1011, "phone backlog full").await;
    daemon.expect_notice(&conn_id, 1011).await;
    let mut phone = small.phone("hostile-home").await;
    let conn_id = daemon.hear(&mut phone).await;
    daemon.close_phone(&conn_id, Some(&json_of(5_000)), 4412);
    phone.expect_close(4412, "phone backlog full").await;
    let ends = [
        ("phone", "backlog_full", "relay"),
        ("phone", "directive_overflow", "binary"),
    ];
    ended(&mut seen, &small, &ends).await;

    let relay = relay(&["--queue-bytes", "1048576", "--message-limit", "4000000"]).await;
    let mut daemon = relay.raw_daemon("hostile-home").await;
    let mut phone = relay.raw_phone("hostile-home", None).await;
    for peer in [&mut phone, &mut daemon] {
        // More than half of all there is, of a message that never ends.
        peer.frame(op::TEXT_START, &[b' '; 900_000]).await;
        assert_eq!(peer.close_frame().await.0, 1013);
    }
    let ends = [
        ("phone", "overloaded", "relay"),
        ("binary", "overloaded", "relay"),
    ];
    ended(&mut seen, &relay, &ends).await;
    seen
}

/// What the registry decides.
pub(crate) async fn registry() -> Seen {
    let mut seen = Seen::default();
    let args = [
        "--probe-timeout",
        "300ms",
        "--phones-per-server",
        "1",
        "--redial-burst",
        "0",
    ];
    let relay = relay(&args).await;
    relay
        .phone("hostile-nobody")
        .await
        .expect_close(4404, "no server with that id")
        .await;
    let (daemon, mut phone, _) = relay.pair("hostile-home").await;
    relay
        .phone("hostile-home")
        .await
        .expect_close(4429, "too many phones for server-id")
        .await;
    relay
        .daemon("hostile-home")
        .await
        .expect_close(4409, "server-id already claimed")
        .await;
    daemon.cut().await;
    relay.log.wait("server_released", &[]).await;
    // Its session is with a process that is gone.
    phone.send(&frame(1));
    phone.expect_close(4404, "binary is away").await;
    let mut daemon = relay.daemon("hostile-home").await;
    let mut phone = relay.phone("hostile-home").await;
    daemon.hear(&mut phone).await;
    daemon.cut().await;
    let _daemon = relay.daemon("hostile-home").await;
    phone.expect_close(4404, "binary reclaimed server-id").await;
    // It answers no probe.
    let mut dead = relay.raw_daemon("hostile-dead").await;
    let mut phone = relay.phone("hostile-dead").await;
    phone.send(&frame(1));
    dead.text().await;
    let mut rival = relay.daemon("hostile-dead").await;
    rival.expect_alive().await;
    phone.expect_close(4404, "binary reclaimed server-id").await;
    ended(
        &mut seen,
        &relay,
        &[
            ("phone", "no_server", "relay"),
            ("phone", "too_many_phones", "relay"),
            ("binary", "already_claimed", "relay"),
            ("phone", "binary_away", "binary"),
            ("phone", "binary_reclaimed", "binary"),
            ("binary", "displaced", "relay"),
        ],
    )
    .await;
    let mut series = vec![
        "takeovers_total",
        "reclaims_total",
        "evictions_total",
        "slot_away_seconds_count",
        "slot_away_seconds_sum",
    ];
    for outcome in ["no_server", "phones_at_cap", "server_in_use"] {
        series.push(match outcome {
            "no_server" => "register_failures_total{kind=\"no_server\"}",
            "phones_at_cap" => "register_failures_total{kind=\"phones_at_cap\"}",
            _ => "register_failures_total{kind=\"server_in_use\"}",
        });
    }
    for outcome in [
        "ws_upgrade_attempts_total{endpoint=\"server\",outcome=\"reject_409\"}",
        "ws_upgrade_attempts_total{endpoint=\"client\",outcome=\"reject_404\"}",
        "ws_upgrade_attempts_total{endpoint=\"client\",outcome=\"reject_429\"}",
    ] {
        series.push(outcome);
    }
    seen.until(&relay, &series).await;
    seen
}

/// An operator closes a slot.
pub(crate) async fn operator() -> Seen {
    let mut seen = Seen::default();
    let launch = relay_tests::Launch::new(&[]);
    let token = "PYRYCODE_RELAY_ADMIN_TOKEN";
    let relay = launch.env(token, ADMIN_TOKEN).start().await;
    let (_daemon, _phone, _) = relay.pair("hostile-home").await;
    let mut page = Transport::Plain.connect(relay.metrics_addr()).await;
    let list = "GET /admin/slots HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let list = relay_tests::exchange(&mut page, list).await;
    let list = list.text().split_once("\"slot\":\"").expect("a slot").1;
    let (slot, _) = list.split_at(12);
    let close = format!(
        "POST /admin/slots/{slot}/close HTTP/1.1\r\nHost: localhost\r\n\
         X-Pyrycode-Admin-Token: {ADMIN_TOKEN}\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(relay_tests::exchange(&mut page, &close).await.status, 202);
    let ends = [
        ("phone", "operator", "relay"),
        ("binary", "operator", "relay"),
    ];
    ended(&mut seen, &relay, &ends).await;
    seen
}

/// The end of the relay itself. Its metrics stay until the last connection is told to close.
pub(crate) async fn shutdown() -> Seen {
    const HEALTH: &str = "--health-listen";
    let mut seen = Seen::default();
    let launch =
        relay_tests::Launch::new(&["--drain", "3s", "--connect-burst", "0", "--rate-burst", "0"]);
    let relay = launch.listener(HEALTH).start().await;
    let mut peers = Vec::new();
    for home in 0..10 {
        let home = format!("hostile-{home}");
        peers.push(relay.daemon(&home).await.0);
        peers.push(relay.phone(&home).await.0);
    }
    relay.expect_counts(10, 10).await;
    let mut late = relay.connect().await;
    // On its way in before the entrance is closed.
    seen.until(&relay, &["handshakes"]).await;
    relay.terminate();
    crate::seen::draining(&relay, HEALTH).await;
    let request = "GET /v1/client HTTP/1.1\r\nHost: relay.test\r\n\r\n";
    let refused = relay_tests::exchange(&mut late, request).await;
    assert_eq!(refused.status, 503);
    let ends = [
        end("phone", "shutting_down", "relay"),
        end("binary", "shutting_down", "relay"),
    ];
    let series = [
        &ends[0],
        &ends[1],
        "phase{phase=\"draining\"}",
        "http_refusals_total{reason=\"draining\"}",
    ];
    tokio::time::timeout(Duration::from_secs(20), seen.until(&relay, &series))
        .await
        .expect("in the drain");
    seen
}
