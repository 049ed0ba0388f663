//! What the registry holds, for a simulation that knows what it should hold.

use super::Router;
use relay_core::Counts;
use relay_core::invariant::{self, Violation};

/// Everything the registry keeps, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// As the hub counts.
    pub counts: Counts,
    /// Connections whose tasks have not ended.
    pub peers: usize,
    /// Server-ids that any of these belongs to.
    pub tables: usize,
    /// Server-ids whose binary has left and may resume.
    pub carried: usize,
    /// Phones that left while their binary was away.
    pub departed: usize,
    /// Bytes of frames queued for a peer, over all peers.
    pub queued_bytes: usize,
    /// Bytes of frames that are charged to a phone and wait for its binary, over all phones.
    pub in_flight_bytes: usize,
}

impl Router {
    /// Counts what there is, and checks the rules of the hub.
    pub(crate) fn audit(&self) -> Result<Holdings, Violation> {
        let state = self.lock();
        invariant::check(&state.hub)?;
        let bytes = state
            .peers
            .values()
            .map(|peer| (peer.queued_bytes(), peer.window.used_bytes()));
        let (queued_bytes, in_flight_bytes) =
            bytes.fold((0, 0), |sum, peer| (sum.0 + peer.0, sum.1 + peer.1));
        Ok(Holdings {
            counts: state.hub.counts(),
            peers: state.peers.len(),
            tables: state.tables.len(),
            carried: state.carried.len(),
            departed: state.departed.len(),
            queued_bytes,
            in_flight_bytes,
        })
    }
}
