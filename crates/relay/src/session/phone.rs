//! The phone leg: every message is a frame for the binary.

use super::item::{Credit, Item, Meaning, REOPEN_BYTES, WINDOW_BYTES};
use super::peer::{Peer, Route};
use super::{End, Handler};
use crate::observe::log::{Event, Key};
use crate::observe::metrics::Direction;
use crate::router::{Router, Seat};
use relay_core::{Overflow, PhoneEnd};
use relay_proto::close::Cause;
use relay_proto::ws::{Opcode, Payload};
use relay_proto::{envelope, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The session of a phone.
pub(crate) struct Phone {
    seat: Seat,
    /// `{"conn_id":"…","frame":`
    prefix: Box<[u8]>,
    /// Frames that can go neither on nor to the parked ones now: what one read held, at most. While
    /// there are any, nothing more is read.
    stalled: VecDeque<Vec<u8>>,
}

/// What became of a frame.
enum Forwarded {
    Done,
    /// Kept for later: there is no room for it now.
    Stalled(Vec<u8>),
    /// Nobody to give it to, and the router had no better idea.
    NoBinary,
    /// The binary's outbox refuses.
    Refused(Overflow),
}

impl Phone {
    pub(crate) fn new(seat: Seat) -> Self {
        let prefix = envelope::prefix(&seat.peer.conn_id);
        Self {
            seat,
            prefix,
            stalled: VecDeque::new(),
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
    fn forward(&self, frame: Payload<'_>) -> Forwarded {
        // Each question to the router changes the route or ends the session, unless a binary comes
        // and goes meanwhile; a bound keeps even that from spinning.
        for _ in 0..4 {
            let mut inner = self.peer().lock();
            match &mut inner.route {
                // It is going; the router is about to say what becomes of this phone.
                Route::To(binary) if binary.lock().outbox.is_closed() => {
                    return Forwarded::Stalled(frame.into_vec());
                }
                Route::To(binary) => {
                    let cost = frame.len() + self.prefix.len();
                    let credit = Credit::take(self.peer(), cost);
                    let item = Item::envelope(&self.prefix, frame, credit);
                    return match binary.push(item, cost) {
                        Ok(()) => Forwarded::Done,
                        Err(overflow) => Forwarded::Refused(overflow),
                    };
                }
                Route::Parked {
                    frames,
                    announced: true,
                } => {
                    let frame = frame.into_vec();
                    if !self
                        .router()
                        .reserve_park(frames.iter().map(Vec::len).sum(), frame.len())
                    {
                        return Forwarded::Stalled(frame);
                    }
                    frames.push(frame);
                    return Forwarded::Done;
                }
                Route::Parked { announced, .. } => *announced = true,
                Route::Ask => {}
            }
            drop(inner);
            self.router().phone_frame(self.peer());
        }
        Forwarded::NoBinary
    }

    fn settle(&mut self, forwarded: Forwarded) -> Result<(), Cause> {
        match forwarded {
            Forwarded::Done => return Ok(()),
            Forwarded::Stalled(frame) => {
                self.stalled.push_front(frame);
                return Ok(());
            }
            // The router is closing this phone already, and says why.
            Forwarded::NoBinary | Forwarded::Refused(_)
                if self.peer().lock().orders.close.is_some() =>
            {
                return Ok(());
            }
            Forwarded::NoBinary => self.log(Event::PhoneForwarderNoBinary, &[]),
            Forwarded::Refused(overflow) => {
                self.log(Event::PhoneForwarderSendFailed, &[(Key::Err, &overflow)]);
            }
        }
        Err(Cause::BinaryAway)
    }

    /// Bytes of frames parked for this phone, or `None` if it is not parked.
    fn parked_bytes(&self) -> Option<usize> {
        match &self.peer().lock().route {
            Route::Parked { frames, .. } => Some(frames.iter().map(Vec::len).sum()),
            Route::Ask | Route::To(_) => None,
        }
    }
}

impl Handler for Phone {
    fn message(&mut self, _opcode: Opcode, frame: Payload<'_>) -> Result<(), Cause> {
        if let Err(error) = json::validate(&frame) {
            self.log(Event::PhoneForwarderMarshalErr, &[(Key::Err, &error)]);
            return Err(Cause::NotJson);
        }
        if !self.stalled.is_empty() {
            self.stalled.push_back(frame.into_vec());
            return Ok(());
        }
        let forwarded = self.forward(frame);
        self.settle(forwarded)
    }

    fn may_read(&mut self, held_bytes: usize) -> usize {
        if !self.stalled.is_empty() {
            return 0;
        }
        if let Some(parked_bytes) = self.parked_bytes() {
            return self
                .router()
                .park_phone_bytes()
                .saturating_sub(parked_bytes + held_bytes);
        }
        let peer = self.peer();
        if peer.in_flight_bytes.load(Ordering::SeqCst) < WINDOW_BYTES {
            return usize::MAX;
        }
        peer.window_full.store(true, Ordering::SeqCst);
        // The binary's task may have made room just before it could see the mark.
        if peer.in_flight_bytes.load(Ordering::SeqCst) > REOPEN_BYTES {
            return 0;
        }
        peer.window_full.store(false, Ordering::SeqCst);
        usize::MAX
    }

    fn wake(&mut self) -> Result<(), Cause> {
        for _ in 0..self.stalled.len() {
            let Some(frame) = self.stalled.pop_front() else {
                break;
            };
            let forwarded = self.forward(Payload::Owned(frame));
            let again = matches!(forwarded, Forwarded::Stalled(_));
            self.settle(forwarded)?;
            if again {
                break;
            }
        }
        Ok(())
    }

    fn written(&mut self, meaning: &Meaning) {
        match meaning {
            Meaning::Delivered => self.router().metrics.frame(Direction::binary_to_phone),
            Meaning::Directive { code, with_frame } => {
                if *with_frame {
                    self.router().metrics.frame(Direction::binary_to_phone);
                }
                self.log(Event::BinaryForwarderPhoneClosed, &[(Key::CloseCode, code)]);
            }
            Meaning::Control | Meaning::Forwarded | Meaning::Notice => {}
        }
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
        self.log(Event::PhoneForwarderReadEnd, &[(Key::Err, &end.text())]);
        let silent = self.peer().lock().directed;
        self.seat.phone_gone(PhoneEnd {
            code: end.code,
            silent,
        });
    }
}
