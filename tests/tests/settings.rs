//! Where settings come from: a flag, else the environment, else the file, else the default; and what
//! `check-config` says about it.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use relay_tests::{Ended, Launch, Record, Relay, as_nobody, certificate, skipped};
use tempfile::NamedTempFile;

const PLAIN: [&str; 2] = ["--insecure-listen", "127.0.0.1:8080"];

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `check-config` printed: value and origin by name.
fn settings(ended: &Ended) -> BTreeMap<String, (String, String)> {
    let read = |line: &str| {
        let (name, rest) = line.trim_start_matches("# ").split_once(" = ")?;
        let (value, origin) = rest.split_once("  #")?;
        let setting = (value.trim_end().to_owned(), origin.trim().to_owned());
        Some((name.to_owned(), setting))
    };
    ended.stdout.lines().filter_map(read).collect()
}

#[tokio::test]
async fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file = file("grace = \"1s\"\npark = \"1s\"\nrate-burst = 1\nmax_connections = 7\n");
    let check = Launch::new(&[
        "check-config",
        "--config",
        text(file.path()),
        "--grace",
        "3s",
    ])
    .args(&PLAIN)
    .env("PYRYCODE_RELAY_GRACE", "2s")
    .env("PYRYCODE_RELAY_PARK", "2s")
    .env("PYRYCODE_RELAY_TRUST_X_FORWARDED_FOR", "true");
    let ended = check.ended().await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let settings = settings(&ended);
    let path = text(file.path());
    for (name, value, origin) in [
        ("grace", "\"3s\"", "flag"),
        ("insecure-listen", "\"127.0.0.1:8080\"", "flag"),
        ("park", "\"2s\"", "PYRYCODE_RELAY_PARK"),
        (
            "trust-x-forwarded-for",
            "true",
            "PYRYCODE_RELAY_TRUST_X_FORWARDED_FOR",
        ),
        ("rate-burst", "1", path),
        ("max-connections", "7", path),
        ("rate-per-minute", "60", "default"),
        ("metrics-listen", "\"127.0.0.1:9090\"", "default"),
    ] {
        let expected = (value.to_owned(), origin.to_owned());
        assert_eq!(
            settings.get(name),
            Some(&expected),
            "{name}: {}",
            ended.stdout
        );
    }
}

/// The relay really lives by what it was told, whichever way.
#[tokio::test]
async fn every_layer_reaches_the_relay() {
    let file = file("park = \"0s\"\nboot-park = \"0s\"\nmax-connections = 2\n");
    let relay = Launch::new(&["--phones-per-server", "1"])
        .env("PYRYCODE_RELAY_CONFIG", text(file.path()))
        .env("PYRYCODE_RELAY_MAX_CONNECTIONS", "3")
        .env("PYRYCODE_RELAY_PHONES_PER_SERVER", "5")
        .start()
        .await;
    // The file: turned away at once.
    let mut early = relay.phone("home").await;
    early.expect_close(4404, "no server with that id").await;
    // The flag over the environment.
    let _pair = relay.pair("home").await;
    let mut second = relay.phone("home").await;
    second
        .expect_close(4429, "too many phones for server-id")
        .await;
    // The environment over the file, once those that were turned away have left.
    relay.expect_metric("pyrycode_relay_connections", 2.0).await;
    let _third = relay.daemon("other").await;
    let refused = relay.try_daemon("fourth", &[]).await.err().unwrap();
    assert_eq!(refused.status, 503);
}

/// What it prints is a configuration file that says the same.
#[tokio::test]
async fn the_output_of_check_config_is_a_configuration_file() {
    let leaf = ["leaf.pem", "leaf.key"].map(certificate);
    let tls = ["--tls-cert", text(&leaf[0]), "--tls-key", text(&leaf[1])];
    for mode in [&PLAIN[..], &tls, &["--domain", "relay.test"]] {
        let args = [mode, &["--trust-proxy", "10.0.0.0/8,::1", "--grace", "7s"]].concat();
        let first = Launch::new(&["check-config"]).args(&args).ended().await;
        assert_eq!(first.code, Some(0), "{first:?}");
        let file = file(&first.stdout);
        let again = Launch::new(&["check-config", "--config", text(file.path())]);
        let again = again.ended().await;
        assert_eq!((again.code, &*again.stderr), (Some(0), ""), "{mode:?}");
        let values = |ended: &Ended| {
            let settings = settings(ended).into_iter();
            settings
                .map(|(name, (value, _))| (name, value))
                .collect::<Vec<_>>()
        };
        assert_eq!(values(&again), values(&first));
    }
}

/// Whatever reads settings says which file it cannot read.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    for command in ["check-config", "healthcheck", "top"] {
        let launch = Launch::new(&[command, "--config", "/nowhere/relay.toml"]);
        let ended = launch.ended().await;
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
        let said = &ended.stderr;
        assert!(said.contains("/nowhere/relay.toml"), "{command}: {said}");
    }
}

#[tokio::test]
async fn check_config_ends_with_what_would_be_served_and_names_strangers() {
    let check = Launch::new(&["check-config", "--self-signed"]).env("PYRYCODE_RELAY_GRAZE", "1s");
    let ended = check.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let last = ended.stdout.lines().last().unwrap();
    assert!(last.contains("with a self-signed certificate"), "{last}");
    assert!(ended.stderr.contains("PYRYCODE_RELAY_GRAZE"), "{ended:?}");
}

#[tokio::test]
async fn check_config_says_everything_that_is_wrong_and_changes_nothing() {
    let ended = Launch::new(&["check-config", "--max-connections", "0"])
        .args(&[
            "--insecure-listen",
            "127.0.0.1:http",
            "--metrics-listen",
            ":9090",
        ])
        .ended()
        .await;
    assert_eq!(ended.code, Some(2));
    for wrong in ["--max-connections", "--metrics-listen", "127.0.0.1:http"] {
        let about = |line: &&str| line.contains("refusing to start") && line.contains(wrong);
        assert_eq!(
            ended.stderr.lines().filter(about).count(),
            1,
            "{wrong}: {ended:?}"
        );
    }
    assert!(settings(&ended).contains_key("grace"), "shown all the same");

    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("certs");
    let acme = [
        "check-config",
        "--domain",
        "relay.test",
        "--cert-cache",
        text(&cache),
    ];
    let ended = Launch::new(&acme).ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!cache.exists(), "made by a mere check");
}

/// That `check-config` refuses this certificate cache with the start's exit code, once, and leaves it as it is.
async fn assert_cache_refused(cache: &Path, user: &[String]) {
    let before = cache.metadata().map(|found| found.permissions()).ok();
    let acme = ["--domain", "relay.test", "--cert-cache", text(cache)];
    let check = Launch::new(&["check-config"]).args(&acme).through(user);
    let ended = check.ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [line] = lines[..] else {
        panic!("expected one line: {ended:?}")
    };
    assert!(line.starts_with("autocert setup failed: "), "{line}");
    assert!(
        line.contains(text(cache)) && line.contains("--cert-cache"),
        "{line}"
    );
    assert!(!ended.stdout.contains("# ok"), "{ended:?}");
    let after = cache.metadata().map(|found| found.permissions()).ok();
    assert_eq!(after, before);
}

#[tokio::test]
async fn check_config_refuses_a_certificate_cache_that_the_start_would_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_cache_refused(&file, &[]).await;
    assert_cache_refused(&file.join("below"), &[]).await;
    let test = "check_config_refuses_a_certificate_cache_that_the_start_would_refuse";
    match as_nobody(&[]) {
        Err(why) => skipped(test, &why),
        Ok(nobody) => {
            let open = |mode| std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.path(), open(0o755)).unwrap();
            assert_cache_refused(folder.path(), &nobody).await;
            assert_cache_refused(&folder.path().join("a/b"), &nobody).await;
        }
    }
}

/// That a start is refused because of the file's `text`, with the word in `err` and in `fix`.
async fn assert_file_refused(content: &str, err: &str, fix: &str) -> Record {
    let file = file(content);
    let ended = Launch::new(&PLAIN).args(&["--config", text(file.path())]);
    let ended = ended.ended().await;
    let line = ended.refusal(2, "refusing to start: invalid configuration file");
    assert_eq!(line.get("path"), Some(text(file.path())));
    assert!(line.get("err").unwrap().contains(err), "{line:?}");
    assert!(line.get("fix").unwrap().contains(fix), "{line:?}");
    line
}

#[tokio::test]
async fn a_mistake_in_the_file_is_refused_with_a_suggestion() {
    assert_file_refused("grcae = \"1s\"", "grcae", "did you mean grace?").await;
    assert_file_refused("max-conections = 5", "max-conections", "max-connections").await;
    assert_file_refused("[limits]\ngrace = \"1s\"", "limits", "check-config").await;
    assert_file_refused("grace = 1.5", "grace", "grace").await;
    assert_file_refused("grace = 5", "5", "grace").await;
    assert_file_refused("max-connections = \"many\"", "many", "max-connections").await;
    assert_file_refused("self-signed = \"perhaps\"", "perhaps", "self-signed").await;
    assert_file_refused("grace = \"1s\"\n\npark", "line 3", "").await;
    assert_file_refused("grace = \"1s\"\ngrace = \"2s\"", "line 2", "").await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing.toml")] {
        let ended = Launch::new(&PLAIN).args(&["--config", text(&path)]);
        let line = ended.ended().await;
        let line = line.refusal(2, "refusing to start: invalid configuration file");
        assert_eq!(line.get("path"), Some(text(&path)));
        assert!(line.get("fix").unwrap().contains("--config"), "{line:?}");
    }
    let test = "a_file_that_cannot_be_read_is_refused";
    match as_nobody(&[]) {
        Err(why) => skipped(test, &why),
        // The file is root's alone.
        Ok(nobody) => {
            let file = file("grace = \"1s\"");
            let launch = Launch::new(&PLAIN).args(&["--config", text(file.path())]);
            let ended = launch.through(&nobody).ended().await;
            ended.refusal(2, "refusing to start: invalid configuration file");
        }
    }
}

#[tokio::test]
async fn a_mistake_in_the_environment_is_refused_by_its_name() {
    for (name, value) in [
        ("PYRYCODE_RELAY_GRACE", "soon"),
        ("PYRYCODE_RELAY_RATE_BURST", "-1"),
        ("PYRYCODE_RELAY_TRUST_PROXY", "10.0.0.0/99"),
        ("PYRYCODE_RELAY_LOG_FORMAT", "xml"),
        ("PYRYCODE_RELAY_SELF_SIGNED", ""),
        ("PYRYCODE_RELAY_WAKE_REFILL", "0s"),
        ("PYRYCODE_RELAY_WAKES_IN_FLIGHT", "0"),
        ("PYRYCODE_RELAY_PUSH_TIMEOUT", "0s"),
    ] {
        let ended = Launch::new(&PLAIN).env(name, value).ended().await;
        let line = ended.refusal(2, "refusing to start: invalid env-var config");
        assert_eq!(line.get("env_var"), Some(name));
        let reason = line.get("reason").unwrap();
        assert!(
            reason.starts_with("malformed-value") && reason.contains(value),
            "{reason}"
        );
        assert!(line.get("fix").unwrap().contains(name), "{line:?}");
    }
}

/// Ours: the reference ignores what it doesn't know.
#[tokio::test]
async fn a_variable_that_names_no_setting_is_a_warning() {
    let launch = Launch::new(&[]).env("PYRYCODE_RELAY_GRAZE", "1s");
    let relay: Relay = launch.start().await;
    let line = relay
        .log
        .wait("environment variable names no setting", &[])
        .await;
    assert_eq!(line.level, "WARN");
    assert_eq!(line.get("env_var"), Some("PYRYCODE_RELAY_GRAZE"));
}

#[tokio::test]
async fn limits_beyond_descriptors_or_memory_are_a_warning_each() {
    let event = "limits are beyond what this machine can hold";
    let too_many = ["--max-connections", "99999999999", "--park-bytes", "0"];
    let relay: Relay = Launch::new(&too_many).start().await;
    let lines = [
        relay.log.wait_nth(1, event, &[]).await,
        relay.log.wait_nth(2, event, &[]).await,
    ];
    for (line, what, setting) in [
        (&lines[0], "descriptors", "LimitNOFILE"),
        (&lines[1], "MiB", "--queue-bytes"),
    ] {
        assert_eq!(line.level, "WARN");
        assert!(line.get("err").unwrap().contains(what), "{line:?}");
        assert!(line.get("fix").unwrap().contains(setting), "{line:?}");
    }
}
