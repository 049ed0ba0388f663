//! A CA in this process, which says of itself how it is to fail.

use super::super::pem;
use super::DOMAIN;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

/// Where its own pages are.
const AT: &str = "https://ca.test";

/// What it does when it is asked for a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// It issues after this time.
    After(Duration),
    /// It asks to be asked again long after we have given up.
    Later,
    /// It takes the request, but its answer is lost on the way.
    Mute,
    /// The request is lost on the way.
    Deaf,
    /// It gives the order up.
    Failing,
}

struct State {
    manner: Manner,
    orders: usize,
    finalized: usize,
    /// The request for a certificate, and when it came.
    request: Option<(Vec<u8>, Instant)>,
}

/// The domain needs no proof here: every order is ready at once.
#[derive(Clone)]
pub(super) struct SlowCa(Arc<Mutex<State>>);

impl SlowCa {
    pub(super) fn new(manner: Manner) -> Self {
        Self(Arc::new(Mutex::new(State {
            manner,
            orders: 0,
            finalized: 0,
            request: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn behave(&self, manner: Manner) {
        self.state().manner = manner;
    }

    /// Orders, and requests for a certificate that arrived.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.orders, state.finalized)
    }
}

impl State {
    fn answer(&mut self, path: &str, body: &[u8]) -> Result<Response<Full<Bytes>>, Error> {
        match path {
            "/directory" => Ok(page(&json!({
                "newNonce": format!("{AT}/nonce"),
                "newAccount": format!("{AT}/account"),
                "newOrder": format!("{AT}/new-order"),
            }))),
            "/nonce" | "/account" => Ok(page(&json!({ "status": "valid" }))),
            "/new-order" => {
                self.orders += 1;
                self.request = None;
                Ok(self.order())
            }
            "/finalize" => self.finalize(body),
            "/order" => Ok(self.order()),
            "/certificate" => Ok(answer(self.certificate())),
            path => panic!("{path}"),
        }
    }

    fn finalize(&mut self, body: &[u8]) -> Result<Response<Full<Bytes>>, Error> {
        let lost = || Err(Error::Other("the cable was cut".into()));
        if matches!(self.manner, Manner::Deaf) {
            return lost();
        }
        assert!(self.request.is_none(), "an order is finalized once");
        self.finalized += 1;
        let decode = |value: &Value| BASE64_URL_SAFE_NO_PAD.decode(value.as_str().unwrap());
        let signed: Value = serde_json::from_slice(body).unwrap();
        let payload = decode(&signed["payload"]).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        self.request = Some((decode(&payload["csr"]).unwrap(), Instant::now()));
        match self.manner {
            Manner::Mute => lost(),
            _ => Ok(self.order()),
        }
    }

    fn order(&self) -> Response<Full<Bytes>> {
        let status = match (&self.request, self.manner) {
            (None, _) => "ready",
            (Some((_, at)), Manner::After(time)) if at.elapsed() >= time => "valid",
            (Some(_), Manner::Failing) => "invalid",
            (Some(_), _) => "processing",
        };
        let mut answer = page(&json!({
            "status": status,
            "authorizations": [],
            "finalize": format!("{AT}/finalize"),
            "certificate": format!("{AT}/certificate"),
        }));
        if matches!(self.manner, Manner::Later) && self.request.is_some() {
            answer
                .headers_mut()
                .insert("retry-after", "1000".parse().unwrap());
        }
        answer
            .headers_mut()
            .insert("location", format!("{AT}/order").parse().unwrap());
        answer
    }

    fn certificate(&self) -> String {
        let (request, _) = self.request.as_ref().unwrap();
        let (_, request) = X509CertificationRequest::from_der(request).unwrap();
        let spki = request.certification_request_info.subject_pki;
        let key = RequestedKey(spki.subject_public_key.data.to_vec());
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
        let params = CertificateParams::new([DOMAIN.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        pem::block("CERTIFICATE", certificate.der())
    }
}

/// The point of the public key in a request.
struct RequestedKey(Vec<u8>);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn page(content: &Value) -> Response<Full<Bytes>> {
    answer(content.to_string())
}

fn answer(text: String) -> Response<Full<Bytes>> {
    Response::builder()
        .header("replay-nonce", "nonce")
        .header("location", format!("{AT}/account/1"))
        .body(Full::from(text))
        .unwrap()
}

impl HttpClient for SlowCa {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let ca = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await;
            let body = body.unwrap().to_bytes();
            ca.state().answer(&path, &body).map(Into::into)
        })
    }
}
