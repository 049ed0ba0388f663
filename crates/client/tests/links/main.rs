//! The links against a scripted relay: what goes over the wire, and what the owner is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod owners;
mod refusals;
mod router;
mod violations;

use std::borrow::Cow;
use std::time::Duration;

use relay_client::testing::{Peer, Script, Seen};
use relay_client::{
    AfterDrop, App, BuildError, ConnectError, DaemonEvent, DaemonLink, Endpoint, Ladder, Options,
    PhoneEvent, PhoneLink, PingPolicy, Received, SendError, Socket, SocketError, Stop, Timeouts,
    Verdict,
};
use relay_proto::ws::Control;

/// Dials again at once.
fn eager() -> Ladder {
    Ladder::fixed(Duration::ZERO)
}

async fn daemon_and_peer(relay: &Script) -> (DaemonLink, Peer) {
    let builder = DaemonLink::builder(&relay.url(), "home").ladder(eager());
    let mut daemon = builder.start().unwrap();
    let peer = relay.accept().await.unwrap();
    assert!(matches!(
        daemon.recv().await,
        Some(DaemonEvent::Connected { attempt: 1 })
    ));
    (daemon, peer)
}

async fn phone_and_peer(relay: &Script, app: App) -> (PhoneLink, Peer) {
    let builder = PhoneLink::builder(&relay.url(), "home")
        .app(app)
        .ladder(eager());
    let mut phone = builder.start().unwrap();
    let peer = relay.accept().await.unwrap();
    assert!(matches!(
        phone.recv().await,
        Some(PhoneEvent::Connected { attempt: 1 })
    ));
    (phone, peer)
}

#[tokio::test]
async fn a_daemon_shows_its_headers_and_path() {
    let relay = Script::start().await.unwrap();
    let builder = DaemonLink::builder(&relay.url(), "home")
        .version("7.1")
        .instance("secret");
    let _daemon = builder.start().unwrap();
    let peer = relay.accept().await.unwrap();
    assert_eq!(peer.path, "/v1/server");
    assert_eq!(peer.header("x-pyrycode-server"), Some("home"));
    assert_eq!(peer.header("x-pyrycode-version"), Some("7.1"));
    assert_eq!(peer.header("user-agent"), Some("pyry/7.1"));
    assert_eq!(peer.header("x-pyrycode-instance"), Some("secret"));
    assert_eq!(peer.header("sec-websocket-extensions"), None);
}

#[tokio::test]
async fn a_phone_shows_its_headers_and_path() {
    let relay = Script::start().await.unwrap();
    let url = format!("{}/v2/client", relay.url());
    let builder = PhoneLink::builder(&url, "home")
        .token("t")
        .device_name("Pixel")
        .user_agent("ua");
    let _phone = builder.start().unwrap();
    let peer = relay.accept().await.unwrap();
    assert_eq!(peer.path, "/v2/client");
    assert_eq!(peer.header("x-pyrycode-server"), Some("home"));
    assert_eq!(peer.header("x-pyrycode-token"), Some("t"));
    assert_eq!(peer.header("x-pyrycode-device-name"), Some("Pixel"));
    assert_eq!(peer.header("user-agent"), Some("ua"));

    let _plain = PhoneLink::builder(&relay.url(), "home")
        .device_name("  ")
        .start()
        .unwrap();
    let peer = relay.accept().await.unwrap();
    assert_eq!(peer.path, "/v1/client");
    assert_eq!(
        (
            peer.header("x-pyrycode-token"),
            peer.header("x-pyrycode-device-name")
        ),
        (None, None)
    );
}

#[tokio::test]
async fn what_no_header_can_carry_is_refused_at_the_start() {
    for id in ["", " ", "a\r\nb: c"] {
        let refused = DaemonLink::builder("ws://127.0.0.1:1", id)
            .start()
            .unwrap_err();
        assert!(
            matches!(
                refused,
                BuildError::Header {
                    name: "x-pyrycode-server"
                }
            ),
            "{id:?}"
        );
    }
    let refused = PhoneLink::builder("relay.test", "home")
        .start()
        .unwrap_err();
    assert!(matches!(refused, BuildError::Endpoint(_)));
}

#[tokio::test]
async fn a_daemon_speaks_and_reads_envelopes() {
    let relay = Script::start().await.unwrap();
    let (mut daemon, mut peer) = daemon_and_peer(&relay).await;

    daemon.send("c\"1", b"{ \"a\" : 1 }").await.unwrap();
    daemon.close_phone("c2", Some(b"[1]"), 4401).await.unwrap();
    daemon.close_phone("c3", None, 4421).await.unwrap();
    for expected in [
        r#"{"conn_id":"c\"1","frame":{ "a" : 1 }}"#,
        r#"{"conn_id":"c2","frame":[1],"close_code":4401}"#,
        r#"{"conn_id":"c3","frame":null,"close_code":4421}"#,
    ] {
        let Some(Seen::Message(message)) = peer.recv().await else {
            panic!("no message")
        };
        assert_eq!(String::from_utf8(message).unwrap(), expected);
    }
    let not_json = daemon.send("c", b"{").await;
    assert!(matches!(not_json, Err(SendError::NotJson(_))));

    peer.send(br#"{"conn_id":"c1","frame": [1, 2] }"#)
        .await
        .unwrap();
    peer.send(br#"{"conn_id":"c1","close_code":1001}"#)
        .await
        .unwrap();
    peer.send(b"no envelope").await.unwrap();
    peer.send(br#"{"push_wake":{"platform":"fcm","token":"t"}}"#)
        .await
        .unwrap();
    match daemon.recv().await {
        Some(DaemonEvent::Frame { conn_id, frame }) => {
            assert_eq!((conn_id.as_str(), &frame[..]), ("c1", &b"[1, 2]"[..]));
        }
        other => panic!("{other:?}"),
    }
    match daemon.recv().await {
        Some(DaemonEvent::PhoneGone { conn_id, code }) => {
            assert_eq!((conn_id.as_str(), code), ("c1", 1001));
        }
        other => panic!("{other:?}"),
    }
    for expected in ["", "a push wake"] {
        match daemon.recv().await {
            Some(DaemonEvent::Malformed { why }) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn shutdown_is_a_full_close_handshake() {
    let relay = Script::start().await.unwrap();
    let (daemon, mut peer) = daemon_and_peer(&relay).await;
    let closing = tokio::spawn(daemon.shutdown());
    assert_eq!(peer.recv().await, Some(Seen::Close(Some(1000))));
    assert!(!closing.is_finished());
    peer.send_control(Control::Close, &1000_u16.to_be_bytes())
        .await
        .unwrap();
    drop(peer);
    closing.await.unwrap();
}

#[tokio::test]
async fn dropping_a_link_is_a_crash() {
    let relay = Script::start().await.unwrap();
    let (daemon, mut peer) = daemon_and_peer(&relay).await;
    drop(daemon);
    assert_eq!(peer.recv().await, None);
}

#[tokio::test]
async fn a_link_comes_back_and_its_attempts_are_counted() {
    let relay = Script::start().await.unwrap();
    let (mut phone, peer) = phone_and_peer(&relay, App::Mobile).await;
    assert_eq!(peer.close(4404, "no server with that id").await, Some(4404));
    match phone.recv().await {
        Some(PhoneEvent::Disconnected {
            code,
            reason,
            verdict,
            next_retry_in,
        }) => {
            assert_eq!(
                (code, reason.as_str()),
                (Some(4404), "no server with that id")
            );
            assert_eq!(
                (verdict, next_retry_in),
                (Verdict::DaemonAbsent, Duration::ZERO)
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(phone.send(b"1").await, Err(SendError::NotConnected));

    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\ncome back";
    relay.refuse(busy).await.unwrap();
    match phone.recv().await {
        Some(PhoneEvent::DialFailed { error, .. }) => {
            assert_eq!(error.to_string(), "the relay answered HTTP 503: come back");
        }
        other => panic!("{other:?}"),
    }
    let mut peer = relay.accept().await.unwrap();
    assert!(matches!(
        phone.recv().await,
        Some(PhoneEvent::Connected { attempt: 2 })
    ));
    phone.send(b"2").await.unwrap();
    assert_eq!(peer.recv().await, Some(Seen::Message(b"2".to_vec())));
}

#[tokio::test]
async fn a_frame_never_crosses_to_the_next_connection() {
    let relay = Script::start().await.unwrap();
    let (mut phone, peer) = phone_and_peer(&relay, App::Mobile).await;
    drop(peer);
    let mut peer = relay.accept().await.unwrap();
    // The owner hasn't heard of the drop: this is meant for the connection that is gone.
    let _ = phone.send(b"\"old\"").await;
    assert!(matches!(
        phone.recv().await,
        Some(PhoneEvent::Disconnected { code: None, .. })
    ));
    assert!(matches!(
        phone.recv().await,
        Some(PhoneEvent::Connected { .. })
    ));
    phone.send(b"\"new\"").await.unwrap();
    assert_eq!(peer.recv().await, Some(Seen::Message(b"\"new\"".to_vec())));
}

#[tokio::test]
async fn the_desktop_stops_where_the_real_one_stops() {
    let relay = Script::start().await.unwrap();
    let (mut phone, peer) = phone_and_peer(&relay, App::Desktop).await;
    peer.close(4421, "").await;
    match phone.recv().await {
        Some(PhoneEvent::Stopped { why }) => assert_eq!(why, Stop::Refused { code: 4421 }),
        other => panic!("{other:?}"),
    }
    assert!(phone.recv().await.is_none());
    assert_eq!(phone.send(b"1").await, Err(SendError::NotConnected));
}

#[tokio::test]
async fn a_daemon_gives_up_after_conflicts() {
    let relay = Script::start().await.unwrap();
    let builder = DaemonLink::builder(&relay.url(), "home").ladder(eager());
    let mut daemon = builder
        .after_drop(AfterDrop::AtOnce)
        .conflict_limit(3)
        .start()
        .unwrap();
    for round in 1..=3 {
        relay
            .accept()
            .await
            .unwrap()
            .close(4409, "server-id already claimed")
            .await;
        assert!(matches!(
            daemon.recv().await,
            Some(DaemonEvent::Connected { .. })
        ));
        match (round, daemon.recv().await) {
            (
                3,
                Some(DaemonEvent::Stopped {
                    why: Stop::Conflict,
                }),
            ) => {}
            (
                _,
                Some(DaemonEvent::Disconnected {
                    verdict: Verdict::Conflict,
                    ..
                }),
            ) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(daemon.recv().await.is_none());
}

#[tokio::test]
async fn mobile_refuses_what_the_real_one_refuses() {
    let relay = Script::start().await.unwrap();
    let (mut phone, mut peer) = phone_and_peer(&relay, App::Mobile).await;
    for (bytes, code) in [
        (&b"\x82\x02{}"[..], 1003),
        (b"\x82\x01\xff", 1003),
        (b"\x81\x01\xff", 1007),
        (&b"\x81\x01{"[..], 1002),
        (&b"\x81\x7f\0\0\0\0\0\x02\0\x01"[..], 1009),
    ] {
        peer.send_raw(bytes).await.unwrap();
        assert_eq!(peer.recv().await, Some(Seen::Close(Some(code))));
        drop(peer);
        assert!(matches!(
            phone.recv().await,
            Some(PhoneEvent::Disconnected { .. })
        ));
        peer = relay.accept().await.unwrap();
        assert!(matches!(
            phone.recv().await,
            Some(PhoneEvent::Connected { .. })
        ));
    }
}

#[tokio::test]
async fn a_relay_that_does_not_pong_is_left() {
    let relay = Script::start().await.unwrap();
    let ping = PingPolicy {
        every: Duration::from_millis(20),
        timeout: Duration::from_millis(500),
    };
    let builder = PhoneLink::builder(&relay.url(), "home")
        .ping(ping)
        .ladder(eager());
    let mut phone = builder.start().unwrap();
    let mut peer = relay.accept().await.unwrap();
    assert!(matches!(
        phone.recv().await,
        Some(PhoneEvent::Connected { .. })
    ));
    // Three answered pings keep it, the fourth is left unanswered.
    for n in ["1", "2", "3"] {
        assert_eq!(peer.recv().await, Some(Seen::Ping(n.into())));
        peer.send_control(Control::Pong, n.as_bytes())
            .await
            .unwrap();
    }
    assert_eq!(peer.recv().await, Some(Seen::Ping("4".into())));
    match phone.recv().await {
        Some(PhoneEvent::Disconnected {
            code: None, reason, ..
        }) => {
            assert_eq!(reason, "the relay did not answer a ping");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pings_are_answered_and_only_the_newest_waits() {
    let relay = Script::start().await.unwrap();
    let (_phone, mut peer) = phone_and_peer(&relay, App::Mobile).await;
    peer.send_raw(b"\x89\x01a\x89\x01b\x89\x01c").await.unwrap();
    assert_eq!(peer.recv().await, Some(Seen::Pong(b"c".to_vec())));
    peer.send_control(Control::Ping, b"d").await.unwrap();
    assert_eq!(peer.recv().await, Some(Seen::Pong(b"d".to_vec())));
}

#[tokio::test]
async fn a_dial_is_bounded_in_time() {
    let relay = Script::start().await.unwrap();
    let after = Duration::from_millis(50);
    let timeouts = Timeouts {
        connect: after,
        ..Timeouts::default()
    };
    let options = Options {
        timeouts,
        ..Options::default()
    };
    let endpoint = Endpoint::parse(&relay.url()).unwrap();
    // Nobody accepts: the kernel completes TCP, and no 101 comes.
    let failed = Socket::connect(&endpoint, &[], &options).await.unwrap_err();
    assert!(matches!(failed, ConnectError::Timeout { .. }), "{failed:?}");
}

#[tokio::test]
async fn what_is_no_relay_is_said_to_be_none() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(17 * 1024));
    for (response, why) in [
        ("220 mail.test ESMTP\r\n\r\n", "its answer is not HTTP/1.1"),
        (&endless, "its response head is too long"),
        ("HTTP/1.1 101", "unexpected end of file"),
    ] {
        let relay = Script::start().await.unwrap();
        let endpoint = Endpoint::parse(&relay.url()).unwrap();
        let options = Options::default();
        let (socket, refused) = tokio::join!(
            Socket::connect(&endpoint, &[], &options),
            relay.refuse(response)
        );
        refused.unwrap();
        let said = socket.unwrap_err().to_string();
        assert!(said.contains(why), "{said:?}");
    }
}

#[tokio::test]
async fn retry_after_is_heeded() {
    let relay = Script::start().await.unwrap();
    let ladder = Ladder {
        steps: Cow::Borrowed(&[]),
        ..Ladder::default()
    };
    let mut phone = PhoneLink::builder(&relay.url(), "home")
        .ladder(ladder)
        .start()
        .unwrap();
    relay
        .refuse("HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    match phone.recv().await {
        Some(PhoneEvent::DialFailed {
            error: ConnectError::Refused { status, .. },
            next_retry_in,
        }) => {
            assert_eq!((status, next_retry_in), (429, Duration::from_secs(9)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn receiving_can_be_cancelled_at_any_byte() {
    let relay = Script::start().await.unwrap();
    let endpoint = Endpoint::parse(&relay.url()).unwrap();
    let options = Options::default();
    let (socket, peer) = tokio::join!(Socket::connect(&endpoint, &[], &options), relay.accept());
    let (mut socket, mut peer) = (socket.unwrap(), peer.unwrap());
    for byte in b"\x81\x05hello" {
        let cancelled = tokio::time::timeout(Duration::from_millis(2), socket.recv()).await;
        assert!(cancelled.is_err());
        peer.send_raw(&[*byte]).await.unwrap();
    }
    assert_eq!(
        socket.recv().await.unwrap(),
        Received::Text(b"hello".to_vec())
    );
}

#[tokio::test]
async fn an_end_without_close_is_an_error() {
    let relay = Script::start().await.unwrap();
    let endpoint = Endpoint::parse(&relay.url()).unwrap();
    let options = Options::default();
    let (socket, peer) = tokio::join!(Socket::connect(&endpoint, &[], &options), relay.accept());
    drop(peer);
    assert!(matches!(
        socket.unwrap().recv().await,
        Err(SocketError::Io(_))
    ));
}
