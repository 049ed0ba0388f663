//! Every history of a small relay: the hub's own code, explored exhaustively.

// A set of states is looked up, never walked; the bounds come from whoever runs the test.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, clippy::unwrap_used)]

mod canon;
mod rules;
mod search;
mod world;

use relay_core::Policy;

use crate::search::explore;
use crate::world::{Bounds, World};

fn policy() -> Policy {
    Policy {
        grace_ms: 3,
        probe_timeout_ms: 2,
        probe_dead_path_ms: 1,
        park_ms: 2,
        boot_park_ms: 1,
        phones_per_server: 2,
        redial_burst: 0,
        ..Policy::default()
    }
}

#[test]
fn small() {
    let n = |name: &str, default: usize| std::env::var(name).map_or(default, |v| v.parse().unwrap());
    let bounds = Bounds {
        binaries: n("B", 2),
        phones: n("P", 1),
        instances: n("I", 1) as u8,
        frames: n("F", 1) as u64,
        shutdown: n("S", 0) == 1,
    };
    let explored = explore(World::new(policy(), bounds)).unwrap();
    println!("{explored}");
}
