//! A connection in memory.

use pyrycode_relay::session::Transport;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A peer that sends what it has to say piece by piece, and takes whatever it is sent.
pub struct Socket {
    bytes: Vec<u8>,
    read: usize,
    /// The sizes of reads and writes, in turn. At 0 there is nothing, or no room, the first time.
    pieces: Vec<usize>,
    turn: usize,
    /// What it says ends; otherwise it only falls silent.
    ends: bool,
    written: Written,
}

/// What a socket was sent.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// All of it, so far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Socket {
    /// A peer that says `bytes`.
    pub fn new(bytes: Vec<u8>, pieces: Vec<usize>, ends: bool) -> Self {
        Self {
            bytes,
            read: 0,
            pieces,
            turn: 0,
            ends,
            written: Written::default(),
        }
    }

    /// What it is sent.
    pub fn written(&self) -> Written {
        self.written.clone()
    }

    /// What it has not said yet.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    /// The next piece, or none for now.
    fn piece(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.turn += 1;
        match self.pieces[self.turn % self.pieces.len()] {
            0 => {
                // Each piece is 0 only once, so that something moves whatever they are.
                let turn = self.turn % self.pieces.len();
                self.pieces[turn] = 1000;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            bytes => Poll::Ready(bytes),
        }
    }
}

impl Transport for Socket {}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread().is_empty() {
            return match self.ends {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        }
        let Poll::Ready(piece) = self.piece(cx) else {
            return Poll::Pending;
        };
        let bytes = self.unread().len().min(piece).min(into.remaining());
        into.put_slice(&self.unread()[..bytes]);
        self.read += bytes;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(mut left) = self.piece(cx) else {
            return Poll::Pending;
        };
        let mut written = self
            .written
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = written.len();
        for part in parts {
            let bytes = part.len().min(left);
            written.extend_from_slice(&part[..bytes]);
            left -= bytes;
        }
        Poll::Ready(Ok(written.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

thread_local!(static RUNTIME: tokio::runtime::Runtime = runtime());

/// In which nobody waits for a timeout.
fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true);
    runtime.build().expect("a runtime")
}

/// Runs a task that waits for nothing but sockets like these and for time, which passes at once.
pub fn run<T>(task: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(task))
}
