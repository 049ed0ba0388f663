//! When to dial again: pure, the caller supplies the uptime and the random number.

use std::borrow::Cow;
use std::time::Duration;

use crate::policy::{App, CONFLICT_LIMIT, Verdict, verdict};

/// The waits between dials: one step further with every failure, the last step from then on.
///
/// The default is what all three apps do: 1, 2, 4, 8, 16, 30 s, each ±20 %, from the start again
/// after a connection that lasted 60 s. Every program that talks to one relay should keep the
/// spread: after a restart it is what keeps thousands of clients from returning in one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The waits in order. An empty ladder waits for nothing.
    pub steps: Cow<'static, [Duration]>,
    /// Each wait is spread evenly over this many percent to either side; at most 100.
    pub spread_percent: u32,
    /// A connection that lasted this long starts the ladder again.
    pub reset_after: Duration,
}

const STEPS: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(30),
];

impl Default for Ladder {
    fn default() -> Self {
        Self {
            steps: Cow::Borrowed(&STEPS),
            spread_percent: 20,
            reset_after: Duration::from_secs(60),
        }
    }
}

impl Ladder {
    /// A ladder with one step and no spread: the same wait every time. For tests and demos.
    #[must_use]
    pub fn fixed(wait: Duration) -> Self {
        Self {
            steps: Cow::Owned(vec![wait]),
            spread_percent: 0,
            ..Self::default()
        }
    }

    /// The wait after `failures` failures in a row (1 is the first). `random` picks the place in
    /// the spread: 0 the shortest, `u32::MAX` the longest wait.
    #[must_use]
    pub fn wait(&self, failures: u32, random: u32) -> Duration {
        let index = failures.saturating_sub(1) as usize;
        let Some(step) = self.steps.get(index).or(self.steps.last()) else {
            return Duration::ZERO;
        };
        let spread = f64::from(self.spread_percent.min(100)) / 100.0;
        let place = f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0;
        let wait_s = step.as_secs_f64() * (1.0 + spread * place);
        // What fails is too long: no factor here is negative.
        Duration::try_from_secs_f64(wait_s).unwrap_or(Duration::MAX)
    }
}

/// When a link dials again after a connection that had been upgraded ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDrop {
    /// Take the next step of the ladder, as after a dial that failed. The kind choice.
    Wait,
    /// Dial at once, as the real daemon does; only dials that fail, and 4409, wait. Against a relay
    /// that accepts and closes this makes hundreds of dials a second: for tests of a relay.
    AtOnce,
}

/// What to do now that a connection or a dial has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Dial again after this wait.
    Dial(Duration),
    /// Never dial again.
    Stop,
}

/// Remembers the failures of one link and says what to do after each.
#[derive(Clone, Debug)]
pub struct Reconnect {
    app: App,
    ladder: Ladder,
    after_drop: AfterDrop,
    conflict_limit: u32,
    failures: u32,
    conflicts: u32,
}

impl Reconnect {
    /// A link that has not dialled yet.
    #[must_use]
    pub fn new(app: App, ladder: Ladder, after_drop: AfterDrop) -> Self {
        let conflict_limit = CONFLICT_LIMIT;
        Self {
            app,
            ladder,
            after_drop,
            conflict_limit,
            failures: 0,
            conflicts: 0,
        }
    }

    /// Changes after how many 4409 in a row a daemon gives up; 0 means never.
    #[must_use]
    pub fn conflict_limit(mut self, limit: u32) -> Self {
        self.conflict_limit = limit;
        self
    }

    /// A dial did not lead to a connection. `retry_after` is the relay's own wish: the wait is at
    /// least that long, but never longer than two minutes on the relay's word alone. Returns the wait.
    pub fn dial_failed(&mut self, retry_after: Option<Duration>, random: u32) -> Duration {
        const LONGEST_WISH: Duration = Duration::from_secs(120);
        self.failures = self.failures.saturating_add(1);
        let wish = retry_after.unwrap_or_default().min(LONGEST_WISH);
        self.ladder.wait(self.failures, random).max(wish)
    }

    /// A connection that lasted `uptime` ended with `code` (`None`: without a close frame).
    pub fn dropped(&mut self, code: Option<u16>, uptime: Duration, random: u32) -> (Verdict, Next) {
        let verdict = verdict(self.app, code);
        self.conflicts = if verdict == Verdict::Conflict {
            self.conflicts + 1
        } else {
            0
        };
        if uptime >= self.ladder.reset_after {
            self.failures = 0;
        }
        let too_many = self.conflict_limit > 0 && self.conflicts >= self.conflict_limit;
        if verdict == Verdict::Stop || too_many {
            return (verdict, Next::Stop);
        }
        if self.after_drop == AfterDrop::AtOnce && verdict != Verdict::Conflict {
            return (verdict, Next::Dial(Duration::ZERO));
        }
        self.failures = self.failures.saturating_add(1);
        (verdict, Next::Dial(self.ladder.wait(self.failures, random)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u32 = u32::MAX / 2 + 1;

    /// Rounded to a millisecond: the middle of the spread isn't exactly a `u32`.
    fn secs(wait: Duration) -> f64 {
        (wait.as_secs_f64() * 1000.0).round() / 1000.0
    }

    fn wait(ended: (Verdict, Next)) -> f64 {
        match ended.1 {
            Next::Dial(wait) => secs(wait),
            Next::Stop => panic!("stopped"),
        }
    }

    #[test]
    fn the_default_ladder_is_that_of_the_apps() {
        let ladder = Ladder::default();
        let waits: Vec<u64> = (1..=8)
            .map(|n| ladder.wait(n, MIDDLE).as_millis() as u64)
            .collect();
        assert_eq!(
            waits,
            [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
        );
        assert_eq!(ladder.wait(1, 0), Duration::from_millis(800));
        assert_eq!(ladder.wait(6, u32::MAX), Duration::from_secs(36));
        assert_eq!(ladder.wait(u32::MAX, MIDDLE).as_millis(), 30_000);
    }

    #[test]
    fn an_empty_ladder_waits_for_nothing() {
        let ladder = Ladder {
            steps: Cow::Borrowed(&[]),
            ..Ladder::default()
        };
        assert_eq!(ladder.wait(3, 7), Duration::ZERO);
    }

    #[test]
    fn the_longest_wait_is_one() {
        let never = Ladder::fixed(Duration::MAX);
        assert_eq!(never.wait(1, MIDDLE), Duration::MAX);
        let spread = Ladder {
            spread_percent: 20,
            ..never
        };
        assert_eq!(spread.wait(1, u32::MAX), Duration::MAX);
    }

    #[test]
    fn only_a_long_connection_starts_the_ladder_again() {
        let mut link = Reconnect::new(App::Mobile, Ladder::default(), AfterDrop::Wait);
        let short = Duration::from_millis(59_999);
        assert_eq!(secs(link.dial_failed(None, MIDDLE)), 1.0);
        assert_eq!(wait(link.dropped(None, short, MIDDLE)), 2.0);
        assert_eq!(wait(link.dropped(Some(1001), short, MIDDLE)), 4.0);
        assert_eq!(
            wait(link.dropped(None, Duration::from_secs(60), MIDDLE)),
            1.0
        );
        assert_eq!(secs(link.dial_failed(None, MIDDLE)), 2.0);
    }

    #[test]
    fn the_relays_wish_lengthens_a_wait_within_reason() {
        let mut link = Reconnect::new(App::Daemon, Ladder::default(), AfterDrop::Wait);
        for (wish, expected) in [(7, 7.0), (1, 2.0), (86_400, 120.0)] {
            let wish = Some(Duration::from_secs(wish));
            assert_eq!(secs(link.dial_failed(wish, MIDDLE)), expected);
        }
    }

    #[test]
    fn the_real_daemon_waits_only_after_failed_dials_and_conflicts() {
        let mut link = Reconnect::new(App::Daemon, Ladder::default(), AfterDrop::AtOnce);
        assert_eq!(wait(link.dropped(Some(1011), Duration::ZERO, MIDDLE)), 0.0);
        assert_eq!(secs(link.dial_failed(None, MIDDLE)), 1.0);
        assert_eq!(wait(link.dropped(Some(4409), Duration::ZERO, MIDDLE)), 2.0);
        assert_eq!(wait(link.dropped(None, Duration::ZERO, MIDDLE)), 0.0);
        assert_eq!(secs(link.dial_failed(None, MIDDLE)), 4.0);
    }

    #[test]
    fn a_daemon_gives_up_after_eight_conflicts_in_a_row() {
        let mut link = Reconnect::new(App::Daemon, Ladder::default(), AfterDrop::Wait);
        let conflict = |link: &mut Reconnect| link.dropped(Some(4409), Duration::ZERO, MIDDLE).1;
        for _ in 0..7 {
            assert_ne!(conflict(&mut link), Next::Stop);
        }
        link.dropped(Some(1001), Duration::ZERO, MIDDLE);
        for _ in 0..7 {
            assert_ne!(conflict(&mut link), Next::Stop);
            link.dial_failed(None, MIDDLE);
        }
        assert_eq!(conflict(&mut link), Next::Stop);

        let mut patient = Reconnect::new(App::Daemon, Ladder::default(), AfterDrop::Wait);
        patient = patient.conflict_limit(0);
        for _ in 0..100 {
            assert_ne!(conflict(&mut patient), Next::Stop);
        }
    }

    #[test]
    fn an_app_that_must_pair_again_stops() {
        let mut link = Reconnect::new(App::Desktop, Ladder::default(), AfterDrop::Wait);
        let uptime = Duration::from_secs(600);
        assert_eq!(
            link.dropped(Some(4401), uptime, 0),
            (Verdict::Stop, Next::Stop)
        );
        let absent = link.dropped(Some(4404), uptime, MIDDLE);
        assert_eq!((absent.0, wait(absent)), (Verdict::DaemonAbsent, 1.0));
    }
}
