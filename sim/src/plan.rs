//! What a seed decides before anything runs: who there is, and what is done to them when.

use crate::net::Path;
use crate::rng::Rng;
use std::time::Duration;

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The daemons, by server-id.
    pub(crate) servers: Vec<Server>,
    /// For each phone its server-id.
    pub(crate) phones: Vec<usize>,
    /// How long the faults go on.
    pub(crate) storm: Duration,
    /// When something is done, in order.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

/// A daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// It names its process.
    pub(crate) resumable: bool,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A connection gets a reset.
    Reset,
    /// One side of a connection hears nothing for a while.
    Deaf(Duration),
    /// One side of a connection hears nothing any more.
    DeafForEver,
    /// A connection dies and nobody is told.
    BlackHole,
    /// A machine is cut off for a while.
    Cut(Duration),
    /// All machines are.
    CutAll(Duration),
    /// A machine's path becomes slow for a while.
    Throttle(Duration),
    /// The relay is killed, and starts again after a while.
    KillRelay(Duration),
    /// The relay is shut down, and starts again after a while.
    RestartRelay(Duration),
    /// A daemon is killed; its kernel says so.
    KillDaemon(Duration),
    /// A daemon's machine loses its power.
    UnplugDaemon(Duration),
    /// A daemon is restarted.
    RestartDaemon(Duration),
    /// A second machine with the same server-id comes up for a while.
    Rival(Duration),
    /// A daemon takes nothing for a while.
    SlowDaemon(Duration),
    /// A daemon has more to say to one phone than its outbox holds.
    Flood,
    /// The connections of a daemon's machine are reset again and again.
    Flap,
    /// A phone takes nothing for a while.
    SlowPhone(Duration),
    /// A phone is away for a while.
    QuitPhone(Duration),
    /// A phone is killed, and starts again after a while.
    KillPhone(Duration),
}

impl Plan {
    /// Draws one.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let servers: Vec<Server> = (0..rng.within(1..4))
            .map(|_| Server {
                resumable: rng.percent(50),
            })
            .collect();
        let phones = servers.iter().enumerate();
        let phones = phones
            .flat_map(|(n, _)| vec![n; rng.within(1..5) as usize])
            .collect();
        let storm = rng.time_ms(20_000..300_000);
        let storm_ms = storm.as_millis() as u64;
        let mut faults: Vec<_> = (0..rng.within(2..14))
            .map(|_| (Duration::from_millis(rng.within(0..storm_ms)), fault(rng)))
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Self {
            servers,
            phones,
            storm,
            faults,
        }
    }
}

fn fault(rng: &mut Rng) -> Fault {
    let while_ = rng.time_ms(100..90_000);
    match rng.within(0..100) {
        0..12 => Fault::Reset,
        12..20 => Fault::Deaf(while_),
        20..24 => Fault::DeafForEver,
        24..34 => Fault::BlackHole,
        34..42 => Fault::Cut(while_),
        42..45 => Fault::CutAll(while_),
        45..49 => Fault::Throttle(while_),
        49..54 => Fault::KillRelay(rng.time_ms(50..20_000)),
        54..60 => Fault::RestartRelay(rng.time_ms(50..20_000)),
        60..66 => Fault::KillDaemon(rng.time_ms(50..60_000)),
        66..71 => Fault::UnplugDaemon(rng.time_ms(50..60_000)),
        71..75 => Fault::RestartDaemon(rng.time_ms(50..60_000)),
        75..80 => Fault::Rival(while_),
        80..84 => Fault::SlowDaemon(while_),
        84..86 => Fault::Flood,
        86..88 => Fault::Flap,
        88..90 => Fault::SlowPhone(while_),
        90..96 => Fault::QuitPhone(while_),
        _ => Fault::KillPhone(while_),
    }
}

/// A path as people have them.
pub(crate) fn path(rng: &mut Rng) -> Path {
    Path {
        latency: rng.time_ms(1..200),
        rate: rng.within(500_000..20_000_000),
        buffer: rng.within(16..512) as usize * 1024,
    }
}

/// A path at the edge of a network.
pub(crate) fn slow_path(rng: &mut Rng) -> Path {
    Path {
        latency: rng.time_ms(100..3_000),
        rate: rng.within(1_000..60_000),
        buffer: rng.within(4..64) as usize * 1024,
    }
}
