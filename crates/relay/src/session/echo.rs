//! An endpoint that sends every message back: the codec and the session loop without a relay around
//! them, for conformance suites.

use super::budget::QueueBudget;
use super::item::{Item, Meaning};
use super::peer::{Leg, Peer};
use super::{End, Flow, Handler, Session, Start, Transport};
use crate::clock::Clock;
use crate::observe::metrics::Metrics;
use crate::router::{SlotHash, Table};
use bytes::Bytes;
use relay_core::{Conn, Outbox, ServerId, SessionPolicy};
use relay_proto::close::Cause;
use relay_proto::ws::{Limits, Opcode, Payload};
use std::collections::VecDeque;
use std::sync::Arc;

/// Messages waiting to be sent back, in bytes.
const OUTBOX_BYTES: usize = 64 * 1024 * 1024;

/// How the endpoint reads.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// No more than this at once; not 0.
    pub read_bytes: usize,
    /// After each message it reads nothing for a moment.
    pub pauses: bool,
}

impl Pace {
    /// As it comes.
    pub const FREE: Self = Self {
        read_bytes: usize::MAX,
        pauses: false,
    };
}

struct Echo {
    peer: Arc<Peer>,
    pace: Pace,
    /// The moment after a message.
    paused: bool,
}

impl Handler for Echo {
    fn metrics(&self) -> Option<&Metrics> {
        None
    }

    fn message(&mut self, opcode: Opcode, payload: Payload<'_>) -> Result<Flow, Cause> {
        let bytes = payload.len();
        let item = Item::message(opcode, payload, Meaning::Delivered);
        if self.peer.push(item, bytes).is_err() {
            return Err(Cause::BacklogFull);
        }
        self.paused = self.pace.pauses;
        Ok(match self.paused {
            true => Flow::Pause,
            false => Flow::Continue,
        })
    }

    fn may_read(&mut self, _held_bytes: usize) -> usize {
        if std::mem::take(&mut self.paused) {
            self.peer.waker.wake();
            return 0;
        }
        self.pace.read_bytes
    }

    fn left(&mut self, _end: &End, _unwritten: VecDeque<(Item, usize)>) {}
}

/// Echoes the messages of one connection, until it is closed. `early` was read from it already.
pub async fn serve<S: Transport>(socket: S, limits: Limits, early: Bytes) {
    serve_at(Pace::FREE, socket, limits, early).await;
}

/// As [`serve`], at a pace.
pub async fn serve_at<S: Transport>(pace: Pace, socket: S, limits: Limits, early: Bytes) {
    let table = Arc::new(Table::new(ServerId::new("echo"), SlotHash::default()));
    let peer = Peer::new(
        Conn(0),
        Leg::Binary { resumable: false },
        table,
        String::new(),
        "",
        String::new(),
        Outbox::new(OUTBOX_BYTES, Arc::new(QueueBudget::new(2 * OUTBOX_BYTES))),
    );
    let peer = Arc::new(peer);
    peer.admit();
    let start = Start {
        handler: Echo {
            peer: peer.clone(),
            pace,
            paused: false,
        },
        peer,
        socket,
        limits,
        policy: SessionPolicy::default(),
        clock: Clock::start(),
        early,
    };
    Session::new(start).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::TURN_BYTES;
    use std::future::Future;
    use std::io;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// A peer that always has something to say: empty pongs, in pieces of a size.
    struct Endless {
        piece_bytes: usize,
        taken_bytes: Arc<AtomicUsize>,
    }

    const PONG: [u8; 6] = [0x8a, 0x80, 1, 2, 3, 4];

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let part = self.piece_bytes.min(buffer.remaining());
            let before = self.taken_bytes.fetch_add(part, Ordering::Relaxed);
            for at in before..before + part {
                buffer.put_slice(&[PONG[at % PONG.len()]]);
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Transport for Endless {}

    /// Others wait for as long as a turn takes, once for each peer that never stops.
    #[tokio::test]
    async fn a_peer_that_never_stops_gets_its_turn_and_no_more() {
        for piece_bytes in [100, 16 * 1024, TURN_BYTES] {
            let taken_bytes = Arc::new(AtomicUsize::new(0));
            let socket = Endless {
                piece_bytes,
                taken_bytes: taken_bytes.clone(),
            };
            let limits = Limits {
                message_bytes: 1024,
                utf8: relay_proto::ws::Utf8::Every,
            };
            let mut session = pin!(serve(socket, limits, Bytes::new()));
            let mut cx = Context::from_waker(Waker::noop());
            for turn in 1..4 {
                assert!(session.as_mut().poll(&mut cx).is_pending());
                let taken = taken_bytes.load(Ordering::Relaxed);
                assert!(taken > 0 && taken <= turn * TURN_BYTES, "{taken} in {turn}");
            }
        }
    }
}
