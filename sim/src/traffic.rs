//! How much is said, and when.

use crate::rng::Rng;
use std::time::Duration;

/// What one peer says.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    mean: Duration,
    rng: Rng,
}

impl Traffic {
    /// Drawn from these numbers.
    pub(crate) fn new(mut rng: Rng) -> Self {
        Self {
            mean: rng.time_ms(300..6_000),
            rng,
        }
    }

    /// Until the next frames.
    pub(crate) fn pause(&mut self) -> Duration {
        let percent = self.rng.within(10..250) as u32;
        self.mean * percent / 100
    }

    /// Bytes of padding of the next frames: mostly one small frame, at times a large one or a burst.
    pub(crate) fn frames(&mut self) -> Vec<usize> {
        let size = |rng: &mut Rng| match rng.within(0..100) {
            0..80 => rng.within(0..600),
            80..96 => rng.within(600..8_000),
            _ => rng.within(8_000..87_000),
        };
        match self.rng.within(0..100) {
            0..92 => vec![size(&mut self.rng) as usize],
            92..98 => (0..self.rng.within(5..40))
                .map(|_| self.rng.within(0..300) as usize)
                .collect(),
            _ => (0..self.rng.within(2..12))
                .map(|_| size(&mut self.rng) as usize)
                .collect(),
        }
    }

    /// Bytes of an answer.
    pub(crate) fn answer(&mut self) -> usize {
        self.rng.time_ms(1..3_000).as_millis() as usize
    }
}
