//! Listeners that serve plain HTTP and never a WebSocket: health for platforms, and challenges of the CA.

use super::{Reply, finish, plain};
use crate::net::door::Door;
use crate::net::listener;
use crate::observe::log::Log;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// What a request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Until its head is complete.
    pub(crate) header: Duration,
    /// Until it is answered.
    pub(crate) whole: Duration,
}

/// Serves the request of one connection with `answer`; `answered` is called before anything more is waited for.
pub(crate) async fn exchange<S>(
    socket: S,
    times: Times,
    answer: impl Fn(&Request<Incoming>) -> Reply,
    answered: impl FnOnce(),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service =
        service_fn(|request: Request<Incoming>| ready(Ok::<_, Infallible>(answer(&request))));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.header)
        .max_headers(super::MAX_HEADERS)
        .max_buf_size(super::MAX_HEAD_BYTES)
        .keep_alive(false)
        // Who has said all is due an answer all the same.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service);
    let served = poll_fn(|cx| connection.poll_without_shutdown(cx));
    let ended = timeout(times.whole, served).await;
    // Whoever breaks off, or is too slow, is on their own.
    if let Ok(ended) = ended {
        answered();
        finish(connection.into_parts().io.into_inner(), ended).await;
    }
}

/// Serves a whole listener with `answer`, until the future is dropped. `known` tells whether a peer's address is the
/// client's, and not that of a proxy.
pub(crate) async fn run<A>(
    listener: TcpListener,
    door: Arc<Door>,
    log: Log,
    times: Times,
    known: impl Fn(IpAddr) -> bool,
    answer: A,
) where
    A: Fn(&Request<Incoming>) -> Reply + Clone + Send + Sync + 'static,
{
    listener::accept(&listener, &log, |socket, remote| {
        let answer = answer.clone();
        let peer = remote.ip().to_canonical();
        door.enter(peer, known(peer), |mut place| async move {
            exchange(socket, times, answer, || place.answered()).await;
        });
    })
    .await;
}

/// The answer to a path nobody serves.
pub(crate) fn not_found() -> Reply {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}
