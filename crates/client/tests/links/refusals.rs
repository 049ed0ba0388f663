//! What could only be refused further on is refused at once.

use super::daemon_and_peer;
use relay_client::testing::{Script, Seen};
use relay_client::{
    BuildError, ConnectError, DaemonLink, Endpoint, Options, PhoneLink, SendError, Socket,
};
use relay_proto::headers::NAME_BYTES;
use std::io::ErrorKind;

/// The relay answers 400 to a longer one, at every dial.
#[tokio::test]
async fn names_are_no_longer_than_a_relay_takes() {
    const URL: &str = "ws://127.0.0.1:1";
    let most = "n".repeat(NAME_BYTES);
    let more = format!("{most}n");
    let is_refused = |started: Result<(), BuildError>, header| match started {
        Err(BuildError::TooLong { name, limit }) => (name, limit) == (header, NAME_BYTES),
        _ => false,
    };
    let daemon = |id: &str, instance: &str| {
        let builder = DaemonLink::builder(URL, id).instance(instance);
        builder.start().map(drop)
    };
    let phone = |id: &str| PhoneLink::builder(URL, id).start().map(drop);
    assert!(daemon(&most, &most).is_ok());
    // Blanks around a value do not count.
    assert!(phone(&format!(" {most}\t")).is_ok());
    assert!(is_refused(daemon(&more, "i"), "x-pyrycode-server"));
    assert!(is_refused(daemon("id", &more), "x-pyrycode-instance"));
    assert!(is_refused(phone(&more), "x-pyrycode-server"));
    let named = PhoneLink::builder(URL, "id").device_name(&more);
    assert!(named.start().is_ok());
}

#[tokio::test]
async fn a_phone_is_not_closed_with_no_code() {
    let relay = Script::start().await.unwrap();
    let (daemon, mut peer) = daemon_and_peer(&relay).await;
    let refused = daemon.close_phone("c", Some(b"1"), 0).await;
    assert_eq!(refused, Err(SendError::NoCloseCode));
    daemon.send("c", b"2").await.unwrap();
    let sent = br#"{"conn_id":"c","frame":2}"#.to_vec();
    assert_eq!(peer.recv().await, Some(Seen::Message(sent)));
}

#[tokio::test]
async fn a_path_can_not_smuggle_a_header() {
    let relay = Script::start().await.unwrap();
    let endpoint = Endpoint::parse(&relay.url()).unwrap();
    let endpoint = endpoint.with_path("/ HTTP/1.1\r\nx-pyrycode-server: another\r\nx:");
    let refused = Socket::connect(&endpoint, &[], &Options::default()).await;
    match refused.unwrap_err() {
        ConnectError::Io(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("path"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}
