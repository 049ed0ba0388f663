//! The WebSocket decoder against a library, and against itself however the stream is cut and wherever it is read to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oracle::{LIMIT, Look, Seen};
use relay_fuzz::{frames, size};
use relay_proto::ws::{Limits, Role, Utf8};

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
    }
});

fn check(role: Role, limits: Limits, wire: &[u8], looks: &[Look]) {
    let whole = oracle::decode(role, limits, [wire]);
    let piece = looks[0].there;
    assert_eq!(oracle::decode(role, limits, wire.chunks(piece)), whole);
    if wire.len() < 10_000 {
        assert_eq!(oracle::decode(role, limits, wire.chunks(1)), whole);
    }
    assert_eq!(oracle::decode_as_session(role, limits, wire, looks), whole);

    let (mut seen, error) = whole;
    for message in &seen {
        match message {
            Seen::Message(is_text, payload) if *is_text || limits.utf8 == Utf8::Every => {
                assert!(std::str::from_utf8(payload).is_ok());
            }
            _ => {}
        }
    }
    if error.is_none() {
        // Once we have sent our Close.
        let from = looks[0].allowed % (wire.len() + 1);
        let before = oracle::decode(role, limits, [&wire[..from]]).0.len();
        let mut controls = seen.split_off(before);
        controls.retain(|seen| !matches!(seen, Seen::Message(..)));
        seen.extend(controls);
        let discarded = oracle::decode_and_discard(role, limits, wire, from);
        assert_eq!(discarded, (seen, None));
    }
}
