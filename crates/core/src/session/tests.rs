use super::*;
use proptest::prelude::*;
use relay_proto::close;

fn open() -> Session {
    Session::new(&SessionPolicy::default())
}

/// A registered session at time 0.
fn registered() -> Session {
    let mut session = open();
    session.registered(Millis(0));
    session
}

const fn ping(number: u32) -> Action {
    Action::Ping {
        number,
        probe: None,
    }
}

fn code(close: Option<Close>) -> Option<u16> {
    close.map(|close| close.code)
}

#[test]
fn it_is_small_because_there_is_one_per_connection() {
    assert!(size_of::<Session>() <= 96, "{}", size_of::<Session>());
}

#[test]
fn nothing_is_due_before_registration() {
    assert_eq!(open().deadline(), None);
}

#[test]
fn a_ping_goes_out_every_interval_whatever_the_traffic() {
    let mut session = registered();
    for n in 1..=5 {
        let at = Millis(30_000 * u64::from(n));
        assert_eq!(session.deadline(), Some(at));
        assert_eq!(session.expire(Millis(at.0 - 1)), None);
        assert_eq!(session.expire(at), Some(ping(n)));
        assert_eq!(session.expire(at), None);
        session.message_started(at);
        session.message_finished();
        session.pong(n);
    }
}

/// Of several pings a peer may answer only the newest, whatever it was for.
#[test]
fn the_answer_to_a_probe_is_a_sign_of_life_if_it_was_asked_for() {
    let ends = |answers: &[u32]| {
        let mut session = registered();
        session.probed(1);
        session.probed(2);
        session.expire(Millis(30_000));
        for probe in answers {
            session.probe_answered(*probe);
        }
        session.expire(Millis(60_000)) == Some(Action::Close(Cause::HeartbeatTimeout))
    };
    assert!(!ends(&[2]));
    assert!(!ends(&[1]), "not the newest, but alive");
    assert!(ends(&[]));
    assert!(ends(&[0, 3]), "invented");
}

#[test]
fn only_unanswered_probes_of_this_connection_can_be_answered() {
    let mut session = registered();
    session.probed(57);
    assert!(!session.probe_answered(56), "another connection's");
    session.probed(57 + 100_000);
    assert!(!session.probe_answered(57), "long ago");
    assert!(session.probe_answered(57 + 99_999));
}

#[test]
fn a_probe_is_a_sign_of_life_once() {
    let mut session = registered();
    session.probed(1);
    assert!(session.probe_answered(1));
    session.expire(Millis(30_000));
    assert!(!session.probe_answered(1));
    let closes = Action::Close(Cause::HeartbeatTimeout);
    assert_eq!(session.expire(Millis(60_000)), Some(closes));
}

#[test]
fn the_last_ping_is_a_probe_until_that_is_answered() {
    let mut session = registered();
    assert_eq!(session.unanswered_probe(), None);
    session.probed(1);
    session.probed(2);
    assert_eq!(session.unanswered_probe(), Some(2));
    let behind_it = Action::Ping {
        number: 1,
        probe: Some(2),
    };
    assert_eq!(session.expire(Millis(30_000)), Some(behind_it));
    session.pong(1);
    assert!(session.probe_answered(1));
    assert_eq!(session.unanswered_probe(), Some(2));
    assert!(session.probe_answered(2));
    assert_eq!(session.unanswered_probe(), None);
    assert_eq!(session.expire(Millis(60_000)), Some(ping(2)));
    session.probed(3);
    let _ = session.close_requested(Millis(60_000), Cause::Normal);
    assert_eq!(session.unanswered_probe(), None);
}

#[test]
fn the_round_trip_of_a_ping_is_known_once() {
    let mut session = registered();
    assert_eq!(
        session.round_trip_ms(Millis(29_000), 0),
        None,
        "no ping yet"
    );
    session.expire(Millis(30_000));
    assert_eq!(session.round_trip_ms(Millis(30_010), 2), None, "never sent");
    // Another sign of life may come before the pong itself.
    session.pong(1);
    assert_eq!(session.round_trip_ms(Millis(30_047), 1), Some(47));
    assert_eq!(session.round_trip_ms(Millis(30_048), 1), None, "said again");
    session.expire(Millis(60_000));
    assert_eq!(session.round_trip_ms(Millis(60_001), 1), None, "an old one");
    assert_eq!(session.round_trip_ms(Millis(60_000), 2), Some(0));
    let _ = session.close_requested(Millis(60_000), Cause::Normal);
    assert_eq!(session.round_trip_ms(Millis(60_000), 2), None);
}

#[test]
fn a_ping_without_its_pong_closes_after_the_timeout() {
    let mut session = registered();
    session.expire(Millis(30_000));
    session.pong(0);
    session.pong(2);
    assert_eq!(session.expire(Millis(59_999)), None);
    assert_eq!(
        session.expire(Millis(60_000)),
        Some(Action::Close(Cause::HeartbeatTimeout))
    );
    let close = session.close_requested(Millis(60_000), Cause::HeartbeatTimeout);
    assert_eq!(code(close), Some(close::INTERNAL));
}

#[test]
fn data_is_no_substitute_for_a_pong() {
    let mut session = registered();
    session.expire(Millis(30_000));
    for at in (31_000..60_000).step_by(1_000) {
        session.message_started(Millis(at));
        session.message_finished();
        assert_eq!(session.expire(Millis(at)), None);
    }
    assert_eq!(
        session.expire(Millis(60_000)),
        Some(Action::Close(Cause::HeartbeatTimeout))
    );
}

#[test]
fn with_pings_closer_than_the_timeout_a_later_pong_answers_the_earlier_ping() {
    let policy = SessionPolicy {
        ping_interval_ms: 10,
        pong_timeout_ms: 25,
        ..Default::default()
    };
    let mut session = Session::new(&policy);
    session.registered(Millis(0));
    assert_eq!(session.expire(Millis(10)), Some(ping(1)));
    assert_eq!(session.expire(Millis(20)), Some(ping(2)));
    session.pong(2);
    assert_eq!(session.expire(Millis(30)), Some(ping(3)));
    assert_eq!(session.expire(Millis(40)), Some(ping(4)));
    session.pong(2);
    assert_eq!(session.expire(Millis(50)), Some(ping(5)));
    assert_eq!(
        session.expire(Millis(55)),
        Some(Action::Close(Cause::HeartbeatTimeout))
    );
}

#[test]
fn a_message_has_thirty_seconds_from_its_first_header() {
    let mut session = open();
    session.message_started(Millis(1_000));
    session.message_started(Millis(20_000));
    assert_eq!(session.deadline(), Some(Millis(31_000)));
    assert_eq!(
        session.expire(Millis(31_000)),
        Some(Action::Close(Cause::MessageTooSlow))
    );
    let close = session.close_requested(Millis(31_000), Cause::MessageTooSlow);
    assert_eq!(code(close), Some(close::POLICY));
}

#[test]
fn a_finished_message_has_no_deadline() {
    let mut session = open();
    session.message_started(Millis(1_000));
    session.message_finished();
    assert_eq!(session.deadline(), None);
}

#[test]
fn a_peer_that_is_held_back_is_never_late() {
    let mut session = registered();
    session.expire(Millis(30_000));
    session.message_started(Millis(40_000));
    session.held_back(Millis(50_000), true);
    assert_eq!(session.expire(Millis(60_000)), Some(ping(2)));
    assert_eq!(session.expire(Millis(75_000)), None);
    assert_eq!(session.deadline(), Some(Millis(90_000)), "the next ping");
    session.held_back(Millis(80_000), false);
    session.held_back(Millis(85_000), false);
    assert_eq!(session.expire(Millis(90_000)), Some(ping(3)));
    assert_eq!(session.expire(Millis(109_999)), None);
    let mut silent = session.clone();
    assert_eq!(
        silent.expire(Millis(110_000)),
        Some(Action::Close(Cause::HeartbeatTimeout))
    );
    session.pong(1);
    assert_eq!(
        session.expire(Millis(110_000)),
        Some(Action::Close(Cause::MessageTooSlow))
    );
}

#[test]
fn being_read_again_makes_nothing_due_that_was_not() {
    let mut session = open();
    session.held_back(Millis(0), true);
    session.held_back(Millis(1), false);
    assert_eq!(session, open());
}

#[test]
fn each_message_has_ten_seconds_to_be_written() {
    let mut session = open();
    session.write_blocked(Millis(0));
    session.write_blocked(Millis(9_000));
    assert_eq!(session.deadline(), Some(Millis(10_000)));
    session.write_advanced(Millis(9_500));
    assert_eq!(session.deadline(), Some(Millis(19_500)));
    assert_eq!(
        session.expire(Millis(19_500)),
        Some(Action::Cut(Cause::WriteTimeout))
    );
    assert_eq!(
        (session.deadline(), session.cause()),
        (None, Some(Cause::WriteTimeout))
    );
}

#[test]
fn nothing_written_is_not_stuck() {
    let mut session = open();
    session.write_advanced(Millis(0));
    assert_eq!(session.deadline(), None);
    session.write_blocked(Millis(0));
    session.write_idle();
    assert_eq!(session.deadline(), None);
}

#[test]
fn our_close_waits_for_the_peers_then_for_its_end() {
    let mut session = registered();
    let close = session.close_requested(Millis(0), Cause::BinaryReclaimed);
    assert_eq!(code(close), Some(close::DAEMON_ABSENT));
    session.close_sent(Millis(10));
    assert!(!session.peer_closed(Millis(100)), "it answers ours");
    assert_eq!(session.expire(Millis(100)), Some(Action::Fin));
    session.fin_sent(Millis(100));
    assert_eq!(session.expire(Millis(5_099)), None);
    assert_eq!(session.expire(Millis(5_100)), Some(Action::Drop));
    assert_eq!(session.deadline(), None);
    assert_eq!(session.cause(), Some(Cause::BinaryReclaimed));
}

#[test]
fn a_peer_that_never_answers_our_close_gets_five_seconds() {
    let mut session = open();
    assert!(session.close_requested(Millis(0), Cause::Normal).is_some());
    session.close_sent(Millis(0));
    assert_eq!(session.expire(Millis(4_999)), None);
    assert_eq!(session.expire(Millis(5_000)), Some(Action::Fin));
    assert_eq!(session.expire(Millis(10_000)), Some(Action::Drop));
}

#[test]
fn a_close_that_cannot_be_written_within_five_seconds_cuts() {
    let mut session = registered();
    session.write_blocked(Millis(0));
    assert!(
        session
            .close_requested(Millis(1_000), Cause::ShuttingDown)
            .is_some()
    );
    session.write_blocked(Millis(2_000));
    session.write_advanced(Millis(3_000));
    assert_eq!(session.expire(Millis(5_999)), None);
    assert_eq!(
        session.expire(Millis(6_000)),
        Some(Action::Cut(Cause::WriteTimeout))
    );
    assert_eq!(
        session.cause(),
        Some(Cause::ShuttingDown),
        "the first cause counts"
    );
}

#[test]
fn the_peers_close_is_echoed_then_we_shut_and_wait_for_its_end() {
    let mut session = registered();
    assert!(session.peer_closed(Millis(7)), "to be echoed");
    assert!(!session.peer_closed(Millis(8)), "once");
    session.close_sent(Millis(9));
    assert_eq!(session.expire(Millis(9)), Some(Action::Fin));
    assert_eq!(session.expire(Millis(5_009)), Some(Action::Drop));
    assert_eq!(session.cause(), Some(Cause::PeerClosed));
}

#[test]
fn closes_that_cross_need_no_echo() {
    let mut session = open();
    assert!(session.close_requested(Millis(0), Cause::Normal).is_some());
    assert!(!session.peer_closed(Millis(1)));
    session.close_sent(Millis(2));
    assert_eq!(session.expire(Millis(2)), Some(Action::Fin));
}

#[test]
fn only_the_first_close_is_sent() {
    let mut session = open();
    assert_eq!(
        code(session.close_requested(Millis(0), Cause::Directive(4410))),
        Some(4410)
    );
    assert_eq!(
        session.close_requested(Millis(0), Cause::ShuttingDown),
        None
    );
    assert_eq!(session.cause(), Some(Cause::Directive(4410)));
}

#[test]
fn a_cause_without_a_close_drops_at_once() {
    let mut session = open();
    assert_eq!(
        session.close_requested(Millis(3), Cause::Directive(1015)),
        None
    );
    assert_eq!(session.expire(Millis(3)), Some(Action::Drop));
}

#[test]
fn once_closing_there_are_no_pings_and_no_message_deadlines() {
    let mut session = registered();
    session.message_started(Millis(0));
    assert!(session.close_requested(Millis(1), Cause::Normal).is_some());
    session.close_sent(Millis(1));
    session.message_started(Millis(2));
    session.registered(Millis(2));
    assert_eq!(session.deadline(), Some(Millis(5_001)));
}

#[test]
fn an_interval_of_zero_is_not_a_busy_loop() {
    let mut session = Session::new(&SessionPolicy {
        ping_interval_ms: 0,
        ..Default::default()
    });
    session.registered(Millis(0));
    assert_eq!(session.deadline(), Some(Millis(1)));
    assert_eq!(session.expire(Millis(1)), Some(ping(1)));
    assert_eq!(session.expire(Millis(1)), None);
}

#[derive(Clone, Debug)]
enum Event {
    Registered,
    Started,
    Finished,
    HeldBack(bool),
    Pong(u32),
    Blocked,
    Advanced,
    Idle,
    Close(Cause),
    CloseSent,
    PeerClosed,
    FinSent,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Registered),
        Just(Event::Started),
        Just(Event::Finished),
        any::<bool>().prop_map(Event::HeldBack),
        (0u32..6).prop_map(Event::Pong),
        Just(Event::Blocked),
        Just(Event::Advanced),
        Just(Event::Idle),
        prop::sample::select(Cause::ALL.to_vec()).prop_map(Event::Close),
        Just(Event::CloseSent),
        Just(Event::PeerClosed),
        Just(Event::FinSent),
        (0u64..40_000).prop_map(Event::Wait),
    ]
}

/// Applies one event. A Close that expires is requested, as the contract of [`Action::Close`] has it.
fn apply(session: &mut Session, now: &mut Millis, event: &Event) {
    match *event {
        Event::Registered => session.registered(*now),
        Event::Started => session.message_started(*now),
        Event::Finished => session.message_finished(),
        Event::HeldBack(held) => session.held_back(*now, held),
        Event::Pong(n) => {
            session.pong(n);
        }
        Event::Blocked => session.write_blocked(*now),
        Event::Advanced => session.write_advanced(*now),
        Event::Idle => session.write_idle(),
        Event::Close(cause) => drop(session.close_requested(*now, cause)),
        Event::CloseSent => session.close_sent(*now),
        Event::PeerClosed => drop(session.peer_closed(*now)),
        Event::FinSent => session.fin_sent(*now),
        Event::Wait(ms) => *now = now.plus(ms),
    }
    // Ping, close, FIN and drop may all be due at once, but not more than that.
    for _ in 0..6 {
        match session.expire(*now) {
            Some(Action::Close(cause)) => drop(session.close_requested(*now, cause)),
            Some(_) => {}
            None => return,
        }
    }
    panic!("expire goes round in circles");
}

proptest! {
    #[test]
    fn the_deadline_is_never_left_in_the_past(events in prop::collection::vec(event(), 0..60)) {
        let (mut session, mut now) = (registered(), Millis(0));
        for event in events {
            apply(&mut session, &mut now, &event);
            prop_assert!(session.deadline().is_none_or(|at| at > now));
        }
    }

    /// Whatever the peer and the socket do, a close is over within the times for writing it, for the peer's
    /// answer, and for its end.
    #[test]
    fn a_requested_close_always_ends(
        before in prop::collection::vec(event(), 0..30),
        after in prop::collection::vec(event(), 0..60),
    ) {
        let (mut session, mut now) = (registered(), Millis(0));
        for event in before {
            apply(&mut session, &mut now, &event);
        }
        apply(&mut session, &mut now, &Event::Close(Cause::Normal));
        let asked = now;
        for event in after {
            // Time passes in steps of the session's own deadlines, as the shell has it.
            if let Event::Wait(ms) = event {
                let until = now.plus(ms);
                while let Some(at) = session.deadline().filter(|at| *at <= until) {
                    now = at;
                    apply(&mut session, &mut now, &Event::Wait(0));
                }
                now = until;
            } else {
                apply(&mut session, &mut now, &event);
            }
            prop_assert!(now.since(asked) < 15_000 || session.deadline().is_none());
        }
    }
}
