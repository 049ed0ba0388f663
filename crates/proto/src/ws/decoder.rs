//! Bytes to events.

use super::header::{Header, Partial};
use super::message::{CloseFrame, ControlPayload, Event, Payload};
use super::utf8::{self, Validator};
use super::{Error, Limits, MAX_HEADER_BYTES, Opcode, Role, Utf8, mask, opcode};

/// So many bytes of payload are worth a read of their own: it costs about what copying them does.
const LARGE_BYTES: usize = 16 * 1024;

/// So much room for payload is read into before more is made: a peer that sends a few bytes at a time would have what has
/// arrived moved again with each of them.
const ROOM_LEFT_BYTES: usize = LARGE_BYTES / 2;

/// Bytes unmasked and checked at once, so that they are in the nearest cache for both.
const CACHED_BYTES: usize = 8 * 1024;

/// Decodes one direction of one connection.
///
/// It holds no heap memory but for an incomplete message or control frame, and for those no more
/// than about twice of what has arrived. Headers that promise a lot get nothing for it.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    /// The fields of [`Limits`], without its padding.
    message_bytes: usize,
    utf8: Utf8,
    phase: Phase,
    /// The kind of the message that is arriving.
    open: Option<Opcode>,
    /// What has arrived of it, unless all of it is in the input.
    message: Vec<u8>,
    text: Validator,
    /// What has arrived of a control frame, unless all of it is in the input.
    control: Option<Box<ControlPayload>>,
    /// How long the last message was, if it was a large one in a single frame; otherwise 0.
    last_large_bytes: u32,
    discarding: bool,
}

/// What [`Decoder::filled`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The message that is complete with it.
    pub event: Option<Event<'static>>,
    /// What was read behind its payload, for [`Decoder::decode`].
    pub beyond: Beyond,
}

/// A few bytes of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    bytes: [u8; MAX_HEADER_BYTES],
    len: u8,
}

impl Beyond {
    /// The front of `bytes`, which are no more than a header may have.
    fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(MAX_HEADER_BYTES);
        let mut beyond = Self {
            len: len as u8,
            ..Self::default()
        };
        beyond.bytes[..len].copy_from_slice(&bytes[..len]);
        beyond
    }

    /// As they were read.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len)]
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Header(Partial),
    Payload(Frame),
}

/// A frame whose payload is arriving.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Payload bytes still to come.
    left: u64,
    /// The mask, as it applies to the next of them.
    key: [u8; 4],
    opcode: u8,
    fin: bool,
}

impl Decoder {
    /// A decoder for the side that plays `role`.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            message_bytes: limits.message_bytes,
            utf8: limits.utf8,
            phase: Phase::Header(Partial::EMPTY),
            open: None,
            message: Vec::new(),
            text: Validator::START,
            control: None,
            last_large_bytes: 0,
            discarding: false,
        }
    }

    /// Takes the next event from the front of `input`, which is advanced past the bytes taken. The
    /// payload of a message that is complete in `input` is unmasked in place and borrowed from it.
    ///
    /// `Ok(None)`: all of `input` was taken, and more is needed. How the stream is cut into inputs
    /// makes no difference to the events and errors.
    ///
    /// # Errors
    /// As soon as the bytes that show a violation are there. Nothing after it can be decoded: the
    /// decoder must not be asked again.
    pub fn decode<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            let frame = match &mut self.phase {
                Phase::Payload(frame) => *frame,
                Phase::Header(partial) => {
                    let Some((header, taken)) = partial.take(input, self.role)? else {
                        *input = &mut [];
                        return Ok(None);
                    };
                    take_front(input, taken);
                    self.begin(header)?
                }
            };
            let available = input
                .len()
                .min(usize::try_from(frame.left).unwrap_or(usize::MAX));
            let piece = take_front(input, available);
            let left = self.advance(frame, piece.len());
            if let Some(event) = self.payload(frame, piece)? {
                return Ok(Some(event));
            }
            if left > 0 {
                return Ok(None);
            }
        }
    }

    /// How many bytes the next [`decode`](Self::decode) should get at most. That matters only to a caller that
    /// uses [`room`](Self::room): after a large message no more than the next header is read, so that the
    /// payload behind it can be read to its place.
    pub fn read_ahead_bytes(&self) -> usize {
        if self.last_large_bytes == 0 {
            return usize::MAX;
        }
        let left = match self.phase {
            Phase::Payload(frame) => usize::try_from(frame.left).unwrap_or(usize::MAX),
            Phase::Header(_) => 0,
        };
        left.saturating_add(MAX_HEADER_BYTES)
    }

    /// Where the next bytes of the stream belong, and how many of them, if they are much payload: append some of them there
    /// instead of handing them to [`decode`](Self::decode), then call [`filled`](Self::filled), also if there
    /// were none.
    ///
    /// There is as much room as has arrived of the message, or as the last one was long, and no more than `most_bytes`; behind
    /// all of the payload also for the next header, so that a stream of large messages takes one read for each. There may be
    /// less, while there is enough: what has arrived is moved about once for each 8 KiB that come, however small the pieces.
    pub fn room(&mut self, most_bytes: usize) -> Option<(&mut Vec<u8>, usize)> {
        let Phase::Payload(frame) = self.phase else {
            return None;
        };
        // Not of a control frame, and not while discarding.
        if frame.opcode >= opcode::CLOSE || self.open.is_none() {
            return None;
        }
        let earned = self.message.len().max(self.last_large_bytes as usize);
        let earned = earned.min(most_bytes);
        let bytes = usize::try_from(frame.left).map_or(earned, |left| left.min(earned));
        if bytes < LARGE_BYTES {
            return None;
        }
        let room = match bytes as u64 == frame.left {
            true => bytes + MAX_HEADER_BYTES,
            false => bytes,
        };
        let spare_bytes = self.message.capacity() - self.message.len();
        if self.last_large_bytes == 0 && spare_bytes >= ROOM_LEFT_BYTES {
            return Some((&mut self.message, room.min(spare_bytes)));
        }
        self.message.reserve_exact(room);
        Some((&mut self.message, room))
    }

    /// Takes the `bytes` bytes that were appended to what [`room`](Self::room) gave, as
    /// [`decode`](Self::decode) would have, but for those behind the payload, and gives back the memory that was too much.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn filled(&mut self, bytes: usize) -> Result<Filled, Error> {
        let (Phase::Payload(frame), Some(kind)) = (self.phase, self.open) else {
            return Ok(Filled::default());
        };
        let start = self.message.len().saturating_sub(bytes);
        let end = usize::try_from(frame.left).map_or(usize::MAX, |left| start.saturating_add(left));
        let beyond = Beyond::new(self.message.get(end..).unwrap_or_default());
        self.message.truncate(end);
        let event = self.filled_payload(frame, kind, start)?;
        Ok(Filled { event, beyond })
    }

    /// Takes what the message has from `start` on, all of it payload.
    fn filled_payload(
        &mut self,
        frame: Frame,
        kind: Opcode,
        start: usize,
    ) -> Result<Option<Event<'static>>, Error> {
        let must_be_text = self.must_be_text(kind);
        // A multiple of the key's length: it applies to each piece as to the first.
        for piece in self.message[start..].chunks_mut(CACHED_BYTES) {
            unmask(frame.key, piece);
            if must_be_text {
                self.text.feed(piece)?;
            }
        }
        let read = self.message.len() - start;
        if self.advance(frame, read) > 0 {
            // It is not like the last one, which came faster.
            if read < LARGE_BYTES && !self.message.is_empty() {
                self.last_large_bytes = 0;
            }
            self.message.shrink_to(2 * self.message.len());
            return Ok(None);
        }
        match frame.fin {
            true => self.finish(frame, kind).map(Some),
            false => Ok(None),
        }
    }

    /// True from the arrival of a data message's first header until its message event: the time
    /// that a read deadline limits.
    pub fn mid_message(&self) -> bool {
        self.open.is_some()
    }

    /// Bytes of heap memory held now.
    pub fn held_bytes(&self) -> usize {
        self.message.capacity() + self.control.as_deref().map_or(0, size_of_val)
    }

    /// From now on data messages are skipped: not stored, not limited, not checked beyond their
    /// frame headers. Only control events come out. For the time after we sent our Close, when the
    /// peer's is still to be found behind whatever it had sent before.
    pub fn discard_messages(&mut self) {
        self.discarding = true;
        // Nothing of what comes is worth a place of its own.
        self.last_large_bytes = 0;
        self.open = None;
        self.message = Vec::new();
    }

    /// Notes that `taken` bytes of the payload of `frame` were taken. Returns how many are left.
    fn advance(&mut self, frame: Frame, taken: usize) -> u64 {
        let left = frame.left.saturating_sub(taken as u64);
        self.phase = match left {
            0 => Phase::Header(Partial::EMPTY),
            _ => Phase::Payload(Frame {
                left,
                key: mask::rotate(frame.key, taken),
                ..frame
            }),
        };
        left
    }

    fn must_be_text(&self, kind: Opcode) -> bool {
        kind == Opcode::Text || self.utf8 == Utf8::Every
    }

    /// Checks a header against what came before it.
    fn begin(&mut self, header: Header) -> Result<Frame, Error> {
        let Header {
            fin,
            opcode,
            key,
            payload_bytes,
        } = header;
        if !header.is_control() && !self.discarding {
            self.open = Some(match (opcode, self.open) {
                (opcode::CONTINUATION, Some(kind)) => kind,
                (opcode::CONTINUATION, None) => {
                    return Err(Error::Protocol("continuation of no message"));
                }
                (_, Some(_)) => return Err(Error::Protocol("new message inside a fragmented one")),
                (opcode::TEXT, None) => Opcode::Text,
                (_, None) => Opcode::Binary,
            });
            let limit = self.message_bytes;
            if payload_bytes > limit.saturating_sub(self.message.len()) as u64 {
                return Err(Error::TooBig { limit });
            }
        }
        Ok(Frame {
            left: payload_bytes,
            key,
            opcode,
            fin,
        })
    }

    /// Takes the next piece of the payload of `frame`, of which `frame.left` bytes were missing.
    fn payload<'a>(
        &mut self,
        frame: Frame,
        piece: &'a mut [u8],
    ) -> Result<Option<Event<'a>>, Error> {
        let is_last = piece.len() as u64 == frame.left;
        if frame.opcode >= opcode::CLOSE {
            return self.control(frame, piece, is_last);
        }
        let Some(kind) = self.open else {
            return Ok(None);
        }; // discarding
        unmask(frame.key, piece);
        let must_be_text = self.must_be_text(kind);
        let is_end = is_last && frame.fin;

        if is_end && self.message.is_empty() {
            if must_be_text {
                utf8::check(piece)?;
            }
            self.open = None;
            self.note_length(frame, piece.len());
            return Ok(Some(Event::Message {
                opcode: kind,
                payload: Payload::Borrowed(piece),
            }));
        }
        if must_be_text {
            self.text.feed(piece)?;
        }
        self.store(frame, piece);
        match is_end {
            true => self.finish(frame, kind).map(Some),
            false => Ok(None),
        }
    }

    /// The message is complete with this frame.
    fn finish(&mut self, frame: Frame, kind: Opcode) -> Result<Event<'static>, Error> {
        self.text.finish()?;
        self.open = None;
        let mut message = std::mem::take(&mut self.message);
        // What the next header had room for is not worth a call of the allocator, where it is little beside the message.
        let spare_bytes = match message.len() {
            ..LARGE_BYTES => 0,
            _ => MAX_HEADER_BYTES,
        };
        message.shrink_to(message.len() + spare_bytes);
        self.note_length(frame, message.len());
        Ok(Event::Message {
            opcode: kind,
            payload: Payload::Owned(message),
        })
    }

    /// The next message may be like the one that ends with this frame.
    fn note_length(&mut self, frame: Frame, message_bytes: usize) {
        let is_large = frame.opcode != opcode::CONTINUATION && message_bytes >= LARGE_BYTES;
        self.last_large_bytes = match is_large {
            true => u32::try_from(message_bytes).unwrap_or(u32::MAX),
            false => 0,
        };
    }

    /// Appends to the message. Room grows by doubling what arrived, but not beyond the end of the
    /// message once that is known, so that its memory is exact when it is handed over.
    fn store(&mut self, frame: Frame, piece: &[u8]) {
        let stored = self.message.len();
        let needed = stored + piece.len();
        if needed > self.message.capacity() {
            let mut room = needed.max(2 * self.message.capacity());
            if frame.fin {
                // No truncation: the frame fits the limit, which is a usize.
                room = room.min(stored + frame.left as usize);
            }
            self.message.reserve_exact(room - stored);
        }
        self.message.extend_from_slice(piece);
    }

    fn control<'a>(
        &mut self,
        frame: Frame,
        piece: &mut [u8],
        is_last: bool,
    ) -> Result<Option<Event<'a>>, Error> {
        unmask(frame.key, piece);
        self.last_large_bytes = 0;
        let payload = match (self.control.take(), is_last) {
            (None, true) => ControlPayload::new(piece),
            (Some(mut started), true) => {
                started.append(piece);
                *started
            }
            (started, false) => {
                if started.is_some() || !piece.is_empty() {
                    let mut started = started.unwrap_or_else(|| Box::new(ControlPayload::EMPTY));
                    started.append(piece);
                    self.control = Some(started);
                }
                return Ok(None);
            }
        };
        Ok(Some(match frame.opcode {
            opcode::PING => Event::Ping(payload),
            opcode::PONG => Event::Pong(payload),
            _ => Event::Close(CloseFrame::parse(&payload)?),
        }))
    }
}

/// Cuts `n` bytes off the front.
fn take_front<'a>(input: &mut &'a mut [u8], n: usize) -> &'a mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(n);
    *input = rest;
    front
}

fn unmask(key: [u8; 4], piece: &mut [u8]) {
    if key != [0; 4] {
        mask::apply(key, 0, piece);
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
