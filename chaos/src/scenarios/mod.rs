//! What is done, and what must hold meanwhile and afterwards.

mod cable;
mod clock;
mod disk;
mod kill;
mod limits;
mod mix;
mod stop;

use crate::book::{Result, ensure};
use crate::stage::{Stage, Town};
use crate::world::World;
use std::pin::Pin;

/// How a scenario ended that broke no promise.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Played to its end; figures.
    Kept(String),
    /// It could not be played here; why.
    Skipped(String),
}

type Play = Pin<Box<dyn Future<Output = Result<Outcome>> + Send>>;

/// A scenario.
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) about: &'static str,
    /// Plays it.
    pub(crate) play: fn(World) -> Play,
}

macro_rules! scenarios {
    ($($name:literal $about:literal $play:path;)+) => {
        &[$(Scenario { name: $name, about: $about, play: |world| Box::pin($play(world)) },)+]
    };
}

/// All of them, those that take longest first.
pub(crate) const ALL: &[Scenario] = scenarios! {
    "cable-cut" "the link of a second machine goes down, without FIN or RST (network namespace)" cable::cut;
    "black-hole" "connections that swallow everything, and one that is half closed (fault proxy)" cable::black_hole;
    "mix" "a random sequence of faults, then calm; --seed repeats it" mix::play;
    "relay-stopped" "SIGSTOP of the relay for 40 s" stop::relay;
    "slow-paths" "delay, throttle, and stalls of 6 s in one direction" cable::slow;
    "clock-jumps" "the wall clock jumps by hours and days, both ways (libfaketime)" clock::jumps;
    "daemon-stopped" "SIGSTOP of a daemon; a second one takes over" stop::daemon;
    "phone-stopped" "SIGSTOP of a phone that is sent more than its outbox holds" stop::phone;
    "relay-killed" "kill -9 of the relay, and a restart on the same port at once and after 3 s" kill::relay;
    "daemon-killed" "kill -9 of both daemons, and a new process of each" kill::daemons;
    "daemon-reset" "RST on both daemons' connections, six times" kill::resets;
    "phones-killed" "kill -9 of two phones" kill::phones;
    "descriptors" "no descriptor is left (RLIMIT_NOFILE): accepts fail" limits::descriptors;
    "full" "few descriptors, and the limits that follow from them" limits::full;
    "memory" "a control group of 160 MiB, and phones that read nothing" limits::memory;
    "disk-full" "log and certificate cache on a full disk (tmpfs)" disk::full;
};

/// Nobody lost a connection, but these may have.
fn undisturbed(stage: &Stage, town: &Town, except: &[u64]) -> Result<()> {
    for member in town.phones.iter().chain(&town.daemons) {
        if !except.contains(&member.process) {
            let inner = stage.book.open();
            let seen = inner.of(member.process);
            ensure(seen.losses.is_empty(), || {
                format!("{} was disturbed: {:?}", seen.name, seen.losses)
            })?;
        }
    }
    Ok(())
}
