//! All daemons of a relay crash at once and come back: how long until each phone is answered again.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, Instant};

use relay_client::Ladder;

use crate::bench::{Bench, Scale};
use crate::dial::{Dialler, Ids, Leg, PATIENCE};
use crate::floor::Floor;
use crate::machine::Load;
use crate::peers::{Habit, Peers};
use crate::report::{Row, Target};
use crate::stats::percentile;

/// Phones of each daemon.
const PHONES: usize = 8;

/// Daemons and phones dial at once, without the waits of the real apps: what is measured is the relay.
fn at_once() -> Habit {
    const STEPS: [Duration; 1] = [Duration::from_millis(1)];
    Habit {
        ladder: Ladder {
            steps: Cow::Borrowed(&STEPS),
            ..Ladder::default()
        },
        phones_wait: false,
    }
}

/// What the daemons lose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// Everything: phones are told to begin anew.
    Process,
    /// Their connections: they say so when they come back, and their phones stay.
    Connection,
}

/// From the crash, or the loss of the daemons' connections, to the first answer, p50 and p99.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let runs = bench.repeat("relay and floor, then resumes", || {
        let crash = relay(bench, Lost::Process)?;
        let floor = floor(&bench.scale)?;
        Ok((crash, floor, relay(bench, Lost::Connection)?))
    })?;
    let row = |what: &str, percent: f64, times: fn(&Run) -> &(Vec<f64>, Load)| {
        let ours = runs.iter().map(|run| percentile(&times(run).0, percent));
        let servers = bench.scale.crashing;
        let phones = servers * PHONES;
        let name = format!("{what} of {servers} ids, {phones} phones, p{percent}");
        Row::new(name, "ms", ours.collect()).loads(runs.iter().map(|run| times(run).1))
    };
    let reclaim = |percent: f64| {
        let floor = runs.iter().map(|(_, times, _)| percentile(times, percent));
        row("reclaim", percent, |run| &run.0).floor(floor.collect())
    };
    let resume = |percent: f64| row("resume", percent, |run| &run.2);
    // Of the time to the last answer: the two take turns where one waits for the other.
    let cpu = |whose: &str, times: fn(&Run) -> &(Vec<f64>, Load), part: fn(&Load) -> f64| {
        let values = runs.iter().map(|run| part(&times(run).1) * 1e3);
        Row::new(format!("… CPU of the {whose}"), "ms", values.collect())
    };
    let target = Target::median(15.0, Some(8.0));
    Ok(vec![
        reclaim(50.0).published(28.0, 28.0),
        reclaim(99.0).published(63.0, 63.0).target(target),
        cpu("relay", |run| &run.0, |load| load.server_s),
        cpu("generator", |run| &run.0, |load| load.generator_s),
        resume(50.0),
        resume(99.0)
            .target(target)
            .note("the daemons lose their connections, not their sessions: only they dial again"),
        cpu("relay", |run| &run.2, |load| load.server_s),
        cpu("generator", |run| &run.2, |load| load.generator_s),
    ])
}

/// A reclaim, its floor, a resume: milliseconds for each phone.
type Run = ((Vec<f64>, Load), Vec<f64>, (Vec<f64>, Load));

/// Milliseconds from the loss until each phone got an answer from the daemon that returned.
fn relay(bench: &Bench, lost: Lost) -> io::Result<(Vec<f64>, Load)> {
    let server = bench.subject.start(&[])?;
    let ids = Ids::new("reclaim");
    let all = (0..bench.scale.crashing).flat_map(|id| {
        let legs = std::iter::once(Leg::Binary).chain([Leg::Phone; PHONES]);
        legs.map(move |leg| (leg, id))
    });
    let all = all.map(|(leg, id)| match (leg, lost) {
        (Leg::Binary, Lost::Connection) => (leg, ids.resuming(id)),
        _ => (leg, ids.request(leg, id)),
    });
    let mut peers = Peers::new(Dialler::new(server.addr), None, at_once(), all)?;
    peers.connect(PATIENCE)?;
    let phones = peers.phones();
    let crash = Instant::now();
    let ((), load) = server.load(|| {
        peers.crash_binaries()?;
        if lost == Lost::Connection {
            peers.speak()?;
        }
        peers.until_answered(phones, PATIENCE)
    })?;
    Ok((since(crash, &peers), load))
}

/// Milliseconds until as many phones, dialling at once through the floor, are answered by this process:
/// what the machine needs for such a storm without anything to reclaim.
fn floor(scale: &Scale) -> io::Result<Vec<f64>> {
    let Floor { server, back, .. } = Floor::start()?;
    let ids = Ids::new("reclaim");
    let phones = scale.crashing * PHONES;
    let all = (0..phones).map(|_| (Leg::Phone, ids.request(Leg::Phone, 0)));
    let mut peers = Peers::new(Dialler::new(server.addr), None, at_once(), all)?;
    peers.far(back)?;
    let start = Instant::now();
    peers.dial_all()?;
    peers.until_answered(phones, PATIENCE)?;
    Ok(since(start, &peers))
}

fn since(start: Instant, peers: &Peers<'_>) -> Vec<f64> {
    let answers = peers.answers.iter();
    answers
        .map(|at| at.duration_since(start).as_secs_f64() * 1e3)
        .collect()
}
