//! Bytes to events.

use super::header::{Header, Partial};
use super::message::{CloseFrame, ControlPayload, Event, Payload};
use super::utf8::{self, Validator};
use super::{Error, Limits, Opcode, Role, Utf8, mask, opcode};

/// Decodes one direction of one connection.
///
/// It holds no heap memory but for an incomplete message or control frame, and for those no more
/// than about twice of what has arrived. Headers that promise a lot get nothing for it.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    limits: Limits,
    phase: Phase,
    /// The kind of the message that is arriving.
    open: Option<Opcode>,
    /// What has arrived of it, unless all of it is in the input.
    message: Vec<u8>,
    text: Validator,
    /// What has arrived of a control frame, unless all of it is in the input.
    control: Option<Box<ControlPayload>>,
    discarding: bool,
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
            limits,
            phase: Phase::Header(Partial::EMPTY),
            open: None,
            message: Vec::new(),
            text: Validator::START,
            control: None,
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
            let left = frame.left - piece.len() as u64;
            self.phase = match left {
                0 => Phase::Header(Partial::EMPTY),
                _ => Phase::Payload(Frame {
                    left,
                    key: mask::rotate(frame.key, piece.len()),
                    ..frame
                }),
            };
            if let Some(event) = self.payload(frame, piece)? {
                return Ok(Some(event));
            }
            if left > 0 {
                return Ok(None);
            }
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
        self.open = None;
        self.message = Vec::new();
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
            let limit = self.limits.message_bytes;
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
        let must_be_text = kind == Opcode::Text || self.limits.utf8 == Utf8::Every;
        let is_end = is_last && frame.fin;

        if is_end && self.message.is_empty() {
            if must_be_text {
                utf8::check(piece)?;
            }
            self.open = None;
            return Ok(Some(Event::Message {
                opcode: kind,
                payload: Payload::Borrowed(piece),
            }));
        }
        if must_be_text {
            self.text.feed(piece)?;
        }
        self.store(frame, piece);
        if !is_end {
            return Ok(None);
        }
        self.text.finish()?;
        self.open = None;
        let mut message = std::mem::take(&mut self.message);
        message.shrink_to_fit();
        Ok(Some(Event::Message {
            opcode: kind,
            payload: Payload::Owned(message),
        }))
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
