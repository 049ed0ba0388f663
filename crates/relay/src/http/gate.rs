//! Who may try to connect, and how many may be connected: checked before anything else of a request
//! is looked at.

use super::caller::Client;
use crate::config::Config;
use crate::observe::metrics::{Endpoint, Fill};
use relay_core::bucket::{Buckets, Concurrent, RetryAfter};
use relay_core::{Millis, limits};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too many attempts from this client.
    Rate(RetryAfter),
    /// Too many live connections of this client.
    ClientFull,
    /// Too many live connections altogether.
    Full,
}

/// The limits of one relay.
pub(crate) struct Gate {
    max_connections: usize,
    live: AtomicUsize,
    rates: Option<Mutex<Buckets<(Client, bool)>>>,
    clients: Option<Mutex<Concurrent<Client>>>,
}

/// A place among the live connections, given back when dropped.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    client: Client,
}

impl Gate {
    pub(crate) fn new(config: &Config, max_connections: usize) -> Self {
        // More than one in a millisecond is as good as that.
        let refill_ms = 60_000 / u64::from(config.rate_per_minute.clamp(1, 60_000));
        let per_client = u32::try_from(config.max_connections_per_ip).unwrap_or(u32::MAX);
        Self {
            max_connections,
            live: AtomicUsize::new(0),
            rates: (config.rate_burst > 0).then(|| {
                Mutex::new(Buckets::new(
                    config.rate_burst,
                    refill_ms,
                    limits::RATE_SOURCES,
                ))
            }),
            clients: (per_client > 0).then(|| Mutex::new(Concurrent::new(per_client))),
        }
    }

    /// Connections that have a place, of how many.
    pub(crate) fn fill(&self) -> Fill {
        Fill {
            now: self.live.load(Ordering::Relaxed),
            limit: self.max_connections,
        }
    }

    /// Clients and endpoints whose attempts are counted.
    pub(crate) fn rate_entries(&self) -> usize {
        let rates = self.rates.as_ref();
        rates.map_or(0, |rates| {
            rates.lock().unwrap_or_else(PoisonError::into_inner).len()
        })
    }

    /// Clients whose connections are counted.
    pub(crate) fn client_entries(&self) -> usize {
        let clients = self.clients.as_ref();
        clients.map_or(0, |clients| {
            clients.lock().unwrap_or_else(PoisonError::into_inner).len()
        })
    }

    /// Counts one attempt of `client`, and takes a place for it.
    pub(crate) fn enter(
        self: &Arc<Self>,
        now: Millis,
        endpoint: Endpoint,
        client: Client,
    ) -> Result<Permit, Refused> {
        if let Some(rates) = &self.rates {
            let key = (client.clone(), endpoint == Endpoint::server);
            // Plain counting: nothing panics under these locks.
            let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.take(now, &key).map_err(Refused::Rate)?;
        }
        let taken = self
            .live
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |live| {
                (live < self.max_connections).then_some(live + 1)
            });
        if taken.is_err() {
            return Err(Refused::Full);
        }
        if let Some(clients) = &self.clients
            && !clients
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .enter(&client)
        {
            self.live.fetch_sub(1, Ordering::AcqRel);
            return Err(Refused::ClientFull);
        }
        Ok(Permit {
            gate: self.clone(),
            client,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(clients) = &self.gate.clients {
            clients
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .leave(&self.client);
        }
        self.gate.live.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::caller::Caller;
    use std::net::IpAddr;

    fn gate(config: Config, max: usize) -> Arc<Gate> {
        Arc::new(Gate::new(&config, max))
    }

    fn client(ip: &str) -> Client {
        Caller::from(ip.parse::<IpAddr>().unwrap()).client
    }

    #[test]
    fn endpoints_and_clients_have_buckets_of_their_own() {
        let gate = gate(
            Config {
                rate_burst: 1,
                rate_per_minute: 60,
                ..Config::default()
            },
            100,
        );
        let enter = |now, endpoint, ip: &str| gate.enter(Millis(now), endpoint, client(ip)).err();
        assert_eq!(enter(0, Endpoint::server, "192.0.2.1"), None);
        assert_eq!(enter(0, Endpoint::client, "192.0.2.1"), None);
        assert!(matches!(
            enter(1, Endpoint::server, "192.0.2.1"),
            Some(Refused::Rate(_))
        ));
        assert_eq!(enter(1, Endpoint::server, "192.0.2.2"), None);
        assert_eq!(enter(1_001, Endpoint::server, "192.0.2.1"), None);
        assert_eq!(enter(2_100, Endpoint::server, "2001:db8::1"), None);
        assert!(matches!(
            enter(2_101, Endpoint::server, "2001:db8::2"),
            Some(Refused::Rate(_))
        ));
    }

    #[test]
    fn a_high_rate_is_a_rate() {
        let gate = gate(
            Config {
                rate_burst: 1,
                rate_per_minute: 120_000,
                ..Config::default()
            },
            100,
        );
        let enter = |now| gate.enter(Millis(now), Endpoint::server, client("192.0.2.1"));
        assert!(enter(0).is_ok());
        assert!(enter(0).is_err());
        assert!(enter(1).is_ok());
    }

    #[test]
    fn places_come_back() {
        let gate = gate(
            Config {
                rate_burst: 0,
                max_connections_per_ip: 1,
                ..Config::default()
            },
            2,
        );
        let enter = |ip: &str| gate.enter(Millis(0), Endpoint::client, client(ip));
        let first = enter("192.0.2.1").ok();
        assert_eq!(enter("192.0.2.1").err(), Some(Refused::ClientFull));
        let second = enter("192.0.2.2").ok();
        assert_eq!(enter("192.0.2.3").err(), Some(Refused::Full));
        drop(first);
        assert!(enter("192.0.2.1").is_ok());
        drop(second);
    }
}
