//! What every part of the bench gets: the relay, how much of everything, and a way to tell how far it is.

use std::io;
use std::time::Duration;

use crate::progress::Progress;
use crate::subject::Subject;

/// The relay, and how it is measured.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) subject: Subject,
    pub(crate) scale: Scale,
    pub(crate) progress: Progress,
}

impl Bench {
    /// Every figure as often as asked for.
    pub(crate) fn repeat<T>(
        &self,
        what: &str,
        mut run: impl FnMut() -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let count = self.scale.repetitions;
        (1..=count)
            .map(|number| {
                self.progress.step(&format!("{what}, {number} of {count}"));
                run()
            })
            .collect()
    }
}

/// How much of everything.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
    pub(crate) repetitions: u32,
    /// How long to run before measuring, and to measure.
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
    /// Idle connections: the slope between two counts.
    pub(crate) few: usize,
    pub(crate) many: usize,
    /// Server-ids among which phones take turns, and how many of those have a phone.
    pub(crate) slots: usize,
    pub(crate) slots_with_phones: usize,
    /// Daemons that crash at once, with eight phones each.
    pub(crate) crashing: usize,
    /// Connections whose heartbeats are counted, and for how long.
    pub(crate) beating: usize,
    pub(crate) beats: Duration,
    /// Sessions in memory.
    pub(crate) sessions: usize,
    /// Peers that return after the relay was killed.
    pub(crate) storm: usize,
    /// The longest a part may take.
    pub(crate) bound: Duration,
}

impl Scale {
    /// All of it, with so many sessions in memory, as far as the descriptors go.
    pub(crate) fn full(repetitions: u32, sessions: usize, descriptors: u64) -> Self {
        let ms = Duration::from_millis;
        let most = usize::try_from(descriptors.saturating_sub(500)).unwrap_or(usize::MAX);
        let slots_with_phones = 9_000.min(most / 2);
        Self {
            quick: false,
            repetitions,
            warm_up: ms(500),
            measure: ms(1500),
            few: 5_000.min(most / 3),
            many: 19_000.min(most),
            slots: (19_000.min(most) - slots_with_phones).min(10_000),
            slots_with_phones,
            crashing: 50,
            beating: 15_000.min(most),
            beats: Duration::from_secs(30),
            sessions,
            storm: 15_000.min(most),
            bound: Duration::from_secs(300) + Duration::from_secs(300) * repetitions,
        }
    }

    /// Once, briefly and with fewer connections.
    pub(crate) fn quick() -> Self {
        let ms = Duration::from_millis;
        Self {
            quick: true,
            repetitions: 1,
            warm_up: ms(50),
            measure: ms(200),
            few: 160,
            many: 480,
            slots: 200,
            slots_with_phones: 180,
            crashing: 4,
            beating: 320,
            beats: ms(1500),
            sessions: 2_000,
            storm: 320,
            bound: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_run_fits_the_descriptors() {
        for descriptors in [20_000, 4_096, 1_024_000] {
            let scale = Scale::full(5, 200_000, descriptors);
            let most = descriptors as usize - 500;
            for count in [
                scale.many,
                scale.slots + scale.slots_with_phones,
                2 * scale.slots_with_phones,
                scale.beating,
                scale.storm,
            ] {
                assert!(count <= most, "{count} of {most}");
            }
            assert!(scale.slots >= scale.slots_with_phones && scale.few < scale.many);
        }
        let usual = Scale::full(5, 200_000, 20_000);
        assert_eq!((usual.few, usual.many), (5_000, 19_000));
        assert_eq!((usual.slots, usual.slots_with_phones), (10_000, 9_000));
    }
}
