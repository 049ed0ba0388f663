//! Everything that can be set, with its default.

pub mod address;
pub(crate) mod contracts;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod layers;
pub(crate) mod report;
pub(crate) mod settings;
mod token;

use crate::observe::log::LogSettings;
use ipnet::IpNet;
use layers::Loaded;
use relay_core::{Policy, SessionPolicy, WakePolicy, limits};
use settings::{Settings, ms};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::push::ServiceAccount;
pub use address::ListenAddress;
pub use token::AdminToken;

/// What the public listener speaks.
#[derive(Clone, Debug)]
pub enum Public {
    /// HTTP, for a proxy that terminates TLS, or for trying things out.
    Plain {
        /// `host:port`.
        listen: String,
    },
    /// HTTPS.
    Tls {
        /// `host:port`.
        listen: String,
        /// The only host that is served; any if `None`.
        domain: Option<String>,
        /// Where the certificate comes from.
        certificate: Certificate,
    },
}

impl Public {
    /// Plain HTTP on a free port of this machine.
    pub fn loopback() -> Self {
        Self::Plain {
            listen: "127.0.0.1:0".to_owned(),
        }
    }

    /// Its address.
    pub fn listen(&self) -> &str {
        match self {
            Self::Plain { listen } | Self::Tls { listen, .. } => listen,
        }
    }

    /// The only host that is served; any if `None`.
    pub fn domain(&self) -> Option<&str> {
        match self {
            Self::Plain { .. } => None,
            Self::Tls { domain, .. } => domain.as_deref(),
        }
    }
}

/// Where the certificate of the public listener comes from.
#[derive(Clone, Debug)]
pub enum Certificate {
    /// A CA that speaks ACME (RFC 8555).
    Acme(Acme),
    /// PEM files that somebody else renews.
    Files(CertificateFiles),
    /// Made at start, trusted by nobody.
    SelfSigned,
}

/// How certificates are obtained from a CA.
#[derive(Clone, Debug)]
pub struct Acme {
    /// Whose certificate.
    pub domain: String,
    /// `host:port` for HTTP-01 challenges.
    pub http_listen: String,
    /// Where certificates and the account's key are kept.
    pub cache: PathBuf,
    /// URL of the CA's directory.
    pub directory: String,
    /// The certificates to trust for the CA's own TLS; the system's if `None`.
    pub ca: Option<PathBuf>,
}

/// A certificate chain and its key, in PEM files.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
    /// How often the files are looked at.
    pub reload: Duration,
}

impl Acme {
    pub(crate) fn settings(&self) -> crate::net::acme::Settings {
        crate::net::acme::Settings {
            domain: self.domain.clone(),
            directory: self.directory.clone(),
            ca_file: self.ca.clone(),
            cache: self.cache.clone(),
        }
    }
}

impl CertificateFiles {
    pub(crate) fn files(&self) -> crate::net::tls::files::Files {
        crate::net::tls::files::Files {
            certificate: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}

/// How phones are woken by push.
#[derive(Clone, Debug)]
pub struct Push {
    /// Whose messages they are.
    pub account: ServiceAccount,
    /// The Firebase project.
    pub project: String,
    /// FCM's https origin.
    pub endpoint: String,
    /// For each of: the fetch of an access token, the sending of a wake with its retries.
    pub timeout: Duration,
}

/// What stands between the clients and the public listener.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Every connection starts with a PROXY protocol header.
    pub header: bool,
    /// Our own proxies.
    pub trusted: Vec<IpNet>,
    /// Anybody's first `X-Forwarded-For` element is believed.
    pub trust_x_forwarded_for: bool,
}

impl Proxies {
    /// Whether this address is one of our proxies.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// The settings of one relay. [`Config::default`] is what the program runs with when no flag is
/// given, except that nothing is listened on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener of the public routes.
    pub public: Option<Public>,
    /// Loopback address of `/metrics` and the admin page; `None`: no such listener.
    pub metrics_listen: Option<SocketAddr>,
    /// `host:port` of the health routes alone; `None`: no such listener.
    pub health_listen: Option<String>,
    /// What stands in front.
    pub proxies: Proxies,
    /// How phones are woken; `None`: they are not.
    pub push: Option<Push>,
    /// Live WebSocket connections over both endpoints; `None`: from the descriptor limit and the
    /// memory of this machine.
    pub max_connections: Option<usize>,
    /// Live connections from one address (IPv6: from one /64); 0: no such limit.
    pub max_connections_per_ip: usize,
    /// Connections that are accepted and not answered yet; `None`: from memory, and the descriptors that
    /// connections leave or do not use yet.
    pub max_handshakes: Option<usize>,
    /// The same from one address; 0: no such limit.
    pub max_handshakes_per_ip: u32,
    /// TCP connections one address may open at once; 0: no such limit.
    pub connect_burst: u32,
    /// TCP connections an address gets back each second.
    pub connect_per_second: u32,
    /// Upgrade attempts one address may make at once, for each endpoint; 0: no limit.
    pub rate_burst: u32,
    /// Attempts an address gets back each minute.
    pub rate_per_minute: u32,
    /// Largest message accepted from a peer, in bytes.
    pub message_bytes: usize,
    /// Frames queued for one phone at most, in bytes, with 64 more for each.
    pub outbox_bytes: usize,
    /// Frames queued for all peers together at most, in bytes, beyond the first 64 KiB of each; `None`: a quarter of
    /// the memory of this machine, less of a small one. A queue may take no more of it than it leaves for the others:
    /// half, if it is the only one.
    pub queue_bytes: Option<usize>,
    /// Frames kept for all parked phones at most, in bytes; `None`: a sixteenth of the memory of this machine, at most
    /// 32 MiB.
    pub park_total_bytes: Option<usize>,
    /// Frames kept for one parked phone at most, in bytes.
    pub park_phone_bytes: usize,
    /// The slots' times and bounds.
    pub policy: Policy,
    /// The connections' times.
    pub session: SessionPolicy,
    /// How many push wakes are sent.
    pub wakes: WakePolicy,
    /// For each of: a PROXY header, a TLS handshake, a complete HTTP request head.
    pub header_timeout: Duration,
    /// From the first byte of HTTP to the end of the exchange, when it stays HTTP.
    pub http_timeout: Duration,
    /// The time over which the closes of a shutdown are spread; zero: all at once.
    pub drain: Duration,
    /// From the end of the drain until the process ends, whatever is still open.
    pub shutdown_timeout: Duration,
    /// How log lines look, and which there are.
    pub log: LogSettings,
    /// Figures of the process among the metrics.
    pub process_metrics: bool,
    /// Server-ids on the admin page, instead of a hash of them.
    pub admin_show_ids: bool,
    /// What closing a slot or a phone takes; `None`: a random one is made.
    pub admin_token: Option<AdminToken>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public: None,
            metrics_listen: None,
            health_listen: None,
            proxies: Proxies::default(),
            push: None,
            max_connections: None,
            max_connections_per_ip: 256,
            max_handshakes: None,
            max_handshakes_per_ip: 64,
            connect_burst: 512,
            connect_per_second: 32,
            rate_burst: 60,
            rate_per_minute: 60,
            message_bytes: limits::MESSAGE_BYTES,
            outbox_bytes: limits::OUTBOX_BYTES,
            queue_bytes: None,
            park_total_bytes: None,
            park_phone_bytes: limits::PARK_PHONE_BYTES,
            policy: Policy::default(),
            session: SessionPolicy::default(),
            wakes: WakePolicy::default(),
            header_timeout: Duration::from_secs(5),
            http_timeout: Duration::from_secs(60),
            drain: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(10),
            log: LogSettings::default(),
            process_metrics: false,
            admin_show_ids: false,
            admin_token: None,
        }
    }
}

impl Loaded {
    /// The configuration these settings stand for, once the boot checks have found nothing wrong with them. What comes
    /// from the environment's contracts is not in it.
    pub(crate) fn config(&self) -> Config {
        let s = &self.settings;
        Config {
            public: s.public(),
            metrics_listen: address::metrics_address(&s.metrics_listen).unwrap_or_default(),
            health_listen: given(&s.health_listen),
            proxies: Proxies {
                header: s.proxy_protocol || s.https_proxy_protocol,
                trusted: s.trust_proxy.clone(),
                trust_x_forwarded_for: s.trust_x_forwarded_for,
            },
            push: None,
            max_connections: s.max_connections.and_then(|n| usize::try_from(n).ok()),
            max_connections_per_ip: s.max_connections_per_ip,
            max_handshakes: s.max_handshakes,
            max_handshakes_per_ip: s.max_handshakes_per_ip,
            connect_burst: s.connect_burst,
            connect_per_second: s.connect_per_second,
            rate_burst: s.rate_burst,
            rate_per_minute: s.rate_per_minute,
            message_bytes: s.message_limit,
            outbox_bytes: s.outbox_limit,
            queue_bytes: s.queue_bytes,
            park_total_bytes: s.park_bytes,
            park_phone_bytes: s.park_phone_bytes,
            policy: s.policy(),
            session: s.session(),
            wakes: s.wakes(),
            header_timeout: s.header_timeout,
            http_timeout: s.http_timeout,
            drain: s.drain,
            shutdown_timeout: s.shutdown_timeout,
            log: s.log(),
            process_metrics: s.process_metrics,
            admin_show_ids: s.admin_show_ids,
            admin_token: None,
        }
    }
}

impl Settings {
    fn policy(&self) -> Policy {
        Policy {
            grace_ms: ms(self.grace),
            probe_timeout_ms: ms(self.probe_timeout),
            probe_dead_path_ms: ms(self.probe_dead_path),
            park_ms: ms(self.park),
            boot_park_ms: ms(self.boot_park),
            phones_per_server: self.phones_per_server,
            redial_burst: self.redial_burst,
            ..Policy::default()
        }
    }

    fn session(&self) -> SessionPolicy {
        SessionPolicy {
            ping_interval_ms: ms(self.ping_interval),
            pong_timeout_ms: ms(self.pong_timeout),
            read_deadline_ms: ms(self.message_timeout),
            write_timeout_ms: ms(self.write_timeout),
            close_wait_ms: ms(self.close_timeout),
            control_write_timeout_ms: ms(self.control_timeout),
        }
    }

    fn wakes(&self) -> WakePolicy {
        WakePolicy {
            wake_burst: self.wake_burst,
            wake_refill_ms: ms(self.wake_refill),
            wakes_in_flight: self.wakes_in_flight,
        }
    }

    pub(crate) fn log(&self) -> LogSettings {
        LogSettings {
            format: self.log_format,
            level: self.log_level,
            ..LogSettings::default()
        }
    }

    /// The public listener; `None` if no setting asks for one.
    pub(crate) fn public(&self) -> Option<Public> {
        if let Some(listen) = given(&self.insecure_listen) {
            return Some(Public::Plain { listen });
        }
        let domain = given(&self.domain).map(|domain| domain.to_lowercase());
        let certificate = match (&self.tls_cert, &self.tls_key, &domain) {
            (Some(cert), Some(key), _) => Certificate::Files(CertificateFiles {
                cert: cert.clone(),
                key: key.clone(),
                reload: self.tls_reload,
            }),
            _ if self.self_signed => Certificate::SelfSigned,
            (_, _, Some(domain)) => Certificate::Acme(Acme {
                domain: domain.clone(),
                http_listen: self.http_listen.clone(),
                cache: self.cert_cache.clone().unwrap_or_else(default_cache),
                directory: self.acme_directory.clone(),
                ca: self.acme_ca.clone(),
            }),
            _ => return None,
        };
        Some(Public::Tls {
            listen: self.https_listen.clone(),
            domain,
            certificate,
        })
    }
}

/// A text setting; an empty one counts as none.
pub(crate) fn given(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

/// Where the Go relay keeps its certificates, too.
pub(crate) fn default_cache() -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.map(PathBuf::from).unwrap_or_default();
    home.join(".pyrycode-relay/certs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_flags_are_the_defaults_of_the_library() {
        let flags = ["pyrycode-relay", "--metrics-listen="].map(std::ffi::OsString::from);
        let loaded = crate::cli::parse(flags)
            .unwrap()
            .load(&Default::default())
            .unwrap();
        let library = Config::default();
        assert_eq!(format!("{:?}", loaded.config()), format!("{library:?}"));
    }

    #[test]
    fn a_trusted_network_contains_its_addresses() {
        let proxies = Proxies {
            trusted: vec![
                "10.0.0.0/8".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ],
            ..Proxies::default()
        };
        assert!(proxies.trusts([10, 1, 2, 3].into()));
        assert!(proxies.trusts("2001:db8::7".parse().unwrap()));
        assert!(!proxies.trusts([11, 0, 0, 1].into()));
    }
}
