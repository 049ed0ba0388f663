//! From a request that may connect to a running session.

use super::gate::Permit;
use super::{Reply, Site, contentless, plain, refuse, retry_later};
use crate::observe::log::{Event, Key};
use crate::observe::metrics::{Endpoint, Outcome, Refusal};
use crate::router::Seat;
use crate::session::binary::Binary;
use crate::session::phone::Phone;
use crate::session::{Handler, Session, Start, Transport};
use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Version};
use relay_core::{Instance, ServerId};
use relay_proto::handshake::{self, Accept};
use relay_proto::headers;
use relay_proto::ws::{Limits, Utf8};
use std::sync::Arc;
use tokio::time::Instant;

/// Who dials what.
pub(super) struct Dial<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) remote: &'a str,
    /// When the TCP connection was accepted.
    pub(super) accepted: Instant,
}

/// A connection that is answered with a 101, and is a session from then on. Dropped instead, without a connection,
/// its seat is given up, which is a disconnect like any other.
pub(super) struct Agreed {
    pub(super) endpoint: Endpoint,
    pub(super) seat: Seat,
    accept: Accept,
    /// When the TCP connection was accepted.
    accepted: Instant,
}

/// Checks headers and handshake.
pub(super) fn upgrade(
    site: &Arc<Site>,
    request: &Request<Incoming>,
    dial: Dial<'_>,
    permit: Permit,
) -> Result<Agreed, Reply> {
    let (mut seat, accept) = match dial.endpoint {
        Endpoint::server => server(site, request, dial.remote)?,
        Endpoint::client => client(site, request, dial.remote)?,
    };
    seat.permit = Some(permit);
    Ok(Agreed {
        endpoint: dial.endpoint,
        seat,
        accept,
        accepted: dial.accepted,
    })
}

impl Agreed {
    /// `101 Switching Protocols`. Offered extensions and subprotocols are declined by not mentioning them.
    pub(super) fn reply(&self) -> Reply {
        let mut reply = Response::new(Full::default());
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = reply.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(self.accept.as_str()) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        reply
    }

    /// The 101 is out: starts the session on the bare socket. `early` was read beyond the request.
    pub(super) fn start<S: Transport>(self, socket: S, early: Bytes) {
        let seat = self.seat;
        let took = self.accepted.elapsed();
        seat.router.metrics.accept_to_upgrade.observe_time(took);
        match self.endpoint {
            Endpoint::server => serve(seat, Binary::new, socket, early),
            Endpoint::client => {
                seat.register();
                serve(seat, Phone::new, socket, early);
            }
        }
    }
}

/// Claims the server-id. The claim of a free one has taken effect before the 101 is written, so a
/// phone that dials on the daemon's word finds it.
fn server(
    site: &Arc<Site>,
    request: &Request<Incoming>,
    remote: &str,
) -> Result<(Seat, Accept), Reply> {
    let router = &site.router;
    let hello = headers::binary_hello(first(request.headers()))
        .map_err(|_| unusable_header(site, Endpoint::server))?;
    let accept = check(site, request)?;
    let server = ServerId::new(&hello.server_id);
    if let Err(retry_after) = router.may_claim(&server) {
        router.metrics.redials_refused.inc();
        router.log.write(
            Event::RedialLimited,
            &[(Key::ServerId, &server), (Key::Remote, &remote)],
        );
        let reply = retry_later(StatusCode::TOO_MANY_REQUESTS, retry_after.seconds());
        return Err(refuse(site, Refusal::redial, reply));
    }
    let instance = hello
        .instance
        .map(|secret| Instance::new(secret.as_bytes()));
    Ok((
        router.claim(&server, hello.version, instance, remote),
        accept,
    ))
}

fn client(
    site: &Arc<Site>,
    request: &Request<Incoming>,
    remote: &str,
) -> Result<(Seat, Accept), Reply> {
    let hello = headers::phone_hello(first(request.headers()))
        .map_err(|_| unusable_header(site, Endpoint::client))?;
    let accept = check(site, request)?;
    let server = ServerId::new(&hello.server_id);
    Ok((
        site.router.phone_seat(&server, hello.device_name, remote),
        accept,
    ))
}

fn first<'a>(headers: &'a HeaderMap) -> impl Fn(&str) -> Option<&'a [u8]> {
    move |name| headers.get(name).map(HeaderValue::as_bytes)
}

fn unusable_header(site: &Site, endpoint: Endpoint) -> Reply {
    site.router
        .metrics
        .attempt(endpoint, Outcome::reject_headers);
    refuse(site, Refusal::headers, contentless(StatusCode::BAD_REQUEST))
}

fn check(site: &Site, request: &Request<Incoming>) -> Result<Accept, Reply> {
    let values = |name: HeaderName| -> Vec<&[u8]> {
        request
            .headers()
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect()
    };
    let handshake = handshake::Request {
        http_1_1: request.version() >= Version::HTTP_11,
        method: request.method().as_str(),
        connection: values(header::CONNECTION),
        upgrade: values(header::UPGRADE),
        version: values(header::SEC_WEBSOCKET_VERSION),
        key: values(header::SEC_WEBSOCKET_KEY),
        origin: request
            .headers()
            .get(header::ORIGIN)
            .map(HeaderValue::as_bytes),
        has_body: !request.body().is_end_stream(),
    };
    handshake::check(&handshake).map_err(|refusal| {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut reply = plain(status, refusal.explain());
        for (name, value) in refusal.headers() {
            let name = HeaderName::from_static(name);
            reply
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        refuse(site, Refusal::handshake, reply)
    })
}

/// Starts the session of a connection.
pub(crate) fn serve<S: Transport, H: Handler>(
    seat: Seat,
    handler: impl FnOnce(Seat) -> H,
    socket: S,
    early: Bytes,
) {
    let peer = seat.peer.clone();
    let router = seat.router.clone();
    let session = Session::new(Start {
        peer,
        socket,
        handler: handler(seat),
        limits: Limits {
            message_bytes: router.config.message_bytes,
            utf8: Utf8::Every,
        },
        policy: router.config.session.clone(),
        clock: router.clock,
        early,
    });
    // A task of its own: the one that wrote the 101 is as large as the handshake was.
    tokio::spawn(session);
}
