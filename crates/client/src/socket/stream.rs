//! The byte stream under a WebSocket: TCP, TLS over TCP, or what a program brings itself.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::endpoint::Endpoint;

/// Makes the connections under WebSockets in place of TCP and TLS: through a proxy or a tunnel, or in a simulated
/// network.
pub trait Dialer: Debug + Send + Sync {
    /// Connects to a relay. The upgrade request goes out on the stream as it is, so for `wss` it must be encrypted
    /// already. Dropping the future, as happens after [`Timeouts::connect`](crate::Timeouts::connect), gives up.
    fn dial(&self, endpoint: &Endpoint) -> Dialling;
}

/// What [`Dialer::dial`] returns.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// A connection that is no [`TcpStream`].
pub trait ByteStream: AsyncRead + AsyncWrite + Debug + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Debug + Unpin + Send> ByteStream for T {}

/// What TLS takes before the network does, in bytes: one record. What it holds does not show as waiting, and its leaving
/// shows only when all of it has left.
#[cfg(feature = "tls")]
const TLS_BYTES: usize = 16 * 1024;

/// Whatever it is, it behaves the same from here on.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Dialled(Box<dyn ByteStream>),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Stream {
    /// Starts TLS on a fresh TCP connection.
    #[cfg(feature = "tls")]
    pub(super) async fn tls(
        tcp: TcpStream,
        host: &str,
        config: Option<std::sync::Arc<tokio_rustls::rustls::ClientConfig>>,
    ) -> io::Result<Self> {
        use tokio_rustls::TlsConnector;
        use tokio_rustls::rustls::pki_types::ServerName;

        let config = match config {
            Some(config) => config,
            None => default_tls()?,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut tls = TlsConnector::from(config).connect(name, tcp).await?;
        tls.get_mut().1.set_buffer_limit(Some(TLS_BYTES));
        Ok(Self::Tls(Box::new(tls)))
    }
}

/// TLS 1.2 and 1.3, trusting the Mozilla root certificates; made once per process.
#[cfg(feature = "tls")]
fn default_tls() -> io::Result<std::sync::Arc<tokio_rustls::rustls::ClientConfig>> {
    use std::sync::{Arc, OnceLock};

    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// Hands a call on to whichever stream there is.
macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Self::Dialled(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}
