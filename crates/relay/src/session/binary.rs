//! The binary leg: every message is an envelope that says which phone it is for.

use super::item::{Item, Meaning};
use super::peer::{Leg, Peer};
use super::stamp::Stamp;
use super::{End, Flow, Handler};
use crate::observe::log::{Event, Key};
use crate::observe::metrics::{Direction, Metrics};
use crate::router::Seat;
use relay_core::limits::OUTBOX_ITEM_BYTES;
use relay_core::{Overflow, Path, Proofs};
use relay_proto::close::Cause;
use relay_proto::envelope::{self, Directive};
use relay_proto::ws::{Opcode, Payload};
use std::collections::VecDeque;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a binary may have sent before its claim is decided; beyond that it is not read.
const EARLY_BYTES: usize = 64 * 1024;

/// The session of a binary, from its claim on.
pub(crate) struct Binary {
    seat: Seat,
    early: Option<Box<Early>>,
    proofs: Proofs,
}

/// What a binary has said before its claim is decided. It is read so that its end does not go unnoticed, but heard
/// only if it gets the slot.
#[derive(Default)]
struct Early {
    /// Oldest first.
    messages: Vec<Vec<u8>>,
    /// What they are charged: their lengths, and as much for each as in an outbox.
    bytes: usize,
}

/// An envelope without the borrow of its message.
struct Addressed {
    phone: Arc<Peer>,
    frame: Option<Range<usize>>,
    close_code: Option<u16>,
}

impl Binary {
    pub(crate) fn new(seat: Seat) -> Self {
        Self {
            seat,
            early: None,
            proofs: Proofs::default(),
        }
    }

    fn is_resumable(&self) -> bool {
        self.seat.peer.leg == Leg::Binary { resumable: true }
    }

    fn complain(&self, event: Event, err: &dyn Display) {
        if self.seat.may_complain(event) {
            self.seat.log(event, &[(Key::Err, err)]);
        }
    }

    /// The same of what it sent to this phone.
    fn complain_of(&self, conn_id: &str, event: Event, fields: &[(Key, &dyn Display)]) {
        if self.seat.may_complain(event) {
            let server: &dyn Display = &self.seat.peer.table.server;
            let all = [&[(Key::ServerId, server), (Key::ConnId, &conn_id)], fields].concat();
            self.seat.router.log.write(event, &all);
        }
    }

    /// Finds out whom the message is for. `None`: nobody, and that is logged, or the relay itself.
    fn address(&self, message: &[u8]) -> Option<Addressed> {
        let directive = match envelope::parse(message) {
            Ok(directive) => directive,
            Err(error) => {
                self.complain(Event::BinaryForwarderUnmarshalErr, &error);
                return None;
            }
        };
        let (conn_id, frame, close_code) = match directive {
            Directive::Frame { conn_id, frame } => (conn_id, Some(frame), None),
            Directive::Close {
                conn_id,
                frame,
                code,
            } => (conn_id, frame, Some(code)),
            Directive::PushWake(wake) => {
                let server = &self.seat.peer.table.server;
                if let Err(err) = self.seat.router.push.wake(server, &wake) {
                    self.complain(Event::BinaryForwarderPushWakeDropped, &err);
                }
                return None;
            }
        };
        let Some(phone) = self.seat.peer.table.phone(self.seat.peer.conn, &conn_id) else {
            self.complain_of(&conn_id, Event::BinaryForwarderUnknownConnId, &[]);
            return None;
        };
        let frame = frame.map(|frame| {
            let start = frame.as_ptr() as usize - message.as_ptr() as usize;
            start..start + frame.len()
        });
        Some(Addressed {
            phone,
            frame,
            close_code,
        })
    }

    /// Passes on what it said before its claim was decided, if that was in its favour.
    fn hear_early(&mut self) {
        if self.early.is_some() && self.seat.peer.was_admitted() {
            for message in self.early.take().unwrap_or_default().messages {
                self.hear(Payload::Owned(message));
            }
        }
    }

    /// Passes on what it says.
    fn hear(&self, message: Payload<'_>) {
        let read_at = Stamp::sample(self.seat.router.clock);
        let Some(Addressed {
            phone,
            frame,
            close_code,
        }) = self.address(&message)
        else {
            return;
        };
        let cost = frame.as_ref().map_or(0, ExactSizeIterator::len);
        let meaning = match close_code {
            None => Meaning::Delivered,
            Some(code) => Meaning::Directive {
                code,
                with_frame: frame.is_some(),
            },
        };
        let item = match frame {
            Some(span) => Item::frame(message, span, meaning).read_at(read_at),
            None => Item::bare(meaning),
        };
        if let Err(overflow) = phone.deliver(&self.seat.peer, item, cost, close_code) {
            let event = Event::BinaryForwarderPhoneEnqueueFailed;
            self.complain_of(&phone.conn_id, event, &[(Key::Err, &overflow)]);
            if overflow == Overflow::First {
                phone.close(close_code.map_or(Cause::BacklogFull, Cause::DirectiveOverflow));
            }
        }
    }
}

impl Handler for Binary {
    fn metrics(&self) -> Option<&Metrics> {
        Some(&self.seat.router.metrics)
    }

    fn message(&mut self, _opcode: Opcode, message: Payload<'_>) -> Result<Flow, Cause> {
        // Behind what is kept, also in the moment between the decision and the next wake-up.
        if self.early.is_none() && self.seat.peer.was_admitted() {
            self.hear(message);
            return Ok(Flow::Continue);
        }
        let early = self.early.get_or_insert_default();
        early.bytes += message.len() + OUTBOX_ITEM_BYTES;
        early.messages.push(message.into_vec());
        let full = early.bytes >= EARLY_BYTES;
        Ok(if full { Flow::Pause } else { Flow::Continue })
    }

    /// Nothing ever keeps the relay from reading a binary that holds its slot: its pongs and frames for other phones
    /// must not wait for a slow one.
    fn may_read(&mut self, held_bytes: usize) -> usize {
        if self.seat.peer.was_admitted() {
            return usize::MAX;
        }
        let early_bytes = self.early.as_ref().map_or(0, |early| early.bytes);
        EARLY_BYTES.saturating_sub(early_bytes + held_bytes)
    }

    fn wake(&mut self) -> Result<(), Cause> {
        self.hear_early();
        Ok(())
    }

    fn probe_answered(&mut self, probe: u32) {
        self.seat.router.probe_answered(&self.seat.peer, probe);
    }

    fn path(&mut self, probe: u32, path: Path) {
        self.seat.router.path(&self.seat.peer, probe, path);
    }

    fn written(&mut self, item: &Item, _cost_bytes: usize) {
        if let (Meaning::Forwarded, Some(credit)) = (&item.meaning, &item.credit) {
            let metrics = &self.seat.router.metrics;
            metrics.frame(Direction::phone_to_binary, credit.frame_bytes as usize);
            if self.is_resumable() {
                let number = self.seat.peer.table.number(&credit.phone);
                self.proofs.written(number);
            }
        }
    }

    fn proof_due(&mut self) -> Option<u64> {
        let Peer { table, conn, .. } = &*self.seat.peer;
        self.proofs.due(|| table.is_holder(*conn))
    }

    fn proof(&mut self, number: u64) -> bool {
        let proves = self.proofs.answered(number);
        if proves {
            self.seat.peer.table.prove(number);
        }
        proves
    }

    fn proof_passed_over(&mut self) {
        self.proofs.passed_over();
    }

    fn gave_up(&mut self, items: &VecDeque<(Item, usize)>) {
        if !self.is_resumable() {
            return;
        }
        for credit in items.iter().filter_map(|(item, _)| item.credit.as_ref()) {
            // Beyond every proof: this phone has lost a frame.
            credit.phone.last_written.store(u64::MAX, Ordering::SeqCst);
        }
    }

    fn left(&mut self, end: &End, unwritten: VecDeque<(Item, usize)>) {
        // Another thread may have let it in since its task last woke.
        self.hear_early();
        if self.seat.peer.was_admitted() {
            self.seat
                .log(Event::BinaryForwarderReadEnd, &[(Key::Err, &end.text())]);
        }
        self.seat.binary_gone(unwritten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::home::Home;
    use crate::session::phone::Phone;
    use crate::session::{Session, Start, Transport};
    use bytes::Bytes;
    use relay_core::SessionPolicy;
    use relay_proto::ws::{Limits, Utf8};
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Waker};
    use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf};

    /// What a phone gets of a frame that a claimant sends and at once leaves. If the holder `leaves` between the two, the
    /// claimant gets the slot, and as it resumes, the phone with it.
    fn queued_bytes(leaves: bool) -> usize {
        let home = Home::new();
        let holder = home.claim();
        let (_phone, peer) = home.phone();
        let mut claimant = Binary::new(home.claim());
        let message = format!(r#"{{"conn_id":"{}","frame":{{"a":1}}}}"#, peer.conn_id);
        let message = Payload::Owned(message.into_bytes());
        assert_eq!(claimant.message(Opcode::Text, message), Ok(Flow::Continue));
        assert_eq!(peer.queued_bytes(), 0);
        if leaves {
            drop(holder);
        }
        let end = End {
            cause: Cause::PeerClosed,
            code: 1000,
            detail: "closed",
        };
        claimant.left(&end, VecDeque::new());
        peer.queued_bytes()
    }

    #[test]
    fn a_claimant_that_is_let_in_and_leaves_before_its_task_wakes_is_heard() {
        assert!(queued_bytes(true) >= r#"{"a":1}"#.len());
        assert_eq!(queued_bytes(false), 0);
    }

    impl Transport for DuplexStream {}

    fn connected(seat: Seat, socket: DuplexStream) -> Session<DuplexStream, Binary> {
        Session::new(Start {
            peer: seat.peer.clone(),
            socket,
            clock: seat.router.clock,
            handler: Binary::new(seat),
            limits: Limits {
                message_bytes: 1024,
                utf8: Utf8::Every,
            },
            policy: SessionPolicy::default(),
            early: Bytes::new(),
        })
    }

    fn say(phone: &mut Phone) {
        let sent = phone.message(Opcode::Text, Payload::Borrowed(b"{}"));
        assert_eq!(sent, Ok(Flow::Continue));
    }

    /// A peer may answer only the newest of several pings.
    #[tokio::test]
    async fn a_proof_that_the_answer_to_a_probe_may_have_passed_over_is_asked_for_again() {
        let home = Home::new();
        let (socket, mut daemon) = tokio::io::duplex(1024);
        let mut session = connected(home.claim(), socket);
        let (mut phone, _) = home.phone();
        say(&mut phone);
        let mut cx = Context::from_waker(Waker::noop());
        let mut last_ping = |daemon: &mut DuplexStream| {
            // Once for what there is to do, and once for what that left.
            for _ in 0..2 {
                assert!(Pin::new(&mut session).poll(&mut cx).is_pending());
            }
            let mut bytes = [0; 1024];
            let mut sent = ReadBuf::new(&mut bytes);
            let read = Pin::new(daemon).poll_read(&mut cx, &mut sent);
            assert!(read.is_ready(), "nothing was sent");
            *sent.filled().last_chunk().unwrap()
        };
        assert_eq!(last_ping(&mut daemon), *b"\x89\x02s1");
        let _claimant = home.claim_by(b"another");
        assert_eq!(last_ping(&mut daemon), *b"\x89\x02p1");
        daemon.write_all(b"\x8a\x82\0\0\0\0p1").await.unwrap();
        assert_eq!(last_ping(&mut daemon), *b"\x89\x02s1");
    }

    /// Where its task was interrupted between finding the phone and giving it the frame.
    #[test]
    fn what_a_binary_sent_before_it_was_displaced_does_not_follow_what_its_successor_sends() {
        let home = Home::new();
        let holder = home.claim();
        let (_phone, phone_peer) = home.phone();
        let item = || Item::bare(Meaning::Delivered);
        let give = |by: &Seat| phone_peer.deliver(&by.peer, item(), 2, None);
        assert_eq!(give(&holder), Ok(()));
        let successor = home.claim();
        home.0
            .path(&holder.peer, 1, Path::Silent { for_ms: u64::MAX });
        assert_eq!(give(&successor), Ok(()), "it has resumed");
        assert_eq!(give(&holder), Err(Overflow::Closed));
    }

    /// Its successor may have been sent frames that it never saw.
    #[test]
    fn a_binary_that_has_been_displaced_is_asked_for_no_more_proof() {
        let home = Home::new();
        let holder = home.claim();
        let (mut phone, _) = home.phone();
        (0..2).for_each(|_| say(&mut phone));
        let mut inner = holder.peer.lock();
        let items: Vec<_> = std::iter::from_fn(|| inner.outbox.pop()).collect();
        drop(inner);
        let mut binary = Binary::new(holder);
        let write = |binary: &mut Binary, n: usize| binary.written(&items[n].0, items[n].1);
        write(&mut binary, 0);
        assert_eq!(binary.proof_due(), Some(1));
        let table = binary.seat.peer.table.clone();
        let _claimant = home.claim_by(b"another");
        let silent = Path::Silent { for_ms: u64::MAX };
        home.0.path(&binary.seat.peer, 1, silent);
        assert!(!table.is_holder(binary.seat.peer.conn), "it is displaced");
        write(&mut binary, 1);
        binary.proof_passed_over();
        assert_eq!(binary.proof_due(), None);
        assert!(!binary.proof(2));
        assert!(binary.proof(1), "that was all its own");
        assert_eq!(table.proven(), 1);
    }

    /// As a panic in its task would end it: a frame that was on its way into the socket must not be missing.
    #[tokio::test]
    async fn what_a_session_had_taken_that_is_dropped_is_kept_for_its_process() {
        let home = Home::new();
        let seat = home.claim();
        let binary = seat.peer.clone();
        let (mut phone, phone_peer) = home.phone();
        say(&mut phone);
        // It takes one byte.
        let (socket, _unread) = tokio::io::duplex(1);
        let mut session = connected(seat, socket);
        let mut cx = Context::from_waker(Waker::noop());
        while !binary.lock().outbox.is_empty() {
            assert!(Pin::new(&mut session).poll(&mut cx).is_pending());
        }
        drop(session);
        let again = home.claim();
        assert!(again.peer.queued_bytes() > 0, "the frame comes first");
        assert!(!phone_peer.is_ending());
    }
}
