//! Memory that the sessions of a worker thread hand to each other instead of to the allocator and back: the bytes of
//! queued frames, and the rings of busy queues. Where it goes is what is warm, and a frame of up to
//! [`MOST_BYTES`] costs no allocation (`docs/performance.md`).
//!
//! A thread's stock is bounded, and does not grow with its connections. Frames that are written by another thread than
//! the one that read them move memory from one stock to the other; what is beyond the bound is freed.

use super::item::Item;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Deref;

/// Where items wait, with what each costs.
pub(crate) type Ring = VecDeque<(Item, usize)>;

/// Shorter ones the allocator has at hand itself.
const LEAST_BYTES: usize = 128;

/// Longer ones are rare beside the time that their bytes take.
const MOST_BYTES: usize = 8 * 1024;

/// What the buffers in a thread's stock may hold together.
const STOCK_BYTES: usize = 512 * 1024;

/// Rings in a thread's stock, and entries of each of them: some 200 KiB at the most.
const RINGS: usize = 32;
const RING_ITEMS: usize = 64;

thread_local!(static STOCK: RefCell<Stock> = const { RefCell::new(Stock::new()) });

/// Bytes whose memory goes back to the stock.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// These parts, one behind the other.
    pub(crate) fn concat<const N: usize>(parts: [&[u8]; N]) -> Self {
        let bytes = parts.iter().map(|part| part.len()).sum();
        let mut buffer = match Class::of(bytes) {
            Some(class) => with_stock(|stock| stock.take(class))
                .flatten()
                .unwrap_or_else(|| Vec::with_capacity(class.bytes())),
            None => Vec::with_capacity(bytes),
        };
        parts.iter().for_each(|part| buffer.extend_from_slice(part));
        Self(buffer)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(class) = Class::of(self.0.capacity()) else {
            return;
        };
        let mut memory = std::mem::take(&mut self.0);
        memory.clear();
        with_stock(|stock| stock.give_back(class, memory));
    }
}

/// Room for many items, if there is any in stock.
pub(crate) fn ring() -> Option<Ring> {
    with_stock(|stock| stock.rings.pop()).flatten()
}

/// Gives back what [`ring`] gave, or a ring that grew; it must be empty.
pub(crate) fn give_back(ring: Ring) {
    with_stock(|stock| {
        if stock.rings.len() < RINGS && ring.is_empty() && ring.capacity() <= RING_ITEMS {
            stock.rings.push(ring);
        }
    });
}

/// `None` at the end of a thread, when its stock is gone already.
fn with_stock<T>(work: impl FnOnce(&mut Stock) -> T) -> Option<T> {
    STOCK
        .try_with(|stock| {
            stock
                .try_borrow_mut()
                .ok()
                .map(|mut stock| work(&mut stock))
        })
        .ok()
        .flatten()
}

/// Lengths that share their buffers: eight for each doubling, so that what a queue is charged and what it takes differ
/// by an eighth at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class(usize);

impl Class {
    const STEPS: usize = 8;
    const COUNT: usize = (MOST_BYTES / LEAST_BYTES).ilog2() as usize * Self::STEPS + 1;

    /// The class whose buffers hold so many bytes.
    fn of(bytes: usize) -> Option<Self> {
        if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes) {
            return None;
        }
        let octave = bytes.ilog2();
        let step = (1 << octave) / Self::STEPS;
        let steps = (bytes - (1 << octave)).div_ceil(step);
        Some(Self(
            (octave - LEAST_BYTES.ilog2()) as usize * Self::STEPS + steps,
        ))
    }

    /// What its buffers hold.
    const fn bytes(self) -> usize {
        let octave = LEAST_BYTES << (self.0 / Self::STEPS);
        octave + self.0 % Self::STEPS * (octave / Self::STEPS)
    }
}

#[derive(Debug)]
struct Stock {
    buffers: [Vec<Vec<u8>>; Class::COUNT],
    bytes: usize,
    rings: Vec<Ring>,
}

impl Stock {
    const fn new() -> Self {
        Self {
            buffers: [const { Vec::new() }; Class::COUNT],
            bytes: 0,
            rings: Vec::new(),
        }
    }

    /// The last one that came in: its memory is the warmest.
    fn take(&mut self, class: Class) -> Option<Vec<u8>> {
        let buffer = self.buffers[class.0].pop()?;
        self.bytes -= class.bytes();
        Some(buffer)
    }

    /// A full stock takes nothing more, unless it has none of this class: then it is of lengths that nobody asks for any
    /// more, and is emptied first.
    fn give_back(&mut self, class: Class, buffer: Vec<u8>) {
        if self.bytes + class.bytes() > STOCK_BYTES {
            if !self.buffers[class.0].is_empty() {
                return;
            }
            self.buffers
                .iter_mut()
                .for_each(|buffers| *buffers = Vec::new());
            self.bytes = 0;
        }
        self.buffers[class.0].push(buffer);
        self.bytes += class.bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stocked_bytes() -> usize {
        STOCK.with_borrow(|stock| {
            let lists = stock.buffers.iter().flatten();
            let bytes = lists.map(Vec::capacity).sum();
            assert_eq!(bytes, stock.bytes);
            bytes
        })
    }

    #[test]
    fn a_class_holds_its_lengths_and_little_more() {
        let mut last = 0;
        for bytes in LEAST_BYTES..=MOST_BYTES {
            let class = Class::of(bytes).unwrap();
            assert!(
                class.bytes() >= bytes && class.bytes() * 8 <= bytes * 9,
                "{bytes}"
            );
            assert_eq!(Class::of(class.bytes()), Some(class));
            assert!(class.0 == last || class.0 == last + 1);
            last = class.0;
        }
        assert_eq!(last + 1, Class::COUNT);
        assert_eq!(Class::of(LEAST_BYTES - 1), None);
        assert_eq!(Class::of(MOST_BYTES + 1), None);
    }

    #[test]
    fn what_is_dropped_is_used_again_and_shows_nothing_of_before() {
        let first = Buffer::concat([&[b'x'; 300]]);
        let memory = first.as_ptr();
        drop(first);
        let second = Buffer::concat([b"ab", &[b'y'; 290], b"z"]);
        assert_eq!(second.as_ptr(), memory);
        assert_eq!(*second, [&b"ab"[..], &[b'y'; 290], b"z"].concat());
        assert_eq!(stocked_bytes(), 0);
    }

    #[test]
    fn a_stock_is_bounded_whatever_comes_back() {
        for bytes in [200, 4_200, 8_192, 8_193, 100] {
            let many: Vec<_> = (0..STOCK_BYTES / 100)
                .map(|_| Buffer::concat([&vec![0; bytes]]))
                .collect();
            drop(many);
            assert!(stocked_bytes() <= STOCK_BYTES);
            if let Some(class) = Class::of(bytes) {
                assert!(stocked_bytes() > STOCK_BYTES - class.bytes());
            }
        }
        for capacity in (0..2 * RINGS).map(|n| 2 * n) {
            give_back(Ring::with_capacity(capacity));
        }
        let rings: Vec<_> = std::iter::from_fn(ring).collect();
        assert_eq!(rings.len(), RINGS);
        assert!(rings.iter().all(|ring| ring.capacity() <= RING_ITEMS));
    }
}
