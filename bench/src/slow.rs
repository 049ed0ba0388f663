//! What a phone that reads nothing does to another of the same binary.

use std::io;

use crate::bench::Bench;
use crate::dial::{Dialler, Ids, Leg, PATIENCE};
use crate::fleet::{Fleet, Role};
use crate::machine::Load;
use crate::report::{Row, Target};
use crate::stats::{median, percentile};

const FRAME_BYTES: usize = 256;
/// What the binary sends to the slow one with every answer to the other: a few seconds of it are more
/// than the kernel and the relay keep for a phone.
const SLOW_BYTES: usize = 4096;

/// The p99 of the sibling while the slow one does not read, over its p99 while it does.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let runs = bench.repeat("reading, then not", || both(bench))?;
    let p99 = |times: &Vec<f64>| percentile(times, 99.0);
    let column = |index: usize| -> Vec<f64> {
        let times = runs.iter().map(|(times, _): &([Vec<f64>; 2], Load)| times);
        times.map(|times| p99(&times[index])).collect()
    };
    let (reading, slow) = (column(0), column(1));
    let effect = crate::stats::ratios(&slow, &reading);
    let note = format!(
        "{:.0} µs while both read, {:.0} µs while one does not",
        median(&reading),
        median(&slow)
    );
    // "None" is what cannot be told from it.
    let row = Row::new("slow phone, sibling's p99", "times", effect)
        .target(Target::median(1.2, Some(1.05)))
        .loads(runs.iter().map(|(_, load)| *load))
        .note(note);
    Ok(vec![row])
}

/// Times of the sibling's answers: while both read, and while only it does.
fn both(bench: &Bench) -> io::Result<([Vec<f64>; 2], Load)> {
    let server = bench.subject.start(&[])?;
    let mut dialler = Dialler::new(server.addr);
    let ids = Ids::new("slow");
    let mut fleet = Fleet::new(FRAME_BYTES)?;
    let mut one = |leg| dialler.upgraded(1, None, |_| ids.request(leg, 0));
    let (binaries, phones) = (one(Leg::Binary)?, [one(Leg::Phone)?, one(Leg::Phone)?]);
    let mut binary = 0;
    for link in binaries {
        binary = fleet.add(link, Role::binary())?;
    }
    let mut numbers = Vec::new();
    for link in phones.into_iter().flatten() {
        numbers.push(fleet.add(link, Role::Phone)?);
    }
    let [slow, sibling] = numbers[..] else {
        return Err(io::Error::other("two phones were dialled"));
    };
    fleet.start(slow, 1, 1)?;
    let known = |fleet: &Fleet| fleet.passed >= 2;
    fleet.run_until(PATIENCE, "the slow phone's first answer", known)?;
    fleet.also_send(binary, SLOW_BYTES)?;
    fleet.start(sibling, 1, u64::MAX)?;
    fleet.run(bench.scale.warm_up)?;
    fleet.time(sibling);
    fleet.run(bench.scale.measure)?;
    let reading = fleet.times();
    fleet.deafen(slow);
    // Longer: its queue must fill, and be full.
    let ((), load) = server.load(|| fleet.run(bench.scale.measure * 2))?;
    Ok(([reading, fleet.times()], load))
}
