//! Every history of a small relay, explored exhaustively: the hub's own code between binaries, phones, a clock and a
//! kernel that do whatever they can, and one connection's session and proofs between a peer and a socket that do.
//!
//! One state is one line of a broken rule's history; docs/reliability.md says what is covered, and how far.

// A set of states is looked up, never walked; the bounds come from whoever runs the test.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used
)]

mod after;
mod canon;
mod life;
mod phones;
mod play;
mod proving;
mod rules;
mod search;
mod world;

use relay_core::{Policy, SessionPolicy};

use crate::life::Life;
use crate::proving::Proving;
use crate::search::explore;
use crate::world::{Bounds, World};

/// Short durations in the order of the real ones, but for a probe that may outlast a wait: every timer can meet every
/// other one.
fn policy() -> Policy {
    Policy {
        grace_ms: 3,
        probe_timeout_ms: 2,
        probe_dead_path_ms: 1,
        park_ms: 2,
        boot_park_ms: 1,
        phones_per_server: 3,
        redial_burst: 0,
        ..Policy::default()
    }
}

const SMALL: Bounds = Bounds {
    binaries: 2,
    phones: 2,
    instances: 2,
    frames: 1,
    shutdown: false,
};

/// Explores, and tells how much that was.
fn check(what: &str, policy: Policy, bounds: Bounds) {
    let explored = explore(World::new(policy, bounds)).unwrap();
    println!("{what}: {explored}");
}

/// The bounds of the largest search: binaries, phones, instances, frames. `PYRYCODE_MODEL=4,3,2,1` for others.
fn large_bounds() -> Bounds {
    let text = std::env::var("PYRYCODE_MODEL").unwrap_or_else(|_| "3,3,2,1".to_owned());
    let numbers: Vec<u8> = text.split(',').map(|n| n.parse().unwrap()).collect();
    let [binaries, phones, instances, frames] = numbers[..] else {
        panic!("PYRYCODE_MODEL={text} should be four numbers: binaries,phones,instances,frames");
    };
    Bounds {
        binaries: binaries.into(),
        phones: phones.into(),
        instances,
        frames: frames.into(),
        shutdown: false,
    }
}

#[test]
fn three_binaries_and_three_phones() {
    check("large", policy(), large_bounds());
}

#[test]
fn a_relay_that_shuts_down() {
    let bounds = Bounds {
        binaries: 3,
        shutdown: true,
        ..SMALL
    };
    check("shutdown", policy(), bounds);
}

#[test]
fn without_parking() {
    let policy = Policy {
        park_ms: 0,
        ..policy()
    };
    check(
        "without parking",
        policy,
        Bounds {
            binaries: 3,
            phones: 3,
            ..SMALL
        },
    );
}

fn check_redials() {
    for redial_burst in [1, 2] {
        let policy = Policy {
            redial_burst,
            redial_short_tenure_ms: 2,
            redial_refill_ms: 3,
            ..policy()
        };
        let what = format!("redials, burst {redial_burst}");
        check(&what, policy, Bounds { phones: 0, ..SMALL });
    }
}

#[test]
fn binaries_that_redial_at_once() {
    check_redials();
}

/// What an operator may set, in every order: grace, probe, dead path, park, start.
#[test]
fn other_durations() {
    for [
        grace_ms,
        probe_timeout_ms,
        probe_dead_path_ms,
        park_ms,
        boot_park_ms,
    ] in [
        [1, 1, 1, 1, 1],
        [4, 3, 1, 2, 4],
        [2, 4, 2, 3, 0],
        [2, 1, 3, 4, 2],
        [0, 2, 1, 1, 3],
    ] {
        let policy = Policy {
            grace_ms,
            probe_timeout_ms,
            probe_dead_path_ms,
            park_ms,
            boot_park_ms,
            ..policy()
        };
        let what = format!(
            "grace {grace_ms}, probe {probe_timeout_ms}, path {probe_dead_path_ms}, park {park_ms}, start {boot_park_ms}"
        );
        check(
            &what,
            policy,
            Bounds {
                binaries: 3,
                frames: 2,
                ..SMALL
            },
        );
    }
}

/// Ping interval, pong timeout, read deadline, write timeout, control write timeout, wait for the peer's Close.
fn lives() -> impl Iterator<Item = SessionPolicy> {
    let durations = [[3, 3, 2, 2, 1, 2], [1, 3, 3, 2, 2, 1], [3, 1, 1, 3, 2, 3]];
    durations
        .into_iter()
        .map(|[ping, pong, read, write, control, close]| SessionPolicy {
            ping_interval_ms: ping,
            pong_timeout_ms: pong,
            read_deadline_ms: read,
            write_timeout_ms: write,
            control_write_timeout_ms: control,
            close_wait_ms: close,
        })
}

fn check_lives() {
    for policy in lives() {
        let explored = explore(Life::new(policy)).unwrap();
        println!("session: {explored}");
    }
}

#[test]
fn the_life_of_a_connection() {
    check_lives();
}

fn check_proofs() {
    let explored = explore(Proving::new()).unwrap();
    println!("proofs: {explored}");
}

#[test]
fn what_a_binary_proves_to_have_read() {
    check_proofs();
}

/// What every mutant of the core meets: small, since it is built without optimisation.
#[test]
fn mutants() {
    check_lives();
    check_proofs();
    let policy = Policy {
        phones_per_server: 1,
        probe_dead_path_ms: 2,
        probe_timeout_ms: 3,
        ..policy()
    };
    check("two phones", policy.clone(), SMALL);
    check(
        "three binaries",
        policy,
        Bounds {
            binaries: 3,
            phones: 1,
            ..SMALL
        },
    );
    check_redials();
}
