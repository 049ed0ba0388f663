//! A cursor that steps over JSON and says where things are.

use super::nesting::Nesting;
use super::{JsonError, JsonErrorKind};
use std::ops::Range;

/// A string, as it stands in the document.
#[derive(Clone, Debug)]
pub(crate) struct StringSpan {
    /// What is between the quotes.
    pub(crate) content: Range<usize>,
    /// Whether there is a backslash in it.
    pub(crate) has_escapes: bool,
}

/// A position in a document. After an error it is of no further use.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Scan<T> = Result<T, JsonError>;

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte, not taken.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Takes `byte`, if it is next after whitespace.
    pub(crate) fn take_if(&mut self, byte: u8) -> bool {
        self.whitespace();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes `byte`, which must be next after whitespace.
    pub(crate) fn expect(&mut self, byte: u8) -> Scan<()> {
        if self.take_if(byte) {
            Ok(())
        } else {
            self.fail_here()
        }
    }

    /// Nothing but whitespace may follow.
    pub(crate) fn end(&mut self) -> Scan<()> {
        self.whitespace();
        if self.at < self.bytes.len() {
            self.fail(JsonErrorKind::Trailing)
        } else {
            Ok(())
        }
    }

    /// Steps over whitespace.
    pub(crate) fn whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Steps over one value, and says where it is (without the whitespace before it).
    pub(crate) fn value(&mut self) -> Scan<Range<usize>> {
        self.value_within(&mut Nesting::new())
    }

    /// As [`Scanner::value`], for a member of one object whose braces the caller takes: that
    /// object counts as a level.
    pub(crate) fn member_value(&mut self) -> Scan<Range<usize>> {
        let mut nesting = Nesting::new();
        nesting.open(true);
        self.value_within(&mut nesting)
    }

    fn value_within(&mut self, nesting: &mut Nesting) -> Scan<Range<usize>> {
        self.whitespace();
        let start = self.at;
        let outer = nesting.depth();
        loop {
            let opened = self.scalar_or_open(nesting)?;
            if opened && self.first_member(nesting)? {
                continue;
            }
            // A value has ended. So may the containers around it.
            loop {
                if nesting.depth() == outer {
                    return Ok(start..self.at);
                }
                if self.next_member(nesting)? {
                    break;
                }
            }
        }
    }

    /// Takes a scalar (false) or an opening bracket (true).
    fn scalar_or_open(&mut self, nesting: &mut Nesting) -> Scan<bool> {
        self.whitespace();
        match self.peek() {
            Some(b'"') => self.string().map(|_| false),
            Some(open @ (b'{' | b'[')) => {
                if !nesting.open(open == b'{') {
                    return self.fail(JsonErrorKind::Depth);
                }
                self.at += 1;
                Ok(true)
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| false),
            Some(b't') => self.literal(b"true").map(|()| false),
            Some(b'f') => self.literal(b"false").map(|()| false),
            Some(b'n') => self.literal(b"null").map(|()| false),
            _ => self.fail_here(),
        }
    }

    /// After an opening bracket: goes to the first value inside (true), or closes (false).
    fn first_member(&mut self, nesting: &mut Nesting) -> Scan<bool> {
        let in_object = nesting.in_object();
        if self.take_if(if in_object { b'}' } else { b']' }) {
            nesting.close();
            return Ok(false);
        }
        if in_object {
            self.key()?;
        }
        Ok(true)
    }

    /// After a value inside a container: goes to the next value (true), or closes (false).
    fn next_member(&mut self, nesting: &mut Nesting) -> Scan<bool> {
        let in_object = nesting.in_object();
        self.whitespace();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                if in_object {
                    self.key()?;
                }
                Ok(true)
            }
            Some(b'}') if in_object => self.close(nesting),
            Some(b']') if !in_object => self.close(nesting),
            _ => self.fail_here(),
        }
    }

    fn close(&mut self, nesting: &mut Nesting) -> Scan<bool> {
        self.at += 1;
        nesting.close();
        Ok(false)
    }

    /// Takes a key and its colon.
    pub(crate) fn key(&mut self) -> Scan<StringSpan> {
        self.whitespace();
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// Takes a string, which must be next.
    pub(crate) fn string(&mut self) -> Scan<StringSpan> {
        if self.peek() != Some(b'"') {
            return self.fail_here();
        }
        self.at += 1;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            self.at += plain_prefix(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(_) => return self.fail(JsonErrorKind::Control),
                None => return self.fail(JsonErrorKind::End),
            }
        }
        self.at += 1;
        Ok(StringSpan {
            content: start..self.at - 1,
            has_escapes,
        })
    }

    fn escape(&mut self) -> Scan<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return self.fail_or_end(JsonErrorKind::Escape);
                    }
                }
                self.at += 1;
            }
            _ => return self.fail_or_end(JsonErrorKind::Escape),
        }
        Ok(())
    }

    fn number(&mut self) -> Scan<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Takes digits, at least one.
    fn digits(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            self.fail_here()
        } else {
            Ok(())
        }
    }

    fn literal(&mut self, word: &[u8]) -> Scan<()> {
        for byte in word {
            if self.peek() != Some(*byte) {
                return self.fail_here();
            }
            self.at += 1;
        }
        Ok(())
    }

    fn fail_here<T>(&self) -> Scan<T> {
        self.fail_or_end(JsonErrorKind::Byte)
    }

    fn fail_or_end<T>(&self, kind: JsonErrorKind) -> Scan<T> {
        self.fail(if self.at < self.bytes.len() {
            kind
        } else {
            JsonErrorKind::End
        })
    }

    #[cold]
    fn fail<T>(&self, kind: JsonErrorKind) -> Scan<T> {
        Err(JsonError {
            offset: self.at,
            kind,
        })
    }
}

/// How many bytes at the front of `bytes` are plain string content: no quote, no backslash, no
/// control character. Long strings (a frame is mostly one) go by in wide steps.
fn plain_prefix(bytes: &[u8]) -> usize {
    let (head, rest) = bytes.split_at(bytes.len().min(SHORT_BYTES));
    let at = plain_words(head);
    if at < head.len() || rest.is_empty() {
        return at;
    }
    let blocks = plain_blocks(rest);
    at + blocks + plain_words(&rest[blocks..])
}

/// Strings up to here aren't worth the wide steps.
const SHORT_BYTES: usize = 32;
/// One wide step: a multiple of what every vector unit takes at once.
const BLOCK_BYTES: usize = 64;

/// Length of the longest front of whole blocks without a special byte.
fn plain_blocks(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
    // No early exit within a block: that is what lets the compiler compare it in a few instructions.
    let is_plain = |block: &&[u8; BLOCK_BYTES]| {
        block
            .iter()
            .fold(0, |any, byte| any | u8::from(is_special(*byte)))
            == 0
    };
    blocks.iter().take_while(is_plain).count() * BLOCK_BYTES
}

/// Length of the longest front without a special byte.
fn plain_words(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let marks = special_bytes(u64::from_le_bytes(*word));
        if marks != 0 {
            return i * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let in_tail = tail
        .iter()
        .position(|b| is_special(*b))
        .unwrap_or(tail.len());
    words.len() * 8 + in_tail
}

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < b' ')
}

/// Marks (with the high bit) special bytes of a word. The lowest mark is always right; above it
/// there may be false ones, from borrows.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    let zero_in = |w: u64| w.wrapping_sub(ONES) & !w;
    let quote = zero_in(word ^ ONES * b'"' as u64);
    let backslash = zero_in(word ^ ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * b' ' as u64) & !word;
    (quote | backslash | control) & HIGH
}
