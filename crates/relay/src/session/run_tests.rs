//! The loop of a session over sockets in memory.

use super::item::{Credit, Item, Meaning};
use super::peer::{Leg, Peer};
use super::{End, Flow, Handler, Session, Start, Transport};
use crate::clock::Clock;
use crate::observe::metrics::Metrics;
use crate::router::{SlotHash, Table};
use crate::session::budget::QueueBudget;
use crate::session::window::WINDOW_BYTES;
use bytes::Bytes;
use relay_core::{Conn, Outbox, ServerId, SessionPolicy};
use relay_proto::close::Cause;
use relay_proto::ws::{Limits, Opcode, Payload, Utf8};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, Empty, ReadBuf,
    empty,
};
use tokio::time::{Instant, interval};

/// Takes everything, and says nothing.
impl Transport for Empty {}

struct Mute;

impl Handler for Mute {
    fn metrics(&self) -> Option<&Metrics> {
        None
    }

    fn message(&mut self, _: Opcode, _: Payload<'_>) -> Result<Flow, Cause> {
        Ok(Flow::Continue)
    }

    fn may_read(&mut self, _: usize) -> usize {
        0
    }

    fn left(&mut self, _: &End, _: VecDeque<(Item, usize)>) {}
}

/// Notes what it is told.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Handler for Notes {
    fn metrics(&self) -> Option<&Metrics> {
        None
    }

    fn message(&mut self, _: Opcode, _: Payload<'_>) -> Result<Flow, Cause> {
        Ok(Flow::Continue)
    }

    fn may_read(&mut self, _: usize) -> usize {
        usize::MAX
    }

    fn probe_answered(&mut self, probe: u32) {
        self.note(format!("p{probe}"));
    }

    fn directed(&mut self, code: u16) {
        self.note(format!("directed {code}"));
    }

    fn write_failed(&mut self, meaning: Option<&Meaning>, detail: &'static str) {
        self.note(format!("{meaning:?}: {detail}"));
    }

    fn left(&mut self, _: &End, _: VecDeque<(Item, usize)>) {}
}

/// Takes everything, as TLS does for a while, and gets rid of nothing.
struct Keeps;

impl Transport for Keeps {}

impl AsyncRead for Keeps {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Keeps {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A sender that looks, when it is woken, how full the outbox is.
struct Sender {
    outbox_of: Arc<Peer>,
    found_bytes: AtomicUsize,
}

impl Wake for Sender {
    fn wake(self: Arc<Self>) {
        let found_bytes = self.outbox_of.queued_bytes();
        self.found_bytes.store(found_bytes, Ordering::Relaxed);
    }
}

fn peer(leg: Leg) -> Arc<Peer> {
    let table = Arc::new(Table::new(ServerId::new("home"), SlotHash::default()));
    let outbox = Outbox::new(1 << 20, Arc::new(QueueBudget::new(1 << 20)));
    let (conn_id, label) = (String::new(), String::new());
    Arc::new(Peer::new(Conn(1), leg, table, conn_id, "", label, outbox))
}

fn session<S: Transport, H: Handler>(
    peer: Arc<Peer>,
    socket: S,
    handler: H,
) -> Pin<Box<Session<S, H>>> {
    Box::pin(Session::new(Start {
        peer,
        socket,
        handler,
        limits: Limits {
            message_bytes: 1024,
            utf8: Utf8::Every,
        },
        policy: SessionPolicy::default(),
        clock: Clock::start(),
        early: Bytes::new(),
    }))
}

#[tokio::test]
async fn only_answers_to_probes_that_were_sent_are_passed_on() {
    let notes = Notes::default();
    let binary = peer(Leg::Binary { resumable: false });
    let (socket, mut daemon) = tokio::io::duplex(1024);
    let mut session = session(binary.clone(), socket, notes.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut says = async |pong: &[u8]| {
        daemon.write_all(pong).await.unwrap();
        assert!(session.as_mut().poll(&mut cx).is_pending());
        assert!(session.as_mut().poll(&mut cx).is_pending());
        notes.take()
    };
    assert!(says(b"\x8a\x82\0\0\0\0p1").await.is_empty());
    binary.order(|orders| orders.probe = Some(1));
    assert!(says(b"\x8a\x82\0\0\0\0p0").await.is_empty());
    assert_eq!(says(b"\x8a\x82\0\0\0\0p1").await, ["p1"]);
    assert!(says(b"\x8a\x82\0\0\0\0p1").await.is_empty(), "again");
}

#[tokio::test(start_paused = true)]
async fn what_leaves_for_tls_only_is_no_progress() {
    let phone = peer(Leg::Phone { suffix: 1 });
    let notes = Notes::default();
    let mut session = session(phone.clone(), Keeps, notes.clone());
    let start = Instant::now();
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = session.as_mut() => break,
            _ = seconds.tick() => {
                assert!(start.elapsed() < Duration::from_secs(60), "it goes on");
                assert_eq!(phone.push(Item::notice(b"{}"), 2), Ok(()));
            }
        }
    }
    let write_timeout = Duration::from_millis(SessionPolicy::default().write_timeout_ms);
    assert_eq!(start.elapsed().as_secs(), write_timeout.as_secs());
    assert_eq!(notes.take(), ["Some(Notice): write timed out"]);
}

/// A phone to which a message of 100 bytes was written, with this meaning, as far as a socket of 8 takes it.
fn stuck(
    meaning: Meaning,
    notes: Notes,
) -> (Pin<Box<impl Future<Output = ()>>>, Arc<Peer>, DuplexStream) {
    let phone = peer(Leg::Phone { suffix: 1 });
    let (socket, far) = tokio::io::duplex(8);
    let message = Payload::Owned(vec![b' '; 100]);
    let item = Item::frame(message, 0..100, meaning);
    assert_eq!(phone.push(item, 100), Ok(()));
    let mut session = session(phone.clone(), socket, notes);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(session.as_mut().poll(&mut cx).is_pending());
    (session, phone, far)
}

/// What comes out of this socket, which is served meanwhile.
async fn sent(session: Pin<Box<impl Future<Output = ()>>>, mut far: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (_, read) = tokio::join!(session, far.read_to_end(&mut bytes));
    read.unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_directive_that_is_overtaken_has_not_closed_the_connection() {
    for (overtaken, close, note) in [
        (true, b"\x03\xe9", vec![]),
        (false, b"\x11\x31", vec!["directed 4401"]),
    ] {
        let notes = Notes::default();
        let directive = Meaning::Directive {
            code: 4401,
            with_frame: true,
        };
        let (session, phone, far) = stuck(directive, notes.clone());
        if overtaken {
            phone.close(Cause::ShuttingDown);
        }
        let sent = sent(session, far).await;
        assert_eq!(sent[..102], [&b"\x81\x64"[..], &[b' '; 100]].concat());
        assert_eq!(sent[104..106], *close);
        assert_eq!(notes.take(), note);
    }
}

/// Whatever was ordered at the same time: it would be in the middle of a frame.
#[tokio::test(start_paused = true)]
async fn nothing_is_written_to_a_connection_that_is_cut() {
    let (session, phone, mut far) = stuck(Meaning::Notice, Notes::default());
    phone.order(|orders| orders.probe = Some(9));
    phone.close(Cause::Displaced);
    let mut taken = [0; 8];
    far.read_exact(&mut taken).await.unwrap();
    assert_eq!(sent(session, far).await, b"");
}

#[tokio::test]
async fn whom_a_written_frame_wakes_finds_its_room() {
    let binary = peer(Leg::Binary { resumable: false });
    let phone = peer(Leg::Phone { suffix: 1 });
    let sender = Arc::new(Sender {
        outbox_of: binary.clone(),
        found_bytes: AtomicUsize::new(usize::MAX),
    });
    phone.waker.register(&Waker::from(sender.clone()));
    for _ in 0..2 {
        let frame = vec![b'1'; WINDOW_BYTES / 2];
        let (bytes, credit) = (frame.len(), Credit::take(&phone, frame.len(), 0));
        let item = Item::envelope(b"", Payload::Owned(frame), credit);
        assert_eq!(binary.push(item, bytes), Ok(()));
    }
    assert!(!phone.window.is_open());
    let mut session = session(binary, empty(), Mute);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(session.as_mut().poll(&mut cx).is_pending());
    assert_eq!(sender.found_bytes.load(Ordering::Relaxed), 0);
}
