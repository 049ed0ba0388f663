//! What carries HTTP and WebSockets to the relay: a bare TCP connection, or TLS over one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::soon;

/// The host name in the relay's certificate, and in every `Host` header and SNI of the harness.
pub const HOST: &str = "relay.test";

/// How a relay is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP and WebSockets on bare TCP.
    Plain,
    /// The same inside TLS, with the certificate of `fixtures/tls`, which clients verify.
    Tls,
}

impl Transport {
    /// What tests use that don't care: TLS when the environment has `RELAY_TESTS_TLS=1`.
    pub fn of_this_run() -> Self {
        match std::env::var("RELAY_TESTS_TLS").as_deref() {
            Ok("1") => Self::Tls,
            Ok(other) => panic!("RELAY_TESTS_TLS={other}: it is 1, or not there"),
            Err(_) => Self::Plain,
        }
    }

    /// A connection to the relay at `to`, ready for a request.
    pub async fn connect(self, to: SocketAddr) -> Stream {
        let tcp = soon("a TCP connection", TcpStream::connect(to)).await;
        self.over(tcp.expect("the relay accepts")).await
    }

    /// The same over a TCP connection that exists.
    ///
    /// # Panics
    /// When the TLS handshake fails.
    pub async fn over(self, tcp: TcpStream) -> Stream {
        tcp.set_nodelay(true).expect("the option is set");
        match self {
            Self::Plain => Stream::Plain(tcp),
            Self::Tls => soon("the TLS handshake", tls(tcp, HOST))
                .await
                .expect("the TLS handshake succeeds"),
        }
    }
}

/// A TCP connection to `to` from the local address `source`.
///
/// # Errors
/// What the system said.
pub async fn tcp_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(to).await
}

/// A TLS handshake over `tcp` that asks for `name` (an IP address is not sent as SNI) and verifies
/// the certificate for it.
///
/// # Errors
/// What the handshake failed with.
pub async fn tls(tcp: TcpStream, name: &str) -> io::Result<Stream> {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    let trust = TRUST.get_or_init(|| {
        let ca = std::fs::read(certificate("ca.pem")).expect("the fixture is there");
        Trust::new(CertificateDer::from_pem_slice(&ca).expect("a certificate in PEM"))
    });
    trust.tls(tcp, name).await
}

/// A client that trusts one certificate, and what that has signed.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl Trust {
    /// Trusts `root`.
    ///
    /// # Panics
    /// When it is no certificate.
    pub fn new(root: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(root).expect("a certificate that can be trusted");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed session shows no certificate, and remembers the one before.
        config.resumption = Resumption::disabled();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// As [`tls`].
    ///
    /// # Errors
    /// What the handshake failed with.
    pub async fn tls(&self, tcp: TcpStream, name: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(name.to_owned()).expect("a host name or an address");
        let stream = self.0.connect(name, tcp).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// The path of a file of `fixtures/tls`: `ca.pem`, `leaf.pem` or `leaf.key`.
pub fn certificate(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/tls")
        .join(file)
}

/// One connection. Dropping it drops the socket, without a close alert on TLS either; shutting it
/// down sends that alert, then FIN.
#[derive(Debug)]
pub enum Stream {
    /// Bare TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The TCP socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// The certificate that the relay showed, in DER.
    ///
    /// # Panics
    /// On plain TCP.
    pub fn shown(&self) -> Vec<u8> {
        let Self::Tls(tls) = self else {
            panic!("no certificate on plain TCP")
        };
        let chain = tls.get_ref().1.peer_certificates();
        chain.expect("the handshake is over")[0].to_vec()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
