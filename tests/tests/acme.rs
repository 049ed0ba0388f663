//! Certificates from a CA, which is the real test server of Let's Encrypt: got, kept, renewed, and what
//! happens when the CA or the disk doesn't cooperate.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use relay_tests::{
    DAEMON_HEADERS, Daemon, HOST, Launch, PHONE_HEADERS, Pebble, Record, Relay, Settings, Stream,
    acme_args, eventually, frame, held_port, soon, within,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// The file that says which directory the certificate came from.
const NOTE: &str = "relay.test+directory";

/// The ports where the CA comes to look, and the relay's cache.
struct Scene {
    https: u16,
    http: u16,
    /// Keeps other tests from these ports until the relay takes them.
    held: Mutex<Vec<TcpListener>>,
    cache: TempDir,
}

impl Scene {
    fn new() -> Self {
        let held = [(); 2].map(|()| held_port());
        let [https, http] = held
            .each_ref()
            .map(|held| held.local_addr().unwrap().port());
        Self {
            https,
            http,
            held: Mutex::new(held.into()),
            cache: tempfile::tempdir().unwrap(),
        }
    }

    /// A CA that finds the relay.
    fn settings(&self) -> Settings {
        Settings::new(self.https, self.http)
    }

    fn launch(&self, acme: &[String; 4]) -> Launch {
        self.held.lock().unwrap().clear();
        let http = format!("127.0.0.1:{}", self.http);
        let cache = self.cache.path().to_str().unwrap();
        Launch::new(&["--domain", HOST, "--rate-burst", "0"])
            .args(&["--http-listen", &http, "--cert-cache", cache])
            .args(&acme.each_ref().map(String::as_str))
            .over_tls_with_its_own_certificate()
            .at(self.https)
    }

    /// A relay that orders from `ca`.
    async fn relay(&self, ca: &Pebble) -> Relay {
        self.launch(&ca.args()).start().await
    }

    /// A relay whose CA is nowhere.
    async fn relay_alone(&self) -> Relay {
        self.launch(&acme_args(1)).start().await
    }

    /// Waits until a certificate has come, and is stored.
    async fn issued(&self, relay: &Relay) -> Record {
        let fields = [("domain", HOST)];
        let line = relay.log.wait("certificate_issued", &fields).await;
        let [file, note] = [HOST, NOTE].map(|name| self.cache.path().join(name));
        eventually("the certificate's files", || async {
            let stored = fs::read_to_string(&file).is_ok_and(|text| text.starts_with("-----"));
            (stored && note.exists()).then_some(())
        })
        .await;
        line
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.cache.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cache.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Ends it, so that its ports are free.
async fn end(mut relay: Relay) {
    relay.signal(Signal::KILL);
    relay.exited().await;
}

/// The first such log line, for things that may take longer than a test usually waits.
async fn logged(limit: Duration, relay: &Relay, msg: &str, fields: &[(&str, &str)]) -> Record {
    within(limit, msg, async {
        loop {
            let found = relay.log.records().into_iter().find(|r| r.is(msg, fields));
            match found {
                Some(record) => return record,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
}

/// The certificate that a client of `ca` is shown, and verifies.
async fn shown(relay: &Relay, ca: &Pebble) -> Vec<u8> {
    ca.connect(relay.addr(), HOST).await.unwrap().shown()
}

/// A daemon named `home` on this connection.
async fn daemon_on(relay: &Relay, stream: Stream) -> Daemon {
    let headers = [&[("x-pyrycode-server", "home")], DAEMON_HEADERS].concat();
    let daemon = relay.upgrade_on(stream, "/v1/server", &headers).await;
    Daemon(daemon.unwrap())
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_certificate_is_got_by_the_tls_port_alone_and_serves_peers() {
    let scene = Scene::new();
    let settings = Settings {
        http_port: 1, // nobody there
        ..scene.settings()
    };
    let test = "a_certificate_is_got_by_the_tls_port_alone_and_serves_peers";
    let Some(ca) = Pebble::start(test, settings).await else {
        return;
    };
    let relay = scene.relay(&ca).await;
    let line = scene.issued(&relay).await;
    assert_eq!(line.level, "INFO");
    assert_eq!(line.get("challenge"), Some("tls-alpn-01"));
    let not_after = line.get("not_after").unwrap();
    assert!(
        not_after.starts_with("20") && not_after.ends_with('Z'),
        "{not_after}"
    );

    let stream = ca.connect(relay.addr(), HOST).await.unwrap();
    let mut daemon = daemon_on(&relay, stream).await;
    let stream = ca.connect(relay.addr(), HOST).await.unwrap();
    let headers = [&[("x-pyrycode-server", "home")], PHONE_HEADERS].concat();
    let phone = relay.upgrade_on(stream, "/v1/client", &headers).await;
    let phone = phone.unwrap();
    phone.send(&frame(1));
    daemon.expect_frame(&frame(1)).await;

    let stranger = ca.connect(relay.addr(), "other.test").await;
    assert!(stranger.is_err(), "the certificate is for one host");
}

#[tokio::test]
async fn a_certificate_is_got_by_port_80_when_the_tls_port_is_not_reached() {
    let scene = Scene::new();
    let settings = Settings {
        tls_port: 1, // nobody there
        ..scene.settings()
    };
    let test = "a_certificate_is_got_by_port_80_when_the_tls_port_is_not_reached";
    let Some(ca) = Pebble::start(test, settings).await else {
        return;
    };
    let relay = scene.relay(&ca).await;
    assert_eq!(scene.issued(&relay).await.get("challenge"), Some("http-01"));
    let fields = [("domain", HOST), ("challenge", "tls-alpn-01")];
    let failed = relay
        .log
        .wait("certificate_challenge_failed", &fields)
        .await;
    assert_eq!(failed.level, "WARN");
    let err = failed.get("err").unwrap();
    assert!(err.contains("127.0.0.1:1"), "what the CA said: {err}");
    shown(&relay, &ca).await;
}

#[tokio::test]
async fn a_restart_asks_the_ca_for_nothing() {
    let scene = Scene::new();
    let test = "a_restart_asks_the_ca_for_nothing";
    let Some(ca) = Pebble::start(test, scene.settings()).await else {
        return;
    };
    let relay = scene.relay(&ca).await;
    let not_after = scene
        .issued(&relay)
        .await
        .get("not_after")
        .unwrap()
        .to_owned();
    let first = shown(&relay, &ca).await;
    end(relay).await;
    let (orders, accounts) = (ca.orders(), ca.accounts());

    let relay = scene.relay(&ca).await;
    let fields = [("domain", HOST), ("not_after", &*not_after)];
    relay.log.wait("certificate_loaded", &fields).await;
    assert!(shown(&relay, &ca).await == first, "the same certificate");
    end(relay).await;
    assert_eq!((ca.orders(), ca.accounts()), (orders, accounts));

    // Without its certificate it orders anew, on the account that it has.
    fs::remove_file(scene.cache.path().join(HOST)).unwrap();
    let relay = scene.relay(&ca).await;
    scene.issued(&relay).await;
    assert!(shown(&relay, &ca).await != first, "a new certificate");
    assert_eq!(ca.accounts(), accounts);
}

#[tokio::test]
async fn the_cache_is_what_the_reference_and_openssl_read() {
    let scene = Scene::new();
    let test = "the_cache_is_what_the_reference_and_openssl_read";
    let Some(ca) = Pebble::start(test, scene.settings()).await else {
        return;
    };
    let relay = scene.relay(&ca).await;
    scene.issued(&relay).await;
    let shown = shown(&relay, &ca).await;
    assert_eq!(scene.names(), ["acme_account+key", HOST, NOTE]);
    for (name, blocks) in [("acme_account+key", 1), (HOST, 3)] {
        let path = scene.cache.path().join(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        let text = scene.read(name);
        assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
        assert_eq!(text.matches("-----BEGIN ").count(), blocks, "{name}");
        // The reference takes anything beside the blocks for damage.
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| (1..=64).contains(&line.len())));
        let path = path.to_str().unwrap();
        let key = openssl(&["ec", "-in", path, "-noout", "-text"]);
        assert!(key.contains("prime256v1"), "{key}");
    }
    let path = scene.cache.path().join(HOST);
    let der = scene.cache.path().join("leaf.der");
    let (path, der) = (path.to_str().unwrap(), der.to_str().unwrap());
    openssl(&["x509", "-in", path, "-outform", "DER", "-out", der]);
    assert!(fs::read(der).unwrap() == shown, "what is served");
    let of_key = openssl(&["ec", "-in", path, "-pubout"]);
    let of_certificate = openssl(&["x509", "-in", path, "-noout", "-pubkey"]);
    assert_eq!(of_key, of_certificate);
}

/// Makes a certificate for the host with `key`, as a file of the reference's cache.
fn reference_volume(scene: &Scene, name: &str, key: &str) -> Vec<u8> {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("key"), key).unwrap();
    let (subject, names) = (format!("/CN={HOST}"), format!("subjectAltName=DNS:{HOST}"));
    openssl(
        &[
            &["req", "-x509", "-key", &path("key"), "-days", "60"][..],
            &["-subj", &subject, "-addext", &names, "-out", &path("pem")],
        ]
        .concat(),
    );
    let certificate = fs::read_to_string(path("pem")).unwrap();
    // A chain of two, the second of which proves nothing here.
    let text = [key, &certificate, &certificate].concat();
    fs::write(scene.cache.path().join(name), text).unwrap();
    openssl(&[
        "x509",
        "-in",
        &path("pem"),
        "-outform",
        "DER",
        "-out",
        &path("der"),
    ]);
    fs::read(path("der")).unwrap()
}

/// What a client that verifies nothing is shown.
async fn shown_to_openssl(relay: &Relay) -> Vec<u8> {
    let out = tempfile::NamedTempFile::new().unwrap();
    let path = out.path().to_str().unwrap();
    let script = format!(
        "openssl s_client -connect {} -servername {HOST} </dev/null 2>/dev/null \
         | openssl x509 -outform DER -out {path}",
        relay.addr()
    );
    let mut command = tokio::process::Command::new("sh");
    let status = soon("openssl", command.args(["-c", &script]).status()).await;
    assert!(status.unwrap().success());
    fs::read(path).unwrap()
}

#[tokio::test]
async fn a_volume_of_the_reference_is_taken_over_without_a_ca() {
    let ec_key = || openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
    let rsa_key = || openssl(&["genrsa", "-traditional", "2048"]);
    for (name, key, label) in [
        (HOST.to_owned(), ec_key(), "EC PRIVATE KEY"),
        (format!("{HOST}+rsa"), rsa_key(), "RSA PRIVATE KEY"),
    ] {
        assert!(key.contains(label), "{key}");
        let scene = Scene::new();
        let certificate = reference_volume(&scene, &name, &key);
        let relay = scene.relay_alone().await;
        relay
            .log
            .wait("certificate_loaded", &[("domain", HOST)])
            .await;
        assert!(shown_to_openssl(&relay).await == certificate, "{name}");
        assert_eq!(relay.log.count("certificate_renewal_failed", &[]), 0);
    }
}

#[tokio::test]
async fn an_account_of_the_reference_is_used_and_files_that_are_damaged_are_replaced() {
    let scene = Scene::new();
    let test = "an_account_of_the_reference_is_used_and_files_that_are_damaged_are_replaced";
    let Some(ca) = Pebble::start(test, scene.settings()).await else {
        return;
    };
    let account = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
    let path = scene.cache.path().join("acme_account+key");
    fs::write(&path, &account).unwrap();
    fs::write(scene.cache.path().join(HOST), "half a fi").unwrap();
    let relay = scene.relay(&ca).await;
    let unusable = relay.log.wait("certificate_cache_unusable", &[]).await;
    assert!(unusable.get("path").unwrap().ends_with(HOST));
    scene.issued(&relay).await;
    assert_eq!(scene.read("acme_account+key"), account, "left alone");
    end(relay).await;

    fs::write(&path, "").unwrap();
    fs::remove_file(scene.cache.path().join(HOST)).unwrap();
    let relay = scene.relay(&ca).await;
    let unusable = relay.log.wait("certificate_cache_unusable", &[]).await;
    assert!(unusable.get("path").unwrap().ends_with("acme_account+key"));
    scene.issued(&relay).await;
    assert!(scene.read("acme_account+key").contains("EC PRIVATE KEY"));
    assert_eq!(ca.accounts(), 2);
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_connections_do_not_notice() {
    let scene = Scene::new();
    let settings = Settings {
        validity_seconds: 15, // renewed after 10
        ..scene.settings()
    };
    let test = "a_certificate_is_renewed_in_time_and_connections_do_not_notice";
    let Some(ca) = Pebble::start(test, settings).await else {
        return;
    };
    let relay = scene.relay(&ca).await;
    scene.issued(&relay).await;
    let stream = ca.connect(relay.addr(), HOST).await.unwrap();
    let first = stream.shown();
    let mut daemon = daemon_on(&relay, stream).await;
    relay
        .log
        .wait_nth(2, "certificate_issued", &[("domain", HOST)])
        .await;
    assert!(shown(&relay, &ca).await != first, "a new certificate");
    daemon.expect_alive().await;
    assert_eq!(relay.log.count("certificate_renewal_failed", &[]), 0);
}

#[tokio::test]
async fn while_the_ca_is_away_the_certificate_serves_and_the_log_says_when_it_is_asked_again() {
    let scene = Scene::new();
    let settings = Settings {
        validity_seconds: 3, // over before the relay returns
        ..scene.settings()
    };
    let test =
        "while_the_ca_is_away_the_certificate_serves_and_the_log_says_when_it_is_asked_again";
    let Some(ca) = Pebble::start(test, settings).await else {
        return;
    };
    let relay = scene.relay(&ca).await;
    scene.issued(&relay).await;
    let old = shown_to_openssl(&relay).await;
    let port = ca.port();
    end(relay).await;
    ca.end().await;
    // Bound but not listening: nobody else takes it, and connections are refused.
    let away = TcpSocket::new_v4().unwrap();
    away.set_reuseaddr(true).unwrap();
    away.bind((Ipv4Addr::LOCALHOST, port).into()).unwrap();
    let relay = scene.launch(&acme_args(port)).start().await;
    let failed = relay
        .log
        .wait("certificate_renewal_failed", &[("domain", HOST)])
        .await;
    assert_eq!(failed.level, "WARN");
    let err = failed.get("err").unwrap();
    assert!(err.contains("refused"), "{err}");
    let retry_in = failed.get("retry_in").unwrap();
    assert!(matches!(retry_in, "4s" | "5s" | "6s"), "{retry_in}");
    assert!(shown_to_openssl(&relay).await == old, "still served");

    // It returns, on the port that the relay knows.
    let settings = Settings {
        port,
        ..scene.settings()
    };
    drop(away);
    let ca = Pebble::start(test, settings).await.unwrap();
    // The attempt after the next comes up to 36 s later.
    logged(Duration::from_secs(90), &relay, "certificate_issued", &[]).await;
    assert!(shown(&relay, &ca).await != old, "a new certificate");
}

#[tokio::test]
async fn what_the_ca_says_of_a_failure_is_logged_without_the_token() {
    let scene = Scene::new();
    let settings = Settings {
        tls_port: 1,
        http_port: 1,
        ..scene.settings()
    };
    let test = "what_the_ca_says_of_a_failure_is_logged_without_the_token";
    let Some(ca) = Pebble::start(test, settings).await else {
        return;
    };
    let relay = scene.relay(&ca).await;
    let failed = relay
        .log
        .wait_nth(2, "certificate_renewal_failed", &[])
        .await;
    let err = failed.get("err").unwrap();
    assert!(err.contains("/.well-known/acme-challenge/…"), "{err}");
    let stranger = ca.connect(relay.addr(), HOST).await;
    assert!(stranger.is_err(), "there is nothing to serve");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_written_serves_and_is_written_later() {
    let scene = Scene::new();
    let settings = Settings {
        validity_seconds: 15, // the next one comes after 10
        ..scene.settings()
    };
    let test = "a_certificate_that_cannot_be_written_serves_and_is_written_later";
    let Some(ca) = Pebble::start(test, settings).await else {
        return;
    };
    // As on a full disk: every write to a file fails.
    let wrapper = [
        "sh",
        "-c",
        "trap '' XFSZ; ulimit -S -f 0; exec \"$@\"",
        "sh",
    ];
    let relay = scene
        .launch(&ca.args())
        .through(&wrapper.map(str::to_owned))
        .start()
        .await;
    let failed = relay.log.wait("certificate_cache_write_failed", &[]).await;
    assert_eq!(failed.level, "WARN");
    assert!(failed.get("path").unwrap().contains("acme_account+key"));
    assert!(failed.get("err").unwrap().contains("too large"));
    assert_eq!(failed.get("retry_in"), Some("1m"));
    relay.log.wait("certificate_issued", &[]).await;
    shown(&relay, &ca).await;
    assert_eq!(
        scene.names(),
        [] as [&str; 0],
        "nothing half-written either"
    );

    relay.lift_file_size_limit();
    let limit = Duration::from_secs(100);
    for name in ["acme_account+key", HOST, NOTE] {
        let path = scene.cache.path().join(name);
        let fields = [("path", path.to_str().unwrap())];
        logged(limit, &relay, "certificate_cache_written", &fields).await;
    }
    assert_eq!(scene.names(), ["acme_account+key", HOST, NOTE]);
    assert_eq!(relay.log.count("certificate_cache_write_failed", &[]), 1);
}
