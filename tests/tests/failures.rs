//! What breaks around the relay: no descriptors left, a clock that jumps. Who is connected doesn't notice.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::Path;
use std::time::Duration;

use relay_tests::{Daemon, Launch, Phone, frame, skipped};

/// A frame each way.
async fn exchange(daemon: &mut Daemon, phone: &mut Phone, conn_id: &str) {
    phone.send(&frame(1));
    daemon.expect_frame_from(conn_id, &frame(1)).await;
    daemon.send_to(conn_id, &frame(2));
    phone.expect_frame(&frame(2)).await;
}

/// Accepting goes on when descriptors are free again; meanwhile it is tried now and then, and said once.
#[tokio::test]
async fn without_descriptors_those_who_are_there_stay_and_others_wait() {
    let limit = ["prlimit".to_owned(), "--nofile=96:96".to_owned()];
    let relay = Launch::new(&["--max-connections", "500", "--redial-burst", "0"])
        .args(&["--rate-burst", "0", "--connect-burst", "0"])
        .through(&limit)
        .start()
        .await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    let mut crowd = Vec::new();
    while relay.log.count("accept_failed", &[]) == 0 {
        assert!(
            crowd.len() < 96,
            "it accepts more than it has descriptors for"
        );
        let id = format!("crowd-{}", crowd.len());
        let dial = relay.try_daemon(&id, &[]);
        // The last ones are not answered: nobody accepts them.
        if let Ok(dialled) = tokio::time::timeout(Duration::from_millis(500), dial).await {
            crowd.push(dialled.unwrap());
        }
    }
    assert!(crowd.len() > 50, "only {} connections", crowd.len());
    for _ in 0..20 {
        exchange(&mut daemon, &mut phone, &conn_id).await;
    }
    assert_eq!(relay.log.count("accept_failed", &[]), 1, "said once");
    for gone in crowd.drain(..20) {
        gone.cut().await;
    }
    let (mut other, mut another, other_id) = relay.pair("newcomer").await;
    exchange(&mut other, &mut another, &other_id).await;
    exchange(&mut daemon, &mut phone, &conn_id).await;
}

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Heartbeats, deadlines and grace go by a clock that cannot be set.
#[tokio::test]
async fn a_clock_that_jumps_drops_nobody() {
    if !Path::new(FAKETIME).is_file() {
        return skipped("a_clock_that_jumps_drops_nobody", "no libfaketime here");
    }
    let offset = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(offset.path(), "+0").unwrap();
    let relay = Launch::new(&["--ping-interval", "200ms", "--pong-timeout", "2s"])
        .env("LD_PRELOAD", FAKETIME)
        .env(
            "FAKETIME_TIMESTAMP_FILE",
            &offset.path().display().to_string(),
        )
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .start()
        .await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    let mut days = Vec::new();
    for (n, jump) in ["+0", "+40d", "-40d"].into_iter().enumerate() {
        std::fs::write(offset.path(), jump).unwrap();
        // A line in the log shows that the jump has reached the relay.
        let id = format!("after-{n}");
        let _other = relay.daemon(&id).await;
        let line = relay
            .log
            .wait("server_claimed", &[("server_id", &id)])
            .await;
        days.push(
            line.get("time")
                .unwrap()
                .split_once('T')
                .unwrap()
                .0
                .to_owned(),
        );
        // Several heartbeats.
        for _ in 0..10 {
            exchange(&mut daemon, &mut phone, &conn_id).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(days[2] < days[0] && days[0] < days[1], "{days:?}");
    relay.expect_counts(1, 1).await;
}
