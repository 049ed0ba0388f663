//! The loop of a session: obey, write, read, look at the clock, until nothing moves.

use super::item::{Item, Meaning};
use super::{Handler, Phase, Session, Transport};
use crate::observe::metrics::Direction;
use relay_core::{Action, Millis};
use relay_proto::close::Cause;
use relay_proto::ws::close_frame;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Reads in a row, if they are short.
const ROUNDS: usize = 8;

impl<S: Transport, H: Handler> Future for Session<S, H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        me.peer.waker.register(cx.waker());
        let peer = &me.peer;
        let gather = me.phase == Phase::Open
            && me.writer.is_empty()
            && me.gather.waits(|| peer.queued_bytes());
        let mut taken_bytes = 0;
        let turn_bytes = me.turns.bytes(me.peer.leg.is_phone());
        for _ in 0..ROUNDS {
            let now = me.clock.now();
            me.obey(now);
            if !gather && me.phase != Phase::Done {
                me.write(cx, now);
            }
            let read = me.read(turn_bytes, cx, now);
            me.expire(now);
            if me.phase == Phase::Done {
                return Poll::Ready(());
            }
            if gather {
                break;
            }
            if read.is_none() && me.settled() && me.armed(cx) {
                return Poll::Pending;
            }
            taken_bytes += read.unwrap_or(0);
            if taken_bytes >= turn_bytes {
                me.turns.was_full();
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Transport, H: Handler> Session<S, H> {
    /// Writes until the socket is full or nothing waits.
    fn write(&mut self, cx: &mut Context<'_>, now: Millis) {
        if self.flushing && !self.flush(cx, now) {
            return;
        }
        loop {
            self.queue_controls();
            if self.phase == Phase::Open || self.farewell.is_some() {
                self.writer.refill(&self.peer);
            }
            self.complete_written(now);
            if self.writer.is_empty() && !self.push_last() {
                break;
            }
            self.gather.writes(self.writer.len());
            match self.writer.poll_write(&mut self.socket, cx) {
                Poll::Ready(Ok(bytes)) => {
                    self.count(|metrics, leg| metrics.sent(leg, bytes));
                    self.complete_written(now);
                }
                Poll::Ready(Err(_)) => {
                    return self.write_failed(Cause::PeerVanished, "write failed");
                }
                Poll::Pending => {
                    self.write_blocked = true;
                    return self.life.write_blocked(now);
                }
            }
        }
        if !self.flush(cx, now) {
            return;
        }
        self.write_blocked = false;
        self.life.write_idle();
        match self.phase {
            Phase::Closing { sent: false, code } => {
                self.life.close_sent(now);
                self.phase = Phase::Closing { sent: true, code };
                self.count(|metrics, leg| metrics.close_sent(leg, code));
            }
            Phase::Finishing => self.finish(cx, now),
            _ => {}
        }
    }

    /// Whether all that was written has left. TLS takes bytes while the network takes none; before that is over nothing
    /// more is written, or it would pass for progress.
    fn flush(&mut self, cx: &mut Context<'_>, now: Millis) -> bool {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        let was_flushing = std::mem::replace(&mut self.flushing, flushed.is_pending());
        match flushed {
            Poll::Ready(Ok(())) => {
                if was_flushing {
                    self.life.write_advanced(now);
                }
                return true;
            }
            Poll::Ready(Err(_)) => self.write_failed(Cause::PeerVanished, "write failed"),
            Poll::Pending => {
                self.write_blocked = true;
                self.life.write_blocked(now);
            }
        }
        false
    }

    /// What comes behind all that is written: our Close, or a ping if the handler wants to know that it arrived. False if
    /// there is nothing.
    fn push_last(&mut self) -> bool {
        if let Some(close) = self.farewell.take() {
            self.writer.push_control(Item::control(&close));
            return true;
        }
        if self.phase != Phase::Open {
            return false;
        }
        let Some(number) = self.handler.proof_due() else {
            return false;
        };
        self.push_ping(&format!("s{number}"));
        if let Some(probe) = self.life.unanswered_probe() {
            self.push_ping(&format!("p{probe}"));
        }
        true
    }

    /// Accounts for the items that are on the wire: in the outbox first, then each for itself.
    fn complete_written(&mut self, now: Millis) {
        // Dropping an item gives its sender credit, and may wake it: it has to find the room that there is, or it would be
        // closed for an outbox that is full no more.
        let written_bytes = self.writer.written_bytes();
        if written_bytes > 0 {
            self.peer.lock().outbox.written(written_bytes);
        }
        let mut directed = None;
        while let Some((item, cost)) = self.writer.pop_written() {
            self.life.write_advanced(now);
            self.write_blocked = false;
            // Before the item and its credit are dropped: while a frame is not in flight any more and not yet numbered, a
            // resume would take it for one that has arrived.
            self.handler.written(&item, cost);
            if let Some(read_at) = item.read_at {
                let age = read_at.age(self.clock);
                self.count(|metrics, leg| metrics.latency(Direction::to(leg), age));
            }
            if let Meaning::Directive { code, .. } = item.meaning {
                directed = Some(code);
            }
        }
        // Not before the last of them is popped: closing looks at what is written in part.
        if let Some(code) = directed {
            self.direct(code, now);
        }
    }

    /// What its binary asked for has come to its turn: the close, behind all that it sent before.
    fn direct(&mut self, code: u16, now: Millis) {
        let takes_effect = self.phase == Phase::Open || self.farewell.is_some();
        if takes_effect {
            self.handler.directed(code);
        }
        let close = Cause::Directive(code).close();
        let frame = close.and_then(|close| close_frame(close.code, close.reason));
        match (frame, self.farewell.is_some()) {
            // The phone has broken a rule since, and its Close was to follow. The binary was first, and knows of no other end.
            (Some(frame), true) => {
                self.phase = Phase::Closing { sent: false, code };
                self.farewell = Some(Box::new(frame));
            }
            // A code that no Close may carry.
            (None, true) => self.cut(Cause::Directive(code), "closed by the relay"),
            (_, false) => self.close(Cause::Directive(code), now),
        }
    }

    fn write_failed(&mut self, cause: Cause, detail: &'static str) {
        if self.phase == Phase::Open {
            // TLS may have taken all that was in the writer, and got rid of nothing.
            self.writer.refill(&self.peer);
            self.handler.write_failed(self.writer.meaning(), detail);
        }
        self.cut(cause, detail);
    }

    /// Sends our FIN and waits for the peer's.
    fn finish(&mut self, cx: &mut Context<'_>, now: Millis) {
        match Pin::new(&mut self.socket).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => {
                self.life.fin_sent(now);
                self.phase = Phase::Lingering;
            }
            Poll::Ready(Err(_)) => self.phase = Phase::Done,
            Poll::Pending => self.write_blocked = true,
        }
    }

    fn expire(&mut self, now: Millis) {
        while self.phase != Phase::Done
            && let Some(action) = self.life.expire(now)
        {
            match action {
                Action::Ping { number, probe } => {
                    self.ping = Some(number);
                    self.probe = probe;
                }
                Action::Close(cause) => self.close(cause, now),
                Action::Cut(cause) => self.write_failed(cause, "write timed out"),
                Action::Fin => self.phase = Phase::Finishing,
                Action::Drop => self.cut(Cause::PeerVanished, "did not finish the close handshake"),
            }
        }
    }

    /// Whether nothing is left to do until somebody wakes this task. If so, it is marked idle.
    fn settled(&mut self) -> bool {
        if self.pong.is_some() || self.ping.is_some() || self.probe.is_some() {
            return self.write_blocked;
        }
        let mut inner = self.peer.lock();
        let orders = &inner.orders;
        if orders.close.is_some() && self.phase == Phase::Open
            || orders.probe.is_some()
            || !orders.check_path.is_empty()
            || orders.admitted
        {
            return false;
        }
        match self.phase {
            Phase::Open => {
                inner.idle = !self.write_blocked && inner.outbox.is_empty();
                inner.idle || self.write_blocked
            }
            Phase::Closing { sent: false, .. } => self.write_blocked,
            Phase::Finishing => self.write_blocked,
            Phase::Closing { .. } | Phase::Lingering | Phase::Done => true,
        }
    }

    /// Sets the timer for the next deadline. False if that has passed already.
    fn armed(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.life.deadline() else {
            return true;
        };
        if self.armed != deadline {
            self.armed = deadline;
            self.timer.as_mut().reset(self.clock.instant(deadline));
        }
        self.timer.as_mut().poll(cx).is_pending()
    }
}
