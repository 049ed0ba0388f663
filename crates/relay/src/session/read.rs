//! What a session reads: to the decoder by a buffer that all of a worker's share, or to where it stays.

use super::{End, Flow, Handler, Phase, Session, Transport};
use bytes::{BufMut, Bytes};
use relay_core::limits::QUEUE_FREE_BYTES;
use relay_core::{Millis, TURN_BYTES};
use relay_proto::close::{self, Cause};
use relay_proto::ws::Filled;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, ReadBuf};

thread_local!(static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; TURN_BYTES].into()));

impl<S: Transport, H: Handler> Session<S, H> {
    /// Reads once, no more than the bytes of a turn. Returns how many that were; `None` if there was nothing to read, or nothing may be read now.
    pub(super) fn read(
        &mut self,
        turn_bytes: usize,
        cx: &mut Context<'_>,
        now: Millis,
    ) -> Option<usize> {
        let allowed = match self.phase {
            Phase::Done => return None,
            Phase::Open | Phase::Closing { .. } | Phase::Finishing if self.half_closed => {
                return None;
            }
            Phase::Open => {
                let allowed = self.handler.may_read(self.decoder.held_bytes());
                self.life.held_back(now, allowed == 0);
                allowed.min(turn_bytes)
            }
            _ => turn_bytes,
        };
        if allowed == 0 {
            return None;
        }
        if self.early.is_none()
            && let Some(read) = self.read_payload(allowed, cx, now)
        {
            return read;
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            if let Some(early) = self.early.take() {
                let part = early.len().min(allowed);
                buffer[..part].copy_from_slice(&early[..part]);
                let rest = early.slice(part..);
                let paused = self.take_bytes(&mut buffer[..part], now);
                let rest = if paused.is_empty() {
                    rest
                } else {
                    [&paused[..], &rest].concat().into()
                };
                self.early = Some(rest).filter(|rest| !rest.is_empty());
                return Some(part);
            }
            let mut unfilled =
                ReadBuf::new(&mut buffer[..allowed.min(self.decoder.read_ahead_bytes())]);
            match Pin::new(&mut self.socket).poll_read(cx, &mut unfilled) {
                Poll::Pending => {
                    self.turns.ran_dry();
                    return None;
                }
                Poll::Ready(Ok(())) if unfilled.filled().is_empty() => self.half_closed(now),
                Poll::Ready(Ok(())) => {
                    let bytes = unfilled.filled().len();
                    self.count(|metrics, leg| metrics.received(leg, bytes));
                    let paused = self.take_bytes(unfilled.filled_mut(), now);
                    self.early = Some(paused).filter(|rest| !rest.is_empty());
                }
                Poll::Ready(Err(error)) => self.broke(&error, now),
            }
            Some(unfilled.filled().len())
        })
    }

    /// Reads the payload of a large message to where it stays, as [`read`](Self::read) otherwise. `None`: it has to read.
    fn read_payload(
        &mut self,
        allowed: usize,
        cx: &mut Context<'_>,
        now: Millis,
    ) -> Option<Option<usize>> {
        let (message, room) = self.decoder.room(allowed)?;
        let mut unfilled = message.limit(room);
        let read = pin!(self.socket.read_buf(&mut unfilled)).poll(cx);
        let bytes = match &read {
            Poll::Ready(Ok(bytes)) => *bytes,
            _ => 0,
        };
        let mut finished = false;
        match self.decoder.filled(bytes) {
            Ok(Filled { event, mut beyond }) => {
                let flow = event.and_then(|event| self.event(event, now));
                finished = flow.is_some();
                let beyond = beyond.as_mut_slice();
                if !beyond.is_empty() {
                    let paused = match flow {
                        Some(Flow::Pause) => Bytes::copy_from_slice(beyond),
                        _ => self.take_bytes(beyond, now),
                    };
                    self.early = Some(paused).filter(|rest| !rest.is_empty());
                }
            }
            Err(error) => self.broken(&error, now),
        }
        match read {
            Poll::Pending => {
                self.turns.ran_dry();
                return Some(None);
            }
            Poll::Ready(Ok(0)) => self.half_closed(now),
            Poll::Ready(Ok(_)) => {
                self.count(|metrics, leg| metrics.received(leg, bytes));
                self.taken(finished, now);
            }
            Poll::Ready(Err(error)) => self.broke(&error, now),
        }
        Some(Some(bytes))
    }

    /// Decodes and handles. Returns what is left when the handler wants a pause.
    fn take_bytes(&mut self, mut input: &mut [u8], now: Millis) -> Bytes {
        let mut finished = false;
        let mut paused = Bytes::new();
        while !self.deaf && self.phase != Phase::Done {
            match self.decoder.decode(&mut input) {
                Ok(Some(event)) => {
                    let flow = self.event(event, now);
                    finished |= flow.is_some();
                    if flow == Some(Flow::Pause) {
                        paused = Bytes::copy_from_slice(input);
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => self.broken(&error, now),
            }
        }
        self.taken(finished, now);
        paused
    }

    /// After bytes were decoded: keeps the account of the message they may have been of.
    fn taken(&mut self, finished: bool, now: Millis) {
        if finished {
            self.life.message_finished();
        }
        self.account_for_held(now);
        if self.phase == Phase::Open && self.decoder.mid_message() {
            self.life.message_started(now);
        }
    }

    /// Counts what is kept of the peer's messages, where that is more than every connection has for itself.
    pub(super) fn account_for_held(&mut self, now: Millis) {
        let held_bytes = self.decoder.held_bytes() + self.handler.kept_bytes();
        let much = held_bytes > QUEUE_FREE_BYTES / 2;
        if !much && !self.holding {
            return;
        }
        self.holding = much;
        let counted_bytes = if much { held_bytes } else { 0 };
        let covered = self.peer.lock().outbox.hold(counted_bytes);
        if !covered {
            self.close(Cause::Overloaded, now);
        }
    }

    /// The socket reads no more. Over TLS a FIN without a close alert is an error, but a FIN all the same.
    fn broke(&mut self, error: &io::Error, now: Millis) {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.half_closed(now),
            _ => self.ended("connection lost"),
        }
    }

    /// The peer's FIN. It says that nothing more comes, not that nothing more is taken (RFC 9293, section 3.6): a peer
    /// that has yet to read what fills its window is still due the Close that waits behind it. If it is gone for good,
    /// writing fails or takes too long. A peer to which no Close is due is left at once.
    fn half_closed(&mut self, now: Millis) {
        match self.phase {
            Phase::Closing { .. } if !self.half_closed => {
                // As good as its Close, which cannot come any more. False: there is nothing to echo.
                let _ = self.life.peer_closed(now);
            }
            // Its binary has asked for its end, behind what is queued.
            Phase::Open if self.peer.lock().directed => self.life.held_back(now, true),
            _ => return self.ended("end of stream"),
        }
        self.half_closed = true;
    }

    /// The peer's end of the stream, or its loss.
    fn ended(&mut self, detail: &'static str) {
        self.phase = Phase::Done;
        self.leave(
            &End {
                cause: Cause::PeerVanished,
                code: close::GOING_AWAY,
                detail,
            },
            false,
        );
    }
}
