//! What a relay costs. Run it on an otherwise idle Linux machine with two cores or more:
//!
//! ```text
//! cargo build --release -p pyrycode-relay -p relay-bench && target/release/relay-bench
//! ```
//!
//! The relay (a process of its own) is kept on core 0, this program on core 1. Processor time is read from
//! the kernel's accounting of the relay's threads, so what else runs on the machine disturbs throughput
//! and latency more than it disturbs these figures. Any relay can be measured: `--relay` with
//! `--relay-args`, or `--url` with `--pid`.

mod accepts;
mod admin;
mod bench;
mod dial;
mod fairness;
mod far;
mod fleet;
mod floor;
mod frames;
mod heartbeats;
mod html;
mod idle;
mod latency;
mod link;
mod load;
mod machine;
mod memory;
mod peers;
mod poll;
mod progress;
mod reclaim;
mod report;
mod sessions;
mod slots;
mod slow;
mod stats;
mod storm;
mod subject;
mod tls;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Parser, Subcommand};
use serde_json::json;

use bench::{Bench, Scale};
use load::Work;
use machine::Usage;
use progress::Progress;
use report::{Absent, Row, Verdict};
use subject::{Needs, Subject};

/// A part of the bench.
struct Part {
    name: &'static str,
    about: &'static str,
    needs: Needs,
    run: fn(&Bench) -> io::Result<Vec<Row>>,
}

impl Part {
    const fn new(
        name: &'static str,
        about: &'static str,
        needs: Needs,
        run: fn(&Bench) -> io::Result<Vec<Row>>,
    ) -> Self {
        Self {
            name,
            about,
            needs,
            run,
        }
    }
}

/// All of them, in the order in which they run.
const PARTS: &[Part] = &[
    Part::new(
        "frames",
        "Processor time per frame under load",
        Needs::Process,
        frames::run,
    ),
    Part::new(
        "latency",
        "Round trips, one frame in flight",
        Needs::Address,
        latency::run,
    ),
    Part::new(
        "slots",
        "Processor time per frame among many server-ids",
        Needs::Process,
        slots::run,
    ),
    Part::new(
        "slow",
        "What a slow phone does to another",
        Needs::Address,
        slow::run,
    ),
    Part::new(
        "fairness",
        "What a flood does to others",
        Needs::Address,
        fairness::run,
    ),
    Part::new(
        "accepts",
        "Whole lives of connections",
        Needs::Process,
        accepts::run,
    ),
    Part::new(
        "reclaim",
        "A crash of all daemons at once",
        Needs::Address,
        reclaim::run,
    ),
    Part::new("storm", "A crash of the relay", Needs::Program, storm::run),
    Part::new(
        "idle",
        "Memory of idle connections",
        Needs::Process,
        idle::run,
    ),
    Part::new(
        "heartbeats",
        "Processor time of idle connections",
        Needs::Process,
        heartbeats::run,
    ),
    Part::new(
        "sessions",
        "Memory of sessions without sockets",
        Needs::Ours,
        sessions::run,
    ),
    Part::new(
        "tls",
        "Memory and handshakes of TLS connections",
        Needs::Ours,
        tls::run,
    ),
    Part::new(
        "admin",
        "Processor time for an open admin page",
        Needs::Ours,
        admin::run,
    ),
];

fn part_names() -> PossibleValuesParser {
    let value = |part: &Part| PossibleValue::new(part.name).help(part.about);
    PossibleValuesParser::new(PARTS.iter().map(value))
}

/// What a relay costs, beside a bare TCP forwarder in the same run
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// The relay's program [default: pyrycode-relay next to this one]
    #[arg(long, value_name = "PATH")]
    relay: Option<PathBuf>,
    /// Its arguments, if it is not this project's; {addr} stands for the address to listen on
    #[arg(
        long,
        value_name = "ARGS",
        allow_hyphen_values = true,
        requires = "relay"
    )]
    relay_args: Option<String>,
    /// A relay that runs already, without limits for one address: ws://HOST:PORT
    #[arg(long, value_name = "URL", conflicts_with = "relay")]
    url: Option<String>,
    /// Its process, for its processor time and memory
    #[arg(long, value_name = "PID", requires = "url")]
    pid: Option<u32>,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write a report with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Every figure this many times
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Sessions in memory; a million needs 3 GiB
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..))]
    sessions: u32,
    /// Once, briefly and with fewer connections: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_delimiter = ',', value_parser = part_names())]
    only: Vec<String>,
    /// Fail if a target is missed
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    child: Option<Child>,
}

/// What this program is when it starts itself, and when somebody else measures.
#[derive(Debug, Subcommand)]
enum Child {
    /// Keep a relay busy that somebody else looks at, and say with how much
    Load {
        /// Where it is: ws://HOST:PORT
        url: String,
        /// A frame's size in bytes, or `lives` of connections
        work: Work,
        /// For so long
        seconds: u64,
    },
    /// Forward bytes from one address to another (what the relay is compared with)
    #[command(hide = true)]
    Floor {
        listen: SocketAddr,
        dial: SocketAddr,
        /// Bytes moved at once
        buffer_bytes: usize,
    },
    /// Answer connections at an address as a relay does, without looking (what accepts are compared with)
    #[command(hide = true)]
    Far { listen: SocketAddr },
    /// Start a server so that it does not outlive this program
    #[command(hide = true)]
    Exec {
        core: usize,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Hold sessions in memory
    #[command(hide = true)]
    Memory {
        few: usize,
        many: usize,
        ping_ms: u64,
    },
}

impl Child {
    fn run(&self) -> io::Result<()> {
        match self {
            Self::Load { url, work, seconds } => {
                load::run(subject::address(url)?, *work, Duration::from_secs(*seconds))
            }
            Self::Floor {
                listen,
                dial,
                buffer_bytes,
            } => floor::run(*listen, *dial, *buffer_bytes),
            Self::Far { listen } => far::run(*listen),
            Self::Exec {
                core,
                program,
                args,
            } => machine::exec(*core, program, args),
            Self::Memory { few, many, ping_ms } => memory::run(*few, *many, *ping_ms),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.child {
        Some(child) => child.run().map(|()| true),
        None => measure(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("relay-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well.
fn measure(args: &Args) -> io::Result<bool> {
    let descriptors = machine::prepare()?;
    let relay = args.relay.clone();
    let url = args.url.as_deref();
    let bench = Bench {
        subject: Subject::new(relay, args.relay_args.as_deref(), url, args.pid)?,
        scale: match args.quick {
            true => Scale::quick(),
            false => Scale::full(args.repetitions, args.sessions as usize, descriptors),
        },
        progress: Progress::new(),
    };
    let usage = Usage::start()?;
    let wanted = |part: &&Part| args.only.is_empty() || args.only.iter().any(|n| n == part.name);
    let parts: Vec<&Part> = PARTS.iter().filter(wanted).collect();
    println!("{}", report::head());
    let mut rows = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let (name, bound) = (part.name, bench.scale.bound);
        bench.progress.part(number + 1, parts.len(), name, bound);
        let mut measured = run(&bench, part);
        bench.progress.rest();
        for row in &mut measured {
            row.part = name;
            println!("{}", row.line());
        }
        rows.append(&mut measured);
    }
    let others = match bench.subject {
        // It would count as one of them itself.
        Subject::Running(..) => None,
        _ => Some(usage.others()?),
    };
    println!("\n{}", report::summary(&rows));
    if let Some(share) = others.filter(|share| *share > DISTURBED) {
        let percent = share * 100.0;
        println!("Others used {percent:.0} % of the two cores: measure again when they are idle.");
    }
    println!("* {REFERENCE}");
    write(args, &bench, others, &rows)?;
    let failed = |row: &Row| matches!(row.absent, Some(Absent::Failed(_)));
    let missed = |row: &Row| row.verdict() == Some(Verdict::Missed);
    Ok(!rows
        .iter()
        .any(|row| failed(row) || args.check && missed(row)))
}

/// What one part has to say, be it why it has nothing.
fn run(bench: &Bench, part: &Part) -> Vec<Row> {
    if let Some(why) = bench.subject.lacks(part.needs) {
        return vec![Row::absent(part.name, Absent::LeftOut(why.to_owned()))];
    }
    (part.run)(bench)
        .unwrap_or_else(|error| vec![Row::absent(part.name, Absent::Failed(error.to_string()))])
}

/// The files that were asked for.
fn write(args: &Args, bench: &Bench, others: Option<f64>, rows: &[Row]) -> io::Result<()> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let (relay, machine) = (bench.subject.describe(), machine::describe());
    let repetitions = bench.scale.repetitions;
    if let Some(path) = &args.json {
        let all = json!({
            "relay": relay, "machine": machine, "time": now,
            "repetitions": repetitions, "quick": bench.scale.quick,
            "others_share_of_the_cores": others, "reference": REFERENCE,
            "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        std::fs::write(path, format!("{all:#}\n"))?;
    }
    if let Some(path) = &args.html {
        let kind = if bench.scale.quick { ", quick" } else { "" };
        let percent = |share| format!("{:.0} % of the two cores", share * 100.0);
        let about = [
            ("Relay", relay),
            ("Machine", machine),
            ("When", now),
            ("Repetitions", format!("{repetitions}{kind}")),
            (
                "Used by others",
                others.map_or("unknown".to_owned(), percent),
            ),
        ];
        std::fs::write(path, html::page(&about, rows))?;
    }
    Ok(())
}

/// Beyond this share of the cores, others disturb the figures.
const DISTURBED: f64 = 0.05;

const REFERENCE: &str = "published figures, from another machine: an order of magnitude";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_parse() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        let args = parse("relay-bench --quick --only frames,tls").expect("valid");
        assert_eq!(args.only, ["frames", "tls"]);
        assert!(parse("relay-bench --only frame").is_err());
        assert!(parse("relay-bench --url ws://x:1 --relay x").is_err());
        assert!(parse("relay-bench --pid 1").is_err());
        let floor = parse("relay-bench floor 127.0.0.1:1 127.0.0.1:2 65536").expect("valid");
        assert!(matches!(floor.child, Some(Child::Floor { .. })));
        let far = parse("relay-bench far 127.0.0.1:1").expect("valid");
        assert!(matches!(far.child, Some(Child::Far { .. })));
        let load = parse("relay-bench load ws://127.0.0.1:1 4096 5").expect("valid");
        assert!(matches!(
            load.child,
            Some(Child::Load {
                work: Work::Frames(4096),
                ..
            })
        ));
        assert!(parse("relay-bench load ws://127.0.0.1:1 lives 5").is_ok());
        assert!(parse("relay-bench load ws://127.0.0.1:1 life 5").is_err());
        let other = [
            "relay-bench",
            "--relay",
            "x",
            "--relay-args",
            "-listen {addr}",
        ];
        let other = Args::try_parse_from(other).expect("valid");
        assert_eq!(other.relay_args.as_deref(), Some("-listen {addr}"));
    }
}
