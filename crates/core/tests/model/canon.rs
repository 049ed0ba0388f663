//! What a state is, apart from its names and the date: a digest that is equal for states that behave alike.
//!
//! A derived [`Hash`] writes every field of a value, in order. [`Digest`] listens, and gives each connection and each
//! instance the number of its first appearance, and each moment as the time that is left until then. What is over is
//! over: the core compares moments with the present only, so all past moments are one. Numbers of probes (the only
//! `u32`s that change) are left out: they grow in the order of the claims, which the rules check.

use std::hash::{DefaultHasher, Hasher};

use relay_core::{Conn, Millis};

/// Connections have numbers from here on, so that they cannot be taken for anything else.
pub(crate) const FIRST_CONN: u64 = 1 << 48;

/// The clock starts here: later than any duration is long.
pub(crate) const START: Millis = Millis(1 << 32);

/// The bytes of instance `n`.
pub(crate) const fn instance_bytes(n: u8) -> [u8; 2] {
    [INSTANCE, n]
}

/// Added to how long ago a moment was.
const PAST: u64 = 1 << 40;

/// Marks an instance: no letter of a server-id.
const INSTANCE: u8 = 0xfe;

pub(crate) struct Digest {
    now: Millis,
    /// Longer ago than this is long ago.
    past_ms: u64,
    low: DefaultHasher,
    high: DefaultHasher,
    /// In the order of their first appearance.
    pub(crate) conns: Vec<Conn>,
    instances: Vec<u8>,
}

impl Digest {
    pub(crate) fn new(now: Millis, past_ms: u64) -> Self {
        let mut high = DefaultHasher::new();
        high.write_u8(1);
        Self {
            now,
            past_ms,
            low: DefaultHasher::new(),
            high,
            conns: Vec::new(),
            instances: Vec::new(),
        }
    }

    /// A word that means the same in every state.
    pub(crate) fn word(&mut self, word: u64) {
        self.low.write_u64(word);
        self.high.write_u64(word);
    }

    /// How far off a moment is.
    pub(crate) fn moment(&self, at: Millis) -> u64 {
        match self.now.since(at).min(self.past_ms) {
            0 => at.since(self.now),
            ago => PAST + ago,
        }
    }

    pub(crate) fn key(&self) -> u128 {
        u128::from(self.high.finish()) << 64 | u128::from(self.low.finish())
    }
}

fn position<T: PartialEq>(seen: &mut Vec<T>, value: T) -> u64 {
    let at = seen.iter().position(|other| *other == value);
    at.unwrap_or_else(|| {
        seen.push(value);
        seen.len() - 1
    }) as u64
}

impl Hasher for Digest {
    fn write_u64(&mut self, word: u64) {
        let word = match word {
            u64::MAX => word,
            FIRST_CONN.. => position(&mut self.conns, Conn(word)),
            _ if word >= START.0 => self.moment(Millis(word)),
            _ => word,
        };
        self.word(word);
    }

    fn write(&mut self, bytes: &[u8]) {
        if let [INSTANCE, n] = bytes {
            let n = position(&mut self.instances, *n);
            self.word(n);
        } else {
            self.low.write(bytes);
            self.high.write(bytes);
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.word(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.word(word.into());
    }

    fn write_u32(&mut self, _: u32) {}

    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.word(word as u64);
    }

    fn finish(&self) -> u64 {
        self.low.finish()
    }
}
