//! The program's own probe, against the program.

use relay_tests::{Launch, Relay, Transport, certificate, soon};

/// Its first check, a phone without a daemon, is answered at once.
const NO_PARKING: [&str; 2] = ["--boot-park", "0s"];

/// Runs the probe against `relay`.
async fn probe(relay: &Relay, scheme: &str, more: &[&str]) -> relay_tests::Ended {
    let url = format!("{scheme}://{}", relay.addr());
    let launch = Launch::new(&["probe", &url, "--round-trips", "10"]).args(more);
    soon("the probe to end", launch.ended()).await
}

#[tokio::test]
async fn a_healthy_relay_passes_also_over_tls_with_a_ca_of_its_own() {
    let plain = Launch::new(&NO_PARKING)
        .over(Transport::Plain)
        .start()
        .await;
    let ended = probe(&plain, "ws", &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let tls = Launch::new(&NO_PARKING).over(Transport::Tls).start().await;
    let ca = certificate("ca.pem");
    let ended = probe(&tls, "wss", &["--ca", &ca.display().to_string()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("healthy: 6 checks"), "{ended:?}");
}

#[tokio::test]
async fn whoever_reads_it_may_stop_before_the_end() {
    let plain = Launch::new(&NO_PARKING)
        .over(Transport::Plain)
        .start()
        .await;
    let url = format!("ws://{}", plain.addr());
    // Nobody reads, from the beginning on.
    let closed = ["sh", "-c", r#"{ "$0" "$@"; echo "exit $?" >&2; } | true"#].map(str::to_owned);
    let launch = Launch::new(&["probe", &url, "--round-trips", "10"]).through(&closed);
    let ended = soon("the probe to end", launch.ended()).await;
    assert_eq!(ended.stderr, "exit 0\n");
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_not_healthy() {
    let tls = Launch::new(&NO_PARKING).over(Transport::Tls).start().await;
    let ended = probe(&tls, "wss", &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let ended = probe(&tls, "wss", &["--ca", "/nowhere/ca.pem"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("/nowhere/ca.pem"), "{ended:?}");
    let ended = Launch::new(&["probe", "relay.example.com"]).ended().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("relay.example.com"), "{ended:?}");
}

#[tokio::test]
async fn a_time_that_cannot_be_meant_is_refused_with_one_that_can() {
    for time in ["0s", "11m", "long"] {
        let args = ["probe", "ws://127.0.0.1:1", "--timeout", time];
        let ended = Launch::new(&args).ended().await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let said = "write a time from 1ms to 10m";
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
}
