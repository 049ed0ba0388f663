//! Tenures that outlive their holder's connection.

use relay_core::Claim::{Reclaim, Resume, Takeover};
use relay_core::Effect::*;
use relay_proto::close::Cause;

use crate::scene::*;

#[test]
fn the_same_process_resumes_its_tenure() {
    let mut scene = Scene::new();
    scene.claim_as(A, "one");
    scene.talkative(P);
    scene.talkative(Q);
    scene.register(R);
    assert_eq!(
        scene.binary_gone(A),
        [
            Released { conn: A },
            Unlink { phone: P },
            Unlink { phone: Q },
            Park { phone: R }
        ]
    );
    assert_eq!(scene.frame(P), [Park { phone: P }]);
    assert_eq!(scene.frame(R), [Park { phone: R }]);
    assert_eq!(
        scene.claim_as(B, "one"),
        [claimed(B, Resume), link(P, B), link(Q, B), link(R, B),]
    );
}

#[test]
fn phones_that_left_meanwhile_are_reported_after_their_last_frames() {
    let mut scene = Scene::new();
    scene.claim_as(A, "one");
    scene.talkative(P);
    scene.talkative(Q);
    scene.binary_gone(A);
    scene.frame(P);
    assert_eq!(scene.phone_gone(P, 1000), [Departed { phone: P }]);
    assert_eq!(
        scene.phone_gone_as_directed(Q),
        [],
        "the binary asked for it"
    );
    assert_eq!(
        scene.claim_as(B, "one"),
        [
            claimed(B, Resume),
            deliver_departed(P, B),
            notice(B, P, 1000),
        ]
    );
}

#[test]
fn a_known_phone_that_waited_in_vain_is_reported_with_the_code_it_was_closed_with() {
    let mut scene = Scene::new();
    scene.claim_as(A, "one");
    scene.talkative(P);
    scene.binary_gone(A);
    scene.frame(P);
    assert_eq!(
        scene.wait(8_000),
        [evict(P, Cause::NoServer), Departed { phone: P }]
    );
    assert_eq!(scene.phone_gone(P, 4404), [], "it was out already");
    assert_eq!(
        scene.claim_as(B, "one"),
        [
            claimed(B, Resume),
            deliver_departed(P, B),
            notice(B, P, 4404),
        ]
    );
}

#[test]
fn a_phone_evicted_while_its_directive_was_under_way_is_not_reported() {
    let mut scene = Scene::with(no_parking());
    scene.claim_as(A, "one");
    scene.talkative(P);
    scene.binary_gone(A);
    scene.frame(P);
    assert_eq!(
        scene.phone_gone_as_directed(P),
        [ForgetDeparted { phone: P }]
    );
    assert_eq!(scene.claim_as(B, "one"), [claimed(B, Resume)]);
}

#[test]
fn another_process_resumes_nothing() {
    for other in [Some("two"), None] {
        let mut scene = Scene::new();
        scene.claim_as(A, "one");
        scene.talkative(P);
        scene.talkative(Q);
        scene.binary_gone(A);
        scene.frame(P);
        scene.phone_gone(Q, 1001);
        let effects = match other {
            Some(instance) => scene.claim_as(B, instance),
            None => scene.claim(B),
        };
        assert_eq!(
            effects,
            [
                claimed(B, Reclaim),
                evict(P, Cause::BinaryReclaimed),
                ForgetDeparted { phone: Q },
            ]
        );
    }
}

#[test]
fn who_does_not_say_its_name_cannot_resume() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.binary_gone(A);
    assert_eq!(scene.claim_as(B, "one")[0], claimed(B, Reclaim));
}

#[test]
fn grace_expiry_forgets_those_who_left() {
    let mut scene = Scene::new();
    scene.claim_as(A, "one");
    scene.talkative(P);
    scene.talkative(Q);
    scene.binary_gone(A);
    scene.phone_gone(P, 1000);
    assert_eq!(
        scene.wait(30_000),
        [
            GraceExpired,
            evict(Q, Cause::BinaryDidNotReturn),
            ForgetDeparted { phone: P },
        ]
    );
}

#[test]
fn the_same_process_on_a_new_connection_takes_its_dead_one_over_without_losing_a_phone() {
    let mut scene = Scene::new();
    scene.claim_as(A, "one");
    scene.talkative(P);
    scene.register(Q);
    scene.claim_as(B, "one");
    let effects = scene.wait(10_000);
    assert_eq!(
        effects[1..],
        [Displaced { conn: A }, claimed(B, Resume), link(P, B),]
    );
    assert_eq!(scene.frame(Q), [link(Q, B)]);
}

#[test]
fn the_longest_waiting_claimant_wins_even_if_a_later_one_could_resume() {
    let mut scene = Scene::new();
    scene.claim_as(A, "one");
    scene.talkative(P);
    scene.claim_as(B, "two");
    scene.claim_as(C, "one");
    assert_eq!(
        scene.binary_gone(A),
        [
            Released { conn: A },
            claimed(B, Takeover),
            evict(P, Cause::BinaryReclaimed),
            probe(B, 3),
        ]
    );
}

#[test]
fn resume_works_without_parking_but_frames_in_between_end_their_phone() {
    let mut scene = Scene::with(no_parking());
    scene.claim_as(A, "one");
    scene.talkative(P);
    scene.talkative(Q);
    scene.binary_gone(A);
    assert_eq!(
        scene.frame(Q),
        [evict(Q, Cause::BinaryAway), Departed { phone: Q }]
    );
    assert_eq!(
        scene.claim_as(B, "one"),
        [
            claimed(B, Resume),
            link(P, B),
            deliver_departed(Q, B),
            notice(B, Q, 4404),
        ]
    );
}
