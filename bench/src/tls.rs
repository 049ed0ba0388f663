//! What TLS adds: memory of an idle connection, and processor time of a handshake.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::accepts::Lives;
use crate::dial::{Dialler, Leg, read_101, request};
use crate::idle::{Counts, PHONES, settled};
use crate::machine::{self, Server, free_addr, start_relay_with};

/// Handshakes going on at the same time.
const AT_ONCE: usize = 8;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate for `localhost` in files, and a client that trusts it and nothing else.
struct Keys {
    folder: PathBuf,
    client: Arc<ClientConfig>,
}

impl Drop for Keys {
    fn drop(&mut self) {
        // In the temporary folder; what is left there does no harm.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Keys {
    fn new(resume: bool) -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let folder = std::env::temp_dir().join(format!("relay-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("cert.pem"), made.cert.pem())?;
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots
            .add(made.cert.der().clone())
            .map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !resume {
            client.resumption = Resumption::disabled();
        }
        Ok(Self {
            folder,
            client: Arc::new(client),
        })
    }

    fn start_relay(&self, relay: &Path) -> io::Result<Server> {
        let addr = free_addr()?;
        let file = |name: &str| self.folder.join(name).display().to_string();
        let own = [
            format!("--https-listen={addr}"),
            format!("--tls-cert={}", file("cert.pem")),
            format!("--tls-key={}", file("key.pem")),
        ];
        start_relay_with(relay, addr, &own)
    }
}

fn handshake(config: &Arc<ClientConfig>, tcp: TcpStream) -> io::Result<Stream> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let client = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(client, tcp);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

fn upgraded(config: &Arc<ClientConfig>, tcp: TcpStream, request: &[u8]) -> io::Result<Stream> {
    let mut stream = handshake(config, tcp)?;
    stream.write_all(request)?;
    stream
        .sock
        .set_read_timeout(Some(Duration::from_secs(10)))?;
    read_101(&mut stream)?;
    Ok(stream)
}

/// Bytes of the relay's memory for each registered TLS connection more.
pub(crate) fn bytes_per_connection(relay: &Path, counts: Counts) -> io::Result<f64> {
    let keys = Keys::new(false)?;
    let server = keys.start_relay(relay)?;
    let mut dialler = Dialler::new(server.addr);
    let mut held: Vec<Stream> = Vec::with_capacity(counts.many);
    let mut grow = |to: usize| -> io::Result<u64> {
        while held.len() < to {
            let (group, place) = (held.len() / (PHONES + 1), held.len() % (PHONES + 1));
            let leg = if place == 0 { Leg::Binary } else { Leg::Phone };
            let request = request(leg, &format!("idle-{group}"));
            held.push(upgraded(&keys.client, dialler.tcp()?, &request)?);
        }
        settled(|| server.resident_bytes())
    };
    let few = grow(counts.few)?;
    let many = grow(counts.many)?;
    Ok(many.saturating_sub(few) as f64 / (counts.many - counts.few) as f64)
}

/// TCP, TLS, and the end, again and again for `time`. With `resume`, a client comes back with its ticket.
pub(crate) fn handshakes(relay: &Path, time: Duration, resume: bool) -> io::Result<Lives> {
    let keys = Keys::new(resume)?;
    let server = keys.start_relay(relay)?;
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let addr = server.addr;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|_| scope.spawn(|| shake(addr, &keys.client, &stop, &done)))
            .collect();
        let measured = measure(&server, &done, time);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client
                .join()
                .map_err(|_| io::Error::other("a client panicked"))??;
        }
        measured
    })
}

fn shake(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> io::Result<()> {
    let mut dialler = Dialler::new(addr);
    while !stop.load(Ordering::Relaxed) {
        let mut stream = handshake(config, dialler.tcp()?)?;
        // An answer shows that the relay is through with the handshake, and brings the ticket.
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other("the relay did not answer 200"));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn measure(server: &Server, done: &AtomicU64, time: Duration) -> io::Result<Lives> {
    std::thread::sleep(time / 4);
    let (since, before) = (Instant::now(), done.load(Ordering::Relaxed));
    let (server_ns, own_ns) = (server.cpu_ns()?, machine::own_cpu_ns()?);
    std::thread::sleep(time);
    let wall = since.elapsed().as_secs_f64();
    let server_s = (server.cpu_ns()? - server_ns) as f64 / 1e9;
    let own_s = (machine::own_cpu_ns()? - own_ns) as f64 / 1e9;
    let count = (done.load(Ordering::Relaxed) - before).max(1) as f64;
    Ok(Lives {
        per_s: count / wall,
        cpu_us: server_s * 1e6 / count,
        generator_cpu_us: own_s * 1e6 / count,
        server_busy: server_s / wall,
        generator_busy: own_s / wall,
    })
}
