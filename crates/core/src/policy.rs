//! What an operator can choose. The defaults are the protocol's.

use crate::limits;

/// How slots behave. Durations in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How long a slot waits for its binary to come back.
    pub grace_ms: u64,
    /// How many slots wait at a time; further ones don't. As many as there may be connections are never too many for
    /// binaries that come back: only who claims one server-id after the other gets there.
    pub grace_slots: usize,
    /// How long a holder may take to answer a probe before the claimant takes over.
    pub probe_timeout_ms: u64,
    /// How long the path to the holder may acknowledge nothing before the claimant takes over.
    pub probe_dead_path_ms: u64,
    /// The longest a phone is parked. 0 turns parking off. Below the apps' own handshake timeout of 10 s.
    pub park_ms: u64,
    /// For how long after the start phones of an unclaimed server-id are parked instead of turned away.
    pub boot_park_ms: u64,
    /// Phones one server-id may have, parked ones included.
    pub phones_per_server: usize,
    /// Short tenures a server-id may have in a burst before its claims are refused. 0 turns this off.
    pub redial_burst: u32,
    /// A tenure that ends by itself within this time of its claim is short.
    pub redial_short_tenure_ms: u64,
    /// One more short tenure is allowed each time this much time has passed.
    pub redial_refill_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            grace_ms: 30_000,
            grace_slots: usize::MAX,
            probe_timeout_ms: 10_000,
            probe_dead_path_ms: 2_000,
            park_ms: 8_000,
            boot_park_ms: 30_000,
            phones_per_server: limits::PHONES_PER_SERVER,
            redial_burst: 10,
            redial_short_tenure_ms: 1_000,
            redial_refill_ms: 1_000,
        }
    }
}

impl Policy {
    /// Whether phones are ever parked.
    pub const fn parks(&self) -> bool {
        self.park_ms > 0
    }
}

/// How one connection is looked after. Durations in milliseconds; beyond `u32::MAX` (49 days) they count as that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionPolicy {
    /// A ping goes out this often, whatever the traffic.
    pub ping_interval_ms: u64,
    /// Its pong must arrive within this time.
    pub pong_timeout_ms: u64,
    /// A message must be complete within this time of its first frame's header.
    pub read_deadline_ms: u64,
    /// A message must be written within this time of its turn.
    pub write_timeout_ms: u64,
    /// A Close frame must be written within this time.
    pub control_write_timeout_ms: u64,
    /// How long the peer has to answer a Close, and then to end the connection.
    pub close_wait_ms: u64,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            ping_interval_ms: 30_000,
            pong_timeout_ms: 30_000,
            read_deadline_ms: 30_000,
            write_timeout_ms: 10_000,
            control_write_timeout_ms: 5_000,
            close_wait_ms: 5_000,
        }
    }
}

/// How many push wakes are sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WakePolicy {
    /// Wakes a server-id may ask for at once. 0: any number.
    pub wake_burst: u32,
    /// One more is allowed each time this much time has passed, in milliseconds.
    pub wake_refill_ms: u64,
    /// Wakes under way at a time, of all server-ids together.
    pub wakes_in_flight: u32,
}

impl Default for WakePolicy {
    fn default() -> Self {
        Self {
            wake_burst: 6,
            wake_refill_ms: 10_000,
            wakes_in_flight: limits::WAKES_IN_FLIGHT,
        }
    }
}
