mod attempts;
mod slow_ca;

use super::cache::{Cache, entry};
use super::client::AcmeClient;
use super::directory::{DirectoryError, Lack, Mode, Tightened, look, prepare};
use super::*;
use crate::net::tls::{Tls, self_signed};
use crate::observe::log::LogSettings;
use hyper::StatusCode;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rcgen::{CertificateParams, KeyPair};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

const DOMAIN: &str = "relay.example.org";

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

// --- the directory ---

#[test]
fn a_missing_directory_is_made_for_its_owner_alone() {
    let home = TempDir::new().unwrap();
    let path = home.path().join(".pyrycode-relay/certs");
    assert_eq!(look(&path).unwrap(), Lack::Directory);
    assert!(!path.parent().unwrap().exists(), "a look makes nothing");
    assert_eq!(prepare(&path).unwrap(), None);
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
    assert_eq!(
        prepare(&path).unwrap(),
        None,
        "a second start changes nothing"
    );
}

#[test]
fn an_open_directory_of_ours_is_closed() {
    let home = TempDir::new().unwrap();
    for open in [0o755, 0o701, 0o710, 0o777] {
        set_mode(home.path(), open);
        let tightened = Tightened {
            from: Mode(open),
            to: Mode(0o700),
        };
        assert_eq!(look(home.path()).unwrap(), Lack::Privacy(Mode(open)));
        assert_eq!(mode(home.path()), open, "a look closes nothing");
        assert_eq!(prepare(home.path()).unwrap(), Some(tightened));
        assert_eq!(look(home.path()).unwrap(), Lack::Nothing);
        assert_eq!(mode(home.path()), 0o700);
    }
    assert_eq!(Mode(0o755).to_string(), "0755");
    set_mode(home.path(), 0o500);
    assert_eq!(prepare(home.path()).unwrap(), None, "closed is closed");
    assert_eq!(mode(home.path()), 0o500);
    set_mode(home.path(), 0o700);
}

#[test]
fn another_users_open_directory_and_what_is_no_directory_are_refused() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = prepare(&file);
    assert!(matches!(refused, Err(DirectoryError::NotADirectory { .. })));
    // Below a file nothing can be, nor in the place of a link that leads nowhere.
    let link = home.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for path in [file.join("certs"), link.clone(), link.join("certs")] {
        assert!(look(&path).is_err(), "{}", path.display());
        assert!(prepare(&path).is_err(), "{}", path.display());
    }

    let foreign = home.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    set_mode(&foreign, 0o755);
    let is_root = rustix::process::geteuid().is_root();
    let foreign = if is_root {
        std::os::unix::fs::chown(&foreign, Some(65_534), None).unwrap();
        foreign
    } else {
        "/".into() // belongs to root, and is open
    };
    let before = mode(&foreign);
    let refused = prepare(&foreign);
    assert!(
        matches!(&refused, Err(DirectoryError::Foreign { .. })),
        "{refused:?}"
    );
    assert_eq!(mode(&foreign), before, "left as it was");
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("chmod 700"), "{text}");
}

// --- the files ---

/// A certificate for `name` with this key.
fn certificate(name: &str, key: &EcKey) -> rustls_pki_types::CertificateDer<'static> {
    let key = KeyPair::try_from(&key.pkcs8()).unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + Duration::from_secs(90 * 86_400)).into();
    params.self_signed(&key).unwrap().der().clone()
}

/// What the cache holds for the domain, and how many files it complained about.
fn cached(cache: &Cache) -> (Option<Certificate>, usize) {
    let mut complaints = 0;
    let found = cache.certificate(DOMAIN, |_, _| complaints += 1);
    (found, complaints)
}

#[test]
fn what_is_written_is_private_whole_and_leaves_nothing_behind() {
    let home = TempDir::new().unwrap();
    let cache = Cache::new(home.path().into());
    for text in ["first", "second"] {
        cache.write("name+key", text).unwrap();
        let path = cache.path("name+key");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(mode(&path), 0o600);
    }
    std::fs::create_dir(cache.path("taken")).unwrap();
    assert!(cache.write("taken", "text").is_err());
    let names = std::fs::read_dir(home.path()).unwrap();
    assert_eq!(names.count(), 2, "no temporary file is left");
    assert!(
        Cache::new("/nowhere/at/all".into())
            .write("a", "b")
            .is_err()
    );
}

#[test]
fn a_certificates_file_is_its_key_and_its_chain_and_nothing_else() {
    let key = EcKey::generate().unwrap();
    let chain = [certificate(DOMAIN, &key), certificate("issuer.test", &key)];
    let text = entry(&key, &chain);
    let labels: Vec<&str> = text.lines().filter(|l| l.starts_with("-----")).collect();
    assert_eq!(
        labels,
        [
            "-----BEGIN EC PRIVATE KEY-----",
            "-----END EC PRIVATE KEY-----",
            "-----BEGIN CERTIFICATE-----",
            "-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----",
            "-----END CERTIFICATE-----",
        ]
    );
    assert!(text.ends_with("-----END CERTIFICATE-----\n"));
    assert!(
        text.lines()
            .all(|line| !line.is_empty() && line.len() <= 64)
    );
    // Go finds the curve in the key itself: its parameters must be there.
    let p256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let sec1 = key.sec1();
    let mut windows = sec1.secret_der().windows(p256.len());
    assert!(windows.any(|window| window == p256));

    let home = TempDir::new().unwrap();
    let cache = Cache::new(home.path().into());
    cache.write(DOMAIN, &text).unwrap();
    let (found, complaints) = cached(&cache);
    assert_eq!(found.unwrap().certified().cert, chain);
    assert_eq!(complaints, 0);
}

#[test]
fn the_rsa_file_of_the_reference_is_taken_when_the_other_is_no_good() {
    let home = TempDir::new().unwrap();
    let cache = Cache::new(home.path().into());
    assert_eq!(
        cached(&cache).1,
        0,
        "nothing there is no reason to complain"
    );
    // RSA or not, the name of the file is what counts.
    let key = EcKey::generate().unwrap();
    let second = certificate(DOMAIN, &key);
    let name = format!("{DOMAIN}+rsa");
    cache
        .write(&name, &entry(&key, std::slice::from_ref(&second)))
        .unwrap();
    let (found, complaints) = cached(&cache);
    assert_eq!((found.unwrap().leaf(), complaints), (&second, 0));

    let other_key = EcKey::generate().unwrap();
    let elsewhere = certificate("other.example.org", &key);
    for damaged in [
        String::new(),
        "not PEM".into(),
        key.to_pem(),
        entry(&other_key, std::slice::from_ref(&second)),
        entry(&key, &[elsewhere]),
    ] {
        cache.write(DOMAIN, &damaged).unwrap();
        let (found, complaints) = cached(&cache);
        assert_eq!(
            (found.unwrap().leaf(), complaints),
            (&second, 1),
            "{damaged}"
        );
    }
    let first = certificate(DOMAIN, &key);
    cache
        .write(DOMAIN, &entry(&key, std::slice::from_ref(&first)))
        .unwrap();
    assert_eq!(cached(&cache).0.unwrap().leaf(), &first);
}

#[test]
fn an_account_key_goes_into_its_file_and_back() {
    let home = TempDir::new().unwrap();
    let cache = Cache::new(home.path().into());
    assert!(cache.account().unwrap().is_none());
    let key = EcKey::generate().unwrap();
    cache.write("acme_account+key", &key.to_pem()).unwrap();
    let found = cache.account().unwrap().unwrap();
    assert_eq!(found.to_pem(), key.to_pem());
    assert_eq!(
        found.pkcs8().secret_pkcs8_der(),
        key.pkcs8().secret_pkcs8_der()
    );

    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p384 = pem::block("PRIVATE KEY", p384.serialized_der());
    for useless in ["", "words", &p384] {
        cache.write("acme_account+key", useless).unwrap();
        let error = cache.account().err().unwrap();
        assert!(error.is_about_content(), "{error}");
    }
    std::fs::remove_file(cache.path("acme_account+key")).unwrap();
    std::fs::create_dir(cache.path("acme_account+key")).unwrap();
    assert!(!cache.account().err().unwrap().is_about_content());
}

// --- port 80 ---

#[test]
fn port_80_answers_the_challenge_under_way_and_nothing_else() {
    let http01 = Http01::new("Relay.example.org");
    let path = "/.well-known/acme-challenge/token-1";
    let status = |host, path| http01.answer(host, path).0;
    assert_eq!(status(Some(DOMAIN), path), StatusCode::NOT_FOUND);
    http01.show("token-1", "token-1.thumbprint");
    for host in [DOMAIN, "RELAY.example.org", "relay.example.org:80"] {
        let (status, body) = http01.answer(Some(host), path);
        assert_eq!(status, StatusCode::OK, "{host}");
        assert_eq!(body.unwrap(), "token-1.thumbprint");
    }
    for host in [None, Some(""), Some("example.org"), Some("[::1]:80")] {
        assert_eq!(status(host, path), StatusCode::FORBIDDEN, "{host:?}");
    }
    let other = "/.well-known/acme-challenge/token-2";
    assert_eq!(status(Some(DOMAIN), other), StatusCode::NOT_FOUND);
    assert_eq!(status(Some("other.test"), other), StatusCode::FORBIDDEN);
    for path in [
        "/",
        "/healthz",
        "/.well-known/",
        "/.well-known/acme-challenge",
    ] {
        assert_eq!(status(Some(DOMAIN), path), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(status(Some("other.test"), path), StatusCode::NOT_FOUND);
    }
    http01.clear();
    assert_eq!(status(Some(DOMAIN), path), StatusCode::NOT_FOUND);
}

// --- settings ---

fn open(domain: &str, directory: &str, ca_file: Option<PathBuf>) -> Result<Acme, AcmeError> {
    let settings = Settings {
        domain: domain.into(),
        directory: directory.into(),
        ca_file,
        cache: "/nowhere".into(),
    };
    let certificates = Arc::new(Certificates::new(Some(domain)));
    Acme::open(settings, certificates, Log::start(LogSettings::silent()))
}

#[test]
fn settings_that_can_never_work_are_refused() {
    let ca = "https://ca.test/directory";
    for domain in [
        "",
        "127.0.0.1",
        "::1",
        "../relay",
        "relay.test:443",
        "a b",
        "*.relay.test",
    ] {
        assert!(
            matches!(open(domain, ca, None), Err(AcmeError::Domain(_))),
            "{domain}"
        );
    }
    for directory in ["", "ca.test", "http://ca.test/", "https://", "https:///x"] {
        let refused = open(DOMAIN, directory, None);
        assert!(
            matches!(refused, Err(AcmeError::Directory(_))),
            "{directory}"
        );
    }
    let home = TempDir::new().unwrap();
    let file = home.path().join("ca.pem");
    for text in ["", "words", &pem::block("CERTIFICATE", b"no DER")] {
        std::fs::write(&file, text).unwrap();
        let refused = open(DOMAIN, ca, Some(file.clone())).err().unwrap();
        assert!(refused.to_string().contains("ca.pem"), "{refused}");
    }
    assert!(open(DOMAIN, ca, Some("/nowhere/ca.pem".into())).is_err());
    assert!(open("Relay.Example.org", ca, None).is_ok());
}

// --- the CA's answers ---

struct Ca {
    /// Trusts this CA, among others.
    client: AcmeClient,
    url: String,
    /// Notified of each request.
    asked: Arc<Notify>,
}

impl Ca {
    /// The length of what comes in answer to a request.
    async fn get(&self) -> Result<usize, String> {
        get(&self.client, &self.url).await
    }
}

/// A CA that gives this answer to everything, or none.
async fn ca_answering(answer: Option<String>) -> Ca {
    let (ours, another) = (
        self_signed::make(None, None).unwrap(),
        self_signed::make(None, None).unwrap(),
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    let trusted: Vec<String> = [&another, &ours]
        .map(|trusted| pem::block("CERTIFICATE", trusted.leaf()))
        .into();
    std::fs::write(file.path(), trusted.concat()).unwrap();
    let client = AcmeClient::new(Some(file.path())).unwrap();
    let certificates = Arc::new(Certificates::new(None));
    certificates.install(Arc::new(ours));
    let tls = Tls::new(certificates, false).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/dir",
        listener.local_addr().unwrap().port()
    );
    let asked = Arc::new(Notify::new());
    let notify = asked.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut stream = tls.accept(socket).await.unwrap().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            notify.notify_one();
            match &answer {
                Some(answer) => {
                    // The client may have had enough before the end.
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
                None => std::future::pending().await,
            }
        }
    });
    Ca { client, url, asked }
}

async fn answer_to(client: &AcmeClient, url: &str) -> Result<BytesResponse, String> {
    let request = hyper::Request::get(url)
        .body(BodyWrapper::default())
        .unwrap();
    client.request(request).await.map_err(|error| match error {
        Error::Other(error) => error.to_string(),
        error => panic!("{error:?}"),
    })
}

async fn get(client: &AcmeClient, url: &str) -> Result<usize, String> {
    let mut response = answer_to(client, url).await?;
    let body = response.body.into_bytes().await;
    body.map(|body| body.len())
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn every_certificate_of_the_ca_file_is_trusted() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned();
    let ca = ca_answering(Some(answer)).await;
    assert_eq!(ca.get().await, Ok(2));
    let stranger = ca_answering(None).await.client;
    assert!(get(&stranger, &ca.url).await.is_err());
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_given_up() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n";
    let answer = head.to_owned() + &"x".repeat(2_000_000);
    let ca = ca_answering(Some(answer)).await;
    let refused = ca.get().await.unwrap_err();
    assert!(refused.contains("limit"), "{refused}");
}

#[tokio::test]
async fn what_a_proxy_says_in_the_cas_place_is_told_by_its_status() {
    let page =
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>";
    let ca = ca_answering(Some(page.into())).await;
    let refused = ca.get().await.unwrap_err();
    assert_eq!(refused, "the answer was HTTP 502 Bad Gateway");
    assert_eq!(ca.client.take_retry_after_s(), None);
}

#[tokio::test]
async fn the_time_that_a_ca_asks_for_is_kept() {
    let problem = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\n\
        Retry-After: 1234\r\nContent-Length: 2\r\n\r\n{}";
    let ca = ca_answering(Some(problem.into())).await;
    assert_eq!(ca.get().await, Ok(2), "the problem is for the caller");
    assert_eq!(ca.client.take_retry_after_s(), Some(1234));
    assert_eq!(ca.client.take_retry_after_s(), None, "it counts once");
    // The library adds it to the time of day.
    let answer = format!(
        "HTTP/1.1 200 OK\r\nRetry-After: {}\r\nContent-Length: 2\r\n\r\n{{}}",
        u64::MAX
    );
    let ca = ca_answering(Some(answer)).await;
    let answer = answer_to(&ca.client, &ca.url).await.unwrap();
    assert_eq!(answer.parts.headers["retry-after"], "86400");
}

#[tokio::test]
async fn a_ca_that_says_nothing_is_given_up() {
    let ca = ca_answering(None).await;
    let asked = ca.asked.clone();
    let request = tokio::spawn(async move { ca.get().await });
    asked.notified().await;
    // Nothing is left but time, which now runs by itself.
    tokio::time::pause();
    assert_eq!(
        request.await.unwrap(),
        Err("no answer within 30 s".to_owned())
    );
}
