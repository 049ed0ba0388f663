//! One direction of a connection: bytes on their way, and bytes that have arrived and are not read.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;

/// What a path is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// From one end to the other.
    pub(crate) latency: Duration,
    /// Bytes per second.
    pub(crate) rate: u64,
    /// Bytes that are written and not read, at most: both kernels' buffers and the wire.
    pub(crate) buffer: usize,
}

/// A stall without end.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
struct Segment {
    at: Instant,
    /// `None`: the end of the stream.
    bytes: Option<Vec<u8>>,
    read: usize,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) path: Path,
    segments: VecDeque<Segment>,
    queued: usize,
    last_at: Instant,
    /// Nothing arrives before this, from `held_from` on.
    held_until: Instant,
    held_from: Instant,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Nobody reads any more.
    pub(super) deserted: bool,
    /// The end of the stream is written.
    pub(super) finished: bool,
}

impl Pipe {
    pub(super) fn new(path: Path) -> Self {
        let now = Instant::now();
        Self {
            path,
            segments: VecDeque::new(),
            queued: 0,
            last_at: now,
            held_until: now,
            held_from: now,
            reader: None,
            writer: None,
            deserted: false,
            finished: false,
        }
    }

    /// When something arrives that sets out at `from`, behind everything that set out before.
    pub(super) fn arrival(&self, from: Instant, bytes: usize) -> Instant {
        let wire = Duration::from_micros(bytes as u64 * 1_000_000 / self.path.rate.max(1));
        let at = (from + self.path.latency).max(self.last_at + wire);
        if self.is_held() {
            at.max(self.held_until)
        } else {
            at
        }
    }

    fn is_held(&self) -> bool {
        self.held_until > Instant::now()
    }

    /// Nothing arrives for this long. What has arrived already can be read.
    pub(super) fn hold(&mut self, time: Duration) {
        let now = Instant::now();
        if !self.is_held() {
            self.held_from = now;
        }
        self.held_until = self.held_until.max(now + time);
        for segment in self.segments.iter_mut().filter(|segment| segment.at > now) {
            segment.at = segment.at.max(self.held_until);
            self.last_at = self.last_at.max(segment.at);
        }
        self.wake();
    }

    /// Whoever waits has to look again.
    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    pub(super) fn room(&self) -> usize {
        self.path.buffer.saturating_sub(self.queued)
    }

    /// Takes bytes, or the end of the stream.
    pub(super) fn push(&mut self, bytes: Option<Vec<u8>>) {
        let length = bytes.as_ref().map_or(0, Vec::len);
        let at = self.arrival(Instant::now(), length);
        self.finished |= bytes.is_none();
        self.last_at = at;
        self.queued += length;
        self.segments.push_back(Segment { at, bytes, read: 0 });
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Sends bytes to where nobody reads any more. Returns when they arrive there.
    pub(super) fn waste(&mut self, bytes: usize) -> Instant {
        self.last_at = self.arrival(Instant::now(), bytes);
        if self.is_held() {
            // They wait in the sender's kernel, and fill it.
            self.queued += bytes;
        }
        self.last_at
    }

    /// When the next bytes can be read, or the end of the stream.
    pub(super) fn readable_at(&self) -> Option<Instant> {
        self.segments.front().map(|segment| segment.at)
    }

    /// Reads what has arrived, at most so much. Empty: the end of the stream. `None`: nothing is there.
    pub(super) fn pop(&mut self, most: usize) -> Option<Vec<u8>> {
        let segment = self
            .segments
            .front_mut()
            .filter(|s| s.at <= Instant::now())?;
        let Some(bytes) = &segment.bytes else {
            // It stays the end, however often somebody asks.
            return Some(Vec::new());
        };
        let rest = &bytes[segment.read..];
        let part = rest[..most.min(rest.len())].to_vec();
        segment.read += part.len();
        if segment.read == bytes.len() {
            self.segments.pop_front();
        }
        self.queued -= part.len();
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Some(part)
    }

    /// Drops what is here, and says when the first of it arrives: data that nobody will read is answered with a reset.
    pub(super) fn desert(&mut self) -> Option<Instant> {
        self.deserted = true;
        let first = self.segments.iter().find(|segment| segment.bytes.is_some());
        let first = first.map(|segment| segment.at.max(Instant::now()));
        self.segments.clear();
        self.queued = 0;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        first
    }

    /// For how long bytes have been under way without an acknowledgement, which comes back by `back`; `None`: all are
    /// acknowledged.
    pub(super) fn unacknowledged_for(&self, back: &Self) -> Option<Duration> {
        let now = Instant::now();
        let under_way = self.last_at + back.path.latency > now;
        if self.is_held() && self.last_at > now {
            return Some(now - self.held_from);
        }
        if back.is_held() && self.last_at + back.path.latency > back.held_from {
            return Some(now - back.held_from);
        }
        under_way.then_some(self.path.latency)
    }
}
