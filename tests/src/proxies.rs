//! Real proxies in front of a relay: haproxy and nginx, as they are installed here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};

use crate::log::Log;
use crate::transport::{Stream, Transport, tcp_from};
use crate::{eventually, free_port, soon};

/// The program `name`, where distributions put servers: that is not on everybody's `PATH`.
///
/// # Errors
/// It isn't installed.
pub fn server_program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut candidates = folders.map(|folder| folder.join(name));
    candidates
        .find(|candidate| candidate.is_file())
        .ok_or(format!("{name} is not installed"))
}

/// A file of `packaging/`, with each of the texts `changes` replaced by its successor.
///
/// # Panics
/// When one of the texts is not in the file (any more).
pub fn packaged(file: &str, changes: &[(&str, &str)]) -> String {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let text = std::fs::read_to_string(packaging.join(file));
    let mut text = text.unwrap_or_else(|error| panic!("packaging/{file}: {error}"));
    for (before, after) in changes {
        assert!(text.contains(before), "no {before:?} in packaging/{file}");
        text = text.replace(before, after);
    }
    text
}

/// A running proxy. It is killed when this is dropped.
pub struct Proxy {
    /// Killed with this.
    _child: Child,
    folder: TempDir,
    addr: SocketAddr,
    transport: Transport,
    log: Log,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the proxy's log ---\n{}", self.log.lines().join("\n"));
        }
    }
}

impl Proxy {
    /// Starts haproxy with the configuration that `configure` writes for the address to listen on.
    /// Clients reach it over `transport`.
    ///
    /// # Panics
    /// When it doesn't start.
    pub async fn haproxy(transport: Transport, configure: impl Fn(SocketAddr) -> String) -> Self {
        Self::start(transport, |folder, addr| {
            let socket = folder.join("stats");
            // With SO_REUSEPORT it would share a port with another test's haproxy.
            let global = format!(
                "global\n    noreuseport\n    stats socket {}\n",
                socket.display()
            );
            let file = folder.join("haproxy.cfg");
            std::fs::write(&file, global + &configure(addr)).expect("the folder can be written");
            let mut command = Command::new(server_program("haproxy").expect("it is installed"));
            command.arg("-db").arg("-f").arg(file);
            command
        })
        .await
    }

    /// Starts nginx with what `configure` writes into its `http` section for the address to listen
    /// on. Clients reach it over `transport`.
    ///
    /// # Panics
    /// When it doesn't start.
    pub async fn nginx(transport: Transport, configure: impl Fn(SocketAddr) -> String) -> Self {
        Self::start(transport, |folder, addr| {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {kind};\n"));
            // A single process, which ends when it is killed.
            let text = format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr info;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{\naccess_log off;\n{}{}}}\n",
                temporary.concat(),
                configure(addr)
            );
            let file = folder.join("nginx.conf");
            std::fs::write(&file, text).expect("the folder can be written");
            let mut command = Command::new(server_program("nginx").expect("it is installed"));
            command
                .args(["-e", "stderr", "-p"])
                .arg(folder)
                .arg("-c")
                .arg(file);
            command
        })
        .await
    }

    async fn start(transport: Transport, command: impl Fn(&Path, SocketAddr) -> Command) -> Self {
        for _ in 0..5 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let addr = SocketAddr::from(([127, 0, 0, 1], free_port(Ipv4Addr::LOCALHOST)));
            let mut command = command(folder.path(), addr);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            let mut child = command
                .kill_on_drop(true)
                .spawn()
                .expect("it can be executed");
            let log = Log::collect(child.stderr.take().expect("stderr is piped"));
            let serves = eventually("the proxy to serve", || {
                let ended = child
                    .try_wait()
                    .expect("the child can be waited for")
                    .is_some();
                async move {
                    match ended {
                        true => Some(false),
                        false => TcpStream::connect(addr).await.ok().map(|_| true),
                    }
                }
            })
            .await;
            if serves {
                return Self {
                    _child: child,
                    folder,
                    addr,
                    transport,
                    log,
                };
            }
            // Another process may have taken the port between our look and the proxy's bind.
            let log = log.all_lines().await.join("\n");
            let is_taken = log.contains("cannot bind") || log.contains("Address already in use");
            assert!(is_taken, "the proxy didn't start:\n{log}");
        }
        panic!("found no free port in five attempts");
    }

    /// A TCP connection to it from `source`, and nothing on it yet.
    pub async fn tcp_from(&self, source: Ipv4Addr) -> TcpStream {
        let tcp = soon("a TCP connection", tcp_from(source, self.addr)).await;
        tcp.expect("the proxy accepts")
    }

    /// A connection to it from `source`, ready for a request.
    pub async fn connect_from(&self, source: Ipv4Addr) -> Stream {
        self.transport.over(self.tcp_from(source).await).await
    }

    /// What haproxy thinks of the server called `name`, as `(status, check_status)`: of its health
    /// checks, `("UP", "L7OK")` is what one hopes for.
    pub async fn server_state(&self, name: &str) -> (String, String) {
        // It may serve clients a moment before it answers there.
        let path = self.folder.path().join("stats");
        let connect = || async { UnixStream::connect(&path).await.ok() };
        let mut socket = eventually("haproxy's statistics socket", connect).await;
        let mut csv = String::new();
        soon("haproxy's statistics", async {
            socket
                .write_all(b"show stat\n")
                .await
                .expect("the question is sent");
            socket
                .read_to_string(&mut csv)
                .await
                .expect("the answer is read");
        })
        .await;
        let mut lines = csv
            .trim_start_matches("# ")
            .lines()
            .map(|line| line.split(','));
        let names: Vec<&str> = lines.next().expect("a line of names").collect();
        let column = |wanted| names.iter().position(|name| *name == wanted).expect(wanted);
        let (server, status, check) = (column("svname"), column("status"), column("check_status"));
        let rows = lines.map(|row| row.collect::<Vec<_>>());
        let row = rows.into_iter().find(|row| row.get(server) == Some(&name));
        let row = row.unwrap_or_else(|| panic!("no server {name} in:\n{csv}"));
        (row[status].to_owned(), row[check].to_owned())
    }
}
