//! `/metrics`, on the loopback listener of the admin page.

use super::Reply;
use crate::net::front::Front;
use crate::observe::metrics::{Format, Gauges};
use crate::observe::process;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use std::time::UNIX_EPOCH;

/// Everything that is counted, and how things stand.
pub(crate) fn metrics(front: &Front, request: &Request<Incoming>) -> Reply {
    let accept = request.headers().get(ACCEPT);
    let format = Format::negotiate(accept.and_then(|accept| accept.to_str().ok()));
    let text = front.site.router.metrics.text(format, &gauges(front));
    let mut reply = Response::new(Full::from(text));
    let content_type = HeaderValue::from_static(format.content_type());
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// How things stand now, asked of those who know.
pub(crate) fn gauges(front: &Front) -> Gauges {
    let Front { site, door, tls } = front;
    let router = &site.router;
    Gauges {
        counts: router.counts(),
        phase: site.phases.now(),
        connections: site.gate.fill(),
        handshakes: door.fill(),
        queue_bytes: router.queue().fill(),
        queue_bytes_high_water: router.queue().high_water_bytes(),
        park_bytes: router.parked_bytes(),
        limiters: [
            ("attempts", site.gate.rate_entries()),
            ("connections", site.gate.client_entries()),
            ("connects", door.connect_entries()),
            ("redials", router.redial_entries()),
            ("wakes", router.push.limited_ids()),
        ],
        log_lines_dropped: router.log.dropped_lines(),
        certificate: tls.as_ref().map(|tls| {
            let current = tls.certificates().current();
            current.map_or((UNIX_EPOCH, UNIX_EPOCH), |current| {
                (current.not_before(), current.not_after())
            })
        }),
        push_in_flight: router.push.in_flight(),
        process: router.config.process_metrics.then(process::Figures::read),
    }
}
