//! The relay's clock: milliseconds since it started.

use relay_core::Millis;
use std::time::Duration;
use tokio::time::Instant;

/// Where time comes from; the core gets it as a value.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Whole milliseconds since the start.
    pub fn now(&self) -> Millis {
        Millis(u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The instant at which [`Self::now`] reaches `millis`. A time beyond all reason is a year away.
    pub fn instant(&self, millis: Millis) -> Instant {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        self.0 + Duration::from_millis(millis.0).min(self.0.elapsed() + YEAR)
    }
}
