//! What a sender waits for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use relay_client::testing::{Peer, Script, Seen};
use relay_client::{App, Endpoint, Options, PhoneEvent, PhoneLink, SendError, Socket};
use std::time::Duration;

/// Far less than until anything else happens on a connection whose peer is silent: a ping, after 20 s.
const SOON: Duration = Duration::from_secs(10);

/// A phone that is connected, and what it is connected to.
async fn connected(options: Options) -> (PhoneLink, Peer) {
    let relay = Script::start().await.unwrap();
    let builder = PhoneLink::builder(&relay.url(), "home").options(options);
    let mut phone = builder.start().unwrap();
    let peer = relay.accept().await.unwrap();
    let connected = phone.recv().await;
    assert!(matches!(connected, Some(PhoneEvent::Connected { .. })));
    (phone, peer)
}

/// A `select!` drops the futures of its other branches, some of them before they ever ran.
#[tokio::test]
async fn what_a_socket_was_given_is_sent_though_its_future_never_ran() {
    let relay = Script::start().await.unwrap();
    let endpoint = Endpoint::parse(&relay.url()).unwrap();
    let options = Options::default();
    let (socket, peer) = tokio::join!(Socket::connect(&endpoint, &[], &options), relay.accept());
    let (mut socket, mut peer) = (socket.unwrap(), peer.unwrap());
    drop(socket.send_text(b"1"));
    socket.send_text(b"2").await.unwrap();
    for sent in [b"1", b"2"] {
        assert_eq!(peer.recv().await, Some(Seen::Message(sent.to_vec())));
    }
}

/// Much more is sent than may wait in front of the socket, and nothing ever comes: that the socket takes it is enough.
#[tokio::test]
async fn a_sender_waits_for_the_socket_and_for_nothing_else() {
    const FRAMES: usize = 100;
    let (phone, mut peer) = connected(Options::of(App::Mobile)).await;
    let frame = format!("\"{}\"", "x".repeat(100_000));
    let sent = async {
        for _ in 0..FRAMES {
            phone.send(frame.as_bytes()).await.unwrap();
        }
    };
    let read = async {
        for _ in 0..FRAMES {
            assert!(peer.recv().await.is_some());
        }
    };
    let both = async { tokio::join!(sent, read) };
    tokio::time::timeout(SOON, both).await.expect("all is sent");
}

/// An owner that says its last word and goes has said it.
#[tokio::test]
async fn what_is_sent_before_a_shutdown_leaves_before_the_close() {
    let (phone, mut peer) = connected(Options::of(App::Mobile)).await;
    let sender = phone.sender();
    for n in 0..50 {
        phone.send(n.to_string().as_bytes()).await.unwrap();
    }
    let closing = tokio::spawn(phone.shutdown());
    for n in 0..50 {
        let seen = peer.recv().await;
        assert_eq!(seen, Some(Seen::Message(n.to_string().into())));
    }
    assert_eq!(peer.recv().await, Some(Seen::Close(Some(1000))));
    assert_eq!(sender.send(b"1").await, Err(SendError::NotConnected));
    drop(peer);
    closing.await.unwrap();
}

/// Longer than all of it may stand still, though what waits leaves slowly.
#[tokio::test]
async fn a_shutdown_goes_on_for_as_long_as_something_leaves() {
    const FRAMES: usize = 130;
    let mut options = Options::of(App::Mobile);
    options.timeouts.close = Duration::from_secs(1);
    let (phone, mut peer) = connected(options).await;
    let reader = tokio::spawn(async move {
        let mut frames = 0;
        while let Some(Seen::Message(_)) = peer.recv().await {
            frames += 1;
            // A slow path.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        frames
    });
    let frame = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..FRAMES {
        phone.send(frame.as_bytes()).await.unwrap();
    }
    phone.shutdown().await;
    assert_eq!(reader.await.unwrap(), FRAMES);
}

/// The relay would end a daemon's connection, and with it every phone's session, for one such frame.
#[tokio::test]
async fn what_is_not_utf8_is_not_sent() {
    let (phone, mut peer) = connected(Options::of(App::Mobile)).await;
    let refused = phone.send(b"\"\xff\"").await;
    assert!(matches!(refused, Err(SendError::NotJson(_))), "{refused:?}");
    phone.send("\"\u{ff}\"".as_bytes()).await.unwrap();
    assert_eq!(peer.recv().await, Some(Seen::Message("\"\u{ff}\"".into())));
}
