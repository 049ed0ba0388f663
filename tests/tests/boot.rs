//! What keeps the program from starting: its exit code, and the line that says why and what to do.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::TcpListener;

use relay_tests::{
    Ended, HOST, Launch, Record, Relay, as_nobody, certificate, free_port, is_root, skipped,
};

const PRODUCTION: &str = "PYRYCODE_RELAY_PRODUCTION";

/// A start on plain HTTP with `args`, on an address that nothing else would refuse.
fn plain(args: &[&str]) -> Launch {
    Launch::new(&["--insecure-listen", "127.0.0.1:8080"]).args(args)
}

/// That the line says how to mend it, naming what is to be set.
fn assert_fix(line: &Record) {
    let fix = line
        .get("fix")
        .unwrap_or_else(|| panic!("no fix: {line:?}"));
    assert!(
        fix.contains("--") || fix.contains("PYRYCODE_RELAY_"),
        "{fix}"
    );
}

/// That the line says what is wrong.
fn assert_err(line: &Record) {
    assert!(
        line.get("err").is_some_and(|err| !err.is_empty()),
        "{line:?}"
    );
}

#[tokio::test]
async fn c70_without_a_mode_the_refusal_names_both() {
    let ended = Launch::new(&[]).ended().await;
    let line = ended.refusal(2, "refusing to start").line;
    assert!(
        line.contains("--domain") && line.contains("--insecure-listen"),
        "{line}"
    );
}

#[tokio::test]
async fn c70_the_version_comes_before_every_other_check() {
    for args in [
        &["--version"][..],
        &["-version"],
        &["--max-connections", "0", "--version"],
    ] {
        let launch = Launch::new(args)
            .env(PRODUCTION, "true")
            .env("PYRYCODE_RELAY_GRACE", "soon")
            .env("FLY_APP_NAME", "relay");
        let ended = launch.ended().await;
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{args:?}");
        let version = ended.stdout.strip_suffix('\n').unwrap();
        assert!(!version.is_empty() && !version.contains('\n'), "{ended:?}");
    }
}

#[tokio::test]
async fn c71_insecure_listen_excludes_every_flag_of_tls() {
    let leaf = certificate("leaf.pem");
    let leaf = leaf.to_str().unwrap();
    for flags in [
        &["--http-listen", ":80"][..],
        &["--https-listen", ":443"],
        &["--https-proxy-protocol"],
        // Ours; the reference ignores the domain, and has no other of these.
        &["--domain", HOST],
        &["--tls-cert", leaf],
        &["--tls-key", leaf],
        &["--self-signed"],
    ] {
        let line = plain(flags).ended().await;
        let line = line.refusal(
            2,
            "refusing to start: --insecure-listen is mutually exclusive",
        );
        assert!(line.line.contains(flags[0]), "which one: {}", line.line);
        assert_fix(&line);
    }
    // Ours: from the environment, too, unless it only spells the default out.
    let line = plain(&[])
        .env("PYRYCODE_RELAY_HTTPS_LISTEN", ":8443")
        .ended()
        .await;
    line.refusal(
        2,
        "refusing to start: --insecure-listen is mutually exclusive",
    );
}

#[tokio::test]
async fn c71_max_connections_is_at_least_one() {
    for value in ["0", "-1"] {
        let line = plain(&["--max-connections", value]).ended().await;
        let line = line.refusal(2, "refusing to start: invalid --max-connections");
        assert_eq!(line.get("value"), Some(value));
        assert_err(&line);
        assert_fix(&line);
    }
}

async fn assert_env_refused(name: &str, value: &str) -> Record {
    let ended = plain(&[]).env(name, value).ended().await;
    let line = ended.refusal(2, "refusing to start: invalid env-var config");
    assert_err(&line);
    assert_eq!(line.get("env_var"), Some(name), "{line:?}");
    line
}

#[tokio::test]
async fn c72_the_two_switches_are_1_or_not_there() {
    for name in [PRODUCTION, "PYRYCODE_RELAY_SINGLE_INSTANCE"] {
        for value in ["true", "", "0", "1 ", "yes please"] {
            let line = assert_env_refused(name, value).await;
            let reason = line.get("reason").unwrap();
            assert!(
                reason.starts_with("malformed-value") && reason.contains(value),
                "{reason}"
            );
        }
    }
    // The first one is reported.
    let both = plain(&[])
        .env("PYRYCODE_RELAY_SINGLE_INSTANCE", "x")
        .env(PRODUCTION, "y");
    let line = both.ended().await;
    let line = line.refusal(2, "refusing to start: invalid env-var config");
    assert_eq!(line.get("env_var"), Some(PRODUCTION));
}

#[tokio::test]
async fn c72_production_excludes_insecure_listen() {
    let line = plain(&[]).env(PRODUCTION, "1").ended().await;
    let line = line.refusal(2, "refusing to start: production-mode misconfiguration");
    assert_eq!(line.get("env_var"), Some(PRODUCTION));
    assert_err(&line);
    assert_fix(&line);
}

#[tokio::test]
async fn c72_a_platform_that_scales_out_needs_the_assertion() {
    let line = plain(&[]).env("FLY_APP_NAME", "relay").ended().await;
    let line = line.refusal(2, "refusing to start: multi-instance deploy detected");
    let assertion = "PYRYCODE_RELAY_SINGLE_INSTANCE";
    assert_eq!(line.get("bypass_env_var"), Some(assertion));
    assert_err(&line);
    assert_fix(&line);

    let asserted = Launch::new(&[])
        .env("FLY_APP_NAME", "relay")
        .env(assertion, "1");
    asserted.start().await;
    Launch::new(&[]).env("FLY_APP_NAME", "").start().await;
}

const CREDENTIALS: &str = "PYRYCODE_RELAY_FCM_CREDENTIALS";

/// A service-account key as the push service's console hands it out, and what of it is secret.
fn service_account() -> (String, String) {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let key = key.unwrap().serialize_pem();
    let secret = key.lines().nth(1).unwrap().to_owned();
    let account = serde_json::json!({
        "type": "service_account",
        "project_id": "canary-project",
        "client_email": "canary@project.test",
        "private_key": key,
    });
    (account.to_string(), secret)
}

#[tokio::test]
async fn c72_bad_push_credentials_are_refused_and_shown_nowhere() {
    let (good, secret) = service_account();
    let no_key = good.replace("private_key", "canary_key");
    for value in [
        "",
        "canary",
        "[\"canary\"]",
        "{\"type\":\"service_account\",\"client_email\":\"canary@project.test\"}",
        &good.replace("service_account", "canary_account"),
        &good.replace("canary@project.test", ""),
        &good.replace(&secret, "canary"),
        &no_key,
    ] {
        for command in [&[][..], &["check-config"]] {
            let args = [command, &["--insecure-listen", "127.0.0.1:8080"]].concat();
            let ended = Launch::new(&args).env(CREDENTIALS, value).ended().await;
            assert_eq!(ended.code, Some(2), "{value}: {ended:?}");
            let output = ended.stdout.clone() + &ended.stderr;
            assert!(
                !output.contains("canary") && !output.contains(&secret),
                "{output}"
            );
            assert!(output.contains(CREDENTIALS), "{output}");
            if command.is_empty() {
                let line = ended.refusal(2, "refusing to start: invalid env-var config");
                assert_eq!(line.get("env_var"), Some(CREDENTIALS));
                assert!(line.get("reason").unwrap().starts_with("malformed-value"));
            }
        }
    }
}

#[tokio::test]
async fn c72_good_push_credentials_are_shown_nowhere_either() {
    let (good, secret) = service_account();
    let check = Launch::new(&["check-config", "--insecure-listen", "127.0.0.1:8080"]);
    let ended = check.env(CREDENTIALS, &good).ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let relay = Launch::new(&[]).env(CREDENTIALS, &good).start().await;
    relay.log.wait("starting", &[]).await;
    for output in [ended.stdout, ended.stderr, relay.log.lines().join("\n")] {
        assert!(
            !output.contains("canary") && !output.contains(&secret),
            "{output}"
        );
    }
}

#[tokio::test]
async fn c73_metrics_are_served_on_a_loopback_literal_or_not_at_all() {
    for value in [
        "localhost:9090",
        "0.0.0.0:9090",
        ":9090",
        "10.0.0.1:9090",
        "[::]:9090",
        "127.0.0.1:0",
        "127.0.0.1:http",
        "127.0.0.1",
    ] {
        let line = plain(&["--metrics-listen", value]).ended().await;
        let line = line.refusal(2, "refusing to start: invalid --metrics-listen address");
        assert_eq!(line.get("value"), Some(value));
        assert_err(&line);
        assert_fix(&line);
    }
    let relay = Relay::start_bare(&["--metrics-listen", ""]).await;
    relay.log.wait("starting", &[]).await;
    assert_eq!(relay.listening(), [relay.addr().port()]);
    assert_eq!(relay.log.count("starting metrics listener", &[]), 0);
}

/// The warnings about who runs the program.
fn warnings(relay: &Relay) -> Vec<Record> {
    let about_that = |line: &str| {
        ["root", "CAP_", "capabilit"]
            .iter()
            .any(|w| line.contains(w))
    };
    let mut records = relay.log.records();
    records.retain(|record| record.level == "WARN" && about_that(&record.line));
    records
}

/// A start on TLS, which production mode asks for, as the user that `wrapper` makes.
fn secure(wrapper: &[String]) -> Launch {
    Launch::new(&["--self-signed"])
        .over_tls_with_its_own_certificate()
        .through(wrapper)
}

fn fixed_secure(wrapper: &[String]) -> Launch {
    Launch::new(&["--self-signed", "--https-listen", "127.0.0.1:8443"]).through(wrapper)
}

/// Ours warns outside production mode, where the reference always refuses.
#[tokio::test]
async fn c74_root_is_refused_in_production_and_warned_otherwise() {
    if !is_root() {
        return skipped("c74_root_is_refused_in_production", "not run as root");
    }
    let line = fixed_secure(&[]).env(PRODUCTION, "1").ended().await;
    let line = line.refusal(2, "refusing to start: production-mode misconfiguration");
    assert_eq!(line.get("effective_uid"), Some("0"));
    assert_err(&line);
    assert!(line.get("fix").is_some());

    let relay = secure(&[]).start().await;
    relay.log.wait("starting", &[]).await;
    assert_eq!(warnings(&relay).len(), 1, "{:?}", relay.log.lines());
}

/// The same of a user that isn't root and has more capabilities than one for low ports.
#[tokio::test]
async fn c74_capabilities_are_refused_in_production_and_warned_otherwise() {
    let test = "c74_capabilities_are_refused_in_production_and_warned_otherwise";
    let extra = match as_nobody(&["net_admin", "sys_time", "net_bind_service"]) {
        Ok(wrapper) => wrapper,
        Err(why) => return skipped(test, &why),
    };
    let line = fixed_secure(&extra).env(PRODUCTION, "1").ended().await;
    let line = line.refusal(2, "refusing to start: unexpected Linux capabilities");
    let err = line.get("err").unwrap();
    for part in [
        "CAP_NET_ADMIN",
        "12",
        "CAP_SYS_TIME",
        "25",
        "CAP_NET_BIND_SERVICE",
    ] {
        assert!(err.contains(part), "{part} in {err}");
    }
    assert!(line.get("fix").is_some());

    let relay = secure(&extra).start().await;
    relay.log.wait("starting", &[]).await;
    assert_eq!(warnings(&relay).len(), 1, "{:?}", relay.log.lines());
    drop(relay);

    for capabilities in [&[][..], &["net_bind_service"]] {
        let wrapper = as_nobody(capabilities).unwrap();
        let relay = secure(&wrapper).env(PRODUCTION, "1").start().await;
        relay.log.wait("starting", &[]).await;
        assert_eq!(warnings(&relay).len(), 0, "{:?}", relay.log.lines());
    }
}

/// Every listener's port, taken by somebody else.
#[tokio::test]
async fn c79_an_occupied_port_ends_the_program_with_exit_1() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = &*holder.local_addr().unwrap().to_string();
    let free = free_port([127, 0, 0, 1].into());
    let free = &*format!("127.0.0.1:{free}");
    let no_metrics = ["--metrics-listen", ""];
    let acme = ["--domain", HOST, "--acme-directory", "https://127.0.0.1:1/"];
    let folder = tempfile::tempdir().unwrap();
    let cache = ["--cert-cache", folder.path().to_str().unwrap()];
    for launch in [
        Launch::new(&["--insecure-listen", taken]).args(&no_metrics),
        Launch::new(&["--https-listen", taken])
            .with_certificate()
            .args(&no_metrics),
        Launch::new(&["--insecure-listen", free, "--metrics-listen", taken]),
        Launch::new(&["--insecure-listen", free, "--health-listen", taken]).args(&no_metrics),
        Launch::new(&["--https-listen", free, "--http-listen", taken])
            .args(&[&acme[..], &cache, &no_metrics].concat()),
    ] {
        let ended = launch.ended().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let records = ended.records();
        let failed = records.iter().find(|r| r.msg == "listener failed");
        let failed = failed.unwrap_or_else(|| panic!("no such line: {ended:?}"));
        assert_eq!(failed.level, "ERROR");
        assert_eq!(failed.get("addr"), Some(taken));
        assert_err(failed);
    }
}

#[tokio::test]
async fn a_listener_address_has_a_port_from_1_to_65535() {
    for address in [
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:http",
        ":65536",
    ] {
        for launch in [
            Launch::new(&["--insecure-listen", address]),
            Launch::new(&["--https-listen", address]).with_certificate(),
            plain(&["--health-listen", address]),
        ] {
            let line = launch.ended().await;
            let line = line.refusal(2, "refusing to start: invalid listener address");
            assert_eq!(line.get("addr"), Some(address));
            assert_err(&line);
        }
    }
}

/// Whoever makes many mistakes learns of them in the reference's order, and nothing is bound before
/// all of them are gone.
#[tokio::test]
async fn refusals_come_in_the_references_order() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = &*holder.local_addr().unwrap().to_string();
    let mut flags = vec![
        ("--https-listen", ":443"),
        ("--max-connections", "0"),
        ("--metrics-listen", "localhost:9090"),
        ("--insecure-listen", "127.0.0.1:0"),
        ("--health-listen", taken),
    ];
    let mut environment = vec![
        (PRODUCTION, "true"),
        ("FLY_APP_NAME", "relay"),
        ("PYRYCODE_RELAY_SINGLE_INSTANCE", "x"),
    ];
    let refusal = async |flags: &[(&str, &str)], environment: &[(&str, &str)]| {
        let mut launch = Launch::new(&[]);
        for (flag, value) in flags {
            launch = launch.args(&[flag, value]);
        }
        for (name, value) in environment {
            launch = launch.env(name, value);
        }
        launch.ended().await
    };
    let expect = |ended: Ended, what: &str| {
        ended.refusal(2, &format!("refusing to start: {what}"));
    };

    expect(
        refusal(&flags, &environment).await,
        "--insecure-listen is mutually",
    );
    flags.remove(0);
    expect(
        refusal(&flags, &environment).await,
        "invalid --max-connections",
    );
    flags.remove(0);
    expect(
        refusal(&flags, &environment).await,
        "invalid env-var config",
    );
    environment[0].1 = "1";
    expect(
        refusal(&flags, &environment).await,
        "invalid env-var config",
    );
    environment.pop();
    expect(refusal(&flags, &environment).await, "multi-instance deploy");
    environment.pop();
    expect(refusal(&flags, &environment).await, "production-mode");
    environment.pop();
    expect(
        refusal(&flags, &environment).await,
        "invalid --metrics-listen",
    );
    flags.remove(0);
    expect(
        refusal(&flags, &environment).await,
        "invalid listener address",
    );
}

/// The certificate cache is looked at before the listeners' addresses, and by a check that only looks.
#[tokio::test]
async fn c75_a_bad_cache_is_refused_before_a_bad_listener() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    std::fs::write(&file, "").unwrap();
    let start = |cache: &std::path::Path| {
        let cache = ["--cert-cache", cache.to_str().unwrap()];
        Launch::new(&["--domain", HOST, "--https-listen", ":0"]).args(&cache)
    };
    let ended = start(&file).ended().await;
    ended.refusal(1, "autocert setup failed");
    // A good one is not touched before everything else is right.
    let missing = folder.path().join("missing");
    let ended = start(&missing).ended().await;
    ended.refusal(2, "refusing to start: invalid listener address");
    assert!(!missing.exists());
}

/// What the log says of push stands between the checks before it and those behind.
#[tokio::test]
async fn push_off_is_said_at_its_place() {
    for (flag, value, said) in [
        ("--max-connections", "0", false),
        ("--fcm-project", "", false),
        ("--metrics-listen", ":9090", true),
    ] {
        let ended = plain(&[flag, value]).ended().await;
        let records = ended.records();
        let mut of_push = records.iter().filter(|r| r.msg.starts_with("push off"));
        assert_eq!(of_push.next().is_some(), said, "{flag}: {ended:?}");
        let last = records.last().unwrap();
        assert_eq!((ended.code, &*last.level), (Some(2), "ERROR"), "{flag}");
    }
}

#[tokio::test]
async fn an_unknown_flag_is_exit_2_with_the_usage() {
    let ended = plain(&["--gracee", "1s"]).ended().await;
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("--gracee") && ended.stderr.contains("--grace"),
        "{ended:?}"
    );
}
