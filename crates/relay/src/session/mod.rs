//! One connection from its 101 to its last byte: the loop between a socket, the codec and the
//! timers.
//!
//! A `Session` is a small future with a task of its own. It decides nothing: when to ping, close
//! or give up is said by [`relay_core::Session`], where frames go by the `Handler` of its leg. It
//! reads into a buffer shared by all sessions of a worker thread, so that an idle connection keeps
//! no buffer at all; only the rest of a large message is read to where it stays.

pub(crate) mod binary;
pub(crate) mod budget;
pub mod echo;
pub(crate) mod item;
pub(crate) mod peer;
pub(crate) mod phone;
mod pings;
mod read;
mod run;
#[cfg(test)]
mod run_tests;
pub(crate) mod stamp;
pub(crate) mod stock;
pub(crate) mod tally;
pub(crate) mod window;
mod writer;

use crate::clock::Clock;
use crate::observe::metrics::{self, Metrics};
use bytes::Bytes;
use item::{Item, Meaning};
use peer::{Orders, Peer};
use relay_core::{Gather, Millis, Path, SessionPolicy, Turns};
use relay_proto::close::{self, Cause};
use relay_proto::ws::{
    self, CloseFrame, Control, ControlFrame, Decoder, Event, Limits, Opcode, Payload, Role,
    close_frame, control_frame,
};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;
use writer::Writer;

/// A connected byte stream whose path the kernel may know something about.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether the peer's kernel still acknowledges what is sent.
    fn path(&self) -> Path {
        Path::Unknown
    }
}

/// How a connection's reading side ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) cause: Cause,
    /// For a close notice: what the peer sent, or was sent by the relay; 1001 if it vanished.
    pub(crate) code: u16,
    /// In words, for the log; never anything a peer wrote.
    pub(crate) detail: &'static str,
}

impl End {
    /// For the log.
    pub(crate) fn text(&self) -> String {
        match self.cause {
            Cause::PeerClosed => format!("{} with {}", self.detail, self.code),
            Cause::PeerVanished => self.detail.to_owned(),
            cause => format!("{}: {}", self.detail, cause.label()),
        }
    }
}

/// Whether more may follow a message at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// Ask [`Handler::may_read`] first.
    Pause,
}

/// What the two legs, and the echo endpoint, do differently.
pub(crate) trait Handler: Send + Unpin + 'static {
    /// Where to count what happens; `None`: nowhere.
    fn metrics(&self) -> Option<&Metrics>;

    /// A complete message. `Err`: close the connection for this cause.
    fn message(&mut self, opcode: Opcode, payload: Payload<'_>) -> Result<Flow, Cause>;

    /// How many bytes may be read now, when `held_bytes` of an incomplete message are kept already.
    /// With 0 the peer is held back: its deadlines wait until it is read again.
    fn may_read(&mut self, held_bytes: usize) -> usize;

    /// Bytes of a complete message that cannot go on yet.
    fn kept_bytes(&self) -> usize {
        0
    }

    /// Called at each wake-up, before anything is read.
    fn wake(&mut self) -> Result<(), Cause> {
        Ok(())
    }

    /// The peer answered this probe, which was unanswered.
    fn probe_answered(&mut self, _probe: u32) {}

    /// What the kernel knows of the path, as asked for this probe.
    fn path(&mut self, _probe: u32, _path: Path) {}

    /// An item is on the wire, which had cost as many bytes of the outbox.
    fn written(&mut self, _item: &Item, _cost_bytes: usize) {}

    /// The close that its binary asked for, behind what is written, is how this connection ends.
    fn directed(&mut self, _code: u16) {}

    /// Asked when everything is written: a number for a ping whose pong proves that it arrived.
    fn proof_due(&mut self) -> Option<u64> {
        None
    }

    /// A pong with the number of a proof. Whether it proves anything new.
    fn proof(&mut self, _number: u64) -> bool {
        false
    }

    /// The peer answered a ping that may have been sent after the one of a proof: it may never answer that one.
    fn proof_passed_over(&mut self) {}

    /// After [`Self::left`]: these were still to go out then, and will not.
    fn gave_up(&mut self, _items: &VecDeque<(Item, usize)>) {}

    /// The message that could not be written, or none if none was under way.
    fn write_failed(&mut self, _meaning: Option<&Meaning>, _detail: &'static str) {}

    /// The connection has no reading side any more; called once. `unwritten` were taken from the
    /// outbox and did not reach the peer.
    fn left(&mut self, end: &End, unwritten: VecDeque<(Item, usize)>);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Messages flow.
    Open,
    /// Our Close is queued or sent.
    Closing {
        sent: bool,
        code: u16,
    },
    /// Our FIN is due.
    Finishing,
    /// Our FIN is sent; what still comes in is discarded, so that no reset destroys our Close.
    Lingering,
    Done,
}

/// A connection's task. Resolves when the connection is over; dropping it earlier, as a panic does, cuts it.
pub(crate) struct Session<S, H: Handler> {
    peer: Arc<Peer>,
    socket: S,
    handler: H,
    decoder: Decoder,
    /// The decoder cannot go on: bytes are only discarded.
    deaf: bool,
    /// What is kept of the peer's messages counts in the common budget.
    holding: bool,
    life: relay_core::Session,
    clock: Clock,
    writer: Writer,
    write_blocked: bool,
    /// What was written has not left yet.
    flushing: bool,
    gather: Gather,
    turns: Turns,
    phase: Phase,
    /// The peer's FIN came while our Close or our FIN was still to be sent, or due: nothing is read until they are.
    half_closed: bool,
    left: bool,
    /// Bytes that are read already: what came behind the HTTP request, or behind the message with
    /// which the handler wanted a pause.
    early: Option<Bytes>,
    /// Our Close, to be sent when everything that is queued is out.
    farewell: Option<Box<ControlFrame>>,
    /// A pong for which the writer has no room.
    pong: Option<Box<ControlFrame>>,
    ping: Option<u32>,
    probe: Option<u32>,
    timer: Pin<Box<Sleep>>,
    armed: Millis,
}

/// What a session starts from.
pub(crate) struct Start<S, H> {
    pub(crate) peer: Arc<Peer>,
    pub(crate) socket: S,
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    pub(crate) policy: SessionPolicy,
    pub(crate) clock: Clock,
    pub(crate) early: Bytes,
}

impl<S: Transport, H: Handler> Session<S, H> {
    pub(crate) fn new(start: Start<S, H>) -> Self {
        let now = start.clock.now();
        if let Some(metrics) = start.handler.metrics() {
            metrics.received(start.peer.leg.label(), start.early.len());
        }
        Self {
            peer: start.peer,
            socket: start.socket,
            handler: start.handler,
            decoder: Decoder::new(Role::Server, start.limits),
            deaf: false,
            holding: false,
            life: relay_core::Session::new(&start.policy),
            clock: start.clock,
            writer: Writer::default(),
            write_blocked: false,
            flushing: false,
            gather: Gather::default(),
            turns: Turns::default(),
            phase: Phase::Open,
            half_closed: false,
            left: false,
            early: Some(start.early).filter(|bytes| !bytes.is_empty()),
            farewell: None,
            pong: None,
            ping: None,
            probe: None,
            timer: Box::pin(tokio::time::sleep_until(start.clock.instant(now))),
            armed: Millis(0),
        }
    }

    fn obey(&mut self, now: Millis) {
        let orders = {
            let mut inner = self.peer.lock();
            // This task is awake: no item needs to wake it.
            inner.idle = false;
            std::mem::take(&mut inner.orders)
        };
        let Orders {
            close,
            probe,
            check_path,
            admitted,
        } = orders;
        if admitted {
            self.life.registered(now);
        }
        if self.phase == Phase::Open
            && let Some(probe) = probe
        {
            self.life.probed(probe);
            self.probe = Some(probe);
        }
        for probe in check_path {
            let path = self.socket.path();
            self.handler.path(probe, path);
        }
        if let Some(cause) = close {
            self.close(cause, now);
        } else if self.phase == Phase::Open {
            match self.handler.wake() {
                Ok(()) => self.account_for_held(now),
                Err(cause) => self.close(cause, now),
            }
        }
    }

    /// Starts the closing handshake, or drops the connection where none is possible.
    fn close(&mut self, cause: Cause, now: Millis) {
        if self.phase != Phase::Open {
            return;
        }
        let close = cause.close();
        let frame = close.and_then(|close| close_frame(close.code, close.reason));
        // A holder that is gone must not keep the frame it got half of: its successor wants it whole.
        let stuck = self.write_blocked && self.writer.is_mid_item();
        let gone = stuck && matches!(cause, Cause::HeartbeatTimeout | Cause::Displaced);
        let (Some(close), Some(frame), false) = (close, frame, gone) else {
            return self.cut(cause, "closed by the relay");
        };
        // The session has just been open, so this is the Close from above.
        let _ = self.life.close_requested(now, cause);
        if self.half_closed {
            let _ = self.life.peer_closed(now);
        }
        let end = End {
            cause,
            code: close.code,
            detail: "closed by the relay",
        };
        if is_peers_fault(cause) {
            // What was queued before is its due all the same.
            self.phase = Phase::Closing {
                sent: false,
                code: close.code,
            };
            self.decoder.discard_messages();
            self.farewell = Some(Box::new(frame));
            self.tell_left(&end, VecDeque::new());
        } else {
            self.start_closing(&end, &frame);
        }
    }

    /// Answers the peer's Close with the same one, or takes it as the answer to ours.
    fn peer_closed(&mut self, frame: Option<&CloseFrame>, now: Millis) {
        if !self.life.peer_closed(now) {
            return;
        }
        let code = frame.map_or(close::NO_STATUS, |frame| frame.code);
        let reason = frame.map_or("", CloseFrame::reason);
        let end = End {
            cause: Cause::PeerClosed,
            code,
            detail: "closed by the peer",
        };
        match close_frame(code, reason) {
            Some(echo) => self.start_closing(&end, &echo),
            None => self.cut(end.cause, end.detail),
        }
    }

    fn start_closing(&mut self, end: &End, frame: &ControlFrame) {
        self.leave(end, true);
        self.pong = None;
        self.ping = None;
        self.probe = None;
        self.decoder.discard_messages();
        self.writer.push_control(Item::control(frame));
        self.phase = Phase::Closing {
            sent: false,
            code: end.code,
        };
    }

    /// The decoder found something it cannot go on after. A Close from the peer cannot be recognised
    /// any more, so none is waited for.
    fn broken(&mut self, error: &ws::Error, now: Millis) {
        self.deaf = true;
        self.close(
            match error {
                ws::Error::Protocol(reason) => Cause::Protocol(reason),
                ws::Error::InvalidUtf8 => Cause::InvalidUtf8,
                ws::Error::TooBig { .. } => Cause::MessageTooBig,
            },
            now,
        );
        // False: there is nothing to echo.
        let _ = self.life.peer_closed(now);
    }

    /// Ends the connection without a word.
    fn cut(&mut self, cause: Cause, detail: &'static str) {
        self.phase = Phase::Done;
        self.farewell = None;
        self.leave(
            &End {
                cause,
                code: close::GOING_AWAY,
                detail,
            },
            false,
        );
    }

    /// One event from the peer. A flow comes with a data message that is complete.
    fn event(&mut self, event: Event<'_>, now: Millis) -> Option<Flow> {
        let open = self.phase == Phase::Open;
        match event {
            Event::Message { opcode, payload } => {
                if !open {
                    return Some(Flow::Continue);
                }
                return Some(
                    self.handler
                        .message(opcode, payload)
                        .unwrap_or_else(|cause| {
                            self.close(cause, now);
                            Flow::Continue
                        }),
                );
            }
            Event::Ping(payload) if open => {
                let pong = control_frame(Control::Pong, &payload);
                if self.pong.is_none() && self.writer.takes_controls() {
                    self.writer.push_control(Item::control(&pong));
                } else {
                    // Answering the newest is enough (RFC 6455, section 5.5.3), and the only way
                    // in which pings cost no memory however many come.
                    self.pong = Some(Box::new(pong));
                }
            }
            Event::Pong(payload) => self.pong(&payload, now),
            Event::Close(frame) => self.peer_closed(frame.as_ref(), now),
            Event::Ping(_) => {}
        }
        None
    }
}

/// Whether the peer itself did what ends its connection: not the registry, and not time.
fn is_peers_fault(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::Protocol(_) | Cause::InvalidUtf8 | Cause::MessageTooBig | Cause::NotJson
    )
}

impl<S, H: Handler> Session<S, H> {
    fn count(&self, count: impl FnOnce(&Metrics, metrics::Leg)) {
        if let Some(metrics) = self.handler.metrics() {
            count(metrics, self.peer.leg.label());
        }
    }

    /// Tells the handler, once, that the reading side is over. With `finish_item` a frame that is
    /// on the wire in part still goes out.
    fn leave(&mut self, end: &End, finish_item: bool) {
        let unwritten = self.writer.take(finish_item);
        self.peer.give_up(&unwritten);
        self.tell_left(end, unwritten);
    }

    fn tell_left(&mut self, end: &End, unwritten: VecDeque<(Item, usize)>) {
        if std::mem::replace(&mut self.left, true) {
            self.handler.gave_up(&unwritten);
        } else {
            self.count(|metrics, leg| metrics.ended(leg, end.cause));
            self.handler.left(end, unwritten);
        }
    }
}

/// However its task ends, what it had taken for its peer and not written is accounted for.
impl<S, H: Handler> Drop for Session<S, H> {
    fn drop(&mut self) {
        if !self.left || !self.writer.is_empty() {
            let end = End {
                cause: Cause::PeerVanished,
                code: close::GOING_AWAY,
                detail: "dropped",
            };
            self.leave(&end, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    /// What an idle connection costs is mostly these two allocations. A field that is rarely used
    /// belongs into a box. (A peer's 16 bytes for its share of the queued bytes don't: without them
    /// the share could not be given back by being dropped. Its 24 for what an operator sees of its frames
    /// are read while it lives, from other threads.)
    #[test]
    fn an_idle_connection_stays_small() {
        let sizes = [
            size_of::<Session<TcpStream, phone::Phone>>(),
            size_of::<Session<TcpStream, binary::Binary>>(),
            size_of::<Peer>(),
        ];
        assert!(
            sizes
                .iter()
                .zip([472, 472, 336])
                .all(|(size, most)| *size <= most),
            "{sizes:?}"
        );
    }
}
