//! Frames as we write them, read by a library and by our decoder; masks against their definition.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_fuzz::stretch;
use relay_proto::close::NO_STATUS;
use relay_proto::ws::client::masked_frame;
use relay_proto::ws::{
    Control, Decoder, Event, Limits, Opcode, Role, Utf8, close_frame, control_frame, data_header,
    mask,
};
use std::io::{self, Read, Write};
use tungstenite::Message;
use tungstenite::protocol::{Role as TheirRole, WebSocket, WebSocketConfig};

#[allow(dead_code, reason = "the decoder's target has use for the rest")]
#[path = "../../crates/proto/tests/properties/oracle/ws.rs"]
mod oracle;

fuzz_target!(|input: &[u8]| {
    let [how, k0, k1, k2, k3, payload @ ..] = input else {
        return;
    };
    let key = [*k0, *k1, *k2, *k3];
    let payload = stretch(payload);
    check_mask(key, usize::from(*how), &payload);
    let text = std::str::from_utf8(&payload);
    let kind = match text.is_ok() && how & 1 == 0 {
        true => Opcode::Text,
        false => Opcode::Binary,
    };
    check_message(kind, key, &payload);
    check_control(key, &payload);
    // The codes around the reserved ones, or any.
    let code = match k0 {
        0..128 => 999 + u16::from(k1 % 20),
        _ => u16::from_be_bytes([*k0, *k1]),
    };
    check_close(code, text.unwrap_or_default());
});

/// The mask, by its definition.
fn check_mask(key: [u8; 4], phase: usize, payload: &[u8]) {
    // Wherever the memory begins.
    let start = phase % 8 % (payload.len() + 1);
    let mut masked = payload.to_vec();
    mask::apply(key, phase, &mut masked[start..]);
    for (i, byte) in payload[start..].iter().enumerate() {
        assert_eq!(masked[start + i], byte ^ key[(phase + i) % 4]);
    }
    assert_eq!(masked[..start], payload[..start]);
}

fn check_message(kind: Opcode, key: [u8; 4], payload: &[u8]) {
    let message = match kind {
        Opcode::Text => Message::text(String::from_utf8_lossy(payload).into_owned()),
        Opcode::Binary => Message::binary(payload.to_vec()),
    };
    let mut wire = data_header(kind, payload.len()).to_vec();
    wire.extend_from_slice(payload);
    assert_eq!(theirs(TheirRole::Client, &wire), message);
    assert_eq!(ours(Role::Client, &wire), message);

    wire.clear();
    let opcode = if kind == Opcode::Text { 1 } else { 2 };
    masked_frame(opcode, true, payload, key, &mut wire);
    assert_eq!(theirs(TheirRole::Server, &wire), message);
    assert_eq!(ours(Role::Server, &wire), message);
}

fn check_control(key: [u8; 4], payload: &[u8]) {
    let payload = &payload[..payload.len().min(125)];
    let ping = Message::Ping(payload.to_vec().into());
    let wire = control_frame(Control::Ping, payload);
    assert_eq!(theirs(TheirRole::Client, &wire), ping);
    assert_eq!(ours(Role::Client, &wire), ping);
    let mut wire = Vec::new();
    masked_frame(9, true, payload, key, &mut wire);
    assert_eq!(theirs(TheirRole::Server, &wire), ping);
    assert_eq!(ours(Role::Server, &wire), ping);
}

/// A reason is cut between two characters, so that the frame is a legal one.
fn check_close(code: u16, text: &str) {
    let is_sent = oracle::is_legal_close_code(code) || code == NO_STATUS;
    let Some(wire) = close_frame(code, text) else {
        return assert!(!is_sent, "{code}");
    };
    assert!(is_sent, "{code}");
    let close = match ours(Role::Client, &wire) {
        Message::Close(Some(close)) => close,
        // "No status" is said by saying nothing.
        other => return assert_eq!((code, other), (NO_STATUS, Message::Close(None))),
    };
    let reason = close.reason.as_str();
    assert_eq!(u16::from(close.code), code);
    assert!(text.starts_with(reason));
    assert!(reason == text || reason.len() > 119 && reason.len() <= 123);
    // The library doesn't know this code yet.
    if code != 1014 {
        assert_eq!(
            theirs(TheirRole::Client, &wire),
            Message::Close(Some(close))
        );
    }
}

/// The first event of a stream.
fn ours(role: Role, wire: &[u8]) -> Message {
    let limits = Limits {
        message_bytes: wire.len(),
        utf8: Utf8::TextOnly,
    };
    let mut wire = wire.to_vec();
    let mut input = &mut wire[..];
    let event = Decoder::new(role, limits).decode(&mut input);
    let event = event.expect("legal").expect("complete");
    match event {
        Event::Message {
            opcode: Opcode::Text,
            payload,
        } => Message::text(String::from_utf8_lossy(&payload).into_owned()),
        Event::Message { payload, .. } => Message::binary(payload.to_vec()),
        Event::Ping(payload) => Message::Ping(payload.to_vec().into()),
        Event::Pong(payload) => Message::Pong(payload.to_vec().into()),
        Event::Close(close) => {
            Message::Close(close.map(|close| tungstenite::protocol::CloseFrame {
                code: close.code.into(),
                reason: close.reason().into(),
            }))
        }
    }
}

fn theirs(role: TheirRole, wire: &[u8]) -> Message {
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let mut socket = WebSocket::from_raw_socket(Wire(wire), role, Some(config));
    socket.read().expect("a legal frame")
}

/// A peer that has sent these bytes, and takes whatever it is sent.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
