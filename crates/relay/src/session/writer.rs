//! The one writer of a connection: takes items from the outbox in batches and writes them vectored.

use super::item::{Item, Meaning};
use super::peer::Peer;
use super::stock::{self, Ring};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Items taken from the outbox at once.
const BATCH_ITEMS: usize = 64;

/// Parts handed to the kernel at once.
const SLICES: usize = 64;

/// Items for which an idle writer keeps room.
const KEPT_ITEMS: usize = 4;

/// Pings and pongs that may wait in front of a full socket.
const MAX_CONTROLS: usize = 16;

/// Items on their way into the socket, oldest first.
#[derive(Debug, Default)]
pub(super) struct Writer {
    items: Ring,
    /// Bytes of the oldest item that are written.
    offset: usize,
}

impl Writer {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Items that are not written to their last byte.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether an item is written in part.
    pub(super) fn is_mid_item(&self) -> bool {
        self.offset > 0
    }

    /// Takes what waits in the outbox.
    pub(super) fn refill(&mut self, peer: &Peer) {
        if self.items.len() >= BATCH_ITEMS {
            return;
        }
        let mut inner = peer.lock();
        if self.items.is_empty() && inner.outbox.len() <= BATCH_ITEMS {
            inner.outbox.swap(&mut self.items);
            return;
        }
        let waiting = inner.outbox.len().min(BATCH_ITEMS - self.items.len());
        self.items.reserve(waiting);
        while self.items.len() < BATCH_ITEMS {
            let Some(popped) = inner.outbox.pop() else {
                break;
            };
            self.items.push_back(popped);
        }
    }

    /// Whether another control frame may be put in. A peer that pings and doesn't read can make the
    /// relay hold this many replies, and no more: the next one replaces the one before.
    pub(super) fn takes_controls(&self) -> bool {
        self.waiting_controls() < MAX_CONTROLS
    }

    /// Control frames in front of everything that is not on the wire yet.
    fn waiting_controls(&self) -> usize {
        let waiting = self.items.iter().skip(usize::from(self.is_mid_item()));
        waiting
            .take_while(|(item, _)| matches!(item.meaning, Meaning::Control))
            .count()
    }

    /// Puts a control frame behind those that wait, and in front of everything else.
    pub(super) fn push_control(&mut self, item: Item) {
        let position = usize::from(self.is_mid_item()) + self.waiting_controls();
        self.items.insert(position, (item, 0));
    }

    /// Gives up what is not on the wire. With `finish_item` an item that is written in part stays, so
    /// that the frame is completed; without, it is given up like the others.
    pub(super) fn take(&mut self, finish_item: bool) -> Ring {
        let mut items = std::mem::take(&mut self.items);
        if finish_item && self.is_mid_item() {
            self.items.extend(items.pop_front());
        } else {
            self.offset = 0;
        }
        items
    }

    /// What the items had cost of the outbox that are written to their last byte.
    pub(super) fn written_bytes(&self) -> usize {
        let mut offset = self.offset;
        let written = self.items.iter().map_while(|(item, cost)| {
            offset = offset.checked_sub(item.len())?;
            Some(cost)
        });
        written.sum()
    }

    /// The next item that is written to its last byte.
    pub(super) fn pop_written(&mut self) -> Option<(Item, usize)> {
        let (front, _) = self.items.front()?;
        if self.offset < front.len() {
            return None;
        }
        self.offset -= front.len();
        let written = self.items.pop_front();
        if self.items.is_empty() && self.items.capacity() > KEPT_ITEMS {
            stock::give_back(std::mem::take(&mut self.items));
        }
        written
    }

    /// What the first item means that is more than a ping or pong.
    pub(super) fn meaning(&self) -> Option<&Meaning> {
        let mut meanings = self.items.iter().map(|(item, _)| &item.meaning);
        meanings.find(|meaning| !matches!(meaning, Meaning::Control))
    }

    /// What is to be written, none of it empty.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.offset;
        let parts = self.items.iter().flat_map(|(item, _)| item.parts());
        parts.filter_map(move |part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            Some(&part[skipped..]).filter(|rest| !rest.is_empty())
        })
    }

    /// Writes once, and says how many bytes. Items may be complete afterwards: see [`Self::pop_written`].
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(self.parts()) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        let written = ready!(Pin::new(socket).poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.offset += written;
        Poll::Ready(Ok(written))
    }
}
