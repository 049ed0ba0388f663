//! The relay of the `testing` module does what its documentation says, and links send from other tasks.

use super::eager;
use relay_client::testing::Router;
use relay_client::{
    DaemonEvent, DaemonLink, Endpoint, Options, PhoneEvent, PhoneLink, SERVER_PATH, SendError,
    Socket, Verdict,
};
use std::time::Duration;

/// Far less than until a link finds out by its pings.
const SOON: Duration = Duration::from_secs(10);
/// Why a connection ended that was dropped without a Close.
const CUT: &str = "unexpected end of file";

async fn daemon(relay: &Router) -> DaemonLink {
    let builder = DaemonLink::builder(&relay.url(), "home").ladder(eager());
    let mut daemon = builder.start().unwrap();
    let connected = daemon.recv().await;
    assert!(matches!(connected, Some(DaemonEvent::Connected { .. })));
    daemon
}

async fn phone(relay: &Router) -> PhoneLink {
    let mut phone = PhoneLink::builder(&relay.url(), "home").start().unwrap();
    let connected = phone.recv().await;
    assert!(matches!(connected, Some(PhoneEvent::Connected { .. })));
    phone
}

/// The code with which the connection ends, which it does next.
async fn end(phone: &mut PhoneLink) -> Option<u16> {
    match phone.recv().await {
        Some(PhoneEvent::Disconnected { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_task_sends_and_closes() {
    let relay = Router::start().await.unwrap();
    let (mut daemon, mut phone) = (daemon(&relay).await, phone(&relay).await);
    let sender = phone.sender();
    let sent = tokio::spawn(async move { sender.send(b"1").await });
    sent.await.unwrap().unwrap();
    let Some(DaemonEvent::Frame { conn_id, frame }) = daemon.recv().await else {
        panic!("no frame")
    };
    assert_eq!(frame, b"1");
    let sender = daemon.sender();
    let sent = tokio::spawn(async move {
        sender.send(&conn_id, b"2").await?;
        sender.close_phone(&conn_id, Some(b"[3]"), 4000).await
    });
    sent.await.unwrap().unwrap();
    for expected in [&b"2"[..], b"[3]"] {
        let frame = phone.recv().await;
        assert!(matches!(frame, Some(PhoneEvent::Frame(frame)) if frame == expected));
    }
    assert_eq!(end(&mut phone).await, Some(4000));
}

#[tokio::test]
async fn the_router_turns_away_whom_a_relay_does() {
    let relay = Router::start().await.unwrap();
    assert_eq!(end(&mut phone(&relay).await).await, Some(4404));
    let _holder = daemon(&relay).await;
    match daemon(&relay).await.recv().await {
        Some(DaemonEvent::Disconnected { code, verdict, .. }) => {
            assert_eq!((code, verdict), (Some(4409), Verdict::Conflict));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_router_tells_each_of_the_others_end() {
    let relay = Router::start().await.unwrap();
    let mut daemon = daemon(&relay).await;
    phone(&relay).await.shutdown().await;
    match daemon.recv().await {
        Some(DaemonEvent::PhoneGone { code, .. }) => assert_eq!(code, 1000),
        other => panic!("{other:?}"),
    }
    let mut phone = phone(&relay).await;
    daemon.shutdown().await;
    assert_eq!(end(&mut phone).await, Some(4404));
}

#[tokio::test]
async fn the_router_ends_with_all_its_connections() {
    let relay = Router::start().await.unwrap();
    let (mut daemon, mut phone) = (daemon(&relay).await, phone(&relay).await);
    drop(relay);
    let ended = async { (daemon.recv().await, end(&mut phone).await) };
    let ended = tokio::time::timeout(SOON, ended).await;
    let (daemon, code) = ended.expect("both are cut off");
    assert!(matches!(
        daemon,
        Some(DaemonEvent::Disconnected { code: None, .. })
    ));
    assert_eq!(code, None);
}

#[tokio::test]
async fn the_router_answers_an_empty_close_with_an_empty_one() {
    let relay = Router::start().await.unwrap();
    let endpoint = Endpoint::parse(&relay.url()).unwrap().or_path(SERVER_PATH);
    let headers = [("x-pyrycode-server", "home")];
    let options = Options::default();
    let socket = Socket::connect(&endpoint, &headers, &options);
    // A code that no close frame may carry.
    let answer = socket.await.unwrap().close(1005, "").await;
    assert_eq!(answer, Some((None, String::new())));
}

#[tokio::test]
async fn null_is_a_frame_of_a_phone_and_none_of_a_daemon() {
    let relay = Router::start().await.unwrap();
    let (mut daemon, phone) = (daemon(&relay).await, phone(&relay).await);
    for sent in ["null", " null\n"] {
        phone.send(sent.as_bytes()).await.unwrap();
        let Some(DaemonEvent::Frame { conn_id, frame }) = daemon.recv().await else {
            panic!("no frame of {sent:?}")
        };
        assert_eq!(frame, b"null");
        let refused = daemon.send(&conn_id, sent.as_bytes()).await;
        assert!(matches!(refused, Err(SendError::NotJson(_))), "{refused:?}");
    }
}

/// A daemon may ask for any code; what a Close cannot carry is not put on the wire.
#[tokio::test]
async fn the_router_closes_with_any_code_as_a_relay_does() {
    let relay = Router::start().await.unwrap();
    let mut daemon = daemon(&relay).await;
    for (code, expected) in [(1005, ""), (999, CUT), (1006, CUT), (5000, CUT)] {
        let mut phone = phone(&relay).await;
        phone.send(b"1").await.unwrap();
        let Some(DaemonEvent::Frame { conn_id, .. }) = daemon.recv().await else {
            panic!("no frame")
        };
        daemon.close_phone(&conn_id, None, code).await.unwrap();
        match phone.recv().await {
            Some(PhoneEvent::Disconnected { code, reason, .. }) => {
                assert_eq!((code, reason.as_str()), (None, expected));
            }
            other => panic!("{other:?}"),
        }
    }
}
