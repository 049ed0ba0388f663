//! `tungstenite` as the judge of WebSocket streams.

use relay_proto::ws::{Decoder, Error, Event, Filled, Limits, Opcode, Role, Utf8};
use std::io::{self, Read, Write};
use tungstenite::protocol::{Role as TheirRole, WebSocket, WebSocketConfig};
use tungstenite::{Error as TheirError, Message};

/// The longest message.
pub(crate) const LIMIT: usize = 4096;

/// An event with everything owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Message(bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// The events, and the error that ended them if there was one.
pub(crate) type Outcome = (Vec<Seen>, Option<Error>);

/// A decoder as strict about text as the library.
fn decoder(role: Role, message_bytes: usize) -> Decoder {
    Decoder::new(
        role,
        Limits {
            message_bytes,
            utf8: Utf8::TextOnly,
        },
    )
}

/// What our decoder makes of a stream that arrives in `pieces`. Stops at the first Close.
pub(crate) fn decode<'a>(role: Role, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = decoder(role, LIMIT);
    let (mut seen, mut received) = (Vec::new(), 0);
    for piece in pieces {
        received += piece.len();
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(event)) => seen.push(owned(event)),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
            if let Some(Seen::Close(_)) = seen.last() {
                return (seen, None);
            }
        }
        assert!(input.is_empty(), "input left over");
        assert!(
            decoder.held_bytes() <= 2 * received + 128,
            "held more than it received"
        );
    }
    (seen, None)
}

/// What our decoder makes of a client's stream with messages of up to `limit` bytes, fed as the relay does it: large payloads
/// go to their place, whatever else to a buffer. At most so many bytes at once as `cuts` says, in turn.
pub(crate) fn decode_to_place(limit: usize, mut wire: &[u8], cuts: &[usize]) -> Outcome {
    let mut decoder = decoder(Role::Server, limit);
    let (mut seen, mut received) = (Vec::new(), 0);
    let mut cuts = cuts.iter().copied().cycle();
    while !wire.is_empty() {
        let most = cuts.next().unwrap_or(usize::MAX).min(wire.len());
        let mut ahead;
        if let Some((message, room)) = decoder.room(most) {
            let (part, rest) = wire.split_at(most.min(room));
            wire = rest;
            received += part.len();
            message.extend_from_slice(part);
            match decoder.filled(part.len()) {
                Ok(Filled { event, mut beyond }) => {
                    seen.extend(event.map(owned));
                    ahead = beyond.as_mut_slice().to_vec();
                }
                Err(error) => return (seen, Some(error)),
            }
        } else {
            let (part, rest) = wire.split_at(most.min(decoder.read_ahead_bytes()));
            wire = rest;
            received += part.len();
            ahead = part.to_vec();
        }
        let mut input = &mut ahead[..];
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(event)) => seen.push(owned(event)),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
        assert!(
            decoder.held_bytes() <= 2 * received + 128,
            "held more than it received"
        );
    }
    (seen, None)
}

/// The same stream, all of it handed over at once.
pub(crate) fn decode_whole(limit: usize, wire: &[u8]) -> Outcome {
    let mut decoder = decoder(Role::Server, limit);
    let (mut seen, mut wire) = (Vec::new(), wire.to_vec());
    let mut input = &mut wire[..];
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(event)) => seen.push(owned(event)),
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

fn owned(event: Event<'_>) -> Seen {
    match event {
        Event::Message { opcode, payload } => {
            Seen::Message(opcode == Opcode::Text, payload.into_vec())
        }
        Event::Ping(payload) => Seen::Ping(payload.to_vec()),
        Event::Pong(payload) => Seen::Pong(payload.to_vec()),
        Event::Close(close) => Seen::Close(close.map(|c| (c.code, c.reason().to_owned()))),
    }
}

/// A peer that has sent these bytes, and takes whatever it is sent.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.is_empty() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.0.read(into),
        }
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

/// What the library makes of a client's stream: events, and the close code of an error.
fn reference(wire: &[u8]) -> (Vec<Seen>, Option<u16>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(LIMIT))
        .max_frame_size(Some(LIMIT))
        .accept_unmasked_frames(false);
    let mut socket = WebSocket::from_raw_socket(Wire(wire), TheirRole::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Message(true, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Seen::Message(false, bytes.to_vec()),
            Ok(Message::Ping(payload)) => Seen::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Seen::Pong(payload.to_vec()),
            Ok(Message::Close(close)) => {
                let close = close.map(|c| (u16::from(c.code), c.reason.as_str().to_owned()));
                seen.push(Seen::Close(close));
                return (seen, None);
            }
            Ok(Message::Frame(_)) => continue,
            Err(TheirError::Io(_)) => return (seen, None),
            Err(TheirError::Protocol(_)) => return (seen, Some(1002)),
            Err(TheirError::Utf8(_)) => return (seen, Some(1007)),
            Err(TheirError::Capacity(_)) => return (seen, Some(1009)),
            Err(error) => panic!("unexpected of the library: {error}"),
        });
    }
}

/// Panics unless both see the same in a client's stream.
///
/// Where we find a fault, the library may do so later (it looks at text and limits when a frame is
/// complete), or find another one in the same frame first; but it must not see a message after it.
pub(crate) fn compare(wire: &[u8]) {
    let (ours, error) = decode(Role::Server, [wire]);
    let (theirs, their_code) = reference(wire);
    let context = || {
        format!(
            "{}\n{ours:?} {error:?}\n{theirs:?} {their_code:?}",
            wire.escape_ascii()
        )
    };
    let Some(error) = error else {
        assert_eq!(their_code, None, "{}", context());
        // The library doesn't know 1014 yet, and reports codes it refuses as a Close of its own.
        if !matches!(ours.last(), Some(Seen::Close(Some((1014, _))))) {
            assert_eq!(ours, theirs, "{}", context());
        }
        return;
    };
    assert!(theirs.starts_with(&ours), "{}", context());
    // The library takes lengths that are not in their shortest form, also those of control frames,
    // which we find too long then.
    if error == Error::Protocol("payload length not in its shortest form")
        || error == Error::Protocol("control frame too long")
    {
        return;
    }
    let more = &theirs[ours.len()..];
    assert!(
        !more.iter().any(|seen| matches!(seen, Seen::Message(..))),
        "{}",
        context()
    );
    match (error.close_code(), their_code) {
        (_, None) | (1002, Some(1002 | 1009)) | (1009, Some(1009)) | (1007, Some(_)) => {}
        // Of a Close it looks at the reason first.
        (1002, Some(1007)) if error == Error::Protocol("close code not allowed on the wire") => {}
        _ => panic!("{}", context()),
    }
}
