//! What the heartbeat of idle connections costs.

use std::io;
use std::time::Duration;

use crate::bench::Bench;
use crate::idle::Crowd;
use crate::report::{Row, Target};

/// The heartbeat for which the figure is given, whatever the relay's is.
const INTERVAL_S: f64 = 30.0;

/// Connections for which the figure is given.
const CONNECTIONS: f64 = 15_000.0;

/// Percent of one core. The relay pings at its default interval (quick: each second); what a ping and
/// its pong cost is then counted for 15,000 of them every 30 s.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let scale = &bench.scale;
    let own: &[&str] = match scale.quick {
        true => &["--ping-interval=1s"],
        false => &[],
    };
    let server = bench.subject.start(own)?;
    let mut crowd = Crowd::new(&server)?;
    bench.progress.step("connecting");
    crowd.grow(scale.beating, None)?;
    let mut loads = Vec::new();
    let mut pings_s = Vec::new();
    let percent = bench.repeat("listening", || {
        let before = crowd.fleet.pings;
        let mut left = scale.beats;
        let ((), load) = server.load(|| {
            // In pieces: they show in the progress that it is not stuck.
            while !left.is_zero() {
                let piece = left.min(Duration::from_secs(1));
                crowd.fleet.run(piece)?;
                left -= piece;
            }
            Ok(())
        })?;
        let pings = (crowd.fleet.pings - before) as f64;
        if pings == 0.0 {
            let seconds = scale.beats.as_secs();
            return Err(io::Error::other(format!("no ping came in {seconds} s")));
        }
        loads.push(load);
        pings_s.push(pings / load.wall_s);
        Ok(load.server_s / pings * CONNECTIONS / INTERVAL_S * 100.0)
    })?;
    let note = format!(
        "{} connections over {:.1} s, {:.0} pings a second; counted for {CONNECTIONS:.0} every {INTERVAL_S:.0} s",
        scale.beating,
        scale.beats.as_secs_f64(),
        crate::stats::median(&pings_s)
    );
    let row = Row::new("heartbeats of 15,000 idle", "%core", percent)
        .target(Target::median(2.0, Some(1.0)))
        .loads(loads)
        .note(note);
    Ok(vec![row])
}
