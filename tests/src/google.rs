//! A stand-in for Google on this machine: the endpoint that gives out access tokens, and FCM. It checks what it is
//! sent, and answers as it is told.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::eventually;
use crate::launch::Launch;
use crate::relay::Relay;
use crate::transport::certificate;
use crate::wire::{ACCESS_TOKEN, CLIENT_EMAIL, FREE_TEXT};

const CREDENTIALS: &str = "PYRYCODE_RELAY_FCM_CREDENTIALS";
const KEY_ID: &str = "key-4711";
const PROJECT: &str = "stand-in-project";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";

/// What the stand-in does with a request.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    /// `None`: the usual one for the status.
    body: Option<String>,
    held: bool,
    reset: bool,
}

impl Answer {
    /// The status, with the body that Google has for it.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: None,
            held: false,
            reset: false,
        }
    }

    /// No answer: the connection is reset.
    pub fn reset() -> Self {
        Self {
            reset: true,
            ..Self::status(200)
        }
    }

    /// With this header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Not before [`Google::release`].
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }
}

/// A message that came to FCM.
#[derive(Clone, Debug)]
pub struct Message {
    /// The body, as it came.
    pub body: String,
    /// When.
    pub at: Instant,
}

/// The running stand-in. When it is dropped, whatever was wrong with a request fails the test.
pub struct Google {
    addr: SocketAddr,
    account: String,
    private_key: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    token_uri: String,
    public_key: Vec<u8>,
    released: watch::Sender<bool>,
    state: Mutex<State>,
}

struct State {
    /// Answers to come, for the token endpoint and for FCM; then [`Answer::status`] of 200.
    token_answers: VecDeque<Answer>,
    fcm_answers: VecDeque<Answer>,
    fetches: usize,
    messages: Vec<Message>,
    /// The tokens that FCM takes.
    issued: Vec<String>,
    expires_in: u64,
    /// Requests for other paths.
    strays: usize,
    problems: Vec<String>,
}

impl Drop for Google {
    fn drop(&mut self) {
        self.task.abort();
        let problems = self.shared.lock().problems.clone();
        assert!(
            problems.is_empty() || std::thread::panicking(),
            "{problems:#?}"
        );
    }
}

impl Google {
    /// Starts it, with a service account of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
        let token_uri = format!("https://{addr}/token");
        let account = json!({
            "type": "service_account",
            "project_id": "ignored",
            "private_key_id": KEY_ID,
            "private_key": key.serialize_pem(),
            "client_email": CLIENT_EMAIL,
            "token_uri": token_uri,
        });
        let shared = Arc::new(Shared {
            token_uri,
            public_key: key.der_bytes().to_vec(),
            released: watch::Sender::new(false),
            state: Mutex::new(State {
                token_answers: VecDeque::new(),
                fcm_answers: VecDeque::new(),
                fetches: 0,
                messages: Vec::new(),
                issued: Vec::new(),
                expires_in: 3600,
                strays: 0,
                problems: Vec::new(),
            }),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self {
            addr,
            account: account.to_string(),
            private_key: key.serialize_pem(),
            shared,
            task,
        }
    }

    /// A start of the relay with this Google, trusted.
    pub fn launch(&self, args: &[&str]) -> Launch {
        let endpoint = format!("https://{}", self.addr);
        let launch = Launch::new(args).with_defaults();
        self.trusted_by(launch.args(&["--fcm-endpoint", &endpoint, "--fcm-project", PROJECT]))
    }

    /// The start, with this Google's credentials and CA in its environment.
    pub fn trusted_by(&self, launch: Launch) -> Launch {
        let ca = certificate("ca.pem");
        let ca = ca.to_str().expect("a path in UTF-8");
        launch
            .env(CREDENTIALS, &self.account)
            .env("SSL_CERT_FILE", ca)
    }

    /// A running relay with this Google.
    pub async fn relay(&self) -> Relay {
        self.launch(&[]).start().await
    }

    /// How the next requests to FCM are answered, in their order.
    pub fn fcm(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().fcm_answers.extend(answers);
    }

    /// How the next requests for access tokens are answered.
    pub fn tokens(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().token_answers.extend(answers);
    }

    /// What further access tokens are said to live for, in seconds.
    pub fn tokens_live(&self, seconds: u64) {
        self.shared.lock().expires_in = seconds;
    }

    /// Takes back every access token: FCM answers 401 to them.
    pub fn revoke(&self) {
        self.shared.lock().issued.clear();
    }

    /// Lets everything go that is held, now and later.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// The messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.lock().messages.clone()
    }

    /// Waits until there are `n` messages.
    pub async fn wait_messages(&self, n: usize) -> Vec<Message> {
        eventually(&format!("{n} messages at FCM"), || async {
            Some(self.messages()).filter(|messages| messages.len() >= n)
        })
        .await
    }

    /// How often an access token was asked for.
    pub fn fetches(&self) -> usize {
        self.shared.lock().fetches
    }

    /// Waits until an access token was asked for `n` times.
    pub async fn wait_fetches(&self, n: usize) {
        eventually(&format!("{n} requests for an access token"), || async {
            (self.fetches() >= n).then_some(())
        })
        .await;
    }

    /// Requests that came to any other path.
    pub fn strays(&self) -> usize {
        self.shared.lock().strays
    }

    /// That `text` has no part of the credentials in it.
    ///
    /// # Panics
    /// When it has.
    pub fn expect_no_secret(&self, text: &str) {
        let lines = self.private_key.lines().filter(|line| line.len() > 20);
        let account = lines.filter(|line| !line.starts_with("---"));
        let secrets = account.chain(crate::SECRETS).chain([KEY_ID]);
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let chain = CertificateDer::pem_file_iter(certificate("leaf.pem"));
    let chain: Result<Vec<_>, _> = chain.expect("the fixture is there").collect();
    let key = PrivateKeyDer::from_pem_file(certificate("leaf.key"));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(chain.expect("certificates"), key.expect("a key"))
        .expect("they belong together");
    let tls = TlsAcceptor::from(Arc::new(config));
    while let Ok((tcp, _)) = listener.accept().await {
        tokio::spawn(serve(tcp, tls.clone(), shared.clone()));
    }
}

async fn serve(tcp: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    // Kept beside the connection, so that it can be reset when the connection is done with it.
    let socket = socket2::SockRef::from(&tcp).try_clone();
    let Ok(stream) = tls.accept(tcp).await else {
        return;
    };
    let service = service_fn(|request| answer(shared.clone(), request));
    let ended = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let (Err(_), Ok(socket)) = (ended, socket) {
        // Without it the end is a plain one, which is bad enough for whoever waits for an answer.
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let header = |name| head.headers.get(name).and_then(|v| v.to_str().ok());
    let path = head.uri.path();
    let (answer, usual) = {
        let mut state = shared.lock();
        if head.method != Method::POST {
            state.problems.push(format!("{} {path}", head.method));
        }
        if path == "/token" {
            let form = Some("application/x-www-form-urlencoded");
            if header(CONTENT_TYPE) != form {
                state.problems.push("no form".to_owned());
            }
            if let Err(problem) = shared.check_assertion(&body) {
                state.problems.push(problem);
            }
            (state.token_answer(), state.issue())
        } else if path == format!("/v1/projects/{PROJECT}/messages:send") {
            if header(CONTENT_TYPE) != Some("application/json") {
                state.problems.push("no JSON".to_owned());
            }
            let at = Instant::now();
            state.messages.push(Message { body, at });
            let id = format!("projects/{PROJECT}/messages/0:{}", state.messages.len());
            let token = header(AUTHORIZATION).and_then(|v| v.strip_prefix("Bearer "));
            match token.is_some_and(|token| state.issued.iter().any(|t| t == token)) {
                true => (state.fcm_answer(), json!({ "name": id }).to_string()),
                false => (Answer::status(401), String::new()),
            }
        } else {
            state.strays += 1;
            (Answer::status(200), String::new())
        }
    };
    if answer.held {
        let mut released = shared.released.subscribe();
        // The sender is in `shared`.
        let _ = released.wait_for(|released| *released).await;
    }
    if answer.reset {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let body = answer.body.unwrap_or_else(|| match answer.status {
        200 => usual,
        status => error(status).to_string(),
    });
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Full::from(body)).map_err(io::Error::other)
}

/// An error as FCM words it.
fn error(status: u16) -> Value {
    let (name, code) = match status {
        400 => ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        401 => ("UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"),
        404 => ("NOT_FOUND", "UNREGISTERED"),
        429 => ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
        503 => ("UNAVAILABLE", "UNAVAILABLE"),
        _ => ("INTERNAL", "INTERNAL"),
    };
    json!({"error": {
        "code": status,
        "message": FREE_TEXT,
        "status": name,
        "details": [
            {"@type": "type.googleapis.com/google.rpc.BadRequest", "errorCode": "NOT_THIS_ONE"},
            {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code},
        ],
    }})
}

impl State {
    fn token_answer(&mut self) -> Answer {
        self.fetches += 1;
        let next = self.token_answers.pop_front();
        next.unwrap_or_else(|| Answer::status(200))
    }

    fn fcm_answer(&mut self) -> Answer {
        let next = self.fcm_answers.pop_front();
        next.unwrap_or_else(|| Answer::status(200))
    }

    /// The answer with a new token.
    fn issue(&mut self) -> String {
        let token = format!("{ACCESS_TOKEN}-{}", self.fetches);
        let expires_in = self.expires_in;
        let answer =
            json!({"access_token": &token, "expires_in": expires_in, "token_type": "Bearer"});
        self.issued.push(token);
        answer.to_string()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the form of an exchange: the grant, the signature, and every claim.
    fn check_assertion(&self, form: &str) -> Result<(), String> {
        let jwt = form.strip_prefix(GRANT).ok_or("another grant")?;
        let (message, signature) = jwt.rsplit_once('.').ok_or("no JWT")?;
        let (header, claims) = message.split_once('.').ok_or("no JWT")?;
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|e| e.to_string());
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(message.as_bytes(), &bytes(signature)?)
            .map_err(|_| "the signature is not of this key")?;
        let read = |part| -> Result<Value, String> {
            serde_json::from_slice(&bytes(part)?).map_err(|e| e.to_string())
        };
        let header = read(header)?;
        if header != json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}) {
            return Err(format!("the header {header}"));
        }
        let claims = read(claims)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(|e| e.to_string())?.as_secs();
        let issued = claims["iat"].as_u64().ok_or("no iat")?;
        let expected = json!({
            "iss": CLIENT_EMAIL,
            "aud": self.token_uri,
            "scope": SCOPE,
            "iat": issued,
            "exp": issued + 3600,
        });
        match claims == expected && (now - 60..=now).contains(&issued) {
            true => Ok(()),
            false => Err(format!("the claims {claims} at {now}")),
        }
    }
}
