//! The PROXY protocol in front of the public listener, on plain TCP and on TLS.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use relay_tests::{DAEMON_HEADERS, HOST, Launch, Peer, Refused, Relay, Transport, exchange, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, command PROXY; LOCAL is 0x20.
const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;

/// Families and transports of version 2.
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;

/// The ways to ask for it: the reference's flag, which is for TLS, and ours.
const WAYS: [(Transport, &str); 3] = [
    (Transport::Plain, "--proxy-protocol"),
    (Transport::Tls, "--proxy-protocol"),
    (Transport::Tls, "--https-proxy-protocol"),
];

async fn start(way: (Transport, &str), args: &[&str]) -> Relay {
    let launch = Launch::new(&[way.1]).args(args);
    launch.over(way.0).start().await
}

/// A header of version 2 around a body.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

/// A header of version 2 that says `source` is calling.
fn v2_from(source: &str) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let ports = [source.port().to_be_bytes(), 443_u16.to_be_bytes()].concat();
    match source {
        SocketAddr::V4(v4) => {
            let addresses = [v4.ip().octets(), [192, 0, 2, 200]].concat();
            v2(PROXY, TCP4, &[addresses, ports].concat())
        }
        SocketAddr::V6(v6) => {
            let addresses = [v6.ip().octets(), [0x20; 16]].concat();
            v2(PROXY, TCP6, &[addresses, ports].concat())
        }
    }
}

/// The same of version 1.
fn v1_from(source: &str) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let (family, target) = match source {
        SocketAddr::V4(_) => ("TCP4", "192.0.2.200"),
        SocketAddr::V6(_) => ("TCP6", "2001:db8::200"),
    };
    let (ip, port) = (source.ip(), source.port());
    format!("PROXY {family} {ip} {target} {port} 443\r\n").into_bytes()
}

/// The beginning of a ClientHello: a peer that knows nothing of the PROXY protocol.
fn client_hello() -> Vec<u8> {
    [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 501]].concat()
}

/// As a load balancer looks whether anybody is there: what was not begun has not failed.
#[tokio::test]
async fn a_connection_that_ends_before_it_began_is_no_failure() {
    for way in WAYS {
        let relay = start(way, &["--trust-proxy", "127.0.0.1"]).await;
        for said in [&b""[..], &v2(LOCAL, UNSPEC, b"")] {
            let mut tcp = relay.tcp_from(LOCALHOST).await;
            tcp.write_all(said).await.unwrap();
            tcp.shutdown().await.unwrap();
            assert_eq!(answer(tcp).await, b"");
            let mut tcp = relay.tcp_from(LOCALHOST).await;
            tcp.write_all(said).await.unwrap();
            // It ends with a reset.
            tcp.set_zero_linger().unwrap();
            drop(tcp);
        }
        // It is counted, and the first failure.
        let mut tcp = relay.tcp_from(LOCALHOST).await;
        tcp.write_all(b"PROXY").await.unwrap();
        tcp.shutdown().await.unwrap();
        answer(tcp).await;
        let failures = "pyrycode_relay_handshake_failures_total";
        for (stage, count) in [("proxy", 1.0), ("tls", 0.0), ("http", 0.0)] {
            let name = format!("{failures}{{stage=\"{stage}\"}}");
            assert_eq!(relay.metric(&name).await.unwrap_or(0.0), count, "{name}");
        }
    }
}

/// What the relay answers before it hangs up. A reset tells as much as an orderly end.
async fn answer(mut tcp: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = soon("the relay to hang up", tcp.read_to_end(&mut bytes));
    let _ = read.await;
    bytes
}

async fn assert_refused(relay: &Relay, bytes: &[u8]) {
    let mut tcp = relay.tcp_from(LOCALHOST).await;
    // It may have hung up before everything is written.
    let _ = tcp.write_all(bytes).await;
    let answer = answer(tcp).await;
    assert!(
        answer.is_empty(),
        "{} to {}",
        answer.escape_ascii(),
        bytes.escape_ascii()
    );
}

/// A connection whose PROXY header is `header`.
async fn connect(relay: &Relay, header: &[u8]) -> relay_tests::Stream {
    let mut tcp = relay.tcp_from(LOCALHOST).await;
    tcp.write_all(header).await.unwrap();
    relay.over(tcp).await
}

/// A daemon's dial behind `header`.
async fn dial(relay: &Relay, header: &[u8], server_id: &str) -> Result<Peer, Refused> {
    let headers = [&[("x-pyrycode-server", server_id)], DAEMON_HEADERS].concat();
    let stream = connect(relay, header).await;
    relay.upgrade_on(stream, "/v1/server", &headers).await
}

/// The address the log names for the daemon of `server_id`.
async fn remote(relay: &Relay, server_id: &str) -> String {
    let of_id = [("server_id", server_id)];
    let line = relay.log.wait("server_claimed", &of_id).await;
    line.get("remote").unwrap().to_owned()
}

async fn health(relay: &Relay, header: &[u8]) -> u16 {
    let mut stream = connect(relay, header).await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    exchange(&mut stream, &request).await.status
}

/// Ours accepts version 1, the reference doesn't.
#[tokio::test]
async fn c77_what_is_no_header_for_a_tcp_connection_is_closed_with_zero_bytes() {
    let source = "198.51.100.1:4711";
    let v4 = v2_from(source)[16..].to_vec();
    let mut later_version = v2_from(source);
    later_version[12] = 0x31;
    for way in WAYS {
        let relay = start(way, &[]).await;
        for bytes in [
            // None.
            b"GET /healthz HTTP/1.1\r\nHost: relay.test\r\n\r\n".to_vec(),
            client_hello(),
            // Garbage.
            vec![0; 300],
            vec![b'x'; 5_000],
            b"\r\n\r\n\0\r\nQUIT\r\n\r\n".to_vec(),
            later_version.clone(),
            b"PROXY\r\n".to_vec(),
            b"PROXY TCP4 somewhere 192.0.2.200 4711 443\r\n".to_vec(),
            b"PROXY TCP4 198.51.100.1 192.0.2.200 99999 443\r\n".to_vec(),
            b"PROXY TCP6 198.51.100.1 192.0.2.200 4711 443\r\n".to_vec(),
            format!("PROXY TCP4 {}\r\n", "1".repeat(200)).into_bytes(),
            v2(PROXY, TCP4, &v4[..11]),
            // Health checks, of whoever it is.
            v2(LOCAL, UNSPEC, &[]),
            v2(LOCAL, TCP4, &v4),
            b"PROXY UNKNOWN\r\n".to_vec(),
            // Not of a TCP connection.
            v2(PROXY, UNSPEC, &[]),
            v2(PROXY, UDP4, &v4),
            v2(PROXY, UNIX, &[0; 216]),
        ] {
            assert_refused(&relay, &bytes).await;
        }
        // An end inside the header.
        let mut tcp = relay.tcp_from(LOCALHOST).await;
        tcp.write_all(&v2_from(source)[..20]).await.unwrap();
        tcp.shutdown().await.unwrap();
        assert_eq!(answer(tcp).await, b"");
    }
}

#[tokio::test]
async fn c77_silence_is_closed_with_zero_bytes_after_the_header_timeout() {
    for way in WAYS {
        let relay = start(way, &["--header-timeout", "1s"]).await;
        let began = Instant::now();
        let mut ends = Vec::new();
        for beginning in [&b""[..], b"P", b"PROXY TCP4 198.51.100.1", SIGNATURE] {
            let mut tcp = relay.tcp_from(LOCALHOST).await;
            tcp.write_all(beginning).await.unwrap();
            ends.push(tokio::spawn(answer(tcp)));
        }
        for end in ends {
            assert_eq!(end.await.unwrap(), b"");
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(950), "{took:?}");
        assert!(took < Duration::from_secs(8), "{took:?}");
    }
}

#[tokio::test]
async fn c77_two_sources_behind_one_proxy_have_buckets_of_their_own() {
    for way in WAYS {
        let relay = start(way, &["--rate-burst", "1", "--rate-per-minute", "1"]).await;
        for (n, (header, source)) in [
            (v2_from("198.51.100.1:4711"), "198.51.100.1"),
            (v2_from("[2001:db8:2::7]:4711"), "2001:db8:2::7"),
            (v1_from("198.51.100.3:4711"), "198.51.100.3"),
            (v1_from("[2001:db8:4::7]:4711"), "2001:db8:4::7"),
        ]
        .into_iter()
        .enumerate()
        {
            let server_id = format!("home-{n}");
            let _daemon = dial(&relay, &header, &server_id).await.expect(source);
            assert_eq!(remote(&relay, &server_id).await, source);
            let refused = dial(&relay, &header, "again").await.err().expect(source);
            assert_eq!(refused.status, 429);
            let quoted = format!("\"{source}\"");
            relay.log.wait("rate_limited", &[("remote", &quoted)]).await;
        }
        // The same client, by the other version.
        let again = dial(&relay, &v1_from("198.51.100.1:4712"), "again").await;
        assert_eq!(again.err().unwrap().status, 429);
    }
}

#[tokio::test]
async fn a_header_may_have_extensions_and_come_in_pieces() {
    for way in WAYS {
        let relay = start(way, &[]).await;
        let mut body = v2_from("198.51.100.1:4711")[16..].to_vec();
        // An ALPN, and a type nobody knows.
        body.extend([&[1, 0, 8][..], b"http/1.1", &[0xe0, 0, 200], &[7; 200]].concat());
        let extended = v2(PROXY, TCP4, &body);
        let _daemon = dial(&relay, &extended, "extended").await.unwrap();
        assert_eq!(remote(&relay, "extended").await, "198.51.100.1");

        body.resize(4_096, 0xe1);
        let longest = v2(PROXY, TCP4, &body);
        let _daemon = dial(&relay, &longest, "longest").await.unwrap();
        assert_eq!(remote(&relay, "longest").await, "198.51.100.1");
        body.push(0);
        assert_refused(&relay, &v2(PROXY, TCP4, &body)).await;

        for (server_id, header) in [
            ("pieces-2", v2_from("198.51.100.2:4711")),
            ("pieces-1", v1_from("198.51.100.2:4711")),
        ] {
            let mut tcp = relay.tcp_from(LOCALHOST).await;
            for byte in &header {
                tcp.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            let stream = relay.over(tcp).await;
            let headers = [&[("x-pyrycode-server", server_id)], DAEMON_HEADERS].concat();
            let _daemon = relay
                .upgrade_on(stream, "/v1/server", &headers)
                .await
                .unwrap();
            assert_eq!(remote(&relay, server_id).await, "198.51.100.2");
        }
    }
}

/// What is in the same segment as the header belongs to the connection.
#[tokio::test]
async fn nothing_behind_the_header_is_lost() {
    let relay = start((Transport::Plain, "--proxy-protocol"), &[]).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for header in [v1_from("198.51.100.1:1"), v2_from("198.51.100.1:1")] {
        let mut tcp = relay.tcp_from(LOCALHOST).await;
        tcp.write_all(&[&header, &request[..]].concat())
            .await
            .unwrap();
        let answer = answer(tcp).await;
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            answer.escape_ascii()
        );
    }
}

/// Ours: with a list of our proxies they alone may send headers, and their own health checks are
/// served; the reference believes everybody, and refuses health checks.
#[tokio::test]
async fn c77_with_trust_proxy_only_those_are_heard() {
    for way in WAYS {
        let ours = start(way, &["--trust-proxy", "127.0.0.0/8,10.0.0.0/8"]).await;
        let local = [
            v2(LOCAL, UNSPEC, &[]),
            v2(LOCAL, TCP4, &[0; 12]),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff:f::1 ffff:f::2 65535 65535\r\n".to_vec(),
        ];
        for header in &local {
            assert_eq!(
                health(&ours, header).await,
                200,
                "{}",
                header.escape_ascii()
            );
        }
        let proxied = v2_from("198.51.100.1:4711");
        let _daemon = dial(&ours, &proxied, "home").await.unwrap();
        assert_eq!(remote(&ours, "home").await, "198.51.100.1");
        assert_refused(&ours, &client_hello()).await;

        let strangers = start(way, &["--trust-proxy", "10.0.0.0/8"]).await;
        for header in local.iter().chain([&proxied, &v1_from("198.51.100.1:1")]) {
            assert_refused(&strangers, header).await;
        }
        // The operator sees that the list and the proxies do not fit, but not a line for each of them.
        let why = [("reason", "untrusted_proxy"), ("remote", "127.0.0.1")];
        strangers.log.wait("connections_dropped", &why).await;
        let dropped = "pyrycode_relay_connections_dropped_total{reason=\"untrusted_proxy\"}";
        let counted = strangers.metric(dropped).await.unwrap();
        assert!(counted >= local.len() as f64 + 2.0, "{counted}");
        let began = Instant::now();
        let before = strangers.log.count("connections_dropped", &why);
        for _ in 0..50 {
            drop(strangers.tcp_from(LOCALHOST).await);
        }
        strangers.expect_metric(dropped, counted + 50.0).await;
        let lines = strangers.log.count("connections_dropped", &why) - before;
        let seconds = began.elapsed().as_secs() as usize;
        assert!(lines <= 2 + seconds, "{lines} lines in {seconds} s");
    }
}

#[tokio::test]
async fn c77_a_stalled_header_delays_nobody() {
    for way in WAYS {
        let relay = start(way, &["--header-timeout", "60s"]).await;
        let mut stalled = Vec::new();
        for n in 0..50 {
            let mut tcp = relay.tcp_from(LOCALHOST).await;
            tcp.write_all(&SIGNATURE[..n % 12]).await.unwrap();
            stalled.push(tcp);
        }
        let began = Instant::now();
        let header = v2_from("198.51.100.1:4711");
        assert_eq!(health(&relay, &header).await, 200);
        let mut daemon = dial(&relay, &header, "home").await.unwrap();
        daemon.expect_alive().await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

/// The certificate's name is checked as without the header.
#[tokio::test]
async fn behind_the_header_the_host_counts_as_ever() {
    let relay = Launch::new(&["--https-proxy-protocol", "--domain", HOST])
        .over(Transport::Tls)
        .start()
        .await;
    let mut stream = connect(&relay, &v2_from("198.51.100.1:1")).await;
    let request = "GET /healthz HTTP/1.1\r\nHost: other.test\r\n\r\n";
    assert_eq!(exchange(&mut stream, request).await.status, 421);
}

/// The places of an address before its request count for whoever the header names.
#[tokio::test]
async fn the_limit_of_handshakes_is_that_of_the_client() {
    let relay = start(WAYS[0], &["--max-handshakes-per-ip", "2"]).await;
    let mut waiting = Vec::new();
    for port in [1, 2] {
        let mut tcp = relay.tcp_from(LOCALHOST).await;
        let header = v1_from(&format!("198.51.100.1:{port}"));
        tcp.write_all(&header).await.unwrap();
        waiting.push(tcp);
    }
    let full = "pyrycode_relay_connections_dropped_total{reason=\"address_full\"}";
    assert_eq!(relay.metric(full).await, Some(0.0));
    // Whichever of the three is the last to be read is one too many.
    assert_refused(&relay, &v1_from("198.51.100.1:3")).await;
    assert_eq!(relay.metric(full).await, Some(1.0));
    assert_eq!(health(&relay, &v1_from("198.51.100.2:4")).await, 200);
}
