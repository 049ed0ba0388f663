//! The program: parse, start, wait for a signal, stop.

use pyrycode_relay::cli::{self, Cli, Command};
use pyrycode_relay::server::{Relay, StartError};
use pyrycode_relay::{demo, probe};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Settings that cannot be used.
const EXIT_CONFIG: u8 = 2;

/// Something failed while running.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if cli.version {
        println!("{}", cli::VERSION);
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(run(cli));
            // Tasks of peers that did not finish in time go with the process.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(
            EXIT_FAILURE,
            &format!("cannot start worker threads: {error}"),
        ),
    }
}

async fn run(cli: Cli) -> ExitCode {
    match cli.command {
        None => {}
        Some(Command::Demo(args)) => return demo::run(args).await,
        Some(Command::Probe(args)) => return probe::run(args).await,
    }
    let config = match cli.config() {
        Ok(config) => config,
        Err(refusal) => return fail(EXIT_CONFIG, &format!("refusing to start: {refusal}")),
    };
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return fail(EXIT_FAILURE, "cannot listen for signals");
    };
    let relay = match Relay::start(config).await {
        Ok(relay) => relay,
        Err(error @ StartError::Bind { .. }) => return fail(EXIT_FAILURE, &error.to_string()),
        Err(error) => return fail(EXIT_CONFIG, &format!("refusing to start: {error}")),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    relay.shutdown().await;
    ExitCode::SUCCESS
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("pyrycode-relay: {message}");
    ExitCode::from(code)
}
