//! How the relay is, put together from those who know.

use super::api::{
    Certificate, Happening, History, Level, Process, Push, Sample, Slots, Summary, Wakes, unix_ms,
};
use super::sampler::totals;
use super::slots::shown_id;
use crate::config::{self, Public};
use crate::http::metrics::gauges;
use crate::net::front::Front;
use crate::net::tls;
use crate::observe::log::Level as LogLevel;
use crate::observe::metrics::{Metrics, WakeOutcome};
use crate::observe::{process, recent};
use crate::router::Router;
use relay_core::ServerId;
use std::time::{Duration, SystemTime};

/// Without history and happenings.
pub(super) fn now(front: &Front, sample: Sample) -> Summary {
    let router = &front.site.router;
    let gauges = gauges(front);
    let counts = gauges.counts;
    Summary {
        version: front.site.version,
        phase: gauges.phase.to_string(),
        now_ms: unix_ms(SystemTime::now()),
        uptime_seconds: router.uptime().0 / 1000,
        show_ids: router.config.admin_show_ids,
        binaries: counts.binaries,
        phones: counts.phones,
        parked: counts.parked,
        slots: Slots {
            live: counts.binaries,
            grace: counts.grace,
            waiting: counts.waiting,
        },
        connections: gauges.connections.into(),
        handshakes: gauges.handshakes.into(),
        queue_bytes: Level {
            high_water: Some(gauges.queue_bytes_high_water),
            ..gauges.queue_bytes.into()
        },
        park_bytes: gauges.park_bytes.into(),
        totals: totals(&router.metrics),
        sample,
        certificate: front.tls.as_ref().map(|tls| {
            let source = source(router.config.public.as_ref());
            certificate(tls.certificates(), source, SystemTime::now())
        }),
        push: push(&router.metrics, gauges.push_in_flight),
        process: Process {
            rss_bytes: process::rss_bytes(),
            cpu_seconds: process::cpu_seconds(),
            open_fds: process::open_fds(),
            fds_limit: process::fds_limit(),
        },
        history: None,
        recent: None,
    }
}

/// The same with what was before.
pub(super) fn with_past(
    front: &Front,
    sample: Sample,
    history: History,
    recent: Option<Vec<Happening>>,
) -> Summary {
    Summary {
        history: Some(history),
        recent,
        ..now(front, sample)
    }
}

fn source(public: Option<&Public>) -> &'static str {
    match public {
        Some(Public::Tls { certificate, .. }) => match certificate {
            config::Certificate::Acme(_) => "acme",
            config::Certificate::Files(_) => "files",
            config::Certificate::SelfSigned => "self-signed",
        },
        // Without TLS there is no certificate to ask about.
        Some(Public::Plain { .. }) | None => "",
    }
}

fn certificate(
    certificates: &tls::Certificates,
    source: &'static str,
    now: SystemTime,
) -> Certificate {
    let current = certificates.current();
    let validity = current.map(|current| (current.not_before(), current.not_after()));
    let not_after = validity.map(|(_, not_after)| unix_ms(not_after) / 1000);
    Certificate {
        source,
        domain: certificates.domain().map(str::to_owned),
        not_after,
        state: state(validity, now),
    }
}

/// Half of the longest time for a renewal.
const LATE: Duration = Duration::from_secs(15 * 86_400);

/// A certificate is expiring when a sixth of its time is left, and 15 days at most: renewal begins when it is a third,
/// and 30 days at most, so by then half of the time for it has passed in vain.
fn state(validity: Option<(SystemTime, SystemTime)>, now: SystemTime) -> &'static str {
    let Some((not_before, not_after)) = validity else {
        return "missing";
    };
    let lifetime = not_after.duration_since(not_before).unwrap_or_default();
    match not_after.duration_since(now) {
        Err(_) | Ok(Duration::ZERO) => "expired",
        Ok(left) if left < LATE.min(lifetime / 6) => "expiring",
        Ok(_) => "valid",
    }
}

fn push(metrics: &Metrics, in_flight: Option<usize>) -> Push {
    Push {
        on: in_flight.is_some(),
        wakes: in_flight.map(|in_flight| Wakes {
            in_flight,
            sent: metrics.wakes(WakeOutcome::sent),
            unregistered: metrics.wakes(WakeOutcome::unregistered),
            send_failed: metrics.wakes(WakeOutcome::send_failed),
            token_fetch_failed: metrics.wakes(WakeOutcome::token_fetch_failed),
            dropped: metrics.wakes(WakeOutcome::dropped),
        }),
    }
}

/// A happening with its server-id hidden, unless it may be seen.
pub(super) fn happening(router: &Router, happening: recent::Happening) -> Happening {
    let server = happening.server.as_deref();
    let hash = server.map(|server| router.hasher.hash(&ServerId::new(server)));
    Happening {
        t: unix_ms(happening.at),
        event: happening.event.name(),
        level: match happening.event.level() {
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        },
        slot: hash.map(|hash| hash.to_string()),
        server_id: server.and_then(|server| shown_id(router, server)),
        phone: happening.phone,
        detail: happening.detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_expiring_when_its_renewal_is_late() {
        let day = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n * 86_400);
        for (from, until, now, expected) in [
            (100, 190, 100, "valid"),
            (100, 190, 170, "valid"),
            (100, 190, 176, "expiring"),
            (100, 190, 189, "expiring"),
            (100, 190, 190, "expired"),
            (100, 190, 500, "expired"),
            // Its renewal begins 30 days before the end.
            (100, 465, 430, "valid"),
            (100, 465, 449, "valid"),
            (100, 465, 451, "expiring"),
            (100, 106, 104, "valid"),
            (100, 112, 111, "expiring"),
        ] {
            let validity = Some((day(from), day(until)));
            assert_eq!(
                state(validity, day(now)),
                expected,
                "day {now} of {from} to {until}"
            );
        }
        assert_eq!(state(None, day(0)), "missing");
    }
}
