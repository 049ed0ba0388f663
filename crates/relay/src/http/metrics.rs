//! The listener of `/metrics`. It is on loopback only, and nothing limits it.

use super::plain::{Times, not_found};
use super::{Reply, plain};
use crate::net::listener;
use crate::router::Router;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves scrapers until the future is dropped.
pub(crate) async fn run(listener: TcpListener, router: Arc<Router>, times: Times) {
    listener::accept(&listener, &router.log, |socket, _| {
        let router = router.clone();
        tokio::spawn(async move {
            plain::exchange(socket, times, |request| match request.uri().path() {
                "/metrics" => metrics(&router),
                _ => not_found(),
            })
            .await;
        });
    })
    .await;
}

fn metrics(router: &Router) -> Reply {
    let mut reply = Response::new(Full::from(router.metrics.text(router.counts())));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, text);
    reply
}
