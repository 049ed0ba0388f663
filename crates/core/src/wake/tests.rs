use super::*;
use proptest::prelude::*;
use relay_proto::envelope::{Directive, parse};

/// What comes of `{"push_wake":value}`.
fn admit(
    admission: &mut Admission,
    now: u64,
    server: &str,
    value: &str,
) -> Result<String, Refusal> {
    let envelope = format!(r#"{{"push_wake":{value}}}"#);
    let Ok(Directive::PushWake(wake)) = parse(envelope.as_bytes()) else {
        panic!("no push wake: {envelope}")
    };
    let wake = admission.admit(Millis(now), &ServerId::new(server), &wake)?;
    Ok(wake.token)
}

const GOOD: &str = r#"{"platform":"fcm","token":"t"}"#;

#[test]
fn the_first_reason_counts_and_those_about_the_wake_cost_nothing() {
    let mut admission = Admission::default();
    for (value, refusal) in [
        ("7", Refusal::Malformed),
        ("[]", Refusal::Malformed),
        (r#"{"platform":1,"token":"t"}"#, Refusal::Malformed),
        (r#"{"platform":"apns","token":""}"#, Refusal::Platform),
        (r#"{"platform":"FCM","token":"t"}"#, Refusal::Platform),
        (r#"{"token":"t"}"#, Refusal::Platform),
        (r#"{"platform":"fcm","token":""}"#, Refusal::EmptyToken),
        (r#"{"platform":"fcm"}"#, Refusal::EmptyToken),
    ] {
        for _ in 0..10 {
            assert_eq!(admit(&mut admission, 0, "a", value), Err(refusal));
        }
        assert!(!refusal.is_limit());
    }
    for _ in 0..6 {
        assert_eq!(admit(&mut admission, 0, "a", GOOD), Ok("t".to_owned()));
    }
    let limited = Err(Refusal::RateLimited);
    assert_eq!(admit(&mut admission, 9_999, "a", GOOD), limited);
    assert!(Refusal::RateLimited.is_limit());
    assert!(admit(&mut admission, 9_999, "b", GOOD).is_ok());
    assert!(admit(&mut admission, 10_000, "a", GOOD).is_ok());
    assert_eq!(admit(&mut admission, 10_000, "a", GOOD), limited);
}

#[test]
fn the_limits_are_the_policys() {
    let mut admission = Admission::new(&WakePolicy {
        wake_burst: 1,
        wake_refill_ms: 500,
        wakes_in_flight: 2,
    });
    let limited = Err(Refusal::RateLimited);
    assert!(admit(&mut admission, 0, "a", GOOD).is_ok());
    assert_eq!(admit(&mut admission, 499, "a", GOOD), limited);
    assert!(admit(&mut admission, 500, "a", GOOD).is_ok());
    let full = admit(&mut admission, 500, "b", GOOD);
    assert_eq!(full, Err(Refusal::InFlight));

    let mut unlimited = Admission::new(&WakePolicy {
        wake_burst: 0,
        ..WakePolicy::default()
    });
    for _ in 0..32 {
        assert!(admit(&mut unlimited, 0, "a", GOOD).is_ok());
    }
    let full = admit(&mut unlimited, 0, "a", GOOD);
    assert_eq!(full, Err(Refusal::InFlight));
    assert_eq!(unlimited.limited_ids(), 0);
}

#[test]
fn at_the_end_nothing_else_is_looked_at() {
    let mut admission = Admission::default();
    admission.close();
    for value in [GOOD, "7"] {
        let refused = admit(&mut admission, 0, "a", value);
        assert_eq!(refused, Err(Refusal::ShuttingDown));
    }
}

#[test]
fn a_refusal_for_lack_of_places_costs_a_token_and_a_place_comes_back() {
    let mut admission = Admission::default();
    for n in 0..32 {
        assert!(admit(&mut admission, 0, &format!("s{n}"), GOOD).is_ok());
    }
    for _ in 0..6 {
        let refused = admit(&mut admission, 0, "late", GOOD);
        assert_eq!(refused, Err(Refusal::InFlight));
    }
    assert!(Refusal::InFlight.is_limit());
    admission.leave();
    assert_eq!(admission.in_flight(), 31);
    let refused = admit(&mut admission, 0, "late", GOOD);
    assert_eq!(refused, Err(Refusal::RateLimited));
    assert!(admit(&mut admission, 0, "other", GOOD).is_ok());
}

fn status(status: u16, reasons: [&str; 2]) -> Failure {
    let [first, second] = reasons.map(Code::new);
    Failure::Status {
        status,
        reasons: Reasons {
            status: first,
            error_code: second,
        },
    }
}

#[test]
fn failures_are_told_by_status_and_codes_alone() {
    for (failure, text, kind) in [
        (
            status(404, ["NOT_FOUND", "UNREGISTERED"]),
            "status 404 (NOT_FOUND, UNREGISTERED)",
            FailureKind::Unregistered,
        ),
        (
            status(404, ["NOT_FOUND", "unregistered"]),
            "status 404 (NOT_FOUND)",
            FailureKind::SendFailed,
        ),
        (
            status(400, ["the token is x", "INVALID_ARGUMENT"]),
            "status 400 (INVALID_ARGUMENT)",
            FailureKind::SendFailed,
        ),
        (
            status(403, ["UNREGISTERED", ""]),
            "status 403 (UNREGISTERED)",
            FailureKind::SendFailed,
        ),
        (status(302, ["", ""]), "status 302", FailureKind::SendFailed),
        (
            Failure::Call(CallError::TimedOut),
            "fcm: timed out",
            FailureKind::SendFailed,
        ),
        (
            Failure::Cancelled,
            "cancelled: the relay shuts down",
            FailureKind::SendFailed,
        ),
        (
            Failure::TokenStatus(400),
            "access token: status 400",
            FailureKind::TokenFetchFailed,
        ),
        (
            Failure::TokenCall(CallError::Connect(io::ErrorKind::ConnectionRefused)),
            "access token: cannot connect: connection refused",
            FailureKind::TokenFetchFailed,
        ),
    ] {
        assert_eq!(failure.to_string(), text);
        assert_eq!(failure.kind(), kind, "{text}");
    }
}

#[test]
fn only_what_looks_like_a_message_id_is_shown() {
    let id = "projects/pyrycode-mobile/messages/0:1500415314455276%31bd1c9631bd1c96";
    assert_eq!(message_id(id), Some(id));
    for bad in ["", "a b", "ä", "a\n", "a.b", &"x".repeat(257)] {
        assert_eq!(message_id(bad), None, "{bad:?}");
    }
}

#[test]
fn only_the_services_own_errors_are_worth_another_try_by_themselves() {
    for (status, again) in [
        (200, false),
        (302, false),
        (400, false),
        (401, false),
        (404, false),
        (428, false),
        (429, false),
        (499, false),
        (500, true),
        (503, true),
        (599, true),
        (600, false),
    ] {
        let next = Retries::new(Millis(10_000)).next(Millis(0), status, None, 0);
        assert_eq!(next.is_some(), again, "{status}");
    }
}

#[test]
fn what_the_answer_asks_for_is_honoured_if_it_fits() {
    let mut retries = Retries::new(Millis(10_000));
    let next = |retries: &mut Retries, now, after| retries.next(Millis(now), 429, after, 7);
    assert_eq!(next(&mut retries, 100, Some(3_000)), Some(Millis(3_100)));
    assert_eq!(next(&mut retries, 3_200, Some(0)), Some(Millis(3_200)));
    assert_eq!(next(&mut retries, 3_300, Some(0)), None, "two are enough");
    let mut fresh = Retries::new(Millis(10_000));
    assert_eq!(next(&mut fresh, 100, Some(9_900)), None);
    assert_eq!(next(&mut fresh, 100, Some(u64::MAX)), None);
    assert_eq!(next(&mut fresh, 100, None), None, "FCM wants a minute");
    assert_eq!(
        fresh.next(Millis(9_990), 503, None, 7),
        None,
        "nor does a back-off fit"
    );
}

proptest! {
    /// However FCM behaves: two retries, each before the deadline and not before it was asked for.
    #[test]
    fn retries_are_few_and_in_time(
        answers in prop::collection::vec((0u64..4_000, 400u16..600, prop::option::of(0u64..12_000), any::<u32>()), 1..10),
    ) {
        let mut retries = Retries::new(Millis(10_000));
        let (mut now, mut made) = (0, 0);
        for (took, status, after, random) in answers {
            now += took;
            let Some(at) = retries.next(Millis(now), status, after, random) else { break };
            made += 1;
            prop_assert!(at < Millis(10_000));
            let waited = at.since(Millis(now));
            match after {
                Some(after) => prop_assert_eq!(waited, after),
                None => prop_assert!(status != 429 && (250..=1_000).contains(&waited), "{}", waited),
            }
            now = at.0;
        }
        prop_assert!(made <= 2);
    }

    /// Any words: what is shown of them has the shape of a code.
    #[test]
    fn a_code_is_a_code(word in "\\PC{0,80}|[A-Z0-9_]{0,70}") {
        let shape = |w: &str| (1..=64).contains(&w.len())
            && w.chars().all(|c| matches!(c, 'A'..='Z' | '0'..='9' | '_'));
        prop_assert_eq!(Code::new(&word).is_some(), shape(&word));
    }

    /// Never more in flight than allowed, nor more of one server-id than its rate allows.
    #[test]
    fn limits_hold_for_any_history(
        steps in prop::collection::vec((0u64..4_000, 0u8..4, any::<bool>()), 1..200),
    ) {
        let mut admission = Admission::default();
        let (mut now, mut in_flight) = (0u64, 0u32);
        let mut admitted = [0u64; 4];
        for (gap, server, leave) in steps {
            now += gap;
            if leave && in_flight > 0 {
                admission.leave();
                in_flight -= 1;
            }
            if admit(&mut admission, now, &format!("s{server}"), GOOD).is_ok() {
                in_flight += 1;
                admitted[server as usize] += 1;
            }
            prop_assert_eq!(admission.in_flight(), in_flight);
            prop_assert!(in_flight <= 32);
            prop_assert!(admitted.iter().all(|n| *n <= 6 + now / 10_000));
        }
    }
}
