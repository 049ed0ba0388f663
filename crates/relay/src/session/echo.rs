//! An endpoint that sends every message back: the codec and the session loop without a relay around
//! them, for conformance suites.

use super::budget::QueueBudget;
use super::item::{Item, Meaning};
use super::peer::{Leg, Peer};
use super::{End, Flow, Handler, Session, Start, Transport};
use crate::clock::Clock;
use crate::router::Table;
use bytes::Bytes;
use relay_core::{Conn, Outbox, ServerId, SessionPolicy};
use relay_proto::close::Cause;
use relay_proto::ws::{Limits, Opcode, Payload};
use std::collections::VecDeque;
use std::sync::Arc;

/// Messages waiting to be sent back, in bytes.
const OUTBOX_BYTES: usize = 64 * 1024 * 1024;

struct Echo(Arc<Peer>);

impl Handler for Echo {
    fn message(&mut self, opcode: Opcode, payload: Payload<'_>) -> Result<Flow, Cause> {
        let bytes = payload.len();
        let item = Item::message(opcode, payload, Meaning::Delivered);
        match self.0.push(item, bytes) {
            Ok(()) => Ok(Flow::Continue),
            Err(_) => Err(Cause::BacklogFull),
        }
    }

    fn may_read(&mut self, _held_bytes: usize) -> usize {
        usize::MAX
    }

    fn left(&mut self, _end: &End, _unwritten: VecDeque<(Item, usize)>) {}
}

/// Echoes the messages of one connection, until it is closed. `early` was read from it already.
pub async fn serve<S: Transport>(socket: S, limits: Limits, early: Bytes) {
    let table = Arc::new(Table::new(ServerId::new("echo")));
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
        handler: Echo(peer.clone()),
        peer,
        socket,
        limits,
        policy: SessionPolicy::default(),
        clock: Clock::start(),
        early,
    };
    Session::new(start).await;
}
