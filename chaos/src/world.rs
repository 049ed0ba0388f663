//! What all scenarios share.

use crate::vandal::Vandalism;
use std::path::PathBuf;

/// What all scenarios share.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The built program.
    pub(crate) relay: PathBuf,
    /// What is done to messages on purpose.
    pub(crate) vandalism: Option<Vandalism>,
    /// For the logs and whatever else a scenario writes down.
    pub(crate) dir: PathBuf,
    /// Decides what is left to chance.
    pub(crate) seed: u64,
}
