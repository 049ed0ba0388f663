//! A real certificate authority: Let's Encrypt's test server `pebble`, with a name server that finds
//! every host on this machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::http::exchange;
use crate::transport::{Stream, Trust, certificate, tls};
use crate::{eventually, free_port, skipped, soon};

/// The programs of the Debian package `pebble`.
const PROGRAMS: [&str; 2] = ["pebble", "pebble-challtestsrv"];

/// Percent of good nonces that it refuses, as CAs with several servers do now and then.
const REFUSED_NONCES: &str = "15";

/// How the authority is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where it looks for TLS-ALPN-01.
    pub tls_port: u16,
    /// Where it looks for HTTP-01.
    pub http_port: u16,
    /// Where its own directory is; 0: on any free port.
    pub port: u16,
    /// How long its certificates are valid.
    pub validity_seconds: u32,
}

impl Settings {
    /// An authority that comes to look at these ports, and issues for 90 days.
    pub fn new(tls_port: u16, http_port: u16) -> Self {
        Self {
            tls_port,
            http_port,
            port: 0,
            validity_seconds: 90 * 86_400,
        }
    }
}

/// A running authority. It ends when this is dropped.
pub struct Pebble {
    folder: TempDir,
    programs: [Child; 2],
    directory: SocketAddr,
    trust: Trust,
}

impl Pebble {
    /// Starts one; `None` where it isn't installed, which is noted as the reason why `test` is
    /// skipped.
    ///
    /// # Panics
    /// When it doesn't start.
    pub async fn start(test: &str, settings: Settings) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = |name: &&str| std::env::split_paths(&path).any(|p| p.join(name).is_file());
        if !PROGRAMS.iter().all(installed) {
            skipped(test, "pebble is not installed");
            return None;
        }
        for _ in 0..5 {
            // Another process may take a port between our look and the program's bind.
            if let Some(pebble) = Self::try_start(settings).await {
                return Some(pebble);
            }
        }
        panic!("pebble did not start in five attempts");
    }

    async fn try_start(settings: Settings) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder for pebble");
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let free = || local(free_port(Ipv4Addr::LOCALHOST));
        let directory = match settings.port {
            0 => free(),
            port => local(port),
        };
        let (management, names, names_management) = (free(), free(), free());
        let config = json!({ "pebble": {
            "listenAddress": directory.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": certificate("leaf.pem"),
            "privateKey": certificate("leaf.key"),
            "httpPort": settings.http_port,
            "tlsPort": settings.tls_port,
            "certificateValidityPeriod": settings.validity_seconds,
        }});
        let config_file = folder.path().join("pebble.json");
        std::fs::write(&config_file, config.to_string()).expect("the configuration is written");
        let log = |name: &str| {
            let file = std::fs::File::create(folder.path().join(name)).expect("a log file");
            Stdio::from(file)
        };

        let mut name_server = Command::new(PROGRAMS[1])
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-dns01", &names.to_string()])
            .args(["-management", &names_management.to_string()])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log("names.log"))
            .kill_on_drop(true)
            .spawn()
            .expect("the name server can be executed");
        let mut pebble = Command::new(PROGRAMS[0])
            .arg("-config")
            .arg(&config_file)
            .args(["-dnsserver", &names.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", REFUSED_NONCES)
            // Every order is validated anew, so that tests see what they are about.
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdin(Stdio::null())
            .stdout(log("pebble.log"))
            .stderr(log("errors.log"))
            .kill_on_drop(true)
            .spawn()
            .expect("pebble can be executed");
        for (child, address) in [(&mut name_server, names), (&mut pebble, management)] {
            if !listens(child, address).await {
                return None;
            }
        }
        if !listens(&mut pebble, directory).await {
            return None;
        }
        let root = root_certificate(management).await;
        Some(Self {
            folder,
            programs: [name_server, pebble],
            directory,
            trust: Trust::new(root),
        })
    }

    /// Ends it, so that its ports are free.
    pub async fn end(mut self) {
        for program in &mut self.programs {
            let ended = soon("the authority to end", program.kill()).await;
            ended.expect("the child can be waited for");
        }
    }

    /// The port of its directory.
    pub fn port(&self) -> u16 {
        self.directory.port()
    }

    /// The arguments by which a relay finds it.
    pub fn args(&self) -> [String; 4] {
        acme_args(self.port())
    }

    /// A TLS connection to `to` that asks for `name`, and believes what this authority has signed.
    ///
    /// # Errors
    /// What the handshake failed with.
    pub async fn connect(&self, to: SocketAddr, name: &str) -> io::Result<Stream> {
        let tcp = TcpStream::connect(to).await?;
        soon("the TLS handshake", self.trust.tls(tcp, name)).await
    }

    /// How often its log has `words`.
    pub fn counts(&self, words: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("pebble.log"));
        log.expect("pebble has a log").matches(words).count()
    }

    /// How many orders there have been.
    pub fn orders(&self) -> usize {
        self.counts("Added order ")
    }

    /// How many accounts there are.
    pub fn accounts(&self) -> usize {
        self.counts(" accounts in memory")
    }
}

/// The arguments by which a relay finds an authority with its directory on `port`.
pub fn acme_args(port: u16) -> [String; 4] {
    let ca = certificate("ca.pem");
    [
        "--acme-directory".into(),
        format!("https://127.0.0.1:{port}/dir"),
        "--acme-ca".into(),
        ca.to_str().expect("a path in UTF-8").into(),
    ]
}

/// Waits until `child` accepts connections on `address`; false if it ends instead.
async fn listens(child: &mut Child, address: SocketAddr) -> bool {
    eventually("the authority to listen", || {
        let ended = child.try_wait().expect("the child can be waited for");
        async move {
            match ended {
                Some(_) => Some(false),
                None => TcpStream::connect(address).await.ok().map(|_| true),
            }
        }
    })
    .await
}

/// It makes a new one at each start.
async fn root_certificate(management: SocketAddr) -> CertificateDer<'static> {
    let tcp = TcpStream::connect(management).await.expect("it listens");
    let mut stream = tls(tcp, "127.0.0.1").await.expect("a TLS handshake");
    let request = "GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut stream, request).await;
    CertificateDer::from_pem_slice(&answer.body).expect("a certificate in PEM")
}
