//! One thing on its way to a peer: the bytes of a WebSocket frame, and what its arrival means.

use super::peer::Peer;
use super::stamp::Stamp;
use super::stock::Buffer;
use relay_core::limits::OUTBOX_ITEM_BYTES;
use relay_proto::envelope;
use relay_proto::ws::{ControlFrame, Opcode, Payload, data_header, text_header};
use std::ops::Range;
use std::sync::Arc;

/// Payloads up to this many bytes are copied next to their header: one buffer is cheaper to write
/// than two. Larger ones that already own their allocation are moved, never copied.
const COPY_BYTES: usize = 2048;

/// What has happened once an item is written.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// A ping, pong or close frame.
    Control,
    /// A phone's frame reached the binary.
    Forwarded,
    /// A close notice reached the binary.
    Notice,
    /// A frame reached the phone.
    Delivered,
    /// A close directive: its frame, if it has one, reached the phone, which is closed now.
    Directive {
        /// The code to close with.
        code: u16,
        /// It has a frame, which is counted.
        with_frame: bool,
    },
}

/// The bytes of one WebSocket frame in up to three parts, written front to back.
#[derive(Debug)]
pub(crate) struct Item {
    head: Buffer,
    body: Vec<u8>,
    span: Range<usize>,
    tail: &'static [u8],
    pub(crate) meaning: Meaning,
    /// When its frame was read, if that is among the sampled ones.
    pub(crate) read_at: Option<Stamp>,
    /// Gives the sender room again when this item is gone, written or not.
    pub(crate) credit: Option<Credit>,
}

impl Item {
    fn whole(head: Buffer, meaning: Meaning) -> Self {
        Self {
            head,
            body: Vec::new(),
            span: 0..0,
            tail: b"",
            meaning,
            read_at: None,
            credit: None,
        }
    }

    /// As read at this moment.
    pub(crate) fn read_at(self, read_at: Option<Stamp>) -> Self {
        Self { read_at, ..self }
    }

    pub(crate) fn control(frame: &ControlFrame) -> Self {
        Self::whole(Buffer::concat([frame]), Meaning::Control)
    }

    /// The envelope of a phone's frame: `prefix`, the frame's own bytes, a closing brace.
    pub(crate) fn envelope(prefix: &[u8], frame: Payload<'_>, credit: Credit) -> Self {
        let length = prefix.len() + frame.len() + envelope::SUFFIX.len();
        let header = text_header(length);
        let item = match frame {
            Payload::Owned(body) if body.len() > COPY_BYTES => Self {
                head: Buffer::concat([&header, prefix]),
                span: 0..body.len(),
                body,
                tail: envelope::SUFFIX,
                meaning: Meaning::Forwarded,
                read_at: None,
                credit: None,
            },
            frame => {
                let bytes = Buffer::concat([&header, prefix, &frame, envelope::SUFFIX]);
                Self::whole(bytes, Meaning::Forwarded)
            }
        };
        Self {
            credit: Some(credit),
            ..item
        }
    }

    /// A text message to a phone: the bytes `span` of `message`.
    pub(crate) fn frame(message: Payload<'_>, span: Range<usize>, meaning: Meaning) -> Self {
        let header = text_header(span.len());
        match message {
            // Moved only if it is most of its message: what is queued must not cost much more than it
            // is charged.
            Payload::Owned(body) if span.len() > COPY_BYTES.max(body.len() / 2) => Self {
                head: Buffer::concat([&header]),
                body,
                span,
                tail: b"",
                meaning,
                read_at: None,
                credit: None,
            },
            message => Self::whole(Buffer::concat([&header, &message[span]]), meaning),
        }
    }

    /// Nothing to write, only to do: a close directive without a frame.
    pub(crate) fn bare(meaning: Meaning) -> Self {
        Self::whole(Buffer::default(), meaning)
    }

    /// A message of either kind, whole.
    pub(crate) fn message(opcode: Opcode, message: Payload<'_>, meaning: Meaning) -> Self {
        let header = data_header(opcode, message.len());
        Self {
            span: 0..message.len(),
            head: Buffer::concat([&header]),
            body: message.into_vec(),
            ..Self::whole(Buffer::default(), meaning)
        }
    }

    /// A text message to a binary that no phone sent.
    pub(crate) fn notice(text: &[u8]) -> Self {
        Self::whole(
            Buffer::concat([&text_header(text.len()), text]),
            Meaning::Notice,
        )
    }

    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.span.len() + self.tail.len()
    }

    /// What to write, front to back.
    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        [&self.head, &self.body[self.span.clone()], self.tail]
    }
}

/// A phone's share of its binary's queue: taken when a frame is queued, given back when the frame
/// is written or dropped. While a phone has used up its window nothing more is read from it.
#[derive(Debug)]
pub(crate) struct Credit {
    pub(crate) phone: Arc<Peer>,
    /// The frame's own length.
    pub(crate) frame_bytes: u32,
    /// What is charged on top of it.
    overhead_bytes: u32,
}

impl Credit {
    /// For a frame of `frame_bytes` that is queued in an envelope that adds `envelope_bytes`.
    pub(crate) fn take(phone: &Arc<Peer>, frame_bytes: usize, envelope_bytes: usize) -> Self {
        // Larger ones than 4 GiB have no message to be in.
        let short = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        let credit = Self {
            phone: phone.clone(),
            frame_bytes: short(frame_bytes),
            overhead_bytes: short(envelope_bytes + OUTBOX_ITEM_BYTES),
        };
        phone.window.take(credit.bytes());
        credit
    }

    /// What the phone is charged.
    pub(crate) fn bytes(&self) -> usize {
        self.frame_bytes as usize + self.overhead_bytes as usize
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if self.phone.window.give_back(self.bytes()) {
            self.phone.waker.wake();
        }
    }
}
