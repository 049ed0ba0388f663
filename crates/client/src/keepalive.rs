//! A link's own pings: whether the relay is still there.

use std::time::Duration;

use tokio::time::Instant;

/// How often a link pings the relay, and how long it waits for the pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingPolicy {
    /// From the connection's start to the first ping, and from one ping to the next. With [`Duration::MAX`] there are none.
    pub every: Duration,
    /// A ping not answered for this long ends the connection.
    pub timeout: Duration,
}

impl PingPolicy {
    /// Daemon and desktop: every 30 s, 30 s for the pong.
    pub const DAEMON: Self = Self {
        every: Duration::from_secs(30),
        timeout: Duration::from_secs(30),
    };
    /// Mobile: every 20 s, and the pong must be there by the next.
    pub const MOBILE: Self = Self {
        every: Duration::from_secs(20),
        timeout: Duration::from_secs(20),
    };
}

/// `wait` after `now`; at most a century, so that the sum is a moment.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    now + wait.min(CENTURY)
}

/// What the timer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping(String),
    Dead,
}

/// At most one ping is under way at a time.
#[derive(Debug)]
pub(crate) struct Keepalive {
    policy: PingPolicy,
    count: u32,
    ping_at: Instant,
    dead_at: Option<Instant>,
}

impl Keepalive {
    pub(crate) fn new(policy: PingPolicy, now: Instant) -> Self {
        Self {
            policy,
            count: 0,
            ping_at: after(now, policy.every),
            dead_at: None,
        }
    }

    /// When [`fire`](Self::fire) has something to say next.
    pub(crate) fn deadline(&self) -> Instant {
        self.dead_at.unwrap_or(self.ping_at)
    }

    pub(crate) fn fire(&mut self, now: Instant) -> Due {
        if now < self.deadline() {
            return Due::Nothing;
        }
        if self.dead_at.is_some() {
            return Due::Dead;
        }
        self.count = self.count.wrapping_add(1);
        self.ping_at = after(now, self.policy.every);
        self.dead_at = Some(after(now, self.policy.timeout));
        Due::Ping(self.count.to_string())
    }

    /// Only the newest ping's pong counts.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        if payload == self.count.to_string().as_bytes() {
            self.dead_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_go_out_on_time_and_a_missing_pong_is_death() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut keepalive = Keepalive::new(PingPolicy::DAEMON, start);
        assert_eq!(keepalive.fire(at(29)), Due::Nothing);
        assert_eq!(keepalive.fire(at(30)), Due::Ping("1".into()));
        keepalive.pong(b"1");
        assert_eq!(keepalive.deadline(), at(60));
        assert_eq!(keepalive.fire(at(60)), Due::Ping("2".into()));
        keepalive.pong(b"1");
        keepalive.pong(b"");
        assert_eq!(keepalive.fire(at(89)), Due::Nothing);
        assert_eq!(keepalive.fire(at(90)), Due::Dead);
    }

    #[test]
    fn who_wants_no_pings_has_none() {
        let start = Instant::now();
        let never = PingPolicy {
            every: Duration::MAX,
            timeout: Duration::MAX,
        };
        let mut keepalive = Keepalive::new(never, start);
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        assert_eq!(keepalive.fire(start + year), Due::Nothing);
    }
}
