//! A connection to the relay, plain or with TLS.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedCipherSuite,
};

use crate::machine::Server;
use crate::subject::Subject;

/// A connection to the relay.
#[derive(Debug)]
pub(crate) enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    /// Over this socket, with TLS if there are keys. The handshake goes on with what is read and written.
    pub(crate) fn over(tcp: TcpStream, keys: Option<&Keys>) -> io::Result<Self> {
        let Some(keys) = keys else {
            return Ok(Self::Plain(tcp));
        };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let client = ClientConnection::new(keys.client.clone(), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(client, tcp))))
    }

    /// The socket under it.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write_vectored(slices),
            Self::Tls(tls) => tls.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// A certificate for `localhost` in files, and a client that trusts it and nothing else.
#[derive(Debug)]
pub(crate) struct Keys {
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
    /// With `resume`, a client comes back with its ticket.
    pub(crate) fn new(resume: bool) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-bench-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("cert.pem"), made.cert.pem())?;
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots
            .add(made.cert.der().clone())
            .map_err(io::Error::other)?;
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // The client chooses. Those of Go and Android, which daemons and phones are, want this one first; rustls would take
        // AES-256 with SHA-384, which costs both sides more.
        let last =
            |suite: &SupportedCipherSuite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256;
        provider.cipher_suites.sort_by_key(last);
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !resume {
            client.resumption = Resumption::disabled();
        }
        let client = Arc::new(client);
        Ok(Self { folder, client })
    }

    /// Our relay at `addr` with this certificate; `own` are further flags.
    pub(crate) fn start_at(
        &self,
        relay: &Subject,
        addr: SocketAddr,
        own: &[&str],
    ) -> io::Result<Server> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mine = [
            format!("--https-listen={addr}"),
            format!("--tls-cert={}", file("cert.pem")),
            format!("--tls-key={}", file("key.pem")),
        ];
        let mine = mine.each_ref().map(String::as_str);
        relay.start_ours(addr, &[own, &mine].concat())
    }
}

/// Starts the relay at `addr`, with TLS if there are keys.
pub(crate) fn start_relay(
    relay: &Subject,
    addr: SocketAddr,
    keys: Option<&Keys>,
    own: &[&str],
) -> io::Result<Server> {
    match keys {
        Some(keys) => keys.start_at(relay, addr, own),
        None => relay.start_at(addr, own),
    }
}
