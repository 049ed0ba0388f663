//! Sessions in memory: how small a registered connection is without the sockets under it.

use std::io;

use crate::bench::Bench;
use crate::machine::{Process, THIS};
use crate::report::{Row, Target};

/// KiB for each session more, in a process of its own that holds nothing else.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let many = bench.scale.sessions;
    let few = many / 5;
    let ping_ms = match many {
        _ if bench.scale.quick => 300,
        ..300_000 => 5_000,
        // A core has more than that to do with pings.
        _ => 30_000,
    };
    let kib = bench.repeat("in a process of its own", || {
        let mut args = vec!["memory".to_owned()];
        args.extend([few, many, ping_ms].map(|number| number.to_string()));
        let output = Process::output(THIS.as_ref(), &args)?;
        let resident = |count: usize| -> io::Result<f64> {
            let prefix = format!("{count} ");
            let line = output.lines().find_map(|line| line.strip_prefix(&prefix));
            let bytes = line.and_then(|bytes| bytes.parse::<f64>().ok());
            bytes.ok_or_else(|| io::Error::other(format!("no figure for {count} in {output:?}")))
        };
        Ok((resident(many)? - resident(few)?) / (many - few) as f64 / 1024.0)
    })?;
    let note = format!(
        "of the library this program is built with; a ping every {ping_ms} ms, each answered two of them"
    );
    let row = Row::new(format!("session in memory, {few} to {many}"), "KiB", kib)
        .target(Target::median(2.5, Some(1.5)))
        .note(note);
    Ok(vec![row])
}
