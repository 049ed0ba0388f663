//! The simulation finds nothing in a few seeds, replays to the byte, and finds what is broken on purpose.

use relay_sim::{Vandalism, run};

/// Seeds that are run here; CI runs a thousand of them with `just sim`.
const SEEDS: std::ops::Range<u64> = 1..25;

#[test]
fn the_checks_hold() {
    for seed in SEEDS {
        let outcome = run(seed, None);
        assert!(
            outcome.violations.is_empty(),
            "seed {seed}: {:?}\nreplay: cargo run -p relay-sim -- --seed {seed}",
            outcome.violations
        );
        assert!(outcome.frames > 100, "seed {seed} says nothing");
    }
}

#[test]
fn a_seed_has_one_history() {
    for seed in SEEDS.step_by(4) {
        let (first, second) = (run(seed, None), run(seed, None));
        let mut lines = first.history.lines().zip(second.history.lines());
        let difference = lines.find(|(one, other)| one != other);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(first.history, second.history, "seed {seed}");
    }
}

#[test]
fn another_seed_has_another_history() {
    assert_ne!(run(1, None).history, run(2, None).history);
}

/// Each kind of damage that a faulty relay could do, found by the check that is there for it.
#[test]
fn what_is_broken_on_purpose_is_found() {
    for (vandalism, found_as) in [
        (Vandalism::Lose, "and expected"),
        (Vandalism::Repeat, "and expected"),
        (Vandalism::Swap, "and expected"),
        (Vandalism::Change, "sent"),
        (Vandalism::Code, "nobody asked for 4421"),
        (Vandalism::Unsaid, "ended without a Close"),
        (Vandalism::Mute, "ended without a Close"),
        (Vandalism::Stowaway, "the relay holds"),
    ] {
        let mut seeds = SEEDS;
        let found = seeds.find_map(|seed| {
            let violations = run(seed, Some(vandalism)).violations;
            violations.into_iter().find(|what| what.contains(found_as))
        });
        assert!(found.is_some(), "{vandalism:?} is not found");
    }
    assert_eq!(Vandalism::ALL.len(), 8, "a kind without a row above");
}
