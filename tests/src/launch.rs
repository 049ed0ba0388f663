//! How the program is started: with which arguments, environment, listeners, and by whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::process::Command;

use crate::log::Record;
use crate::relay::Relay;
use crate::soon;
use crate::transport::{Transport, certificate};
use crate::vocabulary::complaint;

/// What [`Relay::start`] sets unless the test says otherwise: no limits on dials (every test dials
/// from one address), and no parking at boot (a phone without a daemon is turned away at once).
const DEFAULTS: [(&str, &str); 4] = [
    ("--connect-burst", "0"),
    ("--max-handshakes-per-ip", "0"),
    ("--rate-burst", "0"),
    ("--boot-park", "0s"),
];

/// Variables of the tests' environment, beside those that start with `PYRYCODE_RELAY_`, that the
/// program would understand.
const FOREIGN: [&str; 6] = [
    "FLY_APP_NAME",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
];

/// The flag of the metrics listener, which every relay gets unless the test gives it itself.
pub(crate) const METRICS: &str = "--metrics-listen";

/// A start of the program in preparation. Of the tests' own environment the program sees nothing
/// that it would take for a setting.
#[derive(Clone)]
pub struct Launch {
    through: Vec<String>,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    transport: Transport,
    certificate: bool,
    ip: Ipv4Addr,
    port: Option<u16>,
    listeners: Vec<&'static str>,
}

impl Launch {
    /// A start with `args`.
    pub fn new(args: &[&str]) -> Self {
        Self {
            through: Vec::new(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            environment: Vec::new(),
            transport: Transport::of_this_run(),
            certificate: true,
            ip: Ipv4Addr::LOCALHOST,
            port: None,
            listeners: Vec::new(),
        }
    }

    /// Further arguments, after the others.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Started by `wrapper`, a program and its arguments, which executes what it is given.
    pub fn through(mut self, wrapper: &[String]) -> Self {
        self.through = wrapper.to_vec();
        self
    }

    /// Listens on `ip` instead of 127.0.0.1 (the other listeners stay there).
    pub fn on(mut self, ip: Ipv4Addr) -> Self {
        self.ip = ip;
        self
    }

    /// Listens on this port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Listens on `port` instead of a free one.
    pub fn at(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Over `transport`, whatever this run of the tests uses.
    pub fn over(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Over TLS, with the certificate that `args` arrange for.
    pub fn over_tls_with_its_own_certificate(mut self) -> Self {
        self.certificate = false;
        self.over(Transport::Tls)
    }

    /// A further listener on a free port of 127.0.0.1, given by `flag`; see [`Relay::listener`].
    pub fn listener(mut self, flag: &'static str) -> Self {
        self.listeners.push(flag);
        self
    }

    /// With the harness's defaults for what the arguments don't say.
    pub(crate) fn with_defaults(mut self) -> Self {
        for (name, value) in DEFAULTS {
            if !self.args.iter().any(|arg| arg == name) {
                self.args.extend([name.to_owned(), value.to_owned()]);
            }
        }
        self
    }

    /// Starts it on free ports; returns when it serves.
    ///
    /// # Panics
    /// When it doesn't start.
    pub async fn start(self) -> Relay {
        for _ in 0..5 {
            match self.clone().spawn().serving().await {
                Ok(relay) => return relay,
                // Another process took a port between our look and the program's bind.
                Err(log) if log.contains("listener failed") => {}
                Err(log) => panic!("the relay didn't start with {:?}:\n{log}", self.args),
            }
        }
        panic!("found no free port in five attempts");
    }

    /// Starts it on free ports, without waiting.
    pub fn spawn(mut self) -> Relay {
        let port = self.port.unwrap_or_else(|| free_port(self.ip));
        let addr = SocketAddr::from((self.ip, port));
        if !self.args.iter().any(|arg| arg == METRICS) {
            self.listeners.push(METRICS);
        }
        let mut listeners = BTreeMap::new();
        for flag in std::mem::take(&mut self.listeners) {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port(Ipv4Addr::LOCALHOST)));
            self = self.args(&[flag, &address.to_string()]);
            listeners.insert(flag, address);
        }
        self = match self.transport {
            Transport::Plain => self.args(&["--insecure-listen", &addr.to_string()]),
            Transport::Tls => self.args(&["--https-listen", &addr.to_string()]),
        };
        if self.transport == Transport::Tls && self.certificate {
            self = self.with_certificate();
        }
        let child = self.command().stdout(Stdio::piped()).spawn();
        let child = child.expect("the program can be executed");
        Relay::new(child, addr, listeners, self.transport)
    }

    /// With the harness's certificate.
    pub fn with_certificate(self) -> Self {
        let [leaf, key] = ["leaf.pem", "leaf.key"].map(certificate);
        let [leaf, key] = [&leaf, &key].map(|path| path.to_str().expect("a path in UTF-8"));
        self.args(&["--tls-cert", leaf, "--tls-key", key])
    }

    /// Starts it with exactly the arguments given (no listener of the harness's choice), and waits
    /// for its end.
    ///
    /// # Panics
    /// When it goes on.
    pub async fn ended(self) -> Ended {
        let output = soon("the program to exit", self.command().output()).await;
        let output = output.expect("the program can be executed");
        let text = |bytes| String::from_utf8(bytes).expect("what it prints is text");
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn command(&self) -> Command {
        let mut words = self.through.iter().map(Into::into).collect::<Vec<_>>();
        words.push(program().into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.args);
        forget_settings(&mut command);
        command
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// Keeps from the program everything in the tests' own environment that it would take for a setting.
pub(crate) fn forget_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PYRYCODE_RELAY_") || FOREIGN.contains(&&*text) {
            command.env_remove(name);
        }
    }
}

/// A run of the program that came to its end.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed on standard output.
    pub stdout: String,
    /// What it printed on standard error.
    pub stderr: String,
}

impl Ended {
    /// The lines on standard error, every one of which must be one that the log may have.
    ///
    /// # Panics
    /// When one isn't.
    pub fn records(&self) -> Vec<Record> {
        let read = |line| {
            let complaint = complaint(line);
            assert!(complaint.is_none(), "{complaint:?}: {self:?}");
            Record::parse(line).unwrap_or_else(|| panic!("no log line: {self:?}"))
        };
        self.stderr.lines().map(read).collect()
    }

    /// That it refused to go on: with the exit code `code` and, on standard error, one line of
    /// level error, whose event starts with `msg`; returns that line. Nothing was printed on standard
    /// output.
    ///
    /// # Panics
    /// When it didn't.
    pub fn refusal(&self, code: i32, msg: &str) -> Record {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let mut errors = self.records();
        errors.retain(|record| record.level == "ERROR");
        let [record] = &errors[..] else {
            panic!("expected one error: {self:?}")
        };
        assert!(record.msg.starts_with(msg), "{self:?}");
        record.clone()
    }
}

/// The program: `PYRYCODE_RELAY_BIN`, else the one beside this test's own executable.
pub(crate) fn program() -> PathBuf {
    let path = match std::env::var_os("PYRYCODE_RELAY_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            // target/<profile>/deps/<test> -> target/<profile>/pyrycode-relay
            let test = std::env::current_exe().expect("a test knows its own path");
            let profile = test.ancestors().nth(2).expect("it lies in <profile>/deps");
            profile.join("pyrycode-relay")
        }
    };
    assert!(
        path.is_file(),
        "no program at {}: run scripts/test, or `cargo build -p pyrycode-relay` first \
         (PYRYCODE_RELAY_BIN names another one)",
        path.display()
    );
    path
}

/// Ports that this process was given. A relay that listens a moment later than it was told to must not find another of
/// the same test there, who would answer in its place.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of `ip` that nobody listens on, never the same one twice. Below the kernel's range for outgoing connections,
/// so that no connection of another test takes it meanwhile.
pub fn free_port(ip: Ipv4Addr) -> u16 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let mut seed = now.subsec_nanos() ^ std::process::id().wrapping_mul(0x9e37_79b9);
    loop {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = 10_000 + (seed >> 16) as u16 % 22_000;
        let is_new = || GIVEN.lock().expect("nobody panics with it").insert(port);
        if TcpListener::bind((ip, port)).is_ok() && is_new() {
            return port;
        }
    }
}

/// A free port of 127.0.0.1 that stays free as long as this is held.
pub fn held_port() -> TcpListener {
    loop {
        let port = free_port(Ipv4Addr::LOCALHOST);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
}
