//! Processor time per frame: phones that keep frames in flight, binaries that answer each of them.
//! A phone's frame and the answer to it count as two.

use std::io;
use std::net::SocketAddr;

use crate::bench::{Bench, Scale};
use crate::dial::{Dialler, Ids, Leg};
use crate::fleet::{Fleet, Role};
use crate::floor::Floor;
use crate::machine::{Load, Server};
use crate::report::{Row, Target};
use crate::wire;

const BINARIES: usize = 4;
const PHONES: usize = 64;
const IN_FLIGHT: u64 = 16;

/// A size with its name, the bounds of it (at least, aim) in multiples of the floor, and what was
/// published for the Go relay, in µs per frame: the range over several loads.
struct Size {
    bytes: usize,
    name: &'static str,
    target: (f64, f64),
    published: (f64, f64),
}

const SIZES: [Size; 3] = [
    Size {
        bytes: 256,
        name: "256 B",
        target: (2.5, 1.5),
        published: (24.0, 37.0),
    },
    Size {
        bytes: 4096,
        name: "4 KiB",
        target: (2.0, 1.4),
        published: (82.0, 166.0),
    },
    Size {
        bytes: 65_536,
        name: "64 KiB",
        target: (1.6, 1.2),
        published: (760.0, 1060.0),
    },
];

/// What one run showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) load: Load,
    /// Frames forwarded, both directions together.
    pub(crate) frames: f64,
}

impl Cost {
    /// Processor time of the server per frame it forwarded, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.load.server_s * 1e6 / self.frames
    }

    fn per_s(&self) -> f64 {
        self.frames / self.load.wall_s
    }
}

/// Two rows for each size.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        // Relay and floor in turn, so that both meet the same machine.
        let runs = bench.repeat(size.name, || {
            let ours = relay(bench, size.bytes)?;
            let floor = floor(&bench.scale, size.bytes, Floor::start()?)?;
            Ok((ours, floor))
        })?;
        let row = |name: &str, unit, value: fn(&Cost) -> f64| {
            let ours = runs.iter().map(|(ours, _)| value(ours)).collect();
            let floor = runs.iter().map(|(_, floor)| value(floor)).collect();
            Row::new(format!("{name}, {}", size.name), unit, ours)
                .floor(floor)
                .loads(runs.iter().map(|(ours, _)| ours.load))
        };
        let ((at_least, aim), (low, high)) = (size.target, size.published);
        rows.push(
            row("CPU per frame", "µs", Cost::cpu_us)
                .target(Target::times_floor(at_least, aim))
                .published(low, high),
        );
        rows.push(row("  frames per second", "1/s", Cost::per_s));
    }
    rows.push(one_a_call(bench)?);
    Ok(rows)
}

/// Through the relay.
fn relay(bench: &Bench, bytes: usize) -> io::Result<Cost> {
    let server = bench.subject.start(&[])?;
    measure(&server, &mut fleet(server.addr, bytes)?, &bench.scale)
}

/// Phones and binaries at a relay, as in earnest, with their first frames under way.
pub(crate) fn fleet(relay: SocketAddr, bytes: usize) -> io::Result<Fleet> {
    let mut dialler = Dialler::new(relay);
    let ids = Ids::new("frames");
    let binaries = dialler.upgraded(BINARIES, None, |index| ids.request(Leg::Binary, index))?;
    let phones = dialler.upgraded(PHONES, None, |index| {
        ids.request(Leg::Phone, index % BINARIES)
    })?;
    let mut fleet = Fleet::new(bytes)?;
    for link in binaries {
        fleet.add(link, Role::binary())?;
    }
    for link in phones {
        let phone = fleet.add(link, Role::Phone)?;
        fleet.start(phone, IN_FLIGHT, u64::MAX)?;
    }
    Ok(fleet)
}

/// A relay can move only one of these frames with a pair of calls, because the next one goes to somebody else; the floor
/// moves four. What that alone costs is shown by a floor that moves one.
fn one_a_call(bench: &Bench) -> io::Result<Row> {
    let bytes = 65_536;
    let frame_bytes = wire::message(&wire::payload(bytes)).len();
    let runs = bench.repeat("64 KiB, one a call", || {
        let single = floor(&bench.scale, bytes, Floor::moving(frame_bytes)?)?;
        Ok((single, floor(&bench.scale, bytes, Floor::start()?)?))
    })?;
    let column = |of: fn(&(Cost, Cost)) -> Cost| runs.iter().map(|run| of(run).cpu_us()).collect();
    let name = "  the floor itself, one frame a call, 64 KiB";
    Ok(Row::new(name, "µs", column(|run| run.0)).floor(column(|run| run.1)))
}

/// Through the floor: the same frames, but every phone has a way of its own.
fn floor(scale: &Scale, bytes: usize, mut floor: Floor) -> io::Result<Cost> {
    let mut fleet = Fleet::new(bytes)?;
    for _ in 0..PHONES {
        let [near, far] = floor.pair()?;
        fleet.add(far, Role::Mirror)?;
        let phone = fleet.add(near, Role::Phone)?;
        fleet.start(phone, IN_FLIGHT, u64::MAX)?;
    }
    measure(&floor.server, &mut fleet, scale)
}

/// What the server uses while the fleet goes on.
pub(crate) fn measure(server: &Server, fleet: &mut Fleet, scale: &Scale) -> io::Result<Cost> {
    fleet.run(scale.warm_up)?;
    let (frames, load) = server.cost(|| {
        let before = fleet.passed;
        fleet.run(scale.measure)?;
        Ok(fleet.passed - before)
    })?;
    Ok(Cost { load, frames })
}
