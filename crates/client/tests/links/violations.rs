//! A relay that breaks the protocol is told so, whatever it is doing.

use super::{daemon_and_peer, phone_and_peer};
use relay_client::testing::{Script, Seen};
use relay_client::{App, DaemonEvent, PhoneEvent};
use relay_proto::ws::{Opcode, data_header, text_header};

/// Were the connection dropped with bytes unread, the kernel would reset it under the one who writes them.
#[tokio::test]
async fn who_is_still_writing_what_is_too_big_reads_why_it_is_closed() {
    // Far beyond the limit, and more than sockets hold.
    const BYTES: usize = 32 << 20;
    let relay = Script::start().await.unwrap();
    let (mut phone, mut peer) = phone_and_peer(&relay, App::Mobile).await;
    peer.send_raw(&text_header(BYTES)).await.unwrap();
    peer.send_raw(&vec![b'1'; BYTES]).await.unwrap();
    assert_eq!(peer.recv().await, Some(Seen::Close(Some(1009))));
    drop(peer);
    match phone.recv().await {
        Some(PhoneEvent::Disconnected { code, reason, .. }) => {
            assert_eq!(code, Some(1009));
            assert_eq!(reason, "message is longer than 131072 bytes");
        }
        other => panic!("{other:?}"),
    }
}

/// RFC 6455 wants UTF-8 of text alone, so this is no violation; but it is no envelope either.
#[tokio::test]
async fn an_envelope_is_text_whatever_it_comes_as() {
    let relay = Script::start().await.unwrap();
    let (mut daemon, mut peer) = daemon_and_peer(&relay).await;
    let envelopes = [
        &b"{\"conn_id\":\"c\",\"frame\":\"\xff\"}"[..],
        br#"{"conn_id":"c","frame":1}"#,
    ];
    for envelope in envelopes {
        let header = data_header(Opcode::Binary, envelope.len());
        peer.send_raw(&[&header, envelope].concat()).await.unwrap();
    }
    let first = daemon.recv().await;
    assert!(
        matches!(first, Some(DaemonEvent::Malformed { .. })),
        "{first:?}"
    );
    let second = daemon.recv().await;
    assert!(
        matches!(&second, Some(DaemonEvent::Frame { frame, .. }) if frame == b"1"),
        "{second:?}"
    );
}
