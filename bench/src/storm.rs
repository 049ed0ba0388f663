//! The relay is killed and started again: how long until everybody who returns is routed again.

use std::io;
use std::time::{Duration, Instant};

use relay_client::Ladder;

use crate::bench::Bench;
use crate::dial::{Dialler, Ids};
use crate::link::{Keys, start_relay};
use crate::machine::{Load, free_addr};
use crate::peers::{Habit, Peers};
use crate::report::{Absent, Row, Target};
use crate::stats::median;
use crate::subject::Needs;

/// From the kill to the new start. Long enough for everybody to notice.
const OUTAGE: Duration = Duration::from_millis(300);

/// For everybody to connect, and to return: several steps of the back-off.
const BOUND: Duration = Duration::from_secs(120);

/// What one run showed.
struct Return {
    /// Seconds from when the first dial of the last peer is due until all are routed.
    after_last_dial: f64,
    /// Seconds from the new start until then.
    after_start: f64,
    /// Dials for each peer since then; 1 if none is lost.
    dials: f64,
    load: Load,
}

/// Plain, then with TLS.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, encrypted, at_least) in [("plain", false, 1.0), ("TLS", true, 3.0)] {
        let peers = bench.scale.storm;
        let title = format!("storm of {peers}, {name}, after last dial");
        if let Some(why) = bench.subject.lacks(Needs::Ours).filter(|_| encrypted) {
            rows.push(Row::absent(title, Absent::LeftOut(why.to_owned())));
            continue;
        }
        let runs = bench.repeat(name, || {
            let keys = encrypted.then(|| Keys::new(false)).transpose()?;
            back_again(bench, keys.as_ref())
        });
        let runs = match runs {
            Ok(runs) => runs,
            Err(error) => {
                rows.push(Row::absent(title, Absent::Failed(error.to_string())));
                continue;
            }
        };
        let column = |value: fn(&Return) -> f64| -> Vec<f64> { runs.iter().map(value).collect() };
        let note = format!(
            "{:.2} s from the new start until all are routed, {:.2} dials for each",
            median(&column(|run| run.after_start)),
            median(&column(|run| run.dials))
        );
        rows.push(
            Row::new(title, "s", column(|run| run.after_last_dial))
                .target(Target::median(at_least, None))
                .loads(runs.iter().map(|run| run.load))
                .note(note),
        );
    }
    Ok(rows)
}

fn back_again(bench: &Bench, keys: Option<&Keys>) -> io::Result<Return> {
    let addr = free_addr()?;
    let first = start_relay(&bench.subject, addr, keys, &[])?;
    let ids = Ids::new("storm");
    let all = (0..bench.scale.storm).map(|number| {
        let (leg, id) = Ids::member(number);
        (leg, ids.request(leg, id))
    });
    let habit = Habit {
        ladder: Ladder::default(),
        phones_wait: true,
    };
    let mut peers = Peers::new(Dialler::new(addr), keys, habit, all)?;
    peers.connect(BOUND)?;
    let phones = peers.phones();
    // Killed.
    drop(first);
    peers.run(OUTAGE)?;
    let dials_away = peers.dials;
    let server = start_relay(&bench.subject, addr, keys, &[])?;
    let start = Instant::now();
    peers.mark();
    // The load counts from the first who may come back: 80 % of the first wait.
    let quiet = Duration::from_millis(800).saturating_sub(OUTAGE);
    peers.run(quiet)?;
    let ((), load) = server.load(|| peers.until_answered(phones, BOUND))?;
    let end = Instant::now();
    let seconds = |since: Instant| end.duration_since(since).as_secs_f64();
    Ok(Return {
        after_last_dial: seconds(peers.last_dial),
        after_start: seconds(start),
        dials: (peers.dials - dials_away) as f64 / bench.scale.storm as f64,
        load,
    })
}
