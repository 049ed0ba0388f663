//! A relay that breaks the protocol is told so, whatever it is doing.

use super::phone_and_peer;
use relay_client::testing::{Script, Seen};
use relay_client::{App, PhoneEvent};
use relay_proto::ws::text_header;

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
