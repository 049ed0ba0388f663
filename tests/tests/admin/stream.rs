//! The stream of events.

use std::time::{Duration, Instant};

use relay_tests::{Transport, eventually, frame, soon, within};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::client::{Events, get, only_slot, relay, request};

#[tokio::test]
async fn events_tell_what_happens_while_it_happens() {
    let relay = relay(&[]).await;
    let (_old, _phone, _) = relay.pair("old").await;
    // Until it is among what was before.
    let mut events = eventually("the past", || async {
        let mut events = Events::open(&relay).await.unwrap();
        let (name, hello) = events.next().await.unwrap();
        assert_eq!(name, "hello");
        let recent = hello["recent"].as_array().unwrap();
        let past = recent.iter().any(|h| h["event"] == "phone_registered");
        assert!(hello["history"]["t"].as_array().unwrap().len() <= 900);
        past.then_some(events)
    })
    .await;
    let (mut daemon, phone, conn_id) = relay.pair("new").await;
    for n in 0..200 {
        phone.send(&frame(n));
        daemon.expect_frame(&frame(n)).await;
    }
    let slots = get(&relay, "/admin/slots?q=new").await;
    let slot = slots["slots"][0]["slot"].clone();
    let (mut claimed, mut registered, mut frames) = (None, None, 0.0);
    while claimed.is_none() || registered.is_none() || frames == 0.0 {
        let (name, data) = events.next().await.unwrap();
        match &*name {
            "sample" => {
                assert_eq!(data.get("history"), None);
                if data["binaries"] == 2 {
                    frames += data["sample"]["frames_up"].as_f64().unwrap();
                }
            }
            "recent" => {
                let of_slot = data
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|h| h["slot"] == slot);
                for happening in of_slot {
                    match happening["event"].as_str() {
                        Some("server_claimed") => claimed = Some(happening.clone()),
                        Some("phone_registered") => registered = Some(happening.clone()),
                        _ => {}
                    }
                }
            }
            other => panic!("{other}"),
        }
    }
    let (claimed, registered) = (claimed.unwrap(), registered.unwrap());
    assert_eq!(claimed["level"], "info");
    assert_eq!(claimed["phone"], serde_json::Value::Null);
    let detail = claimed["detail"].as_str().unwrap();
    assert_eq!(detail, "binary_version=9.9.9-test remote=127.0.0.1");
    let suffix = conn_id.rsplit('-').next().unwrap();
    assert_eq!(registered["phone"], suffix);
    assert!(
        registered["detail"]
            .as_str()
            .unwrap()
            .contains("\"test phone\"")
    );
}

#[tokio::test]
async fn the_log_may_be_quieter_than_the_page() {
    let relay = relay(&["--log-level", "error"]).await;
    let mut events = Events::open(&relay).await.unwrap();
    let _daemon = relay.daemon("home").await;
    let recent = events.next_named("recent").await;
    let claimed = |recent: &serde_json::Value| {
        let recent = recent.as_array().unwrap();
        recent.iter().any(|h| h["event"] == "server_claimed")
    };
    // What happened at the start may come first.
    assert!(claimed(&recent) || claimed(&events.next_named("recent").await));
    assert_eq!(relay.log.count("server_claimed", &[]), 0);
}

#[tokio::test]
async fn a_flood_is_told_as_a_number() {
    let relay = relay(&[]).await;
    // Each has so many lines about what it sends to nobody.
    let mut daemons = Vec::new();
    for n in 0..25 {
        daemons.push(relay.daemon(&format!("home-{n}")).await);
    }
    let mut events = Events::open(&relay).await.unwrap();
    for n in 0..20 {
        for daemon in &daemons {
            daemon.send_to(&format!("nobody-{n}"), &frame(n));
        }
    }
    let (mut told, mut skipped) = (0, 0);
    while told + skipped < 500 {
        let recent = events.next_named("recent").await;
        let recent = recent.as_array().unwrap();
        assert!(recent.len() <= 51, "{}", recent.len());
        let unknown = recent.iter();
        told += unknown
            .filter(|h| h["event"] == "binary_forwarder_unknown_conn_id")
            .count() as u64;
        skipped += recent.last().unwrap()["skipped"].as_u64().unwrap_or(0);
    }
    // The claims were told, too.
    assert!(told >= 20 && skipped >= 300, "{told} {skipped}");
}

#[tokio::test]
async fn there_are_sixteen_streams_and_their_places_come_back() {
    let relay = relay(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut events = Events::open(&relay).await.unwrap();
        events.next().await.unwrap();
        streams.push(events);
    }
    assert_eq!(Events::open(&relay).await.err(), Some(503));
    assert_eq!(get(&relay, "/admin/summary").await["phase"], "ready");
    streams.pop();
    eventually("a free place", || async { Events::open(&relay).await.ok() }).await;
}

#[tokio::test]
async fn a_reader_that_stalls_costs_little_and_delays_nobody() {
    let relay = relay(&[]).await;
    let (daemon, _phone, _) = relay.pair("home").await;
    let stalled = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let connecting = socket.connect(relay.metrics_addr());
        let mut stream = soon("a connection", connecting).await.unwrap();
        let request = request("GET", "/admin/events", &[("Host", "localhost")]);
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let mut stuck = Vec::new();
    for _ in 0..15 {
        stuck.push(stalled().await);
    }
    let mut reader = Events::open(&relay).await.unwrap();
    reader.next().await.unwrap();
    let memory = async || {
        let summary = get(&relay, "/admin/summary").await;
        summary["process"]["rss_bytes"].as_u64().unwrap()
    };
    let before = memory().await;
    // Some fifty long lines a second.
    for second in 0..6 {
        for n in 0..60 {
            daemon.send_to(&format!("{second}-{n}-{}", "x".repeat(200)), "1");
        }
        let start = Instant::now();
        within(
            Duration::from_secs(10),
            "a sample",
            reader.next_named("sample"),
        )
        .await;
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    let grown = memory().await.saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for 15 readers that stall");
    drop(stuck);
}

#[tokio::test]
async fn the_page_stays_for_the_drain_and_the_stream_ends_with_it() {
    let mut relay = relay(&["--drain", "2s"]).await;
    let (mut daemon, _phone, _) = relay.pair("home").await;
    let mut events = Events::open(&relay).await.unwrap();
    events.next().await.unwrap();
    relay.terminate();
    let mut last = events.next_named("sample").await;
    while last["phase"] != "draining" {
        last = events.next_named("sample").await;
    }
    let summary = get(&relay, "/admin/summary").await;
    assert_eq!(summary["phase"], "draining");
    while let Some((name, data)) = events.next().await {
        if name == "sample" {
            last = data;
        }
    }
    assert_eq!(last["phase"], "draining");
    daemon
        .expect_close_after_messages(1001, "shutting down")
        .await;
    drop((daemon, _phone));
    assert!(relay.exited().await.success());
}

#[tokio::test]
async fn a_stream_lasts_longer_than_an_answer_may_take() {
    let relay = relay(&["--http-timeout", "500ms", "--header-timeout", "500ms"]).await;
    let mut events = Events::open(&relay).await.unwrap();
    // Twice the time in which a reader must have taken something.
    for _ in 0..8 {
        events.next_named("sample").await;
    }
}

#[tokio::test]
async fn who_does_not_read_does_not_keep_the_relay() {
    let mut relay = relay(&[]).await;
    let slotless = get(&relay, "/admin/slots").await;
    assert_eq!(slotless["total"], 0);
    let _daemon = relay.daemon("home").await;
    only_slot(&relay).await;
    let mut stream = Transport::Plain.connect(relay.metrics_addr()).await;
    let request = request("GET", "/admin/events", &[("Host", "localhost")]);
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(_daemon);
    relay.terminate();
    within(Duration::from_secs(5), "the end", relay.exited()).await;
}
