//! The WebSocket decoder against a library, and against itself on differently cut streams.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_proto::ws::Role;

#[path = "../../crates/proto/tests/properties/oracle/ws.rs"]
mod oracle;

fuzz_target!(|data: &[u8]| {
    // The first byte says how the stream is cut, and whether the frames are kept or unmasked:
    // fuzzers are bad at writing text through a mask.
    let [how, stream @ ..] = data else { return };
    let piece = usize::from(how & 0x7f) + 1;
    let wire = if how & 0x80 == 0 {
        stream.to_vec()
    } else {
        with_zero_keys(stream)
    };
    oracle::compare(&wire);
    for role in [Role::Server, Role::Client] {
        let whole = oracle::decode(role, [&wire[..]]);
        assert_eq!(oracle::decode(role, wire.chunks(piece)), whole);
        assert_eq!(oracle::decode(role, wire.chunks(1)), whole);
    }
});

/// Reads `stream` as frames with one byte of length and no key, and puts zero keys in.
fn with_zero_keys(mut stream: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(stream.len() * 2);
    while let [first, length, rest @ ..] = stream {
        let length = usize::from(*length).min(rest.len());
        let (payload, next) = rest.split_at(length);
        wire.push(*first);
        match u8::try_from(length).ok().filter(|n| *n < 126) {
            Some(short) => wire.push(0x80 | short),
            None => wire.extend([0xfe, 0, length as u8]),
        }
        wire.extend([0; 4]);
        wire.extend_from_slice(payload);
        stream = next;
    }
    wire
}
