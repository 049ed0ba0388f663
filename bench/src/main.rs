//! What the relay costs. Run it on an otherwise idle Linux machine with two cores or more:
//!
//! ```text
//! cargo build --release && cargo run --release -p relay-bench
//! ```
//!
//! The relay (a process of its own) is kept on core 0, this program on core 1. Processor time is read from
//! the kernel's accounting of the relay's threads, so what else runs on the machine disturbs throughput
//! more than it disturbs these figures.

mod accepts;
mod dial;
mod floor;
mod frames;
mod idle;
mod machine;
mod poll;
mod reclaim;
mod report;
mod tls;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;

use frames::{Cost, Windows};
use report::{Row, median};

/// What the relay costs, beside a bare TCP forwarder in the same run
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// The relay's program [default: pyrycode-relay next to this one]
    #[arg(long, value_name = "PATH")]
    relay: Option<PathBuf>,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Every figure this many times
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Once, briefly and with fewer connections: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    #[command(subcommand)]
    floor: Option<Floor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Processor time per frame
    Frames,
    /// Memory per connection
    Idle,
    /// Whole lives of connections
    Accepts,
    /// A crash of all daemons at once
    Reclaim,
    /// Memory and handshakes of TLS connections
    Tls,
}

#[derive(Debug, Subcommand)]
enum Floor {
    /// Forward bytes from one address to another (what the relay is compared with)
    #[command(hide = true)]
    Floor {
        listen: SocketAddr,
        dial: SocketAddr,
    },
}

/// How much of everything.
struct Scale {
    repetitions: u32,
    windows: Windows,
    idle: idle::Counts,
    lives: Duration,
    crowd: reclaim::Crowd,
}

impl Scale {
    fn of(args: &Args) -> Self {
        let ms = Duration::from_millis;
        if args.quick {
            return Self {
                repetitions: 1,
                windows: Windows {
                    warm_up: ms(50),
                    measure: ms(200),
                },
                idle: idle::Counts {
                    few: 160,
                    many: 480,
                },
                lives: ms(200),
                crowd: reclaim::Crowd {
                    servers: 4,
                    phones: 8,
                },
            };
        }
        Self {
            repetitions: args.repetitions,
            windows: Windows {
                warm_up: ms(500),
                measure: ms(1500),
            },
            idle: idle::Counts {
                few: 2_500,
                many: 10_000,
            },
            lives: ms(2000),
            crowd: reclaim::Crowd {
                servers: 50,
                phones: 8,
            },
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.floor {
        Some(Floor::Floor { listen, dial }) => floor::run(listen, dial),
        None => bench(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> io::Result<()> {
    let relay = match &args.relay {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("pyrycode-relay"),
    };
    if !relay.is_file() {
        let text = format!(
            "no program at {}; build it, or give --relay PATH",
            relay.display()
        );
        return Err(io::Error::other(text));
    }
    let scale = Scale::of(args);
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    machine::pin(machine::GENERATOR_CORE)?;
    println!("{}", report::head());
    let mut rows = Vec::new();
    let mut show = |row: Row| {
        println!("{}", row.line());
        rows.push(row.json());
    };
    if wanted(Part::Frames) {
        // Published for the Go relay, in µs per frame: the range over several loads.
        for (bytes, name, low, high) in [
            (256, "256 B", 24.0, 37.0),
            (4096, "4 KiB", 82.0, 166.0),
            (65_536, "64 KiB", 760.0, 1060.0),
        ] {
            let [cost, rate] = per_frame(&relay, &scale, bytes, name)?;
            show(cost.reference(low, high));
            show(rate);
        }
    }
    if wanted(Part::Idle) {
        show(memory(&relay, &scale)?);
    }
    if wanted(Part::Accepts) {
        lives(&relay, &scale)?.into_iter().for_each(&mut show);
    }
    if wanted(Part::Reclaim) {
        reclaims(&relay, &scale)?.into_iter().for_each(&mut show);
    }
    if wanted(Part::Tls) {
        encrypted(&relay, &scale)?.into_iter().for_each(&mut show);
    }
    println!("\n* {REFERENCE}");
    if let Some(path) = &args.json {
        let all = json!({ "repetitions": scale.repetitions, "quick": args.quick, "reference": REFERENCE, "rows": rows });
        std::fs::write(path, format!("{all:#}\n"))?;
    }
    Ok(())
}

const REFERENCE: &str = "published figures, from another machine: an order of magnitude";

fn repeat<T>(scale: &Scale, mut run: impl FnMut() -> io::Result<T>) -> io::Result<Vec<T>> {
    (0..scale.repetitions).map(|_| run()).collect()
}

/// Relay and floor in turn, so that both meet the same machine.
fn per_frame(relay: &Path, scale: &Scale, bytes: usize, name: &str) -> io::Result<[Row; 2]> {
    let runs = repeat(scale, || {
        let server = machine::start_relay(relay)?;
        let ours = frames::relay(&server, bytes, scale.windows)?;
        drop(server);
        let back = TcpListener::bind("127.0.0.1:0")?;
        let server = frames::start_floor(&back)?;
        Ok((ours, frames::floor(&server, &back, bytes, scale.windows)?))
    })?;
    let column = |value: fn(&Cost) -> f64| -> (Vec<f64>, Vec<f64>) {
        runs.iter()
            .map(|(ours, floor)| (value(ours), value(floor)))
            .unzip()
    };
    let (cost, cost_floor) = column(|cost| cost.cpu_us);
    let (rate, rate_floor) = column(|cost| cost.frames_per_s);
    let (busy, _) = column(|cost| cost.server_busy);
    let (own, _) = column(|cost| cost.generator_busy);
    let cost = Row::new(format!("CPU per frame, {name}"), "µs", cost).floor(cost_floor);
    let rate = Row::new(format!("  frames per second, {name}"), "1/s", rate).floor(rate_floor);
    Ok([cost, rate.note(bottleneck(median(&busy), median(&own)))])
}

fn memory(relay: &Path, scale: &Scale) -> io::Result<Row> {
    let kib = |bytes: Vec<f64>| {
        bytes
            .iter()
            .map(|bytes| bytes / 1024.0)
            .collect::<Vec<f64>>()
    };
    let ours = repeat(scale, || idle::bytes_per_connection(relay, scale.idle))?;
    let floor = repeat(scale, || idle::floor_bytes_per_connection(scale.idle))?;
    let name = format!("RSS per idle connection, {}", scale.idle.many);
    Ok(Row::new(name, "KiB", kib(ours))
        .floor(kib(floor))
        .reference(38.4, 38.4))
}

fn lives(relay: &Path, scale: &Scale) -> io::Result<Vec<Row>> {
    let runs = repeat(scale, || {
        Ok((
            accepts::relay(relay, scale.lives)?,
            accepts::floor(scale.lives)?,
        ))
    })?;
    let column = |value: fn(&accepts::Lives) -> f64| -> (Vec<f64>, Vec<f64>) {
        runs.iter()
            .map(|(ours, floor)| (value(ours), value(floor)))
            .unzip()
    };
    let busy = median(&column(|run| run.server_busy).0);
    let own = median(&column(|run| run.generator_busy).0);
    let row = |name: &str, unit, (ours, floor)| Row::new(name, unit, ours).floor(floor);
    let rate = row(
        "accept to close, per second",
        "1/s",
        column(|run| run.per_s),
    );
    Ok(vec![
        rate.note(bottleneck(busy, own)),
        row("  server's CPU for each", "µs", column(|run| run.cpu_us)),
        row(
            "  generator's CPU for each",
            "µs",
            column(|run| run.generator_cpu_us),
        ),
    ])
}

fn reclaims(relay: &Path, scale: &Scale) -> io::Result<Vec<Row>> {
    let runs = repeat(scale, || {
        Ok((
            reclaim::run(relay, scale.crowd)?,
            reclaim::floor(scale.crowd)?,
        ))
    })?;
    let row = |percent: usize| {
        let at = |times: &Vec<f64>| times[(times.len() - 1) * percent / 100];
        let (ours, floor) = runs
            .iter()
            .map(|(ours, floor)| (at(ours), at(floor)))
            .unzip();
        let crowd = scale.crowd;
        let name = format!(
            "reclaim, {} x {} phones, p{percent}",
            crowd.servers, crowd.phones
        );
        Row::new(name, "ms", ours).floor(floor)
    };
    Ok(vec![row(50), row(99)])
}

fn encrypted(relay: &Path, scale: &Scale) -> io::Result<Vec<Row>> {
    let kib = repeat(scale, || {
        Ok(tls::bytes_per_connection(relay, scale.idle)? / 1024.0)
    })?;
    let name = format!("RSS per idle TLS connection, {}", scale.idle.many);
    let mut rows = vec![Row::new(name, "KiB", kib)];
    for (name, resume) in [("full", false), ("resumed", true)] {
        let runs = repeat(scale, || tls::handshakes(relay, scale.lives, resume))?;
        let column = |value: fn(&accepts::Lives) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        let busy = median(&column(|run| run.server_busy));
        let own = median(&column(|run| run.generator_busy));
        let rate = Row::new(
            format!("TLS handshakes per second, {name}"),
            "1/s",
            column(|run| run.per_s),
        );
        rows.push(rate.note(bottleneck(busy, own)));
        let cpu = column(|run| run.cpu_us);
        rows.push(Row::new("  server's CPU for each", "µs", cpu));
    }
    Ok(rows)
}

/// Says so when this program, and not the relay, was what limited a rate.
fn bottleneck(server_busy: f64, generator_busy: f64) -> Option<String> {
    let limited = generator_busy > 0.95 && server_busy < 0.95;
    limited.then(|| {
        let (server, own) = (server_busy * 100.0, generator_busy * 100.0);
        format!("limited by the generator: it was {own:.0} % busy, the server {server:.0} %")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_parse() {
        let args = Args::parse_from(["relay-bench", "--quick", "--only", "frames,tls"]);
        assert_eq!(args.only, [Part::Frames, Part::Tls]);
        assert_eq!(Scale::of(&args).repetitions, 1);
        let floor = Args::parse_from(["relay-bench", "floor", "127.0.0.1:1", "127.0.0.1:2"]);
        assert!(matches!(floor.floor, Some(Floor::Floor { .. })));
    }

    #[test]
    fn a_slow_generator_is_named() {
        assert!(bottleneck(0.5, 0.99).is_some_and(|text| text.contains("99 %")));
        assert!(bottleneck(0.99, 0.99).is_none());
        assert!(bottleneck(0.5, 0.5).is_none());
    }
}
