//! The command line.

use crate::boot::Refusal;
use crate::config::layers::{self, Loaded, Variables};
use crate::config::settings::Settings;
use crate::{demo, probe, top};
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// The program's version: stamped at build time, `dev` otherwise.
pub const VERSION: &str = match option_env!("PYRYCODE_RELAY_VERSION") {
    Some(version) => version,
    None => "dev",
};

/// Said at the end of `--help`.
const LAYERS: &str = "Every option can also be set in the environment (PYRYCODE_RELAY_GRACE for --grace) or in the \
file of --config (grace = \"30s\"). A flag wins over the environment, the environment over the file. \
`pyrycode-relay check-config` shows what is in force and where it comes from.";

/// A relay that pairs phones with a user's daemon by server-id and moves opaque frames between them.
#[derive(Debug, Parser)]
// Of an option that is given twice the last one counts, as in the Go relay; a list takes all of them.
#[command(name = "pyrycode-relay", args_conflicts_with_subcommands = true, args_override_self = true, after_help = LAYERS)]
struct Arguments {
    /// Print the version and exit
    #[arg(long)]
    version: bool,
    #[command(flatten)]
    given: Given,
    /// What to do instead of serving.
    #[command(subcommand)]
    command: Option<Subcommands>,
}

/// Settings and the file with more of them.
#[derive(Debug, Args)]
struct Given {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Check the settings, and print what is in force and where each value comes from
    CheckConfig(Given),
    /// Ask the relay that runs with these settings whether it is ready; exit 0 if it is
    Healthcheck(Given),
    /// Show a relay at work: a daemon, three phones, a crash and a comeback, in under 20 seconds
    Demo(demo::Args),
    /// Check a running relay from the outside, as a daemon and as a phone
    Probe(probe::Args),
    /// Show what a relay is doing: the relay that runs with these settings, or the one at URL
    ///
    /// It is asked on its metrics listener. On a terminal the figures, slots and phones are drawn and kept up to date;
    /// `?` names the keys, `NO_COLOR` turns colours off. Where standard output is no terminal, a snapshot in plain text
    /// is printed each --interval. Exit codes: 0, 1 when the relay cannot be reached, 2 when it is not clear which one.
    Top(Top),
}

/// The settings say which relay, unless its address is given.
#[derive(Debug, Args)]
struct Top {
    #[command(flatten)]
    args: top::Args,
    #[command(flatten)]
    given: Given,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Task {
    /// Print the version.
    Version,
    /// Serve.
    Serve,
    /// Check and print the settings.
    CheckConfig,
    /// Ask a running relay.
    Healthcheck,
    /// Play the demo.
    Demo(demo::Args),
    /// Probe a relay.
    Probe(probe::Args),
    /// Show what a relay is doing.
    Top(top::Args),
}

/// A command line that has been understood.
pub struct Cli {
    /// What to do.
    pub task: Task,
    /// Where the settings were given.
    flags: ArgMatches,
    config: Option<PathBuf>,
}

impl Cli {
    /// Puts the settings of all layers together.
    ///
    /// # Errors
    /// The first mistake in the environment or in the configuration file.
    pub(crate) fn load(&self, variables: &Variables) -> Result<Loaded, Refusal> {
        layers::load(&self.flags, self.config.as_deref(), variables)
    }
}

/// The whole command line, for its manual and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the command line. `-name` is read as `--name`, as operators of Go programs write it.
///
/// # Errors
/// What clap says, usage included.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args = args.into_iter().enumerate().map(|(i, arg)| {
        if i > 0 && is_single_dash_long(&arg) {
            let mut long = OsString::from("-");
            long.push(arg);
            return long;
        }
        arg
    });
    let matches = command().try_get_matches_from(args)?;
    let args = Arguments::from_arg_matches(&matches)?;
    let inner = matches.subcommand().map(|(_, matches)| matches.clone());
    let (task, flags, config) = match args.command {
        _ if args.version => (Task::Version, matches, None),
        None => (Task::Serve, matches, args.given.config),
        Some(Subcommands::CheckConfig(given)) => {
            (Task::CheckConfig, inner.unwrap_or(matches), given.config)
        }
        Some(Subcommands::Healthcheck(given)) => {
            (Task::Healthcheck, inner.unwrap_or(matches), given.config)
        }
        Some(Subcommands::Demo(args)) => (Task::Demo(args), matches, None),
        Some(Subcommands::Probe(args)) => (Task::Probe(args), matches, None),
        Some(Subcommands::Top(Top { args, given })) => {
            (Task::Top(args), inner.unwrap_or(matches), given.config)
        }
    };
    Ok(Cli {
        task,
        flags,
        config,
    })
}

fn is_single_dash_long(arg: &OsString) -> bool {
    let bytes = arg.as_encoded_bytes();
    bytes.len() > 2 && bytes[0] == b'-' && bytes[1].is_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Cli {
        let args = std::iter::once("pyrycode-relay").chain(args.iter().copied());
        parse(args.map(OsString::from)).unwrap()
    }

    #[test]
    fn all_three_spellings_mean_the_same() {
        for args in [
            &["--grace", "2s", "--self-signed"][..],
            &["--grace=2s", "--self-signed=true"],
            &["-grace=2s", "-self-signed"],
            &["check-config", "-grace", "2s", "--self-signed"],
        ] {
            let config = parsed(args).load(&Variables::new()).unwrap().config();
            assert_eq!(config.policy.grace_ms, 2_000, "{args:?}");
            assert!(config.public.is_some(), "{args:?}");
        }
    }

    #[test]
    fn of_options_that_are_repeated_the_last_one_counts_and_lists_grow() {
        let twice = "--grace=2s --grace=3s --self-signed --self-signed=false \
            --trust-proxy=10.0.0.0/8,::1 --trust-proxy=192.0.2.1";
        let twice: Vec<_> = twice.split_whitespace().collect();
        for command in [&[][..], &["check-config"], &["healthcheck"], &["top"]] {
            let config = parsed(&[command, &twice].concat()).load(&Variables::new());
            let config = config.unwrap().config();
            assert_eq!(config.policy.grace_ms, 3_000, "{command:?}");
            assert!(config.public.is_none(), "{command:?}");
            assert_eq!(config.proxies.trusted.len(), 3, "{command:?}");
        }
        let version = parsed(&["--version", "-version"]);
        assert!(matches!(version.task, Task::Version));
        let probe = ["probe", "--size=1", "--size=2", "ws://h"];
        assert!(matches!(parsed(&probe).task, Task::Probe(_)));
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }
}
