//! Starting a program under limits: this program, executed once more, sets them on itself and then becomes the other.
//!
//! That needs no `prlimit`, `cgexec` or `ip netns exec`, nothing unsafe, and the program dies with us.

use crate::book::{Broken, Result};
use rustix::process::{Pid, Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::{Child, Command};

/// For what takes no time unless something is wrong, on a machine that does other things as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Under what a program runs.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(crate) struct Launch {
    /// Descriptors, soft and hard
    #[arg(long)]
    pub(crate) nofile: Option<u64>,
    /// A control group: its directory
    #[arg(long)]
    pub(crate) group: Option<PathBuf>,
    /// A network namespace, by the name that `ip netns` gave it
    #[arg(long)]
    pub(crate) netns: Option<String>,
}

impl Launch {
    fn args(&self) -> Vec<String> {
        let nofile = self.nofile.map(|n| format!("--nofile={n}"));
        let group = self.group.iter();
        let group = group.map(|group| format!("--group={}", group.display()));
        let netns = self.netns.iter().map(|name| format!("--netns={name}"));
        nofile.into_iter().chain(group).chain(netns).collect()
    }

    /// Becomes `program`; returns only if that fails.
    pub(crate) fn exec(&self, program: &[String]) -> Broken {
        match self.prepare() {
            Ok(()) => std::process::Command::new(&program[0])
                .args(&program[1..])
                .exec()
                .into(),
            Err(broken) => broken,
        }
    }

    fn prepare(&self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if let Some(group) = &self.group {
            std::fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
        }
        if let Some(name) = &self.netns {
            let file = File::open(format!("/run/netns/{name}"))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        if self.nofile.is_some() {
            let limit = Rlimit {
                current: self.nofile,
                maximum: self.nofile,
            };
            setrlimit(Resource::Nofile, limit)?;
        }
        Ok(())
    }
}

/// This program, also if its file is another one by now.
pub(crate) const MYSELF: &str = "/proc/self/exe";

/// `path` under `launch`, with these arguments.
pub(crate) fn program(launch: &Launch, path: &str, args: &[String]) -> Command {
    let mut command = Command::new(MYSELF);
    command.arg("launch").args(launch.args()).arg("--");
    command.arg(path).args(args).kill_on_drop(true);
    command
}

/// The id of a process that was just started.
///
/// # Errors
/// If it has been waited for.
pub(crate) fn pid(child: &Child) -> Result<Pid> {
    let id = child.id().and_then(|id| Pid::from_raw(id as i32));
    id.ok_or_else(|| Broken("a process without a number".into()))
}
