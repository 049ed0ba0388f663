//! Fixed work over the frame path, without sockets, for `scripts/instructions` to count its instructions.
//!
//! `instructions` lists what there is; `instructions NAME` does it. What counts is inside of [`measured`].

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use pyrycode_relay::session::{Transport, echo};
use relay_proto::ws::client::masked_text;
use relay_proto::ws::{Decoder, Event, Limits, Role, Utf8, text_header};
use relay_proto::{envelope, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As the relay reads.
const READ_BYTES: usize = 64 * 1024;
const LIMITS: Limits = Limits {
    message_bytes: 262_144,
    utf8: Utf8::Every,
};
const CONN_ID: &str = "client-bench-0-0123abcd";
const SIZES: [usize; 3] = [256, 4096, 65_536];

fn main() {
    let Some(name) = std::env::args().nth(1) else {
        for kind in ["up", "down", "echo"] {
            for bytes in SIZES {
                println!("{kind}-{bytes} {}", frames(bytes));
            }
        }
        return;
    };
    let (kind, bytes) = name.split_once('-').expect("a name from the list");
    let bytes = bytes.parse().expect("a name from the list");
    match kind {
        "up" => decoded(frames(bytes), &wire(&payload(bytes)), up),
        "down" => {
            let parts = [
                &envelope::prefix(CONN_ID),
                &*payload(bytes),
                envelope::SUFFIX,
            ];
            decoded(frames(bytes), &wire(&parts.concat()), down);
        }
        "echo" => echoed(frames(bytes), &wire(&payload(bytes))),
        _ => panic!("a name from the list"),
    }
}

/// How many frames of this size are counted.
fn frames(bytes: usize) -> usize {
    (1 << 24) / (bytes + 4096)
}

/// A frame as apps send them.
fn payload(bytes: usize) -> Vec<u8> {
    let mut json = br#"{"v":2,"type":"noise_msg","data":""#.to_vec();
    let alphabet = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9');
    json.extend(alphabet.cycle().take(bytes - json.len() - 2));
    json.extend(br#""}"#);
    json
}

/// A message on the wire.
fn wire(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    masked_text(payload, [0x12, 0x34, 0x56, 0x78], &mut out);
    out
}

#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}

/// The codec and what is done to a message, fed as the session feeds it.
fn decoded(count: usize, frame: &[u8], mut take: impl FnMut(&[u8])) {
    let mut decoder = Decoder::new(Role::Server, LIMITS);
    let mut buffer = vec![0; READ_BYTES];
    let stream: Vec<u8> = frame.repeat(2 * READ_BYTES / frame.len() + 2);
    let mut at = 0;
    let mut run = |frames: usize| {
        let mut done = 0;
        while done < frames {
            at %= frame.len();
            if let Some((message, room)) = decoder.room(usize::MAX) {
                message.extend_from_slice(&stream[at..at + room]);
                at += room;
                let mut filled = decoder.filled(room).expect("a legal stream");
                if let Some(Event::Message { payload, .. }) = filled.event {
                    take(&payload);
                    done += 1;
                }
                let header = decoder.decode(&mut filled.beyond.as_mut_slice());
                assert_eq!(header, Ok(None));
                continue;
            }
            let read = READ_BYTES.min(decoder.read_ahead_bytes());
            let mut input = &mut buffer[..read];
            input.copy_from_slice(&stream[at..at + read]);
            at += read;
            while let Some(event) = decoder.decode(&mut input).expect("a legal stream") {
                if let Event::Message { payload, .. } = event {
                    take(&payload);
                    done += 1;
                }
            }
        }
    };
    // The first ones find out how large messages are.
    run(10);
    measured(|| run(count));
}

fn up(frame: &[u8]) {
    json::validate_member(frame).expect("JSON");
    let length = CONN_ID.len() + 23 + frame.len() + envelope::SUFFIX.len();
    black_box(text_header(length));
}

fn down(message: &[u8]) {
    match envelope::parse(message).expect("an envelope") {
        envelope::Directive::Frame { conn_id, frame } => {
            black_box((conn_id, text_header(frame.len())));
        }
        other => panic!("{other:?}"),
    }
}

/// A whole session: read, decode, queue, write.
fn echoed(count: usize, frame: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let left_bytes = Arc::new(AtomicUsize::new(0));
    let socket = Wire {
        stream: frame.repeat(READ_BYTES / frame.len() + 2),
        frame_bytes: frame.len(),
        at: 0,
        left_bytes: left_bytes.clone(),
    };
    let mut session = pin!(echo::serve(socket, LIMITS, Default::default()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut run = |frames: usize| {
        left_bytes.store(frames * frame.len(), Ordering::Relaxed);
        while left_bytes.load(Ordering::Relaxed) > 0 {
            assert!(session.as_mut().poll(&mut cx).is_pending());
        }
        // What it has read last is still to be written.
        for _ in 0..2 {
            assert!(session.as_mut().poll(&mut cx).is_pending());
        }
    };
    run(10);
    measured(|| run(count));
}

/// A peer that sends so many bytes of a stream of frames, and takes whatever it is sent.
struct Wire {
    stream: Vec<u8>,
    frame_bytes: usize,
    at: usize,
    left_bytes: Arc<AtomicUsize>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let part = self
            .left_bytes
            .load(Ordering::Relaxed)
            .min(buffer.remaining());
        if part == 0 {
            return Poll::Pending;
        }
        buffer.put_slice(&self.stream[self.at..self.at + part]);
        self.at = (self.at + part) % self.frame_bytes;
        self.left_bytes.fetch_sub(part, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Wire {}
