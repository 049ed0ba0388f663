//! The waits of the real programs, drawn from the seed.

use crate::rng::Rng;
use relay_client::Ladder;

/// The ladder of the real apps, with the spread of each step drawn beforehand, so that a seed tells every wait.
pub(crate) fn ladder(rng: &mut Rng) -> Ladder {
    let real = Ladder::default();
    let steps = (1..40).map(|failures| real.wait(failures, rng.next() as u32));
    Ladder {
        steps: steps.collect::<Vec<_>>().into(),
        spread_percent: 0,
        reset_after: real.reset_after,
    }
}
