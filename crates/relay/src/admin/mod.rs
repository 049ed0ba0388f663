//! The admin page and its API, beside `/metrics` on the loopback listener. Anyone on this machine may look; to close
//! something takes a token.
//!
//! Looking costs the peers nothing: a sample a second is made of counters that are kept anyway, lists are made beside
//! the runtime's own threads, and a slow reader only costs itself.

mod access;
mod actions;
mod api;
mod events;
#[cfg(test)]
mod many_tests;
mod page;
mod reply;
mod sampler;
mod slots;
mod summary;

use crate::config::AdminToken;
use crate::http::metrics::metrics;
use crate::http::plain::{Times, not_found};
use crate::http::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::net::front::Front;
use crate::net::listener;
use crate::observe::log::Log;
use crate::router::SlotHash;
use events::Feed;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use page::Page;
use relay_core::suffix_of_digits;
use reply::{Reply, error, json, whole};
use sampler::Sampler;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Connections to the listener at once: every stream with as many again for lists, and a few scrapers.
const PLACES: usize = 64;

/// A stream has something to say each second; who takes nothing for this long, twice, is not reading.
const PATIENCE: Duration = Duration::from_secs(3);

/// For answers under way to end when the relay stops.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The admin page of one relay, with `/metrics`.
pub(crate) struct Admin {
    front: Arc<Front>,
    token: AdminToken,
    page: Page,
    sampler: Mutex<Sampler>,
    feed: Feed,
    places: Arc<Semaphore>,
    stopped: watch::Sender<bool>,
}

impl Admin {
    pub(crate) fn new(front: Arc<Front>, token: AdminToken) -> Self {
        let sampler = Sampler::new(&front.site.router.metrics);
        let admin = Self {
            front,
            token,
            page: Page::new(),
            sampler: Mutex::new(sampler),
            feed: Feed::default(),
            places: Arc::new(Semaphore::new(PLACES)),
            stopped: watch::Sender::new(false),
        };
        // Who asks before the first second is over gets zeros with a time.
        admin.tick();
        admin
    }

    fn log(&self) -> &Log {
        &self.front.site.router.log
    }

    /// Takes samples until the future is dropped.
    pub(crate) async fn sample(self: Arc<Self>) {
        let mut seconds = interval(sampler::EVERY);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The first one comes at once, and that sample is there.
        seconds.tick().await;
        loop {
            seconds.tick().await;
            self.tick();
        }
    }

    /// Takes a sample, and tells whoever reads.
    fn tick(&self) {
        let router = &self.front.site.router;
        let sample = {
            // Nothing panics under this lock; if it did, the figures of one second would be off.
            let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
            sampler.sample(&self.front)
        };
        let (happenings, skipped) = self.log().recent().take();
        let happenings = happenings.into_iter();
        let happenings = happenings.map(|happening| summary::happening(router, happening));
        self.feed
            .publish(sample, happenings.collect(), skipped, |sample| {
                summary::now(&self.front, sample)
            });
    }

    /// Tells the readers how things are for the last time, and lets go of everybody. [`Self::run`] ends soon after.
    pub(crate) fn stop(&self) {
        self.tick();
        self.feed.end();
        self.stopped.send_replace(true);
    }

    /// Serves a listener until [`Self::stop`], and for at most [`LAST_WORDS`] longer.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, times: Times) {
        let mut stopped = self.stopped.subscribe();
        let mut connections = JoinSet::new();
        tokio::select! {
            () = listener::accept(&listener, self.log(), |socket, _| {
                while connections.try_join_next().is_some() {}
                // With all places taken by somebody who holds on to them, the next one is only sent away.
                if let Ok(place) = self.places.clone().try_acquire_owned() {
                    let admin = self.clone();
                    connections.spawn(async move {
                        admin.connection(socket, times).await;
                        drop(place);
                    });
                }
            }) => {}
            // The sender is in `self`.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        // Who does not read does not keep the relay.
        let _ = timeout(LAST_WORDS, all).await;
    }

    /// Serves one connection, for as long as something is asked or taken from it.
    async fn connection(self: Arc<Self>, socket: TcpStream, times: Times) {
        let moved = Arc::new(AtomicU64::new(0));
        let service = service_fn(|request| {
            let (admin, moved) = (self.clone(), moved.clone());
            async move {
                moved.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(admin.answer(&request, moved).await)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(times.header)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(socket), service);
        let mut connection = pin!(connection);
        let mut stopped = self.stopped.subscribe();
        let (mut seen, mut leaving) = (0, false);
        let patience = times.whole.max(PATIENCE);
        loop {
            tokio::select! {
                // Whoever breaks off is on their own.
                _ = connection.as_mut() => return,
                _ = stopped.wait_for(|stopped| *stopped), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep(patience) => {
                    let now = moved.load(Ordering::Relaxed);
                    match (std::mem::replace(&mut seen, now) == now, leaving) {
                        (false, _) => {}
                        (true, false) => {
                            leaving = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        // It does not take what it asked for.
                        (true, true) => return,
                    }
                }
            }
        }
    }

    async fn answer(&self, request: &Request<Incoming>, moved: Arc<AtomicU64>) -> Reply {
        let path = request.uri().path();
        if path == "/" || path.starts_with("/admin/") {
            let authority = request
                .uri()
                .authority()
                .map(|authority| authority.as_str());
            return match access::check(request.headers(), authority) {
                Ok(()) => self.route(request, moved).await,
                Err(sentence) => error(StatusCode::FORBIDDEN, sentence),
            };
        }
        let mut reply = whole(match path {
            "/metrics" => metrics(&self.front, request),
            _ => not_found(),
        });
        let close = HeaderValue::from_static("close");
        reply.headers_mut().insert(header::CONNECTION, close);
        reply
    }

    async fn route(&self, request: &Request<Incoming>, moved: Arc<AtomicU64>) -> Reply {
        let path = request.uri().path();
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        let post = request.method() == Method::POST;
        let rest = path.strip_prefix("/admin/").unwrap_or_default();
        let parts: Vec<&str> = rest.split('/').collect();
        match parts[..] {
            [""] if path == "/" && get => self.page.reply(),
            ["summary"] if get => self.summary(request.uri().query()),
            ["events"] if request.method() == Method::GET => self.events(moved),
            ["slots"] if get => self.slots(request.uri().query()).await,
            ["slots", slot] if get => self.slot(slot).await,
            ["slots", slot, "close"] if post => self.close(request, slot, None).await,
            ["slots", slot, "phones", phone, "close"] if post => {
                self.close(request, slot, Some(phone)).await
            }
            ["slots", _, "close"] | ["slots", _, "phones", _, "close"] => not_allowed("POST"),
            [""] if path == "/" => not_allowed("GET, HEAD"),
            ["events"] => not_allowed("GET"),
            ["summary" | "slots"] | ["slots", _] => not_allowed("GET, HEAD"),
            _ => error(
                StatusCode::NOT_FOUND,
                "nothing is here; there are /, /admin/summary, /admin/events and /admin/slots",
            ),
        }
    }

    fn summary(&self, query: Option<&str>) -> Reply {
        let sample = self.feed.last();
        let history = query.is_some_and(|query| query.split('&').any(|pair| pair == "history=1"));
        let summary = match history {
            true => summary::with_past(&self.front, sample, self.feed.history(), None),
            false => summary::now(&self.front, sample),
        };
        json(StatusCode::OK, &summary)
    }

    fn events(&self, moved: Arc<AtomicU64>) -> Reply {
        let joined = self.feed.join(moved, |past| {
            summary::with_past(&self.front, past.last, past.history, Some(past.happenings))
        });
        match joined {
            Some(stream) => reply::stream(stream),
            None => error(
                StatusCode::SERVICE_UNAVAILABLE,
                "16 pages are open already, or the relay stops; close one and try again",
            ),
        }
    }

    async fn slots(&self, query: Option<&str>) -> Reply {
        let query = match slots::Query::parse(query.unwrap_or_default()) {
            Ok(query) => query,
            Err(sentence) => return error(StatusCode::BAD_REQUEST, &sentence),
        };
        let router = self.front.site.router.clone();
        beside(move || Some(json(StatusCode::OK, &slots::page(&router, &query)))).await
    }

    async fn slot(&self, slot: &str) -> Reply {
        let router = self.front.site.router.clone();
        let hash = SlotHash::parse(slot);
        beside(move || Some(json(StatusCode::OK, &slots::detail(&router, hash?)?))).await
    }

    async fn close(&self, request: &Request<Incoming>, slot: &str, phone: Option<&str>) -> Reply {
        if let Err(reply) = actions::authorized(&self.token, request.headers()).await {
            return reply;
        }
        let router = self.front.site.router.clone();
        let hash = SlotHash::parse(slot);
        let suffix = phone.map(suffix_of_digits);
        beside(move || match suffix {
            None => actions::close_slot(&router, hash?),
            Some(suffix) => actions::close_phone(&router, hash?, suffix?),
        })
        .await
    }
}

fn not_allowed(allowed: &'static str) -> Reply {
    let sentence = format!("this method does nothing here; use {allowed}");
    let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, &sentence);
    let allowed = HeaderValue::from_static(allowed);
    reply.headers_mut().insert(header::ALLOW, allowed);
    reply
}

/// Looks at slots where no peer waits for it: with many of them it takes milliseconds. Without a result there is no
/// such slot or phone.
async fn beside(look: impl FnOnce() -> Option<Reply> + Send + 'static) -> Reply {
    match tokio::task::spawn_blocking(look).await {
        Ok(Some(reply)) => reply,
        Ok(None) => error(
            StatusCode::NOT_FOUND,
            "there is no such slot or phone now; /admin/slots lists what is there",
        ),
        // It panicked, or the runtime stops.
        Err(_) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the relay could not look; see its standard error",
        ),
    }
}
