//! Owners that send and receive in one task, and do not get to their events.

use super::eager;
use relay_client::testing::{Router, Script};
use relay_client::{App, DaemonEvent, DaemonLink, PhoneEvent, PhoneLink, Stop};

#[tokio::test]
async fn an_owner_that_sends_before_it_reads_is_not_locked_out() {
    let relay = Router::start().await.unwrap();
    let mut daemon = DaemonLink::builder(&relay.url(), "home")
        .events(1)
        .start()
        .unwrap();
    assert!(matches!(
        daemon.recv().await,
        Some(DaemonEvent::Connected { .. })
    ));
    let mut phone = PhoneLink::builder(&relay.url(), "home")
        .events(1)
        .start()
        .unwrap();
    assert!(matches!(
        phone.recv().await,
        Some(PhoneEvent::Connected { .. })
    ));
    const FRAMES: usize = 500;
    for n in 0..FRAMES {
        phone.send(n.to_string().as_bytes()).await.unwrap();
    }
    for n in 0..FRAMES {
        let Some(DaemonEvent::Frame { conn_id, frame }) = daemon.recv().await else {
            panic!("no frame {n}");
        };
        assert_eq!(frame, n.to_string().into_bytes());
        daemon.send(&conn_id, &frame).await.unwrap();
    }
    for n in 0..FRAMES {
        match phone.recv().await {
            Some(PhoneEvent::Frame(frame)) => assert_eq!(frame, n.to_string().into_bytes()),
            other => panic!("{other:?}"),
        }
    }
}

/// Its events fill up, and the connection breaks: what it sends is dropped, and it gets to its events.
#[tokio::test]
async fn an_owner_in_the_middle_of_sending_is_let_go_when_the_connection_breaks() {
    let relay = Script::start().await.unwrap();
    let builder = PhoneLink::builder(&relay.url(), "home").events(1);
    let mut phone = builder.ladder(eager()).start().unwrap();
    let mut peer = relay.accept().await.unwrap();
    let connected = phone.recv().await;
    assert!(matches!(connected, Some(PhoneEvent::Connected { .. })));
    for _ in 0..3 {
        peer.send(b"1").await.unwrap();
    }
    drop(peer);
    // Far more than wait in front of a link's task.
    for _ in 0..1_000 {
        phone.send(b"2").await.unwrap();
    }
    while !matches!(phone.recv().await, Some(PhoneEvent::Disconnected { .. })) {}
}

/// Its events fill up, and the link stops for good: it takes nothing more, and the owner gets to its events.
#[tokio::test]
async fn an_owner_in_the_middle_of_sending_is_let_go_when_the_link_stops() {
    let relay = Script::start().await.unwrap();
    let builder = PhoneLink::builder(&relay.url(), "home").app(App::Desktop);
    let mut phone = builder.events(1).ladder(eager()).start().unwrap();
    let mut peer = relay.accept().await.unwrap();
    let connected = phone.recv().await;
    assert!(matches!(connected, Some(PhoneEvent::Connected { .. })));
    peer.send(b"1").await.unwrap();
    // It answers while the owner does nothing but send.
    let closed = tokio::spawn(peer.close(4421, ""));
    while phone.send(b"2").await.is_ok() {}
    assert_eq!(closed.await.unwrap(), Some(4421));
    assert!(matches!(phone.recv().await, Some(PhoneEvent::Frame(_))));
    let refused = Stop::Refused { code: 4421 };
    let stopped = phone.recv().await;
    assert!(matches!(stopped, Some(PhoneEvent::Stopped { why }) if why == refused));
    assert!(phone.recv().await.is_none());
}
