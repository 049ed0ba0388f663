//! The WebSocket codec.

use crate::oracle::ws::{
    LIMIT, LIMITS, Look, Outcome, Seen, compare, decode, decode_and_discard, decode_as_session,
    is_legal_close_code,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use relay_proto::ws::client::{masked_close, masked_control, masked_frame};
use relay_proto::ws::{Control, Limits, Opcode, Role, close_frame, control_frame, data_header};

/// One thing a peer sends.
#[derive(Clone, Debug)]
enum Sent {
    /// A text (or binary) message in fragments, with a ping between them.
    Message(bool, Vec<Vec<u8>>, Option<Vec<u8>>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Whatever frame: opcode, fin, payload.
    Odd(u8, bool, Vec<u8>),
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-z\"{}]{0,40}",
        "\\PC{0,60}",
        "[aé漢\u{1f600}]{0,1000}",
        "[b]{200,2000}",
    ]
    .prop_map(String::into_bytes)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => text(), 2 => vec(any::<u8>(), 0..300)]
}

/// Cuts `bytes` at up to three places, text even inside characters.
fn fragments(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    (bytes, vec(any::<Index>(), 0..4)).prop_map(|(bytes, cuts)| {
        split(&bytes, &cuts)
            .into_iter()
            .map(<[u8]>::to_vec)
            .collect()
    })
}

fn split<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

fn control_payload() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=125)
}

fn good() -> impl Strategy<Value = Sent> {
    prop_oneof![
        4 => (fragments(text()), proptest::option::of(control_payload()))
            .prop_map(|(parts, ping)| Sent::Message(true, parts, ping)),
        1 => fragments(vec(any::<u8>(), 0..300)).prop_map(|parts| Sent::Message(false, parts, None)),
        1 => control_payload().prop_map(Sent::Ping),
        1 => control_payload().prop_map(Sent::Pong),
    ]
}

fn any_sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        4 => good(),
        1 => (fragments(payload()), proptest::option::of(control_payload()))
            .prop_map(|(parts, ping)| Sent::Message(true, parts, ping)),
        1 => (0..16u8, any::<bool>(), payload()).prop_map(|(op, fin, bytes)| Sent::Odd(op, fin, bytes)),
        1 => (any::<u16>(), text()).prop_map(|(code, mut reason)| {
            reason.truncate(123);
            Sent::Odd(8, true, [&code.to_be_bytes()[..], &reason].concat())
        }),
    ]
}

fn client_wire(sent: &[Sent], key: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    for sent in sent {
        match sent {
            Sent::Message(is_text, parts, ping) => {
                for (i, part) in parts.iter().enumerate() {
                    let first = if *is_text { 1 } else { 2 };
                    let fin = i + 1 == parts.len();
                    masked_frame(if i == 0 { first } else { 0 }, fin, part, key, &mut out);
                    if let (Some(ping), 0) = (ping, i) {
                        masked_control(Control::Ping, ping, key, &mut out);
                    }
                }
            }
            Sent::Ping(payload) => masked_control(Control::Ping, payload, key, &mut out),
            Sent::Pong(payload) => masked_control(Control::Pong, payload, key, &mut out),
            Sent::Odd(opcode, fin, payload) => masked_frame(*opcode, *fin, payload, key, &mut out),
        }
    }
    out
}

/// What the peer of a faultless stream should see.
fn expected(sent: &[Sent]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for sent in sent {
        match sent {
            Sent::Message(is_text, parts, ping) => {
                let message = Seen::Message(*is_text, parts.concat());
                let ping = ping.clone().map(Seen::Ping);
                // A ping after the only frame of a message comes after the message.
                if parts.len() == 1 {
                    seen.push(message);
                    seen.extend(ping);
                } else {
                    seen.extend(ping);
                    seen.push(message);
                }
            }
            Sent::Ping(payload) => seen.push(Seen::Ping(payload.clone())),
            Sent::Pong(payload) => seen.push(Seen::Pong(payload.clone())),
            Sent::Odd(..) => {}
        }
    }
    seen
}

/// Messages of which most have a frame that is worth its own read.
fn large() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let text = ("[aé漢\u{1f600}]{0,5}", 0..100_000usize)
        .prop_map(|(text, bytes)| text.repeat(bytes / text.len().max(1)).into_bytes());
    prop_oneof![3 => text.prop_map(|text| vec![text]), 1 => fragments("[ab]{1,3}".prop_map(|text| text.repeat(30_000).into_bytes()))]
}

/// One look at a socket.
fn look() -> impl Strategy<Value = Look> {
    let bytes = || prop_oneof![1 => 1..40usize, 4 => 1..100_000usize];
    (bytes(), bytes(), proptest::bool::weighted(0.1)).prop_map(|(allowed, there, early)| Look {
        allowed,
        there,
        early,
    })
}

/// Damage: bytes XORed, and the end cut off.
type Damage = (Vec<(Index, u8)>, Option<Index>);

fn damage() -> impl Strategy<Value = Damage> {
    (
        vec((any::<Index>(), any::<u8>()), 0..3),
        proptest::option::of(any::<Index>()),
    )
}

fn damaged(mut wire: Vec<u8>, (flips, cut): &Damage) -> Vec<u8> {
    if !wire.is_empty() {
        for (at, with) in flips {
            let at = at.index(wire.len());
            wire[at] ^= with;
        }
        wire.truncate(cut.map_or(wire.len(), |cut| cut.index(wire.len())));
    }
    wire
}

fn any_wire() -> impl Strategy<Value = Vec<u8>> {
    (vec(any_sent(), 0..6), any::<[u8; 4]>(), damage())
        .prop_map(|(sent, key, damage)| damaged(client_wire(&sent, key), &damage))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_client_that_keeps_the_rules_is_understood(
        sent in vec(good(), 0..8),
        key: [u8; 4],
        close in proptest::option::of((3000..5000u16, "\\PC{0,30}")),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut wire = client_wire(&sent, key);
        let mut seen = expected(&sent);
        if let Some((code, reason)) = close {
            prop_assert!(masked_close(code, &reason, key, &mut wire));
            seen.push(Seen::Close(Some((code, reason))));
        }
        prop_assert_eq!(decode(Role::Server, LIMITS, split(&wire, &cuts)), (seen, None));
    }

    #[test]
    fn a_server_is_understood(
        messages in vec((any::<bool>(), text(), control_payload()), 0..6),
        reason in "\\PC{0,40}",
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let (mut wire, mut seen) = (Vec::new(), Vec::new());
        for (is_text, message, ping) in messages {
            let kind = if is_text { Opcode::Text } else { Opcode::Binary };
            wire.extend_from_slice(&data_header(kind, message.len()));
            wire.extend_from_slice(&message);
            wire.extend_from_slice(&control_frame(Control::Ping, &ping));
            seen.extend([Seen::Message(is_text, message), Seen::Ping(ping)]);
        }
        wire.extend_from_slice(&close_frame(4404, &reason).unwrap());
        seen.push(Seen::Close(Some((4404, reason))));
        prop_assert_eq!(decode(Role::Client, LIMITS, split(&wire, &cuts)), (seen, None));
    }

    #[test]
    fn cuts_make_no_difference(wire in any_wire(), cuts in vec(any::<Index>(), 0..40)) {
        let whole: Outcome = decode(Role::Server, LIMITS, [&wire[..]]);
        prop_assert_eq!(&decode(Role::Server, LIMITS, split(&wire, &cuts)), &whole);
        prop_assert_eq!(&decode(Role::Server, LIMITS, wire.chunks(1)), &whole);
    }

    #[test]
    fn the_library_sees_the_same(wire in any_wire()) {
        compare(&wire, LIMIT);
    }

    #[test]
    fn the_library_agrees_on_limits(
        sizes in vec(0..=LIMIT, 1..4),
        slack in 0..3usize,
    ) {
        // Fragments that together come close to the limit, from either side.
        let total: usize = sizes.iter().sum();
        let mut parts: Vec<_> = sizes.iter().map(|n| vec![b'x'; n * (LIMIT - 1) / total.max(1)]).collect();
        let missing = (LIMIT - 1 + slack).saturating_sub(parts.iter().map(Vec::len).sum());
        parts.push(vec![b'y'; missing]);
        let wire = client_wire(&[Sent::Message(true, parts, None)], [1, 2, 3, 4]);
        compare(&wire, LIMIT);
        prop_assert_eq!(decode(Role::Server, LIMITS, [&wire[..]]).1.is_none(), slack < 2);
    }

    #[test]
    fn where_a_payload_is_read_to_makes_no_difference(
        messages in vec((large(), any::<bool>(), proptest::option::of(control_payload())), 1..5),
        key: [u8; 4],
        damage in damage(),
        looks in vec(look(), 1..6),
    ) {
        let mut sent = Vec::new();
        for (parts, is_text, ping) in messages {
            sent.push(Sent::Message(is_text, parts, ping));
        }
        let wire = damaged(client_wire(&sent, key), &damage);
        let limits = Limits { message_bytes: 150_000, ..LIMITS };
        let whole = decode(Role::Server, limits, [&wire[..]]);
        prop_assert_eq!(decode_as_session(Role::Server, limits, &wire, &looks), whole);
    }

    #[test]
    fn discarded_messages_hide_no_control_frame(
        sent in vec(good(), 0..8),
        key: [u8; 4],
        from: Index,
    ) {
        let wire = client_wire(&sent, key);
        let from = from.index(wire.len() + 1);
        let before = decode(Role::Server, LIMITS, [&wire[..from]]).0.len();
        let mut seen = expected(&sent);
        let mut controls = seen.split_off(before);
        controls.retain(|seen| !matches!(seen, Seen::Message(..)));
        seen.extend(controls);
        prop_assert_eq!(decode_and_discard(Role::Server, LIMITS, &wire, from), (seen, None));
    }
}

#[test]
fn a_close_of_every_legal_code_is_understood_and_no_other() {
    for code in (0..5100).chain([u16::MAX]) {
        let payload = [&code.to_be_bytes()[..], b"why"].concat();
        let wire = client_wire(&[Sent::Odd(8, true, payload)], [1, 2, 3, 4]);
        let seen = decode(Role::Server, LIMITS, [&wire[..]]).0;
        assert_eq!(!seen.is_empty(), is_legal_close_code(code), "{code}");
        compare(&wire, LIMIT);
    }
}
