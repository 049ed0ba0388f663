//! What moves the series that are not about the end of a connection.

use std::net::Ipv4Addr;
use std::sync::Arc;

use relay_tests::{Answer, Google, HOST, Launch, Relay, Transport, certificate, frame, wakes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::seen::{Seen, relay, tls_relay};

pub(crate) async fn traffic() -> Seen {
    let mut seen = Seen::default();
    let relay = relay(&["--ping-interval", "50ms"]).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("hostile-home").await;
    // One in 64 is timed, at random; of so many surely one.
    for n in 0..500 {
        phone.send(&frame(n));
        daemon.expect_frame(&frame(n)).await;
        daemon.send_to(&conn_id, &frame(n));
        phone.expect_frame(&frame(n)).await;
    }
    let mut series: Vec<String> = [
        "connected_binaries",
        "connected_phones",
        "slots{state=\"live\"}",
        "connections",
        "connections_limit",
        "handshakes_limit",
        "queue_bytes_limit",
        "park_bytes_limit",
        "start_time_seconds",
        "phase{phase=\"ready\"}",
        "accept_to_upgrade_seconds_count",
        "accept_to_upgrade_seconds_sum",
        "ws_upgrade_attempts_total{endpoint=\"server\",outcome=\"accept\"}",
        "ws_upgrade_attempts_total{endpoint=\"client\",outcome=\"accept\"}",
        "limiter_entries{table=\"connections\"}",
    ]
    .map(str::to_owned)
    .to_vec();
    for direction in ["phone_to_binary", "binary_to_phone"] {
        for name in [
            "frames_forwarded_total",
            "frame_bytes_count",
            "frame_bytes_sum",
            "relay_latency_seconds_count",
            "relay_latency_seconds_sum",
        ] {
            series.push(format!("{name}{{direction=\"{direction}\"}}"));
        }
    }
    for leg in ["phone", "binary"] {
        for name in [
            "received_bytes_total",
            "sent_bytes_total",
            "heartbeat_seconds_count",
        ] {
            series.push(format!("{name}{{leg=\"{leg}\"}}"));
        }
    }
    let series: Vec<&str> = series.iter().map(String::as_str).collect();
    seen.until(&relay, &series).await;

    let value = async |series: &str| {
        relay
            .metric(&format!("pyrycode_relay_{series}"))
            .await
            .unwrap()
    };
    // `pair` sent one, too.
    let up = "{direction=\"phone_to_binary\"}";
    assert_eq!(value(&format!("frames_forwarded_total{up}")).await, 501.0);
    assert_eq!(value(&format!("frame_bytes_count{up}")).await, 501.0);
    let down = "{direction=\"binary_to_phone\"}";
    let bytes: usize = (0..500).map(|n| frame(n).len()).sum();
    assert_eq!(value(&format!("frame_bytes_sum{down}")).await, bytes as f64);
    let timed = value(&format!("relay_latency_seconds_count{down}")).await;
    assert!((1.0..40.0).contains(&timed), "{timed} of 500");
    let received = value("received_bytes_total{leg=\"binary\"}").await;
    assert!(received > bytes as f64, "{received}");
    // A peer on the same machine answers a ping at once.
    let beats = value("heartbeat_seconds_count{leg=\"phone\"}").await;
    let total = value("heartbeat_seconds_sum{leg=\"phone\"}").await;
    assert!(total / beats < 5.0, "{total} s for {beats}");
    seen
}

/// A round trip is in whole milliseconds, so one of a slow peer is sure to be more than 0.
pub(crate) async fn slow_pongs() -> Seen {
    let mut seen = Seen::default();
    let relay = relay(&["--ping-interval", "500ms"]).await;
    let daemon = relay.raw_daemon("hostile-home").await;
    let phone = relay.raw_phone("hostile-home", None).await;
    let mut peers = tokio::task::JoinSet::new();
    for mut peer in [daemon, phone] {
        peers.spawn(async move {
            while let Ok(Some(ping)) = peer.read().await {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                peer.frame(relay_tests::op::PONG, &ping.payload).await;
            }
        });
    }
    let sums = [
        "heartbeat_seconds_sum{leg=\"binary\"}",
        "heartbeat_seconds_sum{leg=\"phone\"}",
    ];
    seen.until(&relay, &sums).await;
    seen
}

pub(crate) async fn parking() -> Seen {
    let mut seen = Seen::default();
    let args = ["--boot-park", "60s", "--park", "2s", "--redial-burst", "0"];
    let relay = relay(&args).await;
    let ended = |outcome: &str| format!("phones_parked_ended_total{{outcome=\"{outcome}\"}}");
    // One gives up, one waits in vain, one is served.
    let left = relay.phone("hostile-left").await;
    let mut in_vain = relay.phone("hostile-nobody").await;
    let served = relay.phone("hostile-home").await;
    served.send(&frame(1));
    let waiting = [
        "phones_parked_total",
        "parked_phones",
        "park_bytes",
        "slots{state=\"waiting\"}",
    ];
    seen.until(&relay, &waiting).await;
    left.cut().await;
    let instance = [("x-pyrycode-instance", "instance-of-hostile-1")];
    let mut daemon = relay.daemon_with("hostile-home", &instance).await;
    daemon.expect_frame(&frame(1)).await;
    in_vain.expect_close(4404, "no server with that id").await;
    let outcomes = [ended("left"), ended("delivered"), ended("expired")];
    seen.until(&relay, &outcomes.each_ref().map(|s| &**s)).await;
    // Its daemon comes back once as the same process, and once as another.
    daemon.cut().await;
    seen.until(&relay, &["slots{state=\"grace\"}"]).await;
    let daemon = relay.daemon_with("hostile-home", &instance).await;
    seen.until(&relay, &["resumes_total"]).await;
    daemon.cut().await;
    seen.until(&relay, &["slots{state=\"grace\"}"]).await;
    served.send(&frame(2));
    seen.until(&relay, &["park_bytes"]).await;
    let _another = relay.daemon("hostile-home").await;
    seen.until(&relay, &[&ended("evicted"), "evictions_total"])
        .await;
    seen
}

pub(crate) async fn grace() -> Seen {
    let mut seen = Seen::default();
    let relay = relay(&["--grace", "200ms", "--park", "0s"]).await;
    let (daemon, mut phone, _) = relay.pair("hostile-home").await;
    daemon.cut().await;
    phone.expect_close(4404, "binary did not return").await;
    let end = "connection_ends_total{leg=\"phone\",cause=\"binary_did_not_return\",by=\"binary\"}";
    seen.until(&relay, &["grace_expiries_total", end]).await;
    seen
}

/// Requests that go no further.
pub(crate) async fn refusals() -> Seen {
    let mut seen = Seen::default();
    let refused = |reason: &str| format!("http_refusals_total{{reason=\"{reason}\"}}");
    let open = relay(&[]).await;
    let close = ("Connection", "close");
    assert_eq!(open.http("GET", "/hostile", &[close]).await.status, 404);
    for path in ["/v1/server", "/v1/client"] {
        assert_eq!(open.http("GET", path, &[close]).await.status, 400);
    }
    let headers = [
        relay_tests::PHONE_HEADERS,
        &[("x-pyrycode-server", "hostile"), close],
    ]
    .concat();
    assert_eq!(open.http("GET", "/v1/client", &headers).await.status, 426);
    assert_eq!(
        open.http("GET", "/healthz", &[("Host", "hostile")])
            .await
            .status,
        400
    );
    let mut garbage = open.connect().await;
    garbage.write_all(b"hostile\r\n\r\n").await.unwrap();
    garbage.flush().await.unwrap();
    let _ = garbage.read_to_end(&mut Vec::new()).await;
    let reasons = ["not_found", "headers", "handshake", "host"].map(refused);
    seen.until(&open, &reasons.each_ref().map(|s| &**s)).await;
    seen.until(
        &open,
        &[
            "handshake_failures_total{stage=\"http\"}",
            "ws_upgrade_attempts_total{endpoint=\"server\",outcome=\"reject_headers\"}",
            "ws_upgrade_attempts_total{endpoint=\"client\",outcome=\"reject_headers\"}",
        ],
    )
    .await;

    let flags: [(&[&str], u16, &str); 4] = [
        (&["--rate-burst", "1"], 429, "rate"),
        (&["--max-connections-per-ip", "1"], 429, "ip_full"),
        (&["--max-connections", "1"], 503, "full"),
        (&["--redial-burst", "1"], 429, "redial"),
    ];
    for (args, status, reason) in flags {
        let tight = relay(args).await;
        let daemon = tight.daemon("hostile-home").await;
        if reason == "redial" {
            daemon.cut().await;
            tight.log.wait("server_released", &[]).await;
        }
        let again = tight.try_daemon("hostile-home", &[]).await;
        assert_eq!(again.err().map(|refused| refused.status), Some(status));
        seen.until(&tight, &[&refused(reason)]).await;
        let more: &[&str] = match reason {
            "rate" => &[
                "limiter_entries{table=\"attempts\"}",
                "register_failures_total{kind=\"ratelimit\"}",
                "ws_upgrade_attempts_total{endpoint=\"server\",outcome=\"reject_rate_limit\"}",
            ],
            "redial" => &[
                "redials_refused_total",
                "limiter_entries{table=\"redials\"}",
            ],
            _ => &[],
        };
        seen.until(&tight, more).await;
        if reason == "rate" {
            for phone in [
                tight.try_phone("hostile-home").await,
                tight.try_phone("hostile-home").await,
            ] {
                drop(phone);
            }
            let series =
                "ws_upgrade_attempts_total{endpoint=\"client\",outcome=\"reject_rate_limit\"}";
            seen.until(&tight, &[series]).await;
        }
    }
    seen
}

async fn tcp(relay: &Relay) -> TcpStream {
    relay.tcp_from(Ipv4Addr::LOCALHOST).await
}

/// Connections that are dropped unanswered.
pub(crate) async fn drops() -> Seen {
    let mut seen = Seen::default();
    let flags: [(&[&str], &str); 3] = [
        (
            &["--connect-burst", "3", "--connect-per-second", "1"],
            "address_rate",
        ),
        (
            &["--max-handshakes", "8", "--max-handshakes-per-ip", "1"],
            "address_full",
        ),
        (&["--max-handshakes", "1"], "all_full"),
    ];
    for (args, reason) in flags {
        let relay = relay(args).await;
        let mut held = Vec::new();
        // The place of the connection by which the harness looked whether it serves may not be free yet.
        while relay.metric("pyrycode_relay_handshakes").await == Some(0.0) {
            held.push(tcp(&relay).await);
        }
        for _ in 0..3 {
            held.push(tcp(&relay).await);
        }
        let dropped = format!("connections_dropped_total{{reason=\"{reason}\"}}");
        let mut series = vec![&*dropped, "handshakes"];
        if reason == "address_rate" {
            series.push("limiter_entries{table=\"connects\"}");
        }
        seen.until(&relay, &series).await;
    }
    let strangers = relay(&["--proxy-protocol", "--trust-proxy", "192.0.2.0/24"]).await;
    drop(tcp(&strangers).await);
    let dropped = "connections_dropped_total{reason=\"untrusted_proxy\"}";
    seen.until(&strangers, &[dropped]).await;
    seen
}

/// TLS, and what stands in front of it.
pub(crate) async fn tls_and_proxies() -> Seen {
    let mut seen = Seen::default();
    let proxied = relay(&["--proxy-protocol"]).await;
    tcp(&proxied)
        .await
        .write_all(b"hostile, and no header\r\n")
        .await
        .unwrap();
    seen.until(&proxied, &["handshake_failures_total{stage=\"proxy\"}"])
        .await;

    let relay = tls_relay(&["--process-metrics"]).await;
    tcp(&relay)
        .await
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certificate("ca.pem")).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = TlsConnector::from(Arc::new(config));
    for _ in 0..2 {
        let name = ServerName::try_from(HOST).unwrap();
        let mut stream = client.connect(name, tcp(&relay).await).await.unwrap();
        // The ticket comes with the answer.
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: relay.test\r\n\r\n")
            .await
            .unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let series = [
        "tls_handshakes_total{kind=\"full\"}",
        "tls_handshakes_total{kind=\"resumed\"}",
        "handshake_failures_total{stage=\"tls\"}",
        "certificate_not_before_timestamp_seconds",
        "certificate_not_after_timestamp_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "process_threads",
    ];
    seen.until(&relay, &series).await;
    let not_after = relay
        .metric("pyrycode_relay_certificate_not_after_timestamp_seconds")
        .await;
    assert!(not_after.unwrap() > 1_700_000_000.0, "{not_after:?}");
    seen
}

/// What is exported only if somebody asks for it.
pub(crate) async fn without_options() -> Seen {
    let mut seen = Seen::default();
    let relay = Launch::new(&[]).over(Transport::Plain).start().await;
    seen.until(&relay, &["connections_limit"]).await;
    for absent in ["process_", "certificate_", "push_"] {
        let there: Vec<_> = seen.all.iter().filter(|s| s.starts_with(absent)).collect();
        assert!(there.is_empty(), "{there:?}");
    }
    seen
}

/// A log that nobody reads fills up, and costs nothing but its lines.
pub(crate) async fn unread_log() -> Seen {
    let mut seen = Seen::default();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("log").to_str().unwrap().to_owned();
    let script = format!("mkfifo {pipe} && exec \"$@\" 2<>{pipe}");
    let wrapper = ["sh", "-c", &script, "sh"].map(str::to_owned);
    let relay = Launch::new(&["--rate-burst", "0"])
        .through(&wrapper)
        .start()
        .await;
    // Each has some lines when it comes and goes, and twenty about what it sends.
    for n in 0..500 {
        let mut daemon = relay.daemon(&format!("hostile-{n}")).await;
        for _ in 0..20 {
            daemon.send("hostile, and no envelope");
        }
        daemon.expect_alive().await;
    }
    seen.until(&relay, &["log_lines_dropped_total"]).await;
    seen
}

/// With push, every outcome of a wake.
pub(crate) async fn wakes() -> Seen {
    let mut seen = Seen::default();
    let google = Google::start().await;
    google.tokens([Answer::status(400)]);
    let unregistered = r#"{"error":{"details":[{
        "@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"UNREGISTERED"}]}}"#;
    google.fcm([
        Answer::status(404).body(unregistered),
        Answer::status(400),
        Answer::status(200),
        Answer::status(200).held(),
    ]);
    let relay = google.relay().await;
    let daemon = relay.daemon("hostile-home").await;
    for (n, outcome) in ["token_fetch_failed", "unregistered", "send_failed", "sent"]
        .iter()
        .enumerate()
    {
        daemon.send(&wakes::envelope(&format!("hostile-{n}")));
        let series = format!("push_wakes_total{{outcome=\"{outcome}\"}}");
        seen.until(&relay, &[&series]).await;
    }
    for n in 0..4 {
        daemon.send(&wakes::envelope(&format!("hostile-more-{n}")));
    }
    let series = [
        "push_wakes_total{outcome=\"dropped\"}",
        "push_in_flight",
        "limiter_entries{table=\"wakes\"}",
    ];
    seen.until(&relay, &series).await;
    google.release();
    seen
}
