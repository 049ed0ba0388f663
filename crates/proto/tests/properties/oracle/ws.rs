//! `tungstenite` as the judge of WebSocket streams.

use relay_proto::ws::{Decoder, Error, Event, Filled, Limits, Opcode, Role, Utf8};
use std::io::{self, Read, Write};
use tungstenite::protocol::frame::FrameSocket;
use tungstenite::protocol::frame::coding::{Control, OpCode};
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

/// As strict about text as the library.
pub(crate) const LIMITS: Limits = Limits {
    message_bytes: LIMIT,
    utf8: Utf8::TextOnly,
};

/// One look of a session at its socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The most that it may read now.
    pub(crate) allowed: usize,
    /// What is there.
    pub(crate) there: usize,
    /// It lies in a buffer already: it came behind the request, or behind a message that asked for a pause.
    pub(crate) early: bool,
}

/// A decoder, and what it has seen. It is over at the first Close or error.
struct Reader {
    decoder: Decoder,
    seen: Vec<Seen>,
    error: Option<Error>,
    received: usize,
}

impl Reader {
    fn new(role: Role, limits: Limits) -> Self {
        Self {
            decoder: Decoder::new(role, limits),
            seen: Vec::new(),
            error: None,
            received: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.error.is_some() || matches!(self.seen.last(), Some(Seen::Close(_)))
    }

    /// Decodes what lies in a buffer.
    fn take(&mut self, bytes: &[u8]) {
        self.received += bytes.len();
        let mut buffer = bytes.to_vec();
        self.decode(&mut buffer);
    }

    fn decode(&mut self, mut input: &mut [u8]) {
        while !self.is_over() {
            match self.decoder.decode(&mut input) {
                Ok(Some(event)) => self.seen.push(owned(event)),
                Ok(None) => {
                    assert!(input.is_empty(), "input left over");
                    break;
                }
                Err(error) => self.error = Some(error),
            }
        }
        let most = 2 * self.received + 128;
        assert!(
            self.decoder.held_bytes() <= most,
            "held more than it received"
        );
    }

    /// Reads the front of `bytes`, and returns how much of it, as a session does: large payloads go to their place, whatever
    /// else to a buffer.
    fn read(&mut self, bytes: &[u8], allowed: usize) -> usize {
        // Sometimes there is nothing at first, which may cost it the room.
        if allowed.is_multiple_of(2) && self.decoder.room(allowed).is_some() {
            assert_eq!(self.decoder.filled(0), Ok(Filled::default()));
        }
        let Some((place, room)) = self.decoder.room(allowed) else {
            let read = bytes
                .len()
                .min(allowed.min(self.decoder.read_ahead_bytes()));
            self.take(&bytes[..read]);
            return read;
        };
        let read = bytes.len().min(room);
        place.extend_from_slice(&bytes[..read]);
        self.received += read;
        match self.decoder.filled(read) {
            Ok(Filled { event, mut beyond }) => {
                self.seen.extend(event.map(owned));
                self.decode(beyond.as_mut_slice());
            }
            Err(error) => self.error = Some(error),
        }
        read
    }

    fn outcome(self) -> Outcome {
        (self.seen, self.error)
    }
}

/// What our decoder makes of a stream that arrives in `pieces`.
pub(crate) fn decode<'a>(
    role: Role,
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut reader = Reader::new(role, limits);
    for piece in pieces {
        reader.take(piece);
    }
    reader.outcome()
}

/// The same, read as a session reads it: `looks` in turn.
pub(crate) fn decode_as_session(
    role: Role,
    limits: Limits,
    mut wire: &[u8],
    looks: &[Look],
) -> Outcome {
    let mut reader = Reader::new(role, limits);
    for look in looks.iter().cycle() {
        if wire.is_empty() || reader.is_over() {
            break;
        }
        let there = &wire[..look.there.clamp(1, wire.len())];
        let taken = match look.early {
            true => {
                reader.take(there);
                there.len()
            }
            false => reader.read(there, look.allowed.max(1)),
        };
        wire = &wire[taken..];
    }
    reader.outcome()
}

/// The same, with data messages discarded from the `from`-th byte on.
pub(crate) fn decode_and_discard(role: Role, limits: Limits, wire: &[u8], from: usize) -> Outcome {
    let mut reader = Reader::new(role, limits);
    reader.take(&wire[..from]);
    if !reader.is_over() {
        reader.decoder.discard_messages();
    }
    reader.take(&wire[from..]);
    reader.outcome()
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
fn reference(wire: &[u8], limit: usize) -> (Vec<Seen>, Option<u16>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
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

/// Whether a Close may carry this code, by RFC 6455, section 7.4, and IANA's registry.
pub(crate) fn is_legal_close_code(code: u16) -> bool {
    const UNSENDABLE: [u16; 5] = [1004, 1005, 1006, 1015, 1016];
    match code {
        1000..=1016 => !UNSENDABLE.contains(&code),
        _ => (3000..=4999).contains(&code),
    }
}

/// Whether the first Close of a client's stream, which is all there, is a legal one.
fn is_close_legal(wire: &[u8]) -> bool {
    let mut frames = FrameSocket::new(Wire(wire));
    loop {
        let frame = frames.read(None).expect("a frame").expect("a Close");
        let header = frame.header();
        if header.opcode != OpCode::Control(Control::Close) {
            continue;
        }
        let key = header.mask.expect("a mask").into_iter().cycle();
        let payload = frame.payload().iter().zip(key);
        let payload: Vec<u8> = payload.map(|(byte, key)| byte ^ key).collect();
        return match &payload[..] {
            [] => true,
            [_] => false,
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                is_legal_close_code(code) && std::str::from_utf8(reason).is_ok()
            }
        };
    }
}

/// Panics unless both see the same in a client's stream with messages of up to `message_bytes`.
///
/// Where we find a fault, the library may do so later (it looks at text and limits when a frame is
/// complete), or find another one in the same frame first; but it must not see a message after it.
pub(crate) fn compare(wire: &[u8], message_bytes: usize) {
    let limits = Limits {
        message_bytes,
        ..LIMITS
    };
    let (ours, error) = decode(Role::Server, limits, [wire]);
    let (theirs, their_code) = reference(wire, message_bytes);
    let context = || {
        format!(
            "{}\n{ours:?} {error:?}\n{theirs:?} {their_code:?}",
            wire.escape_ascii()
        )
    };
    let Some(error) = error else {
        assert_eq!(their_code, None, "{}", context());
        // The library doesn't know 1014 yet, and reports codes it refuses as a Close of its own.
        let compared = match ours.last() {
            Some(Seen::Close(Some((1014, _)))) => ours.len() - 1,
            _ => ours.len().max(theirs.len()),
        };
        let front = |seen: &[Seen]| seen.iter().take(compared).cloned().collect::<Vec<_>>();
        assert_eq!(front(&ours), front(&theirs), "{}", context());
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
    // What it saw is the Close in which we found the fault, or one behind it.
    if matches!(more.last(), Some(Seen::Close(_))) {
        assert!(!is_close_legal(wire), "{}", context());
    }
    match (error.close_code(), their_code) {
        (_, None) | (1002, Some(1002 | 1009)) | (1009, Some(1009)) | (1007, Some(_)) => {}
        // Of a Close it looks at the reason first.
        (1002, Some(1007)) if error == Error::Protocol("close code not allowed on the wire") => {}
        _ => panic!("{}", context()),
    }
}
