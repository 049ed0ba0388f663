//! What the program does: parse, check, then serve until a signal says otherwise.

use crate::boot::{Boot, Refusal};
use crate::cli::{self, Cli, Task};
use crate::config::layers::{self, Loaded, Variables};
use crate::config::{Config, report};
use crate::healthcheck;
use crate::observe::log::{Event, Key, Log, LogSettings};
use crate::os::privileges::Privileges;
use crate::os::systemd::Inherited;
use crate::server::{Relay, StartError};
use crate::{demo, probe, stdout, top};
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Settings that cannot be used.
const EXIT_CONFIG: u8 = 2;

/// Something failed while running.
const EXIT_FAILURE: u8 = 1;

/// Runs the program to its end.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match &cli.task {
        Task::Version => {
            stdout::line(cli::VERSION);
            ExitCode::SUCCESS
        }
        Task::CheckConfig => check_config(&cli),
        Task::Serve => prepare(&cli).unwrap_or_else(|exit| exit),
        Task::Healthcheck => match cli.load(&layers::variables()) {
            Ok(loaded) => in_runtime(healthcheck::run(loaded.config())),
            Err(refusal) => fail(EXIT_CONFIG, &refusal),
        },
        Task::Demo(args) => in_runtime(demo::run(args.clone())),
        Task::Probe(args) => in_runtime(probe::run(args.clone())),
        Task::Top(args) => {
            let settings = args
                .needs_settings()
                .then(|| cli.load(&layers::variables()));
            match settings.transpose() {
                Ok(loaded) => in_runtime(top::run(args.clone(), loaded)),
                Err(refusal) => fail(EXIT_CONFIG, &refusal),
            }
        }
    }
}

fn check_config(cli: &Cli) -> ExitCode {
    let variables = layers::variables();
    let loaded = match cli.load(&variables) {
        Ok(loaded) => loaded,
        Err(refusal) => return fail(EXIT_CONFIG, &refusal),
    };
    let refusals = Boot::new(&loaded, &variables, Privileges::current()).refusals();
    report::print(&loaded, &refusals);
    refusals
        .first()
        .map_or(ExitCode::SUCCESS, Refusal::exit_code)
}

/// Checks everything, then serves. `Err`: the relay did not start.
fn prepare(cli: &Cli) -> Result<ExitCode, ExitCode> {
    let variables = layers::variables();
    let refuse = |log: &Log, refusal: &Refusal| {
        refusal.log(log);
        log.flush();
        refusal.exit_code()
    };
    let loaded = cli
        .load(&variables)
        .map_err(|refusal| refuse(&Log::start(LogSettings::default()), &refusal))?;
    let log = Log::start(loaded.settings().log());
    let config = checked(&loaded, &variables, &log).map_err(|refusal| refuse(&log, &refusal))?;
    let inherited = Inherited::from_environment().map_err(|error| {
        log.write(
            Event::ListenerFailed,
            &[(Key::Addr, &"LISTEN_FDS"), (Key::Err, &error)],
        );
        log.flush();
        ExitCode::from(EXIT_FAILURE)
    })?;
    Ok(in_runtime(serve(config, log, inherited)))
}

fn checked(loaded: &Loaded, variables: &Variables, log: &Log) -> Result<Config, Refusal> {
    let boot = Boot::new(loaded, variables, Privileges::current());
    boot.run(log)?;
    Ok(boot.config())
}

/// The signals a relay listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next request to stop.
    async fn stop(&mut self, mut reload: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => reload(),
            }
        }
    }
}

async fn serve(config: Config, log: Log, inherited: Inherited) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(EXIT_FAILURE, &format!("cannot listen for signals: {error}")),
    };
    let relay = match Relay::start_with(config, log, inherited).await {
        Ok(relay) => relay,
        // The log has said it.
        Err(StartError::Bind { .. }) => return ExitCode::from(EXIT_FAILURE),
        Err(error) => return fail(EXIT_CONFIG, &format!("refusing to start: {error}")),
    };
    if let Some(line) = relay.admin_line() {
        // Its reader may be gone; then the token is lost, and a chosen one will do.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    signals.stop(|| relay.reload()).await;
    let hurry = relay.hurry();
    let impatience = async {
        loop {
            signals.stop(|| {}).await;
            hurry.send_modify(|presses| *presses += 1);
        }
    };
    tokio::select! {
        _ = relay.shutdown() => {}
        () = impatience => {}
    }
    ExitCode::SUCCESS
}

/// Tasks that run before a worker looks what has arrived meanwhile. While one peer sends without a pause there is always
/// a task to run, so this, times a turn, is what everybody else waits for; with tokio's 61 a flood raised their p99
/// thirty times. A look costs less than a microsecond, and finds more to do at once.
const EVENT_INTERVAL: u32 = 4;

fn in_runtime(task: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(task);
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

fn fail(code: u8, message: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("pyrycode-relay: {message}");
    ExitCode::from(code)
}
