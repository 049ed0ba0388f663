//! From a configuration to a running relay: everything is bound first, then everything is served.

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::address::ListenAddress;
use crate::config::{Acme, AdminToken, Certificate, CertificateFiles, Config, Public};
use crate::http::gate::Gate;
use crate::http::plain::{self, Times};
use crate::http::{self, Site};
use crate::net::acme;
use crate::net::door::{Door, Places, Room};
use crate::net::front::Front;
use crate::net::listener;
use crate::net::tls::{self, Tls};
use crate::observe::log::{Event, Key, Log};
use crate::os::rlimit::Machine;
use crate::os::systemd::{self, Inherited};
use crate::phase::{Phase, Phases};
use crate::push::Fcm;
use crate::router::Router;
use crate::server::{AdminPage, Relay, StartError};
use hyper::Request;
use hyper::body::Incoming;
use relay_core::Policy;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Connections to the health listener at once: a few checkers, and nobody else should reach it.
const HEALTH_PLACES: usize = 64;

/// Connections to the listener for challenges at once. A CA comes from a handful of places.
const CHALLENGE_PLACES: usize = 256;

/// Binds the listeners and starts serving.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub(crate) async fn start(
    config: Config,
    log: Log,
    inherited: &mut Inherited,
) -> Result<Relay, StartError> {
    let public = config.public.clone().ok_or(StartError::NoListener)?;
    let machine = Machine::look();
    announce(&config, &public, machine, &log);
    let listeners = Listeners::bind(&config, &public, inherited, &log).await?;
    let local_addr = listeners.local_addr(&public)?;
    let clock = Clock::start();
    let times = Times {
        header: config.header_timeout,
        whole: config.http_timeout,
    };
    let fcm = config.push.as_ref().map(|push| Fcm::new(push, clock));
    let fcm = fcm.transpose().map_err(StartError::Push)?;
    let parts = Parts::new(config, machine, clock, log.clone(), fcm);
    let router = parts.site.router.clone();
    let phases = parts.site.phases.clone();
    let mut starting = Starting {
        router: router.clone(),
        times,
        reload: Arc::default(),
        entrances: Vec::new(),
        services: Vec::new(),
    };
    let tls = starting.tls(&public, local_addr, listeners.challenges)?;
    let (front, timers) = parts.open(tls);
    starting.services.push(timers);
    let admin = starting.admin(listeners.metrics, &front);
    starting.health(listeners.health, &front.site);
    let counted = router.clone();
    let report = systemd::report(phases.clone(), move || counted.counts());
    let report = tokio::spawn(report);
    for listener in listeners.public {
        let run = front.clone().run(listener);
        starting.entrances.push(tokio::spawn(run));
    }
    phases.enter(Phase::Ready);
    Ok(Relay {
        router,
        door: front.door.clone(),
        log,
        phases,
        local_addr,
        entrances: starting.entrances,
        admin,
        services: starting.services,
        report,
        reload: starting.reload,
        hurry: Arc::default(),
    })
}

/// What every relay is made of, however its peers come to it.
pub(crate) struct Parts {
    pub(crate) site: Arc<Site>,
    door: Arc<Door>,
}

impl Parts {
    pub(crate) fn new(
        config: Config,
        machine: Machine,
        clock: Clock,
        log: Log,
        fcm: Option<Fcm>,
    ) -> Self {
        let max_connections = max_connections(&config, machine);
        let policy = Policy {
            grace_slots: max_connections,
            ..config.policy.clone()
        };
        let config = Config { policy, ..config };
        let router = Arc::new(Router::new(config, machine, clock, log, fcm));
        let gate = Arc::new(Gate::new(&router.config, max_connections));
        let room = Room::of(&router.config, machine, &gate);
        let door = Door::new(Places::of(&router.config, room), &router);
        let site = Site {
            gate,
            http: http::protocol(&router.config),
            router,
            phases: Phases::default(),
            version: crate::cli::VERSION,
        };
        Self {
            site: Arc::new(site),
            door: Arc::new(door),
        }
    }

    /// The way in, and the task that fires the registry's timers.
    pub(crate) fn open(self, tls: Option<Tls>) -> (Arc<Front>, JoinHandle<()>) {
        let router = self.site.router.clone();
        let timers = tokio::spawn(async move { router.run_timers().await });
        let front = Front {
            site: self.site,
            door: self.door,
            tls,
        };
        (Arc::new(front), timers)
    }
}

fn max_connections(config: &Config, machine: Machine) -> usize {
    let configured = config.max_connections;
    configured.unwrap_or_else(|| machine.max_connections())
}

/// The first lines of the log.
fn announce(config: &Config, public: &Public, machine: Machine, log: &Log) {
    let max_connections = max_connections(config, machine);
    let listen = public.listen();
    let mut fields: Vec<(Key, &dyn Display)> = vec![(Key::Version, &crate::cli::VERSION)];
    let cache;
    let mut mode = |mode: &'static &'static str| fields.push((Key::Mode, mode));
    match public {
        Public::Plain { .. } => mode(&"insecure"),
        Public::Tls { certificate, .. } => match certificate {
            Certificate::Acme(_) => mode(&"autocert"),
            Certificate::Files(_) => mode(&"tls-files"),
            Certificate::SelfSigned => mode(&"self-signed"),
        },
    }
    match public {
        Public::Tls {
            certificate: Certificate::Acme(acme),
            ..
        } => {
            cache = acme.cache.display();
            fields.push((Key::Domain, &acme.domain));
            fields.push((Key::CertCache, &cache));
            fields.push((Key::HttpsProxyProtocol, &config.proxies.header));
        }
        _ => fields.push((Key::Listen, &listen)),
    }
    fields.push((Key::MaxConnections, &max_connections));
    log.write(Event::Starting, &fields);
}

/// The sockets of each listener. One address may have several: systemd hands over one for IPv4 and one for IPv6.
struct Listeners {
    public: Vec<TcpListener>,
    challenges: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
    health: Vec<TcpListener>,
}

impl Listeners {
    async fn bind(
        config: &Config,
        public: &Public,
        inherited: &mut Inherited,
        log: &Log,
    ) -> Result<Self, StartError> {
        let announce = |event, address: &dyn Display| log.write(event, &[(Key::Listen, address)]);
        let mut metrics = Vec::new();
        if let Some(address) = config.metrics_listen {
            announce(Event::StartingMetricsListener, &address);
            // An inherited socket on every interface is not for these.
            metrics = bind(&address.to_string(), inherited, |ip| ip.is_loopback()).await?;
        }
        let mut health = Vec::new();
        if let Some(address) = &config.health_listen {
            announce(Event::StartingHealthListener, address);
            health = bind(address, inherited, |_| true).await?;
        }
        let mut challenges = Vec::new();
        if let Public::Tls {
            certificate: Certificate::Acme(acme),
            ..
        } = public
        {
            announce(Event::StartingHttpListener, &acme.http_listen);
            challenges = bind(&acme.http_listen, inherited, |_| true).await?;
        }
        Ok(Self {
            public: bind(public.listen(), inherited, |_| true).await?,
            challenges,
            metrics,
            health,
        })
    }

    fn local_addr(&self, public: &Public) -> Result<SocketAddr, StartError> {
        let first = self.public.first().map(TcpListener::local_addr);
        let missing = || Err(std::io::ErrorKind::AddrNotAvailable.into());
        first
            .unwrap_or_else(missing)
            .map_err(|source| StartError::Bind {
                address: public.listen().to_owned(),
                source,
            })
    }
}

/// The inherited sockets with this port that fit, or a new one.
async fn bind(
    address: &str,
    inherited: &mut Inherited,
    fit: impl Fn(IpAddr) -> bool,
) -> Result<Vec<TcpListener>, StartError> {
    let parsed = ListenAddress::with_any_port(address).map_err(|source| StartError::Address {
        address: address.to_owned(),
        source,
    })?;
    let sockets = inherited.take(parsed.port(), fit);
    let bound = match sockets.is_empty() {
        true => listener::bind(&parsed).await.map(|listener| vec![listener]),
        false => sockets.into_iter().map(TcpListener::from_std).collect(),
    };
    bound.map_err(|source| StartError::Bind {
        address: address.to_owned(),
        source,
    })
}

/// What the parts of a relay need, and the tasks that are running already.
struct Starting {
    router: Arc<Router>,
    times: Times,
    reload: Arc<Notify>,
    entrances: Vec<JoinHandle<()>>,
    services: Vec<JoinHandle<()>>,
}

impl Starting {
    fn door(&self, places: Places) -> Arc<Door> {
        Arc::new(Door::new(places, &self.router))
    }

    /// TLS of the public listener, if it has it, and what keeps its certificate valid.
    fn tls(
        &mut self,
        public: &Public,
        local_addr: SocketAddr,
        challenges: Vec<TcpListener>,
    ) -> Result<Option<Tls>, StartError> {
        let Public::Tls {
            domain,
            certificate,
            ..
        } = public
        else {
            return Ok(None);
        };
        let certificates = Arc::new(tls::Certificates::new(domain.as_deref()));
        match certificate {
            Certificate::SelfSigned => self.self_signed(&certificates, local_addr)?,
            Certificate::Files(paths) => self.certificate_files(paths, certificates.clone())?,
            Certificate::Acme(acme) => self.acme(acme, certificates.clone(), challenges)?,
        }
        let acme = matches!(certificate, Certificate::Acme(_));
        let tls = Tls::new(certificates, acme).map_err(certificate_error)?;
        Ok(Some(tls))
    }

    fn self_signed(
        &self,
        certificates: &tls::Certificates,
        local_addr: SocketAddr,
    ) -> Result<(), StartError> {
        let made = tls::self_signed::make(certificates.domain(), Some(local_addr.ip()));
        let made = made.map_err(certificate_error)?;
        let fields: [(Key, &dyn Display); 2] = [
            (Key::Fingerprint, &made.fingerprint()),
            (Key::NotAfter, &made.shown_not_after()),
        ];
        self.router.log.write(Event::CertificateSelfSigned, &fields);
        certificates.install(Arc::new(made));
        Ok(())
    }

    fn certificate_files(
        &mut self,
        paths: &CertificateFiles,
        certificates: Arc<tls::Certificates>,
    ) -> Result<(), StartError> {
        let files = paths.files();
        let version = files.version();
        let certificate = files.read().map_err(certificate_error)?;
        tls::files::install(&certificates, certificate, &self.router.log);
        let (reload, log) = (self.reload.clone(), self.router.log.clone());
        let watch = tls::files::watch(files, version, paths.reload, reload, certificates, log);
        self.services.push(tokio::spawn(watch));
        Ok(())
    }

    fn acme(
        &mut self,
        acme: &Acme,
        certificates: Arc<tls::Certificates>,
        challenges: Vec<TcpListener>,
    ) -> Result<(), StartError> {
        let client = acme::Acme::open(acme.settings(), certificates, self.router.log.clone());
        let client = client.map_err(certificate_error)?;
        // Its own way in: what comes to port 80 must not count against the peers, nor they against the CA.
        let places = Places::of(&self.router.config, Room::Fixed(CHALLENGE_PLACES));
        let door = self.door(places);
        for listener in challenges {
            let http01 = client.http01();
            let answer = move |request: &Request<Incoming>| http::challenge(&http01, request);
            let router = self.router.clone();
            let known = move |peer| !router.config.proxies.trusts(peer);
            let (door, log) = (door.clone(), self.router.log.clone());
            let run = plain::run(listener, door, log, self.times, known, answer);
            self.entrances.push(tokio::spawn(run));
        }
        self.services.push(tokio::spawn(client.run()));
        Ok(())
    }

    /// The admin page with `/metrics`, if it has a listener.
    fn admin(&mut self, listeners: Vec<TcpListener>, front: &Arc<Front>) -> Option<AdminPage> {
        let local_addr = listeners.first()?.local_addr().ok()?;
        let chosen = self.router.config.admin_token.clone();
        let made = chosen.is_none().then(AdminToken::random);
        let token = chosen.or_else(|| made.clone())?;
        let admin = Arc::new(Admin::new(front.clone(), token));
        self.services.push(tokio::spawn(admin.clone().sample()));
        let runs = listeners.into_iter();
        let runs = runs.map(|listener| tokio::spawn(admin.clone().run(listener, self.times)));
        Some(AdminPage {
            runs: runs.collect(),
            admin,
            local_addr,
            made,
        })
    }

    fn health(&mut self, listeners: Vec<TcpListener>, site: &Arc<Site>) {
        // Checkers often share one address with everything else; only their number is bounded.
        let places = Places {
            all: Room::Fixed(HEALTH_PLACES),
            per_address: 0,
            connects: (0, 1),
        };
        let door = self.door(places);
        for listener in listeners {
            let site = site.clone();
            let answer = move |request: &Request<Incoming>| {
                http::health(&site, request.uri().path()).unwrap_or_else(plain::not_found)
            };
            let (door, log) = (door.clone(), self.router.log.clone());
            let run = plain::run(listener, door, log, self.times, |_| false, answer);
            self.services.push(tokio::spawn(run));
        }
    }
}

fn certificate_error(error: impl Display) -> StartError {
    StartError::Certificate(error.to_string())
}
