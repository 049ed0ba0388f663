//! Files of the relay, the very ones, compiled against loom in place of the standard library: loom then runs a scenario
//! again and again, until its threads have taken turns in every order, and have read every value that the memory model
//! lets them read.
//!
//! What the relay's files import from `crate::sync` is `sync` here. That can also be made [weaker](Weakness) than it
//! is, to see that a scenario would notice.

mod scenarios;
mod sync;

pub use scenarios::{admission, budget, directive, outbox, resume, window};
pub use sync::Weakness;

/// What the files below refer to by the name it has in the relay.
use pyrycode_relay::{clock, observe};

#[allow(dead_code, reason = "parts of the relay that no scenario needs")]
#[path = "../../crates/relay/src/os"]
mod os {
    pub(crate) mod random;
}

#[allow(dead_code, reason = "parts of the relay that no scenario needs")]
#[path = "../../crates/relay/src/router"]
mod router {
    mod slot_hash;
    mod table;

    pub(crate) use slot_hash::SlotHash;
    pub(crate) use table::Table;
}

#[allow(dead_code, reason = "parts of the relay that no scenario needs")]
#[path = "../../crates/relay/src/session"]
mod session {
    pub(crate) mod budget;
    pub(crate) mod item;
    pub(crate) mod peer;
    pub(crate) mod stamp;
    pub(crate) mod stock;
    pub(crate) mod tally;
    pub(crate) mod window;
}

/// How often in one order a thread that could go on has to wait for another.
const PREEMPTIONS: usize = 3;

/// Runs a scenario in every order, on what `sync` offers or something weaker.
///
/// # Panics
/// If one of them breaks what the scenario asserts, or leaves a thread waiting for ever.
pub fn check(weakness: Weakness, scenario: fn()) {
    sync::weaken(weakness);
    let mut model = loom::model::Builder::new();
    // Orders with more switches in the middle of what a thread does are too many, and find nothing more.
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(scenario);
}
