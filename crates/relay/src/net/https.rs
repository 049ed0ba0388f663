//! HTTPS where we are the client.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use std::time::Duration;

/// Connects by HTTPS and never by plain HTTP, for HTTP/1.1. `connect` is the time for all addresses of a host together.
pub(crate) fn connector(tls: ClientConfig, connect: Duration) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(connect));
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp)
}
