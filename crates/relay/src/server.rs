//! A running relay: its listeners, its timers, and the way it stops.

use crate::clock::Clock;
use crate::config::{Config, ListenAddress, address::AddressError};
use crate::http::gate::Gate;
use crate::http::{self, Site, plain};
use crate::net::listener;
use crate::observe::log::{Event, Key, Log};
use crate::os::rlimit;
use crate::router::Router;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration names no public listener.
    #[error("no listener given; set insecure_listen")]
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
    local_addr: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
    shutdown_timeout: Duration,
}

impl Relay {
    /// Binds the listeners and starts serving.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let log = Log::start(config.log);
        let started = Self::start_with(config, log.clone()).await;
        if let Err(StartError::Bind { address, source }) = &started {
            log.write(
                Event::ListenerFailed,
                &[(Key::Addr, address), (Key::Err, source)],
            );
        }
        if started.is_err() {
            log.flush();
        }
        started
    }

    async fn start_with(config: Config, log: Log) -> Result<Self, StartError> {
        let public = config
            .insecure_listen
            .clone()
            .ok_or(StartError::NoListener)?;
        let descriptors = rlimit::raise_descriptors();
        let max_connections = config.max_connections.unwrap_or_else(|| {
            rlimit::default_max_connections(descriptors, rlimit::memory_bytes())
        });
        log.write(Event::PushOff, &[]);
        log.write(
            Event::Starting,
            &[
                (Key::Version, &crate::cli::VERSION),
                (Key::Mode, &"insecure"),
                (Key::Listen, &public),
                (Key::MaxConnections, &max_connections),
            ],
        );
        let metrics_listener = match config.metrics_listen {
            Some(address) => {
                log.write(Event::StartingMetricsListener, &[(Key::Listen, &address)]);
                Some(
                    listener::bind_one(address).map_err(|source| StartError::Bind {
                        address: address.to_string(),
                        source,
                    })?,
                )
            }
            None => None,
        };
        let listener = bind(&public).await?;
        let local_addr = listener.local_addr().map_err(|source| StartError::Bind {
            address: public,
            source,
        })?;
        let shutdown_timeout = config.shutdown_timeout;
        let gate = Arc::new(Gate::new(&config, max_connections));
        let router = Arc::new(Router::new(config, Clock::start(), log.clone()));
        let site = Site {
            router: router.clone(),
            gate,
            version: crate::cli::VERSION,
        };
        let timers = router.clone();
        let mut tasks = vec![
            tokio::spawn(async move { timers.run_timers().await }),
            tokio::spawn(serve_public(listener, Arc::new(site))),
        ];
        if let Some(listener) = metrics_listener {
            tasks.push(tokio::spawn(serve_metrics(listener, router.clone())));
        }
        Ok(Self {
            router,
            log,
            local_addr,
            tasks,
            shutdown_timeout,
        })
    }

    /// Where the public listener is.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops listening, closes every connection with 1001 `shutting down`, and waits for the peers'
    /// closes for at most the configured time.
    pub async fn shutdown(self) -> Shutdown {
        self.log.write(Event::ShutdownSignal, &[]);
        // The timers go on: parked phones and probes end in their own way meanwhile.
        for task in &self.tasks[1..] {
            task.abort();
        }
        let closed = tokio::time::timeout(self.shutdown_timeout, self.router.close_all()).await;
        self.tasks[0].abort();
        let outcome = match closed {
            Ok(()) => {
                self.log.write(Event::ShutdownComplete, &[]);
                Shutdown::Complete
            }
            Err(_) => {
                self.log.write(Event::ShutdownDeadlineExceeded, &[]);
                self.log.write(Event::DrainIncomplete, &[]);
                Shutdown::Incomplete
            }
        };
        self.log.flush();
        outcome
    }
}

async fn bind(address: &str) -> Result<TcpListener, StartError> {
    let parsed = ListenAddress::with_any_port(address).map_err(|source| StartError::Address {
        address: address.to_owned(),
        source,
    })?;
    listener::bind(&parsed)
        .await
        .map_err(|source| StartError::Bind {
            address: address.to_owned(),
            source,
        })
}

async fn serve_public(listener: TcpListener, site: Arc<Site>) {
    let log = site.router.log.clone();
    listener::accept(&listener, &log, |stream, remote| {
        tokio::spawn(http::serve(
            site.clone(),
            stream,
            remote.ip().to_canonical(),
        ));
    })
    .await;
}

async fn serve_metrics(listener: TcpListener, router: Arc<Router>) {
    let log = router.log.clone();
    listener::accept(&listener, &log, |stream, _| {
        tokio::spawn(serve_one_scraper(stream, router.clone()));
    })
    .await;
}

async fn serve_one_scraper(stream: TcpStream, router: Arc<Router>) {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let reply = match request.uri().path() {
            "/metrics" => {
                let mut reply = Response::new(Full::from(router.metrics.text(router.counts())));
                let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                reply.headers_mut().insert(CONTENT_TYPE, text);
                reply
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        async move { Ok::<_, Infallible>(reply) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), service);
    // A scraper that breaks off is its own affair.
    drop(connection.await);
}
