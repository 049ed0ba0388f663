//! Plays the scenarios, several at a time, and prints a line for each.

use crate::book::Result;
use crate::scenarios::{ALL, Outcome, Scenario};
use crate::vandal::Vandalism;
use crate::world::World;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What to play.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The built relay
    #[arg(long, default_value = "target/debug/pyrycode-relay")]
    pub(crate) relay: PathBuf,
    /// Only scenarios whose name contains this; may be repeated
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// Scenarios at a time: mostly they wait
    #[arg(long, default_value_t = 6)]
    pub(crate) jobs: usize,
    /// Decides what the scenario `mix` does; otherwise each run does something else
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Do this to messages on their way, and succeed only if every scenario notices
    #[arg(long = "break")]
    pub(crate) vandalism: Option<Vandalism>,
    /// List the scenarios
    #[arg(long)]
    pub(crate) list: bool,
}

/// Plays them; whether every promise was kept (or, if something is broken on purpose, whether that was noticed).
pub(crate) async fn all(args: Args) -> bool {
    let start = Instant::now();
    let wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part));
    let chosen: Vec<_> = ALL
        .iter()
        .filter(|scenario| wanted(scenario.name))
        .collect();
    if args.list {
        chosen
            .iter()
            .for_each(|scenario| println!("{:<16} {}", scenario.name, scenario.about));
        return true;
    }
    if !args.relay.is_file() {
        println!(
            "no relay at {}: build it with `cargo build -p pyrycode-relay`",
            args.relay.display()
        );
        return false;
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let Ok(dir) = tempfile::Builder::new().prefix("relay-chaos-").tempdir() else {
        println!("no directory for logs");
        return false;
    };
    let world = World {
        dir: dir.path().to_owned(),
        relay: args.relay,
        vandalism: args.vandalism,
        seed: args.seed.unwrap_or(now.as_secs()),
    };
    let vandalism = world.vandalism;
    let (kept, broken, skipped) = tell(play(chosen, args.jobs, &world)).await;
    let seconds = start.elapsed().as_secs_f64();
    println!("{kept} kept, {broken} broken, {skipped} skipped, in {seconds:.0} s");
    match vandalism {
        None if broken > 0 => {
            println!("logs: {}", dir.keep().display());
            false
        }
        None => true,
        Some(_) => kept == 0 && broken > 0,
    }
}

/// A scenario that is over: its name, how long it took, what came of it.
type Played = (&'static str, Duration, Result<Outcome>);

/// Plays some at a time.
fn play(chosen: Vec<&'static Scenario>, jobs: usize, world: &World) -> JoinSet<Played> {
    let jobs = Arc::new(Semaphore::new(jobs.max(1)));
    let mut plays = JoinSet::new();
    for scenario in chosen {
        let (jobs, mut world) = (jobs.clone(), world.clone());
        world.dir.push(scenario.name);
        plays.spawn(async move {
            let _job = jobs.acquire_owned().await;
            let start = Instant::now();
            let outcome = match std::fs::create_dir(&world.dir) {
                Ok(()) => (scenario.play)(world).await,
                Err(error) => Err(error.into()),
            };
            (scenario.name, start.elapsed(), outcome)
        });
    }
    plays
}

/// Prints each when it is over, and counts those that were kept, broken, skipped.
async fn tell(mut plays: JoinSet<Played>) -> (u32, u32, u32) {
    let (mut kept, mut broken, mut skipped) = (0, 0, 0);
    while let Some(play) = plays.join_next().await {
        let Ok((name, time, outcome)) = play else {
            println!("FAILED   a scenario panicked");
            broken += 1;
            continue;
        };
        let (verdict, what) = match outcome {
            Ok(Outcome::Kept(figures)) => {
                kept += 1;
                ("kept", figures)
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                ("SKIPPED", why)
            }
            Err(what) => {
                broken += 1;
                ("BROKEN", what.to_string())
            }
        };
        println!(
            "{verdict:<8} {name:<16} {:>6.1} s  {what}",
            time.as_secs_f64()
        );
    }
    (kept, broken, skipped)
}
