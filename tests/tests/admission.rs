//! Who may try to connect, and how many may be connected: the rate of attempts, the cap, and whose
//! address counts.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::Ipv4Addr;
use std::time::Instant;

use relay_tests::{DAEMON_HEADERS, Headers, Relay, Response, eventually, exchange};

const ENDPOINTS: [&str; 2] = ["/v1/server", "/v1/client"];

const CLOSE: (&str, &str) = ("Connection", "close");

/// An attempt that costs its token and nothing else: let through, it is 400 for want of headers.
async fn knock(relay: &Relay, path: &str, forwarded: &str) -> Response {
    let headers = [("X-Forwarded-For", forwarded), CLOSE];
    relay.http("GET", path, &headers).await
}

/// Knocks until the answer is 429; how often it was let through, and that answer.
async fn knock_until_refused(relay: &Relay, path: &str, forwarded: &str) -> (u64, Response) {
    for passed in 0..1_000 {
        let answer = knock(relay, path, forwarded).await;
        match answer.status {
            400 => {}
            429 => return (passed, answer),
            other => panic!("{other} on {path}"),
        }
    }
    panic!("no limit in sight");
}

fn retry_after(answer: &Response) -> u64 {
    let value = answer.header("retry-after").expect("a Retry-After");
    value.parse().expect("whole seconds")
}

/// Ours has a bucket for each endpoint, of 60 and 60 more a minute, and says when to come back; the
/// reference has one of 20 for both, 10 more a minute, and says nothing.
#[tokio::test]
async fn c60_sixty_attempts_at_once_then_429_until_the_bucket_refills() {
    let relay = Relay::start_bare(&["--trust-x-forwarded-for"]).await;
    for path in ENDPOINTS {
        let began = Instant::now();
        // Every full second gives one attempt back.
        let granted = || 60 + began.elapsed().as_secs();
        let (mut passed, refused) = knock_until_refused(&relay, path, "192.0.2.1").await;
        assert!(passed >= 60 && passed <= granted(), "{passed} on {path}");
        assert_eq!(retry_after(&refused), 1);
        assert_eq!(
            refused.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        refused.expect_contentless();

        let other = knock(&relay, path, "192.0.2.2").await;
        assert_eq!(other.status, 400, "another address on {path}");
        for _ in 0..5 {
            let headers = [("X-Forwarded-For", "192.0.2.1"), CLOSE];
            assert_eq!(relay.http("GET", "/healthz", &headers).await.status, 200);
        }

        // Being refused costs nothing and does not put the next one off.
        eventually("the next attempt to be let through", || async {
            (knock(&relay, path, "192.0.2.1").await.status == 400).then_some(())
        })
        .await;
        passed += 1;
        passed += knock_until_refused(&relay, path, "192.0.2.1").await.0;
        assert!(passed >= 61 && passed <= granted(), "{passed} on {path}");
    }
    let line = relay.log.wait("rate_limited", &[]).await;
    assert_eq!(line.level, "WARN");
    assert_eq!(line.get("remote"), Some("\"192.0.2.1\""));
    for endpoint in ["server", "client"] {
        let series = "pyrycode_relay_ws_upgrade_attempts_total";
        let series = format!("{series}{{endpoint=\"{endpoint}\",outcome=\"reject_rate_limit\"}}");
        assert!(relay.metric(&series).await.unwrap() >= 2.0, "{series}");
    }
    let series = "pyrycode_relay_register_failures_total{kind=\"ratelimit\"}";
    assert!(relay.metric(series).await.unwrap() >= 4.0);
}

/// By default the address is the TCP peer's.
#[tokio::test]
async fn c60_addresses_have_buckets_of_their_own() {
    let relay = Relay::start_bare(&["--rate-burst", "3", "--rate-per-minute", "1"]).await;
    for last in [1, 2, 3] {
        let source = Ipv4Addr::new(127, 0, 0, last);
        for path in ENDPOINTS {
            let mut answers = Vec::new();
            for _ in 0..4 {
                let mut stream = relay.over(relay.tcp_from(source).await).await;
                let request =
                    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                answers.push(exchange(&mut stream, &request).await);
            }
            let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [400, 400, 400, 429], "{source} on {path}");
            assert!((1..=60).contains(&retry_after(&answers[3])));
        }
    }
}

#[tokio::test]
async fn c61_the_cap_is_503_before_the_handshake_and_leaves_health_alone() {
    let relay = Relay::start(&["--max-connections", "1"]).await;
    let daemon = relay.daemon("home").await;
    for (path, refused) in [
        ("/v1/server", relay.try_daemon("away", &[]).await.err()),
        ("/v1/client", relay.try_phone("home").await.err()),
    ] {
        let refused = refused.unwrap_or_else(|| panic!("no cap on {path}"));
        assert_eq!(refused.status, 503, "{path}");
        // Ours says when to come back.
        assert!(refused.retry_after.is_some_and(|s| (1..=60).contains(&s)));
        let line = relay.log.wait("conn_cap_reached", &[("path", path)]).await;
        assert_eq!(line.level, "WARN");
        assert_eq!(line.get("remote"), Some("127.0.0.1"));
    }
    assert_eq!(relay.http("GET", "/healthz", &[CLOSE]).await.status, 200);
    relay
        .expect_metric("pyrycode_relay_connected_binaries", 1.0)
        .await;
    daemon.cut().await;
    eventually("a place", || async {
        relay.try_daemon("away", &[]).await.ok()
    })
    .await;
}

#[tokio::test]
async fn c62_the_rate_comes_before_the_cap_and_the_cap_before_the_headers() {
    let flags = [
        "--max-connections",
        "1",
        "--rate-burst",
        "3",
        "--rate-per-minute",
        "1",
    ];
    let relay = Relay::start(&flags).await;
    let _daemon = relay.daemon("home").await;
    for (path, left) in [("/v1/server", 2), ("/v1/client", 3)] {
        for _ in 0..left {
            let answer = relay.http("GET", path, &[CLOSE]).await;
            assert_eq!(answer.status, 503, "not 400: {path}");
            answer.expect_contentless();
        }
        let answer = relay.http("GET", path, &[CLOSE]).await;
        assert_eq!(answer.status, 429, "{path}");
    }
}

const ONE_ATTEMPT: [&str; 4] = ["--rate-burst", "1", "--rate-per-minute", "1"];

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// That a dial from `source` with these `X-Forwarded-For` headers counts as `client`'s: for the log,
/// and for the limits, which grant each client one attempt.
async fn assert_client(relay: &Relay, source: Ipv4Addr, forwarded: &[&str], client: &str) {
    let server_id = format!("{source}/{}/", forwarded.join("/"));
    let mut headers = vec![("x-pyrycode-server", &*server_id)];
    headers.extend(DAEMON_HEADERS);
    headers.extend(forwarded.iter().map(|&value| ("X-Forwarded-For", value)));
    let first = relay.over(relay.tcp_from(source).await).await;
    let dialled = relay.upgrade_on(first, "/v1/server", &headers).await;
    let _daemon = dialled.unwrap_or_else(|refused| panic!("{server_id}: {refused:?}"));
    let of_id = [("server_id", &*server_id)];
    let claimed = relay.log.wait("server_claimed", &of_id).await;
    assert_eq!(claimed.get("remote"), Some(client), "{server_id}");
    assert_refused(relay, source, &headers, client).await;
}

/// That a dial from `source` counts as `client`'s, who has made the attempt it had.
async fn assert_refused(relay: &Relay, source: Ipv4Addr, headers: Headers<'_>, client: &str) {
    let before = relay.log.count("rate_limited", &[]);
    let stream = relay.over(relay.tcp_from(source).await).await;
    let refused = relay.upgrade_on(stream, "/v1/server", headers).await;
    assert_eq!(refused.err().unwrap().status, 429, "{headers:?}");
    let line = relay.log.wait_nth(before + 1, "rate_limited", &[]).await;
    assert_eq!(line.get("remote"), Some(&*format!("\"{client}\"")));
}

#[tokio::test]
async fn c63_without_a_trust_flag_x_forwarded_for_counts_for_nothing() {
    let relay = Relay::start_bare(&ONE_ATTEMPT).await;
    assert_client(&relay, LOCALHOST, &["203.0.113.7"], "127.0.0.1").await;
    let spoofed = [("X-Forwarded-For", "203.0.113.8")];
    assert_refused(&relay, LOCALHOST, &spoofed, "127.0.0.1").await;
}

/// As in the reference, but that ours shows the address which the limits use in every log line, and
/// the reference the TCP peer's in all but `rate_limited`.
#[tokio::test]
async fn c63_with_trust_x_forwarded_for_the_left_most_element_of_the_first_header_counts() {
    let flags = [&ONE_ATTEMPT[..], &["--trust-x-forwarded-for"]].concat();
    let relay = Relay::start_bare(&flags).await;
    for (forwarded, client) in [
        (&["203.0.113.1"][..], "203.0.113.1"),
        (&[" 203.0.113.2 , 10.0.0.1"], "203.0.113.2"),
        (&["203.0.113.3", "203.0.113.4"], "203.0.113.3"),
        (&["2001:db8:1::7"], "2001:db8:1::7"),
        // Whoever it is, it is one client.
        (&["unknown"], "unknown"),
    ] {
        assert_client(&relay, LOCALHOST, forwarded, client).await;
    }
    // Nothing there, or blank: the TCP peer.
    for (last, forwarded) in [(2, &[][..]), (3, &["  "]), (4, &[" , 203.0.113.5"])] {
        let source = Ipv4Addr::new(127, 0, 0, last);
        assert_client(&relay, source, forwarded, &source.to_string()).await;
    }
    // All addresses of an IPv6 subscriber are one client.
    let neighbour = [("X-Forwarded-For", "2001:db8:1::8")];
    assert_refused(&relay, LOCALHOST, &neighbour, "2001:db8:1::8").await;
}

/// Ours: our own proxies are named, and what they appended is believed; the reference has no such list.
#[tokio::test]
async fn c63_with_trust_proxy_the_last_element_that_is_no_proxy_of_ours_counts() {
    let ours = "127.0.0.0/30,10.0.0.0/8,fd00::/8";
    let flags = [&ONE_ATTEMPT[..], &["--trust-proxy", ours]].concat();
    let relay = Relay::start_bare(&flags).await;
    for (forwarded, client) in [
        (&["203.0.113.1"][..], "203.0.113.1"),
        // What stands before the element that our proxy added, anybody can write.
        (&["198.51.100.1, 203.0.113.2"], "203.0.113.2"),
        (&["198.51.100.1, 203.0.113.3, 10.1.2.3"], "203.0.113.3"),
        (&["10.0.0.1, 203.0.113.4,10.1.2.3 , fd00::1"], "203.0.113.4"),
        // Repeated headers are one list.
        (&["198.51.100.1", "203.0.113.5", "10.1.2.3"], "203.0.113.5"),
        (&["198.51.100.1, 203.0.113.6", "10.1.2.3"], "203.0.113.6"),
        (&["unknown, 203.0.113.8"], "203.0.113.8"),
        // With ports, as some proxies write them.
        (&["203.0.113.9:4711"], "203.0.113.9"),
        (&["203.0.113.10:4711, 10.1.2.3:4712"], "203.0.113.10"),
        (&["2001:db8:1::7"], "2001:db8:1::7"),
        (&["[2001:db8:2::7]"], "2001:db8:2::7"),
        (
            &["198.51.100.1, [2001:db8:3::7]:4711, [fd00::1]:4712"],
            "2001:db8:3::7",
        ),
    ] {
        assert_client(&relay, LOCALHOST, forwarded, client).await;
    }
    // The same client by another way.
    for forwarded in [
        "203.0.113.9",
        "203.0.113.9:4713",
        "1.2.3.4, 203.0.113.9, fd00::7",
    ] {
        let forwarded = [("X-Forwarded-For", forwarded)];
        assert_refused(&relay, LOCALHOST, &forwarded, "203.0.113.9").await;
    }
    // From a peer that is no proxy of ours, the header counts for nothing.
    let stranger = Ipv4Addr::new(127, 0, 0, 5);
    assert_client(&relay, stranger, &["203.0.113.99"], "127.0.0.5").await;
    // Without the header the proxy itself is the client.
    let proxy = Ipv4Addr::new(127, 0, 0, 2);
    assert_client(&relay, proxy, &[], "127.0.0.2").await;
}
