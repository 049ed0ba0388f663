//! What is checked before anything is bound. The order is the Go relay's, so that the same mistake gets the
//! same answer.

mod cache;
mod refusal;
mod remarks;

pub(crate) use refusal::Refusal;

use crate::config::contracts::{Contracts, PRODUCTION, SINGLE_INSTANCE};
use crate::config::layers::{Loaded, Variables};
use crate::config::{Acme, Certificate, Config, ListenAddress, Public, Push, address};
use crate::net::acme;
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

    /// The checks before the log says whether push is on.
    const FIRST: [fn(&Self) -> Option<Refusal>; 10] = [
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
    ];

    /// Those after it.
    const SECOND: [fn(&Self) -> Option<Refusal>; 5] = [
        Self::metrics_listen,
        Self::cache,
        Self::certificate_files,
        Self::acme,
        Self::listeners,
    ];

    /// Everything that speaks against starting, in the order of the checks. Changes nothing.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        let checks = Self::FIRST.iter().chain(&Self::SECOND);
        checks.filter_map(|check| check(self)).collect()
    }

    /// Checks everything, says in the log what is to be known, then makes ready what the relay needs.
    ///
    /// # Errors
    /// The first thing that speaks against starting; nothing is changed then.
    pub(crate) fn run(&self, log: &Log) -> Result<(), Refusal> {
        let pass = |checks: &[fn(&Self) -> Option<Refusal>]| {
            let refusal = checks.iter().find_map(|check| check(self));
            refusal.map_or(Ok(()), Err)
        };
        pass(&Self::FIRST)?;
        match self.push_config() {
            Some(push) => log.write(Event::PushOn, &[(Key::Project, &push.project)]),
            None => log.write(Event::PushOff, &[]),
        }
        pass(&Self::SECOND)?;
        self.remarks(log);
        self.prepare_cache(log)
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
            timeout: settings.push_timeout,
        })
    }

    /// How the certificate is ordered, if it is.
    fn acme_config(&self) -> Option<&Acme> {
        match &self.public {
            Some(Public::Tls {
                certificate: Certificate::Acme(acme),
                ..
            }) => Some(acme),
            _ => None,
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
        let acme = self.acme_config().is_some();
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
        let acme = self.acme_config()?;
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
        let acme_listen = self.acme_config().map(|acme| &*acme.http_listen);
        let public = self.public.as_ref().map(Public::listen);
        let health = settings
            .health_listen
            .as_deref()
            .filter(|text| !text.is_empty());
        let all = [public, acme_listen, health];
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
mod tests;
