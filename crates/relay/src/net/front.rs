//! From an accepted TCP connection to its HTTP request: PROXY header, TLS, and who is calling.

use super::door::{Door, Place};
use super::listener;
use super::proxy;
use super::tls::{self, Tls};
use crate::http::{self, Arrival, Site};
use crate::observe::metrics::Stage;
use relay_proto::proxy::Header;
use std::io;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

/// The public listener's way in.
pub(crate) struct Front {
    pub(crate) site: Arc<Site>,
    pub(crate) door: Arc<Door>,
    /// `None`: plain HTTP.
    pub(crate) tls: Option<Tls>,
}

impl Front {
    /// Accepts until the future is dropped. One connection never waits for another.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let router = &self.site.router;
        let proxies = &router.config.proxies;
        listener::accept(&listener, &router.log, |socket, remote| {
            let peer = remote.ip().to_canonical();
            let expected = proxies.trusted.is_empty() || proxies.trusts(peer);
            if proxies.header && !expected {
                // Only our proxies may say who is calling, and nobody else has business here.
                return self.door.turn_away(peer);
            }
            let known = !proxies.header && !proxies.trust_x_forwarded_for && !proxies.trusts(peer);
            let front = self.clone();
            let arrival = Arrival {
                remote: peer,
                at: Instant::now(),
            };
            self.door
                .enter(peer, known, |place| front.serve(socket, arrival, place));
        })
        .await;
    }

    async fn serve(self: Arc<Self>, mut socket: TcpStream, mut arrival: Arrival, place: Place) {
        let config = &self.site.router.config;
        let metrics = &self.site.router.metrics;
        let limit = config.header_timeout;
        let peer = arrival.remote;
        if config.proxies.header {
            match timeout(limit, proxy::read_header(&mut socket)).await {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(Header::Proxied(source)))) => {
                    arrival.remote = source.ip().to_canonical();
                }
                // A health check of the proxy itself.
                Ok(Ok(Some(Header::Local))) if config.proxies.trusts(peer) => {}
                // Not a byte is written: who doesn't speak the protocol learns nothing.
                _ => return metrics.handshake_failures.inc(Stage::proxy),
            }
            let client = arrival.remote;
            let is_proxy = config.proxies.trust_x_forwarded_for || config.proxies.trusts(client);
            if !is_proxy && !place.identify(client) {
                return;
            }
        }
        match &self.tls {
            None => http::serve(self.site.clone(), socket, arrival, place).await,
            Some(tls) => match timeout(limit, shake_hands(tls, socket)).await {
                Ok(Ok(Some(stream))) => {
                    metrics.tls_handshakes.inc(tls::handshake_kind(&stream));
                    http::serve(self.site.clone(), stream, arrival, place).await;
                }
                Ok(Ok(None)) => {}
                // A failed handshake is not worth a line: anyone can cause one at will.
                Ok(Err(_)) | Err(_) => metrics.handshake_failures.inc(Stage::tls),
            },
        }
    }
}

/// The handshake, unless it would be in vain: in a crowd some have given up before their turn comes, and each in vain makes
/// more of them. `None`: nobody began one.
async fn shake_hands(
    tls: &Tls,
    socket: TcpStream,
) -> io::Result<Option<Box<TlsStream<TcpStream>>>> {
    let Ok(1..) = socket.peek(&mut [0]).await else {
        return Ok(None);
    };
    // With the first bytes the end may be there.
    if socket.ready(Interest::READABLE).await?.is_read_closed() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    tls.accept(socket).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::{Certificates, self_signed};
    use rustls::crypto::aws_lc_rs::default_provider;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn who_has_left_before_the_handshake_gets_none() {
        let certificates = Arc::new(Certificates::new(None));
        certificates.install(Arc::new(self_signed::make(None, None).unwrap()));
        let tls = Tls::new(certificates, false).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(addr).await.unwrap();
        // A whole first flight, which would be answered.
        client.write_all(&client_hello()).await.unwrap();
        client.shutdown().await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let ready = async || socket.ready(Interest::READABLE).await.unwrap();
        while !ready().await.is_read_closed() {
            tokio::task::yield_now().await;
        }
        let error = shake_hands(&tls, socket).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let mut answer = Vec::new();
        // Not even an alert.
        let _ = client.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
    }

    fn client_hello() -> Vec<u8> {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = "relay.example".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    }
}
