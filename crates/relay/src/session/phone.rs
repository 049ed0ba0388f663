//! The phone leg: every message is a frame for the binary.

use super::item::{Credit, Item, Meaning};
use super::peer::{Peer, Refused, Route};
use super::stamp::Stamp;
use super::{End, Flow, Handler};
use crate::observe::log::{Event, Key};
use crate::observe::metrics::{Direction, Metrics};
use crate::router::{Router, Seat};
use relay_core::PhoneEnd;
use relay_core::limits::OUTBOX_ITEM_BYTES;
use relay_proto::close::Cause;
use relay_proto::ws::{Opcode, Payload};
use relay_proto::{envelope, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// The session of a phone.
pub(crate) struct Phone {
    seat: Seat,
    /// `{"conn_id":"…","frame":`
    prefix: Box<[u8]>,
    held_up: HeldUp,
}

/// What keeps a phone's frames from going on. One field and not two, for the size of a phone.
enum HeldUp {
    No,
    /// By this frame, which can go neither on nor to the parked ones now. Nothing more is taken from the phone.
    Stalled(Vec<u8>),
    /// By the loss of a frame: its connection ends, and nothing may follow into the gap.
    Lost,
}

/// What became of a frame.
enum Forwarded {
    Done(Flow),
    /// Kept for later: there is no room for it now.
    Stalled(Vec<u8>),
    /// Nobody to give it to, and the router had no better idea.
    NoBinary,
    /// The binary's outbox is full of the frames of phones that came and went.
    Crowded,
    /// The relay has no memory left for what others do not read.
    Overloaded,
}

impl Phone {
    pub(crate) fn new(seat: Seat) -> Self {
        let prefix = envelope::prefix(&seat.peer.conn_id);
        Self {
            seat,
            prefix,
            held_up: HeldUp::No,
        }
    }

    fn router(&self) -> &Arc<Router> {
        &self.seat.router
    }

    fn peer(&self) -> &Arc<Peer> {
        &self.seat.peer
    }

    fn log(&self, event: Event, fields: &[(Key, &dyn std::fmt::Display)]) {
        self.seat.log(event, fields);
    }

    /// Passes a frame on. The phone's own lock is held while it enters the binary's outbox, so that
    /// no frame can slip in after the router has cut the link.
    fn forward(&self, frame: Payload<'_>, read_at: Option<Stamp>) -> Forwarded {
        // Each question to the router changes the route or ends the session, unless a binary comes
        // and goes meanwhile; a bound keeps even that from spinning.
        for _ in 0..4 {
            let mut inner = self.peer().lock();
            match &mut inner.route {
                Route::To(binary) => return self.enqueue(binary, frame, read_at),
                Route::Parked(parked) if parked.announced => {
                    let bytes = frame.len() + self.prefix.len() + OUTBOX_ITEM_BYTES;
                    if !self.router().reserve_park(parked.bytes, bytes) {
                        return Forwarded::Stalled(frame.into_vec());
                    }
                    parked.bytes += bytes;
                    parked.frames.push(frame.into_vec());
                    return Forwarded::Done(Flow::Continue);
                }
                Route::Parked(parked) => parked.announced = true,
                Route::Ask => {}
            }
            drop(inner);
            self.router().phone_frame(self.peer());
        }
        Forwarded::NoBinary
    }

    fn enqueue(&self, binary: &Peer, frame: Payload<'_>, read_at: Option<Stamp>) -> Forwarded {
        let bytes = frame.len() + self.prefix.len();
        let refused = binary.push_frame(bytes, frame, |frame| {
            let credit = Credit::take(self.peer(), frame.len(), self.prefix.len());
            Item::envelope(&self.prefix, frame, credit).read_at(read_at)
        });
        match refused {
            None => {}
            Some(Refused::Full) => return Forwarded::Crowded,
            Some(Refused::Overloaded) => return Forwarded::Overloaded,
            // It is going; the router is about to say what becomes of this phone.
            Some(Refused::Closed(frame)) => return Forwarded::Stalled(frame.into_vec()),
        }
        let full = self.peer().window.is_full();
        Forwarded::Done(if full { Flow::Pause } else { Flow::Continue })
    }

    fn settle(&mut self, forwarded: Forwarded) -> Result<Flow, Cause> {
        let cause = match forwarded {
            Forwarded::Done(flow) => return Ok(flow),
            Forwarded::Stalled(frame) => {
                self.held_up = HeldUp::Stalled(frame);
                return Ok(Flow::Pause);
            }
            Forwarded::NoBinary => {
                self.log(Event::PhoneForwarderNoBinary, &[]);
                Cause::BinaryAway
            }
            Forwarded::Crowded => {
                self.log_lost("the binary's outbox is full");
                Cause::BinaryAway
            }
            Forwarded::Overloaded => {
                self.log_lost("the budget for queued bytes is used up");
                Cause::Overloaded
            }
        };
        self.held_up = HeldUp::Lost;
        match self.peer().is_ending() {
            // The router is closing it already, and says why.
            true => Ok(Flow::Pause),
            false => Err(cause),
        }
    }

    fn log_lost(&self, err: &'static str) {
        self.log(Event::PhoneForwarderSendFailed, &[(Key::Err, &err)]);
    }

    fn delivered(&self, frame_bytes: usize) {
        let way = Direction::binary_to_phone;
        self.router().metrics.frame(way, frame_bytes);
        self.peer().tally.frame(way, frame_bytes);
    }
}

impl Handler for Phone {
    fn metrics(&self) -> Option<&Metrics> {
        Some(&self.router().metrics)
    }

    fn message(&mut self, _opcode: Opcode, frame: Payload<'_>) -> Result<Flow, Cause> {
        let read_at = Stamp::sample(self.router().clock);
        if let Err(error) = json::validate_member(&frame) {
            self.log(Event::PhoneForwarderMarshalErr, &[(Key::Err, &error)]);
            return Err(Cause::NotJson);
        }
        let tally = &self.peer().tally;
        tally.frame(Direction::phone_to_binary, frame.len());
        let forwarded = self.forward(frame, read_at);
        self.settle(forwarded)
    }

    fn may_read(&mut self, held_bytes: usize) -> usize {
        if !matches!(self.held_up, HeldUp::No) {
            return 0;
        }
        match &self.peer().lock().route {
            Route::To(_) => {}
            Route::Parked(parked) => {
                let most = self.router().park_phone_bytes();
                return most.saturating_sub(parked.bytes + held_bytes);
            }
            // The window is what waits for a binary that takes it. Frames that are kept for one that may come back
            // must not keep this phone from being read: it would be neither answered nor parked, nor seen to go.
            Route::Ask => return usize::MAX,
        }
        if self.peer().window.is_open() {
            usize::MAX
        } else {
            0
        }
    }

    fn kept_bytes(&self) -> usize {
        match &self.held_up {
            HeldUp::Stalled(frame) => frame.len(),
            HeldUp::No | HeldUp::Lost => 0,
        }
    }

    fn wake(&mut self) -> Result<(), Cause> {
        let HeldUp::Stalled(frame) = &mut self.held_up else {
            return Ok(());
        };
        let frame = std::mem::take(frame);
        self.held_up = HeldUp::No;
        // From here on it is its binary's, and must not count twice. No less than this is always allowed.
        let _ = self.peer().lock().outbox.hold(0);
        let forwarded = self.forward(Payload::Owned(frame), None);
        self.settle(forwarded).map(drop)
    }

    fn written(&mut self, item: &Item, cost_bytes: usize) {
        let frame_bytes = cost_bytes.saturating_sub(OUTBOX_ITEM_BYTES);
        match &item.meaning {
            Meaning::Delivered => self.delivered(frame_bytes),
            Meaning::Directive { with_frame, .. } if *with_frame => self.delivered(frame_bytes),
            Meaning::Directive { .. } | Meaning::Control | Meaning::Forwarded | Meaning::Notice => {
            }
        }
    }

    fn directed(&mut self, code: u16) {
        self.log(
            Event::BinaryForwarderPhoneClosed,
            &[(Key::CloseCode, &code)],
        );
    }

    fn write_failed(&mut self, meaning: Option<&Meaning>, detail: &'static str) {
        match meaning {
            Some(Meaning::Directive { code, .. }) => self.log(
                Event::BinaryForwarderCloseFrameSendFailed,
                &[(Key::CloseCode, code), (Key::Err, &detail)],
            ),
            Some(Meaning::Delivered) => {
                self.log(
                    Event::BinaryForwarderPhoneSendFailed,
                    &[(Key::Err, &detail)],
                );
            }
            _ => {}
        }
    }

    fn left(&mut self, end: &End, _unwritten: VecDeque<(Item, usize)>) {
        if self.peer().was_admitted() {
            self.log(Event::PhoneForwarderReadEnd, &[(Key::Err, &end.text())]);
        }
        let silent = self.peer().lock().directed;
        self.seat.phone_gone(PhoneEnd {
            code: end.code,
            silent,
        });
    }
}
