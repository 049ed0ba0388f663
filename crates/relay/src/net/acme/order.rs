//! One order, from the account to the certificate.

use super::http01::Http01;
use super::key::{EcKey, EcKeyError};
use crate::net::tls::{Certificate, Certificates, ChainError, PairError, chain_from_pem};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, KeyAuthorization, NewOrder,
    Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use relay_core::Counted;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a CA may take to validate, and again to issue: as long as certbot gives it.
pub(super) const RESULT: Duration = Duration::from_secs(90);

/// How the CA is asked whether it has: every second, or when it says, until [`RESULT`] is over. (With a delay that grows,
/// the library would give up when the next one passes the end, far ahead of it.)
const POLLS: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_secs(1))
    .backoff(1.0)
    .timeout(RESULT);

/// For so long the next attempts go on with an order, and one more looks whether it has come to its end after all. One
/// that waits longer has most likely been lost by the CA, and will never count in its limits.
const KEPT: Duration = Duration::from_secs(3600);

/// The ways to show the CA that the domain is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    TlsAlpn01,
    Http01,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::TlsAlpn01 => Self::Http01,
            Self::Http01 => Self::TlsAlpn01,
        }
    }

    fn challenge(self) -> ChallengeType {
        match self {
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Http01 => ChallengeType::Http01,
        }
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The CA could not convince itself; another method may do better.
    #[error("{0}")]
    Validation(String),
    /// There is no result yet, or it did not reach us; an order under way may come to a good end.
    #[error("{0}")]
    Unsettled(String),
    /// The CA wants a request again, with a newer nonce.
    #[error("the CA accepts no nonce")]
    Nonce,
    /// Everything else.
    #[error("{0}")]
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(problem) => match kind(problem) {
                "badNonce" => Self::Nonce,
                "rateLimited" => Self::Unsettled(describe(problem)),
                _ if problem.status.is_some_and(|status| status >= 500) => {
                    Self::Unsettled(describe(problem))
                }
                _ => Self::Other(describe(problem)),
            },
            // What goes wrong on the way; also an answer that is none of the CA's.
            error => Self::Unsettled(with_causes(error)),
        }
    }
}

impl From<rcgen::Error> for Failure {
    fn from(error: rcgen::Error) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<EcKeyError> for Failure {
    fn from(error: EcKeyError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        Self::Other(format!("the CA's chain {error}"))
    }
}

impl From<PairError> for Failure {
    fn from(error: PairError) -> Self {
        Self::Other(format!("the CA's answer: {error}"))
    }
}

/// What was issued.
pub(super) struct Issued {
    pub(super) certificate: Certificate,
    pub(super) key: Arc<EcKey>,
}

/// What an attempt leaves behind, however it ends, even if it is dropped.
pub(super) struct Progress {
    /// What it has cost at the CA.
    pub(super) counted: Counted,
    kept: Option<Validated>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            counted: Counted::Nothing,
            kept: None,
        }
    }
}

/// An order for which the CA has validated the domain, and the key that its certificate is for.
struct Validated {
    order: Order,
    key: Arc<EcKey>,
    since: Instant,
}

/// Where challenges are shown.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) domain: String,
    pub(super) certificates: Arc<Certificates>,
    pub(super) http01: Arc<Http01>,
}

/// Ends the show when dropped.
struct Shown<'a>(&'a Stage);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.certificates.set_challenge(None);
        self.0.http01.clear();
    }
}

impl Stage {
    fn show(
        &self,
        method: Method,
        token: &str,
        authorization: &KeyAuthorization,
    ) -> Result<(), Failure> {
        match method {
            Method::Http01 => self.http01.show(token, authorization.as_str()),
            Method::TlsAlpn01 => {
                let certificate = validation_certificate(&self.domain, authorization)?;
                self.certificates.set_challenge(Some(certificate));
            }
        }
        Ok(())
    }

    /// Orders a certificate, with one way to prove the domain; or goes on with an order that an earlier attempt left in
    /// `progress`. What the CA wrote is in the failure's text, except tokens.
    pub(super) async fn order(
        &self,
        account: &Account,
        method: Method,
        progress: &mut Progress,
    ) -> Result<Issued, Failure> {
        let mut token = String::new();
        let _shown = Shown(self);
        let issued = self.try_order(account, method, progress, &mut token).await;
        let open = matches!(issued, Err(Failure::Unsettled(_) | Failure::Nonce));
        progress.kept.take_if(|kept| {
            let failed = kept.order.state().status == OrderStatus::Invalid;
            !open || failed || kept.since.elapsed() >= KEPT
        });
        issued.map_err(|failure| {
            let clean = |text: String| {
                let text = text.replace(account.key_thumbprint(), "…");
                match &*token {
                    "" => text,
                    token => text.replace(token, "…"),
                }
            };
            match failure {
                Failure::Validation(text) => Failure::Validation(clean(text)),
                Failure::Unsettled(text) => Failure::Unsettled(clean(text)),
                Failure::Other(text) => Failure::Other(clean(text)),
                Failure::Nonce => Failure::Nonce,
            }
        })
    }

    async fn try_order(
        &self,
        account: &Account,
        method: Method,
        progress: &mut Progress,
        token: &mut String,
    ) -> Result<Issued, Failure> {
        let Validated { order, key, .. } = match &mut progress.kept {
            Some(kept) => {
                // It may be further on: the answer to the last request is what was lost.
                kept.order.refresh().await?;
                kept
            }
            kept => {
                progress.counted = Counted::Order;
                kept.insert(self.validated(account, method, token).await?)
            }
        };
        if order.state().status == OrderStatus::Ready {
            order.finalize_csr(&request(&self.domain, key)?).await?;
        }
        let chain = chain_from_pem(order.poll_certificate(&POLLS).await?.as_bytes())?;
        let certificate = Certificate::new(chain, &key.sec1())?;
        if !certificate.is_for(&self.domain) {
            return Err(Failure::Other(
                "the CA's certificate is for another host".into(),
            ));
        }
        let key = key.clone();
        Ok(Issued { certificate, key })
    }

    /// A new order, ready for its certificate to be asked for.
    async fn validated(
        &self,
        account: &Account,
        method: Method,
        token: &mut String,
    ) -> Result<Validated, Failure> {
        let names = [Identifier::Dns(self.domain.clone())];
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        self.prove(&mut order, method, token).await?;
        Ok(Validated {
            order,
            key: Arc::new(EcKey::generate()?),
            since: Instant::now(),
        })
    }

    /// Has the CA validate the domain. It may have done so before, and remember.
    async fn prove(
        &self,
        order: &mut Order,
        method: Method,
        token: &mut String,
    ) -> Result<(), Failure> {
        let mut refused = None;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(method.challenge()) else {
                return Err(Failure::Validation("the CA does not offer it".into()));
            };
            token.clone_from(&challenge.token);
            self.show(method, &challenge.token, &challenge.key_authorization())?;
            match challenge.set_ready().await {
                // A CA may be so quick that its answer has the result already.
                Err(Error::Api(problem)) if kind(&problem) != "badNonce" => refused = Some(problem),
                answer => answer?,
            }
        }
        if let Some(problem) = refused {
            return Err(match order.refresh().await?.status {
                OrderStatus::Invalid => Failure::Validation(describe(&problem)),
                _ => Error::Api(problem).into(),
            });
        }
        match order.poll_ready(&POLLS).await {
            Ok(OrderStatus::Ready) => Ok(()),
            Err(Error::Timeout(_)) => Err(Failure::Validation(
                "the CA has not come to a result".into(),
            )),
            _ if order.state().status == OrderStatus::Invalid => Err(refusal(order, method).await),
            Ok(status) => Err(Failure::Other(format!("the CA's order is {status:?}"))),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why the CA did not validate: the order says that it failed, the challenge says why.
async fn refusal(order: &mut Order, method: Method) -> Failure {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let challenges = state.challenges.iter();
        let mut failed = challenges.filter(|challenge| challenge.r#type == method.challenge());
        if let Some(problem) = failed.find_map(|challenge| challenge.error.as_ref()) {
            return Failure::Validation(describe(problem));
        }
    }
    let text = match &order.state().error {
        Some(problem) => describe(problem),
        None => "the CA gave no reason".into(),
    };
    Failure::Validation(text)
}

/// The certificate that a validating CA is shown (RFC 8737, section 3).
fn validation_certificate(
    domain: &str,
    authorization: &KeyAuthorization,
) -> Result<Arc<CertifiedKey>, Failure> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([domain.to_owned()])?;
    let digest = authorization.digest();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = any_supported_type(&key).map_err(|error| Failure::Other(error.to_string()))?;
    let chain = vec![certificate.der().clone()];
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// The certificate signing request, in DER.
fn request(domain: &str, key: &EcKey) -> Result<Vec<u8>, Failure> {
    let mut params = CertificateParams::new([domain.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::try_from(&key.pkcs8())?;
    Ok(params.serialize_request(&key)?.der().to_vec())
}

/// A problem's kind without the URN in front of it.
fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or("problem");
    kind.strip_prefix("urn:ietf:params:acme:error:")
        .unwrap_or(kind)
}

/// The kind first: a long text is cut at its end.
fn describe(problem: &Problem) -> String {
    let mut text = kind(problem).to_owned();
    for detail in [&problem.detail]
        .into_iter()
        .chain(problem.subproblems.iter().map(|sub| &sub.detail))
        .flatten()
    {
        text.push_str(": ");
        text.push_str(detail);
    }
    text
}

/// An error with what caused it: the outermost alone often says nothing ("client error (Connect)").
fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
