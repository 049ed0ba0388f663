//! A relay that has a name answers to no other, and its port 80 answers the CA and nobody else.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use relay_tests::{HOST, Launch, Relay, Response, Stream, Transport, exchange, soon, tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ROUTES: [&str; 6] = [
    "/healthz",
    "/livez",
    "/readyz",
    "/v1/server",
    "/v1/client",
    "/nowhere",
];

async fn named() -> Relay {
    let launch = Launch::new(&["--domain", HOST, "--rate-burst", "0"]);
    launch.over(Transport::Tls).start().await
}

async fn get(stream: &mut Stream, path: &str, host: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(stream, &request).await
}

#[tokio::test]
async fn c76_another_host_is_421_on_every_path() {
    let relay = named().await;
    let port = relay.addr().port();
    for host in [
        HOST,
        "Relay.TEST",
        &format!("{HOST}:{port}"),
        "RELAY.test:1",
    ] {
        let health = get(&mut relay.connect().await, "/healthz", host).await;
        assert_eq!(health.status, 200, "{host}");
        let gate = get(&mut relay.connect().await, "/v1/client", host).await;
        assert_eq!(gate.status, 400, "{host}");
    }
    for host in [
        "other.test",
        "relay.test.other.test",
        "xrelay.test",
        "127.0.0.1",
        "[::1]",
        "",
    ] {
        for path in ROUTES {
            let answer = get(&mut relay.connect().await, path, host).await;
            assert_eq!(answer.status, 421, "{host} {path}");
            assert_eq!(answer.header("content-length"), Some("0"), "{host} {path}");
            assert!(answer.body.is_empty());
        }
    }
    // A target with a host overrides the header.
    for (target, status) in [(HOST, 200), ("other.test", 421)] {
        let target = format!("https://{target}/healthz");
        let answer = get(&mut relay.connect().await, &target, "other.test").await;
        assert_eq!(answer.status, status, "{target}");
    }
    // Peers are served.
    let (mut daemon, mut phone, _) = relay.pair("home").await;
    daemon.expect_alive().await;
    phone.expect_alive().await;
}

/// RFC 9112, section 3.2. Before HTTP/1.1 there was no such header, and health checks that old are served.
#[tokio::test]
async fn a_request_without_a_host_or_with_two_is_400() {
    let relay = Relay::start(&[]).await;
    for path in ROUTES {
        for hosts in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a\r\nHost: b\r\n",
            "Host: a b\r\n",
            "Host: user@a\r\n",
        ] {
            let request = format!("GET {path} HTTP/1.1\r\n{hosts}\r\n");
            let answer = exchange(&mut relay.connect().await, &request).await;
            assert_eq!(answer.status, 400, "{request}");
            assert_eq!(answer.header("connection"), Some("close"), "{request}");
            answer.expect_contentless();
        }
    }
    let old = [
        ("", 200),
        ("Host: a\r\n", 200),
        ("Host: a\r\nHost: b\r\n", 400),
    ];
    for (hosts, status) in old {
        let request = format!("GET /healthz HTTP/1.0\r\n{hosts}\r\n");
        let answer = exchange(&mut relay.connect().await, &request).await;
        assert_eq!(answer.status, status, "{request}");
    }
    // A target with a host does not stand for the header.
    let request = "GET http://a/healthz HTTP/1.1\r\n\r\n";
    let answer = exchange(&mut relay.connect().await, request).await;
    assert_eq!(answer.status, 400);
    let refusals = "pyrycode_relay_http_refusals_total{reason=\"host\"}";
    relay.expect_metric(refusals, 32.0).await;
}

#[tokio::test]
async fn c76_another_name_in_the_tls_handshake_is_no_handshake() {
    let relay = named().await;
    // The certificate is also for this address, and an address is not sent as SNI.
    for name in ["other.test", "sub.relay.test", "127.0.0.1"] {
        let tcp = relay.tcp_from(Ipv4Addr::LOCALHOST).await;
        let error = tls(tcp, name).await.expect_err(name).to_string();
        assert!(error.contains("alert"), "the relay ended it: {error}");
    }
    relay.expect_counts(0, 0).await;
}

/// Without a name (ours; the reference always has one) every host is served.
#[tokio::test]
async fn without_a_domain_every_host_is_served() {
    let relay = Launch::new(&[]).over(Transport::Tls).start().await;
    for host in [HOST, "other.test"] {
        let health = get(&mut relay.connect().await, "/healthz", host).await;
        assert_eq!(health.status, 200, "{host}");
    }
    let tcp = relay.tcp_from(Ipv4Addr::LOCALHOST).await;
    let mut stream = tls(tcp, "127.0.0.1").await.unwrap();
    assert_eq!(get(&mut stream, "/healthz", "a").await.status, 200);
}

#[tokio::test]
async fn c76_port_80_answers_challenges_and_redirects_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Launch::new(&["--domain", HOST])
        .args(&["--cert-cache", folder.path().to_str().unwrap()])
        // Nobody is there: no certificate, and no challenge.
        .args(&["--acme-directory", "https://127.0.0.1:1/directory"])
        .over_tls_with_its_own_certificate()
        .listener("--http-listen")
        .start()
        .await;
    let challenge = "/.well-known/acme-challenge/token";
    let port_80 = relay.listener("--http-listen");
    for (path, host, status) in [
        ("/", HOST, 404),
        ("/healthz", HOST, 404),
        ("/v1/server", HOST, 404),
        ("/metrics", HOST, 404),
        ("/.well-known/acme-challenge/", HOST, 404),
        (challenge, HOST, 404),
        (challenge, "other.test", 403),
    ] {
        let mut stream = Transport::Plain.connect(port_80).await;
        let answer = get(&mut stream, path, host).await;
        assert_eq!(answer.status, status, "{path} of {host}");
        assert_eq!(answer.header("location"), None, "{path} of {host}");
    }
}

/// A TLS handshake has the time of a request's head.
#[tokio::test]
async fn a_tls_handshake_that_stalls_is_closed() {
    let launch = Launch::new(&["--header-timeout", "1s"]);
    let relay = launch.over(Transport::Tls).start().await;
    let began = Instant::now();
    // Nothing, and the beginning of a ClientHello.
    for beginning in [&b""[..], &[0x16, 3, 1, 2, 0, 1]] {
        let mut tcp = relay.tcp_from(Ipv4Addr::LOCALHOST).await;
        tcp.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        let end = soon("the relay to hang up", tcp.read_to_end(&mut answer));
        // By FIN or by a reset: what counts is that it ends.
        let _ = end.await;
        assert!(answer.is_empty(), "{}", answer.escape_ascii());
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    relay.expect_counts(0, 0).await;
}
