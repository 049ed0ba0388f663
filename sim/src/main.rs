//! Runs seeds: many of them, or one of which it prints everything.

use clap::Parser;
use relay_sim::{Marks, Outcome, run};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The relay and its clients under a simulated network and a virtual clock
#[derive(Parser)]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this one only, and print its history
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Threads; the default is one for each processor
    #[arg(long)]
    threads: Option<usize>,
}

/// So many seeds reach everything that is worth simulating.
const ENOUGH: u64 = 1_000;

#[derive(Default)]
struct Sums {
    failed: Vec<(u64, Vec<String>)>,
    slowest: Duration,
    slowest_seed: u64,
    time: Duration,
    frames: u64,
    marks: Marks,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        return one(seed);
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(processors).max(1);
    let start = Instant::now();
    let next = AtomicU64::new(args.from);
    let end = args.from.saturating_add(args.seeds);
    let sums = Mutex::new(Sums::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run(seed, None);
                    let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                    sums.add(seed, outcome);
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} seeds in {:.1} s: {:.0} simulated hours, {} frames; slowest recovery {:.1} s (seed {}); {} failed",
        args.seeds,
        start.elapsed().as_secs_f64(),
        sums.time.as_secs_f64() / 3600.0,
        sums.frames,
        sums.slowest.as_secs_f64(),
        sums.slowest_seed,
        sums.failed.len(),
    );
    for (mark, count) in &sums.marks {
        println!("{count:>9}  {mark}");
    }
    let missed = sums.marks.values().any(|count| *count == 0);
    if missed && args.seeds >= ENOUGH {
        println!("failed: so many seeds have to reach all of these");
    }
    match sums.failed.is_empty() && !(missed && args.seeds >= ENOUGH) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl Sums {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        if outcome.recovery > self.slowest {
            (self.slowest, self.slowest_seed) = (outcome.recovery, seed);
        }
        self.time += outcome.time;
        self.frames += outcome.frames;
        for (mark, count) in outcome.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        if !outcome.violations.is_empty() {
            println!("seed {seed} failed:");
            outcome
                .violations
                .iter()
                .take(5)
                .for_each(|what| println!("  {what}"));
            println!("  replay: cargo run -p relay-sim -- --seed {seed}");
            self.failed.push((seed, outcome.violations));
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let outcome = run(seed, None);
    print!("{}", outcome.history);
    match outcome.violations.as_slice() {
        [] => {
            println!("seed {seed}: every check holds");
            ExitCode::SUCCESS
        }
        violations => {
            println!("seed {seed} failed:");
            violations.iter().for_each(|what| println!("  {what}"));
            ExitCode::FAILURE
        }
    }
}
