//! Claims that are refused before their upgrade.

use crate::scene::*;
use relay_core::{Conn, Policy, RetryAfter, ServerId, limits};

/// A binary that claims and is gone again `ms` later.
fn tenure(scene: &mut Scene, conn: Conn, ms: u64) {
    scene.claim(conn);
    scene.wait(ms);
    scene.binary_gone(conn);
}

#[test]
fn ten_short_tenures_are_forgiven_then_one_each_second() {
    let mut scene = Scene::new();
    for n in 0..10 {
        assert_eq!(scene.hub.admit(scene.now, &scene.server), Ok(()));
        tenure(&mut scene, Conn(n), 0);
    }
    assert_eq!(
        scene.hub.admit(scene.now, &scene.server),
        Err(RetryAfter(1_000))
    );
    scene.wait(999);
    assert_eq!(
        scene.hub.admit(scene.now, &scene.server),
        Err(RetryAfter(1))
    );
    scene.wait(1);
    assert_eq!(scene.hub.admit(scene.now, &scene.server), Ok(()));
    tenure(&mut scene, Conn(10), 0);
    assert_eq!(
        scene.hub.admit(scene.now, &scene.server),
        Err(RetryAfter(1_000))
    );
    assert_eq!(
        scene.hub.admit(scene.now, &ServerId::new("another")),
        Ok(())
    );
}

#[test]
fn a_tenure_of_a_second_is_not_short() {
    let one = Policy {
        redial_burst: 1,
        redial_refill_ms: 60_000,
        ..Policy::default()
    };
    for (ms, admitted) in [(1_000, true), (999, false)] {
        let mut scene = Scene::with(one.clone());
        tenure(&mut scene, A, ms);
        assert_eq!(
            scene.hub.admit(scene.now, &scene.server).is_ok(),
            admitted,
            "{ms} ms"
        );
    }
}

#[test]
fn being_displaced_or_refused_does_not_count() {
    let mut scene = Scene::with(Policy {
        redial_burst: 1,
        redial_refill_ms: 60_000,
        probe_timeout_ms: 500,
        ..Policy::default()
    });
    scene.claim(A);
    scene.claim(B);
    scene.pong(A, 1);
    scene.binary_gone(B);
    assert_eq!(scene.hub.admit(scene.now, &scene.server), Ok(()));
    scene.claim(C);
    scene.wait(500);
    scene.binary_gone(A);
    assert_eq!(scene.hub.admit(scene.now, &scene.server), Ok(()));
}

#[test]
fn zero_turns_it_off() {
    let mut scene = Scene::with(Policy {
        redial_burst: 0,
        ..Policy::default()
    });
    for n in 0..100 {
        tenure(&mut scene, Conn(n), 0);
    }
    assert_eq!(scene.hub.admit(scene.now, &scene.server), Ok(()));
}

#[test]
fn a_crowd_of_claimants_is_turned_away_until_the_probe_is_decided() {
    let mut scene = Scene::new();
    scene.claim(A);
    for n in 0..limits::CLAIMANTS_PER_SERVER as u64 {
        assert_eq!(scene.hub.admit(scene.now, &scene.server), Ok(()));
        scene.claim(Conn(10 + n));
    }
    scene.wait(1_000);
    assert_eq!(
        scene.hub.admit(scene.now, &scene.server),
        Err(RetryAfter(9_000))
    );
    scene.pong(A, 1);
    assert_eq!(scene.hub.admit(scene.now, &scene.server), Ok(()));
}
