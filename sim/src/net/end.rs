//! The two ends of a connection, as programs see them.

use super::pipe::{FOR_EVER, Path, Pipe};
use super::tap::Tap;
use super::vandal::Vandal;
use crate::history::History;
use crate::rng::Rng;
use pyrycode_relay::session::Transport;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A connection. Side 0 is the client's, side 1 the relay's; side `n` writes into pipe `n`.
#[derive(Debug)]
pub(crate) struct Link {
    number: u64,
    history: History,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pipes: [Pipe; 2],
    /// When each side learns of a reset.
    reset_at: [Option<Instant>; 2],
    open: [bool; 2],
    hurt: Option<String>,
    rng: Rng,
    tap: Tap,
    vandal: Option<Vandal>,
}

impl Link {
    pub(super) fn new(
        number: u64,
        path: Path,
        rng: Rng,
        history: History,
        tap: Tap,
        vandal: Option<Vandal>,
    ) -> Self {
        Self {
            number,
            history,
            state: Mutex::new(State {
                pipes: [Pipe::new(path), Pipe::new(path)],
                reset_at: [None; 2],
                open: [true; 2],
                hurt: None,
                rng,
                tap,
                vandal,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().open == [false; 2]
    }

    /// Remembers that something was done to it.
    pub(super) fn hurt(&self, how: &str) {
        self.lock().hurt.get_or_insert_with(|| how.to_owned());
    }

    /// What was done to it.
    pub(crate) fn was_hurt(&self) -> Option<String> {
        self.lock().hurt.clone()
    }

    pub(super) fn set_path(&self, path: Path) {
        self.lock()
            .pipes
            .iter_mut()
            .for_each(|pipe| pipe.path = path);
    }

    pub(super) fn hold(&self, pipe: usize, time: Duration) {
        self.lock().pipes[pipe].hold(time);
    }

    pub(super) fn reset(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        state.reset_at = [Some(now); 2];
        state.pipes.iter_mut().for_each(Pipe::wake);
    }
}

impl State {
    /// The other side learns of a reset that sets out at `from`.
    fn send_reset(&mut self, by: usize, from: Instant) {
        let at = self.pipes[by].arrival(from, 0);
        let known = &mut self.reset_at[1 - by];
        *known = Some(known.map_or(at, |known| known.min(at)));
        self.pipes.iter_mut().for_each(Pipe::wake);
    }

    fn is_reset(&self, side: usize) -> bool {
        self.reset_at[side].is_some_and(|at| at <= Instant::now())
    }

    /// What a system call of this side says of a reset that it has learnt of.
    fn check(&self, side: usize) -> io::Result<()> {
        match self.is_reset(side) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct End {
    link: Arc<Link>,
    side: usize,
    /// For what is to be read, and for a reset while nothing can be written.
    timers: [Pin<Box<Sleep>>; 2],
}

impl End {
    pub(super) fn pair(link: &Arc<Link>) -> [Self; 2] {
        let timer = || Box::pin(tokio::time::sleep(Duration::ZERO));
        [0, 1].map(|side| Self {
            link: link.clone(),
            side,
            timers: [timer(), timer()],
        })
    }

    /// Comes back at this time, if it ever comes.
    fn wait(&mut self, timer: usize, until: Option<Instant>, cx: &mut Context<'_>) {
        let Some(until) = until.filter(|until| *until < Instant::now() + FOR_EVER / 2) else {
            return;
        };
        let timer = self.timers[timer].as_mut();
        wake_at(timer, until, cx);
    }
}

fn wake_at(mut timer: Pin<&mut Sleep>, until: Instant, cx: &mut Context<'_>) {
    if timer.deadline() != until || timer.is_elapsed() {
        timer.as_mut().reset(until);
    }
    if timer.poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let side = me.side;
        let link = me.link.clone();
        let mut state = link.lock();
        state.check(side)?;
        let mut most = buffer.remaining();
        if state.rng.percent(10) {
            most = most.min(state.rng.within(1..64) as usize);
        }
        let pipe = &mut state.pipes[1 - side];
        if let Some(bytes) = pipe.pop(most) {
            buffer.put_slice(&bytes);
            link.history.crossed(link.number, side, bytes.len());
            if side == 1 {
                state.tap.read(&bytes);
            }
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        let next = [pipe.readable_at(), state.reset_at[side]];
        drop(state);
        me.wait(0, next.into_iter().flatten().min(), cx);
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let side = me.side;
        let link = me.link.clone();
        let mut state = link.lock();
        state.check(side)?;
        if state.pipes[side].finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut most = bytes.len().min(state.pipes[side].room());
        if most == 0 {
            state.pipes[side].writer = Some(cx.waker().clone());
            let reset_at = state.reset_at[side];
            drop(state);
            me.wait(1, reset_at, cx);
            return Poll::Pending;
        }
        if state.rng.percent(10) {
            most = most.min(state.rng.within(1..4096) as usize);
        }
        let part = &bytes[..most];
        if side == 1 {
            state.tap.wrote(part);
        }
        if state.pipes[side].deserted {
            // The kernel takes it; the answer of the other one comes back by the other pipe.
            let there = state.pipes[side].waste(most);
            state.send_reset(1 - side, there);
            return Poll::Ready(Ok(most));
        }
        match state.vandal.as_mut().filter(|_| side == 1) {
            None => state.pipes[side].push(Some(part.to_vec())),
            Some(vandal) => {
                let done = vandal.take(part);
                if !done.bytes.is_empty() {
                    state.pipes[side].push(Some(done.bytes));
                }
                if done.reset {
                    state.send_reset(1, Instant::now());
                }
            }
        }
        link.history.crossed(link.number, side + 2, most);
        Poll::Ready(Ok(most))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.link.lock();
        if state.is_reset(self.side) {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        let pipe = &mut state.pipes[self.side];
        if !pipe.finished {
            pipe.push(None);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts
            .iter()
            .map(|part| &part[..])
            .collect::<Vec<_>>()
            .concat();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        let side = self.side;
        state.open[side] = false;
        let unread = state.pipes[1 - side].desert();
        match unread {
            _ if state.is_reset(side) => {}
            // A kernel answers what nobody will read with a reset, and that destroys what the other one has not
            // read yet.
            Some(arrival) => state.send_reset(side, arrival),
            None if !state.pipes[side].finished => state.pipes[side].push(None),
            None => {}
        }
    }
}

impl Transport for End {
    fn path(&self) -> relay_core::Path {
        let state = self.link.lock();
        let (out, back) = (&state.pipes[self.side], &state.pipes[1 - self.side]);
        match out.unacknowledged_for(back) {
            None => relay_core::Path::Acknowledged,
            Some(time) => relay_core::Path::Silent {
                for_ms: time.as_millis() as u64,
            },
        }
    }
}
