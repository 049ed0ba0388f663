//! Round-trip times.

use std::time::Duration;

/// Round-trip times of one run, at least one.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoundTrips(Vec<Duration>);

impl RoundTrips {
    /// Adds one.
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Nearest-rank percentiles, each in milliseconds; all 0 if nothing was measured.
    pub(crate) fn percentiles_ms<const N: usize>(&self, percents: [f64; N]) -> [f64; N] {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        percents.map(|percent| {
            let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
            let time = sorted.get(rank.max(1) - 1).copied().unwrap_or_default();
            ms(time)
        })
    }
}

/// In milliseconds, with a thousandth's precision.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut times = RoundTrips::default();
        assert_eq!(times.percentiles_ms([50.0]), [0.0]);
        for n in (1..=10).rev() {
            times.push(Duration::from_millis(n));
        }
        assert_eq!(times.count(), 10);
        assert_eq!(
            times.percentiles_ms([0.0, 50.0, 90.0, 99.0, 100.0]),
            [1.0, 5.0, 9.0, 10.0, 10.0]
        );
    }
}
