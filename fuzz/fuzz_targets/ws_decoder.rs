//! The WebSocket decoder against a library, and against itself however the stream is cut and wherever it is read to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oracle::{LIMIT, Look, Seen};
use relay_fuzz::{frames, size};
use relay_proto::ws::{Error, Limits, Role, Utf8};

#[path = "../../crates/proto/tests/properties/oracle/ws.rs"]
mod oracle;

fuzz_target!(|data: &[u8]| {
    // How the stream is written down, which limit there is, and how it is read.
    let [how, a, b, c, d, e, f, stream @ ..] = data else {
        return;
    };
    let role = if how & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let wire = match how & 2 {
        0 => stream.to_vec(),
        _ => frames(stream, role == Role::Server),
    };
    let message_bytes = if how & 4 == 0 { LIMIT } else { 200_000 };
    // A long stream is not read byte by byte.
    let least = 1 + wire.len() / 1000;
    let look = |allowed: u8, there: u8, early: u8| Look {
        allowed: size(allowed).max(least),
        there: size(there).max(least),
        early: how & early != 0,
    };
    let looks = [look(*a, *b, 8), look(*c, *d, 16), look(*e, *f, 32)];

    if role == Role::Server {
        oracle::compare(&wire, message_bytes);
    }
    for utf8 in [Utf8::TextOnly, Utf8::Every] {
        let limits = Limits {
            message_bytes,
            utf8,
        };
        check(role, limits, &wire, &looks);
        check_discarding(role, limits, &wire, looks[0].allowed);
    }
    check_every(role, message_bytes, &wire);
});

fn check(role: Role, limits: Limits, wire: &[u8], looks: &[Look]) {
    let whole = oracle::decode(role, limits, [wire]);
    let piece = looks[0].there;
    assert_eq!(oracle::decode(role, limits, wire.chunks(piece)), whole);
    if wire.len() < 10_000 {
        assert_eq!(oracle::decode(role, limits, wire.chunks(1)), whole);
    }
    assert_eq!(oracle::decode_as_session(role, limits, wire, looks), whole);

    for message in &whole.0 {
        match message {
            Seen::Message(is_text, payload) if *is_text || limits.utf8 == Utf8::Every => {
                assert!(is_utf8(payload));
            }
            _ => {}
        }
    }
}

fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// Once we have sent our Close: whatever the messages from then on are, the controls between and behind them come out.
fn check_discarding(role: Role, limits: Limits, wire: &[u8], from: usize) {
    let from = from % (wire.len() + 1);
    let (mut seen, error) = oracle::decode(role, limits, [&wire[..from]]);
    if error.is_some() {
        return;
    }
    // A stream of binary messages without a limit has no other faults than those that are still faults then.
    let lenient = Limits {
        message_bytes: usize::MAX,
        utf8: Utf8::TextOnly,
    };
    let (mut controls, error) = oracle::decode(role, lenient, [&as_binary(wire)[..]]);
    if error.is_some() {
        return;
    }
    let mut controls = controls.split_off(seen.len());
    controls.retain(|seen| !matches!(seen, Seen::Message(..)));
    seen.extend(controls);
    let discarded = oracle::decode_and_discard(role, limits, wire, from);
    assert_eq!(discarded, (seen, None));
}

/// The stream with every text message as a binary one.
fn as_binary(wire: &[u8]) -> Vec<u8> {
    let mut wire = wire.to_vec();
    let mut at = 0;
    while let Some(&[first, second, ref long @ ..]) = wire.get(at..) {
        let (extended, length) = match (second & 0x7f, long) {
            (126, [a, b, ..]) => (2, u16::from_be_bytes([*a, *b]).into()),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (8, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
            }
            (short, _) => (0, u64::from(short)),
        };
        if first & 15 == 1 {
            wire[at] ^= 3;
        }
        let key = if second & 0x80 == 0 { 0 } else { 4 };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        at = length.saturating_add(at + 2 + extended + key);
    }
    wire
}

/// The relay's own rule, which no library has: it is as strict about binary messages, and about nothing else.
fn check_every(role: Role, message_bytes: usize, wire: &[u8]) {
    let decode = |utf8| {
        let limits = Limits {
            message_bytes,
            utf8,
        };
        oracle::decode(role, limits, [wire])
    };
    let (text_only, every) = (decode(Utf8::TextOnly), decode(Utf8::Every));
    if every == text_only {
        return;
    }
    assert_eq!(every.1, Some(Error::InvalidUtf8));
    assert!(text_only.0.starts_with(&every.0));
    let missing = &text_only.0[every.0.len()..];
    let message = missing.iter().find_map(|seen| match seen {
        Seen::Message(is_text, payload) => Some((is_text, payload)),
        _ => None,
    });
    // It is not complete, or it goes on with another fault, if it is not there.
    if let Some((is_text, payload)) = message {
        assert!(!is_text && !is_utf8(payload));
    }
}
