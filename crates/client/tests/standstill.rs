//! Streams on which nothing leaves, though they may take bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay_client::{
    App, ByteStream, Dialer, Dialling, Endpoint, Options, PhoneEvent, PhoneLink, PingPolicy,
    Socket, SocketError,
};
use relay_proto::handshake::accept_key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};

/// Bytes on their way, at most.
const ROOM: usize = 64;
const URL: &str = "ws://relay.test";
/// Far more than any timeout here.
const FOR_EVER: Duration = Duration::from_secs(600);

/// Connects once, by this stream.
#[derive(Debug)]
struct Once(Mutex<Option<Box<dyn ByteStream>>>);

impl Dialer for Once {
    fn dial(&self, _: &Endpoint) -> Dialling {
        let stream = self.0.lock().unwrap().take();
        let dialled = stream.ok_or_else(|| io::ErrorKind::ConnectionRefused.into());
        Box::pin(std::future::ready(dialled))
    }
}

fn dialling(stream: impl ByteStream + 'static) -> Options {
    Options {
        dialer: Some(Arc::new(Once(Mutex::new(Some(Box::new(stream)))))),
        ..Options::default()
    }
}

/// As TLS does: takes bytes, and keeps them until they can leave.
fn keeping(stream: DuplexStream) -> BufWriter<DuplexStream> {
    BufWriter::with_capacity(16 * 1024, stream)
}

/// The relay's half of the upgrade.
async fn upgrade(relay: &mut DuplexStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(relay.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let (_, key) = head.split_once("Sec-WebSocket-Key: ").unwrap();
    let accept = accept_key(key.lines().next().unwrap().as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    relay.write_all(response.as_bytes()).await.unwrap();
}

async fn connected(options: Options, relay: &mut DuplexStream) -> Socket {
    let endpoint = Endpoint::parse(URL).unwrap();
    let (socket, ()) = tokio::join!(Socket::connect(&endpoint, &[], &options), upgrade(relay));
    socket.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_arrives_does_not_put_off_the_end_of_a_close() {
    let (near, mut relay) = duplex(ROOM);
    let mut socket = connected(dialling(near), &mut relay).await;
    socket.queue_text(&[b'1'; 1000]).unwrap();
    let pongs = tokio::spawn(async move {
        while relay.write_all(b"\x8a\x00").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let started = Instant::now();
    let closed = timeout(FOR_EVER, socket.close(1000, "")).await;
    assert_eq!(closed.expect("it ends"), None);
    assert!(started.elapsed() < Duration::from_secs(6));
    pongs.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_what_a_stream_keeps_and_then_for_the_answer() {
    // Together longer than `Timeouts::close`, either alone shorter.
    const PAUSE: Duration = Duration::from_secs(4);
    let (near, mut relay) = duplex(ROOM);
    let mut socket = connected(dialling(keeping(near)), &mut relay).await;
    socket.queue_text(&[b'1'; 1000]).unwrap();
    let answer = async {
        sleep(PAUSE).await;
        // A message with its header and mask, and a Close.
        relay.read_exact(&mut [0; 1000 + 8 + 8]).await.unwrap();
        sleep(PAUSE).await;
        let _ = relay.write_all(b"\x88\x02\x03\xe8").await;
        drop(relay);
    };
    let (closed, ()) = tokio::join!(socket.close(1000, ""), answer);
    assert_eq!(closed, Some((Some(1000), String::new())));
}

/// A frame of an opcode that is reserved.
const VIOLATION: &[u8] = b"\x83\x00";

#[tokio::test(start_paused = true)]
async fn a_close_for_a_violation_leaves_behind_what_waits() {
    let (near, mut relay) = duplex(ROOM);
    let mut socket = connected(dialling(near), &mut relay).await;
    socket.queue_text(&[b'1'; 1000]).unwrap();
    relay.write_all(VIOLATION).await.unwrap();
    let violated = socket.recv().await;
    assert!(
        matches!(violated, Err(SocketError::Protocol(_))),
        "{violated:?}"
    );
    let peer = async {
        // Frames no more than the one before.
        relay.write_all(&[0xff; 10 * ROOM]).await.unwrap();
        // A message with its header and mask.
        relay.read_exact(&mut [0; 1000 + 8]).await.unwrap();
        let mut close = [0; 8];
        relay.read_exact(&mut close).await.unwrap();
        let [0x88, 0x82, a, b, _, _, high, low] = close else {
            panic!("{close:?}")
        };
        assert_eq!(u16::from_be_bytes([high ^ a, low ^ b]), 1002);
        drop(relay);
    };
    let (closed, ()) = tokio::join!(socket.close(1000, ""), peer);
    assert_eq!(closed, None);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_broke_the_protocol_is_not_listened_to_for_ever() {
    let (near, mut relay) = duplex(ROOM);
    let builder = PhoneLink::builder(URL, "home").options(dialling(near));
    let mut phone = builder.start().unwrap();
    upgrade(&mut relay).await;
    let connected = phone.recv().await;
    assert!(matches!(connected, Some(PhoneEvent::Connected { .. })));
    let started = Instant::now();
    let babble = tokio::spawn(async move {
        while relay.write_all(VIOLATION).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    match timeout(FOR_EVER, phone.recv()).await.expect("it ends") {
        Some(PhoneEvent::Disconnected { code, .. }) => assert_eq!(code, Some(1002)),
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(6));
    babble.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_takes_and_keeps_is_no_progress() {
    let (near, mut relay) = duplex(ROOM);
    let silent = PingPolicy {
        every: Duration::MAX,
        timeout: Duration::MAX,
    };
    let builder = PhoneLink::builder(URL, "home").ping(silent);
    let builder = builder.options(dialling(keeping(near)));
    let mut phone = builder.start().unwrap();
    upgrade(&mut relay).await;
    let connected = phone.recv().await;
    assert!(matches!(connected, Some(PhoneEvent::Connected { .. })));
    let sender = phone.sender();
    let sends = tokio::spawn(async move {
        while sender.send(b"1").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    match timeout(FOR_EVER, phone.recv()).await.expect("it ends") {
        Some(PhoneEvent::Disconnected { reason, .. }) => {
            assert_eq!(reason, "the peer took nothing for 10s");
        }
        other => panic!("{other:?}"),
    }
    sends.await.unwrap();
}

/// As the documentation of `DaemonLink` has it: from the timeout of a ping on, and at the latest a ping later.
#[tokio::test(start_paused = true)]
async fn an_owner_that_takes_no_event_loses_the_connection_by_its_pings() {
    let cases = [(App::Mobile, 20), (App::Desktop, 30)];
    for (app, secs) in cases {
        for under_way in [true, false] {
            let (near, mut relay) = duplex(ROOM);
            let builder = PhoneLink::builder(URL, "home").app(app).events(1);
            let mut phone = builder.options(dialling(near)).start().unwrap();
            upgrade(&mut relay).await;
            let connected = phone.recv().await;
            assert!(matches!(connected, Some(PhoneEvent::Connected { .. })));
            let mut stands_still = Instant::now();
            let backlog = b"\x81\x011\x81\x012\x81\x013";
            if !under_way {
                relay.write_all(backlog).await.unwrap();
            }
            // The first ping, with its header and mask.
            relay.read_exact(&mut [0; 7]).await.unwrap();
            if under_way {
                stands_still = Instant::now();
                relay.write_all(backlog).await.unwrap();
            }
            relay.write_all(b"\x8a\x011").await.unwrap();
            assert_eq!(relay.read(&mut [0; ROOM]).await.unwrap(), 0);
            let expected = if under_way { secs } else { 2 * secs };
            let lasted = stands_still.elapsed().as_secs();
            assert_eq!(lasted, expected, "{app:?} {under_way}");
        }
    }
}
