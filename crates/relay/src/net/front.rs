//! From an accepted TCP connection to its HTTP request: PROXY header, TLS, and who is calling.

use super::door::{Door, Place};
use super::listener;
use super::proxy;
use super::tls::{self, Tls};
use crate::http::{self, Arrival, Site};
use crate::observe::metrics::Stage;
use relay_proto::proxy::Header;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

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
                return;
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
                Ok(Ok(Header::Proxied(source))) => {
                    arrival.remote = source.ip().to_canonical();
                }
                // A health check of the proxy itself.
                Ok(Ok(Header::Local)) if config.proxies.trusts(peer) => {}
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
            None => http::serve(self.site.clone(), socket, arrival).await,
            Some(tls) => match timeout(limit, tls.accept(socket)).await {
                Ok(Ok(Some(stream))) => {
                    metrics.tls_handshakes.inc(tls::handshake_kind(&stream));
                    http::serve(self.site.clone(), stream, arrival).await;
                }
                Ok(Ok(None)) => {}
                // A failed handshake is not worth a line: anyone can cause one at will.
                Ok(Err(_)) | Err(_) => metrics.handshake_failures.inc(Stage::tls),
            },
        }
        drop(place);
    }
}
