//! A session that sends every message back, between a peer that sends anything in any pieces and one that takes it likewise.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use oracle::{LIMITS, Seen};
use pyrycode_relay::session::echo::{self, Pace};
use relay_fuzz::socket::{self, Socket};
use relay_fuzz::{frames, size};
use relay_proto::close::{INTERNAL, POLICY};
use relay_proto::ws::{Decoder, Limits, Role};

#[allow(dead_code, reason = "the decoder's target has use for the rest")]
#[path = "../../crates/proto/tests/properties/oracle/ws.rs"]
mod oracle;

fuzz_target!(|data: &[u8]| {
    let [how, a, b, c, early, stream @ ..] = data else {
        return;
    };
    let wire = match how & 1 {
        0 => stream.to_vec(),
        _ => frames(stream, true),
    };
    let pieces = [(*a, 2), (*b, 4), (*c, 8)];
    let pieces = pieces.map(|(piece, none)| if how & none == 0 { size(piece) } else { 0 });
    let (early, rest) = wire.split_at(size(*early).min(wire.len()));
    let limits = Limits {
        message_bytes: 200_000,
        ..LIMITS
    };
    let early = Bytes::copy_from_slice(if how & 16 == 0 { early } else { &[] });
    let rest = if how & 16 == 0 { rest } else { &wire };
    let ends = how & 32 != 0;
    let socket = Socket::new(rest.to_vec(), pieces.to_vec(), ends);
    let written = socket.written();
    // A long stream is not read byte by byte.
    let least = 1 + wire.len() / 1000;
    let pace = Pace {
        read_bytes: if how & 128 == 0 {
            usize::MAX
        } else {
            size(*c).max(least)
        },
        pauses: how & 64 != 0,
    };
    socket::run(echo::serve_at(pace, socket, limits, early));

    let (sent, error) = oracle::decode(Role::Server, limits, [&wire[..]]);
    let (echoed, none) = oracle::decode(Role::Client, limits, [&written.take()[..]]);
    assert_eq!(none, None, "what is written is well-formed");
    let close = match echoed.last() {
        Some(Seen::Close(close)) => Some(close),
        _ => None,
    };
    // A peer that ends its side without a word is gone; one that is only silent is told why it is left, in the end.
    match (&error, sent.last()) {
        (Some(error), _) => {
            let code = close.and_then(|close| Some(close.as_ref()?.0));
            assert_eq!(code, Some(error.close_code()));
        }
        (None, Some(Seen::Close(theirs))) => assert_eq!(close, Some(theirs)),
        (None, _) if ends => assert_eq!(close, None),
        (None, _) => {
            let code = close.and_then(|close| Some(close.as_ref()?.0));
            let missed = match is_mid_message(limits, &wire) {
                true => POLICY,
                false => INTERNAL,
            };
            assert_eq!(code, Some(missed));
        }
    }
    // What is queued when the peer goes is not owed to it; what it sent before a fault is.
    let messages = |seen: &[Seen]| -> Vec<Seen> {
        let messages = seen.iter().filter(|seen| matches!(seen, Seen::Message(..)));
        messages.cloned().collect()
    };
    let (sent_messages, echoed_messages) = (messages(&sent), messages(&echoed));
    assert!(sent_messages.starts_with(&echoed_messages));
    if !ends && !matches!(sent.last(), Some(Seen::Close(_))) {
        assert_eq!(echoed_messages.len(), sent_messages.len());
    }
    // The newest of several pings may be answered for all.
    let mut pings = sent.iter();
    for seen in &echoed {
        if let Seen::Pong(pong) = seen {
            let asked = pings.any(|seen| matches!(seen, Seen::Ping(ping) if ping == pong));
            assert!(asked, "a pong that nobody asked for");
        }
    }
    if !ends && !matches!(sent.last(), Some(Seen::Close(_))) {
        let ping = sent.iter().rev().find_map(|seen| match seen {
            Seen::Ping(ping) => Some(ping),
            _ => None,
        });
        let pong = echoed.iter().rev().find_map(|seen| match seen {
            Seen::Pong(pong) => Some(pong),
            _ => None,
        });
        assert_eq!(pong, ping, "the newest ping is answered");
    }
});

/// Whether a stream without a fault ends within a message.
fn is_mid_message(limits: Limits, wire: &[u8]) -> bool {
    let mut decoder = Decoder::new(Role::Server, limits);
    let mut wire = wire.to_vec();
    let mut input = &mut wire[..];
    while let Ok(Some(_)) = decoder.decode(&mut input) {}
    decoder.mid_message()
}
