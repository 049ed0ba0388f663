//! A running relay: its listeners, its timers, and the way it stops.

use crate::clock::Clock;
use crate::config::{
    Acme, Certificate, CertificateFiles, Config, ListenAddress, Public, address::AddressError,
};
use crate::http::gate::Gate;
use crate::http::plain::{self, Times};
use crate::http::{self, Site};
use crate::net::acme;
use crate::net::door::Door;
use crate::net::front::Front;
use crate::net::listener;
use crate::net::tls::{self, Tls};
use crate::observe::log::{Event, Key, Log};
use crate::os::rlimit::Machine;
use crate::os::systemd::{self, Inherited};
use crate::phase::{Phase, Phases};
use crate::router::Router;
use hyper::Request;
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration names no public listener.
    #[error("no listener given; set `public`")]
    NoListener,
    /// An address that cannot be listened on by its form.
    #[error("listener address {address:?} {source}")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// The system refuses to listen there.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As configured.
        address: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("no usable certificate: {0}")]
    Certificate(String),
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Every connection is closed.
    Complete,
    /// Some peers did not finish their closing handshake in time.
    Incomplete,
}

/// A running relay. Dropping it stops listening, but leaves connections alone; use [`Self::shutdown`].
pub struct Relay {
    router: Arc<Router>,
    log: Log,
    phases: Phases,
    local_addr: SocketAddr,
    /// Let peers in, and stop first.
    entrances: Vec<JoinHandle<()>>,
    /// Stays for the drain, and stops before the wait for the last closes.
    metrics: Option<JoinHandle<()>>,
    /// Run until the last connection is closed.
    services: Vec<JoinHandle<()>>,
    reload: Arc<Notify>,
    hurry: Arc<Notify>,
}

impl Relay {
    /// Binds the listeners and starts serving.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let log = Log::start(config.log);
        Self::start_with(config, log, Inherited::default()).await
    }

    /// As [`Self::start`], with a log and listening sockets that are there already.
    pub(crate) async fn start_with(
        config: Config,
        log: Log,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let started = Starting::new(config, log.clone()).run(&mut inherited).await;
        if let Err(StartError::Bind { address, source }) = &started {
            log.write(
                Event::ListenerFailed,
                &[(Key::Addr, address), (Key::Err, source)],
            );
            log.write(Event::ListenerErrorDraining, &[]);
        }
        for address in inherited.unused() {
            log.write(Event::UnusedSocket, &[(Key::Addr, &address)]);
        }
        log.flush();
        started
    }

    /// Where the public listener is.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Reads again what can change while the relay runs: certificate files.
    pub(crate) fn reload(&self) {
        self.log.write(Event::ReloadRequested, &[]);
        self.reload.notify_one();
    }

    /// Notified once, it ends the drain of a shutdown; notified again, the wait for the peers' closes.
    pub(crate) fn hurry(&self) -> Arc<Notify> {
        self.hurry.clone()
    }

    /// Stops listening, closes every connection with 1001 `shutting down`, spread over the configured window,
    /// and waits for the peers' closes for at most the configured time.
    pub async fn shutdown(self) -> Shutdown {
        self.log.write(Event::ShutdownSignal, &[]);
        self.phases.enter(Phase::Draining);
        for entrance in self.entrances {
            end(entrance).await;
        }
        let config = &self.router.config;
        if !config.drain.is_zero() {
            tokio::select! {
                () = self.router.drain(config.drain) => {}
                () = self.hurry.notified() => {}
            }
        }
        if let Some(metrics) = self.metrics {
            end(metrics).await;
        }
        let outcome = tokio::select! {
            () = self.router.close_all() => Shutdown::Complete,
            () = tokio::time::sleep(config.shutdown_timeout) => Shutdown::Incomplete,
            () = self.hurry.notified() => Shutdown::Incomplete,
        };
        match outcome {
            Shutdown::Complete => self.log.write(Event::ShutdownComplete, &[]),
            Shutdown::Incomplete => {
                self.log.write(Event::ShutdownDeadlineExceeded, &[]);
                self.log.write(Event::DrainIncomplete, &[]);
            }
        }
        self.phases.enter(Phase::Stopped);
        for service in self.services {
            service.abort();
        }
        self.log.flush();
        outcome
    }
}

fn certificate_error(error: impl std::fmt::Display) -> StartError {
    StartError::Certificate(error.to_string())
}

fn self_signed(
    certificates: &tls::Certificates,
    listen: SocketAddr,
    log: &Log,
) -> Result<(), StartError> {
    let made = tls::self_signed::make(certificates.domain(), Some(listen.ip()));
    let made = made.map_err(certificate_error)?;
    let fields: [(Key, &dyn std::fmt::Display); 2] = [
        (Key::Fingerprint, &made.fingerprint()),
        (Key::NotAfter, &made.shown_not_after()),
    ];
    log.write(Event::CertificateSelfSigned, &fields);
    certificates.install(Arc::new(made));
    Ok(())
}

/// What the background work of certificates needs, and where it goes.
struct Ground {
    door: Arc<Door>,
    log: Log,
    times: Times,
    entrances: Vec<JoinHandle<()>>,
    services: Vec<JoinHandle<()>>,
}

impl Ground {
    fn certificate_files(
        &mut self,
        paths: &CertificateFiles,
        certificates: Arc<tls::Certificates>,
        reload: Arc<Notify>,
    ) -> Result<(), StartError> {
        let files = paths.files();
        let version = files.version();
        let certificate = files.read().map_err(certificate_error)?;
        tls::files::install(&certificates, certificate, &self.log);
        let log = self.log.clone();
        let watch = tls::files::watch(files, version, paths.reload, reload, certificates, log);
        self.services.push(tokio::spawn(watch));
        Ok(())
    }

    fn acme(
        &mut self,
        acme: &Acme,
        certificates: Arc<tls::Certificates>,
        challenges: Option<TcpListener>,
    ) -> Result<(), StartError> {
        let client = acme::Acme::open(acme.settings(), certificates, self.log.clone());
        let client = client.map_err(certificate_error)?;
        if let Some(listener) = challenges {
            let http01 = client.http01();
            let answer = move |request: &Request<Incoming>| http::challenge(&http01, request);
            let (door, log) = (self.door.clone(), self.log.clone());
            let run = plain::run(listener, door, log, self.times, answer);
            self.entrances.push(tokio::spawn(run));
        }
        self.services.push(tokio::spawn(client.run()));
        Ok(())
    }
}

/// Ends a task; it is gone, and its socket with it, when this returns.
async fn end(task: JoinHandle<()>) {
    task.abort();
    drop(task.await);
}

/// Everything a relay is made of, before it runs.
struct Starting {
    log: Log,
    phases: Phases,
    reload: Arc<Notify>,
    machine: Machine,
    max_connections: usize,
    config: Config,
}

impl Starting {
    fn new(config: Config, log: Log) -> Self {
        let machine = Machine::look();
        Self {
            log,
            phases: Phases::default(),
            reload: Arc::default(),
            machine,
            max_connections: config
                .max_connections
                .unwrap_or_else(|| machine.max_connections()),
            config,
        }
    }

    async fn run(self, inherited: &mut Inherited) -> Result<Relay, StartError> {
        let public = self.config.public.clone().ok_or(StartError::NoListener)?;
        self.announce(&public);
        // Everything is bound before anything is served: a taken port stops the start.
        let metrics = match self.config.metrics_listen {
            Some(address) => Some(self.bind(&address.to_string(), inherited).await?),
            None => None,
        };
        let health = match &self.config.health_listen {
            Some(address) => {
                self.log
                    .write(Event::StartingHealthListener, &[(Key::Listen, address)]);
                Some(self.bind(address, inherited).await?)
            }
            None => None,
        };
        let challenges = match &public {
            Public::Tls {
                certificate: Certificate::Acme(acme),
                ..
            } => Some(self.bind(&acme.http_listen, inherited).await?),
            _ => None,
        };
        let listener = self.bind(public.listen(), inherited).await?;
        let local_addr = listener.local_addr().map_err(|source| StartError::Bind {
            address: public.listen().to_owned(),
            source,
        })?;
        let Self {
            log,
            phases,
            reload,
            machine,
            max_connections,
            config,
        } = self;
        let times = Times {
            header: config.header_timeout,
            whole: config.http_timeout,
        };
        let clock = Clock::start();
        let router = Arc::new(Router::new(config, clock, log.clone()));
        let config = &router.config;
        let door = Door::new(config, machine, clock, log.clone(), router.metrics.clone());
        let door = Arc::new(door);
        let site = Arc::new(Site {
            router: router.clone(),
            gate: Arc::new(Gate::new(config, max_connections)),
            phases: phases.clone(),
            version: crate::cli::VERSION,
        });
        let mut ground = Ground {
            door: door.clone(),
            log: log.clone(),
            times,
            entrances: Vec::new(),
            services: Vec::new(),
        };
        let tls = match &public {
            Public::Plain { .. } => None,
            Public::Tls {
                domain,
                certificate,
                ..
            } => {
                let certificates = Arc::new(tls::Certificates::new(domain.as_deref()));
                let served = certificates.clone();
                match certificate {
                    Certificate::SelfSigned => self_signed(&certificates, local_addr, &log)?,
                    Certificate::Files(paths) => {
                        ground.certificate_files(paths, certificates, reload.clone())?;
                    }
                    Certificate::Acme(acme) => ground.acme(acme, certificates, challenges)?,
                }
                let acme = matches!(certificate, Certificate::Acme(_));
                Some(Tls::new(served, acme).map_err(certificate_error)?)
            }
        };
        let Ground {
            mut entrances,
            mut services,
            ..
        } = ground;
        let metrics = metrics
            .map(|listener| tokio::spawn(http::metrics::run(listener, router.clone(), times)));
        if let Some(listener) = health {
            let site = site.clone();
            let answer = move |request: &Request<Incoming>| {
                http::health(&site, request.uri().path()).unwrap_or_else(plain::not_found)
            };
            services.push(tokio::spawn(plain::run(
                listener,
                door.clone(),
                log.clone(),
                times,
                answer,
            )));
        }
        let timers = router.clone();
        services.push(tokio::spawn(async move { timers.run_timers().await }));
        let counted = router.clone();
        // Not among the services: it has to report the end.
        tokio::spawn(systemd::report(phases.clone(), move || counted.counts()));
        let front = Arc::new(Front { site, door, tls });
        entrances.push(tokio::spawn(front.run(listener)));
        phases.enter(Phase::Ready);
        Ok(Relay {
            router,
            log,
            phases,
            local_addr,
            entrances,
            metrics,
            services,
            reload,
            hurry: Arc::default(),
        })
    }

    /// The first lines of the log.
    fn announce(&self, public: &Public) {
        let listen = public.listen();
        let mut fields: Vec<(Key, &dyn std::fmt::Display)> =
            vec![(Key::Version, &crate::cli::VERSION)];
        let cache;
        match public {
            Public::Plain { .. } => {
                fields.extend([(Key::Mode, &"insecure" as _), (Key::Listen, &listen as _)])
            }
            Public::Tls {
                certificate:
                    Certificate::Acme(Acme {
                        domain,
                        cache: path,
                        ..
                    }),
                ..
            } => {
                cache = path.display();
                fields.extend([
                    (Key::Mode, &"autocert" as _),
                    (Key::Domain, domain as _),
                    (Key::CertCache, &cache as _),
                    (Key::HttpsProxyProtocol, &self.config.proxies.header as _),
                ]);
            }
            Public::Tls { certificate, .. } => {
                let mode = match certificate {
                    Certificate::Files(_) => &"tls-files",
                    _ => &"self-signed",
                };
                fields.extend([(Key::Mode, mode as _), (Key::Listen, &listen as _)]);
            }
        }
        fields.push((Key::MaxConnections, &self.max_connections));
        self.log.write(Event::Starting, &fields);
        if let Some(address) = self.config.metrics_listen {
            self.log
                .write(Event::StartingMetricsListener, &[(Key::Listen, &address)]);
        }
    }

    /// The inherited socket with this port, or a new one.
    async fn bind(
        &self,
        address: &str,
        inherited: &mut Inherited,
    ) -> Result<TcpListener, StartError> {
        let parsed =
            ListenAddress::with_any_port(address).map_err(|source| StartError::Address {
                address: address.to_owned(),
                source,
            })?;
        let bound = match inherited.take(parsed.port()) {
            Some(socket) => TcpListener::from_std(socket),
            None => listener::bind(&parsed).await,
        };
        bound.map_err(|source| StartError::Bind {
            address: address.to_owned(),
            source,
        })
    }
}
