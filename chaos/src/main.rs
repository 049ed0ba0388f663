//! Chaos: the built relay, real daemons and phones in processes of their own, and everything that they stand on failing.
//!
//! `relay-chaos` plays the scenarios, `relay-chaos soak` a mixed load for as long as you like. This program is
//! executed once more for each daemon and phone, and to start a relay under limits.

mod actor;
mod book;
mod crowd;
mod daemon;
mod group;
mod health;
mod household;
mod launch;
mod peer;
mod phone;
mod proxy;
mod relay;
mod report;
mod run;
mod scenarios;
mod settled;
mod soak;
mod stage;
mod vandal;
mod world;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The built relay between real processes, while what it stands on fails
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Args,
}

#[derive(Subcommand)]
enum Command {
    /// A mixed load for a long time, with its memory, descriptors and counts watched
    Soak(soak::Args),
    /// Be a daemon
    #[command(hide = true)]
    Daemon(daemon::Args),
    /// Be a phone
    #[command(hide = true)]
    Phone(phone::Args),
    /// Become another program, under limits
    #[command(hide = true)]
    Launch {
        #[command(flatten)]
        launch: launch::Launch,
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Launch { launch, program }) = &cli.command {
        let broken = launch.exec(program);
        eprintln!("cannot start {}: {broken}", program[0]);
        return ExitCode::FAILURE;
    }
    // A process that dies with its parent dies with the thread that started it: there is only this one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let fine = runtime.block_on(async {
        match cli.command {
            Some(Command::Daemon(args)) => daemon::run(args).await,
            Some(Command::Phone(args)) => phone::run(args).await,
            Some(Command::Soak(args)) => return soak::run(args).await,
            Some(Command::Launch { .. }) => {}
            None => return run::all(cli.run).await,
        }
        true
    });
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
