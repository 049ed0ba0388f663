//! Phones that wait for a binary, and what binaries are told of phones that left.

use crate::scene::*;
use relay_core::Claim::{Fresh, Reclaim, Resume};
use relay_core::Conn;
use relay_core::Effect::*;
use relay_proto::close::Cause;

#[test]
fn a_phone_that_the_holder_never_heard_of_is_parked_and_kept_at_reclaim() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.register(Q);
    assert_eq!(
        scene.binary_gone(A),
        [Released { conn: A }, Unlink { phone: P }, Park { phone: Q }]
    );
    assert_eq!(
        scene.register(R),
        [Registered { conn: R }, Park { phone: R }]
    );
    assert_eq!(scene.frame(R), [Park { phone: R }]);
    assert_eq!(scene.hub.counts().parked, 2);
    assert_eq!(
        scene.claim(B),
        [
            claimed(B, Reclaim),
            evict(P, Cause::BinaryReclaimed),
            Unlink { phone: Q },
            link(R, B),
        ]
    );
    assert_eq!(scene.hub.counts().parked, 0);
    assert_eq!(scene.frame(Q), [link(Q, B)]);
}

#[test]
fn a_kept_phone_whose_frames_were_delivered_belongs_to_the_new_process() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.binary_gone(A);
    scene.talkative(P);
    scene.claim(B);
    assert_eq!(
        scene.binary_gone(B),
        [Released { conn: B }, Unlink { phone: P }]
    );
    assert_eq!(scene.frame(P), [evict(P, Cause::BinaryAway)]);
}

#[test]
fn a_frame_for_a_process_that_is_gone_ends_its_phone() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.binary_gone(A);
    assert_eq!(scene.frame(P), [evict(P, Cause::BinaryAway)]);
    assert_eq!(scene.frame(P), [], "it is being told already");
    assert_eq!(scene.hub.counts().phones, 0);
}

#[test]
fn nobody_waits_longer_than_the_bound_however_much_it_sends() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.binary_gone(A);
    scene.register(P);
    for _ in 0..7 {
        assert_eq!(scene.wait(1_000), []);
        assert_eq!(scene.frame(P), [Park { phone: P }]);
    }
    assert_eq!(scene.wait(999), []);
    assert_eq!(scene.wait(1), [evict(P, Cause::NoServer)]);
}

#[test]
fn without_parking_grace_is_as_it_ever_was() {
    let mut scene = Scene::with(no_parking());
    scene.claim(A);
    scene.register(P);
    assert_eq!(
        scene.binary_gone(A),
        [Released { conn: A }, Unlink { phone: P }]
    );
    assert_eq!(scene.register(Q), [Registered { conn: Q }]);
    assert_eq!(scene.frame(Q), [evict(Q, Cause::BinaryAway)]);
    assert_eq!(
        scene.claim(B),
        [claimed(B, Reclaim), evict(P, Cause::BinaryReclaimed),]
    );
}

#[test]
fn after_the_start_phones_wait_for_their_binary() {
    let mut scene = Scene::at_boot();
    assert_eq!(
        scene.register(P),
        [Registered { conn: P }, Park { phone: P }]
    );
    assert_eq!(
        scene.register(Q),
        [Registered { conn: Q }, Park { phone: Q }]
    );
    assert_eq!(scene.frame(P), [Park { phone: P }]);
    scene.wait(7_999);
    assert_eq!(
        scene.claim(A),
        [claimed(A, Fresh), link(P, A), Unlink { phone: Q },]
    );
}

#[test]
fn after_the_start_nobody_waits_longer_than_elsewhere() {
    let mut scene = Scene::at_boot();
    scene.register(P);
    assert_eq!(scene.wait(8_000), [evict(P, Cause::NoServer)]);
    let fresh = Scene::at_boot().hub;
    assert_eq!(scene.hub, fresh, "the slot is gone");
}

#[test]
fn the_start_lasts_thirty_seconds() {
    let mut scene = Scene::at_boot();
    scene.wait(29_999);
    assert_eq!(
        scene.register(P),
        [Registered { conn: P }, Park { phone: P }]
    );
    scene.wait(1);
    assert_eq!(scene.register(Q), [register_refused(Q, Cause::NoServer)]);
    assert_eq!(scene.hub.counts().parked, 1);
}

#[test]
fn parked_phones_count_against_the_cap() {
    let mut scene = Scene::at_boot();
    for n in 0..16 {
        scene.register(Conn(200 + n));
    }
    assert_eq!(
        scene.register(P),
        [register_refused(P, Cause::TooManyPhones)]
    );
}

#[test]
fn a_phone_that_leaves_while_parked_is_never_mentioned() {
    let mut scene = Scene::new();
    scene.claim_as(A, "one");
    scene.binary_gone(A);
    scene.talkative(P);
    assert_eq!(scene.phone_gone(P, 1000), []);
    assert_eq!(scene.claim_as(B, "one"), [claimed(B, Resume)]);
}

#[test]
fn the_holder_is_told_of_every_phone_that_leaves_unless_it_asked_for_that() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.register(Q);
    scene.talkative(R);
    assert_eq!(scene.phone_gone(P, 1005), [notice(A, P, 1005)]);
    assert_eq!(scene.phone_gone(P, 1005), [], "once");
    assert_eq!(scene.phone_gone(Q, 1001), [notice(A, Q, 1001)]);
    assert_eq!(scene.phone_gone_as_directed(R), []);
    assert_eq!(scene.hub.counts().phones, 0);
}

#[test]
fn the_new_holder_is_not_told_of_phones_that_were_evicted_by_its_claim() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.binary_gone(A);
    scene.claim(B);
    assert_eq!(scene.phone_gone(P, 4404), []);
}

#[test]
fn in_grace_nobody_is_told_of_a_phone_whose_process_is_gone() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.binary_gone(A);
    assert_eq!(scene.phone_gone(P, 1000), [unnoticed(P, 1000)]);
    assert_eq!(scene.claim(B), [claimed(B, Reclaim)]);
}

#[test]
fn a_kept_phone_belongs_to_the_new_holder_which_is_told_when_it_leaves() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.binary_gone(A);
    scene.register(P);
    scene.claim(B);
    assert_eq!(scene.phone_gone(P, 1001), [notice(B, P, 1001)]);
}
