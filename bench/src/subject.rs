//! The relay under measurement: our program, another one, or one that runs already.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use crate::machine::{Process, Server, free_addr};

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// This project's program, with its own flags.
    Ours(PathBuf),
    /// Another program; `{addr}` in its arguments stands for where it must listen.
    Other(PathBuf, Vec<String>),
    /// A relay that runs already. Without its process nothing is known of what it uses.
    Running(SocketAddr, Option<u32>),
}

/// What a part of the bench cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Somebody who listens.
    Address,
    /// The relay's process: its processor time and memory.
    Process,
    /// To start and kill it.
    Program,
    /// This project's flags, or files that are built with it.
    Ours,
}

impl Subject {
    /// From the command line: `--relay` with `--relay-args`, or `--url` with `--pid`.
    pub(crate) fn new(
        relay: Option<PathBuf>,
        args: Option<&str>,
        url: Option<&str>,
        pid: Option<u32>,
    ) -> io::Result<Self> {
        if let Some(url) = url {
            return Ok(Self::Running(address(url)?, pid));
        }
        let program = match relay {
            Some(path) => path,
            None => std::env::current_exe()?.with_file_name("pyrycode-relay"),
        };
        if !program.is_file() {
            let path = program.display();
            let text = format!("no program at {path}; build it, or give --relay PATH or --url URL");
            return Err(io::Error::other(text));
        }
        let Some(args) = args else {
            return Ok(Self::Ours(program));
        };
        if !args.contains(ADDR) {
            let text = format!("--relay-args must say where {ADDR} goes, the address to listen on");
            return Err(io::Error::other(text));
        }
        let args = args.split_whitespace().map(str::to_owned).collect();
        Ok(Self::Other(program, args))
    }

    /// For the report.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Ours(program) => program.display().to_string(),
            Self::Other(program, args) => format!("{} {}", program.display(), args.join(" ")),
            Self::Running(addr, Some(pid)) => format!("ws://{addr}, process {pid}"),
            Self::Running(addr, None) => format!("ws://{addr}"),
        }
    }

    /// Why it cannot be measured by a part that needs this.
    pub(crate) fn lacks(&self, needs: Needs) -> Option<&'static str> {
        match (self, needs) {
            (Self::Ours(_), _) | (_, Needs::Address) => None,
            (Self::Other(..), Needs::Process | Needs::Program) => None,
            (Self::Running(_, Some(_)), Needs::Process) => None,
            (Self::Running(_, None), Needs::Process) => {
                Some("its processor time and memory are not known; give --pid")
            }
            (Self::Running(..), Needs::Program) => Some("the bench must start and kill the relay"),
            (_, Needs::Ours) => Some("only for this project's own program"),
        }
    }

    /// A fresh relay on plain HTTP with everything out of the way that protects it from a single noisy
    /// address; `own` are further flags of ours. One that runs already stays as it is.
    pub(crate) fn start(&self, own: &[&str]) -> io::Result<Server> {
        self.start_at(free_addr()?, own)
    }

    /// The same at this address.
    pub(crate) fn start_at(&self, addr: SocketAddr, own: &[&str]) -> io::Result<Server> {
        match self {
            Self::Ours(_) => {
                let listen = format!("--insecure-listen={addr}");
                self.start_ours(addr, &[own, &[&listen]].concat())
            }
            Self::Other(program, args) => {
                let place = |arg: &String| arg.replace(ADDR, &addr.to_string());
                Process::serve(program, &args.iter().map(place).collect::<Vec<_>>(), addr)
            }
            Self::Running(addr, pid) => Ok(Server::running(*addr, *pid)),
        }
    }

    /// Our program with a public listener of its own on `addr`.
    pub(crate) fn start_ours(&self, addr: SocketAddr, own: &[&str]) -> io::Result<Server> {
        let Self::Ours(program) = self else {
            return Err(io::Error::other("only for this project's own program"));
        };
        let unlimited = [
            "--metrics-listen=",
            "--max-connections=19000",
            "--max-connections-per-ip=0",
            "--max-handshakes-per-ip=0",
            "--connect-burst=0",
            "--rate-burst=0",
            "--redial-burst=0",
        ];
        // A part that looks at the relay says where.
        let given = |flag: &&&str| {
            let name = flag.split('=').next().unwrap_or(flag);
            own.iter().any(|arg| arg.split('=').next() == Some(name))
        };
        let unlimited = unlimited.iter().filter(|flag| !given(flag));
        let args: Vec<String> = own
            .iter()
            .chain(unlimited)
            .map(|arg| (*arg).to_owned())
            .collect();
        Process::serve(program, &args, addr)
    }
}

/// Stands for the address in `--relay-args`.
const ADDR: &str = "{addr}";

/// Of the relay that this URL names.
pub(crate) fn address(url: &str) -> io::Result<SocketAddr> {
    let wrong = || io::Error::other(format!("{url} is no relay's address; write ws://HOST:PORT"));
    let host = url.strip_prefix("ws://").ok_or_else(wrong)?;
    let host = host.trim_end_matches('/');
    let mut found = host.to_socket_addrs().map_err(|_| wrong())?;
    found.find(SocketAddr::is_ipv4).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_relay_is_measured_as_far_as_it_is_known() {
        let relay = Subject::new(None, None, Some("ws://127.0.0.1:80/"), None);
        let relay = relay.expect("an address");
        assert_eq!(relay.lacks(Needs::Address), None);
        for needs in [Needs::Process, Needs::Program, Needs::Ours] {
            assert!(relay.lacks(needs).is_some(), "{needs:?}");
        }
        let known = Subject::Running(([127, 0, 0, 1], 80).into(), Some(1));
        assert_eq!(known.lacks(Needs::Process), None);
        for wrong in [
            "http://127.0.0.1:80",
            "ws://127.0.0.1",
            "ws://",
            "127.0.0.1:80",
        ] {
            assert!(
                Subject::new(None, None, Some(wrong), None).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn another_program_must_be_told_where_to_listen() {
        let start = |args| Subject::new(Some("/bin/true".into()), Some(args), None, None);
        assert!(start("-listen 127.0.0.1:1").is_err());
        let other = start("-listen {addr}").expect("complete");
        assert_eq!(other.lacks(Needs::Program), None);
        assert!(other.lacks(Needs::Ours).is_some());
        assert!(other.describe().ends_with("-listen {addr}"));
        let missing = Subject::new(Some("/no/such/program".into()), None, None, None);
        assert!(missing.is_err_and(|error| error.to_string().contains("no program at")));
    }
}
