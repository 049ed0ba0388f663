//! TLS 1.2 and 1.3 of the public listener, and where its certificate comes from: files, ACME
//! ([`super::acme`]), or one that is made at start.

mod certificate;
mod certificates;
pub(crate) mod files;
pub(crate) mod roots;
pub(crate) mod self_signed;

#[cfg(test)]
mod tests;

pub(crate) use certificate::{
    Certificate, ChainError, KeyError, PairError, chain_from_pem, key_from_pem,
};
pub(crate) use certificates::Certificates;

use crate::observe::metrics::Handshake;
use crate::session::Transport;
use certificates::ACME_TLS;
use relay_core::Path;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;
use rustls::{HandshakeKind, ServerConfig};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Encrypted bytes one connection keeps when its socket is full. rustls would keep 64 KiB, outside of
/// every budget for queued frames; one full record is the least that keeps a socket busy.
const BUFFER_BYTES: usize = 16 * 1024;

/// The TLS side of the public listener; cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
}

impl Tls {
    /// Serves what `certificates` holds at the time of each handshake. With `acme`, a CA may validate
    /// TLS-ALPN-01 challenges.
    ///
    /// # Errors
    /// When the system has no randomness for the keys of session tickets.
    pub(crate) fn new(certificates: Arc<Certificates>, acme: bool) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if acme {
            config.alpn_protocols.push(ACME_TLS.to_vec());
        }
        // Peers that all come back at once resume their sessions, at no memory here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new()?;
        // A peer has one connection at a time, and gets another ticket with the next one.
        config.send_tls13_tickets = 1;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificates,
        })
    }

    /// What its handshakes are served from.
    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The handshake of one connection; the caller sets its deadline. `None`: this was a CA that
    /// validated a challenge, which is over. Dropping the future cuts the connection.
    ///
    /// # Errors
    /// When the handshake fails: the peer broke it off, speaks no TLS, or asks for another host.
    pub(crate) async fn accept<S>(&self, socket: S) -> io::Result<Option<Box<TlsStream<S>>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = self.acceptor.accept_with(socket, |connection| {
            connection.set_buffer_limit(Some(BUFFER_BYTES));
        });
        let mut stream = Box::new(handshake.await?);
        if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
            // The CA has seen the certificate, which is all it came for.
            let _ = stream.shutdown().await;
            return Ok(None);
        }
        Ok(Some(stream))
    }
}

/// How much of a handshake this finished one needed.
pub(crate) fn handshake_kind<S>(stream: &TlsStream<S>) -> Handshake {
    match stream.get_ref().1.handshake_kind() {
        Some(HandshakeKind::Resumed) => Handshake::resumed,
        _ => Handshake::full,
    }
}

impl Transport for Box<TlsStream<TcpStream>> {
    fn path(&self) -> Path {
        self.get_ref().0.path()
    }
}
