//! The HTTPS client for the CA's directory.

use crate::net::https;
use crate::net::tls::roots::{RootsError, trusting};
use bytes::Bytes;
use http_body_util::Limited;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// From a request to the head of its answer, with the connection it may need first.
const REQUEST: Duration = Duration::from_secs(30);

/// To the CA's addresses, of one family after the other.
const CONNECT: Duration = Duration::from_secs(10);

/// Nobody waits for longer because the CA says so, in seconds. With what a clock cannot be moved on by, the library panics.
const RETRY_AFTER_MAX_S: u64 = 24 * 3600;

/// Bytes of an answer. The largest are chains, below 20,000.
const MAX_BODY: usize = 1 << 20;

/// Talks to one CA. Every request ends in time, and every answer is of bounded size.
#[derive(Clone)]
pub(crate) struct AcmeClient {
    http: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    /// What the CA asked for when it refused; 0: nothing.
    retry_after_s: Arc<AtomicU64>,
}

impl AcmeClient {
    /// Trusts the certificates in `ca_file`, or those that the system trusts.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, RootsError> {
        let tls = trusting(ca_file)?;
        // Requests come in bursts months apart.
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(REQUEST)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(https::connector(tls, CONNECT));
        Ok(Self {
            http,
            retry_after_s: Arc::default(),
        })
    }

    /// How long the CA has asked to be left alone since this was last taken.
    pub(super) fn take_retry_after_s(&self) -> Option<u64> {
        Some(self.retry_after_s.swap(0, Ordering::Relaxed)).filter(|&seconds| seconds > 0)
    }
}

impl HttpClient for AcmeClient {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let agent = concat!("pyrycode-relay/", env!("CARGO_PKG_VERSION"));
        let agent = HeaderValue::from_static(agent);
        request.headers_mut().insert(USER_AGENT, agent);
        let response = tokio::time::timeout(REQUEST, self.http.request(request));
        let retry_after_s = self.retry_after_s.clone();
        Box::pin(async move {
            let mut response = response
                .await
                .map_err(|_| other(format!("no answer within {} s", REQUEST.as_secs())))?
                .map_err(|error| Error::Other(Box::new(error)))?;
            let seconds = retry_after(&response);
            if let Some(RETRY_AFTER_MAX_S..) = seconds {
                let longest = HeaderValue::from(RETRY_AFTER_MAX_S);
                response.headers_mut().insert(RETRY_AFTER, longest);
            }
            if !response.status().is_success() {
                if let Some(seconds) = seconds {
                    retry_after_s.store(seconds, Ordering::Relaxed);
                }
                if !is_json(&response) {
                    return Err(other(format!("the answer was HTTP {}", response.status())));
                }
            }
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY);
            Ok(Response::from_parts(head, body).into())
        })
    }
}

fn other(text: String) -> Error {
    Error::Other(text.into())
}

/// As seconds. A date, which is allowed too, is left to our own schedule.
fn retry_after<B>(response: &Response<B>) -> Option<u64> {
    let value = response.headers().get(RETRY_AFTER)?;
    value.to_str().ok()?.trim().parse().ok()
}

/// Problems are JSON; what proxies and portals put in between is not.
fn is_json<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.contains("json"))
}
