//! The slot's table, row by row: claims, probes, grace, expiry.

use crate::scene::*;
use relay_core::Claim::{Fresh, Reclaim, Takeover};
use relay_core::Effect::*;
use relay_core::{Conn, Hub, Input, Millis, Path, Policy, ServerId};
use relay_proto::close::Cause;

#[test]
fn a_claim_of_an_empty_slot_takes_effect_at_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.claim(A), [claimed(A, Fresh)]);
    assert_eq!(scene.hub.counts().binaries, 1);
    assert_eq!(scene.hub.deadline(), None);
}

/// Each other slot stays without an end to the wait: a server-id costs a dial, and would be kept for half a minute.
#[test]
fn only_so_many_slots_wait_for_their_binaries() {
    let policy = Policy {
        grace_slots: 1,
        ..Policy::default()
    };
    let (mut hub, now) = (Hub::new(policy, Millis::ZERO), Millis(60_000));
    let ids = ["a", "b"].map(ServerId::new);
    for (server, conn) in ids.iter().zip([A, B]) {
        let mut out = Vec::new();
        let instance = None;
        hub.step(now, server, Input::Claim { conn, instance }, &mut out);
        hub.step(now, server, Input::BinaryGone { conn }, &mut out);
    }
    assert_eq!(hub.deadline(), Some(now));
    let mut out = Vec::new();
    hub.expire(now, &mut out);
    assert_eq!(out, [(ids[1].clone(), GraceExpired)]);
    assert_eq!(hub.counts().grace, 1);
    assert_eq!(hub.deadline(), Some(now.plus(30_000)));
}

#[test]
fn a_phone_without_a_binary_is_refused() {
    let mut scene = Scene::new();
    assert_eq!(scene.register(P), [register_refused(P, Cause::NoServer)]);
    assert_eq!(scene.hub.counts().phones, 0);
}

#[test]
fn a_phone_of_a_live_slot_is_in_and_its_first_frame_links_it() {
    let mut scene = Scene::new();
    scene.claim(A);
    assert_eq!(scene.register(P), [Registered { conn: P }]);
    assert_eq!(scene.frame(P), [link(P, A)]);
    assert_eq!(scene.hub.counts().phones, 1);
}

#[test]
fn the_seventeenth_phone_is_refused_until_one_leaves() {
    let mut scene = Scene::new();
    scene.claim(A);
    for n in 0..16 {
        assert_eq!(
            scene.register(Conn(200 + n)),
            [Registered {
                conn: Conn(200 + n)
            }]
        );
    }
    assert_eq!(
        scene.register(P),
        [register_refused(P, Cause::TooManyPhones)]
    );
    scene.phone_gone(Conn(207), 1000);
    assert_eq!(scene.register(Q), [Registered { conn: Q }]);
    assert_eq!(scene.hub.counts().phones, 16);
}

#[test]
fn a_full_slot_refuses_in_grace_too_and_an_empty_one_says_that_nobody_is_there() {
    let mut scene = Scene::new();
    scene.claim(A);
    for n in 0..16 {
        scene.talkative(Conn(200 + n));
    }
    scene.binary_gone(A);
    assert_eq!(
        scene.register(P),
        [register_refused(P, Cause::TooManyPhones)]
    );
    scene.wait(30_000);
    assert_eq!(scene.register(P), [register_refused(P, Cause::NoServer)]);
}

#[test]
fn nobody_there_beats_too_many_phones() {
    let mut scene = Scene::with(Policy {
        phones_per_server: 0,
        ..Policy::default()
    });
    assert_eq!(scene.register(P), [register_refused(P, Cause::NoServer)]);
}

#[test]
fn a_claim_of_a_held_slot_waits_and_the_holder_is_pinged() {
    let mut scene = Scene::new();
    scene.claim(A);
    assert_eq!(scene.claim(B), [Probing { conn: B }, probe(A, 1)]);
    assert_eq!(scene.claim(C), [Probing { conn: C }, probe(A, 2)]);
}

#[test]
fn the_holders_pong_refuses_the_claimant_and_nothing_else_changes() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.claim(B);
    assert_eq!(scene.pong(A, 1), [ClaimRefused { conn: B }]);
    assert_eq!(scene.wait(60_000), []);
    assert_eq!(scene.register(Q), [Registered { conn: Q }]);
}

#[test]
fn a_pong_answers_every_claim_before_its_ping_and_none_after() {
    let mut scene = Scene::new();
    scene.claim(A);
    for conn in [B, C, Conn(4)] {
        scene.claim(conn);
    }
    assert_eq!(
        scene.pong(A, 2),
        [ClaimRefused { conn: B }, ClaimRefused { conn: C }]
    );
    assert_eq!(scene.pong(A, 2), []);
    assert_eq!(scene.pong(A, 3), [ClaimRefused { conn: Conn(4) }]);
}

#[test]
fn a_pong_from_elsewhere_or_to_a_ping_never_sent_proves_nothing() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.claim(B);
    assert_eq!(scene.pong(B, 1), []);
    assert_eq!(scene.pong(A, 0), []);
    assert_eq!(scene.pong(A, 2), []);
    assert_eq!(scene.pong(A, 1), [ClaimRefused { conn: B }]);
}

#[test]
fn a_holder_that_answers_nothing_is_taken_over_and_its_phones_are_evicted() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.register(Q);
    scene.claim(B);
    assert_eq!(scene.wait(9_999), [check_path(A, 1)]);
    assert_eq!(
        scene.wait(1),
        [
            Displaced { conn: A },
            claimed(B, Takeover),
            evict(P, Cause::BinaryReclaimed),
            evict(Q, Cause::BinaryReclaimed),
        ]
    );
    assert_eq!(
        (scene.hub.counts().binaries, scene.hub.counts().phones),
        (1, 0)
    );
}

#[test]
fn a_dead_path_is_taken_over_after_two_seconds() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.claim(B);
    assert_eq!(scene.wait(2_000), [check_path(A, 1)]);
    assert_eq!(
        scene.path(A, 1, Path::Silent { for_ms: 2_000 }),
        [Displaced { conn: A }, claimed(B, Takeover)]
    );
}

#[test]
fn a_path_silent_for_less_is_asked_again_when_it_could_be_dead() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.claim(B);
    scene.wait(2_000);
    assert_eq!(scene.path(A, 1, Path::Silent { for_ms: 1_500 }), []);
    assert_eq!(scene.wait(499), []);
    assert_eq!(scene.wait(1), [check_path(A, 1)]);
    assert_eq!(scene.path(A, 1, Path::Silent { for_ms: 2_000 }).len(), 2);
}

#[test]
fn a_path_that_acknowledges_or_is_unknown_leaves_only_the_long_timeout() {
    for path in [Path::Acknowledged, Path::Unknown] {
        let mut scene = Scene::new();
        scene.claim(A);
        scene.claim(B);
        scene.wait(2_000);
        assert_eq!(scene.path(A, 1, path), []);
        assert_eq!(scene.wait(7_999), []);
        assert_eq!(scene.wait(1).len(), 2);
    }
}

#[test]
fn evidence_about_an_answered_probe_or_another_connection_is_ignored() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.claim(B);
    scene.wait(2_000);
    assert_eq!(scene.path(C, 1, Path::Silent { for_ms: 9_000 }), []);
    assert_eq!(scene.path(A, 7, Path::Silent { for_ms: 9_000 }), []);
    scene.pong(A, 1);
    assert_eq!(scene.path(A, 1, Path::Silent { for_ms: 9_000 }), []);
}

#[test]
fn a_holder_that_ends_during_the_probe_is_succeeded_at_once() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.claim(B);
    assert_eq!(
        scene.binary_gone(A),
        [
            Released { conn: A },
            claimed(B, Takeover),
            evict(P, Cause::BinaryReclaimed),
        ]
    );
    assert_eq!(scene.hub.deadline(), None);
}

#[test]
fn of_two_claimants_the_first_wins_and_the_second_waits_for_a_sign_of_the_new_holder() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.claim(B);
    scene.wait(1_000);
    scene.claim(C);
    let effects = scene.wait(9_000);
    assert_eq!(
        effects[2..],
        [Displaced { conn: A }, claimed(B, Takeover), probe(B, 3),]
    );
    assert_eq!(
        scene.pong(B, 2),
        [],
        "a pong to an older ping proves nothing"
    );
    assert_eq!(scene.pong(B, 3), [ClaimRefused { conn: C }]);
}

#[test]
fn a_claimant_that_leaves_is_forgotten() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.claim(B);
    assert_eq!(scene.binary_gone(B), []);
    assert_eq!(scene.hub.deadline(), None);
    assert_eq!(scene.pong(A, 1), []);
}

#[test]
fn a_displaced_holder_never_changes_the_slot_again() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.claim(B);
    scene.wait(10_000);
    scene.talkative(P);
    for effects in [scene.pong(A, 1), scene.binary_gone(A), scene.binary_gone(A)] {
        assert_eq!(effects, []);
    }
    assert_eq!(scene.wait(60_000), []);
    assert_eq!(scene.hub.counts().binaries, 1);
}

#[test]
fn a_holder_that_ends_leaves_a_slot_in_grace_that_keeps_its_phones() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    assert_eq!(
        scene.binary_gone(A),
        [Released { conn: A }, Unlink { phone: P }]
    );
    let counts = scene.hub.counts();
    assert_eq!((counts.binaries, counts.phones, counts.parked), (0, 1, 0));
    assert_eq!(scene.binary_gone(A), [], "saying it again changes nothing");
    assert_eq!(scene.hub.deadline(), Some(scene.now.plus(30_000)));
}

/// The phones of a process that may come back, and those that wait for the next one, are in `resume` and `parking`.
#[test]
fn a_phone_that_leaves_in_grace_leaves_a_notice_that_nobody_gets() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.talkative(Q);
    scene.register(R);
    scene.binary_gone(A);
    assert_eq!(scene.phone_gone(P, 1000), [unnoticed(P, 1000)]);
    assert_eq!(scene.phone_gone_as_directed(Q), []);
    assert_eq!(scene.phone_gone(R, 1000), [], "nobody has heard of it");

    let mut scene = Scene::with(no_parking());
    scene.claim_as(A, "a");
    scene.register(P);
    scene.binary_gone(A);
    assert_eq!(scene.phone_gone(P, 1001), [unnoticed(P, 1001)]);
}

#[test]
fn a_claim_in_grace_is_not_probed_and_evicts_the_phones_of_the_old_process() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.binary_gone(A);
    assert_eq!(
        scene.claim(B),
        [claimed(B, Reclaim), evict(P, Cause::BinaryReclaimed),]
    );
    assert_eq!(scene.hub.counts().phones, 0);
}

#[test]
fn a_reclaim_leaves_no_timer_behind() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.binary_gone(A);
    scene.wait(25_000);
    scene.claim(B);
    scene.talkative(P);
    assert_eq!(scene.wait(60_000), []);
    assert_eq!(scene.hub.counts().phones, 1);
}

#[test]
fn grace_ends_with_every_phone_told_that_the_binary_did_not_return() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    scene.binary_gone(A);
    assert_eq!(scene.wait(29_999), []);
    assert_eq!(
        scene.wait(1),
        [GraceExpired, evict(P, Cause::BinaryDidNotReturn)]
    );
    assert_eq!(scene.hub.deadline(), None);
    assert_eq!(scene.claim(B), [claimed(B, Fresh)]);
}

#[test]
fn a_late_claim_still_counts_if_the_grace_timer_has_not_been_fired() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.binary_gone(A);
    scene.now = scene.now.plus(30_500);
    assert_eq!(scene.claim(B), [claimed(B, Reclaim)]);
}

#[test]
fn a_slot_without_anything_to_remember_is_gone() {
    let mut scene = Scene::new();
    let fresh = scene.hub.clone();
    scene.register(P);
    scene.binary_gone(A);
    assert_eq!(scene.hub, fresh);
}

#[test]
fn server_ids_do_not_touch_each_other() {
    let mut scene = Scene::new();
    scene.claim(A);
    scene.talkative(P);
    let first = std::mem::replace(&mut scene.server, relay_core::ServerId::new("another"));
    assert_eq!(scene.claim(B), [claimed(B, Fresh)]);
    assert_eq!(scene.frame(P), []);
    scene.binary_gone(B);
    scene.wait(40_000);
    scene.server = first;
    assert_eq!(scene.hub.counts().binaries, 1);
    assert_eq!(scene.register(Q), [Registered { conn: Q }]);
}

#[test]
fn deadlines_that_saturate_never_fire() {
    let mut scene = Scene::with(Policy {
        grace_ms: u64::MAX,
        ..Policy::default()
    });
    scene.claim(A);
    scene.binary_gone(A);
    assert_eq!(scene.hub.deadline(), Some(Millis::NEVER));
    assert_eq!(scene.wait(1 << 40), []);
}
