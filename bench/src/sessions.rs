//! Sessions in memory: how small a registered connection is without the sockets under it.

use std::io;
use std::path::PathBuf;

use crate::bench::Bench;
use crate::machine::Process;
use crate::report::{Absent, Row, Target};
use crate::subject::Subject;

/// KiB for each session more, as the program beside the relay tells.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let (few, many) = (bench.scale.sessions / 5, bench.scale.sessions);
    let name = format!("session in memory, {few} to {many}");
    let Some(program) = program(&bench.subject).filter(|program| program.is_file()) else {
        let why = "no program examples/memory beside the relay; \
                   build it: cargo build --release -p pyrycode-relay --example memory";
        return Ok(vec![Row::absent(name, Absent::LeftOut(why.to_owned()))]);
    };
    let kib = bench.repeat("in a process of its own", || {
        let ping_ms = if bench.scale.quick { 300 } else { 5_000 };
        let args = [few, many, ping_ms].map(|number| number.to_string());
        let output = Process::output(&program, &args)?;
        let resident = |count: usize| -> io::Result<f64> {
            let prefix = format!("{count} ");
            let line = output.lines().find_map(|line| line.strip_prefix(&prefix));
            let bytes = line.and_then(|bytes| bytes.parse::<f64>().ok());
            bytes.ok_or_else(|| io::Error::other(format!("no figure for {count} in {output:?}")))
        };
        Ok((resident(many)? - resident(few)?) / (many - few) as f64 / 1024.0)
    })?;
    let row = Row::new(name, "KiB", kib)
        .target(Target::median(2.5, Some(1.5)))
        .note("resident, each pinged and heard at least twice");
    Ok(vec![row])
}

/// Cargo puts it into a folder beside the relay.
fn program(relay: &Subject) -> Option<PathBuf> {
    match relay {
        Subject::Ours(program) => Some(program.with_file_name("examples").join("memory")),
        _ => None,
    }
}
