//! The public HTTP routes and the way to a WebSocket.
//!
//! The order of checks is fixed, and the first that fails answers: host, route, draining, rate, connection
//! limits, required headers, WebSocket handshake, redial storm. Registry refusals come after the 101, as a close code.

pub(crate) mod caller;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod gate;
pub(crate) mod metrics;
pub(crate) mod plain;
pub(crate) mod upgrade;

use crate::config::{Config, Public};
use crate::net::acme::Http01;
use crate::net::door::Place;
use crate::observe::log::{Event, Key, Quoted};
use crate::observe::metrics::{Endpoint, Outcome, Refusal, Stage};
use crate::phase::{Phase, Phases};
use crate::router::Router;
use caller::Caller;
use gate::{Gate, Permit, Refused};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink};
use tokio::time::{Instant, timeout, timeout_at};
use upgrade::{Agreed, Dial};

/// Header fields a request may have.
pub(crate) const MAX_HEADERS: usize = 64;

/// Bytes of a request head; a larger one is answered with 431.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

pub(crate) type Reply = Response<Full<Bytes>>;

/// What answering a request takes.
pub(crate) struct Site {
    pub(crate) router: Arc<Router>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) http: http1::Builder,
    pub(crate) phases: Phases,
    pub(crate) version: &'static str,
}

/// A connection that is about to make its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Whose it is, as far as that is known before the request.
    pub(crate) remote: IpAddr,
    /// When it was accepted.
    pub(crate) at: Instant,
}

/// Serves the HTTP part of one accepted connection, which is at this place meanwhile. Resolves when it is answered, has
/// become a WebSocket (which runs in a task of its own), or took too long.
pub(crate) async fn serve<S>(site: Arc<Site>, socket: S, arrival: Arrival, mut place: Place)
where
    S: crate::session::Transport,
{
    if let Some((agreed, socket, early)) =
        exchange(site, socket, arrival, || place.answered()).await
    {
        agreed.start(socket, early);
    }
}

/// The request and its answer; `answered` is called before anything more is waited for. After a 101, what starts the
/// session: the bare socket, and what was read beyond the request.
async fn exchange<S>(
    site: Arc<Site>,
    socket: S,
    arrival: Arrival,
    answered: impl FnOnce(),
) -> Option<(Agreed, S, Bytes)>
where
    S: crate::session::Transport,
{
    let deadline = Instant::now() + site.router.config.http_timeout;
    let exchange = Exchange {
        site: site.clone(),
        arrival,
        asked: Cell::new(false),
        agreed: Cell::new(None),
    };
    let mut connection = site.http.serve_connection(TokioIo::new(socket), exchange);
    let answer = poll_fn(|cx| connection.poll_without_shutdown(cx));
    // Neither a slow client nor a broken request is worth a line: anyone can cause them at will.
    let ended = timeout_at(deadline, answer).await;
    if ended.is_ok() {
        answered();
    }
    let parts = connection.into_parts();
    let (socket, exchange) = (parts.io.into_inner(), parts.service);
    // One that is closed without a byte is fine: that is how load balancers look whether somebody listens.
    if !matches!(ended, Ok(Ok(()))) && !exchange.asked.get() {
        site.router.metrics.handshake_failures.inc(Stage::http);
    }
    match (ended, exchange.agreed.into_inner()) {
        (Ok(Ok(())), Some(agreed)) => return Some((agreed, socket, parts.read_buf)),
        (Ok(ended), agreed) => {
            // The 101 did not get out: its seat is free before anything is waited for.
            drop(agreed);
            finish(socket, ended).await;
        }
        (Err(_), _) => {}
    }
    None
}

/// For how long a connection is still read after its answer, and how many bytes. A client that reads the answer closes
/// within a round trip.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 256 * 1024;

/// Sends our FIN after the last answer, and discards what the client still sends, within bounds: a kernel resets a connection
/// that is closed with bytes unread, and a reset can destroy the answer on its way.
async fn finish<S>(mut socket: S, ended: hyper::Result<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Who is too slow to ask is not answered.
    let answered = !matches!(ended, Err(error) if error.is_timeout());
    let finish = async {
        let sent = socket.shutdown().await;
        if answered && sent.is_ok() {
            let _ = copy(&mut socket.take(LINGER_BYTES), &mut sink()).await;
        }
    };
    let _ = timeout(LINGER, finish).await;
}

/// How requests of public connections are read.
pub(crate) fn protocol(config: &Config) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // Who has said all is due an answer all the same.
        .half_close(true)
        .header_read_timeout(config.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);
    http
}

/// One connection's request, and what it came to.
struct Exchange {
    site: Arc<Site>,
    arrival: Arrival,
    /// There was one.
    asked: Cell<bool>,
    /// It was answered with a 101.
    agreed: Cell<Option<Agreed>>,
}

impl Service<Request<Incoming>> for Exchange {
    type Response = Reply;
    type Error = Infallible;
    type Future = Ready<Result<Reply, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.asked.set(true);
        let (mut reply, agreed) = match route(&self.site, &request, self.arrival) {
            Ok(agreed) => (agreed.reply(), Some(agreed)),
            Err(reply) => (reply, None),
        };
        self.agreed.set(agreed);
        // One request for each connection. Said here and not by hyper, which would add it to the 101,
        // where some clients compare the whole value with `Upgrade`.
        if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
            reply
                .headers_mut()
                .append(header::CONNECTION, HeaderValue::from_static("close"));
        }
        ready(Ok(reply))
    }
}

/// A connection that may become a WebSocket, or how the request is answered otherwise.
fn route(site: &Arc<Site>, request: &Request<Incoming>, arrival: Arrival) -> Result<Agreed, Reply> {
    if !has_valid_host(request) {
        let reply = contentless(StatusCode::BAD_REQUEST);
        return Err(refuse(site, Refusal::host, reply));
    }
    if !is_our_host(site, request) {
        let mut reply = Response::new(Full::default());
        *reply.status_mut() = StatusCode::MISDIRECTED_REQUEST;
        return Err(refuse(site, Refusal::host, reply));
    }
    match request.uri().path() {
        "/v1/server" | "/v2/server" => websocket(site, request, Endpoint::server, arrival),
        "/v1/client" | "/v2/client" => websocket(site, request, Endpoint::client, arrival),
        path => Err(health(site, path)
            .unwrap_or_else(|| refuse(site, Refusal::not_found, plain::not_found()))),
    }
}

/// RFC 9112, section 3.2: one that is a host, or empty, and names no user. By another one proxies in front might go.
fn has_valid_host(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => {
            let authority = Authority::try_from(host.as_bytes());
            host.is_empty() || authority.is_ok_and(|host| !host.as_str().contains('@'))
        }
        (Some(_), Some(_)) => false,
    }
}

/// Counts a refusal, and passes on how it is said.
fn refuse(site: &Site, refusal: Refusal, reply: Reply) -> Reply {
    site.router.metrics.refused.inc(refusal);
    reply
}

/// Whether the request is for the host that this relay serves, where it serves only one.
fn is_our_host(site: &Site, request: &Request<Incoming>) -> bool {
    let public = site.router.config.public.as_ref();
    let Some(domain) = public.and_then(Public::domain) else {
        return true;
    };
    let named = match request.uri().authority() {
        // RFC 9112, section 3.2.2: an absolute target overrides the header.
        Some(authority) => Some(authority.as_str()),
        None => request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok()),
    };
    named.is_some_and(|named| {
        let host = named.rsplit_once(':').map_or(named, |(host, _)| host);
        host.eq_ignore_ascii_case(domain)
    })
}

/// The routes by which platforms and people see how the relay is; `None` if it is another path.
pub(crate) fn health(site: &Site, path: &str) -> Option<Reply> {
    let phase = site.phases.now();
    match path {
        "/healthz" => Some(healthy(site)),
        "/livez" => Some(plain(StatusCode::OK, "ok\n")),
        "/readyz" => Some(match phase {
            Phase::Ready => plain(StatusCode::OK, "ready\n"),
            Phase::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Phase::Draining => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            Phase::Stopped => plain(StatusCode::SERVICE_UNAVAILABLE, "stopped\n"),
        }),
        _ => None,
    }
}

fn websocket(
    site: &Arc<Site>,
    request: &Request<Incoming>,
    endpoint: Endpoint,
    arrival: Arrival,
) -> Result<Agreed, Reply> {
    if site.phases.now() > Phase::Ready {
        let reply = retry_later(StatusCode::SERVICE_UNAVAILABLE, RETRY_DRAINING_SECONDS);
        return Err(refuse(site, Refusal::draining, reply));
    }
    let proxies = &site.router.config.proxies;
    let caller = Caller::of_request(proxies, request.headers(), arrival.remote);
    let permit = admit(site, request, endpoint, &caller)?;
    let dial = Dial {
        endpoint,
        remote: &caller.shown,
        accepted: arrival.at,
    };
    upgrade::upgrade(site, request, dial, permit)
}

/// The limits. Every refusal comes before the upgrade: a daemon that is dropped afterwards would
/// redial without a pause.
fn admit(
    site: &Arc<Site>,
    request: &Request<Incoming>,
    endpoint: Endpoint,
    caller: &Caller,
) -> Result<Permit, Reply> {
    let router = &site.router;
    let path: &dyn std::fmt::Display = &request.uri().path();
    let remote: &dyn std::fmt::Display = &caller.shown;
    site.gate
        .enter(router.clock.now(), endpoint, caller.client.clone())
        .map_err(|refused| match refused {
            Refused::Rate(retry_after) => {
                let quoted = Quoted(&caller.shown);
                router
                    .log
                    .write(Event::RateLimited, &[(Key::Remote, &quoted)]);
                router.metrics.attempt(endpoint, Outcome::reject_rate_limit);
                let reply = retry_later(StatusCode::TOO_MANY_REQUESTS, retry_after.seconds());
                refuse(site, Refusal::rate, reply)
            }
            Refused::ClientFull => {
                let fields = [(Key::Path, path), (Key::Remote, remote)];
                router.log.write(Event::IpConnCapReached, &fields);
                let reply = retry_later(StatusCode::TOO_MANY_REQUESTS, RETRY_FULL_SECONDS);
                refuse(site, Refusal::ip_full, reply)
            }
            Refused::Full => {
                router.log.write(
                    Event::ConnCapReached,
                    &[(Key::Path, path), (Key::Remote, remote)],
                );
                let reply = retry_later(StatusCode::SERVICE_UNAVAILABLE, RETRY_FULL_SECONDS);
                refuse(site, Refusal::full, reply)
            }
        })
}

/// What a relay that goes away asks for: its successor is there soon.
const RETRY_DRAINING_SECONDS: u64 = 2;

/// What a full relay asks for: about the middle of the clients' back-off ladder.
const RETRY_FULL_SECONDS: u64 = 10;

/// The answer of the listener for ACME HTTP-01 challenges.
pub(crate) fn challenge(http01: &Http01, request: &Request<Incoming>) -> Reply {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    match http01.answer(host, request.uri().path()) {
        (status, Some(text)) => {
            let mut reply = plain(status, "");
            *reply.body_mut() = Full::from(text);
            reply
        }
        (StatusCode::NOT_FOUND, None) => plain::not_found(),
        (status, None) => contentless(status),
    }
}

fn healthy(site: &Site) -> Reply {
    let body = crate::observe::health::body(
        site.version,
        site.router.counts(),
        site.router.uptime().0 / 1000,
    );
    let mut reply = Response::new(Full::from(body));
    let headers = reply.headers_mut();
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// An answer that says nothing but its status: what a client did wrong is not told to strangers.
fn contentless(status: StatusCode) -> Reply {
    plain(status, "\n")
}

fn retry_later(status: StatusCode, seconds: u64) -> Reply {
    let mut reply = contentless(status);
    reply
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    reply
}

pub(crate) fn plain(status: StatusCode, body: &'static str) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    #[tokio::test]
    async fn what_nobody_reads_does_not_destroy_the_answer() {
        let (mut client, socket) = duplex(64);
        let finish = tokio::spawn(finish(socket, Ok(())));
        let mut end = Vec::new();
        client.read_to_end(&mut end).await.unwrap();
        // Our FIN is there, and a body much larger than what is under way is taken all the same.
        client.write_all(&[b'0'; 100_000]).await.unwrap();
        assert!(!finish.is_finished());
        client.shutdown().await.unwrap();
        finish.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_read_without_end() {
        let start = Instant::now();
        let (mut client, socket) = duplex(64);
        let finished = tokio::spawn(finish(socket, Ok(())));
        let body = vec![b'0'; 2 * LINGER_BYTES as usize];
        assert!(client.write_all(&body).await.is_err());
        finished.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        let (_silent, socket) = duplex(64);
        finish(socket, Ok(())).await;
        assert_eq!(start.elapsed(), LINGER);
    }
}
