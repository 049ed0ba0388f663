//! The relay and its clients under a simulated network and a virtual clock.
//!
//! A seed decides who there is, what they say, and what is done to them; everything else is the program's own
//! code: HTTP, limits, sessions, registry and shutdown of the relay, and the links of `relay-client`. One
//! seed has one history, to the byte.

mod actor;
mod backoff;
mod book;
mod check;
mod daemon;
mod history;
pub mod message;
mod metrics;
mod net;
mod phone;
mod plan;
#[cfg(test)]
mod regressions;
mod relay;
pub mod rng;
mod settled;
mod traffic;
mod world;

pub use metrics::Page;
pub use net::Vandalism;
pub use relay::Marks;
pub use world::{Outcome, RECOVERY};

use std::sync::{Arc, Mutex, Once, PoisonError};

thread_local! {
    static PANICS: std::cell::RefCell<Option<Arc<Mutex<Vec<String>>>>> = const { std::cell::RefCell::new(None) };
}

/// Runs one seed to its end, on a thread of its own: nothing that a thread remembers goes from one run to the next.
pub fn run(seed: u64, vandalism: Option<Vandalism>) -> Outcome {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let panics = PANICS.with_borrow(Clone::clone);
            match panics {
                // The runtime catches it; whoever asked for the run is told.
                Some(panics) => {
                    panics
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(info.to_string());
                }
                None => before(info),
            }
        }));
    });
    let panics = Arc::<Mutex<Vec<String>>>::default();
    let noted = panics.clone();
    let thread = std::thread::Builder::new().name(format!("seed {seed}"));
    let thread = thread.spawn(move || {
        PANICS.set(Some(noted));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build();
        match runtime {
            Ok(runtime) => runtime.block_on(world::run(seed, vandalism)),
            // Not a seed that fails: nothing can be simulated here.
            Err(error) => panic!("no runtime: {error}"),
        }
    });
    let outcome = thread.map(std::thread::JoinHandle::join);
    let panics = panics
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let panics = panics.into_iter().map(|panic| format!("panic: {panic}"));
    match outcome {
        Ok(Ok(mut outcome)) => {
            outcome.violations.extend(panics);
            outcome
        }
        _ => Outcome {
            history: String::new(),
            violations: panics.chain(["the run did not end".to_owned()]).collect(),
            recovery: RECOVERY,
            frames: 0,
            time: std::time::Duration::ZERO,
            marks: Marks::new(),
        },
    }
}
