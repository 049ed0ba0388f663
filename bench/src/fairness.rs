//! What somebody who sends as fast as he can does to another: on the same server-id, and on his own.

use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::bench::{Bench, Scale};
use crate::dial::{Dialler, Ids, Leg};
use crate::fleet::{Fleet, Role};
use crate::floor::Floor;
use crate::link::Link;
use crate::machine::{Load, Server};
use crate::poll::now;
use crate::report::{Row, Target};
use crate::stats::{median, percentile, ratios};
use crate::wire;

const FRAME_BYTES: usize = 256;
const FLOOD_BYTES: usize = 4096;

/// Frames of the flood handed to the kernel in one call.
const FLOOD_FRAMES: usize = 16;

/// One run: the p99 of the phone that is watched, in microseconds, without and with the flood.
struct Effect {
    quiet: f64,
    flooded: f64,
    load: Load,
}

/// The p99 of a quiet phone beside a flood over its p99 without.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (same, name) in [(true, "flooding phone"), (false, "flooding server-id")] {
        let runs = bench.repeat(name, || Ok((relay(bench, same)?, floor(&bench.scale)?)))?;
        let column =
            |value: fn(&(Effect, Effect)) -> f64| -> Vec<f64> { runs.iter().map(value).collect() };
        let (quiet, flooded) = (column(|run| run.0.quiet), column(|run| run.0.flooded));
        let floor = ratios(&column(|run| run.1.flooded), &column(|run| run.1.quiet));
        let note = format!(
            "{:.0} µs without the flood, {:.0} µs with it",
            median(&quiet),
            median(&flooded)
        );
        rows.push(
            Row::new(
                format!("{name}, another's p99"),
                "times",
                ratios(&flooded, &quiet),
            )
            .floor(floor)
            .target(Target::median(2.0, None))
            .loads(runs.iter().map(|(ours, _)| ours.load))
            .note(note),
        );
    }
    Ok(rows)
}

/// Through the relay; the flood comes from the `same` server-id or from another one.
fn relay(bench: &Bench, same: bool) -> io::Result<Effect> {
    let server = bench.subject.start(&[])?;
    let mut dialler = Dialler::new(server.addr);
    let ids = Ids::new("fairness");
    let mut one = |leg, id| -> io::Result<Link> {
        let links = dialler.upgraded(1, None, |_| ids.request(leg, id))?;
        links
            .into_iter()
            .next()
            .ok_or_else(|| io::Error::other("nobody was dialled"))
    };
    let mut fleet = Fleet::new(FRAME_BYTES)?;
    // It takes the flood without answering, as fast as it can.
    fleet.add(one(Leg::Binary, 0)?, Role::binary_up_to(FRAME_BYTES * 2))?;
    let watched = fleet.add(one(Leg::Phone, 0)?, Role::Phone)?;
    let mut others = Vec::new();
    if !same {
        others.push(one(Leg::Binary, 1)?);
    }
    let flood = one(Leg::Phone, usize::from(!same))?;
    measure(&server, &mut fleet, watched, flood, others, &bench.scale)
}

fn floor(scale: &Scale) -> io::Result<Effect> {
    let mut floor = Floor::start()?;
    let mut fleet = Fleet::new(FRAME_BYTES)?;
    let [near, far] = floor.pair()?;
    fleet.add(far, Role::Mirror)?;
    let watched = fleet.add(near, Role::Phone)?;
    let [flood, drain] = floor.pair()?;
    measure(
        &floor.server,
        &mut fleet,
        watched,
        flood,
        vec![drain],
        scale,
    )
}

/// Without the flood, then with it. `drains` are read and forgotten.
fn measure(
    server: &Server,
    fleet: &mut Fleet,
    watched: usize,
    mut flood: Link,
    drains: Vec<Link>,
    scale: &Scale,
) -> io::Result<Effect> {
    fleet.start(watched, 1, u64::MAX)?;
    fleet.run(scale.warm_up)?;
    fleet.time(watched);
    fleet.run(scale.measure)?;
    let quiet = percentile(&fleet.times(), 99.0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let pouring = scope.spawn(move || aside(stop, |stop| pour(&mut flood, stop)));
        let draining: Vec<_> = drains
            .into_iter()
            .map(|mut link| scope.spawn(move || aside(stop, |stop| drain(&mut link, stop))))
            .collect();
        let measured = (|| {
            fleet.run(scale.warm_up)?;
            fleet.times();
            server.load(|| fleet.run(scale.measure))
        })();
        stop.store(true, Ordering::Relaxed);
        for thread in draining.into_iter().chain([pouring]) {
            let ended = thread.join();
            ended.map_err(|_| io::Error::other("a thread of the flood panicked"))??;
        }
        let ((), load) = measured?;
        Ok(Effect {
            quiet,
            flooded: percentile(&fleet.times(), 99.0),
            load,
        })
    })
}

/// Runs with the least priority: the phone that is watched waits for the relay, not for us.
fn aside(stop: &AtomicBool, work: impl FnOnce(&AtomicBool) -> io::Result<()>) -> io::Result<()> {
    rustix::process::setpriority_process(None, 19)?;
    work(stop)
}

/// How often a thread that is stuck looks whether to stop.
const LOOK: Option<Duration> = Some(Duration::from_millis(100));

fn pour(link: &mut Link, stop: &AtomicBool) -> io::Result<()> {
    link.tcp().set_write_timeout(LOOK)?;
    let frames = wire::message(&wire::payload(FLOOD_BYTES)).repeat(FLOOD_FRAMES);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Some(count) = now(link.write(&frames[sent..]))? {
            sent = (sent + count) % frames.len();
        }
    }
    Ok(())
}

fn drain(link: &mut Link, stop: &AtomicBool) -> io::Result<()> {
    link.tcp().set_read_timeout(LOOK)?;
    let mut buffer = vec![0; 256 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let ended = now(link.read(&mut buffer))? == Some(0);
        // At the end the flood's own end may come first.
        if ended && !stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("a connection ended during the flood"));
        }
    }
    Ok(())
}
