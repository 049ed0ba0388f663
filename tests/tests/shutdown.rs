//! SIGTERM and SIGINT.

use std::time::{Duration, Instant};

use relay_tests::{Launch, Relay, eventually, frame, op};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEALTH: &str = "--health-listen";

#[tokio::test]
async fn c78_everyone_gets_1001_and_the_program_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut relay = Relay::start(&[]).await;
        let mut daemon = relay.daemon("home").await;
        let mut phones = Vec::new();
        for _ in 0..5 {
            let mut phone = relay.phone("home").await;
            daemon.hear(&mut phone).await;
            phones.push(phone);
        }
        relay.daemon("gracing").await.cut().await;
        relay
            .log
            .wait("server_released", &[("server_id", "gracing")])
            .await;
        let mut waiting = relay.phone("gracing").await;
        relay.expect_counts(1, 6).await;

        let asked = Instant::now();
        relay.signal(signal);
        daemon
            .expect_close_after_messages(1001, "shutting down")
            .await;
        for phone in &mut phones {
            phone.expect_close(1001, "shutting down").await;
        }
        waiting.expect_close(1001, "shutting down").await;
        assert_eq!(relay.exited().await.code(), Some(0));
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "{:?}",
            asked.elapsed()
        );
        relay
            .log
            .wait("shutdown signal received; draining", &[])
            .await;
        relay.log.wait("shutdown complete", &[]).await;
        TcpStream::connect(relay.addr())
            .await
            .expect_err("nobody listens any more");
    }
}

#[tokio::test]
async fn c78_while_it_drains_new_dials_are_refused() {
    let mut relay = Relay::start(&[]).await;
    // A peer that answers nothing keeps the drain going.
    let mut daemon = relay.raw_daemon("home").await;
    relay.terminate();
    // Its close frame shows that the drain has begun.
    assert_eq!(daemon.close_frame().await, (1001, "shutting down".into()));
    for address in [relay.addr(), relay.metrics_addr()] {
        eventually("the listener to be gone", || async {
            TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
    }
    assert_eq!(
        relay.log.count("shutdown complete", &[]),
        0,
        "it still drains"
    );
    drop(daemon);
    assert_eq!(relay.exited().await.code(), Some(0));
}

#[tokio::test]
async fn c78_a_peer_that_never_answers_delays_the_exit_by_at_most_12_seconds() {
    let mut relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", Some(4096)).await;
    phone.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    // It can't even be written: the close frame has to wait behind these.
    let large = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..40 {
        daemon.send_to(&conn_id, &large);
    }
    daemon.expect_alive().await;
    let asked = Instant::now();
    relay.terminate();
    // The phone's end may be announced first.
    daemon
        .expect_close_after_messages(1001, "shutting down")
        .await;
    assert_eq!(relay.exited().await.code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(12),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn the_drain_ends_at_its_timeout_whatever_peers_do() {
    let mut relay = Relay::start(&["--shutdown-timeout", "1s", "--close-timeout", "60s"]).await;
    let _silent = relay.raw_daemon("home").await;
    let asked = Instant::now();
    relay.terminate();
    assert_eq!(relay.exited().await.code(), Some(0));
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_millis(900),
        "it was given its time: {took:?}"
    );
    assert!(took < Duration::from_secs(8), "{took:?}");
    relay.log.wait("drain incomplete", &[]).await;
}

/// With nobody connected there is nothing else to wait for.
#[tokio::test]
async fn who_is_in_the_middle_of_a_request_gets_an_answer() {
    let mut relay = Relay::start(&[]).await;
    let mut client = relay.connect().await;
    let request = b"GET /v1/client HTTP/1.1\r\nHost: relay.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Agent: test\r\n\
        x-pyrycode-server: home\r\n\r\n";
    let (begin, end) = request.split_at(40);
    client.write_all(begin).await.unwrap();
    client.flush().await.unwrap();
    relay.expect_metric("pyrycode_relay_handshakes", 1.0).await;
    relay.terminate();
    relay
        .log
        .wait("shutdown signal received; draining", &[])
        .await;
    client.write_all(end).await.unwrap();
    client.flush().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
    assert_eq!(relay.exited().await.code(), Some(0));
}

/// A service manager that passes on a signal which the process group has already is no reason to cut anybody's close.
#[tokio::test]
async fn only_a_third_signal_ends_the_wait_for_the_closes() {
    let patient = ["--shutdown-timeout", "120s", "--close-timeout", "120s"];
    let mut relay = Launch::new(&patient).listener(HEALTH).start().await;
    let mut daemon = relay.raw_daemon("home").await;
    let _silent = relay.raw_daemon("away").await;
    relay.terminate();
    let (code, reason) = daemon.close_frame().await;
    assert_eq!((code, &*reason), (1001, "shutting down"));
    relay.terminate();
    // It goes on to wait: what is asked after the signal is answered.
    for _ in 0..20 {
        assert_eq!(relay.http_of(HEALTH, "/readyz").await.status, 503);
    }
    daemon.frame(op::CLOSE, &code.to_be_bytes()).await;
    daemon.expect_end().await;
    relay.terminate();
    assert_eq!(relay.exited().await.code(), Some(0));
    relay.log.wait("drain incomplete", &[]).await;
}

/// After a restart every slot is empty; what a returning phone finds is not stale state.
#[tokio::test]
async fn nothing_survives_a_restart() {
    let mut relay = Relay::start(&[]).await;
    let _daemon = relay.daemon("home").await;
    relay.terminate();
    relay.exited().await;
    let next = Relay::start(&[]).await;
    let mut phone = next.phone("home").await;
    phone.expect_close(4404, "no server with that id").await;
}
