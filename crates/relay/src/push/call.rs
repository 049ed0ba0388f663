//! One HTTP call to Google: bounded in time and in what is read, and never redirected.

use crate::net::https;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use relay_core::wake::CallError;
use rustls::ClientConfig;
use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// For one call, with the connection it may need first.
pub(super) const CALL: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read. Access tokens and errors take some hundreds; the rest is not missed.
const REPLY_BYTES: usize = 4096;

/// Bytes of an answer's head. Google's take about 1,000.
const HEAD_BYTES: usize = 16 * 1024;

/// How long a connection is kept for the next call. Google's side keeps them longer, so that a call rarely meets a
/// connection that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// How long it asks to be left alone, in milliseconds.
    pub(super) retry_after_ms: Option<u64>,
    /// Its first bytes.
    pub(super) body: Vec<u8>,
}

/// The client. Follows no redirect: a 3xx is an answer like any other.
#[derive(Clone)]
pub(super) struct Calls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Calls {
    pub(super) fn new(tls: ClientConfig) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(KEEP_ALIVE)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(HEAD_BYTES)
            .build(https::connector(tls, CALL));
        Self(client)
    }

    /// Posts `body`; the answer must be there by `deadline`.
    ///
    /// Cancel-safe: a call that is dropped is broken off.
    pub(super) async fn post(
        &self,
        uri: &Uri,
        content_type: &'static str,
        authorization: Option<HeaderValue>,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let mut request = Request::post(uri.clone());
        if let Some(headers) = request.headers_mut() {
            let agent = concat!("pyrycode-relay/", env!("CARGO_PKG_VERSION"));
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        }
        // Method, URI and headers are values of their types already.
        let request = request
            .body(Full::from(body))
            .map_err(|_| CallError::Lost)?;
        let call = async {
            let reply = self.0.request(request).await;
            read(reply.map_err(|error| call_error(&error))?).await
        };
        tokio::time::timeout_at(deadline, call)
            .await
            .unwrap_or(Err(CallError::TimedOut))
    }
}

/// Takes the beginning of the body. What is longer is dropped, and its connection with it.
async fn read(response: Response<hyper::body::Incoming>) -> Result<Reply, CallError> {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while body.len() < REPLY_BYTES
        && let Some(frame) = incoming.frame().await
    {
        let frame = frame.map_err(|_| CallError::Lost)?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        let room = REPLY_BYTES - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
    }
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
    Ok(Reply {
        status: head.status,
        retry_after_ms: retry_after.and_then(|text| retry_after_ms(text, SystemTime::now())),
        body,
    })
}

/// Seconds, or a date (RFC 9110, section 10.2.3). A date that is past means now.
pub(super) fn retry_after_ms(text: &str, now: SystemTime) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let wait = at.duration_since(now).unwrap_or_default();
    Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// What may be told of an error: its own text can have anything in it.
fn call_error(error: &legacy::Error) -> CallError {
    let mut kind = io::ErrorKind::Other;
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return CallError::Tls;
        }
        cause = match error.downcast_ref::<io::Error>() {
            Some(io) => {
                kind = io.kind();
                io.get_ref().map(|inner| inner as &(dyn Error + 'static))
            }
            None => error.source(),
        };
    }
    match error.is_connect() {
        true if kind == io::ErrorKind::TimedOut => CallError::TimedOut,
        true => CallError::Connect(kind),
        false => CallError::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, ms) in [
            ("3", Some(3_000)),
            (" 0 ", Some(0)),
            ("99999999999999999999", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3_000)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after_ms(text, now), ms, "{text}");
        }
    }
}
