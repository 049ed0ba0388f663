//! When a certificate is renewed, and when a failed attempt is repeated.
//!
//! This is the one place that goes by the wall clock, because certificates do. Such a clock may be set, either way:
//! that changes what is due, nothing else. So nothing is planned for a moment far off; ask how long to
//! [wait](Renewal::wait_s), wait no longer than [`ASK_AGAIN_S`], and ask again.

/// The wall clock: whole seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// Seconds from `earlier` to this moment; 0 if `earlier` is not earlier.
    const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time in which a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Validity {
    /// Its first second.
    pub not_before: UnixSeconds,
    /// Its last second.
    pub not_after: UnixSeconds,
}

/// Longest time to wait before asking again, in seconds: how late a set clock is noticed.
pub const ASK_AGAIN_S: u64 = 60;

/// A certificate is renewed this long before it expires, or a third of its lifetime if that is less: what Let's
/// Encrypt recommends for its certificates of 90 days, and leaves two days of attempts to those of six.
const RENEW_BEFORE_S: u64 = 30 * 24 * HOUR_S;

/// Seconds from one failed attempt to the next; the last one repeats.
///
/// Let's Encrypt allows 5 failed validations per account, name and hour, and ignores the account for a while beyond
/// that. Three quick repetitions are for what passes by itself (a restarted proxy, a name just entered); the sixth
/// attempt comes, even if all [jitter](JITTER_PERCENT) is downward, 66 minutes after the first.
const RETRY_S: [u64; 5] = [5, 30, 120, 1_800, 3_000];

/// The longest wait after a failure that [counts for nothing](Counted::Nothing), in seconds: the reason for longer ones
/// is the CA's limits. A CA or a name server that can be reached again is noticed within five minutes, jitter included.
const FREE_RETRY_S: u64 = 250;

/// How far a retry is moved, either way, in percent: several relays that failed together don't come back together.
/// With it the longest of [`RETRY_S`] is an hour at the most.
const JITTER_PERCENT: u64 = 20;

const HOUR_S: u64 = 3_600;

/// What a failed attempt counts for in the CA's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Nothing: it came to no new order.
    Nothing,
    /// An order, and perhaps a failed validation.
    Order,
}

/// The certificate that is in use, if any, and the attempts to replace it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    certificate: Option<Validity>,
    /// It is due, whatever its dates say.
    unwanted: bool,
    failures: u32,
    /// Those of the failures that counted at the CA.
    orders: u32,
    failed_at: UnixSeconds,
    retry_s: u64,
}

impl Renewal {
    /// With the certificate that was found; without one, an attempt is due at once.
    pub const fn new(certificate: Option<Validity>) -> Self {
        Self {
            certificate,
            unwanted: false,
            failures: 0,
            orders: 0,
            failed_at: UnixSeconds(0),
            retry_s: 0,
        }
    }

    /// Seconds until an attempt is due; 0 if it is now.
    #[must_use]
    pub fn wait_s(&mut self, now: UnixSeconds) -> u64 {
        // If the clock was set back, how much time has passed is unknown: counting goes on from here.
        self.failed_at = self.failed_at.min(now);
        let retry_s = self.retry_s.saturating_sub(now.since(self.failed_at));
        let due_s = match self.unwanted {
            true => 0,
            false => self.left_s(now).saturating_sub(self.renew_before_s()),
        };
        due_s.max(retry_s)
    }

    /// The certificate is of no use to clients: an attempt to replace it is due at once.
    pub const fn unwanted(&mut self) {
        self.unwanted = true;
    }

    /// An attempt failed at `now`. `retry_after_s` is what the CA asked for, and `random` any random number.
    ///
    /// Failures that [count for nothing](Counted::Nothing) do not bring those that count closer together, nor further
    /// apart.
    ///
    /// The next attempt waits as long as the CA asked for, but not beyond the certificate's end; if that has come, or
    /// there is no certificate that clients take, an hour at the most. Asking can't make it worse then, and a CA or a clock may be wrong.
    pub fn failed(
        &mut self,
        now: UnixSeconds,
        counted: Counted,
        retry_after_s: Option<u64>,
        random: u64,
    ) {
        let base_s = match counted {
            Counted::Nothing => retry_s(self.failures).min(FREE_RETRY_S),
            Counted::Order => {
                let base_s = retry_s(self.orders);
                self.orders = self.orders.saturating_add(1);
                base_s
            }
        };
        let longest_s = match self.unwanted {
            true => HOUR_S,
            false => self.left_s(now).max(HOUR_S),
        };
        let asked_s = retry_after_s.unwrap_or(0).min(longest_s);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
        self.retry_s = jittered(base_s, random).max(asked_s);
    }

    /// At `now` another attempt would be too soon, whatever the certificate says: it waits `wait_s`.
    ///
    /// For a new certificate that looks due already, to which the bounds of [`failed`](Self::failed) do not apply: its
    /// end tells nothing where the clock is wrong, and asking goes on and on.
    pub const fn too_soon(&mut self, now: UnixSeconds, wait_s: u64) {
        self.failed_at = now;
        self.retry_s = wait_s;
    }

    /// There is a new certificate, by an attempt or because somebody else renewed it.
    pub const fn renewed(&mut self, certificate: Validity) {
        *self = Self::new(Some(certificate));
    }

    /// Attempts that have failed since the last certificate.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Seconds until the certificate expires; 0 if it has, or if there is none.
    pub fn left_s(&self, now: UnixSeconds) -> u64 {
        self.certificate
            .map_or(0, |certificate| certificate.not_after.since(now))
    }

    fn renew_before_s(&self) -> u64 {
        self.certificate.map_or(0, |certificate| {
            let lifetime_s = certificate.not_after.since(certificate.not_before);
            RENEW_BEFORE_S.min(lifetime_s / 3)
        })
    }
}

/// The one of [`RETRY_S`] after so many earlier failures.
fn retry_s(earlier: u32) -> u64 {
    RETRY_S[(RETRY_S.len() - 1).min(earlier as usize)]
}

/// `base_s`, moved by up to [`JITTER_PERCENT`] either way.
const fn jittered(base_s: u64, random: u64) -> u64 {
    let spread_s = base_s * JITTER_PERCENT / 100;
    base_s - spread_s + random % (2 * spread_s + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_S: u64 = 24 * HOUR_S;
    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    const fn at(s: u64) -> UnixSeconds {
        UnixSeconds(NOW.0 + s)
    }

    /// Issued at [`NOW`].
    fn lasting(lifetime_s: u64) -> Renewal {
        Renewal::new(Some(Validity {
            not_before: NOW,
            not_after: at(lifetime_s),
        }))
    }

    #[test]
    fn renewed_thirty_days_or_a_third_before_the_end() {
        let cases = [(90, 60), (120, 90), (45, 30), (6, 4), (398, 368)];
        for (lifetime, due) in cases {
            let mut renewal = lasting(lifetime * DAY_S);
            assert_eq!(renewal.wait_s(NOW), due * DAY_S, "{lifetime} days");
            assert_eq!(renewal.wait_s(at(due * DAY_S - 1)), 1);
            assert_eq!(renewal.wait_s(at(due * DAY_S)), 0);
        }
    }

    #[test]
    fn nothing_or_an_expired_one_is_due_at_once() {
        assert_eq!(Renewal::new(None).wait_s(NOW), 0);
        assert_eq!(lasting(DAY_S).wait_s(at(2 * DAY_S)), 0);
    }

    /// Attempts that all fail in this way, from [`NOW`] on.
    fn attempts(counted: Counted, random: u64, count: usize) -> Vec<u64> {
        let mut renewal = Renewal::new(None);
        let mut now = NOW;
        let attempts = (0..count).map(|_| {
            now.0 += renewal.wait_s(now);
            renewal.failed(now, counted, None, random);
            now.since(NOW)
        });
        attempts.collect()
    }

    #[test]
    fn failures_are_repeated_ever_later() {
        assert_eq!(attempts(Counted::Order, 0, 3), [0, 4, 28]);
        let random = 600; // in the middle for the longest
        let late = attempts(Counted::Order, random, 9);
        assert!(
            late.windows(2)
                .skip(4)
                .all(|pair| pair[1] - pair[0] == 3_000)
        );
    }

    #[test]
    fn where_the_ca_counted_nothing_it_is_asked_every_five_minutes() {
        assert_eq!(attempts(Counted::Nothing, 0, 3), [0, 4, 28]);
        for random in 0..=100 {
            let times = attempts(Counted::Nothing, random, 12);
            let late = times.windows(2).skip(3);
            assert!(late.map(|pair| pair[1] - pair[0]).all(|s| s <= 300));
        }
        // A CA that counts later finds the quick repetitions unused.
        let mut renewal = Renewal::new(None);
        for _ in 0..12 {
            renewal.failed(NOW, Counted::Nothing, None, 0);
        }
        renewal.failed(NOW, Counted::Order, None, 0);
        assert_eq!(renewal.wait_s(NOW), 4);
        renewal.failed(NOW, Counted::Nothing, Some(HOUR_S), 0);
        assert_eq!(renewal.wait_s(NOW), HOUR_S, "the CA asked for it");
    }

    #[test]
    fn an_unwanted_certificate_is_due_until_there_is_another() {
        let mut renewal = lasting(90 * DAY_S);
        renewal.unwanted();
        assert_eq!(renewal.wait_s(NOW), 0);
        renewal.failed(NOW, Counted::Order, None, 0);
        assert_eq!(renewal.wait_s(NOW), 4);
        assert_eq!(renewal.wait_s(at(4)), 0);
        renewal.failed(NOW, Counted::Order, Some(DAY_S), 0);
        assert_eq!(renewal.wait_s(NOW), HOUR_S, "as without one");
        renewal.renewed(Validity {
            not_before: NOW,
            not_after: at(90 * DAY_S),
        });
        assert_eq!(renewal.wait_s(NOW), 60 * DAY_S);
    }

    #[test]
    fn a_new_certificate_ends_the_retries() {
        let mut renewal = Renewal::new(None);
        renewal.failed(NOW, Counted::Order, Some(100), 0);
        assert_eq!((renewal.failures(), renewal.wait_s(NOW)), (1, 100));
        renewal.renewed(Validity {
            not_before: NOW,
            not_after: at(90 * DAY_S),
        });
        assert_eq!((renewal.failures(), renewal.wait_s(NOW)), (0, 60 * DAY_S));
    }

    #[test]
    fn the_ca_may_ask_for_more_time_but_not_beyond_the_end() {
        let mut renewal = lasting(90 * DAY_S);
        let due = at(60 * DAY_S);
        renewal.failed(due, Counted::Order, Some(3 * DAY_S), 0);
        assert_eq!(renewal.wait_s(due), 3 * DAY_S);
        renewal.failed(due, Counted::Order, Some(1), u64::MAX);
        assert!(renewal.wait_s(due) >= 24);
        renewal.failed(due, Counted::Order, Some(u64::MAX), 0);
        assert_eq!(renewal.wait_s(due), 30 * DAY_S);
        let mut none = Renewal::new(None);
        none.failed(NOW, Counted::Order, Some(3 * DAY_S), 0);
        assert_eq!(none.wait_s(NOW), HOUR_S);
    }

    #[test]
    fn a_new_certificate_that_looks_expired_is_not_replaced_too_soon() {
        let mut renewal = lasting(90 * DAY_S);
        let ahead = at(400 * DAY_S);
        assert_eq!(renewal.wait_s(ahead), 0);
        renewal.too_soon(ahead, DAY_S);
        assert_eq!(renewal.wait_s(ahead), DAY_S);
        assert_eq!(renewal.wait_s(at(401 * DAY_S)), 0);
        assert_eq!(renewal.wait_s(NOW), 60 * DAY_S, "the clock was put right");
    }

    #[test]
    fn a_clock_set_back_keeps_no_retry_waiting() {
        let mut renewal = Renewal::new(None);
        renewal.failed(NOW, Counted::Order, None, 0);
        let past = UnixSeconds(NOW.0 - 400 * DAY_S);
        assert_eq!(renewal.wait_s(past), 4);
        assert_eq!(renewal.wait_s(UnixSeconds(past.0 + 3)), 1);
        assert_eq!(renewal.wait_s(UnixSeconds(past.0 + 4)), 0);
    }

    fn counted() -> impl Strategy<Value = Counted> {
        prop_oneof![Just(Counted::Nothing), Just(Counted::Order)]
    }

    proptest! {
        #[test]
        fn no_hour_has_more_than_five_attempts_that_count(
            failures in prop::collection::vec((counted(), any::<u64>()), 24),
        ) {
            let (mut renewal, mut now, mut times) = (Renewal::new(None), NOW, Vec::new());
            for (counted, random) in failures {
                now.0 += renewal.wait_s(now);
                renewal.failed(now, counted, None, random);
                let longest = match counted {
                    Counted::Nothing => 300,
                    Counted::Order => {
                        times.push(now.0);
                        HOUR_S
                    }
                };
                prop_assert!((4..=longest).contains(&renewal.wait_s(now)));
            }
            prop_assert!(times.windows(6).all(|six| six[5] - six[0] > HOUR_S), "{times:?}");
        }

        #[test]
        fn jitter_stays_within_its_fifth(base in 1u64..10_000, random: u64) {
            let wait = jittered(base, random);
            prop_assert!(wait * 100 >= base * 80 && wait * 100 <= base * 120);
        }

        /// Whatever the clock and the CA say.
        #[test]
        fn waits_are_bounded_and_end(
            validity in prop::option::of(any::<(u64, u64)>()),
            steps in prop::collection::vec((any::<u64>(), counted(), prop::option::of(any::<u64>()), any::<u64>()), 1..20),
        ) {
            let certificate = validity.map(|(a, b)| Validity { not_before: UnixSeconds(a), not_after: UnixSeconds(b) });
            let mut renewal = Renewal::new(certificate);
            for (now, counted, retry_after, random) in steps {
                let now = UnixSeconds(now);
                let wait = renewal.wait_s(now);
                let left = renewal.left_s(now);
                prop_assert!(wait <= left.max(HOUR_S));
                prop_assert_eq!(renewal.wait_s(UnixSeconds(now.0.saturating_add(wait))), 0);
                let _ = renewal.wait_s(now);
                renewal.failed(now, counted, retry_after, random);
            }
        }
    }
}
