//! Paths, the header gate and the WebSocket handshake.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use relay_tests::{DAEMON_HEADERS, Headers, PHONE_HEADERS, Relay, exchange, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const UPGRADE: Headers<'static> = &[
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

const PLAIN: Headers<'static> = &[("Connection", "close")];

fn phone_headers() -> Vec<(&'static str, &'static str)> {
    [&[("x-pyrycode-server", "home")], PHONE_HEADERS].concat()
}

fn daemon_headers() -> Vec<(&'static str, &'static str)> {
    [&[("x-pyrycode-server", "home")], DAEMON_HEADERS].concat()
}

async fn assert_health(relay: &Relay, method: &str) {
    let health = relay.http(method, "/healthz", PLAIN).await;
    assert_eq!(health.status, 200);
    assert_eq!(
        health.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(health.header("cache-control"), Some("no-store"));
    let rest = health
        .text()
        .strip_prefix(r#"{"status":"ok","version":""#)
        .unwrap_or_else(|| panic!("health: {:?}", health.text()));
    let (_version, rest) = rest.split_once('"').expect("the version ends");
    let uptime = rest
        .strip_prefix(r#","connected_binaries":0,"connected_phones":0,"uptime_seconds":"#)
        .and_then(|rest| rest.strip_suffix('}'));
    let uptime: u64 = uptime
        .and_then(|u| u.parse().ok())
        .expect("whole seconds, then the end");
    assert!(uptime < 60, "uptime {uptime}");
}

#[tokio::test]
async fn c01_health_is_json_with_five_keys_in_order() {
    let relay = Relay::start(&[]).await;
    assert_health(&relay, "GET").await;
    let with_query = relay.http("GET", "/healthz?x=1", PLAIN).await;
    assert_eq!(with_query.status, 200);
}

#[tokio::test]
async fn c02_health_answers_any_method() {
    let relay = Relay::start(&[]).await;
    assert_health(&relay, "POST").await;
    let head = relay.http("DELETE", "/healthz", PLAIN).await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn c03_other_paths_are_404_on_the_public_listener() {
    let relay = Relay::start(&[]).await;
    for path in [
        "/",
        "/metrics",
        "/v1/server/",
        "/v1/client/",
        "/v1",
        "/V1/server",
        "/healthz/",
    ] {
        let response = relay.http("GET", path, PLAIN).await;
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.text(), "404 page not found\n", "{path}");
    }
}

#[tokio::test]
async fn c04_a_daemon_gets_101_and_no_message() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    relay.expect_counts(1, 0).await;
    daemon.expect_silence().await;
    relay.expect_attempts("server", "accept", 1).await;
}

#[tokio::test]
async fn c05_a_missing_daemon_header_is_400_without_a_log_line() {
    let relay = Relay::start(&[]).await;
    let full = daemon_headers();
    let _first = relay.daemon("first").await;
    relay
        .log
        .wait("server_claimed", &[("server_id", "first")])
        .await;
    let before = relay.log.lines().len();
    for missing in 0..full.len() {
        let mut headers = UPGRADE.to_vec();
        headers.extend(
            full.iter()
                .enumerate()
                .filter(|(i, _)| *i != missing)
                .map(|(_, h)| *h),
        );
        let response = relay.http("GET", "/v1/server", &headers).await;
        assert_eq!(response.status, 400, "without {:?}", full[missing]);
        assert_eq!(
            response.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        response.expect_contentless();
    }
    relay.expect_attempts("server", "reject_headers", 3).await;
    // The next line there is belongs to the next thing worth a line.
    let _daemon = relay.daemon("home").await;
    relay
        .log
        .wait("server_claimed", &[("server_id", "home")])
        .await;
    let new = relay.log.lines().split_off(before);
    assert_eq!(new.len(), 1, "{new:?}");
}

#[tokio::test]
async fn c06_an_empty_or_blank_header_is_a_missing_one() {
    let relay = Relay::start(&[]).await;
    for value in ["", "   ", "\t "] {
        for name in ["x-pyrycode-server", "user-agent"] {
            let mut headers = [UPGRADE, &phone_headers()].concat();
            headers
                .iter_mut()
                .filter(|h| h.0 == name)
                .for_each(|h| h.1 = value);
            let response = relay.http("GET", "/v1/client", &headers).await;
            assert_eq!(response.status, 400, "{name}: {value:?}");
        }
    }
    relay.expect_attempts("client", "reject_headers", 6).await;
    // Only the first occurrence of a header counts.
    let headers = [UPGRADE, &[("x-pyrycode-server", "")], &phone_headers()].concat();
    assert_eq!(relay.http("GET", "/v1/client", &headers).await.status, 400);
}

#[tokio::test]
async fn c07_header_names_may_be_in_any_letter_case() {
    let relay = Relay::start(&[]).await;
    let headers = [
        UPGRADE,
        &[
            ("X-pYrYcOdE-sErVeR", "home"),
            ("X-PYRYCODE-VERSION", "1"),
            ("uSER-aGENT", "pyry/1"),
        ],
    ];
    assert_eq!(
        relay
            .http("GET", "/v1/server", &headers.concat())
            .await
            .status,
        101
    );
    relay
        .log
        .wait(
            "server_claimed",
            &[("server_id", "home"), ("binary_version", "1")],
        )
        .await;
}

#[tokio::test]
async fn c08_the_header_gate_comes_before_the_handshake() {
    let relay = Relay::start(&[]).await;
    for path in ["/v1/client", "/v1/server"] {
        assert_eq!(relay.http("GET", path, PLAIN).await.status, 400, "{path}");
        assert_eq!(relay.http("POST", path, PLAIN).await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn c09_a_request_that_is_no_upgrade_is_426() {
    let relay = Relay::start(&[]).await;
    let without_connection: Vec<_> = UPGRADE[1..].to_vec();
    let without_upgrade: Vec<_> = UPGRADE
        .iter()
        .filter(|h| h.0 != "Upgrade")
        .copied()
        .collect();
    let h2c: Vec<_> = [&without_upgrade[..], &[("Upgrade", "h2c")]].concat();
    for handshake in [PLAIN.to_vec(), without_connection, without_upgrade, h2c] {
        let headers = [&handshake[..], &phone_headers()].concat();
        let response = relay.http("GET", "/v1/client", &headers).await;
        assert_eq!(response.status, 426, "{handshake:?}");
        assert_eq!(response.header("upgrade"), Some("websocket"));
        let connection = response
            .header("connection")
            .unwrap_or_default()
            .to_ascii_lowercase();
        assert!(connection.contains("upgrade"), "Connection: {connection}");
    }
}

#[tokio::test]
async fn an_upgrade_over_http_1_0_is_426() {
    let relay = Relay::start(&[]).await;
    let headers = [UPGRADE, &phone_headers()].concat();
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let headers: String = headers.collect();
    let mut stream = relay.connect().await;
    let request = format!("GET /v1/client HTTP/1.0\r\n{headers}\r\n");
    let response = exchange(&mut stream, &request).await;
    assert_eq!(response.status, 426);
    assert_eq!(response.text(), "WebSocket needs HTTP/1.1");
}

/// Also after a refusal that asks for an upgrade.
#[tokio::test]
async fn a_connection_has_one_request() {
    let relay = Relay::start(&[]).await;
    let request = "GET /v1/client HTTP/1.1\r\nHost: relay.test\r\nUser-Agent: x\r\n\
                   x-pyrycode-server: home\r\n\r\n";
    let mut stream = relay.connect().await;
    stream
        .write_all(request.repeat(2).as_bytes())
        .await
        .unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert!(answers.starts_with("HTTP/1.1 426 "), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
}

#[tokio::test]
async fn c10_an_upgrade_by_post_is_405() {
    let relay = Relay::start(&[]).await;
    let headers = [UPGRADE, &phone_headers()].concat();
    assert_eq!(relay.http("POST", "/v1/client", &headers).await.status, 405);
}

#[tokio::test]
async fn c11_another_websocket_version_is_400_and_names_13() {
    let relay = Relay::start(&[]).await;
    for version in ["8", "14", ""] {
        let mut headers = [UPGRADE, &phone_headers()].concat();
        headers
            .iter_mut()
            .filter(|h| h.0 == "Sec-WebSocket-Version")
            .for_each(|h| h.1 = version);
        let response = relay.http("GET", "/v1/client", &headers).await;
        assert_eq!(response.status, 400, "{version:?}");
        assert_eq!(response.header("sec-websocket-version"), Some("13"));
    }
}

#[tokio::test]
async fn a_bad_websocket_key_is_400() {
    let relay = Relay::start(&[]).await;
    for key in [
        "",
        "short",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZSBpcyBsb25n",
    ] {
        let mut headers = [UPGRADE, &phone_headers()].concat();
        headers
            .iter_mut()
            .filter(|h| h.0 == "Sec-WebSocket-Key")
            .for_each(|h| h.1 = key);
        assert_eq!(
            relay.http("GET", "/v1/client", &headers).await.status,
            400,
            "{key:?}"
        );
    }
    let twice = [UPGRADE, &UPGRADE[3..], &phone_headers()].concat();
    assert_eq!(relay.http("GET", "/v1/client", &twice).await.status, 400);
}

/// Ours: its bytes would be taken for frames.
#[tokio::test]
async fn an_upgrade_with_a_body_is_400() {
    let relay = Relay::start(&[]).await;
    for (header, status) in [
        (("Content-Length", "5"), 400),
        (("Transfer-Encoding", "chunked"), 400),
        (("Content-Length", "0"), 101),
    ] {
        let headers = [UPGRADE, &phone_headers(), &[header]].concat();
        let response = relay.http("GET", "/v1/client", &headers).await;
        assert_eq!(response.status, status, "{header:?}");
    }
}

/// A connection that is closed with bytes unread is reset, and a reset can destroy the answer.
#[tokio::test]
async fn who_sends_a_body_that_nobody_reads_gets_the_answer() {
    let relay = Relay::start(&[]).await;
    let body = "x".repeat(200_000);
    for path in ["/healthz", "/v1/client", "/nowhere"] {
        let mut stream = relay.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: relay.test\r\nContent-Length: 200000");
        let request = format!("{head}\r\n\r\n{body}");
        let answer = exchange(&mut stream, &request).await;
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn upgrade_tokens_are_found_in_lists_and_any_letter_case() {
    let relay = Relay::start(&[]).await;
    let mut headers = [UPGRADE, &daemon_headers()].concat();
    headers[0].1 = "keep-alive, uPgRaDe";
    headers[1].1 = "h2c, WebSocket";
    let response = relay.http("GET", "/v1/server", &headers).await;
    assert_eq!(response.status, 101);
    assert_eq!(
        response.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
}

/// Ours accepts a phone without the token header, which the reference answers with 400.
#[tokio::test]
async fn c12_a_phone_without_a_token_is_accepted() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let headers = [("x-pyrycode-server", "home"), ("user-agent", "app/1")];
    let phone = relay.upgrade("/v1/client", &headers).await.unwrap();
    phone.send(&frame(1));
    daemon.expect_frame(&frame(1)).await;
}

#[tokio::test]
async fn c13_any_origin_is_accepted() {
    let relay = Relay::start(&[]).await;
    for origin in ["https://evil.example", "null"] {
        let headers = [UPGRADE, &phone_headers(), &[("Origin", origin)]].concat();
        assert_eq!(
            relay.http("GET", "/v1/client", &headers).await.status,
            101,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn an_origin_that_is_no_url_is_403() {
    let relay = Relay::start(&[]).await;
    let headers = [UPGRADE, &phone_headers(), &[("Origin", "http://a%zz")]].concat();
    let response = relay.http("GET", "/v1/client", &headers).await;
    assert_eq!(response.status, 403);
    assert_eq!(response.text(), "Origin is not a URL");
}

#[tokio::test]
async fn c14_no_subprotocol_and_no_extension_is_ever_selected() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let offers = [
        ("Sec-WebSocket-Protocol", "pyry.v2, chat"),
        (
            "Sec-WebSocket-Extensions",
            "permessage-deflate; client_max_window_bits",
        ),
    ];
    let headers = [UPGRADE, &phone_headers(), &offers].concat();
    let response = relay.http("GET", "/v1/client", &headers).await;
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-protocol"), None);
    assert_eq!(response.header("sec-websocket-extensions"), None);

    // A library that gets no answer to its subprotocol offer gives up by itself; so only the extension.
    let phone = relay
        .upgrade("/v1/client", &[&phone_headers()[..], &offers[1..]].concat())
        .await;
    let phone = phone.unwrap();
    phone.send(&frame(1));
    let conn_id = loop {
        // The bare request above was a phone too; its end is announced at some point.
        let envelope = daemon.envelope().await;
        if envelope.frame.is_some() {
            break envelope.conn_id;
        }
    };
    daemon.send_to(&conn_id, &frame(2));
    let mut phone = phone;
    assert_eq!(phone.text().await, frame(2));
}

/// Ours serves `/v2` as an alias of `/v1`, which the reference answers with 404.
#[tokio::test]
async fn c15_v2_paths_are_aliases() {
    let relay = Relay::start(&[]).await;
    let mut old_daemon = relay
        .upgrade("/v2/server", &daemon_headers())
        .await
        .unwrap();
    let mut old_phone = relay.phone("home").await;
    old_phone.send(&frame(1));
    assert!(old_daemon.text().await.contains(&frame(1)));
    let phone = relay.upgrade("/v2/client", &phone_headers()).await.unwrap();
    phone.send(&frame(2));
    assert!(old_daemon.text().await.contains(&frame(2)));
    relay.expect_counts(1, 2).await;
    old_phone.expect_silence().await;
    assert_eq!(relay.http("GET", "/v3/client", PLAIN).await.status, 404);
}

#[tokio::test]
async fn c16_a_phone_without_a_device_name_is_logged_with_an_empty_one() {
    let relay = Relay::start(&[]).await;
    let _daemon = relay.daemon("home").await;
    let headers = [("x-pyrycode-server", "home"), ("user-agent", "app/1")];
    let _phone = relay.upgrade("/v1/client", &headers).await.unwrap();
    let record = relay
        .log
        .wait("phone_registered", &[("server_id", "home")])
        .await;
    assert_eq!(record.get("device_name"), Some(""));
    assert!(record.line.contains(r#"device_name="""#), "{}", record.line);

    let headers = [
        &headers[..],
        &[("x-pyrycode-device-name", "my \"phone\" level=ERROR")],
    ];
    let _named = relay
        .upgrade("/v1/client", &headers.concat())
        .await
        .unwrap();
    let named = [("device_name", "my \"phone\" level=ERROR")];
    let record = relay.log.wait("phone_registered", &named).await;
    assert_eq!(
        (&*record.level, record.get("remote")),
        ("INFO", Some("127.0.0.1"))
    );
}
