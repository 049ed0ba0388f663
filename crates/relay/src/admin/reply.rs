//! How answers of the admin routes look.

use super::events::Stream;
use http_body_util::{Either, Full};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode, body::Bytes};
use serde::Serialize;

/// The whole answer, or one that goes on.
pub(super) type Body = Either<Full<Bytes>, Stream>;

pub(super) type Reply = Response<Body>;

/// An answer of this listener's other route.
pub(super) fn whole(reply: crate::http::Reply) -> Reply {
    reply.map(Either::Left)
}

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    // Serializing these types cannot fail: all keys are strings, all numbers finite.
    let text = serde_json::to_vec(value).unwrap_or_default();
    typed(status, "application/json; charset=utf-8", text.into())
}

/// A refusal: one sentence that names the fix.
pub(super) fn error(status: StatusCode, sentence: &str) -> Reply {
    #[derive(Serialize)]
    struct Error<'a> {
        error: &'a str,
    }
    json(status, &Error { error: sentence })
}

/// A text of this type.
pub(super) fn typed(status: StatusCode, content_type: &'static str, text: Bytes) -> Reply {
    built(status, content_type, Either::Left(Full::from(text)))
}

/// Events, for as long as they come.
pub(super) fn stream(stream: Stream) -> Reply {
    built(StatusCode::OK, "text/event-stream", Either::Right(stream))
}

fn built(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let mut set = |name: HeaderName, value| {
        let value = HeaderValue::from_static(value);
        reply.headers_mut().insert(name, value);
    };
    set(header::CONTENT_TYPE, content_type);
    set(header::CACHE_CONTROL, "no-store");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // For an answer that is opened as a document; the page has a policy of its own.
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    reply
}
