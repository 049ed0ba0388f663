//! Certificates from files, in every form operators have them, replaced while the relay runs; and those
//! that the relay makes itself. The other side of the handshake is OpenSSL where that matters.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use relay_tests::{
    DAEMON_HEADERS, Daemon, HOST, Launch, Record, Relay, SILENCE, Stream, Trust, eventually, soon,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

async fn openssl(args: &[&str]) -> String {
    let mut command = tokio::process::Command::new("openssl");
    let output = soon("openssl", command.args(args).stdin(Stdio::null()).output()).await;
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A certificate that signs itself, and its key, both in PEM.
#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    /// For the host, with a new key; `more` are further arguments of `openssl req`.
    async fn new(more: &[&str]) -> Self {
        let key = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]).await;
        Self::of(key, more).await
    }

    async fn of(key: String, more: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &key).unwrap();
        let path = file.path().to_str().unwrap();
        let (subject, names) = (format!("/CN={HOST}"), format!("subjectAltName=DNS:{HOST}"));
        let args = [
            &["req", "-x509", "-key", path, "-subj", &subject][..],
            &["-addext", &names, "-addext", "basicConstraints=CA:FALSE"],
            more,
        ];
        let certificate = openssl(&args.concat()).await;
        Self { certificate, key }
    }

    fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .unwrap()
            .to_vec()
    }
}

/// The files of a relay.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(pair: &Pair) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Self { folder };
        files.write(pair);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Both in place, the key last.
    fn write(&self, pair: &Pair) {
        fs::write(self.path("tls.crt"), &pair.certificate).unwrap();
        fs::write(self.path("tls.key"), &pair.key).unwrap();
    }

    /// One of them, in one step.
    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn launch(&self, reload: &str) -> Launch {
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| self.path(name));
        Launch::new(&["--tls-cert", certificate.to_str().unwrap()])
            .args(&["--tls-key", key.to_str().unwrap()])
            .args(&["--tls-reload", reload])
            .over_tls_with_its_own_certificate()
    }
}

/// Starts it; returns when the certificate is read, which connections only wait for.
async fn start(launch: Launch) -> Relay {
    let relay = launch.start().await;
    relay.log.wait("certificate_loaded", &[]).await;
    relay
}

/// A connection of a client that trusts this certificate alone.
async fn connect(relay: &Relay, pair: &Pair) -> std::io::Result<Stream> {
    let tcp = TcpStream::connect(relay.addr()).await.unwrap();
    Trust::new(pair.der().into()).tls(tcp, HOST).await
}

/// Waits until new connections get this certificate.
async fn expect_served(relay: &Relay, pair: &Pair) {
    eventually("the new certificate", || async {
        connect(relay, pair).await.ok().map(drop)
    })
    .await;
}

async fn daemon_on(relay: &Relay, stream: Stream) -> Daemon {
    let headers = [&[("x-pyrycode-server", "home")], DAEMON_HEADERS].concat();
    let daemon = relay.upgrade_on(stream, "/v1/server", &headers).await;
    Daemon(daemon.unwrap())
}

#[tokio::test]
async fn keys_of_every_usual_kind_and_form_serve_tls_1_2_and_1_3() {
    let ec = ["genpkey", "-algorithm", "EC", "-pkeyopt"];
    for (form, label) in [
        (
            [&ec[..], &["ec_paramgen_curve:P-256"]].concat(),
            "PRIVATE KEY",
        ),
        (
            [&ec[..], &["ec_paramgen_curve:P-384"]].concat(),
            "PRIVATE KEY",
        ),
        // With its parameters in a block of their own, as many guides make it.
        (
            vec!["ecparam", "-name", "prime256v1", "-genkey"],
            "EC PRIVATE KEY",
        ),
        (vec!["genrsa", "-traditional", "2048"], "RSA PRIVATE KEY"),
        (vec!["genpkey", "-algorithm", "RSA"], "PRIVATE KEY"),
        (vec!["genpkey", "-algorithm", "ED25519"], "PRIVATE KEY"),
    ] {
        let key = openssl(&form).await;
        assert!(key.contains(&format!("BEGIN {label}-")), "{form:?}");
        let pair = Pair::of(key, &[]).await;
        let files = Files::new(&pair);
        let relay = start(files.launch("1h")).await;
        let address = relay.addr().to_string();
        let trusted = files.path("tls.crt");
        for version in ["-tls1_2", "-tls1_3"] {
            let args = [
                &[
                    "s_client",
                    "-connect",
                    &address,
                    "-servername",
                    HOST,
                    version,
                ][..],
                &["-CAfile", trusted.to_str().unwrap(), "-verify_return_error"],
                &["-verify_hostname", HOST, "-alpn", "h2,http/1.1"],
            ];
            let seen = openssl(&args.concat()).await;
            assert!(
                seen.contains("Verify return code: 0 (ok)"),
                "{form:?} {seen}"
            );
            assert!(seen.contains("ALPN protocol: http/1.1"), "{form:?} {seen}");
        }
    }
}

#[tokio::test]
async fn sessions_are_resumed() {
    let pair = Pair::new(&[]).await;
    let files = Files::new(&pair);
    let relay = start(files.launch("1h")).await;
    let session = tempfile::NamedTempFile::new().unwrap();
    let session = session.path().to_str().unwrap();
    let address = relay.addr().to_string();
    // In TLS 1.3 the ticket comes after the handshake, too late for a client that reads nothing.
    let connect = [
        "s_client",
        "-connect",
        &address,
        "-servername",
        HOST,
        "-tls1_2",
    ];
    let first = openssl(&[&connect[..], &["-sess_out", session]].concat()).await;
    assert!(first.contains("New, TLSv1.2"), "{first}");
    let again = openssl(&[&connect[..], &["-sess_in", session]].concat()).await;
    assert!(again.contains("Reused, TLSv1.2"), "{again}");
}

#[tokio::test]
async fn replaced_files_serve_new_connections_and_leave_old_ones_alone() {
    let (old, new) = (Pair::new(&[]).await, Pair::new(&["-days", "50"]).await);
    let files = Files::new(&old);
    let relay = start(files.launch("50ms")).await;
    let first = relay.log.wait("certificate_loaded", &[]).await;
    let mut daemon = daemon_on(&relay, connect(&relay, &old).await.unwrap()).await;
    files.write(&new);
    let second = relay.log.wait_nth(2, "certificate_loaded", &[]).await;
    assert_eq!(second.level, "INFO");
    assert!(second.get("not_after") > first.get("not_after"));
    assert!(connect(&relay, &new).await.is_ok());
    assert!(connect(&relay, &old).await.is_err(), "the old one is gone");
    daemon.expect_alive().await;
}

#[tokio::test]
async fn bad_files_leave_the_old_certificate_and_are_told_once() {
    let (old, new) = (Pair::new(&[]).await, Pair::new(&[]).await);
    let files = Files::new(&old);
    let relay = start(files.launch("20ms")).await;
    let event = "certificate_reload_failed";
    for (nth, name, text, words) in [
        (1, "tls.key", &*new.key, "does not belong"),
        (2, "tls.crt", "no PEM\n", "holds no certificate"),
    ] {
        files.replace(name, text);
        let failed = relay.log.wait_nth(nth, event, &[]).await;
        assert_eq!(failed.level, "WARN");
        let err = failed.get("err").unwrap();
        let path = files.path(name);
        assert!(
            err.contains(words) && err.contains(path.to_str().unwrap()),
            "{err}"
        );
        assert!(connect(&relay, &old).await.is_ok(), "still served");
    }
    // Many looks later nothing more has been said.
    tokio::time::sleep(SILENCE).await;
    files.replace("tls.crt", &new.certificate);
    expect_served(&relay, &new).await;
    assert_eq!(relay.log.count(event, &[]), 2);
}

#[tokio::test]
async fn sighup_reads_at_once_and_always_answers() {
    let (old, new) = (Pair::new(&[]).await, Pair::new(&[]).await);
    let files = Files::new(&old);
    let relay = start(files.launch("1h")).await;
    relay.log.wait("certificate_loaded", &[]).await;
    files.write(&new);
    relay.signal(Signal::HUP);
    relay.log.wait_nth(2, "certificate_loaded", &[]).await;
    assert!(connect(&relay, &new).await.is_ok());
    relay.signal(Signal::HUP);
    relay.log.wait_nth(3, "certificate_loaded", &[]).await;
    fs::remove_file(files.path("tls.key")).unwrap();
    for nth in 1..=2 {
        relay.signal(Signal::HUP);
        let event = "certificate_reload_failed";
        let failed: Record = relay.log.wait_nth(nth, event, &[]).await;
        assert!(failed.get("err").unwrap().contains("tls.key"), "{failed:?}");
    }
    assert!(connect(&relay, &new).await.is_ok());
}

#[tokio::test]
async fn links_may_be_swapped_anywhere_along_the_path() {
    let pairs = [Pair::new(&[]).await, Pair::new(&[]).await];
    let files = Files::new(&pairs[0]);
    // As Kubernetes mounts a secret: tls.crt -> ..data/tls.crt, ..data -> ..1
    let swap = |target: &str, name: &str| {
        let new = files.path("new");
        std::os::unix::fs::symlink(target, &new).unwrap();
        fs::rename(new, files.path(name)).unwrap();
    };
    for (folder, pair) in ["..1", "..2"].into_iter().zip(&pairs) {
        fs::create_dir(files.path(folder)).unwrap();
        fs::write(files.path(folder).join("tls.crt"), &pair.certificate).unwrap();
        fs::write(files.path(folder).join("tls.key"), &pair.key).unwrap();
    }
    swap("..1", "..data");
    for name in ["tls.crt", "tls.key"] {
        swap(&format!("..data/{name}"), name);
    }
    let relay = start(files.launch("50ms")).await;
    assert!(connect(&relay, &pairs[0]).await.is_ok());
    swap("..2", "..data");
    expect_served(&relay, &pairs[1]).await;
    assert_eq!(relay.log.count("certificate_reload_failed", &[]), 0);
}

#[tokio::test]
async fn files_that_cannot_be_used_keep_the_relay_from_starting() {
    let (pair, other) = (Pair::new(&[]).await, Pair::new(&[]).await);
    let mixed = Files::new(&Pair {
        certificate: pair.certificate.clone(),
        key: other.key.clone(),
    });
    let missing = Files::new(&pair);
    fs::remove_file(missing.path("tls.key")).unwrap();
    for (files, words) in [(mixed, "does not belong"), (missing, "cannot read")] {
        let launch = files.launch("1h").args(&["--https-listen", "127.0.0.1:1"]);
        let ended = launch.args(&["--metrics-listen", ""]).ended().await;
        let line = ended.refusal(2, "refusing to start");
        assert!(line.line.contains(words), "{line:?}");
        assert!(line.line.contains("tls.key"), "{line:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_time_or_host_serves_with_a_warning() {
    for (from, until, words) in [(2019, 2020, "expired"), (2100, 2101, "not valid yet")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([HOST.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 2, 1);
        params.not_after = date_time_ymd(until, 2, 1);
        let files = Files::new(&Pair {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        });
        let relay = start(files.launch("1h")).await;
        let unfit = relay.log.wait("certificate_unfit", &[]).await;
        assert_eq!(unfit.level, "WARN");
        assert!(unfit.get("err").unwrap().contains(words), "{unfit:?}");
    }

    let pair = Pair::new(&[]).await;
    let files = Files::new(&pair);
    let launch = files.launch("1h");
    let relay = start(launch.args(&["--domain", "other.test"])).await;
    let unfit = relay.log.wait("certificate_unfit", &[]).await;
    assert!(unfit.get("err").unwrap().contains("domain"), "{unfit:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_the_one_whose_fingerprint_is_told() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let launch = Launch::new(&["--self-signed", "--domain", HOST]);
        let relay = launch.over_tls_with_its_own_certificate().start().await;
        let line = relay.log.wait("certificate_self_signed", &[]).await;
        let told = line.get("fingerprint").unwrap().to_owned();
        let address = relay.addr().to_string();
        let connect = ["s_client", "-connect", &address, "-servername", HOST];
        let shown = openssl(&connect).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), shown).unwrap();
        let path = file.path().to_str().unwrap();
        let print = ["x509", "-in", path, "-noout", "-fingerprint", "-sha256"];
        let fingerprint = openssl(&print).await;
        assert!(fingerprint.trim().ends_with(&told), "{fingerprint} {told}");
        let names = openssl(&["x509", "-in", path, "-noout", "-ext", "subjectAltName"]).await;
        assert!(names.contains(&format!("DNS:{HOST}")), "{names}");
        seen.push(told);
    }
    assert_ne!(seen[0], seen[1], "each start makes its own");
}
