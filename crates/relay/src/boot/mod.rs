//! What is checked before anything is bound. The order is the Go relay's, so that the same mistake gets the
//! same answer.

mod refusal;
mod remarks;

pub(crate) use refusal::Refusal;

use crate::config::contracts::{Contracts, PRODUCTION, SINGLE_INSTANCE};
use crate::config::layers::{Loaded, Variables};
use crate::config::{Certificate, Config, ListenAddress, Public, Push, address};
use crate::net::acme::{self, cache};
use crate::observe::log::{Event, Key, Log};
use crate::os::privileges::Privileges;
use crate::push;

/// Everything the checks look at.
pub(crate) struct Boot<'a> {
    loaded: &'a Loaded,
    public: Option<Public>,
    contracts: Result<Contracts, Refusal>,
    privileges: Privileges,
}

impl<'a> Boot<'a> {
    pub(crate) fn new(loaded: &'a Loaded, variables: &Variables, privileges: Privileges) -> Self {
        Self {
            loaded,
            public: loaded.settings().public(),
            contracts: Contracts::read(variables),
            privileges,
        }
    }

    /// Everything that speaks against starting, in the order of the checks. Changes nothing.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        let checks: [fn(&Self) -> Option<Refusal>; 14] = [
            Self::mode,
            Self::insecure_alone,
            Self::max_connections,
            Self::contracts,
            Self::single_instance,
            Self::production,
            Self::capabilities,
            Self::domain,
            Self::combinations,
            Self::push,
            Self::metrics_listen,
            Self::certificate_files,
            Self::acme,
            Self::listeners,
        ];
        checks.iter().filter_map(|check| check(self)).collect()
    }

    /// What is in force, with what the environment's contracts add.
    pub(crate) fn config(&self) -> Config {
        Config {
            push: self.push_config(),
            admin_token: self.contract().admin_token,
            ..self.loaded.config()
        }
    }

    fn push_config(&self) -> Option<Push> {
        let settings = self.loaded.settings();
        Some(Push {
            account: self.contract().push?,
            project: settings.fcm_project.clone(),
            endpoint: settings.fcm_endpoint.clone(),
        })
    }

    /// Makes the certificate cache's directory ready, where there is one.
    ///
    /// # Errors
    /// It cannot be used safely.
    pub(crate) fn prepare(&self, log: &Log) -> Result<(), Refusal> {
        let Some(Public::Tls {
            certificate: Certificate::Acme(acme),
            ..
        }) = &self.public
        else {
            return Ok(());
        };
        match cache::prepare(&acme.cache) {
            Ok(None) => Ok(()),
            Ok(Some(tightened)) => {
                log.write(
                    Event::CertCacheTightened,
                    &[
                        (Key::Path, &acme.cache.display()),
                        (Key::From, &tightened.from),
                        (Key::To, &tightened.to),
                    ],
                );
                Ok(())
            }
            Err(error) => Err(Refusal::new(Event::AutocertSetupFailed)
                .with(Key::Err, error)
                .fix("correct --cert-cache, or the directory's owner and mode (0700)")),
        }
    }

    fn given(&self, name: &str) -> bool {
        self.loaded.is_given(name)
    }

    fn contract(&self) -> Contracts {
        self.contracts.clone().unwrap_or_default()
    }

    fn mode(&self) -> Option<Refusal> {
        let half = self.given("tls-cert") || self.given("tls-key");
        (self.public.is_none() && !half).then(|| {
            Refusal::new(Event::RefusedNoMode)
                .with(Key::Err, "neither --domain nor --insecure-listen is given")
                .fix("give --domain NAME for a public relay with a certificate by ACME, --tls-cert and --tls-key for one of your own, --self-signed to try it out, or --insecure-listen ADDR behind a proxy that terminates TLS")
        })
    }

    fn insecure_alone(&self) -> Option<Refusal> {
        let insecure = matches!(self.public, Some(Public::Plain { .. }));
        let others = [
            "http-listen",
            "https-listen",
            "https-proxy-protocol",
            "domain",
            "tls-cert",
            "tls-key",
            "self-signed",
        ];
        let others: Vec<String> = others
            .into_iter()
            .filter(|name| self.given(name))
            .map(|name| format!("--{name}"))
            .collect();
        (insecure && !others.is_empty()).then(|| {
            Refusal::new(Event::RefusedInsecure)
                .with(Key::Err, format!("--insecure-listen is given together with {}", others.join(", ")))
                .fix("leave --insecure-listen out to serve TLS, or the others to serve plain HTTP behind a proxy")
        })
    }

    fn max_connections(&self) -> Option<Refusal> {
        let value = self.loaded.settings().max_connections?;
        (value <= 0).then(|| {
            Refusal::new(Event::RefusedMaxConnections)
                .with(Key::Err, "it must be at least 1")
                .with(Key::Value, value)
                .fix("set --max-connections to 1 or more, or leave it out: the default follows from this machine")
        })
    }

    fn contracts(&self) -> Option<Refusal> {
        self.contracts.as_ref().err().cloned()
    }

    fn single_instance(&self) -> Option<Refusal> {
        let contracts = self.contract();
        (contracts.scales_out && !contracts.single_instance).then(|| {
            Refusal::new(Event::RefusedMultiInstance)
                .with(Key::Err, "FLY_APP_NAME is set, so the platform may start several instances, and their peers would not find each other")
                .with(Key::BypassEnvVar, SINGLE_INSTANCE)
                .fix(format!("run exactly one instance and set {SINGLE_INSTANCE}=1"))
        })
    }

    fn production(&self) -> Option<Refusal> {
        if !self.contract().production {
            return None;
        }
        let refuse = |err: &str| {
            Refusal::new(Event::RefusedProduction)
                .with(Key::Err, err)
                .with(Key::EnvVar, PRODUCTION)
        };
        if matches!(self.public, Some(Public::Plain { .. })) {
            let fix =
                format!("serve TLS (--domain, or --tls-cert and --tls-key), or unset {PRODUCTION}");
            return Some(refuse("--insecure-listen serves without TLS").fix(fix));
        }
        (self.privileges.effective_uid == 0).then(|| {
            refuse("it runs as root")
                .with(Key::EffectiveUid, 0)
                .fix(format!(
                    "run it as a user of its own, or unset {PRODUCTION}"
                ))
        })
    }

    fn capabilities(&self) -> Option<Refusal> {
        if !self.contract().production {
            return None;
        }
        let err = self.privileges.excess_capabilities()?;
        Some(
            Refusal::new(Event::RefusedCapabilities)
                .with(Key::Err, err)
                .fix("drop them all but CAP_NET_BIND_SERVICE: run as another user, with CapabilityBoundingSet= in systemd or cap_drop in a container"),
        )
    }

    fn domain(&self) -> Option<Refusal> {
        let Some(Public::Tls {
            domain: Some(domain),
            ..
        }) = &self.public
        else {
            return None;
        };
        (!is_host_name(domain)).then(|| {
            Refusal::new(Event::RefusedSettings)
                .with(Key::Err, "--domain is no host name")
                .with(Key::Value, domain)
                .fix("write the bare name clients dial, like --domain relay.example.com")
        })
    }

    fn combinations(&self) -> Option<Refusal> {
        let refuse = |err: &str, fix: &str| {
            Some(
                Refusal::new(Event::RefusedSettings)
                    .with(Key::Err, err)
                    .fix(fix),
            )
        };
        let acme = matches!(
            self.public,
            Some(Public::Tls {
                certificate: Certificate::Acme(_),
                ..
            })
        );
        let plain = matches!(self.public, Some(Public::Plain { .. }));
        let settings = self.loaded.settings();
        if settings.tls_cert.is_some() != settings.tls_key.is_some() {
            return refuse(
                "--tls-cert and --tls-key belong together",
                "give both, or neither",
            );
        }
        if settings.tls_cert.is_some() && settings.self_signed {
            return refuse(
                "--self-signed and --tls-cert exclude each other",
                "leave one of them out",
            );
        }
        if self.given("http-listen") && !acme && !plain {
            return refuse(
                "--http-listen answers ACME challenges, and no certificate comes by ACME",
                "leave --http-listen out, or use --domain without --tls-cert and --self-signed",
            );
        }
        if settings.trust_x_forwarded_for && !settings.trust_proxy.is_empty() {
            return refuse(
                "--trust-x-forwarded-for believes everybody, which makes --trust-proxy meaningless",
                "keep --trust-proxy, and leave --trust-x-forwarded-for out",
            );
        }
        None
    }

    fn push(&self) -> Option<Refusal> {
        let settings = self.loaded.settings();
        let (endpoint, project) = (&settings.fcm_endpoint, &settings.fcm_project);
        let error = push::message_uri(endpoint, project).err()?;
        Some(
            Refusal::new(Event::RefusedSettings)
                .with(Key::Err, error)
                .with(Key::Value, format!("{endpoint} {project}"))
                .fix("leave --fcm-endpoint and --fcm-project out, or write an origin like https://fcm.googleapis.com and the id of a Firebase project"),
        )
    }

    fn metrics_listen(&self) -> Option<Refusal> {
        let value = &self.loaded.settings().metrics_listen;
        let error = address::metrics_address(value).err()?;
        Some(
            Refusal::new(Event::RefusedMetricsListen)
                .with(Key::Err, format!("it {error}"))
                .with(Key::Value, value)
                .fix("metrics are served on loopback only: use --metrics-listen 127.0.0.1:9090, or --metrics-listen= for none"),
        )
    }

    fn certificate_files(&self) -> Option<Refusal> {
        let Some(Public::Tls {
            certificate: Certificate::Files(paths),
            ..
        }) = &self.public
        else {
            return None;
        };
        let error = paths.files().read().err()?;
        Some(
            Refusal::new(Event::RefusedCertificate)
                .with(Key::Err, error)
                .fix("correct --tls-cert and --tls-key: a PEM chain with the server's certificate first, and its private key"),
        )
    }

    fn acme(&self) -> Option<Refusal> {
        let Some(Public::Tls {
            certificate: Certificate::Acme(acme),
            ..
        }) = &self.public
        else {
            return None;
        };
        if !is_host_name(&acme.domain) {
            // Said already.
            return None;
        }
        let error = acme::check(&acme.settings()).err()?;
        Some(
            Refusal::new(Event::RefusedSettings)
                .with(Key::Err, error)
                .fix("correct --domain, --acme-directory or --acme-ca"),
        )
    }

    fn listeners(&self) -> Option<Refusal> {
        let settings = self.loaded.settings();
        let acme_listen = match &self.public {
            Some(Public::Tls {
                certificate: Certificate::Acme(acme),
                ..
            }) => Some(&acme.http_listen),
            _ => None,
        };
        let public = self.public.as_ref().map(Public::listen);
        let health = settings
            .health_listen
            .as_deref()
            .filter(|text| !text.is_empty());
        let all = [public, acme_listen.map(String::as_str), health];
        all.into_iter().flatten().find_map(|listen| {
            let error = listen.parse::<ListenAddress>().err()?;
            Some(
                Refusal::new(Event::RefusedListenAddress)
                    .with(Key::Err, format!("it {error}"))
                    .with(Key::Addr, listen)
                    .fix("correct --insecure-listen, --https-listen, --http-listen or --health-listen, whichever has this value"),
            )
        })
    }
}

/// Whether this is a name that a certificate can be for: dotted labels of letters, digits and hyphens.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label) && name.parse::<std::net::IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(flags: &[&str], variables: &[(&str, &str)], privileges: Privileges) -> Vec<Event> {
        let flags = std::iter::once("pyrycode-relay").chain(flags.iter().copied());
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
}
