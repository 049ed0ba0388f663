use super::*;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn labels_are_unique_snake_case() {
    let labels: BTreeSet<_> = Cause::ALL.iter().map(Cause::label).collect();
    assert_eq!(labels.len(), Cause::ALL.len());
    for label in labels {
        assert!(
            label
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')),
            "{label}"
        );
    }
}

#[test]
fn a_code_and_reason_mean_one_thing() {
    let mut seen = BTreeMap::new();
    for cause in Cause::ALL {
        // A displaced holder is told what it would have been told anyway; a directive speaks
        // with the binary's voice.
        let borrowed = matches!(
            cause,
            Cause::Displaced | Cause::Directive(_) | Cause::DirectiveOverflow(_)
        );
        if let (Some(close), false) = (cause.close(), borrowed) {
            let earlier = seen.insert((close.code, close.reason), cause);
            assert_eq!(earlier, None, "{cause:?} says the same");
        }
    }
    assert_eq!(seen.len(), 18);
}

#[test]
fn reasons_fit_a_control_frame() {
    for close in Cause::ALL.iter().filter_map(Cause::close) {
        assert!(close.reason.len() <= 123, "{close:?}");
        assert!(sendable_close_code(close.code), "{close:?}");
    }
}

#[test]
fn codes_that_stop_apps_come_from_binaries_only() {
    for close in Cause::ALL.iter().filter_map(Cause::close) {
        assert!(!NEVER_ORIGINATED.contains(&close.code), "{close:?}");
    }
    for code in NEVER_ORIGINATED {
        assert_eq!(
            Cause::Directive(code).close(),
            Some(Close { code, reason: "" })
        );
        assert_eq!(Cause::Directive(code).peer_reaction(), Reaction::Stop);
    }
}

#[test]
fn directives_with_unsendable_codes_drop_the_connection() {
    for code in [0, 999, 1004, 1006, 1015, 2999, 5000, u16::MAX] {
        assert_eq!(Cause::Directive(code).close(), None);
        assert_eq!(Cause::DirectiveOverflow(code).close(), None);
    }
    let empty = Some(Close {
        code: NO_STATUS,
        reason: "",
    });
    assert_eq!(Cause::Directive(NO_STATUS).close(), empty);
    assert_eq!(Cause::DirectiveOverflow(NO_STATUS).close(), empty);
    assert_eq!(
        Cause::DirectiveOverflow(4401).close(),
        Some(Close {
            code: 4401,
            reason: "phone backlog full"
        })
    );
}

#[test]
fn every_cause_and_every_code_has_its_place() {
    for (index, cause) in Cause::ALL.iter().enumerate() {
        assert_eq!(cause.index(), index, "{cause:?}");
    }
    assert_eq!(Cause::Directive(4401).index(), Cause::Directive(1).index());
    assert!(KNOWN.is_sorted());
    for (index, code) in KNOWN.iter().enumerate() {
        assert_eq!(known_index(*code), index, "{code}");
    }
    for unknown in [0, 1003, 4000, 4403, 4999] {
        assert_eq!(KNOWN[known_index(unknown)], OTHER, "{unknown}");
    }
    for code in Cause::ALL.iter().filter_map(Cause::close).map(|c| c.code) {
        assert_ne!(KNOWN[known_index(code)], OTHER, "{code}");
    }
}

#[test]
fn only_phones_end_by_their_binary() {
    for cause in Cause::ALL.iter().filter(|cause| cause.by() == By::Binary) {
        assert_eq!(cause.legs(), Legs::Phone, "{cause:?}");
    }
}

#[test]
fn absent_daemons_are_told_apart_from_other_ends() {
    for cause in [
        Cause::NoServer,
        Cause::BinaryReclaimed,
        Cause::BinaryDidNotReturn,
        Cause::BinaryAway,
    ] {
        assert_eq!(cause.peer_reaction(), Reaction::DaemonAbsent);
    }
    assert_eq!(Cause::AlreadyClaimed.peer_reaction(), Reaction::Conflict);
    assert_eq!(Cause::ShuttingDown.peer_reaction(), Reaction::Retry);
    assert_eq!(Cause::WriteTimeout.peer_reaction(), Reaction::Retry);
}
