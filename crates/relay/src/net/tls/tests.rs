use super::files::{Files, FilesError, Watch};
use super::*;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

const DAY: Duration = Duration::from_secs(86_400);

/// Issuer of everything here: certificates that sign themselves are tested as such.
struct Pair {
    certificate: CertificateText,
    key: KeyPair,
}

struct CertificateText {
    der: rustls::pki_types::CertificateDer<'static>,
    pem: String,
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

/// A self-signed pair for `names`, valid from yesterday for `days`.
fn pair(names: &[&str], days: i32) -> Pair {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let start = SystemTime::now() - DAY;
    params.not_before = start.into();
    params.not_after = match days {
        ..0 => start - DAY * days.unsigned_abs(),
        _ => start + DAY * days.unsigned_abs(),
    }
    .into();
    let der = params.self_signed(&key).unwrap().der().clone();
    let pem = pem("CERTIFICATE", &der);
    Pair {
        certificate: CertificateText { der, pem },
        key,
    }
}

impl Pair {
    fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.serialized_der())
    }

    fn certificate(&self) -> Arc<Certificate> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        Arc::new(Certificate::new(vec![self.certificate.der.clone()], &key).unwrap())
    }
}

#[test]
fn a_certificate_from_before_1970_can_be_shown() {
    let certificate = pair(&["relay.example"], -(70 * 365)).certificate();
    assert_eq!(certificate.not_after(), SystemTime::UNIX_EPOCH);
    let shown = certificate.shown_not_after().to_string();
    assert_eq!(shown, "1970-01-01T00:00:00Z");
}

#[test]
fn a_certificate_is_for_host_names_only() {
    assert!(!pair(&["relay.test"], 90).certificate().is_for("no name"));
}

struct Volume {
    directory: tempfile::TempDir,
}

impl Volume {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn files(&self, certificate: &str, key: &str) -> Files {
        Files {
            certificate: self.write("tls.crt", certificate),
            key: self.write("tls.key", key),
        }
    }
}

// --- files ---

#[test]
fn a_chain_and_its_key_are_read_in_their_order() {
    let (leaf, issuer) = (pair(&["relay.test"], 90), pair(&["issuer.test"], 90));
    let chain = format!(
        "some words\n{}{}",
        leaf.certificate.pem, issuer.certificate.pem
    );
    let read = Volume::new().files(&chain, &leaf.key_pem()).read().unwrap();
    let expected = [leaf.certificate.der, issuer.certificate.der];
    assert_eq!(read.certified().cert, expected);
    assert!(read.is_for("relay.test") && read.is_for("Relay.TEST"));
    assert!(!read.is_for("issuer.test") && !read.is_for("a.relay.test"));
    let left = read.not_after().duration_since(SystemTime::now()).unwrap();
    assert!(left > DAY * 88 && left < DAY * 90, "{left:?}");
    assert!(read.not_before() < SystemTime::now());
}

#[test]
fn one_file_may_hold_both() {
    let leaf = pair(&["relay.test"], 90);
    let volume = Volume::new();
    let both = volume.write("both.pem", &(leaf.key_pem() + &leaf.certificate.pem));
    let files = Files {
        certificate: both.clone(),
        key: both,
    };
    assert!(files.read().is_ok());
}

/// The message that these files are refused with.
fn refused(certificate: &str, key: &str) -> String {
    let volume = Volume::new();
    let Err(error) = volume.files(certificate, key).read() else {
        panic!("accepted {certificate} {key}");
    };
    let directory = format!("{}/", volume.directory.path().display());
    let text = error.to_string();
    assert!(text.contains(&directory), "no file is named: {text}");
    text.replace(&directory, "")
}

#[test]
fn what_is_wrong_with_files_is_said_with_the_file_and_the_fix() {
    let (leaf, other) = (pair(&["relay.test"], 90), pair(&["other.test"], 90));
    let (certificate, key) = (&leaf.certificate.pem, &leaf.key_pem());
    let damaged = certificate.replacen("-----\n", "-----\n????", 1);
    let unfinished = &certificate[..certificate.len() - 30];
    let unmarked = certificate.replacen("-----\n", "\n", 1);
    let wrong_order = format!("{}{certificate}", other.certificate.pem);
    let not_der = pem("CERTIFICATE", b"0123456789");
    let encrypted = pem("ENCRYPTED PRIVATE KEY", b"0123456789");
    let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let unknown_key = pem("PRIVATE KEY", b"0123456789");
    for (certificate, key, file, words) in [
        ("", &**key, "tls.crt", "holds no certificate"),
        (&damaged, key, "tls.crt", "is not PEM"),
        (unfinished, key, "tls.crt", "no END line"),
        (&unmarked, key, "tls.crt", "a BEGIN line is damaged"),
        (
            &not_der,
            key,
            "tls.crt",
            "certificate no. 1 of the chain is damaged",
        ),
        (certificate, "", "tls.key", "holds no private key"),
        (certificate, certificate, "tls.key", "holds no private key"),
        (certificate, &encrypted, "tls.key", "with a passphrase"),
        (certificate, old_encrypted, "tls.key", "with a passphrase"),
        (certificate, &unknown_key, "tls.key", "cannot be used"),
        (
            certificate,
            &other.key_pem(),
            "tls.key",
            "does not belong to the certificate",
        ),
        (&wrong_order, key, "tls.crt", "belongs to certificate no. 2"),
    ] {
        let text = refused(certificate, key);
        assert!(
            text.contains(file) && text.contains(words),
            "{words}: {text}"
        );
    }
}

#[test]
fn a_damaged_key_is_not_shown() {
    let leaf = pair(&["relay.test"], 90);
    let damaged = leaf.key_pem().replacen("-----\n", "-----\n?", 1);
    let text = refused(&leaf.certificate.pem, &damaged);
    let secret = leaf.key_pem();
    let secret = secret.lines().nth(1).unwrap();
    assert!(!text.contains(&secret[..12]), "{text}");
}

#[test]
fn what_is_no_small_file_is_not_read() {
    let leaf = pair(&["relay.test"], 90);
    let volume = Volume::new();
    let mut files = volume.files(&leaf.certificate.pem, &leaf.key_pem());
    files.key = volume.path("missing");
    assert!(matches!(files.read(), Err(FilesError::Read { .. })));
    files.key = volume.directory.path().to_owned();
    let text = files.read().err().unwrap().to_string();
    assert!(text.contains("not a regular file"), "{text}");
    files.key = "/dev/zero".into();
    assert!(matches!(files.read(), Err(FilesError::Read { .. })));
    files.key = volume.write("large", &"x".repeat((1 << 20) + 1));
    let text = files.read().err().unwrap().to_string();
    assert!(text.contains("larger than 1 MiB"), "{text}");
}

#[test]
fn a_version_changes_with_every_way_of_replacing_a_file() {
    let (old, new) = (pair(&["old.test"], 90), pair(&["new.test"], 90));
    let volume = Volume::new();
    let mut files = volume.files(&old.certificate.pem, &old.key_pem());
    let mut last = files.version();
    assert_eq!(last, files.version());
    let mut changed = |files: &Files, how: &str| {
        let version = files.version();
        assert_ne!(last, version, "{how}");
        last = version;
    };
    // Of another length: two writes may fall into one tick of the file system's clock.
    volume.write("tls.crt", &(new.certificate.pem.clone() + "\n"));
    changed(&files, "written in place");
    let staged = volume.write("staged", &new.certificate.pem);
    std::fs::rename(staged, &files.certificate).unwrap();
    changed(&files, "renamed over");
    std::fs::remove_file(&files.key).unwrap();
    changed(&files, "removed");
    // As Kubernetes does it: a link to a directory that is swapped.
    for name in ["one", "two"] {
        std::fs::create_dir(volume.path(name)).unwrap();
        std::fs::write(volume.path(name).join("tls.crt"), name).unwrap();
    }
    let link = |target: &str| {
        std::os::unix::fs::symlink(target, volume.path("new-link")).unwrap();
        std::fs::rename(volume.path("new-link"), volume.path("data")).unwrap();
    };
    link("one");
    files.certificate = volume.path("data/tls.crt");
    changed(&files, "linked");
    link("two");
    changed(&files, "link swapped");
}

#[test]
fn a_bad_version_is_worth_a_line_at_the_second_look_or_when_asked() {
    let volume = Volume::new();
    let version = |certificate: &str| volume.files(certificate, "key").version();
    let [served, bad, worse] = ["served", "bad one", "a worse one"].map(version);
    let mut watch = Watch::new(served);
    let looks = [(&bad, false), (&bad, false), (&bad, false)];
    let lines = looks.map(|(version, asked)| watch.complains(version.clone(), asked));
    assert_eq!(lines, [false, true, false]);
    // A pair that is replaced in several steps, one seen at each look.
    let looks = [(&worse, false), (&bad, false), (&worse, false)];
    let lines = looks.map(|(version, asked)| watch.complains(version.clone(), asked));
    assert_eq!(lines, [false; 3]);
    let looks = [(&bad, true), (&bad, false), (&bad, true)];
    let lines = looks.map(|(version, asked)| watch.complains(version.clone(), asked));
    assert_eq!(lines, [true, false, true]);
}

// --- handshakes ---

fn client(pair: &Pair, alpn: &[&str], tls13: bool) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(pair.certificate.der.clone()).unwrap();
    let version = match tls13 {
        true => &rustls::version::TLS13,
        false => &rustls::version::TLS12,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

type Ends = (
    io::Result<client::TlsStream<DuplexStream>>,
    io::Result<Option<Box<TlsStream<DuplexStream>>>>,
);

async fn shake(tls: &Tls, config: &Arc<ClientConfig>, name: &str) -> Ends {
    let (ours, theirs) = duplex(1 << 16);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(config.clone());
    tokio::join!(connector.connect(name, theirs), tls.accept(ours))
}

fn serving(pair: &Pair, domain: Option<&str>, acme: bool) -> (Tls, Arc<Certificates>) {
    let certificates = Arc::new(Certificates::new(domain));
    certificates.install(pair.certificate());
    (Tls::new(certificates.clone(), acme).unwrap(), certificates)
}

#[tokio::test]
async fn only_the_domain_gets_a_certificate() {
    let pair = pair(&["relay.test", "other.test", "127.0.0.1"], 90);
    let (tls, _) = serving(&pair, Some("Relay.test"), false);
    for tls13 in [true, false] {
        let config = Arc::new(client(&pair, &["http/1.1"], tls13));
        for (name, served) in [
            ("relay.test", true),
            ("RELAY.test", true),
            ("other.test", false),
            ("127.0.0.1", false), // no SNI
        ] {
            let (theirs, ours) = shake(&tls, &config, name).await;
            assert_eq!(theirs.is_ok(), served, "{name}");
            assert_eq!(ours.is_ok(), served, "{name}");
        }
    }
}

#[tokio::test]
async fn without_a_domain_every_name_does() {
    let pair = pair(&["relay.test", "127.0.0.1"], 90);
    let (tls, _) = serving(&pair, None, false);
    let config = Arc::new(client(&pair, &[], true));
    for name in ["relay.test", "127.0.0.1"] {
        let (theirs, ours) = shake(&tls, &config, name).await;
        assert!(theirs.is_ok() && ours.is_ok_and(|ours| ours.is_some()));
    }
}

#[tokio::test]
async fn the_protocol_is_http_1_1_also_for_those_who_prefer_another() {
    let pair = pair(&["relay.test"], 90);
    let (tls, _) = serving(&pair, Some("relay.test"), true);
    for (offered, chosen) in [
        (&["http/1.1"][..], Some("http/1.1")),
        (&["h2", "http/1.1"], Some("http/1.1")),
        (&["acme-tls/1", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let config = Arc::new(client(&pair, offered, true));
        let (theirs, ours) = shake(&tls, &config, "relay.test").await;
        let theirs = theirs.unwrap();
        let protocol = theirs.get_ref().1.alpn_protocol();
        assert_eq!(protocol, chosen.map(str::as_bytes), "{offered:?}");
        assert!(ours.unwrap().is_some());
    }
    let config = Arc::new(client(&pair, &["h2"], true));
    let (theirs, ours) = shake(&tls, &config, "relay.test").await;
    assert!(theirs.is_err() && ours.is_err(), "h2 alone is not spoken");
}

#[tokio::test]
async fn a_validating_ca_sees_the_challenge_and_nobody_else_does() {
    let (pair, challenge) = (pair(&["relay.test"], 90), pair(&["relay.test"], 5));
    let (tls, certificates) = serving(&pair, Some("relay.test"), true);
    let ca = Arc::new(client(&challenge, &["acme-tls/1"], true));
    let (theirs, ours) = shake(&tls, &ca, "relay.test").await;
    assert!(theirs.is_err() && ours.is_err(), "nothing is under way");

    certificates.set_challenge(Some(challenge.certificate().certified().clone()));
    let (theirs, ours) = shake(&tls, &ca, "relay.test").await;
    assert!(ours.unwrap().is_none(), "it is no connection to serve");
    let mut rest = Vec::new();
    theirs.unwrap().read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "closed in order");
    let other = Arc::new(client(&pair, &["acme-tls/1"], true));
    let (theirs, _) = shake(&tls, &other, "relay.test").await;
    assert!(theirs.is_err(), "the real certificate is not shown there");
    let visitor = Arc::new(client(&pair, &["http/1.1"], true));
    let (theirs, _) = shake(&tls, &visitor, "relay.test").await;
    assert!(theirs.is_ok(), "visitors see the real certificate");

    let (tls, certificates) = serving(&pair, Some("relay.test"), false);
    certificates.set_challenge(Some(challenge.certificate().certified().clone()));
    let (theirs, ours) = shake(&tls, &ca, "relay.test").await;
    assert!(theirs.is_err() && ours.is_err(), "not in ACME mode");
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_leaves_old_ones_alone() {
    let (old, new) = (pair(&["relay.test"], 90), pair(&["relay.test"], 90));
    let (tls, certificates) = serving(&old, None, false);
    let config = Arc::new(client(&old, &[], true));
    let (theirs, ours) = shake(&tls, &config, "relay.test").await;
    let (mut theirs, mut ours) = (theirs.unwrap(), ours.unwrap().unwrap());
    certificates.install(new.certificate());
    let config = Arc::new(client(&new, &[], true));
    assert!(shake(&tls, &config, "relay.test").await.0.is_ok());
    theirs.write_all(b"still here").await.unwrap();
    let mut read = [0; 10];
    ours.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
}

#[tokio::test]
async fn without_a_certificate_the_handshake_fails() {
    let pair = pair(&["relay.test"], 90);
    let tls = Tls::new(Arc::new(Certificates::new(None)), true).unwrap();
    let config = Arc::new(client(&pair, &[], true));
    let (theirs, ours) = shake(&tls, &config, "relay.test").await;
    assert!(theirs.is_err() && ours.is_err());
}

#[tokio::test]
async fn sessions_are_resumed_without_memory_here() {
    let pair = pair(&["relay.test"], 90);
    let (tls, _) = serving(&pair, Some("relay.test"), false);
    for tls13 in [true, false] {
        let config = Arc::new(client(&pair, &["http/1.1"], tls13));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (theirs, ours) = shake(&tls, &config, "relay.test").await;
            let (mut theirs, mut ours) = (theirs.unwrap(), ours.unwrap().unwrap());
            assert_eq!(ours.get_ref().1.handshake_kind(), Some(expected));
            // The tickets come with the first bytes.
            ours.write_all(b"x").await.unwrap();
            ours.flush().await.unwrap();
            theirs.read_exact(&mut [0]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_little_memory() {
    const SOCKET: usize = 4096;
    let pair = pair(&["relay.test"], 90);
    let (tls, _) = serving(&pair, None, false);
    let (ours, theirs) = duplex(SOCKET);
    let name = ServerName::try_from("relay.test").unwrap();
    let connector = TlsConnector::from(Arc::new(client(&pair, &[], true)));
    let (_theirs, ours) = tokio::join!(connector.connect(name, theirs), tls.accept(ours));
    let mut ours = ours.unwrap().unwrap();
    let mut accepted = 0;
    let chunk = [0; 8192];
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(50), ours.write(&chunk)).await
    {
        accepted += written.unwrap();
    }
    assert!(accepted >= SOCKET, "{accepted}");
    assert!(accepted <= SOCKET + 2 * BUFFER_BYTES, "{accepted}");
}

// --- self-signed ---

#[tokio::test]
async fn a_self_signed_certificate_names_the_domain_or_this_machine() {
    let for_domain = self_signed::make(Some("relay.test"), None).unwrap();
    assert!(for_domain.is_for("relay.test") && !for_domain.is_for("localhost"));
    let listen = Some("192.0.2.7".parse().unwrap());
    let local = self_signed::make(None, listen).unwrap();
    for name in ["localhost", "127.0.0.1", "::1", "192.0.2.7"] {
        assert!(local.is_for(name), "{name}");
    }
    assert!(!local.is_for("relay.test"));
    let left = local.not_after().duration_since(SystemTime::now()).unwrap();
    assert!(left > DAY * 300 && left < DAY * 398, "{left:?}");

    let mut roots = RootCertStore::empty();
    roots.add(local.leaf().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let certificates = Arc::new(Certificates::new(None));
    certificates.install(Arc::new(local));
    let tls = Tls::new(certificates, false).unwrap();
    let (theirs, ours) = shake(&tls, &Arc::new(config), "localhost").await;
    assert!(theirs.is_ok() && ours.is_ok(), "{theirs:?}");
}

#[test]
fn a_fingerprint_is_hex_with_colons_and_changes_with_each_certificate() {
    let one = self_signed::make(None, None).unwrap().fingerprint();
    let two = self_signed::make(None, None).unwrap().fingerprint();
    assert_ne!(one, two);
    let bytes: Vec<&str> = one.split(':').collect();
    assert_eq!(bytes.len(), 32);
    assert!(bytes.iter().all(|byte| {
        byte.len() == 2 && byte.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F'))
    }));
}
