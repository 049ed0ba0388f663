use super::*;

fn refusals(flags: &[&str], variables: &[(&str, &str)], privileges: Privileges) -> Vec<Event> {
    // The default is in the home of whoever runs this.
    let home = tempfile::tempdir().unwrap();
    let cache = format!("--cert-cache={}", home.path().join("certs").display());
    let own = ["pyrycode-relay", &cache];
    let flags = own.into_iter().chain(flags.iter().copied());
    let variables = variables
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).into()));
    let variables: Variables = variables.collect();
    let cli = crate::cli::parse(flags.map(Into::into)).unwrap();
    let loaded = cli.load(&variables).unwrap();
    let boot = Boot::new(&loaded, &variables, privileges);
    boot.refusals().iter().map(Refusal::event).collect()
}

fn unprivileged(flags: &[&str]) -> Vec<Event> {
    refusals(flags, &[], Privileges::default())
}

#[test]
fn one_of_the_modes_is_needed_and_plain_http_excludes_the_others() {
    assert_eq!(unprivileged(&[]), [Event::RefusedNoMode]);
    assert_eq!(unprivileged(&["--insecure-listen=:80"]), []);
    assert_eq!(unprivileged(&["--domain=relay.example.com"]), []);
    assert_eq!(unprivileged(&["--self-signed"]), []);
    for other in [
        "--http-listen=:80",
        "--https-listen=:443",
        "--https-proxy-protocol",
        "--domain=a.example",
    ] {
        assert_eq!(
            unprivileged(&["--insecure-listen=:80", other]),
            [Event::RefusedInsecure],
            "{other}"
        );
    }
}

#[test]
fn senseless_values_and_combinations_are_refused() {
    let plain = "--insecure-listen=:80";
    assert_eq!(
        unprivileged(&[plain, "--max-connections=0"]),
        [Event::RefusedMaxConnections]
    );
    assert_eq!(
        unprivileged(&[plain, "--metrics-listen=:9090"]),
        [Event::RefusedMetricsListen]
    );
    assert_eq!(
        unprivileged(&["--insecure-listen=:0"]),
        [Event::RefusedListenAddress]
    );
    for bad in [
        &["--domain=https://relay.example.com"][..],
        &["--domain=192.0.2.1"],
        &["--tls-cert=a.pem"],
        &["--self-signed", "--http-listen=:8080"],
        &["--domain=a.example", "--acme-directory=http://ca.example"],
        &[plain, "--trust-x-forwarded-for", "--trust-proxy=10.0.0.0/8"],
    ] {
        assert_eq!(unprivileged(bad), [Event::RefusedSettings], "{bad:?}");
    }
    let both = ["--self-signed", "--tls-cert=a.pem", "--tls-key=a.key"];
    assert!(unprivileged(&both).contains(&Event::RefusedSettings));
}

#[test]
fn an_unusable_cache_is_refused_before_a_listener_where_certificates_are_ordered() {
    // The last value counts.
    let cache = ["--cert-cache=/dev/null", "--https-listen=:0"];
    let with = |mode| unprivileged(&[&cache[..], &[mode]].concat());
    let (cache, listener) = (Event::AutocertSetupFailed, Event::RefusedListenAddress);
    assert_eq!(with("--domain=relay.example.com"), [cache, listener]);
    assert_eq!(with("--self-signed"), [listener]);
}

#[test]
fn privileges_are_refused_in_production_only() {
    let root = Privileges::root();
    let production = [(PRODUCTION, "1")];
    assert_eq!(refusals(&["--self-signed"], &[], root), []);
    assert_eq!(
        refusals(&["--self-signed"], &production, root),
        [Event::RefusedProduction, Event::RefusedCapabilities]
    );
    assert_eq!(
        refusals(
            &["--insecure-listen=:80"],
            &production,
            Privileges::default()
        ),
        [Event::RefusedProduction]
    );
}

#[test]
fn every_refusal_ends_with_its_fix() {
    for flags in [
        &[][..],
        &[
            "--insecure-listen=:0",
            "--max-connections=-1",
            "--self-signed",
        ],
        &["--domain=a.example", "--cert-cache=/dev/null"],
    ] {
        let flags = std::iter::once("pyrycode-relay").chain(flags.iter().copied());
        let cli = crate::cli::parse(flags.map(Into::into)).unwrap();
        let loaded = cli.load(&Variables::new()).unwrap();
        let boot = Boot::new(&loaded, &Variables::new(), Privileges::default());
        for refusal in boot.refusals() {
            assert!(refusal.to_string().contains("; "), "{refusal}");
        }
    }
}
