//! What is kept for a binary that may return, when memory is short.

use super::home::Home;
use crate::session::item::Item;
use crate::session::peer::Peer;
use crate::session::phone::Phone;
use crate::session::{Flow, Handler};
use relay_core::Outbox;
use relay_proto::close::Cause;
use relay_proto::ws::{Opcode, Payload};

/// A frame of 40,000 bytes.
fn say(phone: &mut Phone) {
    let frame = format!("\"{}\"", "x".repeat(39_998));
    let frame = Payload::Owned(frame.into_bytes());
    assert!(phone.message(Opcode::Text, frame).is_ok());
}

fn ordered(peer: &Peer) -> Option<Cause> {
    peer.lock().orders.close
}

#[test]
fn a_binary_that_returns_keeps_the_parked_frames_for_which_there_is_room() {
    let home = Home::with(|config| config.queue_bytes = Some(0));
    let binary = home.claim();
    let mut phones = [home.phone(), home.phone()];
    drop(binary);
    phones.iter_mut().for_each(|(phone, _)| say(phone));
    let again = home.claim();
    assert_eq!(ordered(&again.peer), None, "it is not cut");
    assert!(again.peer.queued_bytes() > 40_000);
    let causes = phones.each_ref().map(|(_, peer)| ordered(peer));
    assert_eq!(causes, [None, Some(Cause::Overloaded)]);
}

#[test]
fn a_binary_that_resumes_keeps_the_carried_frames_for_which_there_is_room() {
    let home = Home::with(|config| config.queue_bytes = Some(1 << 20));
    let binary = home.claim();
    let mut phones = [home.phone(), home.phone(), home.phone()];
    phones.iter_mut().for_each(|(phone, _)| say(phone));
    drop(binary);
    // Others use up what all share.
    let mut hogs: Vec<Outbox<Item, _>> = Vec::new();
    while home.0.queue().fill().now < (1 << 20) - 65_536 {
        let mut hog = Outbox::new(4 << 20, home.0.queue.clone());
        while hog.has_room(10_000, 0) {
            assert!(hog.push(Item::notice(b""), 10_000).is_ok());
        }
        hogs.push(hog);
    }
    let again = home.claim();
    assert_eq!(ordered(&again.peer), None, "it is not cut");
    assert!(again.peer.queued_bytes() > 40_000);
    let causes = phones.each_ref().map(|(_, peer)| ordered(peer));
    assert_eq!(causes[0], None);
    assert_eq!(causes[2], Some(Cause::Overloaded));
}

/// Its session has just ended, and the registry does not know it yet.
#[test]
fn a_phone_whose_carried_frame_meets_a_binary_that_has_gone_again_is_told_so() {
    let home = Home::with(|_| ());
    let binary = home.claim();
    let (mut phone, peer) = home.phone();
    say(&mut phone);
    let again = home.claim();
    again.peer.drain();
    drop(binary);
    assert_eq!(ordered(&peer), Some(Cause::BinaryAway));
}

#[test]
fn notices_are_kept_though_frames_cannot_be() {
    let home = Home::with(|config| config.park_total_bytes = Some(0));
    let binary = home.claim();
    let (mut stays, peer) = home.phone();
    let (leaves, _) = home.phone();
    say(&mut stays);
    drop(leaves);
    drop(binary);
    assert_eq!(ordered(&peer), Some(Cause::BinaryReclaimed));
    let again = home.claim();
    let bytes = again.peer.queued_bytes();
    assert!((1..1_000).contains(&bytes), "{bytes}");
}

/// The phone's close is ordered, and its task has not heard of that yet.
#[test]
fn nothing_follows_a_frame_that_was_lost() {
    let home = Home::with(|config| config.queue_bytes = Some(0));
    let binary = home.claim();
    let (mut phone, peer) = home.phone();
    let mut say = |bytes: usize| {
        let frame = format!("\"{}\"", "x".repeat(bytes));
        phone.message(Opcode::Text, Payload::Owned(frame.into_bytes()))
    };
    assert_eq!(say(40_000), Ok(Flow::Continue));
    peer.close(Cause::ClosedByOperator);
    assert_eq!(say(40_000), Ok(Flow::Pause), "there is no room for it");
    assert_eq!(phone.may_read(0), 0, "a small one would find room");
    assert!(binary.peer.queued_bytes() < 50_000);
}

/// It is the phone's, whoever will take it.
#[test]
fn a_frame_that_can_go_nowhere_yet_is_counted() {
    let home = Home::with(|_| ());
    let binary = home.claim();
    let (mut phone, _) = home.phone();
    say(&mut phone);
    drop(binary);
    let frame = format!("\"{}\"", "x".repeat(200_000));
    let frame = Payload::Owned(frame.into_bytes());
    assert_eq!(phone.message(Opcode::Text, frame), Ok(Flow::Pause));
    assert_eq!(phone.kept_bytes(), 200_002);
    let _again = home.claim();
    assert_eq!(phone.wake(), Ok(()));
    assert_eq!(phone.kept_bytes(), 0);
}
