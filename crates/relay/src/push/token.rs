//! The access token: fetched once, used by every send until it is about to expire.

use super::call::Calls;
use super::credentials::ServiceAccount;
use hyper::header::HeaderValue;
use relay_core::wake::Failure;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long before its expiry a token is no longer used: it must live until FCM looks at it.
const MARGIN: Duration = Duration::from_secs(10);

/// No token is used for longer than this, whatever the answer says. Google's live an hour.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A value for `Authorization`. It has no `Debug`, so that it cannot get into a text by accident.
pub(super) struct AccessToken(HeaderValue);

impl AccessToken {
    /// The header's value, marked as sensitive.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Fetches tokens, and keeps the last one.
pub(super) struct Tokens {
    account: ServiceAccount,
    calls: Calls,
    /// For one fetch.
    timeout: Duration,
    last: Mutex<Last>,
    /// Fetches that came to an end. Grows only under the lock.
    fetches: AtomicU64,
}

/// How the last fetch ended.
struct Last {
    result: Result<Arc<AccessToken>, Failure>,
    /// Until when a token is used.
    until: Until,
}

/// A moment by both clocks: one stands still while the machine sleeps, the other can be set back.
struct Until {
    running: Instant,
    told: SystemTime,
}

impl Until {
    /// So long after `begun`, which was at this moment by the other clock.
    fn after(begun: Instant, told: SystemTime, lives: Duration) -> Self {
        Self {
            running: begun + lives,
            told: told + lives,
        }
    }

    fn is_ahead(&self, now: Instant, told: SystemTime) -> bool {
        now < self.running && told < self.told
    }
}

impl Tokens {
    pub(super) fn new(account: ServiceAccount, calls: Calls, timeout: Duration) -> Self {
        let last = Last {
            result: Err(Failure::TokenReply),
            until: Until::after(Instant::now(), SystemTime::now(), Duration::ZERO),
        };
        Self {
            account,
            calls,
            timeout,
            last: Mutex::new(last),
            fetches: AtomicU64::new(0),
        }
    }

    /// How many fetches are over: a moment, for [`Self::get`].
    pub(super) fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Acquire)
    }

    /// The token in use, or a new one. Whoever `asked`, by [`Self::fetches`], while one was being fetched gets what comes
    /// of that, good or bad: many sends cause one fetch, and wait for no more than one.
    ///
    /// Cancel-safe: if the one who fetches gives up, the next in line fetches.
    pub(super) async fn get(&self, asked: u64) -> Result<Arc<AccessToken>, Failure> {
        let mut last = self.last.lock().await;
        let waited = self.fetches.load(Ordering::Acquire) != asked;
        let (begun, told) = (Instant::now(), SystemTime::now());
        if waited || last.result.is_ok() && last.until.is_ahead(begun, told) {
            return last.result.clone();
        }
        let (result, lives) = match self.fetch(begun, told).await {
            Ok((token, lives)) => (Ok(Arc::new(token)), lives),
            Err(failure) => (Err(failure), Duration::ZERO),
        };
        *last = Last {
            result,
            until: Until::after(begun, told, lives.min(LONGEST).saturating_sub(MARGIN)),
        };
        self.fetches.fetch_add(1, Ordering::Release);
        last.result.clone()
    }

    /// FCM does not take this token any more: the next send fetches another one.
    pub(super) fn forget(&self, token: &Arc<AccessToken>) {
        // While the lock is held, another one is being fetched already.
        let Ok(mut last) = self.last.try_lock() else {
            return;
        };
        if matches!(&last.result, Ok(current) if Arc::ptr_eq(current, token)) {
            last.until.running = Instant::now();
        }
    }

    /// The exchange of RFC 7523, section 2.1, at the moment `told`. Returns the token, and how long it lives from `begun` on.
    async fn fetch(
        &self,
        begun: Instant,
        told: SystemTime,
    ) -> Result<(AccessToken, Duration), Failure> {
        let now = told.duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let assertion = self.account.assertion(now);
        let assertion = assertion.ok_or(Failure::TokenSignature)?;
        // A JWT has no character that a form would escape.
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"
        );
        let reply = self
            .calls
            .post(
                self.account.token_endpoint(),
                "application/x-www-form-urlencoded",
                None,
                form.into_bytes(),
                begun + self.timeout,
            )
            .await
            .map_err(Failure::TokenCall)?;
        if !reply.status.is_success() {
            return Err(Failure::TokenStatus(reply.status.as_u16()));
        }
        read(&reply.body).ok_or(Failure::TokenReply)
    }
}

/// The token in an answer, and its life from the request on. One that does not say how long it lives is used once.
pub(super) fn read(body: &[u8]) -> Option<(AccessToken, Duration)> {
    let reply: Value = serde_json::from_slice(body).ok()?;
    let token = reply.get("access_token")?.as_str()?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    let lives = reply.get("expires_in").and_then(Value::as_u64);
    let lives = Duration::from_secs(lives.unwrap_or(0));
    (!token.is_empty()).then_some((AccessToken(header), lives))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ages_while_the_machine_sleeps_and_does_not_grow_younger_with_its_clock() {
        let (begun, told) = (Instant::now(), SystemTime::now());
        let until = Until::after(begun, told, Duration::from_secs(3_590));
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
        assert!(until.is_ahead(begun + minute, told + minute));
        assert!(!until.is_ahead(begun + minute, told + hour), "it slept");
        assert!(
            !until.is_ahead(begun + hour, told + minute),
            "it was set back"
        );
    }
}
