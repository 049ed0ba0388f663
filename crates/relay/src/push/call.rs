//! One HTTP call to Google: bounded in time and in what is read, and never redirected.

use crate::net::https;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
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
use tokio::time::{Instant, timeout_at};

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
    /// `connect` is for the connection that a call may need first.
    pub(super) fn new(tls: ClientConfig, connect: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(KEEP_ALIVE)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(HEAD_BYTES)
            .build(https::connector(tls, connect));
        Self(client)
    }

    /// Posts `body`; the answer's head must be there by `deadline`. What is missing of its body by then is left out.
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
        let reply = timeout_at(deadline, self.0.request(request)).await;
        let reply = reply.map_err(|_| CallError::TimedOut)?;
        let reply = reply.map_err(|error| call_error(&error))?;
        Ok(read(reply, deadline).await)
    }
}

/// Takes the beginning of the body. What is longer is dropped, and its connection with it.
///
/// The status says how the call went. So a body that breaks off, or is not there by `deadline`, is one that is shorter:
/// else a message that was taken would count as lost.
async fn read(response: Response<Incoming>, deadline: Instant) -> Reply {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while body.len() < REPLY_BYTES
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, incoming.frame()).await
    {
        let data = frame.data_ref().map_or(&[][..], |data| data);
        let room = REPLY_BYTES - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
    }
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
    Reply {
        status: head.status,
        retry_after_ms: retry_after.and_then(|text| retry_after_ms(text, SystemTime::now())),
        body,
    }
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
    use crate::net::tls::{Certificates, Tls, roots, self_signed};
    use crate::push::token;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What comes of a call whose answer says that it is longer than `body`; then the connection breaks, or hangs.
    async fn half_answered(status: u16, body: &str, hangs: bool) -> Result<Reply, CallError> {
        let own = Arc::new(self_signed::make(None, None).unwrap());
        let ca = tempfile::NamedTempFile::new().unwrap();
        let text = STANDARD.encode(own.leaf());
        let text = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(ca.path(), text).unwrap();
        let calls = Calls::new(
            roots::trusting(Some(ca.path())).unwrap(),
            Duration::from_secs(10),
        );
        let certificates = Arc::new(Certificates::new(None));
        certificates.install(own);
        let tls = Tls::new(certificates, false).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer =
            format!("HTTP/1.1 {status} X\r\nRetry-After: 1\r\nContent-Length: 1000\r\n\r\n{body}");
        let server = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream = tls.accept(socket).await.unwrap().unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if hangs {
                std::future::pending::<()>().await;
            }
        });
        let uri = format!("https://localhost:{port}/").parse().unwrap();
        let patience = Duration::from_secs(if hangs { 2 } else { 10 });
        let deadline = Instant::now() + patience;
        let reply = calls.post(&uri, "text/plain", None, vec![b'x'], deadline);
        let reply = reply.await;
        server.abort();
        reply
    }

    #[tokio::test]
    async fn an_answer_whose_body_breaks_off_keeps_its_status() {
        for hangs in [false, true] {
            for status in [200, 503] {
                let reply = half_answered(status, r#"{"name":"#, hangs).await;
                let reply = reply.unwrap();
                assert_eq!(reply.status.as_u16(), status, "{hangs}");
                assert_eq!(reply.retry_after_ms, Some(1_000), "{hangs}");
                assert_eq!(reply.body, br#"{"name":"#, "{hangs}");
            }
        }
        let token = half_answered(200, r#"{"access_token":"abc"#, false).await;
        assert!(token::read(&token.unwrap().body).is_none());
    }

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
